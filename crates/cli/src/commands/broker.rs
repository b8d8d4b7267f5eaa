//! `ottla broker`.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Subcommand;
use ottla_client::{ConfigChange, ConfigResource, ConfigResourceType};
use ottla_protocol::BrokerId;
use serde_json::{Value, json};

use super::confirm::Confirmation;
use super::output::Format;
use super::rebalance::{self, Goal, Pace, WEIGHT};
use super::session::{self, Session, explain, explained};
use super::text;
use crate::failure::Failure;

pub(crate) type Options = session::Options<Task>;

#[derive(Subcommand)]
pub(crate) enum Task {
    /// List the brokers, dead ones too, with what they have and lead.
    List,
    /// Move everything from a broker to the others, so that it can be taken away.
    #[command(
        long_about = "Moves every replica from a broker to the others, a few at once, and says why each goes where.\n\n\
        The broker's cluster.rebalance.weight becomes 0, so that nothing comes back: no new topic, and nothing that\n\
        the controller moves by itself. --undo gives it its share again. Interrupted, it may be run again.\n\
        Brokers copy no faster than cluster.rebalance.throttled.rate bytes per second."
    )]
    Drain {
        /// The broker.
        #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
        broker: i32,
        /// Let the broker have its share again.
        #[arg(long, conflicts_with = "dry_run")]
        undo: bool,
        #[command(flatten)]
        pace: Pace,
    },
    /// Forget a broker that will not come back.
    Unregister {
        /// The broker.
        #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
        broker: i32,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

pub(crate) fn run(options: &Options) -> Result<()> {
    session::with(&options.target, async |session| match &options.task {
        Task::List => list(&session, options.format).await,
        Task::Drain { broker, undo: true, .. } => {
            undo_drain(&session, options.format, BrokerId(*broker)).await
        }
        Task::Drain { broker, undo: false, pace } => {
            drain(&session, options.format, BrokerId(*broker), *pace).await
        }
        Task::Unregister { broker, confirmation } => {
            unregister(&session, options.format, BrokerId(*broker), *confirmation).await
        }
    })
}

async fn list(session: &Session, format: Format) -> Result<()> {
    let cluster = session.admin.describe_cluster(true).await.map_err(explained)?;
    let topics = session.admin.describe_all_topics().await.map_err(explained)?;
    let (mut replicas, mut leads): (BTreeMap<_, u64>, BTreeMap<_, u64>) = Default::default();
    for partition in topics.values().flat_map(|topic| topic.partitions.values()) {
        for id in &partition.replicas {
            *replicas.entry(*id).or_default() += 1;
        }
        if let Some(id) = partition.leader {
            *leads.entry(id).or_default() += 1;
        }
    }
    let alive = cluster.brokers.iter().filter(|node| !node.is_fenced).map(|node| node.id);
    let weights = session.ask_each(alive, async |id| rebalance::weight(&session.admin, id).await);
    let weights = weights.await;
    let (mut rows, mut silent) = (Vec::new(), Vec::new());
    for node in cluster.brokers {
        let weight = weights.get(&node.id);
        let (state, why) = match weight {
            None => ("fenced", None),
            // Perhaps the controller does not know yet.
            Some(Err(why)) => ("unreachable", Some(why)),
            Some(Ok(0)) => ("drained", None),
            Some(Ok(_)) => ("active", None),
        };
        let why =
            why.map(|why| format!("whether broker {} is drained is not known: {why}", node.id));
        silent.extend(why.clone());
        rows.push(json!({
            "broker": node.id.0, "host": node.host, "port": node.port, "rack": node.rack,
            "state": state, "controller": cluster.controller == Some(node.id),
            "weight": weight.and_then(|weight| weight.as_ref().ok()), "unknown": why,
            "replicas": replicas.get(&node.id).copied().unwrap_or(0),
            "leads": leads.get(&node.id).copied().unwrap_or(0),
        }));
    }
    let columns = [
        ("BROKER", "broker"),
        ("HOST", "host"),
        ("PORT", "port"),
        ("RACK", "rack"),
        ("STATE", "state"),
        ("REPLICAS", "replicas"),
        ("LEADS", "leads"),
        ("CONTROLLER", "controller"),
    ];
    format.rows(&columns, &rows)?;
    silent.iter().try_for_each(|why| format.remark(why))
}

/// An error unless there is such a broker; whether it is fenced.
async fn check_exists(session: &Session, id: BrokerId) -> Result<bool> {
    let cluster = session.admin.describe_cluster(true).await.map_err(explained)?;
    let found = cluster.brokers.iter().find(|node| node.id == id);
    let Some(found) = found else {
        let ids: Vec<String> = cluster.brokers.iter().map(|node| node.id.to_string()).collect();
        return Err(Failure {
            what: format!("there is no broker {id}"),
            why: format!("the brokers are {}", ids.join(", ")),
            next: "ottla broker list shows them all".to_owned(),
        }
        .into());
    };
    Ok(found.is_fenced)
}

async fn set_weight(session: &Session, id: BrokerId, change: ConfigChange) -> Result<()> {
    let resource = ConfigResource::new(ConfigResourceType::Broker, id.to_string());
    let changes = BTreeMap::from([(resource, vec![(WEIGHT.to_owned(), change)])]);
    let answers = session.admin.incremental_alter_configs(&changes, false).await;
    let failed = |error| explain(&format!("broker {id} keeps its share"), &error);
    answers.map_err(failed)?.into_values().try_for_each(|answer| answer.map_err(failed))
}

async fn drain(session: &Session, format: Format, id: BrokerId, pace: Pace) -> Result<()> {
    if check_exists(session, id).await? {
        return Err(Failure {
            what: format!("broker {id} is not drained"),
            why: "it is fenced: it is not running, or cannot reach the controller".to_owned(),
            next: format!(
                "start it first; if it is gone for good, ottla broker unregister {id}, then ottla \
                 cluster rebalance gives its replicas to others"
            ),
        }
        .into());
    }
    if !pace.is_dry_run() {
        set_weight(session, id, ConfigChange::Set("0".to_owned())).await?;
    }
    rebalance::run(session, format, Goal::Empty(id), pace).await?;
    if pace.is_dry_run() {
        return Ok(());
    }
    let left = rebalance::left_on(session, id).await?;
    if let [first, ..] = left.as_slice() {
        return Err(Failure {
            what: format!("broker {id} still has {}", replicas(left.len())),
            why: format!(
                "{first}, for one, has no leader, or more replicas than there are other brokers"
            ),
            next:
                "add a broker or take replicas away (ottla partition reassign), and drain it again"
                    .to_owned(),
        }
        .into());
    }
    format.remark(&format!(
        "broker {id} has nothing any more: stop it, then ottla broker unregister {id}"
    ))
}

async fn undo_drain(session: &Session, format: Format, id: BrokerId) -> Result<()> {
    check_exists(session, id).await?;
    set_weight(session, id, ConfigChange::Delete).await?;
    let object: Value = json!({ "broker": id.0, "drained": false });
    let text = format!(
        "broker {id} may have its share again: the controller gives it some from time to time, \
         ottla cluster rebalance at once"
    );
    format.object(&object, &text)
}

async fn unregister(
    session: &Session,
    format: Format,
    id: BrokerId,
    confirmation: Confirmation,
) -> Result<()> {
    let is_fenced = check_exists(session, id).await?;
    let left = rebalance::left_on(session, id).await?.len();
    let mut question = format!("forget broker {id}");
    if !is_fenced {
        question += ", which is running";
    }
    if left > 0 {
        question += &format!(", with its {}", replicas(left));
    }
    confirmation.ask(&question)?;
    let failed = |error| explain(&format!("broker {id} stays registered"), &error);
    session.admin.unregister_broker(id).await.map_err(failed)?;
    let mut text = format!("broker {id} is forgotten");
    if left > 0 {
        text += &format!(
            "; ottla cluster rebalance gives its {} to others, where there are some and a leader",
            replicas(left)
        );
    }
    format.object(&json!({ "broker": id.0, "unregistered": true }), &text)
}

fn replicas(count: usize) -> String {
    text::count(count as u64, "replica", "replicas")
}
