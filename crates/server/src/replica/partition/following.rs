//! What a partition does while another broker leads it: it repeats that broker's log.

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::fetch::{FetchPartition, PartitionData};
use ottla_protocol::record_batch::batches;
use ottla_protocol::{BrokerId, LeaderEpoch, Offset};
use ottla_replication::{
    EpochEnd, Partition as Replica, Reposition, reposition, truncation_offset,
};
use ottla_storage::{AppendError, LogDirFailure, LogManager};
use tracing::{info, warn};

use super::{Flushing, Partition};

/// From whom a partition is fetched, and in which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FetchedBy {
    pub(crate) leader: BrokerId,
    pub(crate) epoch: LeaderEpoch,
}

/// What became of a leader's answer.
pub(crate) enum Fetched {
    /// It is in the log.
    Appended {
        /// Where `flush.messages` asks for it, the records have to be on the disk before the leader hears of them.
        flushing: Option<Flushing>,
        /// So has, always, where the log begins now: whoever deletes records takes a follower's word for it (KIP-107).
        start_moved: bool,
    },
    /// The logs part: see [`Partition::truncate`].
    Diverging(EpochEnd),
    /// Nothing was done: see [`Partition::begin_within_batch`].
    BeginsWithinBatch,
    /// It was asked for in another epoch, or from another position: nothing was done.
    Outdated,
}

/// What a follower has taken, and its disk has to hold before the leader is asked for more: by what it is asked for, the leader
/// counts what is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owed {
    /// All records before it, where `flush.messages` asks for that.
    pub(crate) flush: Option<Offset>,
    /// Where the log begins now.
    pub(crate) start: Option<Offset>,
    /// That the log ends here since it was cut: nothing may be appended before, see [`LogManager::truncate_to`].
    pub(crate) cut: Option<Offset>,
}

impl Owed {
    pub(super) fn flushed(&mut self, end: Offset) {
        self.flush.take_if(|owed| *owed <= end);
    }
}

/// Why a leader's answer could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotFetched {
    /// The log refuses it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A batch is of a later epoch than the one it was fetched in: its leader is none, or does not know of it yet.
    #[error("the leader of epoch {fetched} sent a batch of epoch {found}")]
    LaterEpoch {
        /// The epoch of the fetch.
        fetched: LeaderEpoch,
        /// That of the batch.
        found: LeaderEpoch,
    },
    /// The log is gone or its disk failed.
    #[error(transparent)]
    Storage(#[from] LogDirFailure),
}

/// Where the log is to be cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Truncation {
    /// The leader says where its log leaves ours.
    Diverging(EpochEnd),
    /// Our end lies outside of the leader's log, which begins and ends here.
    OutOfRange { start: Offset, end: Offset },
}

impl Partition {
    /// From whom to fetch; `None` if nobody else leads, or the disk failed.
    pub(crate) fn fetched_by(&self) -> Option<FetchedBy> {
        let position = self.replica.lock().fetch_position()?;
        let usable = self.log().log_dir().failure().is_none();
        usable.then_some(FetchedBy { leader: position.leader, epoch: position.leader_epoch })
    }

    /// What to ask the leader for next; nothing as long as the disk [owes](Self::owed) something.
    pub(crate) fn fetch_request(&self, max_bytes: i32) -> Option<(FetchedBy, FetchPartition)> {
        let replica = self.replica.lock();
        let position = replica.fetch_position().filter(|_| self.owed() == Owed::default())?;
        let log = self.log();
        if log.log_dir().failure().is_some() {
            return None;
        }
        let row = FetchPartition {
            partition: self.name.partition,
            current_leader_epoch: position.leader_epoch,
            fetch_offset: position.offset,
            last_fetched_epoch: log.latest_epoch().unwrap_or(LeaderEpoch::NONE),
            log_start_offset: log.log_start_offset(),
            partition_max_bytes: max_bytes,
            ..FetchPartition::default()
        };
        Some((FetchedBy { leader: position.leader, epoch: position.leader_epoch }, row))
    }

    /// Takes what the leader sent to an answer of `asked`: exactly its batches, its high watermark, its log start.
    pub(crate) fn take_fetched(
        self: &Arc<Self>,
        asked: &FetchPartition,
        data: &PartitionData<Bytes>,
    ) -> Result<Fetched, NotFetched> {
        let mut replica = self.replica.lock();
        let epoch = asked.current_leader_epoch;
        if !is_current(&replica, asked) {
            return Ok(Fetched::Outdated);
        }
        if let Some(diverging) = data.diverging_epoch {
            let (epoch, end) = (diverging.epoch, diverging.end_offset);
            return Ok(Fetched::Diverging(EpochEnd { epoch, end }));
        }
        let log = self.log();
        let mut end = log.log_end_offset();
        let mut flush_due = false;
        let records = whole_batches(&data.records, epoch)?;
        let is_empty = log.log_start_offset() == end;
        if is_empty && first_offset(&records).is_some_and(|first| first < end) {
            return Ok(Fetched::BeginsWithinBatch);
        }
        if !records.is_empty() {
            let info = log.append_as_follower(&records)?;
            (end, flush_due) = (info.log_end_offset, info.flush_due);
        }
        if flush_due {
            self.owed.lock().flush = Some(end);
        }
        if let Some(advance) = replica.fetched(epoch, end, data.high_watermark) {
            self.publish(advance);
        }
        let start_moved = data.log_start_offset > log.log_start_offset();
        if start_moved {
            let start = log.increment_log_start_offset(data.log_start_offset)?;
            self.owed.lock().start = Some(start);
            replica.log_starts_at(start);
            self.watermarks.publish(replica.high_watermark());
        }
        drop(replica);
        let flushing = flush_due.then(|| self.begin_flush(end));
        Ok(Fetched::Appended { flushing, start_moved })
    }

