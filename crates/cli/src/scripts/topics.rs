//! `kafka-topics`.

mod description;

use std::collections::BTreeMap;

use ottla_client::{Admin, NewPartitions, NewTopic};
use ottla_config::ConfigType;
use ottla_protocol::topic_name::is_internal;
use ottla_protocol::{BrokerId, ErrorCode};

use super::options::{COMMAND_CONFIG, Grammar, Options, flag, value};
use super::topic_filter::TopicFilter;
use super::{Outcome, Stop, java, say, target, warn};

static GRAMMAR: Grammar = Grammar {
    about: "This tool helps to create, delete, describe, or change a topic.",
    known: &[
        value(&["bootstrap-server"], "server", "REQUIRED: a node of the cluster, HOST:PORT."),
        COMMAND_CONFIG,
        flag(&["list"], "List the topics."),
        flag(&["create"], "Make a topic."),
        flag(&["delete"], "Delete topics."),
        flag(&["alter"], "Give topics more partitions. kafka-configs changes configurations."),
        flag(&["describe"], "Show partitions and replicas of topics."),
        value(&["topic"], "topic", "The topic; but for --create a regular expression."),
        value(&["topic-id"], "topic-id", "The id of the topic to describe."),
        value(&["config"], "name=value", "With --create: a key of its configuration."),
        value(&["delete-config"], "name", "Not supported since Kafka 4.0."),
        value(&["partitions"], "# of partitions", "How many partitions it is to have."),
        value(&["replication-factor"], "replication factor", "Replicas of each partition."),
        value(
            &["replica-assignment"],
            "b1:b2,b3:b4,...",
            "The brokers of each partition, separated by colons.",
        ),
        flag(&["under-replicated-partitions"], "Only partitions that lack in-sync replicas."),
        flag(&["unavailable-partitions"], "Only partitions without a leader that is alive."),
        flag(&["under-min-isr-partitions"], "Only partitions below min.insync.replicas."),
        flag(&["at-min-isr-partitions"], "Only partitions at min.insync.replicas."),
        flag(&["topics-with-overrides"], "Only topics with a configuration of their own."),
        flag(&["if-exists"], "Be content if the topic is not there."),
        flag(&["if-not-exists"], "Be content if the topic is there already."),
        flag(&["exclude-internal"], "Leave out topics that the cluster keeps for itself."),
        value(
            &["partition-size-limit-per-response"],
            "number",
            "The most partitions to ask for at once.",
        ),
    ],
};

const ACTIONS: [&str; 5] = ["alter", "create", "describe", "list", "delete"];

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments)?;
    options.help_or_version()?;
    check(&options)?;
    target::block_on(async |env| {
        let admin = target::connect(&env, &options).await?;
        let done = if options.has("create") {
            create(&admin, &options).await
        } else if options.has("alter") {
            alter(&admin, &options).await
        } else if options.has("list") {
            list(&admin, &options).await
        } else if options.has("describe") {
            description::describe(&admin, &options).await
        } else {
            delete(&admin, &options).await
        };
        done.or_else(|stop| {
            if stop.code == 0 {
                return Err(stop);
            }
            say(format!("Error while executing topic command : {}", stop.said))?;
            Err(Stop::silent())
        })
    })
}

