//! Which partitions are here: follows the metadata image.
//!
//! A partition whose log directory is not online (KIP-858) is never made anew elsewhere: what was acknowledged lies there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use indexmap::IndexMap;
use ottla_config::{BrokerConfig, LogConfig};
use ottla_env::Env;
use ottla_metadata::{
    ConfigResource, MetadataDelta, MetadataImage, PartitionRegistration, TopicImage,
};
use ottla_protocol::{BrokerEpoch, BrokerId, TopicId, TopicPartition, TopicRef, Uuid};
use ottla_replication::Replicas;
use ottla_storage::{CreateLogError, Log, LogDir, LogManager};
use tracing::{error, info, warn};

use super::alter_partition::AskController;
use super::context::ReplicaContext;
use super::partition::Partition;
use super::replica_fetcher::ReplicaFetchers;
use crate::quotas::ReplicationQuotas;

/// Holds the partitions of this node and keeps them as the controller says.
pub(crate) struct ReplicaManager {
    local: BrokerId,
    config: ArcSwap<BrokerConfig>,
    logs: Arc<LogManager>,
    context: Arc<ReplicaContext>,
    fetchers: ReplicaFetchers,
    partitions: ArcSwap<PartitionTable>,
    /// Whether the image that there was at the start has been applied: partitions that come later are new.
    started: AtomicBool,
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
    /// Those that should be here but have no log. To clients they are a `KAFKA_STORAGE_ERROR`.
    missing: BTreeMap<i32, Missing>,
}

/// Why a partition is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// The directory with its log is not online, and will not be before a restart. Kafka's `HostedPartition.Offline`.
    Offline,
    /// There was no room to make its log: it is tried again.
    NotMade,
}

impl Missing {
    fn because(reason: &CreateLogError) -> Self {
        match reason {
            CreateLogError::Storage(_) => Self::NotMade,
            CreateLogError::NotOnline { .. } | CreateLogError::InconsistentTopicId { .. } => {
                Self::Offline
            }
        }
    }
}

/// How many partitions there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionCounts {
    pub(crate) here: usize,
    pub(crate) leading: usize,
    /// Those that should be here, but have no log.
    pub(crate) offline: usize,
}

/// Where a partition's log lies, if that is not what the controller knows (KIP-858).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) topic: TopicId,
    pub(crate) partition: i32,
    pub(crate) dir: Uuid,
}

/// What a change of the image did to the partitions here.
#[derive(Default)]
pub(crate) struct Applied {
    /// Partitions that this broker leads now and did not before, or in a newer epoch.
    pub(crate) leading: Vec<Arc<Partition>>,
    /// Partitions that it does not lead any more.
    pub(crate) resigned: Vec<TopicPartition>,
    /// Partitions whose directory the controller has to be told.
    pub(crate) placed: Vec<Placement>,
    /// Partitions that another broker leads.
    following: Vec<Arc<Partition>>,
    /// Partitions that lie on other brokers now.
    removed: Vec<Arc<Partition>>,
}

impl ReplicaManager {
    /// The partitions of the broker `local`, which is registered in `epoch`; none so far.
    pub(crate) fn new(
        env: &Env,
        (local, epoch): (BrokerId, BrokerEpoch),
        config: Arc<BrokerConfig>,
        logs: Arc<LogManager>,
    ) -> Self {
        let context = ReplicaContext::new((local, epoch), Arc::clone(&env.clock), &config);
        let context = Arc::new(context);
        let fetchers = ReplicaFetchers::new(env, &config, &context, &logs);
        let (started, config) = (AtomicBool::new(false), ArcSwap::new(config));
        Self { local, config, logs, context, fetchers, partitions: ArcSwap::default(), started }
    }

    /// How fast replicas may be fetched that are not in sync.
    pub(crate) fn quotas(&self) -> &ReplicationQuotas {
        self.context.quotas()
    }

    pub(crate) fn logs(&self) -> &Arc<LogManager> {
        &self.logs
    }

    /// The registration under which this broker fetches.
    pub(crate) fn epoch(&self) -> BrokerEpoch {
        self.context.epoch()
    }