    /// Takes what [`take_fetched`](Self::take_fetched) did not: the log is empty, and is to begin within the first batch, of
    /// which the leader has deleted some records. It begins with the whole batch, as the leader's does, and then its first
    /// offset is moved on (Kafka's `UnexpectedAppendOffsetException`). Blocks on the disk.
    pub(crate) fn begin_within_batch(
        self: &Arc<Self>,
        logs: &LogManager,
        asked: &FetchPartition,
        data: &PartitionData<Bytes>,
    ) -> Result<Fetched, NotFetched> {
        let mut replica = self.replica.lock();
        let records = whole_batches(&data.records, asked.current_leader_epoch)?;
        let first = first_offset(&records).filter(|_| is_current(&replica, asked));
        let Some(first) = first else { return Ok(Fetched::Outdated) };
        let log = self.log();
        let start = asked.fetch_offset.max(data.log_start_offset);
        info!(partition = %self.name, %first, %start, "the leader's log begins within a batch: so does ours");
        let cut = logs.truncate_fully_and_start_at(&log, first);
        if cut.is_err() {
            self.owed.lock().cut = Some(log.log_end_offset());
        }
        replica.truncated(log.log_end_offset());
        cut?;
        let info = log.append_as_follower(&records)?;
        let (epoch, end) = (asked.current_leader_epoch, info.log_end_offset);
        if info.flush_due {
            self.owed.lock().flush = Some(end);
        }
        replica.fetched(epoch, end, data.high_watermark);
        let start = log.increment_log_start_offset(start)?;
        self.owed.lock().start = Some(start);
        replica.log_starts_at(start);
        log.set_high_watermark(replica.high_watermark());
        self.watermarks.publish(replica.high_watermark());
        drop(replica);
        let flushing = info.flush_due.then(|| self.begin_flush(end));
        Ok(Fetched::Appended { flushing, start_moved: true })
    }

    /// What the disk does not hold yet, though it has to.
    pub(crate) fn owed(&self) -> Owed {
        *self.owed.lock()
    }

    /// The checkpoints hold what was `owed` when they were written.
    pub(crate) fn checkpointed(&self, owed: Owed) {
        let mut owes = self.owed.lock();
        owes.start.take_if(|start| owed.start == Some(*start));
        owes.cut.take_if(|end| owed.cut == Some(*end));
    }

    /// Cuts the log where it leaves the leader's (KIP-101, KIP-279, KIP-595), if it is still followed in `epoch`. Blocks on
    /// the disk.
    pub(crate) fn truncate(
        &self,
        logs: &LogManager,
        epoch: LeaderEpoch,
        truncation: Truncation,
    ) -> Result<(), LogDirFailure> {
        let mut replica = self.replica.lock();
        if replica.fetch_position().is_none_or(|position| position.leader_epoch != epoch) {
            return Ok(());
        }
        let cut = self.cut(logs, truncation, replica.high_watermark());
        // Even if that failed half done: a log that is cut ends here.
        let log = self.log();
        let end = log.log_end_offset();
        if cut.is_err() {
            self.owed.lock().cut = Some(end);
        }
        replica.truncated(end);
        replica.log_starts_at(log.log_start_offset());
        log.set_high_watermark(replica.high_watermark());
        self.watermarks.publish(replica.high_watermark());
        cut
    }

    fn cut(
        &self,
        logs: &LogManager,
        truncation: Truncation,
        high_watermark: Offset,
    ) -> Result<(), LogDirFailure> {
        let log = self.log();
        let before = log.log_end_offset();
        match truncation {
            Truncation::Diverging(leader) => {
                let own = log.end_offset_for_epoch(leader.epoch);
                let own = own.map(|end| EpochEnd { epoch: end.epoch, end: end.end_offset });
                let to = truncation_offset(leader, own, before);
                info!(partition = %self.name, from = %before, %to, "the leader's log leaves ours: truncating");
                if to < high_watermark {
                    warn!(partition = %self.name, %to, %high_watermark, "truncating below the high watermark: an unclean election has lost records");
                }
                logs.truncate_to(&log, to)?;
            }
            Truncation::OutOfRange { start, end } => match reposition(before, start, end) {
                Reposition::TruncateTo(to) => {
                    warn!(partition = %self.name, from = %before, %to, "the leader's log ends before ours: truncating");
                    logs.truncate_to(&log, to)?;
                }
                Reposition::StartAt(at) => {
                    info!(partition = %self.name, end = %before, %at, "the leader's log begins behind ours: starting anew");
                    logs.truncate_fully_and_start_at(&log, at)?;
                }
                Reposition::Stay => return Ok(()),
            },
        }
        Ok(())
    }
}

/// Whether `asked` is what would be asked for now.
fn is_current(replica: &Replica, asked: &FetchPartition) -> bool {
    replica.fetch_position().is_some_and(|position| {
        position.leader_epoch == asked.current_leader_epoch && position.offset == asked.fetch_offset
    })
}

fn first_offset(records: &Bytes) -> Option<Offset> {
    batches(records).next()?.ok().map(|batch| batch.base_offset())
}

/// The batches of an answer that are whole: a response may be cut off within its last one. None of them may be of a later
/// epoch than the one it was fetched in.
fn whole_batches(records: &Bytes, epoch: LeaderEpoch) -> Result<Bytes, NotFetched> {
    let mut len = 0;
    for batch in batches(records) {
        let Ok(batch) = batch else { break };
        if batch.leader_epoch() > epoch {
            return Err(NotFetched::LaterEpoch { fetched: epoch, found: batch.leader_epoch() });
        }
        len += batch.len();
    }
    Ok(records.slice(..len))
}
