//! What becomes of a partition whose members are to change. Kafka: `PartitionChangeBuilder`.

use ottla_protocol::{BrokerId, TopicId, Uuid};

use super::super::Controller;
use crate::image::{LeaderRecoveryState, PartitionRegistration, TopicImage};
use crate::record::{NO_LEADER, NO_LEADER_CHANGE, PartitionChangeRecord};

/// Who may follow a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Election {
    /// The first replica if it is in sync, even where another leads that could go on (KIP-460).
    Preferred,
    /// Any replica in sync, where the leader cannot go on.
    Online,
    /// As before, and if none is in sync any replica at all: records may be lost.
    Unclean,
}

/// How a partition is meant to be.
pub(super) struct PartitionTarget<'a> {
    topic: TopicId,
    number: i32,
    before: &'a PartitionRegistration,
    pub(super) replicas: Vec<BrokerId>,
    pub(super) isr: Vec<BrokerId>,
    pub(super) adding: Vec<BrokerId>,
    pub(super) removing: Vec<BrokerId>,
    pub(super) leader_recovery_state: i8,
    pub(super) election: Election,
}

impl<'a> PartitionTarget<'a> {
    /// The partition as it is.
    pub(super) fn of(
        topic: &TopicImage,
        number: i32,
        partition: &'a PartitionRegistration,
    ) -> Self {
        Self {
            topic: topic.id,
            number,
            before: partition,
            replicas: partition.replicas.clone(),
            isr: partition.isr.clone(),
            adding: partition.adding_replicas.clone(),
            removing: partition.removing_replicas.clone(),
            leader_recovery_state: partition.leader_recovery_state.value(),
            election: Election::Online,
        }
    }

    /// The record that brings it about, with the leader that follows; `None` if nothing changes. `may_lead` says who is
    /// there, `new_directory` where a replica lies that was not there before.
    pub(super) fn change(
        mut self,
        may_lead: impl Fn(BrokerId) -> bool,
        new_directory: impl Fn(BrokerId) -> Uuid,
    ) -> Option<PartitionChangeRecord> {
        self.complete_reassignment();
        let before = self.before;
        let nothing = PartitionChangeRecord::new(self.topic, self.number);
        let mut change = nothing.clone();
        if self.leader_recovery_state != before.leader_recovery_state.value() {
            change.leader_recovery_state = self.leader_recovery_state;
        }
        let (leader, is_unclean) = self.elect(may_lead);
        if leader != before.leader {
            change.leader = leader.unwrap_or(NO_LEADER);
        }
        if is_unclean {
            self.isr = leader.into_iter().collect();
            change.leader_recovery_state = LeaderRecoveryState::Recovering.value();
        }
        let stay = before.replicas.iter().all(|replica| self.replicas.contains(replica));
        if !stay && change.leader == NO_LEADER_CHANGE {
            // Who goes must hear of it: a new epoch fences what it still asks of the leader.
            change.leader = before.leader.unwrap_or(NO_LEADER);
        }
        let isr: Vec<BrokerId> =
            self.replicas.iter().copied().filter(|id| self.isr.contains(id)).collect();
        if isr != before.isr {
            change.isr = Some(isr);
        }
        if self.replicas != before.replicas {
            let directory = |id: &BrokerId| {
                let place = before.replicas.iter().position(|replica| replica == id);
                let known = place.and_then(|place| before.directories.get(place));
                known.copied().unwrap_or_else(|| new_directory(*id))
            };
            change.directories = Some(self.replicas.iter().map(directory).collect());
            change.replicas = Some(self.replicas);
        }
        change.removing_replicas =
            (self.removing != before.removing_replicas).then_some(self.removing);
        change.adding_replicas = (self.adding != before.adding_replicas).then_some(self.adding);
        (change != nothing).then_some(change)
    }

    /// A reassignment is done when all that stay are in sync (KIP-455).
    fn complete_reassignment(&mut self) {
        if self.adding.is_empty() && self.removing.is_empty() {
            return;
        }
        let stays = |id: &BrokerId| !self.removing.contains(id);
        let isr: Vec<BrokerId> = self.isr.iter().copied().filter(stays).collect();
        let replicas: Vec<BrokerId> = self.replicas.iter().copied().filter(stays).collect();
        if isr.is_empty() || !replicas.iter().all(|replica| isr.contains(replica)) {
            return;
        }
        (self.isr, self.replicas) = (isr, replicas);
        self.adding.clear();
        self.removing.clear();
    }

    /// The leader, and whether it may have lost records.
    fn elect(&self, may_lead: impl Fn(BrokerId) -> bool) -> (Option<BrokerId>, bool) {
        let clean = |id: &BrokerId| self.isr.contains(id) && may_lead(*id);
        let preferred = self.replicas.first().filter(|_| self.election == Election::Preferred);
        let mut in_order = preferred.into_iter().chain(&self.before.leader).chain(&self.replicas);
        if let Some(leader) = in_order.find(|id| clean(id)) {
            return (Some(*leader), false);
        }
        let unclean = self.replicas.iter().filter(|_| self.election == Election::Unclean);
        let leader = unclean.copied().find(|id| may_lead(*id));
        (leader, leader.is_some())
    }
}

impl Controller {
    /// [`PartitionTarget::change`] where nobody comes or goes meanwhile: whoever is active, with the
    /// disk of the replica, may lead.
    pub(super) fn change_to(&self, target: PartitionTarget<'_>) -> Option<PartitionChangeRecord> {
        let before = target.before;
        target.change(
            |broker| self.is_active(broker) && self.has_disk(broker, before, &[]),
            |broker| self.default_directory(broker),
        )
    }

    /// How leaders of a topic are found when nobody asks for anything else.
    pub(super) fn election_of(&self, topic: &TopicImage) -> Election {
        if self.may_elect_uncleanly(topic) { Election::Unclean } else { Election::Online }
    }
}
