//! One partition on this node: the pure replica, its log, and who waits for it.

mod following;
mod leading;
mod throttling;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use ottla_config::LogConfig;
use ottla_env::BoxFuture;
use ottla_protocol::{
    ErrorCode, LeaderEpoch, LeaderIdAndEpoch, Monotonic, Offset, Timestamp, TopicId, TopicPartition,
};
use ottla_replication::{
    Advance, Brokers, EpochCheckError, Leadership, LeadershipError, Moment, Partition as Replica,
    Replicas, Terms,
};
use ottla_storage::{
    AppendError, AppendOrigin, EpochEndOffset, LeaderAppend, Log, LogAppendInfo, LogDirFailure,
    ReadError,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::context::ReplicaContext;
use super::watermarks::{Watched, Watermarks};

pub(crate) use following::{Fetched, Owed, Truncation};
pub(crate) use leading::FetchingReplica;
use throttling::Throttling;

/// The end of a flush that has begun.
pub(crate) type Flushing = BoxFuture<'static, Result<(), LogDirFailure>>;

/// A partition whose log lies on this node.
pub(crate) struct Partition {
    name: TopicPartition,
    topic_id: TopicId,
    context: Arc<ReplicaContext>,
    /// Put in its place by another, in another directory, under the lock of `replica`.
    log: ArcSwap<Log>,
    replica: Mutex<Replica>,
    /// What `replica` says, for readers: they must not wait while an append holds the lock.
    view: ArcSwap<View>,
    /// The epoch since which this broker leads without a break, or did. Changed under the lock of `replica`.
    led_since: AtomicI32,
    /// Locked after `replica`, if both are.
    owed: Mutex<Owed>,
    watermarks: Watermarks,
    /// Changed by whoever applies the image, one after the other.
    throttling: ArcSwap<Throttling>,
}

/// What readers have to know of a replica.
#[derive(Clone, Copy, PartialEq, Eq)]
struct View {
    leadership: Leadership,
    /// See [`Replica::epoch_start`].
    epoch_start: Option<Offset>,
}

impl View {
    fn of(replica: &Replica) -> Self {
        Self { leadership: replica.leadership(), epoch_start: replica.epoch_start() }
    }
}

/// Why records were not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProduceError {
    /// This broker may not append, or not with enough replicas.
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    /// The log refuses them.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl ProduceError {
    /// The code that a client is told.
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            Self::Leadership(LeadershipError::NotLeader) => ErrorCode::NotLeaderOrFollower,
            Self::Leadership(LeadershipError::NotEnoughReplicas { .. }) => {
                ErrorCode::NotEnoughReplicas
            }
            Self::Append(error) => error.error_code(),
        }
    }
}

/// Why no records were deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteRecordsError {
    /// Another broker leads.
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    /// The topic's configuration has no `delete` in `cleanup.policy`.
    #[error("cleanup.policy does not allow that records are deleted")]
    Policy,
    /// What is not committed cannot be deleted, and there is nothing before offset 0.
    #[error("offset {offset} lies outside of what is committed, up to {high_watermark}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The high watermark.
        high_watermark: Offset,
    },
    /// The log is gone or its disk failed.
    #[error(transparent)]
    Storage(#[from] LogDirFailure),
}

impl DeleteRecordsError {
    /// The code that a client is told.
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            Self::Leadership(LeadershipError::NotLeader) => ErrorCode::NotLeaderOrFollower,
            Self::Leadership(LeadershipError::NotEnoughReplicas { .. }) => {
                ErrorCode::NotEnoughReplicas
            }
            Self::Policy => ErrorCode::PolicyViolation,
            Self::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Storage(_) => ErrorCode::KafkaStorageError,
        }
    }
}

/// Records that are in the log, and whether they are committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    pub(crate) info: LogAppendInfo,
    /// The epoch in which this broker led.
    pub(crate) epoch: LeaderEpoch,
    pub(crate) committed: bool,
}

/// How far a reader may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadBound {
    /// Consumers: what is committed.
    HighWatermark,
    /// Consumers with `isolation.level=read_committed`: what no open transaction precedes (KIP-98).
    LastStableOffset,
    /// Followers: everything.
    LogEnd,
}

