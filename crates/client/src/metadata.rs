//! What a client knows of its cluster.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ottla_protocol::messages::MetadataResponse;
use ottla_protocol::{
    BrokerId, ErrorCode, LeaderEpoch, LeaderIdAndEpoch, NodeEndpoint, TopicId, TopicPartition,
};

use crate::client::endpoint;

/// So many answers that know only of an earlier epoch than one of which no broker has told are taken for behind the times: a
/// minute of them, with the default `retry.backoff.ms`. Brokers that merely lag have caught up long before, and one that is cut
/// off, and the only one in reach, may be so; an epoch that is denied further belongs to a topic that had the name before.
const MAX_DENIALS: usize = 600;

/// Brokers and topics, as a Metadata response told them.
#[derive(Clone, Debug, Default)]
pub struct ClusterMetadata {
    /// The cluster's id, if it has told it.
    pub cluster_id: Option<String>,
    /// A broker that takes requests for the controller.
    pub controller: Option<BrokerId>,
    /// Where each broker is: `host:port`.
    pub brokers: BTreeMap<BrokerId, String>,
    /// The topics that were asked for, by name.
    pub topics: BTreeMap<String, TopicMetadata>,
    /// What was known of topics that are to be asked for again. Their epochs still count (KIP-320): the next broker that
    /// answers may lag behind.
    forgotten: BTreeMap<String, TopicMetadata>,
    /// What no broker has told yet, only a committed offset; also of topics that are not known.
    hearsay: BTreeMap<TopicPartition, Hearsay>,
}

/// An epoch that a partition is in, or that a topic of that name was in.
#[derive(Clone, Copy, Debug)]
struct Hearsay {
    epoch: LeaderEpoch,
    /// How many answers named a leader of an earlier one.
    denials: usize,
}

/// One topic.
#[derive(Clone, Debug)]
pub struct TopicMetadata {
    /// Why the rest is not known; or `NONE`.
    pub error_code: ErrorCode,
    /// Its id (KIP-516); zero if the broker does not say.
    pub topic_id: TopicId,
    /// Whether it is the cluster's own, like `__consumer_offsets`.
    pub is_internal: bool,
    /// Its partitions, by number.
    pub partitions: BTreeMap<i32, PartitionMetadata>,
}

/// One partition.
#[derive(Clone, Debug)]
pub struct PartitionMetadata {
    /// Its leader, if it has one.
    pub leader: Option<BrokerId>,
    /// The leader's epoch, or -1.
    pub leader_epoch: LeaderEpoch,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub isr: Vec<BrokerId>,
}

impl ClusterMetadata {
    /// Takes over what a response says; topics it does not name stay as they are.
    pub(crate) fn updated_by(&self, response: MetadataResponse) -> Self {
        let brokers = response
            .brokers
            .iter()
            .map(|broker| (BrokerId(broker.node_id), endpoint(broker.host.as_str(), broker.port)));
        let mut updated = self.clone();
        for topic in response.topics {
            let Some(name) = topic.name else { continue };
            updated.forget(name.as_str());
            // Of the topic with this id; one of the same name that is made anew begins at epoch 0.
            let known = updated.forgotten.get(name.as_str());
            let known = known.filter(|known| known.topic_id == topic.topic_id);
            let hearsay = &mut updated.hearsay;
            let partitions = topic.partitions.iter().map(|partition| {
                let number = partition.partition_index;
                let known = known.and_then(|known| known.partitions.get(&number));
                let told = PartitionMetadata {
                    leader: broker_id(partition.leader_id),
                    leader_epoch: LeaderEpoch(partition.leader_epoch),
                    replicas: partition.replica_nodes.iter().copied().map(BrokerId).collect(),
                    isr: partition.isr_nodes.iter().copied().map(BrokerId).collect(),
                };
                // A broker that lags behind tells of a leader that has been followed by another (KIP-320).
                let newer = known.filter(|known| known.leader_epoch > told.leader_epoch);
                let told = newer.cloned().unwrap_or(told);
                let told = match hearsay.is_empty() {
                    true => told,
                    false => weighed(hearsay, TopicPartition::new(name.as_str(), number), told),
                };
                (number, told)
            });
            let metadata = TopicMetadata {
                error_code: ErrorCode::from_wire(topic.error_code),
                topic_id: topic.topic_id,
                is_internal: topic.is_internal,
                partitions: partitions.collect(),
            };
            if metadata.error_code.is_none() {
                updated.forgotten.remove(name.as_str());
            }
            updated.topics.insert(name.into_string(), metadata);
        }
        updated.cluster_id = response.cluster_id.map(|id| id.into_string());
        updated.controller = broker_id(response.controller_id);
        updated.brokers = brokers.collect();
        updated
    }

