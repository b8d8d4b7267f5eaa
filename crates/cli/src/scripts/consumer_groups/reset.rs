//! `kafka-consumer-groups --reset-offsets`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ottla_client::{Admin, ClientError, CommittedOffset, OffsetQuery};
use ottla_env::Env;
use ottla_protocol::{ErrorCode, Offset, Timestamp, TopicPartition};

use super::{say_error, say_failed, wanted};
use crate::commands::time::parse_span;
use crate::scripts::options::Options;
use crate::scripts::{Outcome, Stop, java, joined, padded, say, warn};

/// Ways to say where to.
const SCENARIOS: [&str; 8] = [
    "to-offset",
    "to-datetime",
    "by-duration",
    "to-earliest",
    "to-latest",
    "to-current",
    "shift-by",
    "from-file",
];

/// New offsets of a group.
type Plan = BTreeMap<TopicPartition, i64>;

/// Why a group's offsets are not reset.
enum Refusal {
    /// The arguments are wrong: Kafka's script ends with 1.
    Stop(Stop),
    /// The cluster did not do it: Kafka's script ends with 0.
    Failed(String),
}

impl From<Stop> for Refusal {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        Self::Failed(format!(
            "java.util.concurrent.ExecutionException: {}",
            java::exception(&error)
        ))
    }
}

pub(super) fn check(options: &Options) -> Outcome {
    if options.has("dry-run") && options.has("execute") {
        return Err(
            options.usage("Option [reset-offsets] only accepts one of [execute] and [dry-run]")
        );
    }
    if !options.has("dry-run") && !options.has("execute") {
        warn("WARN: nothing is done without --execute; add --dry-run to say that this is meant");
    }
    SCENARIOS.iter().try_for_each(|scenario| options.exclude(scenario, &SCENARIOS))
}

/// Kafka's script reads these whatever it is to do.
pub(super) fn check_numbers(options: &Options) -> Outcome {
    for name in ["to-offset", "shift-by", "timeout"] {
        options.number::<i64>(name)?;
    }
    Ok(())
}

pub(super) async fn reset(env: &Env, admin: &Admin, options: &Options) -> Outcome {
    let ids = match wanted(admin, options).await {
        Ok(ids) => ids,
        Err(error) => return say_failed(&error),
    };
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut groups: Vec<_> = match admin.describe_groups(&ids).await {
        Ok(answers) => answers.into_iter().collect(),
        Err(error) => return say_failed(&error),
    };
    java::order_by_hash(&mut groups, java::CAPACITY, |(id, _)| java::hash_of(id));
    let mut plans = Vec::new();
    for (id, group) in groups {
        let plan = match group.map(|group| group.state) {
            Ok(state) if !matches!(state.as_str(), "Empty" | "Dead") => {
                say_error(format!(
                    "Assignments can only be reset if the group '{id}' is inactive, but the current state is {state}."
                ))?;
                Ok(Plan::new())
            }
            Err(error) if error.code() != Some(ErrorCode::GroupIdNotFound) => Err(error.into()),
            Ok(_) | Err(_) => reset_group(env, admin, options, &id).await,
        };
        match plan {
            Ok(plan) => plans.push((id, plan)),
            Err(Refusal::Stop(stop)) => return Err(stop),
            Err(Refusal::Failed(why)) => {
                return say_error(format!("Executing consumer group command failed due to {why}"));
            }
        }
    }
    if options.has("export") { export(options, &plans) } else { say_plans(&plans) }
}

async fn reset_group(
    env: &Env,
    admin: &Admin,
    options: &Options,
    id: &str,
) -> Result<Plan, Refusal> {
    let partitions = partitions(admin, options, id).await?;
    must_exist(admin, &partitions).await?;
    let plan = plan(env, admin, options, (id, &partitions)).await?;
    if options.has("execute") && !options.has("dry-run") {
        let commits = plan
            .iter()
            .map(|(partition, offset)| (partition.clone(), CommittedOffset::at(Offset(*offset))));
        for answer in admin.alter_group_offsets(id, &commits.collect()).await?.into_values() {
            answer.map_err(|error| Refusal::Failed(java::message(&error)))?;
        }
    }
    Ok(plan)
}