impl Partition {
    /// A partition under the replicas that the controller recorded.
    pub(super) fn new(
        (name, topic_id): (TopicPartition, TopicId),
        log: Arc<Log>,
        replicas: Replicas,
        context: &Arc<ReplicaContext>,
    ) -> Self {
        let brokers = context.brokers();
        let moment = Moment { now: context.now(), brokers: &brokers };
        let ends = (log.log_end_offset(), log.high_watermark());
        let terms = context.terms(&log.config());
        let replica = Replica::new(context.local(), replicas, ends, terms, &moment);
        let leadership = replica.leadership();
        if leadership.is_leader() {
            log.assign_epoch_start(leadership.epoch());
        }
        let high_watermark = replica.high_watermark();
        log.set_high_watermark(high_watermark);
        let throttling = Throttling::of(&log.config(), name.partition, context.local());
        Self {
            name,
            topic_id,
            context: Arc::clone(context),
            log: ArcSwap::new(log),
            view: ArcSwap::from_pointee(View::of(&replica)),
            replica: Mutex::new(replica),
            led_since: AtomicI32::new(leadership.epoch().0),
            owed: Mutex::default(),
            watermarks: Watermarks::new(high_watermark),
            throttling: ArcSwap::from_pointee(throttling),
        }
    }

    /// Lets `act` happen now. For a sole replica neither the time nor other brokers matter, and nobody is asked for them.
    fn at_this_moment<T>(
        &self,
        replica: &mut Replica,
        act: impl FnOnce(&mut Replica, &Moment<'_>) -> T,
    ) -> T {
        if replica.is_sole() {
            return act(replica, &Moment { now: Monotonic::default(), brokers: &Brokers::NOBODY });
        }
        let brokers = self.context.brokers();
        act(replica, &Moment { now: self.context.now(), brokers: &brokers })
    }

    pub(crate) fn name(&self) -> &TopicPartition {
        &self.name
    }

    pub(crate) fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    pub(crate) fn log(&self) -> Guard<Arc<Log>> {
        self.log.load()
    }

    /// Looks into the log; once more if it has moved to another directory meanwhile.
    pub(crate) fn look<T>(
        &self,
        look: impl Fn(&Log) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let before = self.log();
        match look(&before) {
            Err(ReadError::Storage(LogDirFailure::Closed)) => look(&self.moved_on(&before)),
            looked => looked,
        }
    }

    /// The log, by now: one that was closed because it moves is soon in its new place.
    fn moved_on(&self, before: &Arc<Log>) -> Guard<Arc<Log>> {
        if Arc::ptr_eq(&self.log(), before) {
            drop(self.replica.lock());
        }
        self.log()
    }

    /// Puts the log that `finish` answers in the place of the one there is; nothing is appended meanwhile. Blocks on the
    /// disk, and whoever appends waits for it.
    pub(crate) fn move_log<E>(
        &self,
        finish: impl FnOnce() -> Result<Arc<Log>, E>,
    ) -> Result<Arc<Log>, E> {
        let _replica = self.replica.lock();
        let log = finish()?;
        self.log.store(Arc::clone(&log));
        Ok(log)
    }

    /// The replica, for whoever asks its leader; `None` if another broker leads. Who holds the lock of a leader is soon done, but
    /// a follower holds it while it truncates its log: a client with old metadata must not wait for that disk. Where the lock is
    /// free this costs nothing.
    fn lock_to_lead(&self) -> Option<MutexGuard<'_, Replica>> {
        let replica = self.replica.try_lock();
        replica.or_else(|| self.is_leader().then(|| self.replica.lock()))
    }

    /// Appends what a client or a coordinator sent, if this broker leads.
    ///
    /// With `all_replicas` (`acks=all`) it is refused, before anything is written, when fewer than `min.insync.replicas`
    /// would hold it.
    pub(crate) fn append(
        &self,
        records: &Bytes,
        origin: AppendOrigin,
        all_replicas: bool,
        now: Timestamp,
    ) -> Result<Appended, ProduceError> {
        let mut replica = self.lock_to_lead().ok_or(LeadershipError::NotLeader)?;
        self.append_as(&mut replica, records, origin, (all_replicas, now))
    }

    /// [`append`](Self::append) for all replicas, if this broker still leads in `epoch`: what was decided on the records of
    /// one epoch must not follow those of another leader.
    pub(crate) fn append_in_epoch(
        &self,
        epoch: LeaderEpoch,
        records: &Bytes,
        origin: AppendOrigin,
        now: Timestamp,
    ) -> Result<Appended, ProduceError> {
        let mut replica = self.lock_to_lead().ok_or(LeadershipError::NotLeader)?;
        if replica.leadership().epoch() != epoch {
            return Err(LeadershipError::NotLeader.into());
        }
        self.append_as(&mut replica, records, origin, (true, now))
    }

