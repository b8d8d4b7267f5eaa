//! `ottla cluster`.

mod health;
mod local;
mod voters;

use anyhow::Result;
use clap::Subcommand;
use ottla_client::ClientError;
use ottla_protocol::{ApiKey, BrokerId};
use serde_json::{Value, json};

use super::output::Format;
use super::rebalance::{self, Goal, Pace};
use super::session::{self, Session, explain, explained};
use super::text;
use crate::failure::Failure;

pub(crate) type Options = session::Options<Task>;

#[derive(Subcommand)]
pub(crate) enum Task {
    #[command(flatten)]
    Local(local::Task),
    #[command(flatten)]
    Of(OfCluster),
}

#[derive(Subcommand)]
pub(crate) enum OfCluster {
    /// Show the brokers of the cluster, and which speaks for the controller.
    Describe,
    /// Check the voters of the quorum, brokers, leaders, replicas and disks.
    #[command(
        long_about = "Check the voters of the metadata quorum, brokers, leaders, replicas in sync against\n\
        min.insync.replicas, and disks.\n\n\
        Ends with 0 if all is well, with 1 if something is not."
    )]
    Health,
    /// Show the log directories of every broker, and what is in them.
    LogDirs {
        /// Only this topic.
        #[arg(long)]
        topic: Option<String>,
    },
    /// Show the APIs that a broker serves, with their versions.
    Apis {
        /// Which broker.
        #[arg(long, value_name = "ID")]
        broker: Option<i32>,
    },
    /// Show the metadata quorum: who votes, and how far each is.
    Quorum,
    /// List, add and remove the voters of the metadata quorum.
    Voters(voters::Voters),
    /// Give every broker its share of replicas, leaders and bytes.
    #[command(
        long_about = "Gives every broker its share of replicas, leaders and bytes: a new one gets some, the fullest give\n\
        some, racks are respected, as little as possible is copied. Each move says why. Interrupted, it may be run again.\n\
        Brokers copy no faster than cluster.rebalance.throttled.rate bytes per second."
    )]
    Rebalance {
        /// By how many percent of its share a broker may have more or less.
        #[arg(long, value_name = "PERCENT", default_value_t = 10)]
        tolerance: u32,
        #[command(flatten)]
        pace: Pace,
    },
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let format = options.format;
    let task = match &options.task {
        Task::Local(task) => return local::run(task, format),
        Task::Of(task) => task,
    };
    session::with(&options.target, async |session| match task {
        OfCluster::Describe => describe(&session, format).await,
        OfCluster::Health => health::run(&session, format).await,
        OfCluster::LogDirs { topic } => log_dirs(&session, format, topic.as_deref()).await,
        OfCluster::Apis { broker } => apis(&session, format, *broker).await,
        OfCluster::Quorum => quorum(&session, format).await,
        OfCluster::Voters(voters) => voters::run(&session, format, voters).await,
        OfCluster::Rebalance { tolerance, pace } => {
            let goal = Goal::Even { tolerance_percent: *tolerance };
            rebalance::run(&session, format, goal, *pace).await
        }
    })
}

async fn describe(session: &Session, format: Format) -> Result<()> {
    let cluster = session.admin.describe_cluster(true).await.map_err(explained)?;
    let rows: Vec<Value> = cluster
        .brokers
        .iter()
        .map(|node| {
            json!({
                "cluster_id": cluster.cluster_id, "broker": node.id.0, "host": node.host,
                "port": node.port, "rack": node.rack, "fenced": node.is_fenced,
                "controller": cluster.controller == Some(node.id),
            })
        })
        .collect();
    format.remark(&format!("cluster {}", cluster.cluster_id))?;
    let columns = [
        ("BROKER", "broker"),
        ("HOST", "host"),
        ("PORT", "port"),
        ("RACK", "rack"),
        ("CONTROLLER", "controller"),
        ("FENCED", "fenced"),
    ];
    format.rows(&columns, &rows)
}