/// The partitions that are meant.
async fn partitions(
    admin: &Admin,
    options: &Options,
    id: &str,
) -> Result<BTreeSet<TopicPartition>, Refusal> {
    if options.has("all-topics") {
        return Ok(committed(admin, id).await?.into_keys().collect());
    }
    if !options.has("topic") {
        if options.has("from-file") {
            return Ok(BTreeSet::new());
        }
        let message = "One of the reset scopes should be defined: --all-topics, --topic.";
        return Err(options.usage(message).into());
    }
    let (mut partitions, topics) = named(options)?;
    for (topic, described) in admin.describe_topics(&topics).await? {
        let described = described.map_err(|error| Refusal::Failed(java::message(&error)))?;
        let numbers = described.partitions.into_keys();
        partitions.extend(numbers.map(|number| TopicPartition::new(topic.as_str(), number)));
    }
    Ok(partitions)
}

/// The partitions that `--topic` names, as in `orders:0,1`, and the topics that it names as a whole.
pub(super) fn named(options: &Options) -> Outcome<(BTreeSet<TopicPartition>, Vec<&str>)> {
    let (named, topics): (Vec<&str>, Vec<&str>) =
        options.values("topic").into_iter().partition(|topic| topic.contains(':'));
    let mut partitions = BTreeSet::new();
    for text in named {
        let parts: Vec<&str> = text.split(':').collect();
        let [topic, numbers] = parts[..] else {
            return Err(options
                .usage(format!("Invalid topic arg '{text}', expected topic name and partitions")));
        };
        for number in numbers.split(',') {
            let number = number.parse().map_err(|_no_number| {
                options
                    .usage(format!("Invalid partition '{number}' specified in topic arg '{text}''"))
            })?;
            partitions.insert(TopicPartition::new(topic, number));
        }
    }
    Ok((partitions, topics))
}

async fn must_exist(admin: &Admin, partitions: &BTreeSet<TopicPartition>) -> Result<(), Refusal> {
    let topics: BTreeSet<&str> = partitions.iter().map(|it| &*it.topic).collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    let mut there = BTreeSet::new();
    for (topic, described) in admin.describe_topics(&topics).await? {
        let numbers = described?.partitions.into_keys();
        there.extend(numbers.map(|number| TopicPartition::new(topic.as_str(), number)));
    }
    let missing = joined(partitions.difference(&there));
    if missing.is_empty() {
        return Ok(());
    }
    Err(Refusal::Failed(format!("The partitions \"{missing}\" do not exist")))
}

async fn plan(
    env: &Env,
    admin: &Admin,
    options: &Options,
    (id, partitions): (&str, &BTreeSet<TopicPartition>),
) -> Result<Plan, Refusal> {
    let all = |offset: i64| partitions.iter().map(|it| (it.clone(), offset)).collect();
    if let Some(offset) = options.number("to-offset")? {
        within_logs(admin, all(offset)).await
    } else if options.has("to-earliest") {
        Ok(offsets(admin, partitions, OffsetQuery::Earliest).await?)
    } else if options.has("to-latest") {
        Ok(offsets(admin, partitions, OffsetQuery::Latest).await?)
    } else if let Some(shift) = options.number::<i64>("shift-by")? {
        let now = committed(admin, id).await?;
        let mut shifted = Plan::new();
        for it in partitions {
            let Some(offset) = now.get(it) else {
                return Err(options
                    .usage(format!(
                        "Cannot shift offset for partition {it} since there is no current committed offset"
                    ))
                    .into());
            };
            shifted.insert(it.clone(), offset.saturating_add(shift));
        }
        within_logs(admin, shifted).await
    } else if let Some(text) = options.value("to-datetime")? {
        at_time(admin, partitions, time(text)?).await
    } else if let Some(text) = options.value("by-duration")? {
        let span = parse_span(text).map_err(|_no_span| {
            Refusal::Failed("Text cannot be parsed to a Duration".to_owned())
        })?;
        at_time(admin, partitions, env.clock.wall().0 - span).await
    } else if let Some(file) = options.value("from-file")? {
        within_logs(admin, from_file(env, options, id, file)?).await
    } else if options.has("to-current") {
        let now = committed(admin, id).await?;
        let (known, unknown): (BTreeSet<_>, BTreeSet<_>) =
            partitions.iter().cloned().partition(|it| now.contains_key(it));
        let mut plan = offsets(admin, &unknown, OffsetQuery::Latest).await?;
        plan.extend(known.into_iter().filter_map(|it| Some((it.clone(), *now.get(&it)?))));
        Ok(plan)
    } else {
        let scenarios: Vec<String> = SCENARIOS.iter().map(|it| format!("[{it}]")).collect();
        let scenarios = scenarios.join(", ");
        Err(options
            .usage(format!(
                "Option '[reset-offsets]' requires one of the following scenarios: [{scenarios}]"
            ))
            .into())
    }
}

