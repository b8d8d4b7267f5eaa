//! Who leads a partition when brokers come and go.

use std::sync::Arc;

use ottla_protocol::{BrokerId, Uuid};

use super::super::{Controller, Outcome};
use super::partition_change::Election;
use crate::image::{PartitionRegistration, TopicImage};
use crate::record::{MetadataRecord, PartitionChangeRecord};

/// At most so many leaders are elected in one batch when nobody asks for it. Kafka's
/// `MAX_ELECTIONS_PER_IMBALANCE`.
pub(crate) const MAX_ELECTIONS: usize = 1_000;

/// The broker that goes, the one that comes and the disks that fail, whatever the image still says
/// of them.
#[derive(Clone, Copy, Default)]
struct Movement<'a> {
    leaving: Option<BrokerId>,
    /// Who goes may have lost records (KIP-966).
    is_unclean: bool,
    joining: Option<BrokerId>,
    failing: &'a [Uuid],
}

impl Movement<'_> {
    /// Whether a partition can change by it.
    fn concerns(&self, partition: &PartitionRegistration) -> bool {
        let is_replica =
            |id: Option<BrokerId>| id.is_some_and(|id| partition.replicas.contains(&id));
        is_replica(self.leaving)
            || is_replica(self.joining) && partition.leader.is_none()
            || partition.directories.iter().any(|dir| self.failing.contains(dir))
    }
}

impl Controller {
    /// The changes to every partition that follow when `leaving` may no longer lead, or `joining`
    /// may again.
    pub(crate) fn leader_and_isr_updates(
        &self,
        leaving: Option<BrokerId>,
        joining: Option<BrokerId>,
    ) -> Vec<MetadataRecord> {
        self.updates_after(Movement { leaving, joining, ..Movement::default() })
    }

    /// The changes that follow when a broker is gone and nobody knows what it lost: it is not eligible
    /// to lead any more (KIP-966).
    pub(crate) fn unclean_shutdown_updates(&self, broker: BrokerId) -> Vec<MetadataRecord> {
        let leaving = Some(broker);
        self.updates_after(Movement { leaving, is_unclean: true, ..Movement::default() })
    }

    /// Gives leadership back to preferred replicas that are in sync, of at most so many partitions as
    /// one batch should name; whether there may be more (`auto.leader.rebalance.enable`).
    pub fn rebalance_leaders(&self) -> Outcome<bool> {
        let is_imbalanced = |partition: &PartitionRegistration| {
            partition.leader.is_some() && partition.leader != partition.replicas.first().copied()
        };
        self.elect_where(is_imbalanced, |_| Some(Election::Preferred))
    }

    /// Elects leaders of partitions without one, in topics that rather lose records than wait
    /// (`unclean.leader.election.interval.ms`); whether there may be more.
    pub fn elect_unclean_leaders(&self) -> Outcome<bool> {
        let elect =
            |topic: &TopicImage| self.may_elect_uncleanly(topic).then_some(Election::Unclean);
        self.elect_where(|partition| partition.leader.is_none(), elect)
    }

    fn elect_where(
        &self,
        needs: impl Fn(&PartitionRegistration) -> bool,
        election_of: impl Fn(&TopicImage) -> Option<Election>,
    ) -> Outcome<bool> {
        let mut records = Vec::new();
        for topic in self.image.topics() {
            let needy = topic.partitions.iter().filter(|(_, partition)| needs(partition));
            for (number, partition) in needy {
                let Some(election) = election_of(topic) else { break };
                if records.len() == MAX_ELECTIONS {
                    return Outcome { records, answer: true };
                }
                let mut target = self.target(topic, *number, partition);
                target.election = election;
                records.extend(self.change_to(target).map(MetadataRecord::PartitionChange));
            }
        }
        Outcome { records, answer: false }
    }

    /// The changes to every partition that follow when these log directories fail (KIP-858).
    pub(crate) fn failed_dir_updates(&self, failing: &[Uuid]) -> Vec<MetadataRecord> {
        self.updates_after(Movement { failing, ..Movement::default() })
    }

    fn updates_after(&self, movement: Movement<'_>) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        for topic in self.image.topics() {
            for (number, partition) in &topic.partitions {
                let change = self.partition_change(topic, *number, partition, movement);
                records.extend(change.map(MetadataRecord::PartitionChange));
            }
        }
        records
    }

    /// Whether any partition is led by this broker.
    pub(crate) fn leads_any(&self, broker: BrokerId) -> bool {
        let mut topics = self.image.topics();
        topics.any(|topic| topic.partitions.values().any(|part| part.leader == Some(broker)))
    }

    fn partition_change(
        &self,
        topic: &TopicImage,
        number: i32,
        partition: &Arc<PartitionRegistration>,
        movement: Movement<'_>,
    ) -> Option<PartitionChangeRecord> {
        if !movement.concerns(partition) {
            return None;
        }
        let is_gone = |id: BrokerId| {
            Some(id) == movement.leaving || !self.has_disk(id, partition, movement.failing)
        };
        let acceptable = |broker: BrokerId| {
            !is_gone(broker) && (Some(broker) == movement.joining || self.is_active(broker))
        };
        let mut target = self.target(topic, number, partition);
        target.isr.retain(|id| !is_gone(*id));
        target.unclean = movement.leaving.filter(|_| movement.is_unclean);
        target.election = self.election_of(topic);
        target.change(acceptable, |broker| self.default_directory(broker))
    }

    /// Whether the log directory of a replica works (KIP-858). Who is not registered has no say.
    pub(super) fn has_disk(
        &self,
        broker: BrokerId,
        partition: &PartitionRegistration,
        failing: &[Uuid],
    ) -> bool {
        let fails = partition.directory(broker).is_some_and(|dir| failing.contains(&dir));
        !fails && self.image.broker(broker).is_none_or(|broker| broker.has_online_dir(partition))
    }

    /// Whether the topic rather loses records than waits for the replicas that have them.
    pub(super) fn may_elect_uncleanly(&self, topic: &TopicImage) -> bool {
        let configured = self
            .image
            .topic_config(&topic.name)
            .and_then(|config| config.get("unclean.leader.election.enable"));
        let default = self.broker_config().log_manager.defaults.unclean_leader_election;
        configured.map_or(default, |value| value.trim().eq_ignore_ascii_case("true"))
    }
}
