//! One replica of one partition, as leader or as follower.

use std::collections::BTreeSet;
use std::time::Duration;

use ottla_protocol::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};

use crate::brokers::Moment;
use crate::follower::FetchPosition;
use crate::isr::{IsrAnswer, IsrFollowUp, IsrMember, IsrProposal, Pending, Refusal};
use crate::leader::{FollowerError, FollowerFetch, FollowerView, Leader};
use crate::leadership::{Leadership, LeadershipError};

/// After a proposal that was refused for good, the next one waits so long: the controller knows something that this broker
/// will know soon.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// The replicas of a partition as the controller last recorded them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// Who leads; [`BrokerId::NONE`] if nobody does.
    pub leader: BrokerId,
    /// How many leaders there have been.
    pub leader_epoch: LeaderEpoch,
    /// How many changes of any kind there have been.
    pub partition_epoch: i32,
    /// All brokers that hold the partition; the first is the preferred leader.
    pub assigned: Vec<BrokerId>,
    /// Those of them that hold everything below the high watermark.
    pub in_sync: BTreeSet<BrokerId>,
}

/// What is configured, and may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// `min.insync.replicas`; where there are fewer replicas, all of them.
    pub min_insync_replicas: usize,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max: Duration,
}

/// What became of the high watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The high watermark by now: records below are committed.
    pub high_watermark: Offset,
    /// Whether it moved.
    pub advanced: bool,
}

/// One replica's state machine for one partition (LEO, HW, ISR).
#[derive(Clone, Debug)]
pub struct Partition {
    local: BrokerId,
    replicas: Replicas,
    terms: Terms,
    log_end: Offset,
    high_watermark: Offset,
    role: Role,
}

#[derive(Clone, Debug)]
enum Role {
    Leader(Leader),
    Follower {
        /// The furthest that the leader of this epoch said is committed.
        leader_high_watermark: Offset,
    },
}

impl Partition {
    /// A partition whose log ends at `log_end`, under the replicas that the controller recorded.
    ///
    /// A sole replica has committed all that its log holds; otherwise the checkpointed high watermark is where to begin.
    pub fn new(
        local: BrokerId,
        replicas: Replicas,
        (log_end, checkpointed_high_watermark): (Offset, Offset),
        terms: Terms,
        moment: &Moment<'_>,
    ) -> Self {
        let role = Role::Follower { leader_high_watermark: Offset::NONE };
        let high_watermark = checkpointed_high_watermark.min(log_end);
        let mut partition = Self { local, replicas, terms, log_end, high_watermark, role };
        partition.take_role(None, log_end, moment);
        partition.check_invariants();
        partition.advance_high_watermark(moment);
        partition
    }

    /// The controller recorded a new leader, ISR or assignment; the local log ends at `log_end`. Older news than ours is
    /// ignored: a leader may know of its ISR before the image does.
    ///
    /// Returns whether anything changed.
    pub fn replicas_changed(
        &mut self,
        replicas: Replicas,
        log_end: Offset,
        moment: &Moment<'_>,
    ) -> bool {
        let known = &self.replicas;
        let is_old = replicas.leader_epoch < known.leader_epoch
            || replicas.partition_epoch < known.partition_epoch;
        if is_old || replicas == *known {
            return false;
        }
        if replicas.partition_epoch > known.partition_epoch
            && let Role::Leader(leader) = &mut self.role
        {
            // It was taken, and this is it, or something else was and it never can be. News of the same partition epoch says
            // nothing of a proposal that builds on it.
            leader.pending = None;
            leader.refused = None;
        }
        let before = self.leadership();
        self.replicas = replicas;
        if !self.leadership().is_leader() {
            // A leader's end may lie before that of its log: what still is on its way to the disk it does not count.
            self.log_end = log_end;
        }
        self.take_role(Some(before), log_end, moment);
        self.check_invariants();
        self.advance_high_watermark(moment);
        true
    }

    /// Becomes what the replicas say.
    fn take_role(&mut self, before: Option<Leadership>, log_end: Offset, moment: &Moment<'_>) {
        let Replicas { leader, leader_epoch, assigned, in_sync, .. } = &self.replicas;
        let is_new_epoch = before.is_none_or(|before| before.epoch != *leader_epoch);
        if *leader != self.local {
            if is_new_epoch || matches!(self.role, Role::Leader(_)) {
                self.role = Role::Follower { leader_high_watermark: Offset::NONE };
            }
            return;
        }
        // What its followers held in an earlier epoch they may have cut since: others may have led in between.
        if is_new_epoch || !matches!(self.role, Role::Leader(_)) {
            self.role = Role::Leader(Leader::new(log_end));
        }
        if let Role::Leader(leader) = &mut self.role {
            let others = assigned.iter().copied().filter(|id| *id != self.local);
            leader.assign(others, in_sync, moment.now);
        }
    }

