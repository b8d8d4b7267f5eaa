//! `ottla topic`.

mod delete_records;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{ArgGroup, Args, Subcommand};
use ottla_client::{
    ConfigChange, ConfigResource, ConfigResourceType, NewPartitions, NewTopic, OffsetQuery,
    TopicDescription,
};
use ottla_protocol::topic_name::check_topic_name;
use ottla_protocol::{BrokerId, ErrorCode, TopicPartition, format_uuid};
use serde_json::{Value, json};

use super::confirm::Confirmation;
use super::key_and_value;
use super::output::Format;
use super::session::{self, Session, explain, explained, refusal};
use crate::failure::Failure;

pub(crate) type Options = session::Options<Task>;

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Make a topic.
    Create(Create),
    /// List topics.
    List {
        /// Only those whose name contains this.
        part: Option<String>,
        /// Those that the cluster keeps for itself, too.
        #[arg(long)]
        internal: bool,
    },
    /// Show partitions, replicas and offsets of topics.
    Describe {
        /// The topics.
        #[arg(required = true)]
        topics: Vec<String>,
    },
    /// Give a topic more partitions, or change its configuration.
    Alter(Alter),
    /// Delete topics and all of their records.
    Delete {
        /// The topics.
        #[arg(required = true)]
        topics: Vec<String>,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Delete the records in front of partitions: before an offset, before a time, or all.
    DeleteRecords(delete_records::Options),
}

#[derive(Args)]
pub(crate) struct Create {
    /// Its name.
    topic: String,
    /// Partitions [default: num.partitions of the broker].
    #[arg(long, short, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Replicas of each partition [default: default.replication.factor of the broker].
    #[arg(long, short, value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A key of its configuration; may be given many times.
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = key_and_value)]
    config: Vec<(String, String)>,
    /// Be content if it is there already.
    #[arg(long)]
    if_not_exists: bool,
    /// Have the cluster check it, and make nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
#[command(group(
    ArgGroup::new("change").args(["partitions", "config", "unset"]).required(true).multiple(true)
))]
pub(crate) struct Alter {
    /// The topic.
    topic: String,
    /// How many partitions it shall have; more than now. Keys may go to other partitions then.
    #[arg(long, short, conflicts_with_all = ["config", "unset"],
        value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Set keys of its configuration.
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = key_and_value)]
    config: Vec<(String, String)>,
    /// Have keys of its configuration go back to their defaults.
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    check(&options.task)?;
    session::with(&options.target, async |session| match &options.task {
        Task::Create(create) => make(&session, options.format, create).await,
        Task::List { part, internal } => {
            list(&session, options.format, part.as_deref(), *internal).await
        }
        Task::Describe { topics } => describe(&session, options.format, topics).await,
        Task::Alter(alter) => change(&session, options.format, alter).await,
        Task::Delete { topics, confirmation } => {
            delete(&session, options.format, topics, *confirmation).await
        }
        Task::DeleteRecords(records) => {
            delete_records::run(&session, options.format, records).await
        }
    })
}

/// What can be said before a cluster is asked.
fn check(task: &Task) -> Result<()> {
    let Task::Create(create) = task else { return Ok(()) };
    check_topic_name(&create.topic).map_err(|error| {
        Failure {
            what: format!("{:?} cannot be the name of a topic", create.topic),
            why: error.to_string(),
            next: "take at most 249 letters, digits, dots, hyphens and underscores".to_owned(),
        }
        .into()
    })
}

async fn make(session: &Session, format: Format, create: &Create) -> Result<()> {
    check_factor(session, create.replication_factor)?;
    let name = &create.topic;
    let topic = NewTopic {
        partitions: create.partitions,
        replication_factor: create.replication_factor,
        configs: create.config.clone(),
        ..NewTopic::new(name)
    };
    let mut answers =
        session.admin.create_topics(&[topic], create.dry_run).await.map_err(explained)?;
    let created = match answers.remove(name) {
        Some(Err(error)) if refusal(&error) == Some(ErrorCode::TopicAlreadyExists) => {
            if !create.if_not_exists {
                return Err(explain(&format!("topic {name} is not made"), &error));
            }
            false
        }
        Some(Err(error)) => return Err(explain(&format!("topic {name} is not made"), &error)),
        Some(Ok(())) | None => true,
    };
    if create.dry_run {
        let object = json!({ "topic": name, "created": false, "valid": true });
        return format.object(&object, &format!("topic {name} could be made"));
    }
    let described = session.admin.describe_topics(&[name]).await.map_err(explained)?;
    let Some(Ok(topic)) = described.get(name) else {
        return Err(session.no_such_topic(name).await);
    };
    let (partitions, factor) = (topic.partitions.len(), factor_of(topic));
    let object = json!({
        "topic": name, "created": created, "topic_id": format_uuid(topic.topic_id),
        "partitions": partitions, "replication_factor": factor,
    });
    let made = if created { "made" } else { "there already" };
    let count = super::text::count(partitions as u64, "partition", "partitions");
    format.object(&object, &format!("topic {name} is {made}: {count}, replication factor {factor}"))
}

/// More replicas than brokers cannot be.
fn check_factor(session: &Session, factor: Option<i16>) -> Result<()> {
    let alive = session.client.metadata().brokers.len();
    match factor {
        Some(factor) if usize::try_from(factor).is_ok_and(|factor| factor > alive) => {
            Err(Failure {
                what: format!("replication factor {factor} is not possible"),
                why: format!(
                    "each replica is on a broker of its own, and {} alive",
                    if alive == 1 {
                        "1 broker is".to_owned()
                    } else {
                        format!("{alive} brokers are")
                    }
                ),
                next: format!("give --replication-factor {alive} or less, or start more brokers"),
            }
            .into())
        }
        _ => Ok(()),
    }
}