fn check(options: &Options) -> Outcome {
    if options.count(&ACTIONS) != 1 {
        return Err(options.usage(
            "Command must include exactly one action: --list, --describe, --create, --alter or --delete",
        ));
    }
    if options.has("delete-config") {
        warn("--delete-config is ignored: Kafka supports it no longer since 4.0");
    }
    if !options.has("bootstrap-server") {
        return Err(Stop::failed("--bootstrap-server must be specified"));
    }
    if options.has("describe") && options.has("if-exists") {
        if !options.has("topic") && !options.has("topic-id") {
            return Err(options.usage("--topic or --topic-id is required to describe a topic"));
        }
        if options.has("topic") && options.has("topic-id") {
            say(
                "Only topic id will be used when both --topic and --topic-id are specified and topicId is not Uuid.ZERO_UUID",
            )?;
        }
    }
    if !options.has("list") && !options.has("describe") {
        options.require(&["topic"])?;
    }
    if options.has("alter") {
        if options.has("config") {
            return Err(options.usage(
                "Option combination \"[bootstrap-server],[config]\" can't be used with option \"[alter]\" (the kafka-configs tool alters configurations)",
            ));
        }
        options.require(&["partitions"])?;
    }
    let all_but = |allowed: &[&str]| -> Vec<&str> {
        ACTIONS.into_iter().filter(|it| !allowed.contains(it)).collect()
    };
    options.exclude("config", &all_but(&["alter", "create"]))?;
    options.exclude("partitions", &all_but(&["alter", "create"]))?;
    options.exclude("replication-factor", &all_but(&["create"]))?;
    options.exclude("replica-assignment", &all_but(&["alter", "create"]))?;
    if options.has("create") {
        options.exclude("replica-assignment", &["partitions", "replication-factor"])?;
    }
    for report in description::REPORTS {
        options.exclude(report, &all_but(&["describe"]))?;
        options.exclude(report, &["topics-with-overrides"])?;
    }
    options.exclude("topics-with-overrides", &all_but(&["describe"]))?;
    options.exclude("if-exists", &all_but(&["alter", "delete", "describe"]))?;
    options.exclude("if-not-exists", &all_but(&["create"]))?;
    options.exclude("exclude-internal", &all_but(&["list", "describe"]))
}

/// What a topic is to be, as `--create` and `--alter` are given it.
struct Wanted {
    partitions: Option<i32>,
    replication_factor: Option<i32>,
    assignments: BTreeMap<i32, Vec<BrokerId>>,
    configs: Vec<(String, String)>,
}

impl Wanted {
    fn read(options: &Options) -> Outcome<Self> {
        Ok(Self {
            partitions: options.number("partitions")?,
            replication_factor: options.number("replication-factor")?,
            assignments: assignments(options.value("replica-assignment")?.unwrap_or_default())?,
            configs: configs(&options.values("config"))?,
        })
    }
}

fn configs(given: &[&str]) -> Outcome<Vec<(String, String)>> {
    let mut configs = Vec::new();
    for text in given {
        let pair = text.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
        let pair = pair.filter(|(_, value)| !value.is_empty() && !value.contains('='));
        let Some((key, value)) = pair else {
            return Err(Stop::failed(
                "requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\".",
            ));
        };
        check_config(key, value)?;
        configs.push((key.to_owned(), value.to_owned()));
    }
    Ok(configs)
}

/// What Kafka's script finds wrong before it asks the cluster, which knows the ranges.
fn check_config(key: &str, value: &str) -> Outcome {
    let Some(known) = ottla_config::topic_key(key) else {
        return Err(Stop::failed(format!("Unknown topic config name: {key}")));
    };
    let is_whole = |bits: u32| {
        let most = (1_i128 << (bits - 1)) - 1;
        value.parse().is_ok_and(|number: i128| (-most - 1..=most).contains(&number))
    };
    let wrong = match known.config_type {
        ConfigType::Boolean => (!matches!(value, "true" | "false"))
            .then_some("Expected value to be either true or false"),
        ConfigType::Int => (!is_whole(32)).then_some("Not a number of type INT"),
        ConfigType::Long => (!is_whole(64)).then_some("Not a number of type LONG"),
        ConfigType::Double => {
            value.parse::<f64>().is_err().then_some("Not a number of type DOUBLE")
        }
        ConfigType::String
        | ConfigType::Short
        | ConfigType::List
        | ConfigType::Class
        | ConfigType::Password => None,
    };
    let Some(wrong) = wrong else { return Ok(()) };
    Err(Stop::failed(format!("Invalid value {value} for configuration {key}: {wrong}")))
}