    /// Goes on with another configuration.
    pub fn terms_changed(&mut self, terms: Terms, moment: &Moment<'_>) -> Advance {
        self.terms = terms;
        self.advance(moment)
    }

    /// The local log now ends at `log_end`, by what this broker appended as the leader.
    pub fn appended(&mut self, log_end: Offset, moment: &Moment<'_>) -> Advance {
        assert!(log_end >= self.log_end, "the log end went back by an append");
        if let Role::Leader(leader) = &mut self.role {
            for follower in &mut leader.followers {
                follower.left_behind(self.log_end, moment.now);
            }
        }
        self.log_end = log_end;
        self.advance(moment)
    }

    /// A follower of this broker fetched. What it is told is for the shell; here it is noted how far it is, and what that
    /// commits.
    pub fn follower_fetched(
        &mut self,
        fetch: &FollowerFetch,
        moment: &Moment<'_>,
    ) -> Result<Advance, FollowerError> {
        self.check_follower((fetch.follower, fetch.broker_epoch), fetch.leader_epoch, moment)?;
        if let Role::Leader(leader) = &mut self.role
            && let Some(follower) = leader.follower_mut(fetch.follower)
        {
            follower.fetched(fetch, moment.now);
        }
        Ok(self.advance(moment))
    }

    /// Refuses a follower that this broker does not lead, that knows another epoch ([`LeaderEpoch::NONE`] is not checked), that
    /// is no replica, or that is an earlier incarnation of one (KIP-903).
    pub fn check_follower(
        &self,
        (follower, broker_epoch): (BrokerId, BrokerEpoch),
        requested: LeaderEpoch,
        moment: &Moment<'_>,
    ) -> Result<(), FollowerError> {
        self.leadership().check_epoch(requested)?;
        let Role::Leader(leader) = &self.role else { return Err(FollowerError::NotLeader) };
        if leader.follower(follower).is_none() {
            let named_epoch = requested != LeaderEpoch::NONE;
            return Err(FollowerError::UnknownReplica { named_epoch });
        }
        if moment.brokers.is_stale(follower, broker_epoch) {
            return Err(FollowerError::StaleBrokerEpoch);
        }
        Ok(())
    }

    /// Time has passed: whoever held the high watermark back without being in the ISR may not do so for ever.
    pub fn time_passed(&mut self, moment: &Moment<'_>) -> Advance {
        self.advance(moment)
    }

    /// Asks for the followers that are in sync, and are not in the ISR, to be added to it.
    pub fn propose_expansion(&mut self, moment: &Moment<'_>) -> Option<IsrProposal> {
        let Role::Leader(leader) = &self.role else { return None };
        let is_too_soon = leader.refused.is_some_and(|at| moment.now.since(at) < REFUSED_PAUSE);
        if leader.pending.is_some() || is_too_soon || self.has_full_isr() {
            return None;
        }
        let joining = leader.followers.iter().filter(|follower| {
            !self.replicas.in_sync.contains(&follower.id)
                && leader.may_join(follower, self.high_watermark, moment)
        });
        let added: BTreeSet<BrokerId> = joining.map(|follower| follower.id).collect();
        if added.is_empty() {
            return None;
        }
        let isr = self.replicas.in_sync.union(&added).copied().collect();
        self.propose(&isr, added)
    }

    /// Asks for the followers that have been behind for longer than `replica.lag.time.max.ms` to be taken out of the ISR.
    pub fn propose_shrink(&mut self, moment: &Moment<'_>) -> Option<IsrProposal> {
        let Role::Leader(leader) = &self.role else { return None };
        if leader.pending.is_some() {
            return None;
        }
        let keeps_up = |id: &&BrokerId| {
            **id == self.local
                || leader.follower(**id).is_some_and(|follower| {
                    follower.is_caught_up(self.log_end, moment.now, self.terms.lag_time_max)
                })
        };
        let isr: BTreeSet<BrokerId> =
            self.replicas.in_sync.iter().filter(keeps_up).copied().collect();
        if isr.len() == self.replicas.in_sync.len() {
            return None;
        }
        // Whoever leaves counts as in sync until the controller has said so.
        self.propose(&isr, BTreeSet::new())
    }

