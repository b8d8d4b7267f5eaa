//! What differs between two images, for a broker to apply.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::BrokerId;

use crate::image::{BrokerRegistration, ConfigResource, MetadataImage, TopicImage};

/// What a batch of records, or a snapshot, changed.
///
/// It is the difference of two images, so it is right however the new one came about. What both
/// images share is skipped by its address: the cost grows with the change, not with the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataDelta {
    /// Topics that are gone, as they last were. A topic created again under its old name is here
    /// and in `created`.
    pub deleted: Vec<Arc<TopicImage>>,
    /// Topics that are new.
    pub created: Vec<Arc<TopicImage>>,
    /// Topics with partitions that are new or changed.
    pub changed: Vec<TopicDelta>,
    /// Resources with a configuration that is new, changed or gone.
    pub configs: BTreeSet<ConfigResource>,
    /// Brokers that registered, changed or (None) left.
    pub brokers: BTreeMap<BrokerId, Option<Arc<BrokerRegistration>>>,
    /// Whether the level of some feature changed.
    pub features: bool,
    /// Whether some client quota changed.
    pub client_quotas: bool,
}

/// What changed in a topic that stayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDelta {
    /// The topic as it is now.
    pub topic: Arc<TopicImage>,
    /// Numbers of the partitions that are new or changed.
    pub partitions: Vec<i32>,
}

impl MetadataDelta {
    /// What has to be done to get from one image to the other.
    pub fn between(old: &MetadataImage, new: &MetadataImage) -> Self {
        let mut delta = Self::default();
        delta.compare_topics(old, new);
        delta.compare_configs(old, new);
        delta.compare_brokers(old, new);
        delta.features = !old.features().eq(new.features());
        delta.client_quotas = new.client_quotas_differ(old);
        delta
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn compare_topics(&mut self, old: &MetadataImage, new: &MetadataImage) {
        for difference in old.topic_differences(new) {
            match (difference.old, difference.new) {
                (Some(before), Some(now)) if before.id == now.id => {
                    self.changed.extend(TopicDelta::between(before, now));
                }
                (before, now) => {
                    self.deleted.extend(before.cloned());
                    self.created.extend(now.cloned());
                }
            }
        }
    }

    fn compare_configs(&mut self, old: &MetadataImage, new: &MetadataImage) {
        let differences = old.config_differences(new).into_iter();
        self.configs = differences.map(|difference| difference.key.clone()).collect();
    }

    fn compare_brokers(&mut self, old: &MetadataImage, new: &MetadataImage) {
        let differences = old.broker_differences(new).into_iter();
        self.brokers = differences.map(|found| (*found.key, found.new.cloned())).collect();
    }
}

impl TopicDelta {
    fn between(old: &TopicImage, new: &Arc<TopicImage>) -> Option<Self> {
        let changed = new.partitions.iter().filter(|(number, partition)| {
            old.partition(**number).is_none_or(|before| before != *partition)
        });
        let partitions: Vec<i32> = changed.map(|(number, _)| *number).collect();
        (!partitions.is_empty()).then(|| Self { topic: new.clone(), partitions })
    }
}
