//! What a partition does while this broker leads it: followers, the ISR, and who waits until something is committed.

use std::sync::Arc;

use ottla_env::BoxFuture;
use ottla_protocol::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset};
use ottla_replication::{
    FollowerError, FollowerFetch, FollowerView, IsrAnswer, IsrProposal, Moment,
    Partition as Replica,
};
use tracing::{debug, info};

use super::{Partition, epoch_error};
use crate::replica::watermarks::{Subscription, WaitFor};

/// A follower, as it named itself in its fetch (KIP-903).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FetchingReplica {
    pub(crate) id: BrokerId,
    pub(crate) broker_epoch: BrokerEpoch,
}

impl Partition {
    /// Refuses a follower that this broker does not lead; answers the epoch in which it does.
    pub(crate) fn check_follower(
        &self,
        follower: FetchingReplica,
        requested: LeaderEpoch,
    ) -> Result<LeaderEpoch, ErrorCode> {
        let Some(mut replica) = self.lock_to_lead() else {
            self.check_epoch(requested)?;
            return Err(ErrorCode::NotLeaderOrFollower);
        };
        let asked = (follower.id, follower.broker_epoch);
        self.at_this_moment(&mut replica, |replica, moment| {
            replica.check_follower(asked, requested, moment)
        })
        .map_err(follower_error)?;
        Ok(replica.leadership().epoch())
    }

    /// Notes how far a follower is, and what that commits; proposes it for the ISR if it belongs there.
    pub(crate) fn follower_fetched(
        self: &Arc<Self>,
        fetch: &FollowerFetch,
    ) -> Result<(), ErrorCode> {
        let mut replica = self.replica.lock();
        let advance = self
            .at_this_moment(&mut replica, |replica, moment| replica.follower_fetched(fetch, moment))
            .map_err(follower_error)?;
        self.publish(advance);
        self.watermarks.followers_changed();
        if !replica.has_full_isr() {
            self.propose(&mut replica, Replica::propose_expansion);
        }
        Ok(())
    }

    /// Looks for followers that left the ISR behind, or that are to join it: about every half of `replica.lag.time.max.ms`,
    /// and when brokers come or go.
    pub(in crate::replica) fn check_isr(self: &Arc<Self>) {
        let mut replica = self.replica.lock();
        if !replica.leadership().is_leader() || replica.is_sole() {
            return;
        }
        let advance =
            self.at_this_moment(&mut replica, |replica, moment| replica.time_passed(moment));
        self.publish(advance);
        self.watermarks.followers_changed();
        self.propose(&mut replica, Replica::propose_shrink);
        self.propose(&mut replica, Replica::propose_expansion);
    }

    fn propose(
        self: &Arc<Self>,
        replica: &mut Replica,
        propose: fn(&mut Replica, &Moment<'_>) -> Option<IsrProposal>,
    ) {
        if let Some(proposal) = self.at_this_moment(replica, propose) {
            debug!(partition = %self.name, ?proposal, "asking for another ISR");
            self.context.isr_changes().submit(self, proposal);
        }
    }

    /// What the controller said to `proposal`; what is to be asked of it once more, after a pause.
    pub(in crate::replica) fn isr_answered(
        self: &Arc<Self>,
        proposal: &IsrProposal,
        answer: IsrAnswer,
    ) -> Option<IsrProposal> {
        let mut replica = self.replica.lock();
        let before = replica.replicas().in_sync.clone();
        let follow_up = self.at_this_moment(&mut replica, |replica, moment| {
            replica.isr_answered(proposal, answer, moment)
        });
        self.publish(follow_up.advance);
        let now = &replica.replicas().in_sync;
        if before != *now {
            info!(partition = %self.name, isr = ?now, "the ISR has changed");
            // Whoever waits may have fewer replicas by now than it asked for.
            self.watermarks.publish(replica.high_watermark());
        }
        if follow_up.retry.is_none() {
            self.propose(&mut replica, Replica::propose_expansion);
        }
        follow_up.retry
    }

    /// Waits until everything before `end`, which was appended in `epoch`, is committed: on the disk, where `flush.messages`
    /// asks for that, and on all replicas that are in sync.
    ///
    /// `NOT_LEADER_OR_FOLLOWER` if the leadership is lost before, even if it comes back: what was appended may be gone.
    /// `NOT_ENOUGH_REPLICAS_AFTER_APPEND` if it is committed on fewer than `min.insync.replicas`.
    pub(crate) fn wait_committed(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        end: Offset,
    ) -> BoxFuture<'static, Result<(), ErrorCode>> {
        let partition = Arc::clone(self);
        Box::pin(async move {
            partition.wait_high_watermark(epoch, end).await?;
            let enough = partition.replica.lock().has_min_isr();
            if enough { Ok(()) } else { Err(ErrorCode::NotEnoughReplicasAfterAppend) }
        })
    }