fn factor_of(topic: &TopicDescription) -> usize {
    topic.partitions.values().next().map_or(0, |partition| partition.replicas.len())
}

async fn list(session: &Session, format: Format, part: Option<&str>, internal: bool) -> Result<()> {
    let topics = session.admin.list_topics().await.map_err(explained)?;
    let wanted = topics.iter().filter(|(name, topic)| {
        (internal || !topic.is_internal) && part.is_none_or(|part| name.contains(part))
    });
    let rows: Vec<Value> = wanted
        .map(|(name, topic)| {
            json!({
                "topic": name, "partitions": topic.partitions,
                "replication_factor": topic.replication_factor,
                "internal": topic.is_internal, "topic_id": format_uuid(topic.topic_id),
            })
        })
        .collect();
    let columns =
        [("TOPIC", "topic"), ("PARTITIONS", "partitions"), ("FACTOR", "replication_factor")];
    format.rows_or(&columns, &rows, "no topics; make one with: ottla topic create NAME")
}

async fn describe(session: &Session, format: Format, topics: &[String]) -> Result<()> {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let mut rows = Vec::new();
    for (name, topic) in session.admin.describe_topics(&names).await.map_err(explained)? {
        match topic {
            Ok(topic) => rows.extend(partition_rows(session, &name, &topic).await?),
            Err(error) => return Err(session.about_topic(&name, error).await),
        }
    }
    let columns = [
        ("TOPIC", "topic"),
        ("PARTITION", "partition"),
        ("LEADER", "leader"),
        ("REPLICAS", "replicas"),
        ("IN SYNC", "isr"),
        ("START", "start_offset"),
        ("END", "end_offset"),
    ];
    format.rows(&columns, &rows)
}

async fn partition_rows(
    session: &Session,
    name: &str,
    topic: &TopicDescription,
) -> Result<Vec<Value>> {
    let led = topic.partitions.iter().filter(|(_, it)| it.leader.is_some());
    let led: Vec<TopicPartition> = led.map(|(it, _)| TopicPartition::new(name, *it)).collect();
    let starts = offsets(session, &led, OffsetQuery::Earliest).await?;
    let ends = offsets(session, &led, OffsetQuery::Latest).await?;
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    Ok(topic
        .partitions
        .iter()
        .map(|(number, it)| {
            let partition = TopicPartition::new(name, *number);
            json!({
                "topic": name, "topic_id": format_uuid(topic.topic_id), "partition": number,
                "leader": it.leader.map(|id| id.0), "leader_epoch": it.leader_epoch.0,
                "replicas": ids(&it.replicas), "isr": ids(&it.isr),
                "start_offset": starts.get(&partition), "end_offset": ends.get(&partition),
            })
        })
        .collect())
}

/// Offsets of partitions; of those that cannot say, none.
pub(super) async fn offsets(
    session: &Session,
    partitions: &[TopicPartition],
    query: OffsetQuery,
) -> Result<BTreeMap<TopicPartition, i64>> {
    let queries = partitions.iter().map(|it| (it.clone(), query)).collect();
    let answers = session.admin.list_offsets(&queries, false).await.map_err(explained)?;
    Ok(answers.into_iter().filter_map(|(it, answer)| Some((it, answer.ok()?.offset.0))).collect())
}

async fn change(session: &Session, format: Format, alter: &Alter) -> Result<()> {
    let name = &alter.topic;
    let now = session.partitions(name).await?.len();
    if let Some(total) = alter.partitions {
        if usize::try_from(total).is_ok_and(|total| total <= now) {
            return Err(Failure {
                what: format!("topic {name} cannot have {total} partitions"),
                why: format!("it has {now}, and partitions are only ever added"),
                next: format!("give --partitions {} or more", now + 1),
            }
            .into());
        }
        let new = BTreeMap::from([(name.clone(), NewPartitions { total, assignments: None })]);
        let answers = session.admin.create_partitions(&new, false).await.map_err(explained)?;
        for answer in answers.into_values() {
            answer.map_err(|error| explain(&format!("topic {name} is as it was"), &error))?;
        }
        let object = json!({ "topic": name, "partitions": total, "before": now });
        return format.object(&object, &format!("topic {name} has {total} partitions now"));
    }
    let sets =
        alter.config.iter().map(|(key, value)| (key.clone(), ConfigChange::Set(value.clone())));
    let unsets = alter.unset.iter().map(|key| (key.clone(), ConfigChange::Delete));
    let resource = ConfigResource::new(ConfigResourceType::Topic, name);
    super::config::apply(session, format, &resource, sets.chain(unsets).collect()).await
}

async fn delete(
    session: &Session,
    format: Format,
    topics: &[String],
    confirmation: Confirmation,
) -> Result<()> {
    let mut records = 0;
    for topic in topics {
        let partitions = session.partitions(topic).await?;
        let starts = offsets(session, &partitions, OffsetQuery::Earliest).await?;
        let ends = offsets(session, &partitions, OffsetQuery::Latest).await?;
        records += ends.values().sum::<i64>() - starts.values().sum::<i64>();
    }
    let list = topics.join(", ");
    let count = super::text::count(u64::try_from(records).unwrap_or(0), "record", "records");
    confirmation.ask(&format!("delete {list} with {count}"))?;
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let answers = session.admin.delete_topics(&names).await.map_err(explained)?;
    for (name, answer) in answers {
        answer.map_err(|error| explain(&format!("topic {name} is not deleted"), &error))?;
        format.object(
            &json!({ "topic": name, "deleted": true }),
            &format!("topic {name} is deleted"),
        )?;
    }
    Ok(())
}