    /// Takes over a response that names all topics there are.
    pub(crate) fn replaced_by(&self, response: MetadataResponse) -> Self {
        let mut known = self.clone();
        self.topics.keys().for_each(|topic| known.forget(topic));
        let mut updated = known.updated_by(response);
        updated.forgotten.retain(|topic, _| updated.topics.contains_key(topic));
        updated
    }

    /// What is to be asked for again where a broker cannot be reached: it may not lead any more what it led. `None` if it led
    /// nothing.
    pub(crate) fn cannot_reach(&self, address: &str) -> Option<Self> {
        let is_there = |id: Option<BrokerId>| {
            id.and_then(|id| self.brokers.get(&id)).is_some_and(|known| known == address)
        };
        let lost_controller = is_there(self.controller);
        let led = |topic: &TopicMetadata| topic.partitions.values().any(|it| is_there(it.leader));
        let mut stale = self.topics.iter().filter(|(_, topic)| led(topic)).peekable();
        if !lost_controller && stale.peek().is_none() {
            return None;
        }
        let mut left = self.clone();
        stale.for_each(|(topic, _)| left.forget(topic));
        left.controller = left.controller.filter(|_| !lost_controller);
        Some(left)
    }

    /// Has a topic asked for again; whoever tells of it then must not tell of the past.
    pub(crate) fn forget(&mut self, topic: &str) {
        let Some((name, known)) = self.topics.remove_entry(topic) else { return };
        if known.error_code.is_none() {
            self.forgotten.insert(name, known);
        }
    }

    /// Knows nothing of a topic any more: it is deleted.
    pub(crate) fn remove(&mut self, topic: &str) {
        self.topics.remove(topic);
        self.forgotten.remove(topic);
    }

    /// Whether a broker that tells of another leader is known to lead by now: it has only not heard of it yet.
    pub(crate) fn leads_later(
        &self,
        partition: &TopicPartition,
        broker: BrokerId,
        told: LeaderIdAndEpoch,
    ) -> bool {
        self.row(partition)
            .is_some_and(|it| it.leader == Some(broker) && it.leader_epoch > told.leader_epoch)
    }

    /// What is known once something of `epoch` was seen, such as a committed offset: brokers that tell of an earlier one lag
    /// behind (KIP-320), unless all do (see [`MAX_DENIALS`]). `None` if that is not news.
    pub(crate) fn saw_epoch(&self, partition: &TopicPartition, epoch: LeaderEpoch) -> Option<Self> {
        let told = self.row(partition).map(|row| row.leader_epoch);
        let heard = self.hearsay.get(partition).map(|hearsay| hearsay.epoch);
        if epoch <= told.max(heard).unwrap_or(LeaderEpoch::NONE) {
            return None;
        }
        let mut seen = self.clone();
        seen.hearsay.insert(partition.clone(), Hearsay { epoch, denials: 0 });
        if let Some(row) = seen.row_mut(partition) {
            row.leader = None;
        }
        Some(seen)
    }

    fn row(&self, partition: &TopicPartition) -> Option<&PartitionMetadata> {
        self.topics.get(&*partition.topic)?.partitions.get(&partition.partition)
    }

    fn row_mut(&mut self, partition: &TopicPartition) -> Option<&mut PartitionMetadata> {
        self.topics.get_mut(&*partition.topic)?.partitions.get_mut(&partition.partition)
    }

    /// What is known once a broker has told who leads a partition of the topic `topic_id` in its place (KIP-951); `None` if
    /// that is not news. Epochs of one topic say nothing of another that has its name by now (KIP-516).
    pub(crate) fn told_leader(
        &self,
        (partition, topic_id): (&TopicPartition, TopicId),
        told: LeaderIdAndEpoch,
        endpoints: &[NodeEndpoint],
    ) -> Option<Self> {
        let topic = self.topics.get(&*partition.topic).filter(|it| it.topic_id == topic_id)?;
        let known = topic.partitions.get(&partition.partition)?;
        let endpoint = endpoints.iter().find(|endpoint| endpoint.node_id == told.leader_id);
        let is_known = endpoint.is_some() || self.brokers.contains_key(&told.leader_id);
        let is_news = (told.leader_epoch, true) > (known.leader_epoch, known.leader.is_some());
        let is_denied = self.hearsay.get(partition).is_some_and(|it| it.epoch > told.leader_epoch);
        if !is_news || !is_known || is_denied {
            return None;
        }
        let mut learned = self.clone();
        if let Some(NodeEndpoint { host, port, .. }) = endpoint {
            learned.brokers.insert(told.leader_id, crate::client::endpoint(host.as_str(), *port));
        }
        let row = learned.row_mut(partition)?;
        (row.leader, row.leader_epoch) = (Some(told.leader_id), told.leader_epoch);
        learned.hearsay.remove(partition);
        Some(learned)
    }
}

