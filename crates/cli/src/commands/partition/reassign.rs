//! `ottla partition reassign`, `reassignments` and `cancel-reassignments` (KIP-455).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use clap::Args;
use ottla_client::{Answers, ConfigResourceType};
use ottla_protocol::{BrokerId, TopicPartition};
use serde_json::{Value, json};

use super::super::confirm::Confirmation;
use super::super::output::Format;
use super::super::session::{Session, explain, explained};
use super::super::{row, text};
use super::Scope;
use crate::failure::Failure;
use crate::replication_throttle::{self, Changes, RATES, REPLICAS, unset};

#[derive(Args)]
pub(crate) struct Reassign {
    /// TOPIC, or TOPIC:PARTITION,PARTITION.
    #[arg(required = true, value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<String>,
    /// The brokers that shall have them, the preferred leader first.
    #[arg(long, short, required = true, value_delimiter = ',', value_name = "ID,ID",
        value_parser = clap::value_parser!(i32).range(0..))]
    replicas: Vec<i32>,
    /// Bytes per second that each broker sends and fetches for it; --verify ends that. Without it,
    /// cluster.rebalance.throttled.rate holds.
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(i64).range(0..))]
    throttle: Option<i64>,
    /// Do it, and do not only show it.
    #[arg(long, short = 'y', visible_alias = "execute")]
    yes: bool,
    /// Show how far it is, and end throttles when no reassignment is under way any more.
    #[arg(long, conflicts_with_all = ["yes", "throttle"])]
    verify: bool,
}

#[derive(Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    confirmation: Confirmation,
}

fn ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|broker| broker.0).collect()
}

pub(super) async fn run(session: &Session, format: Format, wanted: &Reassign) -> Result<()> {
    match wanted.verify {
        true => verify(session, format, wanted).await,
        false => begin(session, format, wanted).await,
    }
}

async fn begin(session: &Session, format: Format, wanted: &Reassign) -> Result<()> {
    let partitions = session.chosen_partitions(&wanted.topics).await?;
    let replicas: Vec<BrokerId> = wanted.replicas.iter().copied().map(BrokerId).collect();
    check_brokers(session, &replicas).await?;
    let now = replicas_of(session, &partitions).await?;
    let columns = [
        ("TOPIC", "topic"),
        ("PARTITION", "partition"),
        ("REPLICAS", "replicas"),
        ("NEW REPLICAS", "new_replicas"),
    ];
    let rows: Vec<Value> = now
        .iter()
        .map(|(partition, now)| {
            let fields = json!({
                "replicas": ids(now), "new_replicas": wanted.replicas, "executed": wanted.yes,
            });
            row(partition, fields)
        })
        .collect();
    if wanted.yes {
        if let Some(rate) = wanted.throttle {
            let under_way = session.admin.list_reassignments(None).await.map_err(explained)?;
            let targets = partitions.iter().map(|it| (it.clone(), replicas.clone()));
            let moves = replication_throttle::moves(targets, &now, &under_way);
            throttle(session, &replication_throttle::named(&moves)).await?;
            throttle(session, &replication_throttle::limited(&moves, rate)).await?;
        }
        let targets = partitions.iter().map(|it| (it.clone(), Some(replicas.clone()))).collect();
        let answers = session.admin.alter_reassignments(&targets).await.map_err(explained)?;
        all_done("not reassigned", answers)?;
    }
    format.rows(&columns, &rows)?;
    format.remark(match (wanted.yes, wanted.throttle) {
        (true, None) => "begun; ottla partition reassignments shows those that are under way",
        (true, Some(_)) => {
            "begun; the same command with --verify, and without --yes and --throttle, shows how far it is, and \
             ends the throttle when it is done"
        }
        (false, _) => "nothing was changed; add --yes to do this",
    })
}

async fn throttle(session: &Session, changes: &Changes) -> Result<()> {
    let failed = |error| explain("the throttles are not all as they should be", &error);
    let answers = replication_throttle::make(&session.admin, changes).await.map_err(failed)?;
    answers.into_values().try_for_each(|answer| answer.map_err(failed))
}

