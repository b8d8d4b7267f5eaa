//! Which partitions are here: follows the metadata image.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use indexmap::IndexMap;
use ottla_config::{BrokerConfig, LogConfig};
use ottla_metadata::{
    ConfigResource, MetadataDelta, MetadataImage, PartitionRegistration, TopicImage,
};
use ottla_protocol::topic_name::is_internal;
use ottla_protocol::{BrokerId, TopicId, TopicPartition, TopicRef};
use ottla_replication::{Partition as Replica, Replicas};
use ottla_storage::LogManager;
use tracing::{error, info, warn};

use super::partition::Partition;

/// Holds the partitions of this node and keeps them as the controller says.
pub(crate) struct ReplicaManager {
    local: BrokerId,
    config: Arc<BrokerConfig>,
    logs: Arc<LogManager>,
    partitions: ArcSwap<PartitionTable>,
}

/// The partitions by topic. A change copies the table's pointers, so that lookups need no lock.
#[derive(Clone, Default)]
struct PartitionTable {
    by_name: IndexMap<Arc<str>, Arc<TopicPartitions>>,
    names: IndexMap<TopicId, Arc<str>>,
}

/// The partitions of one topic that lie here.
#[derive(Clone)]
struct TopicPartitions {
    id: TopicId,
    partitions: BTreeMap<i32, Arc<Partition>>,
}

/// What a change of the image did to the partitions here.
#[derive(Default)]
pub(crate) struct Applied {
    /// Partitions that this broker leads now and did not before, or in a newer epoch.
    pub(crate) leading: Vec<Arc<Partition>>,
    /// Partitions that it does not lead any more.
    pub(crate) resigned: Vec<TopicPartition>,
}

impl ReplicaManager {
    pub(crate) fn new(local: BrokerId, config: Arc<BrokerConfig>, logs: Arc<LogManager>) -> Self {
        Self { local, config, logs, partitions: ArcSwap::default() }
    }

    /// The partition by whichever name a request gave its topic.
    pub(crate) fn find(&self, topic: &TopicRef, partition: i32) -> Option<Arc<Partition>> {
        let table = self.partitions.load();
        let topic = match topic {
            TopicRef::Name(name) => table.by_name.get(name.as_str()),
            TopicRef::Id(id) => table.by_name.get(table.names.get(id)?),
        };
        topic?.partitions.get(&partition).cloned()
    }

    /// Whether any partition of a topic is here, or should be but has no log. Not any more while the topic is deleted.
    pub(crate) fn has_topic(&self, topic: &TopicRef) -> bool {
        let table = self.partitions.load();
        match topic {
            TopicRef::Name(name) => table.by_name.contains_key(name.as_str()),
            TopicRef::Id(id) => table.names.contains_key(id),
        }
    }

    /// Makes the first offsets of all logs survive a power loss. A directory that fails says so. Blocks on the disk.
    pub(crate) fn keep_log_starts(&self) {
        self.logs.checkpoint_log_starts();
    }

    /// Brings the partitions from one image to the next. Called in the order of the metadata log, by one caller.
    pub(crate) fn apply(&self, delta: &MetadataDelta, image: &MetadataImage) -> Applied {
        let mut applied = Applied::default();
        if !(delta.deleted.is_empty() && delta.created.is_empty() && delta.changed.is_empty()) {
            self.apply_topics(delta, image, &mut applied);
        }
        self.apply_configs(&delta.configs, image);
        applied
    }

    fn apply_topics(&self, delta: &MetadataDelta, image: &MetadataImage, applied: &mut Applied) {
        let mut table = PartitionTable::clone(&self.partitions.load());
        let deleted = delta.deleted.iter();
        let gone: Vec<_> =
            deleted.filter_map(|topic| self.delete(&mut table, topic, applied)).collect();
        for topic in &delta.created {
            let all = topic.partitions.keys().copied();
            self.update(&mut table, topic, all, image, applied);
        }
        for change in &delta.changed {
            let changed = change.partitions.iter().copied();
            self.update(&mut table, &change.topic, changed, image, applied);
        }
        self.partitions.store(Arc::new(table));
        // Only now does whoever looks again find that they are gone.
        for partition in gone.iter().flat_map(|topic| topic.partitions.values()) {
            partition.wake_waiters();
        }
    }

    /// Deletes the logs of a topic, and answers its partitions here.
    fn delete(
        &self,
        table: &mut PartitionTable,
        topic: &TopicImage,
        applied: &mut Applied,
    ) -> Option<Arc<TopicPartitions>> {
        table.names.swap_remove(&topic.id);
        let gone = table.by_name.swap_remove(&topic.name)?;
        for partition in gone.partitions.values() {
            let name = partition.name().clone();
            if let Err(error) = self.logs.delete_log(&name) {
                error!(partition = %name, %error, "could not delete the log of a deleted topic");
            }
            applied.resigned.push(name);
        }
        info!(topic = %topic.name, "topic deleted");
        Some(gone)
    }

