//! Throttles of replicas that move (KIP-73): which configurations of brokers and topics they are, for `ottla partition reassign` and
//! `kafka-reassign-partitions`. What comes of them is the brokers' matter.

use std::collections::{BTreeMap, BTreeSet};

use ottla_client::{
    Admin, Answers, ClientError, ConfigChange, ConfigResource, ConfigResourceType, Reassignment,
};
use ottla_protocol::{BrokerId, TopicPartition};

/// Of brokers: what leaders send and what followers fetch, in bytes per second.
pub(crate) const RATES: [&str; 2] =
    ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];
/// Of topics: those of leaders and those of followers.
pub(crate) const REPLICAS: [&str; 2] =
    ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"];

/// Configurations to be changed.
pub(crate) type Changes = BTreeMap<ConfigResource, Vec<(String, ConfigChange)>>;

/// What a partition takes from where to where.
#[derive(Default)]
pub(crate) struct Move {
    sources: BTreeSet<BrokerId>,
    destinations: BTreeSet<BrokerId>,
}

/// All moves: those under way, and those that are asked for of partitions that are on the brokers `now`.
pub(crate) fn moves(
    targets: impl IntoIterator<Item = (TopicPartition, Vec<BrokerId>)>,
    now: &BTreeMap<TopicPartition, Vec<BrokerId>>,
    under_way: &BTreeMap<TopicPartition, Reassignment>,
) -> BTreeMap<TopicPartition, Move> {
    let current = under_way.iter().map(|(partition, it)| {
        let destinations: BTreeSet<BrokerId> = it.adding.iter().copied().collect();
        let sources = it.replicas.iter().copied().filter(|id| !destinations.contains(id));
        (partition.clone(), Move { sources: sources.collect(), destinations })
    });
    let mut moves: BTreeMap<TopicPartition, Move> = current.collect();
    for (partition, target) in targets {
        let sources = match moves.remove(&partition) {
            Some(current) => current.sources,
            None => now.get(&partition).into_iter().flatten().copied().collect(),
        };
        let destinations = target.iter().copied().filter(|id| !sources.contains(id)).collect();
        moves.insert(partition, Move { sources, destinations });
    }
    moves
}

/// Names the replicas that move, each as `partition:broker`.
pub(crate) fn named(moves: &BTreeMap<TopicPartition, Move>) -> Changes {
    let mut topics: BTreeMap<&str, [BTreeSet<String>; 2]> = BTreeMap::new();
    for (partition, it) in moves {
        let [leaders, followers] = topics.entry(&partition.topic).or_default();
        let replica = |id: &BrokerId| format!("{}:{id}", partition.partition);
        leaders.extend(it.sources.iter().map(replica));
        followers.extend(it.destinations.iter().map(replica));
    }
    let topics = topics.into_iter().map(|(topic, lists)| {
        let lists = REPLICAS.into_iter().zip(lists).map(|(key, list)| {
            let list: Vec<String> = list.into_iter().collect();
            (key.to_owned(), ConfigChange::Set(list.join(",")))
        });
        (ConfigResource::new(ConfigResourceType::Topic, topic), lists.collect())
    });
    topics.collect()
}

/// Has all brokers that take part in `moves` send, and fetch, no more than `rate` bytes per second.
pub(crate) fn limited(moves: &BTreeMap<TopicPartition, Move>, rate: i64) -> Changes {
    let brokers: BTreeSet<BrokerId> =
        moves.values().flat_map(|it| it.sources.union(&it.destinations)).copied().collect();
    set_rates(&brokers, &RATES, rate)
}

/// Sets `keys` of brokers to `rate`.
pub(crate) fn set_rates(brokers: &BTreeSet<BrokerId>, keys: &[&str], rate: i64) -> Changes {
    let change = ConfigChange::Set(rate.to_string());
    of_all(ConfigResourceType::Broker, brokers, keys, &change)
}

/// Takes `keys` off brokers, or off topics.
pub(crate) fn unset(
    kind: ConfigResourceType,
    names: impl IntoIterator<Item = impl ToString>,
    keys: &[&str],
) -> Changes {
    of_all(kind, names, keys, &ConfigChange::Delete)
}

fn of_all(
    kind: ConfigResourceType,
    names: impl IntoIterator<Item = impl ToString>,
    keys: &[&str],
    change: &ConfigChange,
) -> Changes {
    let changes = names.into_iter().map(|name| {
        let keys = keys.iter().map(|key| ((*key).to_owned(), change.clone()));
        (ConfigResource::new(kind, name.to_string()), keys.collect())
    });
    changes.collect()
}

/// Makes changes, if there are any.
pub(crate) async fn make(
    admin: &Admin,
    changes: &Changes,
) -> Result<Answers<ConfigResource>, ClientError> {
    match changes.is_empty() {
        true => Ok(Answers::default()),
        false => admin.incremental_alter_configs(changes, false).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_are_throttled_where_a_partition_is_and_followers_where_it_goes() {
        let partition = |number| TopicPartition::new("t", number);
        let [one, two, three] = [1, 2, 3].map(BrokerId);
        let now = BTreeMap::from([(partition(0), vec![one, two]), (partition(1), vec![one])]);
        let targets = [(partition(0), vec![two, three]), (partition(1), vec![one])];
        let moves = moves(targets, &now, &BTreeMap::new());
        let set = |key: &str, value: &str| (key.to_owned(), ConfigChange::Set(value.to_owned()));
        let topic = ConfigResource::new(ConfigResourceType::Topic, "t");
        let named_replicas = vec![set(REPLICAS[0], "0:1,0:2,1:1"), set(REPLICAS[1], "0:3")];
        assert_eq!(named(&moves), BTreeMap::from([(topic, named_replicas)]));
        let rates = limited(&moves, 5);
        assert_eq!(rates.len(), 3, "of every broker that sends or fetches");
        let broker = ConfigResource::new(ConfigResourceType::Broker, "3");
        assert_eq!(rates.get(&broker), Some(&vec![set(RATES[0], "5"), set(RATES[1], "5")]));
    }
}
