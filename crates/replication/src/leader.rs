//! What a leader knows of its followers.

use std::collections::BTreeSet;
use std::time::Duration;

use ottla_protocol::{BrokerEpoch, BrokerId, LeaderEpoch, Monotonic, Offset};

use crate::brokers::Moment;
use crate::isr::Pending;
use crate::leadership::EpochCheckError;

/// A follower asks for records, and so tells how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerFetch {
    /// Who asks.
    pub follower: BrokerId,
    /// In which of its incarnations (KIP-903).
    pub broker_epoch: BrokerEpoch,
    /// The epoch in which this broker led when it looked into its log for this fetch.
    pub leader_epoch: LeaderEpoch,
    /// What the follower asks for: its log end.
    pub offset: Offset,
    /// Where its log begins.
    pub log_start: Offset,
    /// Where the leader's log begins.
    pub leader_log_start: Offset,
    /// The end of the leader's log before it was read: what came later does not hold the follower back.
    pub leader_log_end: Offset,
}

/// Why a follower's fetch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowerError {
    /// Another broker leads, or nobody does.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// It knows another leader epoch.
    #[error(transparent)]
    Epoch(#[from] EpochCheckError),
    /// It is no replica as far as this leader knows. One that names the current epoch knows more than the leader does (a
    /// reassignment brings it in), and tries again.
    #[error("the follower is no replica of the partition")]
    UnknownReplica {
        /// Whether it named a leader epoch.
        named_epoch: bool,
    },
    /// An earlier incarnation of a broker that has been restarted (KIP-903).
    #[error("the broker epoch of the follower is not its current one")]
    StaleBrokerEpoch,
}

/// How far a replica is, for whoever chooses one to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerView {
    /// The broker.
    pub id: BrokerId,
    /// Where its log ends; [`Offset::NONE`] before its first fetch.
    pub log_end: Offset,
    /// Where its log begins; [`Offset::NONE`] before its first fetch.
    pub log_start: Offset,
    /// When it was last at the leader's end, if it ever was.
    pub last_caught_up: Option<Monotonic>,
}

/// What a leader keeps beside its log.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    /// Where its log ended when it was elected: a follower that has not come so far may lack what is committed.
    pub(crate) epoch_start: Offset,
    pub(crate) followers: Vec<Follower>,
    pub(crate) pending: Option<Pending>,
    /// The last proposal was refused for good at this time: the next one waits for a while.
    pub(crate) refused: Option<Monotonic>,
}

/// How far one follower is. Kafka's `ReplicaState`.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    pub(crate) id: BrokerId,
    pub(crate) log_end: Offset,
    log_start: Offset,
    /// It has records that were deleted while it was not there (KIP-107).
    has_deleted_records: bool,
    pub(crate) broker_epoch: Option<BrokerEpoch>,
    /// When it fetched last, and where the leader's log ended then.
    last_fetch: Option<(Monotonic, Offset)>,
    last_caught_up: Option<Monotonic>,
}

impl Follower {
    /// One that has not fetched from this leader yet. A member of the ISR is given the whole lag time to begin.
    pub(crate) fn unknown(id: BrokerId, is_in_sync: bool, now: Monotonic) -> Self {
        Self {
            id,
            log_end: Offset::NONE,
            log_start: Offset::NONE,
            has_deleted_records: false,
            broker_epoch: None,
            last_fetch: None,
            last_caught_up: is_in_sync.then_some(now),
        }
    }

    pub(crate) fn fetched(&mut self, fetch: &FollowerFetch, now: Monotonic) {
        // It has by now what the leader had when it fetched before: then it was caught up at that time.
        let caught_up = if fetch.offset >= fetch.leader_log_end {
            Some(now)
        } else {
            self.last_fetch.filter(|(_, leader_end)| fetch.offset >= *leader_end).map(|(at, _)| at)
        };
        self.last_caught_up = self.last_caught_up.max(caught_up);
        let known_end = self.last_fetch.map_or(Offset::NONE, |(_, end)| end);
        self.last_fetch = Some((now, fetch.leader_log_end.max(known_end)));
        self.log_end = fetch.offset;
        self.log_start = fetch.log_start;
        // One that does not say where its log begins passes.
        self.has_deleted_records = (Offset(0)..fetch.leader_log_start).contains(&fetch.log_start);
        self.broker_epoch = Some(fetch.broker_epoch);
    }

    /// The leader appends behind `log_end`: whoever was there was caught up until now, however long ago it was looked at.
    pub(crate) fn left_behind(&mut self, log_end: Offset, now: Monotonic) {
        if self.log_end >= log_end {
            self.last_caught_up = Some(now);
        }
    }

    /// Kafka's rule: it is at the end, or was less than `replica.lag.time.max.ms` ago.
    pub(crate) fn is_caught_up(&self, log_end: Offset, now: Monotonic, lag: Duration) -> bool {
        self.log_end >= log_end || self.last_caught_up.is_some_and(|at| now.since(at) <= lag)
    }

    pub(crate) fn view(&self) -> FollowerView {
        let Self { id, log_end, log_start, last_caught_up, .. } = *self;
        FollowerView { id, log_end, log_start, last_caught_up }
    }
}

impl Leader {
    pub(crate) fn new(epoch_start: Offset) -> Self {
        Self { epoch_start, followers: Vec::new(), pending: None, refused: None }
    }

    /// Keeps a follower for each other replica.
    pub(crate) fn assign(
        &mut self,
        others: impl Iterator<Item = BrokerId> + Clone,
        in_sync: &BTreeSet<BrokerId>,
        now: Monotonic,
    ) {
        self.followers.retain(|follower| others.clone().any(|id| id == follower.id));
        for id in others {
            if !self.followers.iter().any(|follower| follower.id == id) {
                self.followers.push(Follower::unknown(id, in_sync.contains(&id), now));
            }
        }
    }

    pub(crate) fn follower(&self, id: BrokerId) -> Option<&Follower> {
        self.followers.iter().find(|follower| follower.id == id)
    }

    pub(crate) fn follower_mut(&mut self, id: BrokerId) -> Option<&mut Follower> {
        self.followers.iter_mut().find(|follower| follower.id == id)
    }

    /// Whether `id` is in the ISR, or may be by now (KIP-497).
    pub(crate) fn is_in_maximal_isr(&self, in_sync: &BTreeSet<BrokerId>, id: BrokerId) -> bool {
        in_sync.contains(&id)
            || self.pending.as_ref().is_some_and(|pending| pending.added.contains(&id))
    }

    /// Whether `follower` may be proposed for the ISR: it has what is committed and nothing that was deleted, has come to where
    /// this leader began (else it might lack what an earlier leader committed), and its broker may join.
    pub(crate) fn may_join(
        &self,
        follower: &Follower,
        high_watermark: Offset,
        moment: &Moment<'_>,
    ) -> bool {
        follower.log_end >= high_watermark.max(self.epoch_start)
            && !follower.has_deleted_records
            && moment.brokers.may_join(follower.id, follower.broker_epoch)
    }
}