    fn append_as(
        &self,
        replica: &mut Replica,
        records: &Bytes,
        origin: AppendOrigin,
        (all_replicas, now): (bool, Timestamp),
    ) -> Result<Appended, ProduceError> {
        let log = self.log();
        replica.leadership().check_leader()?;
        if all_replicas {
            replica.check_min_isr()?;
        }
        let epoch = replica.leadership().epoch();
        let leader_epoch = epoch;
        let info = log.append_as_leader(records, LeaderAppend { leader_epoch, origin, now })?;
        if info.flush_due {
            // No consumer may read what a power loss could still take back: see `begin_flush`. Followers may, and flush too.
            self.watermarks.log_grew();
            return Ok(Appended { info, epoch, committed: false });
        }
        let high_watermark = self.log_ends_at(replica, info.log_end_offset);
        self.watermarks.log_grew();
        Ok(Appended { info, epoch, committed: high_watermark > info.last_offset })
    }

    /// Begins to make everything before `end` survive a power loss, together with whatever else waits for the same disk;
    /// only then it is committed. It happens even if nobody awaits the answer.
    pub(crate) fn begin_flush(self: &Arc<Self>, end: Offset) -> Flushing {
        let (answer, flushed) = oneshot::channel();
        self.flush_in_group((self.leader_epoch(), end), answer);
        Box::pin(async move { flushed.await.unwrap_or(Err(LogDirFailure::Closed)) })
    }

    fn flush_in_group(
        self: &Arc<Self>,
        (epoch, end): (LeaderEpoch, Offset),
        answer: oneshot::Sender<Result<(), LogDirFailure>>,
    ) {
        let (partition, log) = (Arc::clone(self), self.log.load_full());
        let flushing = Arc::clone(&log);
        flushing.flush_in_group(end, move |flushed| {
            let is_closed = matches!(flushed, Err(LogDirFailure::Closed));
            if is_closed && !Arc::ptr_eq(&partition.moved_on(&log), &log) {
                return partition.flush_in_group((epoch, end), answer);
            }
            if flushed.is_ok() {
                partition.flushed(epoch, end);
            }
            // Whoever asked may be gone.
            let _unheard = answer.send(flushed);
        });
    }

    fn flushed(&self, epoch: LeaderEpoch, end: Offset) {
        let mut replica = self.replica.lock();
        self.owed.lock().flushed(end);
        // Where another led in between, the log may have been cut: what it holds there now need not be what was flushed.
        let led_since = LeaderEpoch(self.led_since.load(Ordering::Relaxed));
        if replica.leadership().is_leader() && epoch >= led_since {
            let end = end.min(self.log().log_end_offset()).max(replica.log_end());
            self.log_ends_at(&mut replica, end);
        }
    }

    /// Deletes all records before `offset` (KIP-107): nobody may read them any more. That it stays so is to be made sure
    /// of with [`ReplicaManager::keep_log_starts`](super::ReplicaManager::keep_log_starts).
    pub(crate) fn delete_records(&self, offset: Offset) -> Result<(), DeleteRecordsError> {
        // A log that moves takes its first offset along.
        let replica = self.lock_to_lead().ok_or(LeadershipError::NotLeader)?;
        replica.leadership().check_leader()?;
        if !self.log().config().cleanup_policy.delete {
            return Err(DeleteRecordsError::Policy);
        }
        let high_watermark = self.high_watermark();
        if offset < Offset(0) || offset > high_watermark {
            return Err(DeleteRecordsError::OffsetOutOfRange { offset, high_watermark });
        }
        self.log().increment_log_start_offset(offset)?;
        self.watermarks.start_moved();
        Ok(())
    }

    fn log_ends_at(&self, replica: &mut Replica, end: Offset) -> Offset {
        let advance = self.at_this_moment(replica, |replica, moment| replica.appended(end, moment));
        self.publish(advance);
        advance.high_watermark
    }

    fn publish(&self, advance: Advance) {
        if advance.advanced {
            self.log().set_high_watermark(advance.high_watermark);
            self.watermarks.publish(advance.high_watermark);
        }
    }