    fn update(
        &self,
        table: &mut PartitionTable,
        topic: &TopicImage,
        changed: impl Iterator<Item = i32>,
        image: &MetadataImage,
        applied: &mut Applied,
    ) {
        let mut here = match table.by_name.get(&topic.name) {
            Some(known) => TopicPartitions::clone(known),
            None => TopicPartitions { id: topic.id, partitions: BTreeMap::new() },
        };
        let config = self.log_config(image, &topic.name);
        for index in changed {
            let Some(registration) = topic.partition(index) else { continue };
            if !registration.replicas.contains(&self.local) {
                continue;
            }
            let known = here.partitions.get(&index).cloned();
            let epoch_before = known.as_ref().map(|partition| partition.leader_epoch());
            let partition = known.or_else(|| self.open(topic, index, registration, &config));
            let Some(partition) = partition else { continue };
            partition.replicas_changed(replicas_of(registration));
            if !partition.is_leader() {
                applied.resigned.push(partition.name().clone());
            } else if epoch_before != Some(partition.leader_epoch()) {
                applied.leading.push(Arc::clone(&partition));
            }
            here.partitions.insert(index, partition);
        }
        table.names.insert(here.id, Arc::clone(&topic.name));
        table.by_name.insert(Arc::clone(&topic.name), Arc::new(here));
    }

    /// Opens the log of a partition, or makes it.
    fn open(
        &self,
        topic: &TopicImage,
        index: i32,
        registration: &PartitionRegistration,
        config: &LogConfig,
    ) -> Option<Arc<Partition>> {
        let name = TopicPartition::new(Arc::clone(&topic.name), index);
        if config.cleanup_policy.compact && index == 0 && !is_internal(&topic.name) {
            warn!(topic = %topic.name, "cleanup.policy asks for compaction, which is not served yet: everything is kept");
        }
        self.remove_stale_log(&name, topic.id);
        let log = match self.logs.log(&name) {
            Some(log) => {
                log.update_config(config.clone());
                log
            }
            None => match self.logs.create_log(&name, topic.id, config.clone()) {
                Ok(log) => log,
                Err(error) => {
                    // Without a log the partition is not here: clients get KAFKA_STORAGE_ERROR until it is.
                    error!(partition = %name, %error, "could not create the log");
                    return None;
                }
            },
        };
        let replicas = replicas_of(registration);
        log.assign_epoch_start(replicas.leader_epoch);
        let replica =
            Replica::new(self.local, replicas, log.log_end_offset(), log.high_watermark());
        Some(Arc::new(Partition::new(name, log, replica)))
    }

    /// A topic that was deleted and created again while this node was down left a log that is not this topic's (KIP-516).
    fn remove_stale_log(&self, name: &TopicPartition, id: TopicId) {
        let stale = self.logs.log(name).and_then(|log| log.topic_id()).filter(|found| *found != id);
        if stale.is_some() {
            warn!(partition = %name, "removing the log of a deleted topic of the same name");
            if let Err(error) = self.logs.delete_log(name) {
                error!(partition = %name, %error, "could not remove it");
            }
        }
    }

    fn apply_configs(&self, changed: &BTreeSet<ConfigResource>, image: &MetadataImage) {
        let table = self.partitions.load();
        for resource in changed {
            match resource {
                ConfigResource::Topic(name) => {
                    let Some(topic) = table.by_name.get(name) else { continue };
                    let config = self.log_config(image, name);
                    for partition in topic.partitions.values() {
                        partition.config_changed(config.clone());
                    }
                }
                // No key of a broker can be changed while it runs so far.
                ConfigResource::Broker(_) => {}
            }
        }
    }

    fn log_config(&self, image: &MetadataImage, topic: &Arc<str>) -> LogConfig {
        let defaults = &self.config.log_manager.defaults;
        let Some(overrides) = image.topic_config(topic) else { return defaults.clone() };
        self.config.log_config(overrides.iter()).unwrap_or_else(|reason| {
            // The controller checked it; an older release may have allowed what this one does not.
            error!(%topic, %reason, "the configuration of the topic is not valid: using the defaults");
            defaults.clone()
        })
    }
}

fn replicas_of(registration: &PartitionRegistration) -> Replicas {
    /// No broker has this id: a partition without a leader is led by nobody here.
    const NOBODY: BrokerId = BrokerId(-1);
    Replicas {
        leader: registration.leader.unwrap_or(NOBODY),
        leader_epoch: registration.leader_epoch,
        assigned: registration.replicas.clone(),
        in_sync: registration.isr.iter().copied().collect(),
    }
}
