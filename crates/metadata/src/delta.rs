//! What differs between two images, for a broker to apply.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::BrokerId;

use crate::image::{BrokerRegistration, ConfigResource, MetadataImage, TopicImage};

/// What a batch of records, or a snapshot, changed.
///
/// It is the difference of two images, so it is right however the new one came about. Branches that
/// both images share are skipped by their address: a batch that touches no topic compares none.
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
        delta
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn compare_topics(&mut self, old: &MetadataImage, new: &MetadataImage) {
        if old.shares_topics(new) {
            return;
        }
        for topic in old.topics() {
            if new.topic(&topic.name).is_none_or(|now| now.id != topic.id) {
                self.deleted.push(topic.clone());
            }
        }
        for topic in new.topics() {
            match old.topic(&topic.name) {
                Some(before) if before.id == topic.id => {
                    if !Arc::ptr_eq(before, topic) {
                        self.changed.extend(TopicDelta::between(before, topic));
                    }
                }
                Some(_) | None => self.created.push(topic.clone()),
            }
        }
    }

    fn compare_configs(&mut self, old: &MetadataImage, new: &MetadataImage) {
        for (resource, config) in new.configs() {
            if old.config(resource) != Some(config) {
                self.configs.insert(resource.clone());
            }
        }
        let gone = old.configs().filter(|(resource, _)| new.config(resource).is_none());
        self.configs.extend(gone.map(|(resource, _)| resource.clone()));
    }

    fn compare_brokers(&mut self, old: &MetadataImage, new: &MetadataImage) {
        for broker in new.brokers() {
            if old.broker(broker.id) != Some(broker) {
                self.brokers.insert(broker.id, Some(broker.clone()));
            }
        }
        let gone = old.brokers().filter(|broker| new.broker(broker.id).is_none());
        self.brokers.extend(gone.map(|broker| (broker.id, None)));
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