    /// Takes over what the controller recorded; a change of hands wakes everybody who waits.
    pub(super) fn replicas_changed(&self, replicas: Replicas) {
        let mut replica = self.replica.lock();
        let before = replica.leadership();
        let end = self.log().log_end_offset();
        let is_unflushed = before.is_leader() && replica.log_end() < end;
        let changed = self.at_this_moment(&mut replica, |replica, moment| {
            replica.replicas_changed(replicas, end, moment)
        });
        if changed {
            let now = replica.leadership();
            if is_unflushed && !now.is_leader() {
                // What a leader has not flushed it does not count, but the next one would.
                self.owed.lock().flush = Some(end);
            }
            if now.is_leader() && !before.is_leader() {
                self.led_since.store(now.epoch().0, Ordering::Relaxed);
            }
            if now.is_leader() && now.epoch() != before.epoch() {
                self.log().assign_epoch_start(now.epoch());
            }
            self.show(&replica);
        }
    }

    /// Lets readers see what `replica` is by now.
    fn show(&self, replica: &Replica) {
        // Before the watermarks: whoever they wake looks at it.
        self.view.store(Arc::new(View::of(replica)));
        self.log().set_high_watermark(replica.high_watermark());
        self.watermarks.publish(replica.high_watermark());
        self.watermarks.wake_all();
    }

    /// The partition is not here any more, or its disk failed: whoever waits for it looks again, and finds out.
    pub(super) fn retire(&self) {
        // Under the lock, as all publications are: an older high watermark must not follow a newer one.
        let mut replica = self.replica.lock();
        replica.retired();
        self.view.store(Arc::new(View::of(&replica)));
        self.watermarks.wake_all();
    }

    pub(super) fn config_changed(&self, config: LogConfig) {
        self.throttling_configured(&config);
        // A log that moves takes its configuration along.
        let mut replica = self.replica.lock();
        let terms: Terms = self.context.terms(&config);
        self.log().update_config(config);
        let advance = self
            .at_this_moment(&mut replica, |replica, moment| replica.terms_changed(terms, moment));
        self.publish(advance);
    }

    /// Refuses a reader who knows another leader epoch (KIP-320), or this broker if it does not lead.
    pub(crate) fn check_reader(&self, epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        self.check_epoch(epoch)?;
        let leadership = self.leadership();
        leadership.check_leader().map_err(|_not_leader| ErrorCode::NotLeaderOrFollower)
    }

    /// Refuses a reader who knows another leader epoch (KIP-320). Followers serve consumers too (KIP-392).
    pub(crate) fn check_epoch(&self, epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        self.leadership().check_epoch(epoch).map_err(epoch_error)
    }

    fn leadership(&self) -> Leadership {
        self.view.load().leadership
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.leadership().is_leader()
    }

    /// Who leads, for a client that has to look elsewhere.
    pub(crate) fn current_leader(&self) -> LeaderIdAndEpoch {
        let leadership = self.leadership();
        LeaderIdAndEpoch { leader_id: leadership.leader(), leader_epoch: leadership.epoch() }
    }

    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        self.leadership().epoch()
    }

    /// Where the largest epoch up to `epoch` ended (KIP-101); nothing is known of epochs from the future.
    pub(crate) fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<EpochEndOffset> {
        let current = self.leader_epoch();
        if epoch == current {
            // The current epoch need not have a record yet.
            let end_offset = self.log().log_end_offset();
            return Some(EpochEndOffset { epoch, end_offset });
        }
        self.log().end_offset_for_epoch(epoch)
    }

    /// Records below it are committed.
    pub(crate) fn high_watermark(&self) -> Offset {
        self.watermarks.high_watermark()
    }

    /// Records below it may be read within `bound`.
    pub(crate) fn upper_bound(&self, bound: ReadBound) -> Offset {
        let high_watermark = self.high_watermark();
        match bound {
            ReadBound::HighWatermark => high_watermark,
            ReadBound::LastStableOffset => self.log().last_stable_offset(high_watermark),
            ReadBound::LogEnd => self.log().log_end_offset(),
        }
    }
}

fn epoch_error(error: EpochCheckError) -> ErrorCode {
    match error {
        EpochCheckError::Fenced { .. } => ErrorCode::FencedLeaderEpoch,
        EpochCheckError::Unknown { .. } => ErrorCode::UnknownLeaderEpoch,
    }
}

impl Watched for Partition {
    fn watermarks(&self) -> &Watermarks {
        &self.watermarks
    }
}

#[cfg(test)]
mod tests;
