//! What every node knows: the state that the metadata log adds up to.
//!
//! An image is a value. Cloning it copies a handful of pointers; a change copies only the branch it
//! touches (one topic, not all of them), so a reader keeps its snapshot at no cost while the next
//! one is made.

mod broker;
mod client_quotas;
mod config;
mod replay;
mod snapshot;
mod topic;

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_config::{BrokerConfig, ConfigProblem};
use ottla_protocol::{BrokerId, LeaderEpoch, Offset, TopicId};

use crate::sorted_map::{Difference, SortedMap};

pub use broker::BrokerRegistration;
pub(crate) use client_quotas::quota_record;
pub use client_quotas::{CLIENT_ID, ClientQuotas, IP, QuotaEntity, QuotaKey, USER};
pub use config::{ConfigResource, ResourceConfig};
pub use replay::ReplayError;
pub(crate) use topic::is_reserved_directory;
pub use topic::{LeaderRecoveryState, PartitionRegistration, TopicImage};

/// How far in the metadata log an image has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetadataPosition {
    /// Offset of the last record applied; -1 before the first.
    pub offset: Offset,
    /// Epoch of the controller that wrote it.
    pub epoch: LeaderEpoch,
}

impl MetadataPosition {
    /// Before the first record.
    pub const START: Self = Self { offset: Offset(-1), epoch: LeaderEpoch(0) };
}

impl Default for MetadataPosition {
    fn default() -> Self {
        Self::START
    }
}

/// Name of the feature that says which records may be written (KIP-778).
pub const METADATA_VERSION: &str = "metadata.version";

/// Everything the cluster agreed on, up to one position of the metadata log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataImage {
    position: MetadataPosition,
    brokers: SortedMap<BrokerId, Arc<BrokerRegistration>>,
    topics: SortedMap<Arc<str>, Arc<TopicImage>>,
    topic_names: SortedMap<TopicId, Arc<str>>,
    configs: SortedMap<ConfigResource, Arc<ResourceConfig>>,
    features: Arc<BTreeMap<Arc<str>, i16>>,
    next_producer_id: i64,
    client_quotas: SortedMap<QuotaEntity, Arc<ClientQuotas>>,
}

impl MetadataImage {
    /// How far the image has come.
    pub fn position(&self) -> MetadataPosition {
        self.position
    }

    /// Every registered broker, fenced ones too, by id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Arc<BrokerRegistration>> {
        self.brokers.iter().map(|(_, broker)| broker)
    }

    /// The registration of one broker.
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<BrokerRegistration>> {
        self.brokers.get(&id)
    }

    /// Whether partitions may be led by this broker: registered, not fenced, not on its way out.
    pub fn is_active(&self, id: BrokerId) -> bool {
        self.broker(id).is_some_and(|broker| broker.is_active())
    }

    /// Every topic, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicImage>> {
        self.topics.iter().map(|(_, topic)| topic)
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// The topic of that id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topic(self.topic_names.get(&id)?)
    }

    /// One partition of a topic, by the topic's name.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&Arc<PartitionRegistration>> {
        self.topic(topic)?.partition(partition)
    }

    /// Number of partitions in the cluster.
    pub fn partition_count(&self) -> usize {
        self.topics().map(|topic| topic.partitions.len()).sum()
    }

    /// What was configured for a resource; defaults are not in here. None if nothing was.
    pub fn config(&self, resource: &ConfigResource) -> Option<&Arc<ResourceConfig>> {
        self.configs.get(resource)
    }

    /// What was configured for a topic; None if nothing was.
    pub fn topic_config(&self, topic: &Arc<str>) -> Option<&Arc<ResourceConfig>> {
        self.config(&ConfigResource::Topic(topic.clone()))
    }

    /// The configuration of the node that was started with `started`, while these values are set
    /// for all brokers and for it; and what of them it cannot be given (KIP-226).
    pub fn broker_config(&self, started: &BrokerConfig) -> (BrokerConfig, Vec<ConfigProblem>) {
        let none = ResourceConfig::new();
        let set = |id| self.config(&ConfigResource::Broker(id)).map_or(&none, |set| set);
        started.with_dynamic(set(None), set(Some(started.node.node_id)))
    }

    /// The share of the cluster that a broker should have, relative to the others; 0 is none
    /// (`cluster.rebalance.weight`, as it is set for the broker or for all).
    pub fn broker_weight(&self, id: BrokerId) -> u32 {
        const KEY: &str = "cluster.rebalance.weight";
        let set = |id| self.config(&ConfigResource::Broker(id))?.get(KEY)?.trim().parse().ok();
        set(Some(id)).or_else(|| set(None)).unwrap_or(100)
    }

    /// Every resource with a configuration of its own.
    pub fn configs(
        &self,
    ) -> impl ExactSizeIterator<Item = (&ConfigResource, &Arc<ResourceConfig>)> {
        self.configs.iter()
    }

    /// The level of every feature that is on.
    pub fn features(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, i16)> {
        self.features.iter().map(|(name, level)| (name, *level))
    }

    /// The level of one feature; 0 if it is off.
    pub fn feature_level(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// First producer id that no broker was given yet.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    pub(crate) fn topic_differences<'a>(
        &'a self,
        new: &'a Self,
    ) -> Vec<Difference<'a, Arc<str>, Arc<TopicImage>>> {
        self.topics.differences(&new.topics)
    }

    pub(crate) fn config_differences<'a>(
        &'a self,
        new: &'a Self,
    ) -> Vec<Difference<'a, ConfigResource, Arc<ResourceConfig>>> {
        self.configs.differences(&new.configs)
    }

    pub(crate) fn broker_differences<'a>(
        &'a self,
        new: &'a Self,
    ) -> Vec<Difference<'a, BrokerId, Arc<BrokerRegistration>>> {
        self.brokers.differences(&new.brokers)
    }
}
