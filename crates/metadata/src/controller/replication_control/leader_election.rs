//! Who leads a partition when brokers come and go.
//!
//! The seam for what a cluster needs beyond this: eligible leader replicas (KIP-966).

use std::sync::Arc;

use ottla_protocol::{BrokerId, Uuid};

use super::super::Controller;
use super::partition_change::PartitionTarget;
use crate::image::{PartitionRegistration, TopicImage};
use crate::record::{MetadataRecord, PartitionChangeRecord};

/// The broker that goes, the one that comes and the disks that fail, whatever the image still says
/// of them.
#[derive(Clone, Copy, Default)]
struct Movement<'a> {
    leaving: Option<BrokerId>,
    joining: Option<BrokerId>,
    failing: &'a [Uuid],
}

impl Controller {
    /// The changes to every partition that follow when `leaving` may no longer lead, or `joining`
    /// may again.
    pub(crate) fn leader_and_isr_updates(
        &self,
        leaving: Option<BrokerId>,
        joining: Option<BrokerId>,
    ) -> Vec<MetadataRecord> {
        self.updates_after(Movement { leaving, joining, failing: &[] })
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
        let is_gone = |id: BrokerId| {
            Some(id) == movement.leaving || !self.has_disk(id, partition, movement.failing)
        };
        let acceptable = |broker: BrokerId| {
            !is_gone(broker) && (Some(broker) == movement.joining || self.is_active(broker))
        };
        let mut target = PartitionTarget::of(topic, number, partition);
        // The last member stays in the ISR: it alone has every committed record, so it alone may
        // lead when it is back.
        if partition.isr.len() > 1 {
            target.isr.retain(|id| !is_gone(*id));
        }
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