/// What was told of a partition, without its leader as long as hearsay contradicts that: see [`MAX_DENIALS`].
fn weighed(
    hearsay: &mut BTreeMap<TopicPartition, Hearsay>,
    partition: TopicPartition,
    told: PartitionMetadata,
) -> PartitionMetadata {
    let Entry::Occupied(mut heard) = hearsay.entry(partition) else { return told };
    let Hearsay { epoch, denials } = heard.get_mut();
    *denials += usize::from(told.leader.is_some());
    if told.leader_epoch >= *epoch || *denials > MAX_DENIALS {
        heard.remove();
        return told;
    }
    PartitionMetadata { leader: None, ..told }
}

fn broker_id(id: i32) -> Option<BrokerId> {
    (id >= 0).then_some(BrokerId(id))
}

#[cfg(test)]
mod tests {
    use ottla_protocol::messages::metadata_response::{
        MetadataResponsePartition, MetadataResponseTopic,
    };
    use ottla_protocol::{StrBytes, message};

    use super::*;

    /// A response that names the leader of the only partition of a topic.
    fn leads(topic_id: u8, leader: i32, epoch: i32) -> MetadataResponse {
        let partition =
            message!(MetadataResponsePartition { leader_id: leader, leader_epoch: epoch });
        let topic = message!(MetadataResponseTopic {
            name: Some(StrBytes::from("orders")),
            topic_id: TopicId::from_bytes([topic_id; 16]),
            partitions: vec![partition],
        });
        message!(MetadataResponse { topics: vec![topic] })
    }

    #[test]
    fn a_broker_that_does_not_lead_tells_who_does_and_where_but_not_of_the_past() {
        let known = ClusterMetadata::default().updated_by(leads(1, 1, 5));
        let partition = TopicPartition::new("orders", 0);
        let told = |id, epoch| LeaderIdAndEpoch {
            leader_id: BrokerId(id),
            leader_epoch: LeaderEpoch(epoch),
        };
        let host = StrBytes::from("two");
        let endpoints = [NodeEndpoint { node_id: BrokerId(2), host, port: 9092, rack: None }];
        let orders = (&partition, TopicId::from_bytes([1; 16]));
        let learned = known.told_leader(orders, told(2, 6), &endpoints).unwrap();
        assert_eq!(leader(&learned), Some(BrokerId(2)));
        assert_eq!(learned.brokers[&BrokerId(2)], "two:9092");
        // Others have not heard of it yet.
        assert_eq!(leader(&learned.updated_by(leads(1, 1, 5))), Some(BrokerId(2)));
        let two = BrokerId(2);
        assert!(learned.leads_later(&partition, two, told(1, 5)), "2 has not heard of it");
        assert!(!learned.leads_later(&partition, BrokerId(1), told(1, 5)));
        assert!(!learned.leads_later(&partition, two, told(3, 7)));
        assert!(known.told_leader(orders, told(2, 5), &endpoints).is_none());
        assert!(known.told_leader(orders, told(3, 6), &endpoints).is_none(), "where is 3?");
        let before = (&partition, TopicId::from_bytes([9; 16]));
        assert!(known.told_leader(before, told(2, 6), &endpoints).is_none(), "of another topic");
    }

    fn leader(metadata: &ClusterMetadata) -> Option<BrokerId> {
        metadata.topics["orders"].partitions[&0].leader
    }

    #[test]
    fn a_leader_is_not_followed_by_one_before_it_but_a_new_topic_begins_anew() {
        let metadata = ClusterMetadata::default().updated_by(leads(1, 1, 5));
        let metadata = metadata.updated_by(leads(1, 2, 4));
        assert_eq!(leader(&metadata), Some(BrokerId(1)));
        let metadata = metadata.updated_by(leads(1, 3, 6));
        assert_eq!(leader(&metadata), Some(BrokerId(3)));
        let metadata = metadata.updated_by(leads(2, 2, 0));
        assert_eq!(leader(&metadata), Some(BrokerId(2)));
    }