    fn propose(
        &mut self,
        isr: &BTreeSet<BrokerId>,
        added: BTreeSet<BrokerId>,
    ) -> Option<IsrProposal> {
        let Role::Leader(leader) = &mut self.role else { return None };
        let members = isr.iter().map(|&id| {
            let broker_epoch = leader.follower(id).and_then(|follower| follower.broker_epoch);
            IsrMember { id, broker_epoch: broker_epoch.unwrap_or(BrokerEpoch::NONE) }
        });
        let proposal = IsrProposal {
            leader_epoch: self.replicas.leader_epoch,
            partition_epoch: self.replicas.partition_epoch,
            isr: members.collect(),
        };
        leader.pending = Some(Pending { proposal: proposal.clone(), added });
        Some(proposal)
    }

    /// What came of `proposal`. An answer to one that is not under way any more is ignored.
    pub fn isr_answered(
        &mut self,
        proposal: &IsrProposal,
        answer: IsrAnswer,
        moment: &Moment<'_>,
    ) -> IsrFollowUp {
        let mut retry = None;
        if let Role::Leader(leader) = &mut self.role
            && leader.pending.as_ref().is_some_and(|pending| pending.proposal == *proposal)
        {
            let known = &mut self.replicas;
            match answer {
                IsrAnswer::Changed { leader_epoch, partition_epoch, mut isr } => {
                    if leader_epoch == known.leader_epoch
                        && partition_epoch >= known.partition_epoch
                    {
                        // Who else is a replica by now the image will tell.
                        isr.retain(|id| known.assigned.contains(id));
                        isr.insert(self.local);
                        known.in_sync = isr;
                        known.partition_epoch = partition_epoch;
                        leader.pending = None;
                    }
                }
                IsrAnswer::Refused(error) => match Refusal::of(error) {
                    Refusal::NotDone => {
                        leader.pending = None;
                        leader.refused = Some(moment.now);
                    }
                    Refusal::Unclear => {}
                    Refusal::Again => retry = Some(proposal.clone()),
                },
            }
        }
        IsrFollowUp { advance: self.advance(moment), retry }
    }

    /// Where to fetch next, if another broker leads.
    pub fn fetch_position(&self) -> Option<FetchPosition> {
        let Replicas { leader, leader_epoch, .. } = self.replicas;
        let follows = matches!(self.role, Role::Follower { .. }) && leader != BrokerId::NONE;
        follows.then_some(FetchPosition { leader, leader_epoch, offset: self.log_end })
    }

    /// What was fetched in `epoch` is in the log, which now ends at `log_end`; the leader said how far it has committed.
    /// `None` if this broker does not follow in that epoch any more.
    pub fn fetched(
        &mut self,
        epoch: LeaderEpoch,
        log_end: Offset,
        leader_high_watermark: Offset,
    ) -> Option<Advance> {
        if epoch != self.replicas.leader_epoch || self.replicas.leader == BrokerId::NONE {
            return None;
        }
        let Role::Follower { leader_high_watermark: known } = &mut self.role else { return None };
        *known = leader_high_watermark.max(*known);
        let committed = (*known).min(log_end);
        self.log_end = log_end;
        let advanced = committed > self.high_watermark;
        self.high_watermark = self.high_watermark.max(committed);
        Some(Advance { high_watermark: self.high_watermark, advanced })
    }

    /// The local log was cut, or begun anew, and ends at `log_end`.
    pub fn truncated(&mut self, log_end: Offset) {
        self.log_end = log_end;
        self.high_watermark = self.high_watermark.min(log_end);
    }

    /// The log begins at `log_start`: the leader's does, or everything before was deleted and so had been committed.
    pub fn log_starts_at(&mut self, log_start: Offset) {
        self.high_watermark = self.high_watermark.max(log_start.min(self.log_end));
    }

    /// The partition is gone from here: whoever waits for this broker as its leader waits in vain.
    pub fn retired(&mut self) {
        self.replicas.leader = BrokerId::NONE;
        self.role = Role::Follower { leader_high_watermark: Offset::NONE };
    }

    /// Who leads. A copy, for readers who must not wait for an append.
    pub fn leadership(&self) -> Leadership {
        let Replicas { leader, leader_epoch: epoch, .. } = self.replicas;
        Leadership { local: self.local, leader, epoch }
    }

    /// Where the log ended when this broker was elected; `None` if it does not lead. Until its high watermark is there, it may
    /// be behind what an earlier leader told (KIP-207).
    pub fn epoch_start(&self) -> Option<Offset> {
        match &self.role {
            Role::Leader(leader) => Some(leader.epoch_start),
            Role::Follower { .. } => None,
        }
    }

