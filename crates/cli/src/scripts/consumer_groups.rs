//! `kafka-consumer-groups`.

mod description;
mod reset;

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_client::{Admin, Answers, ClientError, GroupListing};
use ottla_protocol::{ErrorCode, TopicPartition};

use super::options::{COMMAND_CONFIG, Grammar, Options, flag, perhaps, value};
use super::{Outcome, Stop, java, padded, say, target};

static GRAMMAR: Grammar = Grammar {
    about: "This tool helps to list all consumer groups, describe a consumer group, delete consumer group info, or reset consumer group offsets.",
    known: &[
        value(
            &["bootstrap-server"],
            "server",
            "REQUIRED (but with --validate-regex): a node, HOST:PORT.",
        ),
        COMMAND_CONFIG,
        value(
            &["timeout"],
            "ms",
            "How long to wait for a group that is forming. 30000 by default.",
        ),
        value(&["group"], "group", "The group; may be given many times."),
        flag(&["all-groups"], "Every group, for --describe, --delete and --reset-offsets."),
        value(&["topic"], "topic", "A topic, or TOPIC:0,1,2; may be given many times."),
        flag(&["all-topics"], "Every topic that the group has committed offsets of."),
        flag(&["list"], "List groups."),
        flag(&["describe"], "Show what groups have read, and how much is left."),
        flag(&["delete"], "Delete groups with all they have committed."),
        flag(&["delete-offsets"], "Delete what a group has committed for topics."),
        flag(&["reset-offsets"], "Set the offsets of groups without members."),
        flag(&["dry-run"], "With --reset-offsets: only show what would be done."),
        flag(&["execute"], "With --reset-offsets: do it."),
        flag(&["export"], "With --reset-offsets: print lines of comma-separated values."),
        value(&["to-offset"], "offset", "Reset to this offset."),
        value(&["from-file"], "file", "Reset to what lines of TOPIC,PARTITION,OFFSET say."),
        value(&["to-datetime"], "time", "Reset to a time, YYYY-MM-DDThh:mm:ss.sss."),
        value(&["by-duration"], "duration", "Reset to a span before now, PnDTnHnMnS."),
        flag(&["to-earliest"], "Reset to the first record."),
        flag(&["to-latest"], "Reset to the end."),
        flag(&["to-current"], "Reset to what is committed now."),
        value(&["shift-by"], "number", "Move by this many offsets, forwards or backwards."),
        flag(&["members"], "With --describe: members and what they are to read."),
        flag(&["offsets"], "With --describe: offsets and lag; this is the default."),
        perhaps(
            &["state"],
            "states",
            "With --describe or --list: states; with --list only groups in these.",
        ),
        perhaps(&["type"], "types", "With --list: types; only groups of these."),
        flag(&["verbose"], "With --describe: more of it."),
        value(&["validate-regex"], "regex", "Say whether a regular expression is one."),
    ],
};

const ACTIONS: [&str; 6] =
    ["list", "describe", "delete", "reset-offsets", "delete-offsets", "validate-regex"];

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments)?;
    check(&options)?;
    if options.count(&ACTIONS) != 1 {
        let actions: Vec<String> = ACTIONS.iter().map(|action| format!("--{action}")).collect();
        let actions = actions.join(", ");
        return Err(options.usage(format!("Command must include exactly one action: {actions}")));
    }
    if let Some(regex) = options.value("validate-regex")? {
        return match regex::Regex::new(regex) {
            Ok(_) => say(format!("The regular expression `{regex}` is valid.")),
            Err(error) => say(format!("The regular expression `{regex}` is invalid: {error}.")),
        };
    }
    if let Err(stop) = reset::check_numbers(&options) {
        return say_error(format!("Executing consumer group command failed due to {}", stop.said));
    }
    let timeout = options.number("timeout")?.unwrap_or(30_000);
    target::block_on(async |env| {
        let admin = target::connect(&env, &options).await?;
        let admin = Admin::new(admin.client().clone(), Duration::from_millis(timeout));
        if options.has("list") {
            list(&admin, &options).await
        } else if options.has("describe") {
            description::describe(&admin, &options).await
        } else if options.has("delete") {
            delete(&admin, &options).await
        } else if options.has("delete-offsets") {
            delete_offsets(&admin, &options).await
        } else {
            reset::reset(&env, &admin, &options).await
        }
    })
}