/// Shows how far reassignments are. When none is under way any more, throttles are ended, as Kafka's tool does it: those of
/// all brokers, and of these topics.
async fn verify(session: &Session, format: Format, wanted: &Reassign) -> Result<()> {
    let partitions = session.chosen_partitions(&wanted.topics).await?;
    let under_way = session.admin.list_reassignments(None).await.map_err(explained)?;
    let now = replicas_of(session, &partitions).await?;
    let rows: Vec<Value> = now
        .iter()
        .map(|(partition, now)| {
            let state = match (under_way.contains_key(partition), ids(now) == wanted.replicas) {
                (true, _) => "in progress",
                (false, true) => "completed",
                (false, false) => "elsewhere",
            };
            row(partition, json!({ "replicas": ids(now), "state": state }))
        })
        .collect();
    let columns = [
        ("TOPIC", "topic"),
        ("PARTITION", "partition"),
        ("REPLICAS", "replicas"),
        ("STATE", "state"),
    ];
    format.rows(&columns, &rows)?;
    if !under_way.is_empty() {
        let count = text::count(under_way.len() as u64, "reassignment is", "reassignments are");
        return format.remark(&format!("{count} under way: throttles stay as they are"));
    }
    let cluster = session.admin.describe_cluster(false).await.map_err(explained)?;
    let brokers = cluster.brokers.iter().map(|node| node.id);
    throttle(session, &unset(ConfigResourceType::Broker, brokers, &RATES)).await?;
    let topics: BTreeSet<&str> = partitions.iter().map(|it| &*it.topic).collect();
    throttle(session, &unset(ConfigResourceType::Topic, topics, &REPLICAS)).await?;
    format.remark("no reassignment is under way: throttles are ended")
}

/// Each broker once, and such as are there.
async fn check_brokers(session: &Session, replicas: &[BrokerId]) -> Result<()> {
    let cluster = session.admin.describe_cluster(false).await.map_err(explained)?;
    let alive: BTreeSet<BrokerId> = cluster.brokers.iter().map(|node| node.id).collect();
    let list: Vec<String> = alive.iter().map(ToString::to_string).collect();
    let mut seen = BTreeSet::new();
    for broker in replicas {
        let why = if !alive.contains(broker) {
            format!("there is no broker {broker} alive; there are {}", list.join(", "))
        } else if !seen.insert(*broker) {
            format!("broker {broker} is named twice, and each replica is on a broker of its own")
        } else {
            continue;
        };
        return Err(Failure {
            what: "nothing is reassigned".to_owned(),
            why,
            next: "ottla cluster describe shows the brokers; name each once, as --replicas 1,2"
                .to_owned(),
        }
        .into());
    }
    Ok(())
}

async fn replicas_of(
    session: &Session,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Vec<BrokerId>>> {
    let topics: BTreeSet<&str> = partitions.iter().map(|it| &*it.topic).collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    let described = session.admin.describe_topics(&topics).await.map_err(explained)?;
    let mut replicas = BTreeMap::new();
    for partition in partitions {
        let topic = match described.get(&*partition.topic) {
            Some(Ok(topic)) => topic,
            Some(Err(_)) | None => return Err(session.no_such_topic(&partition.topic).await),
        };
        let found = topic.partitions.get(&partition.partition);
        replicas.insert(partition.clone(), found.map_or(Vec::new(), |it| it.replicas.clone()));
    }
    Ok(replicas)
}

pub(super) async fn list(session: &Session, format: Format, topics: &[String]) -> Result<()> {
    let partitions = match topics {
        [] => None,
        topics => Some(session.chosen_partitions(topics).await?),
    };
    let moves = session.admin.list_reassignments(partitions.as_deref()).await;
    let rows: Vec<Value> = moves
        .map_err(explained)?
        .iter()
        .map(|(partition, it)| {
            let fields = json!({
                "replicas": ids(&it.replicas), "adding": ids(&it.adding),
                "removing": ids(&it.removing),
            });
            row(partition, fields)
        })
        .collect();
    let columns = [
        ("TOPIC", "topic"),
        ("PARTITION", "partition"),
        ("REPLICAS", "replicas"),
        ("ADDING", "adding"),
        ("REMOVING", "removing"),
    ];
    format.rows_or(&columns, &rows, "no reassignment is under way")
}

pub(super) async fn cancel(session: &Session, format: Format, cancel: &Cancel) -> Result<()> {
    let partitions = cancel.scope.named(session).await?;
    let moves = session.admin.list_reassignments(partitions.as_deref()).await;
    let moves = moves.map_err(explained)?;
    if moves.is_empty() {
        return format.remark("no reassignment is under way, so there is nothing to cancel");
    }
    let count = text::count(moves.len() as u64, "reassignment", "reassignments");
    cancel.confirmation.ask(&format!("cancel {count}, and lose what was copied"))?;
    let targets = moves.keys().map(|partition| (partition.clone(), None)).collect();
    let answers = session.admin.alter_reassignments(&targets).await.map_err(explained)?;
    all_done("not cancelled", answers)?;
    for partition in moves.keys() {
        let object = row(partition, json!({ "cancelled": true }));
        format.object(&object, &format!("{partition} keeps the replicas that it had"))?;
    }
    Ok(())
}

fn all_done(what: &str, answers: Answers<TopicPartition>) -> Result<()> {
    let failed: Vec<String> = answers
        .into_iter()
        .filter_map(|(it, answer)| Some(format!("{it}: {}", answer.err()?)))
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    let count = text::count(failed.len() as u64, "partition is", "partitions are");
    Err(Failure {
        what: format!("{count} {what}"),
        why: failed.join("\n"),
        next: "correct what the broker names, and try again; ottla partition reassignments shows \
               what is under way"
            .to_owned(),
    }
    .into())
}
