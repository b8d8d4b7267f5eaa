//! `kafka-log-dirs`.

use std::collections::{BTreeMap, BTreeSet};

use ottla_client::{ClientError, LogDirDescription};
use ottla_protocol::{BrokerId, TopicPartition};
use serde_json::json;

use super::options::{COMMAND_CONFIG, Grammar, Options, REQUIRED_SERVERS, flag, value};
use super::{Outcome, Stop, java, joined, say, target};

static GRAMMAR: Grammar = Grammar {
    about: "This tool helps to query log directory usage on the specified brokers.",
    known: &[
        REQUIRED_SERVERS,
        COMMAND_CONFIG,
        flag(&["describe"], "REQUIRED: show the log directories."),
        value(&["topic-list"], "topics", "Topics, separated by commas; else all."),
        value(&["broker-list"], "brokers", "Ids of brokers, separated by commas; else all."),
    ],
};

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments)?;
    options.help_or_version()?;
    options.require(&["bootstrap-server", "describe"])?;
    let topics: BTreeSet<&str> = items(&options, "topic-list")?.into_iter().collect();
    let mut wanted = BTreeSet::new();
    for text in items(&options, "broker-list")? {
        let id: i32 =
            text.parse().map_err(|_no_id| Stop::failed(format!("For input string: \"{text}\"")))?;
        wanted.insert(id);
    }
    target::block_on(async |env| {
        let admin = target::connect(&env, &options).await?;
        let brokers = admin.describe_cluster(false).await?.brokers;
        let alive: BTreeSet<i32> = brokers.iter().map(|broker| broker.id.0).collect();
        let missing: BTreeSet<i32> = wanted.difference(&alive).copied().collect();
        if !missing.is_empty() {
            return Err(Stop::failed(format!(
                "ERROR: The given brokers do not exist from --broker-list: {}. Current existent brokers: {}",
                joined(&missing),
                joined(&alive)
            )));
        }
        let brokers = if wanted.is_empty() { alive } else { wanted };
        say("Querying brokers for log directories information")?;
        let mut rows = Vec::new();
        for id in &brokers {
            let dirs = admin.describe_log_dirs(BrokerId(*id), None).await?;
            let mut dirs: Vec<_> = dirs.into_iter().collect();
            java::order_by_hash(&mut dirs, java::CAPACITY, |(path, _)| java::hash_of(path));
            let dirs: Vec<String> =
                dirs.iter().map(|(path, dir)| dir_as_json(path, dir, &topics)).collect();
            rows.push(java::object(vec![
                ("broker", id.to_string()),
                ("logDirs", format!("[{}]", dirs.join(","))),
            ]));
        }
        say(format!("Received log directory information from brokers {}", joined(&brokers)))?;
        say(java::object(vec![
            ("version", "1".to_owned()),
            ("brokers", format!("[{}]", rows.join(","))),
        ]))
    })
}

fn items<'a>(options: &'a Options, name: &str) -> Outcome<Vec<&'a str>> {
    let text = options.value(name)?.unwrap_or_default();
    Ok(text.split(',').filter(|item| !item.is_empty()).collect())
}

fn dir_as_json(
    path: &str,
    dir: &Result<LogDirDescription, ClientError>,
    topics: &BTreeSet<&str>,
) -> String {
    let nothing = BTreeMap::new();
    let replicas = dir.as_ref().map_or(&nothing, |dir| &dir.replicas).iter();
    let mut replicas: Vec<_> = replicas
        .filter(|(it, _): &(&TopicPartition, _)| topics.is_empty() || topics.contains(&*it.topic))
        .collect();
    java::order_by_hash(&mut replicas, java::CAPACITY, |(it, _)| java::hash_of_partition(it));
    let replicas: Vec<String> = replicas
        .into_iter()
        .map(|(it, replica)| {
            java::object(vec![
                ("partition", json!(it.to_string()).to_string()),
                ("size", replica.size.to_string()),
                ("offsetLag", replica.offset_lag.to_string()),
                ("isFuture", replica.is_future.to_string()),
            ])
        })
        .collect();
    let error = dir.as_ref().err().map(java::class);
    java::object(vec![
        ("logDir", json!(path).to_string()),
        ("error", json!(error).to_string()),
        ("partitions", format!("[{}]", replicas.join(","))),
    ])
}