fn check(options: &Options) -> Outcome {
    let unavailable = ["members", "verbose", "offsets", "state", "type"].into_iter().find(|it| {
        let is_available = match *it {
            "type" => options.has("list"),
            "state" => options.has("list") || options.has("describe"),
            _ => options.has("describe"),
        };
        options.has(it) && !is_available
    });
    if let Some(name) = unavailable.filter(|_| !options.has("help") && !options.has("version")) {
        return Err(Stop::failed(format!(
            "Option(s) [{name}] are unavailable given other options on the command line"
        )));
    }
    options.help_or_version()?;
    if !options.has("validate-regex") {
        options.require(&["bootstrap-server"])?;
    }
    let has_scope = options.has("group") || options.has("all-groups");
    for action in ["describe", "delete", "reset-offsets"] {
        if options.has(action) && !has_scope {
            return Err(options.usage(format!(
                "Option [{action}] takes one of these options: [group], [all-groups]"
            )));
        }
    }
    if options.has("describe") {
        if options.count(&["members", "offsets", "state"]) > 1 {
            return Err(options.usage(
                "Option [describe] takes at most one of these options: [members], [offsets], [state]",
            ));
        }
        if !options.values("state").is_empty() {
            return Err(options.usage("Option [describe] does not take a value for [state]"));
        }
    }
    if options.has("delete") && options.has("topic") {
        return Err(options.usage(
            "The consumer does not support topic-specific offset deletion from a consumer group.",
        ));
    }
    if options.has("delete-offsets") && !(options.has("group") && options.has("topic")) {
        return Err(
            options.usage("Option [delete-offsets] takes the following options: [group], [topic]")
        );
    }
    if options.has("reset-offsets") {
        reset::check(options)?;
    }
    options.exclude("group", &["all-groups"])?;
    options.exclude("group", &["list"])?;
    options.exclude("topic", &["list", "describe"])
}

/// An error that Kafka's script ends well with.
fn say_error(message: impl AsRef<str>) -> Outcome {
    say(format!("\nError: {}", message.as_ref()))
}

/// The failure of all that was asked for.
fn say_failed(error: &ClientError) -> Outcome {
    say_error(format!("Executing consumer group command failed due to {}", java::exception(error)))
}

/// Groups of consumers, in the order in which Kafka's script has them.
async fn groups(
    admin: &Admin,
    states: &[&str],
    kinds: &[&str],
) -> Result<Vec<(String, GroupListing)>, ClientError> {
    let groups = admin.list_groups(states, kinds).await?.into_iter();
    let mut groups: Vec<(String, GroupListing)> = groups
        .filter(|(_, group)| matches!(group.protocol_type.as_str(), "" | "consumer"))
        .collect();
    java::order_by_hash(&mut groups, java::CAPACITY, |(id, _)| java::hash_of(id));
    Ok(groups)
}

/// The ids that are given, or all.
async fn wanted(admin: &Admin, options: &Options) -> Result<Vec<String>, ClientError> {
    if !options.has("all-groups") {
        return Ok(options.values("group").into_iter().map(ToOwned::to_owned).collect());
    }
    let groups = groups(admin, &[], &["Classic", "Consumer"]).await?;
    Ok(groups.into_iter().map(|(id, _)| id).collect())
}

async fn list(admin: &Admin, options: &Options) -> Outcome {
    let (with_state, with_type) = (options.has("state"), options.has("type"));
    if !with_state && !with_type {
        return match groups(admin, &[], &["Classic", "Consumer"]).await {
            Ok(groups) => groups.iter().try_for_each(|(id, _)| say(id)),
            Err(error) => say_failed(&error),
        };
    }
    let states = named(options, "state", &STATES)?;
    let kinds = named(options, "type", &["Classic", "Consumer"])?;
    let groups = match groups(admin, &states, &kinds).await {
        Ok(groups) => groups,
        Err(error) => return say_failed(&error),
    };
    let width = padded::width(15, groups.iter().map(|(id, _)| id.as_str())) + 10;
    let mut rows = vec![("GROUP", "TYPE", "STATE")];
    rows.extend(groups.iter().map(|(id, it)| (id.as_str(), kind(&it.kind), it.state.as_str())));
    for (id, kind, state) in rows {
        let mut cells = vec![id];
        cells.extend(with_type.then_some(kind));
        cells.extend(with_state.then_some(state));
        say(padded::row(&[width, 20, 20], &cells))?;
    }
    Ok(())
}

/// The type of a group as Kafka's script writes it; brokers may write it small.
fn kind(text: &str) -> &str {
    let known = ["Classic", "Consumer"];
    known.into_iter().find(|it| it.eq_ignore_ascii_case(text)).unwrap_or(text)
}

const STATES: [&str; 7] = [
    "PreparingRebalance",
    "CompletingRebalance",
    "Stable",
    "Dead",
    "Empty",
    "Assigning",
    "Reconciling",
];