    /// How far the leader of this epoch is known to have committed; `None` if this broker leads, or has not heard of it.
    pub fn leader_high_watermark(&self) -> Option<Offset> {
        match &self.role {
            Role::Follower { leader_high_watermark } if *leader_high_watermark >= Offset(0) => {
                Some(*leader_high_watermark)
            }
            Role::Follower { .. } | Role::Leader(_) => None,
        }
    }

    /// The other members of the ISR, as their leader sees them; nobody if this broker does not lead.
    pub fn in_sync_followers(&self) -> impl Iterator<Item = FollowerView> {
        self.followers().filter(|follower| self.replicas.in_sync.contains(&follower.id))
    }

    fn followers(&self) -> impl Iterator<Item = FollowerView> {
        let followers = match &self.role {
            Role::Leader(leader) => leader.followers.as_slice(),
            Role::Follower { .. } => &[],
        };
        followers.iter().map(|follower| follower.view())
    }

    /// The first offset that is left on any replica whose broker is there, where the leader's own log begins at `log_start`:
    /// what lies before is deleted everywhere (KIP-107). [`Offset::NONE`] as long as one of them has not fetched; `None` if
    /// this broker does not lead.
    pub fn low_watermark(&self, log_start: Offset, moment: &Moment<'_>) -> Option<Offset> {
        let Role::Leader(leader) = &self.role else { return None };
        let there = leader.followers.iter().filter(|it| moment.brokers.is_active(it.id));
        Some(there.map(|follower| follower.view().log_start).fold(log_start, Offset::min))
    }

    /// Refuses an `acks=all` append that too few replicas would hold (before the append).
    pub fn check_min_isr(&self) -> Result<(), LeadershipError> {
        let (in_sync, required) = (self.replicas.in_sync.len(), self.min_isr());
        if in_sync < required {
            return Err(LeadershipError::NotEnoughReplicas { in_sync, required });
        }
        Ok(())
    }

    /// Whether what is committed now is held by enough replicas (after the append): the ISR may have shrunk meanwhile.
    pub fn has_min_isr(&self) -> bool {
        let added = match &self.role {
            Role::Leader(leader) => leader.pending.as_ref().map_or(0, |it| it.added.len()),
            Role::Follower { .. } => 0,
        };
        self.replicas.in_sync.len() + added >= self.min_isr()
    }

    /// Whether every replica is in the ISR.
    pub fn has_full_isr(&self) -> bool {
        self.replicas.in_sync.len() == self.replicas.assigned.len()
    }

    /// Whether this is the only replica: then no [`Moment`] matters.
    pub fn is_sole(&self) -> bool {
        self.replicas.assigned.len() == 1
    }

    /// The replicas as they are known here.
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    /// The end of the local log, as far as it was [`appended`](Self::appended) or [`fetched`](Self::fetched).
    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// Records below it are committed and visible to consumers.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    fn min_isr(&self) -> usize {
        self.terms.min_insync_replicas.min(self.replicas.assigned.len())
    }

    fn advance(&mut self, moment: &Moment<'_>) -> Advance {
        let advanced = self.advance_high_watermark(moment);
        Advance { high_watermark: self.high_watermark, advanced }
    }

    /// The HW is the least log end of the maximal ISR. A follower that is about to join counts too, else one that follows a
    /// busy leader closely would never be where the HW is.
    fn advance_high_watermark(&mut self, moment: &Moment<'_>) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        if self.replicas.in_sync.len() < self.min_isr() {
            return false;
        }
        let mut committed = self.log_end;
        for follower in leader.followers.iter().filter(|it| it.log_end < self.log_end) {
            let lag = self.terms.lag_time_max;
            let counts = leader.is_in_maximal_isr(&self.replicas.in_sync, follower.id)
                || follower.is_caught_up(self.log_end, moment.now, lag)
                    && moment.brokers.may_join(follower.id, follower.broker_epoch);
            if counts {
                committed = committed.min(follower.log_end);
            }
        }
        if committed <= self.high_watermark {
            return false;
        }
        self.high_watermark = committed;
        true
    }

    fn check_invariants(&self) {
        assert!(self.high_watermark <= self.log_end, "HW beyond LEO");
        assert!(
            self.replicas.in_sync.iter().all(|id| self.replicas.assigned.contains(id)),
            "the ISR holds a broker that is no replica"
        );
        assert!(
            !self.leadership().is_leader() || self.replicas.in_sync.contains(&self.local),
            "a leader outside its ISR"
        );
    }
}
