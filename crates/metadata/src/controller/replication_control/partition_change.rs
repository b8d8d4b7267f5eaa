//! What becomes of a partition whose members are to change. Kafka: `PartitionChangeBuilder`.

use ottla_protocol::{BrokerId, TopicId, Uuid};

use super::super::Controller;
use super::super::configuration_control::MIN_INSYNC_REPLICAS;
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

/// What the cluster keeps of replicas that left the ISR with every committed record (KIP-966).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Eligibility {
    /// Whether it keeps anything: the level of `eligible.leader.replicas.version`.
    pub(super) is_kept: bool,
    /// With so many in the ISR the leader commits without the others: `min.insync.replicas`, but no more
    /// than there are replicas.
    pub(super) min_isr: usize,
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
    /// Who may have lost records, for it was not shut down in order (KIP-966).
    pub(super) unclean: Option<BrokerId>,
    eligibility: Eligibility,
    elr: Vec<BrokerId>,
    last_known_leader: Vec<BrokerId>,
}

impl<'a> PartitionTarget<'a> {
    /// The partition as it is.
    fn of(
        topic: &TopicImage,
        number: i32,
        partition: &'a PartitionRegistration,
        eligibility: Eligibility,
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
            unclean: None,
            eligibility,
            elr: Vec::new(),
            last_known_leader: Vec::new(),
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
        self.find_eligible();
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
            change.leader_recovery_state = LeaderRecoveryState::Recovering.value();
        }
        self.settle(leader, is_unclean);
        let stay = before.replicas.iter().all(|replica| self.replicas.contains(replica));
        if !stay && change.leader == NO_LEADER_CHANGE {
            // Who goes must hear of it: a new epoch fences what it still asks of the leader.
            change.leader = before.leader.unwrap_or(NO_LEADER);
        }
        self.write_members(&mut change, new_directory);
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

    /// Who has every committed record without being in the ISR: with fewer in it than
    /// `min.insync.replicas` nothing is committed, so who leaves such an ISR, or leaves it such,
    /// misses nothing until it has grown again (KIP-966).
    fn find_eligible(&mut self) {
        if !self.eligibility.is_kept || self.isr.len() >= self.eligibility.min_isr {
            return;
        }
        let before = self.before;
        let had_all = |id: &BrokerId| before.elr.contains(id) || before.isr.contains(id);
        let replicas = self.replicas.iter().copied();
        let eligible = replicas
            .filter(|id| had_all(id) && !self.isr.contains(id) && self.unclean != Some(*id));
        self.elr = eligible.collect();
    }

    /// The leader, and whether it may have lost records.
    fn elect(&self, may_lead: impl Fn(BrokerId) -> bool) -> (Option<BrokerId>, bool) {
        let has_all = |id: &BrokerId| match self.isr.is_empty() {
            true => self.elr.contains(id),
            false => self.isr.contains(id),
        };
        let clean = |id: &BrokerId| has_all(id) && may_lead(*id);
        let preferred = self.replicas.first().filter(|_| self.election == Election::Preferred);
        let mut in_order = preferred.into_iter().chain(&self.before.leader).chain(&self.replicas);
        if let Some(leader) = in_order.find(|id| clean(id)) {
            return (Some(*leader), false);
        }
        let unclean = self.replicas.iter().filter(|_| self.election == Election::Unclean);
        let leader =
            self.last_leader().into_iter().chain(unclean.copied()).find(|id| may_lead(*id));
        (leader, leader.is_some())
    }

    /// Who led last. When nobody is left of whom it is known that it has all, it is the one that has
    /// most, and leads without being asked for (KIP-966's balanced recovery).
    fn last_leader(&self) -> Option<BrokerId> {
        let nobody_has_all = self.isr.is_empty() && self.elr.is_empty();
        match self.before.last_known_elr[..] {
            [last] if self.eligibility.is_kept && nobody_has_all => {
                self.replicas.contains(&last).then_some(last)
            }
            _ => None,
        }
    }

    /// The ISR and what is known of others once it is decided who leads.
    fn settle(&mut self, leader: Option<BrokerId>, is_unclean: bool) {
        let before = self.before;
        match leader {
            Some(leader) if is_unclean => {
                self.isr = vec![leader];
                self.elr.clear();
            }
            Some(leader) if self.elr.contains(&leader) => {
                self.isr = vec![leader];
                self.elr.retain(|id| *id != leader);
                if self.isr.len() >= self.eligibility.min_isr {
                    // It commits alone from here on.
                    self.elr.clear();
                }
            }
            Some(_) => {}
            None if self.isr.is_empty() && !self.eligibility.is_kept => {
                // Whoever was in sync last stays in the ISR: it alone has every committed record, so it
                // alone may lead when it is back.
                self.isr.clone_from(&before.isr);
            }
            None if self.isr.is_empty() => {
                let known = before.leader.iter().chain(&before.last_known_elr);
                let last = known.chain(&before.isr).chain(&before.elr).next();
                self.last_known_leader = last.copied().into_iter().collect();
            }
            None => self.last_known_leader.clone_from(&before.last_known_elr),
        }
        let replicas = &self.replicas;
        self.last_known_leader.retain(|id| self.eligibility.is_kept && replicas.contains(id));
    }

    fn write_members(
        self,
        change: &mut PartitionChangeRecord,
        new_directory: impl Fn(BrokerId) -> Uuid,
    ) {
        let before = self.before;
        let isr: Vec<BrokerId> =
            self.replicas.iter().copied().filter(|id| self.isr.contains(id)).collect();
        change.isr = (isr != before.isr).then_some(isr);
        change.eligible_leader_replicas = (self.elr != before.elr).then_some(self.elr);
        change.last_known_elr =
            (self.last_known_leader != before.last_known_elr).then_some(self.last_known_leader);
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
    }
}

impl Controller {
    /// The partition as it is, to be changed.
    pub(super) fn target<'a>(
        &self,
        topic: &TopicImage,
        number: i32,
        partition: &'a PartitionRegistration,
    ) -> PartitionTarget<'a> {
        let eligibility =
            Eligibility { is_kept: self.keeps_eligible_replicas(), min_isr: self.min_isr(topic) };
        PartitionTarget::of(topic, number, partition, eligibility)
    }

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

    /// `min.insync.replicas` of a topic, but no more than its partitions have replicas (KIP-966).
    pub(super) fn min_isr(&self, topic: &TopicImage) -> usize {
        let configured = self.image.topic_config(&topic.name);
        let configured = configured.and_then(|config| config.get(MIN_INSYNC_REPLICAS));
        let default = self.broker_config().log_manager.defaults.min_insync_replicas;
        let asked: u32 = configured.and_then(|value| value.trim().parse().ok()).unwrap_or(default);
        let factor = topic.partitions.values().next().map_or(1, |it| it.replicas.len());
        usize::try_from(asked).unwrap_or(usize::MAX).min(factor)
    }
}