async fn log_dirs(session: &Session, format: Format, topic: Option<&str>) -> Result<()> {
    let partitions = match topic {
        Some(topic) => Some(session.partitions(topic).await?),
        None => None,
    };
    let cluster = session.admin.describe_cluster(false).await.map_err(explained)?;
    let mut rows = Vec::new();
    let ids = cluster.brokers.iter().map(|node| node.id);
    let asked = session
        .ask_each(ids, async |id| session.admin.describe_log_dirs(id, partitions.as_deref()).await);
    for (id, dirs) in asked.await {
        let dirs = match dirs {
            Ok(dirs) => dirs,
            Err(why) => {
                rows.push(json!({ "broker": id.0, "log_dir": null, "error": why }));
                continue;
            }
        };
        for (dir, answer) in dirs {
            rows.extend(match answer {
                Err(error) => vec![json!({
                    "broker": id.0, "log_dir": dir, "error": error.to_string(),
                })],
                Ok(described) => described
                    .replicas
                    .iter()
                    .map(|(partition, replica)| {
                        json!({
                            "broker": id.0, "log_dir": dir, "topic": &*partition.topic,
                            "partition": partition.partition, "bytes": replica.size,
                            "size": text::size(u64::try_from(replica.size).unwrap_or(0)),
                            "offset_lag": replica.offset_lag, "future": replica.is_future,
                            "usable_bytes": described.usable_bytes,
                            "total_bytes": described.total_bytes,
                        })
                    })
                    .collect(),
            });
        }
    }
    let columns = [
        ("BROKER", "broker"),
        ("LOG DIR", "log_dir"),
        ("TOPIC", "topic"),
        ("PARTITION", "partition"),
        ("SIZE", "size"),
        ("LAG", "offset_lag"),
        ("MOVING", "future"),
        ("ERROR", "error"),
    ];
    format.rows(&columns, &rows)
}

async fn apis(session: &Session, format: Format, broker: Option<i32>) -> Result<()> {
    let brokers = session.client.metadata().brokers.clone();
    let id = match broker.map(BrokerId).or_else(|| brokers.keys().next().copied()) {
        Some(id) if brokers.contains_key(&id) => id,
        _ => {
            let ids: Vec<String> = brokers.keys().map(ToString::to_string).collect();
            return Err(Failure {
                what: "there is no such broker".to_owned(),
                why: format!("alive are {}", ids.join(", ")),
                next: "ottla cluster describe".to_owned(),
            }
            .into());
        }
    };
    let versions = session.admin.api_versions(id).await.map_err(explained)?;
    let rows: Vec<Value> = ApiKey::ALL
        .iter()
        .filter_map(|api| {
            let served = versions.get(api)?;
            Some(json!({
                "broker": id.0, "api": api.name(), "key": api.key(),
                "min_version": served.min, "max_version": served.max,
            }))
        })
        .collect();
    let columns =
        [("KEY", "key"), ("API", "api"), ("FROM VERSION", "min_version"), ("TO", "max_version")];
    format.rows(&columns, &rows)
}

async fn quorum(session: &Session, format: Format) -> Result<()> {
    let quorum = session.admin.describe_quorum().await;
    let quorum = quorum.map_err(|error: ClientError| explain("the quorum is not shown", &error))?;
    let voters = quorum.voters.iter().map(|replica| (replica, "voter"));
    let observers = quorum.observers.iter().map(|replica| (replica, "observer"));
    let rows: Vec<Value> = voters
        .chain(observers)
        .map(|(replica, role)| {
            json!({
                "node": replica.id.0, "role": role, "leader": replica.id == quorum.leader,
                "leader_epoch": quorum.leader_epoch.0, "log_end_offset": replica.log_end_offset.0,
                "high_watermark": quorum.high_watermark.0,
                "lag": (quorum.high_watermark.0 - replica.log_end_offset.0).max(0),
                "last_caught_up": text::time(replica.last_caught_up),
            })
        })
        .collect();
    let columns = [
        ("NODE", "node"),
        ("ROLE", "role"),
        ("LEADER", "leader"),
        ("EPOCH", "leader_epoch"),
        ("END", "log_end_offset"),
        ("LAG", "lag"),
        ("CAUGHT UP", "last_caught_up"),
    ];
    format.rows(&columns, &rows)
}
