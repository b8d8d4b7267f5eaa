//! What a client knows of its cluster.

use std::collections::BTreeMap;

use ottla_protocol::messages::MetadataResponse;
use ottla_protocol::{BrokerId, ErrorCode, LeaderEpoch, TopicId};

use crate::client::endpoint;

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
        let mut topics = self.topics.clone();
        for topic in response.topics {
            let Some(name) = topic.name else { continue };
            let partitions = topic.partitions.iter().map(|partition| {
                let metadata = PartitionMetadata {
                    leader: broker_id(partition.leader_id),
                    leader_epoch: LeaderEpoch(partition.leader_epoch),
                    replicas: partition.replica_nodes.iter().copied().map(BrokerId).collect(),
                    isr: partition.isr_nodes.iter().copied().map(BrokerId).collect(),
                };
                (partition.partition_index, metadata)
            });
            let metadata = TopicMetadata {
                error_code: ErrorCode::from_wire(topic.error_code),
                topic_id: topic.topic_id,
                is_internal: topic.is_internal,
                partitions: partitions.collect(),
            };
            topics.insert(name.into_string(), metadata);
        }
        Self {
            cluster_id: response.cluster_id.map(|id| id.into_string()),
            controller: broker_id(response.controller_id),
            brokers: brokers.collect(),
            topics,
        }
    }
}

fn broker_id(id: i32) -> Option<BrokerId> {
    (id >= 0).then_some(BrokerId(id))
}