    #[test]
    fn a_leader_of_an_earlier_epoch_than_a_committed_offset_is_not_asked() {
        let metadata = ClusterMetadata::default().updated_by(leads(1, 1, 5));
        let partition = TopicPartition::new("orders", 0);
        assert!(metadata.saw_epoch(&partition, LeaderEpoch(5)).is_none());
        let mut forgotten = metadata.clone();
        forgotten.forget("orders");
        for known in [metadata, forgotten, ClusterMetadata::default()] {
            let metadata = known.saw_epoch(&partition, LeaderEpoch(6)).unwrap();
            assert!(metadata.saw_epoch(&partition, LeaderEpoch(6)).is_none());
            let metadata = metadata.updated_by(leads(1, 1, 5));
            assert_eq!(leader(&metadata), None, "1 lags behind");
            let metadata = metadata.updated_by(leads(1, 2, 6));
            assert_eq!(leader(&metadata), Some(BrokerId(2)));
        }
    }

    #[test]
    fn a_committed_epoch_that_brokers_go_on_to_deny_was_of_another_topic_of_that_name() {
        let partition = TopicPartition::new("orders", 0);
        let heard = |known: &ClusterMetadata| known.saw_epoch(&partition, LeaderEpoch(6)).unwrap();
        let mut metadata = heard(&ClusterMetadata::default().updated_by(leads(1, 1, 5)));
        for _ in 0..MAX_DENIALS {
            metadata = metadata.updated_by(leads(1, 1, 5));
            assert_eq!(leader(&metadata), None, "it may lag behind");
            metadata.forget("orders");
        }
        metadata = metadata.updated_by(leads(1, 1, 5));
        assert_eq!(leader(&metadata), Some(BrokerId(1)));
        // Once a broker has told of it, it is as certain as any other.
        let mut metadata = heard(&metadata).updated_by(leads(1, 2, 6));
        for _ in 0..=MAX_DENIALS {
            metadata = metadata.updated_by(leads(1, 1, 5));
        }
        assert_eq!(leader(&metadata), Some(BrokerId(2)));
    }

    #[test]
    fn epochs_outlive_a_leader_that_cannot_be_reached_and_a_look_at_all_topics() {
        let mut metadata = ClusterMetadata::default().updated_by(leads(1, 1, 5));
        metadata.brokers.insert(BrokerId(1), "one:9092".to_owned());
        assert!(metadata.cannot_reach("two:9092").is_none());
        let metadata = metadata.cannot_reach("one:9092").unwrap();
        assert!(metadata.topics.is_empty());
        let metadata = metadata.replaced_by(leads(1, 2, 4));
        assert_eq!(leader(&metadata), Some(BrokerId(1)), "2 lags behind");
        let metadata = metadata.replaced_by(leads(1, 2, 4));
        assert_eq!(leader(&metadata), Some(BrokerId(1)), "2 lags behind");
        let mut nothing = leads(0, -1, -1);
        nothing.topics.clear();
        let metadata = metadata.replaced_by(nothing);
        assert_eq!(leader(&metadata.updated_by(leads(1, 2, 4))), Some(BrokerId(2)));
    }

    #[test]
    fn epochs_outlive_what_is_forgotten_and_brokers_that_do_not_know_the_topic() {
        let mut metadata = ClusterMetadata::default().updated_by(leads(1, 1, 5));
        metadata.forget("orders");
        assert!(metadata.topics.is_empty());
        let mut unheard_of = leads(0, -1, -1);
        unheard_of.topics[0].error_code = ErrorCode::UnknownTopicOrPartition.code();
        unheard_of.topics[0].partitions.clear();
        let mut metadata = metadata.updated_by(unheard_of);
        assert!(metadata.topics["orders"].partitions.is_empty());
        metadata.forget("orders");
        let metadata = metadata.updated_by(leads(1, 2, 4));
        assert_eq!(leader(&metadata), Some(BrokerId(1)), "2 lags behind");
        let mut metadata = metadata.updated_by(leads(1, 3, 5));
        assert_eq!(leader(&metadata), Some(BrokerId(3)));
        metadata.remove("orders");
        assert_eq!(leader(&metadata.updated_by(leads(1, 2, 4))), Some(BrokerId(2)));
    }
}