    /// The broker has registered anew: it fetches in that epoch from now on (KIP-903).
    pub(crate) fn set_epoch(&self, epoch: BrokerEpoch) {
        self.context.set_epoch(epoch);
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

    /// Makes the first offsets of all logs survive a power loss, and answers the directories where that failed. Blocks on
    /// the disk.
    pub(crate) fn keep_log_starts(&self) -> Vec<Arc<LogDir>> {
        self.logs.checkpoint_log_starts().into_iter().map(|(dir, _)| dir).collect()
    }

    /// Goes on with another configuration: topics without a value of their own follow it. Called in turn with
    /// [`apply`](Self::apply).
    pub(crate) fn reconfigure(&self, config: Arc<BrokerConfig>, image: &MetadataImage) {
        self.context.quotas().set(config.replica_manager.throttle);
        self.config.store(config);
        for (name, topic) in &self.partitions.load().by_name {
            let config = self.log_config(image, name);
            for partition in topic.partitions.values() {
                partition.config_changed(config.clone());
            }
        }
    }

    /// Brings the partitions from one image to the next. Called in the order of the metadata log, by one caller.
    pub(crate) fn apply(&self, delta: &MetadataDelta, image: &MetadataImage) -> Applied {
        let mut applied = Applied::default();
        let starts = !self.started.load(Ordering::Relaxed);
        if starts {
            let read = image.position().offset;
            self.logs.compare_with_metadata(read, |log| self.belongs(log, image));
        }
        if !delta.brokers.is_empty() {
            self.context.brokers_changed(image);
            self.fetchers.brokers_changed(image);
        }
        if !(delta.deleted.is_empty() && delta.created.is_empty() && delta.changed.is_empty()) {
            self.apply_topics(delta, image, &mut applied);
        }
        self.apply_configs(&delta.configs, image);
        if !delta.brokers.is_empty() {
            // A follower that was not let into an ISR before may be now.
            self.check_isrs();
        }
        self.logs.metadata_was_read(image.position().offset);
        if starts {
            self.logs.settle_unclaimed(|log| self.belongs(log, image));
            self.logs.note_metadata();
            self.started.store(true, Ordering::Relaxed);
        }
        applied
    }

    /// Whether a log that was found at the start is the log of a partition of this broker. Without an id, which a power loss
    /// may take before there is a record, its name has to do (KIP-516).
    fn belongs(&self, log: &Log, image: &MetadataImage) -> bool {
        let name = log.partition();
        let topic = match log.topic_id() {
            Some(id) => image.topic_by_id(id),
            None => image.topic(&name.topic),
        };
        let topic = topic.filter(|topic| topic.name == name.topic);
        let partition = topic.and_then(|topic| topic.partition(name.partition));
        partition.is_some_and(|partition| partition.replicas.contains(&self.local))
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
        let gone = gone.iter().flat_map(|topic| topic.partitions.values());
        let gone: Vec<_> = gone.chain(&applied.removed).collect();
        gone.iter().for_each(|partition| partition.retire());
        self.fetchers.unfollow(gone.iter().map(|partition| partition.name()));
        // What it follows already, from the same leader in the same epoch, is no news to a fetcher: often only an ISR changed.
        self.fetchers.follow(std::mem::take(&mut applied.following));
        self.fetchers.unfollow(applied.leading.iter().map(|partition| partition.name()));
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
            None => TopicPartitions {
                id: topic.id,
                partitions: BTreeMap::new(),
                missing: BTreeMap::new(),
            },
        };
        let config = self.log_config(image, &topic.name);
        for index in changed {
            let Some(registration) = topic.partition(index) else { continue };
            if !registration.replicas.contains(&self.local) {
                here.missing.remove(&index);
                self.stop_replica(here.partitions.remove(&index), applied);
                continue;
            }
            let known = here.partitions.get(&index).cloned();
            let epoch_before = known.as_ref().map(|partition| partition.leader_epoch());
            let opened = match (known, here.missing.get(&index)) {
                (Some(known), _) => Ok(known),
                (None, Some(Missing::Offline)) if !self.is_replaced(registration) => continue,
                (None, _) => self.open(topic, index, registration, &config),
            };
            let partition = match opened {
                Ok(partition) => partition,
                Err(reason) => {
                    let missing = Missing::because(&reason);
                    if here.missing.insert(index, missing) != Some(missing) {
                        warn!(topic = %topic.name, partition = index, %reason, "the log is not here");
                    }
                    continue;
                }
            };
            here.missing.remove(&index);
            applied.placed.extend(self.placement(topic, index, registration, &partition.log()));
            partition.reassignment_changed(&registration.adding_replicas);
            partition.replicas_changed(replicas_of(registration));
            if !partition.is_leader() {
                applied.resigned.push(partition.name().clone());
                applied.following.push(Arc::clone(&partition));
            } else if epoch_before != Some(partition.leader_epoch()) {
                applied.leading.push(Arc::clone(&partition));
            }
            here.partitions.insert(index, partition);
        }
        if here.partitions.is_empty() && here.missing.is_empty() {
            table.names.swap_remove(&here.id);
            table.by_name.swap_remove(&topic.name);
            return;
        }
        table.names.insert(here.id, Arc::clone(&topic.name));
        table.by_name.insert(Arc::clone(&topic.name), Arc::new(here));
    }