/// Names in whatever case, each of which has to be known.
fn named(options: &Options, option: &str, known: &[&'static str]) -> Outcome<Vec<&'static str>> {
    let text = options.value(option)?.unwrap_or_default();
    let mut found = Vec::new();
    for name in text.split(',').map(str::trim).filter(|_| !text.is_empty()) {
        let Some(known) = known.iter().find(|it| it.eq_ignore_ascii_case(name)) else {
            let valid = known.join(", ");
            return Err(options
                .usage(format!("Invalid {option}s list '{text}'. Valid {option}s are: {valid}")));
        };
        found.push(*known);
    }
    Ok(found)
}

async fn delete(admin: &Admin, options: &Options) -> Outcome {
    let answers = async {
        let ids = wanted(admin, options).await?;
        admin.delete_groups(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let mut answers: Vec<(String, Result<(), ClientError>)> = match answers.await {
        Ok(answers) => answers.into_iter().collect(),
        Err(error) => return say_failed(&error),
    };
    java::order_by_hash(&mut answers, java::CAPACITY, |(id, _)| java::hash_of(id));
    let deleted = answers.iter().filter(|(_, answer)| answer.is_ok());
    let deleted: Vec<String> = deleted.map(|(id, _)| format!("'{id}'")).collect();
    let deleted = deleted.join(", ");
    if answers.iter().all(|(_, answer)| answer.is_ok()) {
        return say(format!("Deletion of requested consumer groups ({deleted}) was successful."));
    }
    say_error("Deletion of some consumer groups failed:")?;
    for (id, answer) in &answers {
        if let Err(error) = answer {
            // Up to Kafka 4.3 brokers said no more than the code.
            let why = match error.code() {
                Some(code) => java::exception(&ClientError::refused(code)),
                None => java::exception(error),
            };
            say(format!("* Group '{id}' could not be deleted due to: {why}"))?;
        }
    }
    if deleted.is_empty() {
        return Ok(());
    }
    say(format!("\nThese consumer groups were deleted successfully: {deleted}"))
}

async fn delete_offsets(admin: &Admin, options: &Options) -> Outcome {
    let group = options.value("group")?.unwrap_or_default();
    let mut rows: BTreeMap<TopicPartition, Option<ClientError>> = BTreeMap::new();
    let (mut partitions, topics) = reset::named(options)?;
    for (topic, described) in admin.describe_topics(&topics).await? {
        match described {
            Ok(it) => partitions.extend(
                it.partitions.into_keys().map(|it| TopicPartition::new(topic.as_str(), it)),
            ),
            Err(error) => {
                rows.insert(TopicPartition::new(topic.as_str(), -1), Some(error));
            }
        }
    }
    let partitions: Vec<TopicPartition> = partitions.into_iter().collect();
    let answers: Answers<TopicPartition> =
        match admin.delete_group_offsets(group, &partitions).await {
            Ok(answers) => answers,
            Err(error) => target::all_failed(partitions, &error),
        };
    let failure = answers.values().find_map(|answer| answer.as_ref().err());
    say_what_became_of_all(group, failure)?;
    rows.extend(answers.into_iter().map(|(partition, answer)| (partition, answer.err())));
    let width = padded::width(15, rows.keys().map(|it| &*it.topic));
    let line = |topic: &str, partition: &str, status: &str| {
        padded::row(&[width, 10, 15], &[topic, partition, status])
    };
    let mut text = format!("\n{}", line("TOPIC", "PARTITION", "STATUS"));
    let mut rows: Vec<(TopicPartition, Option<ClientError>)> = rows.into_iter().collect();
    rows.sort_by_key(|(it, _)| format!("{}{}", it.topic, it.partition));
    for (it, error) in rows {
        let number = if it.partition < 0 { "-".to_owned() } else { it.partition.to_string() };
        let status = error
            .map_or("Successful".to_owned(), |error| format!("Error: {}", java::exception(&error)));
        text.push_str(&format!("\n{}", line(&it.topic, &number, &status)));
    }
    say(text)
}

#[allow(clippy::wildcard_enum_match_arm, reason = "Kafka's script knows these, and no others")]
fn say_what_became_of_all(group: &str, failure: Option<&ClientError>) -> Outcome {
    let Some(failure) = failure else {
        return say(format!("Request succeeded for deleting offsets from group {group}."));
    };
    match failure.code().unwrap_or(ErrorCode::UnknownServerError) {
        code @ (ErrorCode::InvalidGroupId
        | ErrorCode::GroupIdNotFound
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::NonEmptyGroup) => say_error(java::words(code)),
        ErrorCode::GroupSubscribedToTopic
        | ErrorCode::TopicAuthorizationFailed
        | ErrorCode::UnknownTopicOrPartition => {
            say_error("Encountered some partition-level error, see the follow-up details.")
        }
        code => say_error(format!("Encountered some unknown error: {code}")),
    }
}