    /// [`wait_committed`](Self::wait_committed), however many replicas there are by then.
    pub(crate) async fn wait_high_watermark(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        end: Offset,
    ) -> Result<(), ErrorCode> {
        let subscription = Subscription::new(vec![Arc::clone(self)], WaitFor::Commit);
        loop {
            let reached = self.high_watermark() >= end;
            // In this order: a high watermark that was seen before the epoch ended is one of this epoch.
            if !self.leads_in(epoch) {
                let failed = self.log().log_dir().failure().is_some();
                return Err(match failed {
                    true => ErrorCode::KafkaStorageError,
                    false => ErrorCode::NotLeaderOrFollower,
                });
            }
            if reached {
                return Ok(());
            }
            subscription.changed().await;
        }
    }

    /// The first offset that is left on any replica whose broker is there (KIP-107).
    pub(crate) fn low_watermark(&self) -> Result<Offset, ErrorCode> {
        let mut replica = self.lock_to_lead().ok_or(ErrorCode::NotLeaderOrFollower)?;
        let start = self.log().log_start_offset();
        let low = self.at_this_moment(&mut replica, |it, moment| it.low_watermark(start, moment));
        low.ok_or(ErrorCode::NotLeaderOrFollower)
    }

    /// Waits until the records before `offset` are deleted on every replica whose broker is there; answers the first offset
    /// that is left then.
    pub(crate) async fn wait_deleted(
        self: &Arc<Self>,
        offset: Offset,
    ) -> Result<Offset, ErrorCode> {
        let subscription = Subscription::new(vec![Arc::clone(self)], WaitFor::Deletion);
        loop {
            let low = self.low_watermark()?;
            if low >= offset {
                return Ok(low);
            }
            subscription.changed().await;
        }
    }

    /// Whether this broker leads, and in that epoch.
    pub(crate) fn leads_in(&self, epoch: LeaderEpoch) -> bool {
        self.leadership().leads_in(epoch)
    }

    /// Whether the high watermark of a new leader may still be behind what an earlier one told (KIP-207).
    pub(crate) fn is_behind_earlier_leader(&self) -> bool {
        self.view.load().epoch_start.is_some_and(|start| self.high_watermark() < start)
    }

    /// What a reader is told whose offset lies outside of this log: a follower may not have yet what is committed (KIP-392).
    pub(crate) fn out_of_range(&self, offset: Offset) -> ErrorCode {
        let committed = self.replica.lock().leader_high_watermark();
        let is_ahead = offset > self.log().log_end_offset();
        match committed {
            Some(committed) if is_ahead && offset <= committed => ErrorCode::OffsetNotAvailable,
            Some(_) | None => ErrorCode::OffsetOutOfRange,
        }
    }

    /// The followers in sync that hold `offset` (KIP-392).
    pub(crate) fn replicas_with(&self, offset: Offset) -> Vec<FollowerView> {
        let replica = self.replica.lock();
        let holds = |it: &FollowerView| it.log_start <= offset && offset <= it.log_end;
        replica.in_sync_followers().filter(holds).collect()
    }
}

/// What a follower is told that is refused (KIP-903).
fn follower_error(error: FollowerError) -> ErrorCode {
    match error {
        FollowerError::Epoch(error) => epoch_error(error),
        // It knows more than this broker does, and tries again.
        FollowerError::UnknownReplica { named_epoch: true } => ErrorCode::UnknownLeaderEpoch,
        FollowerError::UnknownReplica { named_epoch: false }
        | FollowerError::NotLeader
        | FollowerError::StaleBrokerEpoch => ErrorCode::NotLeaderOrFollower,
    }
}