    /// A reassignment has taken the partition elsewhere: its log is deleted. Kafka's StopReplica.
    fn stop_replica(&self, partition: Option<Arc<Partition>>, applied: &mut Applied) {
        let Some(partition) = partition else { return };
        let name = partition.name().clone();
        if let Err(error) = self.logs.delete_log(&name) {
            error!(partition = %name, %error, "could not delete the log of a partition that moved to other brokers");
        }
        info!(partition = %name, "the partition lies on other brokers now: its log is deleted here");
        applied.resigned.push(name);
        applied.removed.push(partition);
    }

    /// Opens the log of a partition, or makes it.
    fn open(
        &self,
        topic: &TopicImage,
        index: i32,
        registration: &PartitionRegistration,
        config: &LogConfig,
    ) -> Result<Arc<Partition>, CreateLogError> {
        let name = TopicPartition::new(Arc::clone(&topic.name), index);
        let log = self.claim_log(&name, topic.id, registration, config)?;
        let replicas = replicas_of(registration);
        Ok(Arc::new(Partition::new((name, topic.id), log, replicas, &self.context)))
    }

    /// The log of a partition; a new one only where there cannot be an old one.
    fn claim_log(
        &self,
        name: &TopicPartition,
        topic: TopicId,
        registration: &PartitionRegistration,
        config: &LogConfig,
    ) -> Result<Arc<Log>, CreateLogError> {
        let create = |dir| self.logs.create_log_in(dir, name, topic, config.clone());
        let assigned =
            registration.directory(self.local).filter(|_| !self.is_replaced(registration));
        let is_new = self.started.load(Ordering::Relaxed);
        let offline = self.logs.offline_dirs();
        let claimed = match (assigned, offline.first()) {
            // It may lie in the directory that nobody can look into.
            (None, Some(dir)) if !is_new && self.logs.log(name).is_none() => {
                return Err(CreateLogError::NotOnline {
                    partition: name.clone(),
                    dir: dir.id().unwrap_or_default(),
                });
            }
            (assigned, _) => create(assigned),
        };
        match claimed {
            // A topic that was deleted and created again while this node was down left a log that is not this topic's
            // (KIP-516).
            Err(CreateLogError::InconsistentTopicId { .. }) => {
                self.logs.delete_or_set_aside(name)?;
                create(assigned)
            }
            claimed => claimed,
        }
    }

    /// Whether the directory that held a replica was replaced: all of this node's are at work, and it is none of them. What it
    /// held is gone, and a leader elsewhere has it (Kafka's `LogManager.getOrCreateLog`). Where nobody else leads it stays
    /// away: an empty log would look as if nothing was lost.
    fn is_replaced(&self, registration: &PartitionRegistration) -> bool {
        let dir = registration.directory(self.local);
        registration.leader.is_some_and(|leader| leader != self.local)
            && self.logs.offline_dirs().is_empty()
            && dir.is_some_and(|dir| !self.logs.online_dirs().contains(&dir))
    }

    /// What the controller does not know yet of where a log lies.
    fn placement(
        &self,
        topic: &TopicImage,
        partition: i32,
        registration: &PartitionRegistration,
        log: &Log,
    ) -> Option<Placement> {
        let dir = log.log_dir().id()?;
        let known = registration.directory(self.local) == Some(dir);
        (!known).then_some(Placement { topic: topic.id, partition, dir })
    }