async fn committed(admin: &Admin, id: &str) -> Result<Plan, ClientError> {
    let answers = admin.list_group_offsets(id, None, false).await?.into_iter();
    answers.map(|(partition, commit)| Ok((partition, commit?.offset.0))).collect()
}

async fn offsets(
    admin: &Admin,
    partitions: &BTreeSet<TopicPartition>,
    query: OffsetQuery,
) -> Result<Plan, ClientError> {
    let queries = partitions.iter().map(|it| (it.clone(), query)).collect();
    let answers = admin.list_offsets(&queries, false).await?.into_iter();
    answers.map(|(partition, found)| Ok((partition, found?.offset.0))).collect()
}

/// Moves what lies outside a log to its nearer end.
async fn within_logs(admin: &Admin, plan: Plan) -> Result<Plan, Refusal> {
    let partitions = plan.keys().cloned().collect();
    let starts = offsets(admin, &partitions, OffsetQuery::Earliest).await?;
    let ends = offsets(admin, &partitions, OffsetQuery::Latest).await?;
    let moved = plan.into_iter().map(|(it, offset)| {
        let start = starts.get(&it).copied().unwrap_or(offset);
        let end = ends.get(&it).copied().unwrap_or(offset);
        let nearest = if offset > end { end } else { offset.max(start) };
        if nearest != offset {
            warn(format!("offset {offset} of {it} lies outside its log; it is set to {nearest}"));
        }
        (it, nearest)
    });
    Ok(moved.collect())
}

/// The first records of that time or a later one; the end where there is none.
async fn at_time(
    admin: &Admin,
    partitions: &BTreeSet<TopicPartition>,
    time: i64,
) -> Result<Plan, Refusal> {
    let found = offsets(admin, partitions, OffsetQuery::At(Timestamp(time))).await?;
    let (mut found, missing): (Plan, Plan) =
        found.into_iter().partition(|(_, offset)| *offset >= 0);
    let mut missing: Vec<TopicPartition> = missing.into_keys().collect();
    java::order_by_hash(&mut missing, java::CAPACITY, java::hash_of_partition);
    for it in &missing {
        say(format!(
            "\nWarn: Partition {} from topic {} is empty. Falling back to latest known offset.",
            it.partition, it.topic
        ))?;
    }
    let missing = missing.into_iter().collect();
    found.extend(offsets(admin, &missing, OffsetQuery::Latest).await?);
    Ok(found)
}

/// `2026-11-20T19:20:00.000`, in UTC unless it says otherwise.
fn time(text: &str) -> Result<i64, Refusal> {
    let wrong = || {
        let why = if text.contains('T') {
            format!("Unparseable date: \"{text}\"")
        } else {
            "Error parsing timestamp. It does not contain a 'T' according to ISO8601 format"
                .to_owned()
        };
        Refusal::Failed(format!("java.text.ParseException: {why}"))
    };
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let time: DateTime = text.parse().map_err(|_no_time| wrong())?;
    let time = time.to_zoned(TimeZone::UTC).map_err(|_no_time| wrong())?;
    Ok(time.timestamp().as_millisecond())
}

