//! `kafka-leader-election`.

use std::collections::BTreeSet;
use std::path::Path;

use ottla_client::ElectionType;
use ottla_protocol::{ErrorCode, TopicPartition};
use serde_json::Value;

use super::options::{COMMAND_CONFIG, Grammar, Options, REQUIRED_SERVERS, flag, value};
use super::{Outcome, Stop, java, json_file, say, target};

static GRAMMAR: Grammar = Grammar {
    about: "This tool attempts to elect a new leader for a set of topic partitions. The type of elections supported are preferred replicas and unclean replicas.",
    known: &[
        REQUIRED_SERVERS,
        value(&["admin.config"], "file", "Deprecated: --command-config."),
        COMMAND_CONFIG,
        value(
            &["path-to-json-file"],
            "file",
            "The partitions, as {\"partitions\": [{\"topic\": \"foo\", \"partition\": 1}]}.",
        ),
        value(&["topic"], "topic", "The topic of one partition."),
        value(&["partition"], "partition", "The partition of --topic."),
        flag(&["all-topic-partitions"], "All partitions that need it."),
        value(&["election-type"], "type", "REQUIRED: preferred or unclean."),
    ],
};

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments)?;
    options.help_or_version()?;
    check(&options)?;
    let (election, title) = election(&options)?;
    target::block_on(async |env| {
        let partitions = match options.value("path-to-json-file")? {
            Some(file) => Some(partitions(&env.disk.read(Path::new(file))?)?),
            None => match (options.value("topic")?, options.number("partition")?) {
                (Some(topic), Some(partition)) => Some(vec![TopicPartition::new(topic, partition)]),
                _ => None,
            },
        };
        if options.has("admin.config") {
            say(
                "Option --admin.config has been deprecated and will be removed in a future version. Use --command-config instead.",
            )?;
        }
        let admin = target::connect(&env, &options).await?;
        let answers = admin.elect_leaders(election, partitions.as_deref()).await?;
        let mut answers: Vec<_> = answers.into_iter().collect();
        java::order_by_hash(&mut answers, java::CAPACITY, |(it, _)| java::hash_of_partition(it));
        let (mut elected, mut unneeded, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (it, answer) in answers {
            let name = it.to_string();
            match answer {
                Ok(()) => elected.push(name),
                Err(error) if error.code() == Some(ErrorCode::ElectionNotNeeded) => {
                    unneeded.push(name);
                }
                Err(error) => failed.push(format!("{name}: {}", java::exception(&error))),
            }
        }
        if !elected.is_empty() {
            let names = elected.join(", ");
            say(format!(
                "Successfully completed leader election ({title}) for partitions {names}"
            ))?;
        }
        if !unneeded.is_empty() {
            say(format!("Valid replica already elected for partitions {}", unneeded.join(", ")))?;
        }
        for failure in &failed {
            say(format!("Error completing leader election ({title}) for partition: {failure}"))?;
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(Stop::failed(format!("{} replica(s) could not be elected", failed.len())))
    })
}

fn check(options: &Options) -> Outcome {
    let missing: Vec<&str> =
        ["bootstrap-server", "election-type"].into_iter().filter(|it| !options.has(it)).collect();
    if !missing.is_empty() {
        return Err(Stop::failed(format!("Missing required option(s): {}", missing.join(", "))));
    }
    options.exclude("admin.config", &["command-config"])?;
    let which = ["topic", "all-topic-partitions", "path-to-json-file"];
    if options.count(&which) != 1 {
        return Err(Stop::failed(format!(
            "One and only one of the following options is required: {}",
            which.join(", ")
        )));
    }
    match (options.has("topic"), options.has("partition")) {
        (true, false) => Err(Stop::failed("Missing required option(s): partition")),
        (false, true) => Err(Stop::failed("Option partition is only allowed if topic is used")),
        (true, true) | (false, false) => Ok(()),
    }
}

fn election(options: &Options) -> Outcome<(ElectionType, &'static str)> {
    let text = options.value("election-type")?.unwrap_or_default();
    match text.to_lowercase().as_str() {
        "preferred" => Ok((ElectionType::Preferred, "PREFERRED")),
        "unclean" => Ok((ElectionType::Unclean, "UNCLEAN")),
        _ => Err(Stop::failed(format!("Value [{text}] is not one of [PREFERRED|UNCLEAN]"))),
    }
}

fn partitions(text: &[u8]) -> Outcome<Vec<TopicPartition>> {
    let json: Value = serde_json::from_slice(text)
        .map_err(|_no_json| Stop::failed("Replica election data is empty"))?;
    let rows = json
        .get("partitions")
        .and_then(Value::as_array)
        .ok_or_else(|| Stop::failed("Replica election data is missing \"partitions\" field"))?;
    let mut partitions = BTreeSet::new();
    for row in rows {
        let Some(partition) = json_file::partition_of(row) else {
            return Err(Stop::failed(format!("{row} needs the fields topic and partition")));
        };
        if !partitions.insert(partition.clone()) {
            return Err(Stop::failed(format!(
                "Replica election data contains duplicate partitions: [{partition}]"
            )));
        }
    }
    Ok(partitions.into_iter().collect())
}