    /// Looks at the disks: partitions in a directory that failed are offline from now on, and logs that could not be made are
    /// tried again. Called about once a second, in turn with [`apply`](Self::apply).
    pub(crate) fn check_disks(&self, image: &MetadataImage) -> Applied {
        let mut applied = Applied::default();
        let (mut failed, mut not_made) = (Vec::new(), Vec::new());
        for (name, topic) in &self.partitions.load().by_name {
            let failing = |part: &&Arc<Partition>| part.log().log_dir().failure().is_some();
            failed.extend(topic.partitions.values().filter(failing).cloned());
            let missing = topic.missing.iter().filter(|(_, why)| **why == Missing::NotMade);
            not_made.extend(missing.map(|(index, _)| (Arc::clone(name), *index)));
        }
        if failed.is_empty() && not_made.is_empty() {
            return applied;
        }
        let mut table = PartitionTable::clone(&self.partitions.load());
        for partition in &failed {
            let name = partition.name();
            if let Some(topic) = table.by_name.get_mut(&name.topic).map(Arc::make_mut) {
                topic.partitions.remove(&name.partition);
                topic.missing.insert(name.partition, Missing::Offline);
                applied.resigned.push(name.clone());
            }
        }
        for (name, index) in not_made {
            if let Some(topic) = image.topic(&name) {
                self.update(&mut table, topic, std::iter::once(index), image, &mut applied);
            }
        }
        self.partitions.store(Arc::new(table));
        // Only now does whoever looks again find them offline.
        failed.iter().for_each(|partition| partition.retire());
        self.fetchers.unfollow(failed.iter().map(|partition| partition.name()));
        self.fetchers.follow(std::mem::take(&mut applied.following));
        if !failed.is_empty() {
            error!(partitions = failed.len(), "partitions are offline with their log directory");
        }
        applied
    }

    /// Looks for followers that are to leave an ISR, or to join one.
    pub(crate) fn check_isrs(&self) {
        let table = self.partitions.load();
        for partition in table.by_name.values().flat_map(|topic| topic.partitions.values()) {
            partition.check_isr();
        }
    }

    /// Asks the controller for other ISRs, for as long as the node runs.
    pub(crate) fn run_isr_changes(
        &self,
        env: &Env,
        ask: AskController,
    ) -> impl Future<Output = ()> + Send + 'static {
        let changes = Arc::clone(self.context.isr_changes());
        changes.run(Arc::clone(&self.context), Arc::clone(&env.clock), ask)
    }

    /// Stops fetching from other brokers.
    pub(crate) async fn shutdown(&self) {
        self.fetchers.shutdown().await;
    }

    /// How many partitions there are.
    pub(crate) fn counts(&self) -> PartitionCounts {
        let table = self.partitions.load();
        let mut counts = PartitionCounts::default();
        for topic in table.by_name.values() {
            counts.here += topic.partitions.len();
            counts.offline += topic.missing.len();
            counts.leading += topic.partitions.values().filter(|it| it.is_leader()).count();
        }
        counts
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
                // See `reconfigure`; the others have nothing to do with partitions.
                ConfigResource::Broker(_)
                | ConfigResource::ClientMetrics(_)
                | ConfigResource::Group(_) => {}
            }
        }
    }

    fn log_config(&self, image: &MetadataImage, topic: &Arc<str>) -> LogConfig {
        let broker = self.config.load();
        let defaults = &broker.log_manager.defaults;
        let Some(overrides) = image.topic_config(topic) else { return defaults.clone() };
        broker.log_config(overrides.iter()).unwrap_or_else(|reason| {
            // The controller checked it; an older release may have allowed what this one does not.
            error!(%topic, %reason, "the configuration of the topic is not valid: using the defaults");
            defaults.clone()
        })
    }
}

fn replicas_of(registration: &PartitionRegistration) -> Replicas {
    Replicas {
        leader: registration.leader.unwrap_or(BrokerId::NONE),
        leader_epoch: registration.leader_epoch,
        partition_epoch: registration.partition_epoch,
        assigned: registration.replicas.clone(),
        in_sync: registration.isr.iter().copied().collect(),
    }
}
