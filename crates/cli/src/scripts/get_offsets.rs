//! `kafka-get-offsets`.

use std::collections::BTreeMap;
use std::ops::Range;

use ottla_client::OffsetQuery;
use ottla_protocol::topic_name::is_internal;
use ottla_protocol::{Timestamp, TopicPartition};

use super::options::{COMMAND_CONFIG, Grammar, Options, REQUIRED_SERVERS, flag, value};
use super::topic_filter::TopicFilter;
use super::{Outcome, Stop, java, say, target, warn};

static GRAMMAR: Grammar = Grammar {
    about: "An interactive shell for getting topic-partition offsets.",
    known: &[
        REQUIRED_SERVERS,
        COMMAND_CONFIG,
        value(
            &["topic-partitions"],
            "patterns",
            "Topics and partitions, as in orders:1,pay.*:0-3,t:5-,u:-3 (up to and without the last).",
        ),
        value(&["topic"], "topic", "A regular expression of the topics; else all."),
        value(&["partitions"], "partition ids", "Partitions, separated by commas; else all."),
        value(
            &["time"],
            "time",
            "Milliseconds since 1970, or -1 or latest (the default), -2 or earliest, -3 or max-timestamp, -4 or earliest-local, -5 or latest-tiered, -6 or earliest-pending-upload.",
        ),
        flag(&["exclude-internal-topics"], "Leave out topics that the cluster keeps for itself."),
    ],
};

pub(super) fn run(arguments: &[String]) -> Outcome {
    find(arguments).map_err(|mut stop| {
        // Usages are said as they are.
        if stop.code != 0 && !stop.said.contains("\nOptions:\n") {
            stop.said = format!("Error occurred: {}", stop.said);
        }
        stop
    })
}

fn find(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments)?;
    options.help_or_version()?;
    options.require(&["bootstrap-server"])?;
    if options.has("topic-partitions") && (options.has("topic") || options.has("partitions")) {
        return Err(Stop::failed("--topic-partitions cannot be used with --topic or --partitions"));
    }
    let query = query(options.value("time")?.unwrap_or("latest"))?;
    let rules = rules(&options)?;
    target::block_on(async |env| {
        let admin = target::connect(&env, &options).await?;
        let mut queries = BTreeMap::new();
        for (name, topic) in admin.list_topics().await? {
            let is_left_out = options.has("exclude-internal-topics") && is_internal(&name);
            let partitions = 0..i32::try_from(topic.partitions).unwrap_or(i32::MAX);
            let wanted = partitions
                .filter(|it| !is_left_out && rules.iter().any(|rule| rule.admits(&name, *it)));
            queries.extend(wanted.map(|it| (TopicPartition::new(name.as_str(), it), query)));
        }
        if queries.is_empty() {
            return Err(Stop::failed(
                "Could not match any topic-partitions with the specified filters",
            ));
        }
        // Sorted as text: partition 10 comes before partition 2.
        let mut rows = BTreeMap::new();
        for (it, answer) in admin.list_offsets(&queries, false).await? {
            let name = it.to_string();
            match answer {
                Ok(found) if found.offset.0 >= 0 => {
                    rows.insert(name, format!("{}:{}:{}", it.topic, it.partition, found.offset.0));
                }
                Ok(_) => {}
                Err(error) => warn(format!(
                    "Skip getting offsets for topic-partition {name} due to error: {}",
                    java::exception(&error)
                )),
            }
        }
        rows.into_values().try_for_each(say)
    })
}

fn query(time: &str) -> Outcome<OffsetQuery> {
    Ok(match time {
        "latest" | "-1" => OffsetQuery::Latest,
        "earliest" | "-2" => OffsetQuery::Earliest,
        "max-timestamp" | "-3" => OffsetQuery::MaxTimestamp,
        "earliest-local" | "-4" => OffsetQuery::EarliestLocal,
        "latest-tiered" | "-5" => OffsetQuery::LatestTiered,
        "earliest-pending-upload" => OffsetQuery::At(Timestamp(-6)),
        time => OffsetQuery::At(Timestamp(time.parse().map_err(|_no_number| {
            Stop::failed(format!(
                "Malformed time argument {time}. Please use -1 or latest / -2 or earliest / -3 or max-timestamp / -4 or earliest-local / -5 or latest-tiered / -6 or earliest-pending-upload, or a specified long format timestamp"
            ))
        })?)),
    })
}

/// Topics, and which of their partitions.
struct Rule {
    topics: TopicFilter,
    partitions: Vec<Range<i32>>,
}

impl Rule {
    fn admits(&self, topic: &str, partition: i32) -> bool {
        self.topics.admits(topic) && self.partitions.iter().any(|it| it.contains(&partition))
    }
}

fn rules(options: &Options) -> Outcome<Vec<Rule>> {
    if let Some(text) = options.value("topic-partitions")? {
        return text.split(',').map(rule).collect();
    }
    let topics = TopicFilter::new(options.value("topic")?.unwrap_or(".*"))?;
    let text = options.value("partitions")?.unwrap_or_default();
    if text.is_empty() {
        return Ok(vec![Rule { topics, partitions: std::iter::once(0..i32::MAX).collect() }]);
    }
    let numbers = text.split(',').map(|it| it.parse().map(|it: i32| it..it.saturating_add(1)));
    let partitions = numbers.collect::<Result<_, _>>().map_err(|_no_number| {
        Stop::failed(format!(
            "--partitions expects a comma separated list of numeric partition ids, but received: {text}"
        ))
    })?;
    Ok(vec![Rule { topics, partitions }])
}

/// `orders`, `orders:1`, `orders:0-3`, `orders:5-`, `:-3`.
fn rule(text: &str) -> Outcome<Rule> {
    let wrong = || Stop::failed(format!("Invalid rule specification: {text}"));
    let (topics, range) = text.split_once(':').unwrap_or((text, ""));
    let number = |text: &str, otherwise: i32| {
        if text.is_empty() { Ok(otherwise) } else { text.parse::<u16>().map(i32::from) }
    };
    let partitions = match range.split_once('-') {
        Some((from, to)) => number(from, 0)
            .and_then(|from| number(to, i32::MAX).map(|to| from..to))
            .map_err(|_no_number| wrong())?,
        None if range.is_empty() => 0..i32::MAX,
        None => number(range, 0).map(|it| it..it + 1).map_err(|_no_number| wrong())?,
    };
    let topics = TopicFilter::new(if topics.is_empty() { ".*" } else { topics })?;
    Ok(Rule { topics, partitions: vec![partitions] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_topics_and_ranges_of_partitions() {
        let admits = |text: &str, topic: &str, partition| {
            rule(text).is_ok_and(|rule| rule.admits(topic, partition))
        };
        assert!(admits("orders", "orders", 7) && !admits("orders", "pay", 7));
        assert!(admits("o.*:1", "orders", 1) && !admits("o.*:1", "orders", 2));
        assert!(admits(":0-3", "orders", 2) && !admits(":0-3", "orders", 3));
        assert!(admits("t:5-", "t", 9) && !admits("t:5-", "t", 4));
        assert!(admits(":-3", "t", 0) && !admits(":-3", "t", 3));
        assert!(rule("t:x").is_err());
    }
}
