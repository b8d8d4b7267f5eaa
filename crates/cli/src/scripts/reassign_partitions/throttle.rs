//! `--throttle` and `--replica-alter-log-dirs-throttle` (KIP-73): how fast replicas may move. They are
//! configurations of brokers and topics; who has them and what comes of them is the brokers' matter.

use std::collections::{BTreeMap, BTreeSet};

use ottla_client::{Admin, ConfigChange, ConfigResource, ConfigResourceType, Reassignment};
use ottla_protocol::{BrokerId, TopicPartition};

use super::plan::Plan;
use super::{error, failed};
use crate::scripts::options::Options;
use crate::scripts::{Outcome, joined, say, target};

pub(super) const LOG_DIRS_RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
/// Of brokers.
pub(super) const RATES: [&str; 2] =
    ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];
/// Of topics: those of leaders and those of followers.
pub(super) const REPLICAS: [&str; 2] =
    ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"];

/// What a move takes from where to where.
struct Move {
    sources: BTreeSet<BrokerId>,
    destinations: BTreeSet<BrokerId>,
}

/// Bytes per second.
pub(super) struct Rates {
    /// Between brokers.
    between: Option<i64>,
    /// Between directories of one.
    within: Option<i64>,
}

impl Rates {
    /// What the options ask for.
    pub(super) fn of(options: &Options) -> Outcome<Self> {
        // Less than nothing is none.
        let rate = |option| match options.number::<i64>(option) {
            Ok(rate) => Ok(rate.filter(|rate| *rate >= 0)),
            Err(stop) => Err(error(stop.said)),
        };
        Ok(Self { between: rate("throttle")?, within: rate("replica-alter-log-dirs-throttle")? })
    }
}

/// Sets them, before anything moves.
pub(super) async fn set(
    admin: &Admin,
    rates: &Rates,
    plan: &Plan,
    now: &BTreeMap<TopicPartition, Vec<BrokerId>>,
    under_way: &BTreeMap<TopicPartition, Reassignment>,
) -> Outcome {
    let Rates { between, within } = *rates;
    if between.is_none() && within.is_none() {
        return Ok(());
    }
    say(
        "Warning: You must run --verify periodically, until the reassignment completes, to ensure the throttle is removed.",
    )?;
    if let Some(rate) = between {
        let moves = moves(plan, now, under_way);
        set_all(admin, ConfigResourceType::Topic, throttled(&moves)).await?;
        let brokers: BTreeSet<&BrokerId> =
            moves.values().flat_map(|it| it.sources.union(&it.destinations)).collect();
        let rates = brokers.into_iter().map(|id| (id.to_string(), RATES.map(|key| (key, rate))));
        let rates = rates.map(|(id, rates)| {
            (id, rates.into_iter().map(|(key, rate)| (key, rate.to_string())).collect())
        });
        set_all(admin, ConfigResourceType::Broker, rates).await?;
        say(format!("The inter-broker throttle limit was set to {rate} B/s"))?;
    }
    if let Some(rate) = within {
        let brokers: BTreeSet<BrokerId> = plan.dirs.keys().map(|(_, broker)| *broker).collect();
        let rates =
            brokers.iter().map(|id| (id.to_string(), vec![(LOG_DIRS_RATE, rate.to_string())]));
        set_all(admin, ConfigResourceType::Broker, rates).await?;
        say(format!("The replica-alter-dir throttle limit was set to {rate} B/s"))?;
    }
    Ok(())
}

/// All moves: those under way, and those that the plan asks for.
fn moves<'a>(
    plan: &'a Plan,
    now: &BTreeMap<TopicPartition, Vec<BrokerId>>,
    under_way: &'a BTreeMap<TopicPartition, Reassignment>,
) -> BTreeMap<&'a TopicPartition, Move> {
    let current = under_way.iter().map(|(partition, it)| {
        let destinations: BTreeSet<BrokerId> = it.adding.iter().copied().collect();
        let sources = it.replicas.iter().copied().filter(|id| !destinations.contains(id));
        (partition, Move { sources: sources.collect(), destinations })
    });
    let mut moves: BTreeMap<&TopicPartition, Move> = current.collect();
    for (partition, target) in &plan.partitions {
        let sources = match moves.remove(partition) {
            Some(current) => current.sources,
            None => now.get(partition).into_iter().flatten().copied().collect(),
        };
        let destinations = target.iter().copied().filter(|id| !sources.contains(id)).collect();
        moves.insert(partition, Move { sources, destinations });
    }
    moves
}

/// The replicas that are throttled, by topic, each as `partition:broker`.
fn throttled(
    moves: &BTreeMap<&TopicPartition, Move>,
) -> impl Iterator<Item = (String, Vec<(&'static str, String)>)> {
    let mut topics: BTreeMap<String, [BTreeSet<String>; 2]> = BTreeMap::new();
    for (partition, it) in moves {
        let [leaders, followers] = topics.entry(partition.topic.to_string()).or_default();
        let replica = |id: &BrokerId| format!("{}:{id}", partition.partition);
        leaders.extend(it.sources.iter().map(replica));
        followers.extend(it.destinations.iter().map(replica));
    }
    topics.into_iter().map(|(topic, lists)| {
        let lists = REPLICAS.into_iter().zip(lists).map(|(key, list)| (key, joined(list)));
        (topic, lists.collect())
    })
}

async fn set_all(
    admin: &Admin,
    kind: ConfigResourceType,
    values: impl Iterator<Item = (String, Vec<(&'static str, String)>)>,
) -> Outcome {
    let changes = values.map(|(name, values)| {
        let values = values.into_iter();
        let changes = values.map(|(key, value)| (key.to_owned(), ConfigChange::Set(value)));
        (ConfigResource::new(kind, name), changes.collect())
    });
    let changes: BTreeMap<_, _> = changes.collect();
    if changes.is_empty() {
        return Ok(());
    }
    let answers = admin.incremental_alter_configs(&changes, false).await;
    answers.and_then(target::all_done).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_are_throttled_where_a_partition_is_and_followers_where_it_goes() {
        let plan = Plan::read(
            br#"{"partitions": [{"topic": "t", "partition": 0, "replicas": [2, 3]}, {"topic": "t", "partition": 1, "replicas": [1]}]}"#,
        );
        let plan = plan.unwrap_or_else(|stop| panic!("{stop:?}"));
        let partition = |number| TopicPartition::new("t", number);
        let now = BTreeMap::from([
            (partition(0), vec![BrokerId(1), BrokerId(2)]),
            (partition(1), vec![BrokerId(1)]),
        ]);
        let under_way = BTreeMap::new();
        let moves = moves(&plan, &now, &under_way);
        let lists: Vec<_> = throttled(&moves).collect();
        let expected =
            vec![(REPLICAS[0], "0:1,0:2,1:1".to_owned()), (REPLICAS[1], "0:3".to_owned())];
        assert_eq!(lists, [("t".to_owned(), expected)]);
    }
}