/// `1:2,2:3` is partition 0 on brokers 1 and 2, and partition 1 on 2 and 3.
fn assignments(text: &str) -> Outcome<BTreeMap<i32, Vec<BrokerId>>> {
    let mut assignments: BTreeMap<i32, Vec<BrokerId>> = BTreeMap::new();
    for (partition, list) in (0..).zip(text.split(',').filter(|_| !text.is_empty())) {
        let mut brokers = Vec::new();
        let mut twice = Vec::new();
        for id in list.split(':') {
            let id = id.trim();
            let number = id
                .parse()
                .map(BrokerId)
                .map_err(|_no_number| Stop::failed(format!("For input string: \"{id}\"")))?;
            if brokers.contains(&number) {
                twice.push(id);
            }
            brokers.push(number);
        }
        if !twice.is_empty() {
            return Err(Stop::failed(format!(
                "Partition replica lists may not contain duplicate entries: {}",
                twice.join(",")
            )));
        }
        let factor = assignments.get(&0).map_or(brokers.len(), Vec::len);
        if brokers.len() != factor {
            let ids: Vec<String> = brokers.iter().map(|id| id.0.to_string()).collect();
            return Err(Stop::failed(format!(
                "Partition {partition} has different replication factor: [{}]",
                ids.join(", ")
            )));
        }
        assignments.insert(partition, brokers);
    }
    Ok(assignments)
}

async fn create(admin: &Admin, options: &Options) -> Outcome {
    let name = options.value("topic")?.unwrap_or_default();
    let wanted = Wanted::read(options)?;
    if name.contains(['.', '_']) {
        say(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could \
             collide. To avoid issues it is best to use either, but not both.",
        )?;
    }
    let factor = match wanted.replication_factor.map(i16::try_from) {
        None => None,
        Some(Ok(factor @ 1..)) => Some(factor),
        Some(Ok(_) | Err(_)) => {
            return Err(Stop::failed(
                "The replication factor must be between 1 and 32767 inclusive",
            ));
        }
    };
    if wanted.partitions.is_some_and(|count| count < 1) {
        return Err(Stop::failed("The partitions must be greater than 0"));
    }
    let topic = NewTopic {
        partitions: wanted.partitions,
        replication_factor: factor,
        assignments: wanted.assignments,
        configs: wanted.configs,
        ..NewTopic::new(name)
    };
    match admin.create_topic(topic).await {
        Ok(()) => say(format!("Created topic {name}.")),
        Err(error)
            if error.code() == Some(ErrorCode::TopicAlreadyExists)
                && options.has("if-not-exists") =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn list(admin: &Admin, options: &Options) -> Outcome {
    say(topics(admin, options).await?.join("\n"))
}

async fn alter(admin: &Admin, options: &Options) -> Outcome {
    let wanted = Wanted::read(options)?;
    let names = topics(admin, options).await?;
    must_exist(&names, options)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut changes = BTreeMap::new();
    for (name, topic) in admin.describe_topics(&names).await? {
        let now = topic?.partitions.len();
        let added = wanted.assignments.values().skip(now).cloned().collect();
        let total = wanted.partitions.unwrap_or_default();
        let assignments = (!wanted.assignments.is_empty()).then_some(added);
        changes.insert(name, NewPartitions { total, assignments });
    }
    Ok(target::all_done(admin.create_partitions(&changes, false).await?)?)
}

async fn delete(admin: &Admin, options: &Options) -> Outcome {
    let names = topics(admin, options).await?;
    must_exist(&names, options)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(target::all_done(admin.delete_topics(&names).await?)?)
}

/// The topics that are meant, sorted.
async fn topics(admin: &Admin, options: &Options) -> Outcome<Vec<String>> {
    let filter = options.value("topic")?.map(TopicFilter::new).transpose()?;
    let names = admin.list_topics().await?.into_keys();
    let wanted = names.filter(|name| {
        filter.as_ref().is_none_or(|filter| filter.admits(name))
            && !(options.has("exclude-internal") && is_internal(name))
    });
    Ok(wanted.collect())
}

fn must_exist(found: &[String], options: &Options) -> Outcome {
    let wanted = options.value("topic")?.filter(|it| !it.is_empty());
    match wanted {
        Some(topic) if found.is_empty() && !options.has("if-exists") => {
            Err(Stop::failed(format!("Topic '{topic}' does not exist as expected")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Puts names into the order of a `HashMap` that was made for as many.
fn in_order_of_hash(mut names: Vec<String>) -> Vec<String> {
    let count = names.len();
    java::order_by_hash(&mut names, count, |name| java::hash_of(name));
    names
}