/// Lines of `TOPIC,PARTITION,OFFSET`, or for several groups of `GROUP,TOPIC,PARTITION,OFFSET`.
fn from_file(env: &Env, options: &Options, id: &str, file: &str) -> Result<Plan, Refusal> {
    let unread =
        |_error| Refusal::Failed(format!("java.io.IOException: Unable to read file {file}"));
    let bytes = env.disk.read(Path::new(file)).map_err(unread)?;
    let text = String::from_utf8_lossy(&bytes);
    let is_for_one = options.values("group").len() == 1;
    let mut plan = Plan::new();
    let mut is_there = false;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let wrong = |what: &str| Refusal::Failed(format!("line {line:?} {what}"));
        let cells: Vec<&str> = line.split(',').map(|it| it.trim().trim_matches('"')).collect();
        let (group, cells) = match cells.split_first() {
            Some((group, rest)) if rest.len() == 3 => (*group, rest),
            _ if is_for_one => (id, &cells[..]),
            _ => return Err(wrong("names no group")),
        };
        let [topic, partition, offset] = cells else {
            return Err(wrong("is not TOPIC,PARTITION,OFFSET"));
        };
        let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) else {
            return Err(wrong("is not TOPIC,PARTITION,OFFSET"));
        };
        if group == id {
            is_there = true;
            plan.insert(TopicPartition::new(*topic, partition), offset);
        }
    }
    if !is_there {
        say_error(format!("No reset plan for group {id} found"))?;
    }
    Ok(plan)
}

/// A plan in the order in which Kafka's script goes through it.
fn ordered(plan: &Plan) -> Vec<(&TopicPartition, &i64)> {
    let mut rows: Vec<(&TopicPartition, &i64)> = plan.iter().collect();
    java::order_by_hash(&mut rows, java::CAPACITY, |(it, _)| java::hash_of_partition(it));
    rows
}

fn say_plans(plans: &[(String, Plan)]) -> Outcome {
    if plans.is_empty() {
        return say("");
    }
    let topics = plans.iter().flat_map(|(_, plan)| plan.keys().map(|it| &*it.topic));
    let widths = [
        padded::width(15, plans.iter().map(|(id, _)| id.as_str())),
        padded::width(15, topics),
        10,
        0,
    ];
    let titles = ["GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"];
    let mut text = format!("\n{}", padded::row(&widths, &titles));
    for (id, plan) in plans {
        for (it, offset) in ordered(plan) {
            let (partition, offset) = (it.partition.to_string(), offset.to_string());
            let cells = [id.as_str(), &it.topic, &partition, &offset];
            text.push_str(&format!("\n{}", padded::row(&widths, &cells)));
        }
    }
    say(text)
}

fn export(options: &Options, plans: &[(String, Plan)]) -> Outcome {
    let is_for_one = options.values("group").len() == 1;
    let mut text = String::new();
    for (id, plan) in plans {
        for (it, offset) in ordered(plan) {
            if !is_for_one {
                text.push_str(&format!("{},", quoted(id)));
            }
            text.push_str(&format!("{},{},{offset}\n", quoted(&it.topic), it.partition));
        }
    }
    say(text)
}

/// As the writer of Kafka's script quotes: what needs it, and all that is long.
fn quoted(text: &str) -> String {
    const LONG: usize = 24;
    if text.chars().count() > LONG || text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_unless_they_say_otherwise() {
        let millis = |text: &str| time(text).ok();
        assert_eq!(millis("2026-11-20T19:20:00.000"), Some(1_795_202_400_000));
        assert_eq!(millis("2026-11-20T20:20:00.000+01:00"), Some(1_795_202_400_000));
        assert_eq!(millis("yesterday"), None);
    }

    #[test]
    fn long_names_and_those_with_commas_are_quoted() {
        assert_eq!(quoted("orders"), "orders");
        assert_eq!(quoted("a,\"b"), "\"a,\"\"b\"");
        assert_eq!(quoted(&"x".repeat(25)), format!("\"{}\"", "x".repeat(25)));
    }
}
