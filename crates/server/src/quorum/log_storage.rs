//! What openraft stores through: the log and the vote, with group commit.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use ottla_env::Env;
use ottla_protocol::{Offset, TopicPartition, Uuid};
use parking_lot::Mutex;

use super::METADATA_LOG_DIR;
use super::batch::corrupt;
use super::entry_log::{Bounds, EntryLog};
use super::quorum_state::{Owner, QuorumStateFile};
use super::raft_config::{LogEntry, LogId, MetadataRaft, Vote};

/// Bytes of entries that are read for one message to another voter. A larger entry goes alone.
const READ_BYTES: usize = 4 << 20;

/// A handle on the stored log and vote; clones share them.
#[derive(Clone)]
pub(super) struct LogStorage(Arc<Stored>);

struct Stored {
    env: Env,
    log: Mutex<EntryLog>,
    state: Mutex<QuorumStateFile>,
    flushes: Mutex<Flushes>,
    /// Held while the log is synced, or cut, and how far it is synced is noted: what was synced before a cut says nothing
    /// of what comes in its place.
    syncing: Mutex<()>,
    /// End offset of the newest snapshot, for a log that lags behind it.
    snapshot_end: AtomicI64,
}

/// What a reader finds of the committed log.
pub(super) enum Past {
    /// Batches, maybe none.
    Kept(Bytes),
    /// A snapshot has replaced it.
    Purged,
    /// The reader has read another log.
    Diverged,
}

/// Appends that wait for the disk. One sync serves all that wait when it begins.
#[derive(Default)]
struct Flushes {
    waiting: Vec<IOFlushed<MetadataRaft>>,
    is_running: bool,
}

impl LogStorage {
    /// Opens or makes the log and the vote in [`METADATA_LOG_DIR`] inside `dir`. A segment takes so many bytes, and so long.
    pub(super) fn open(
        env: &Env,
        dir: &Path,
        owner: Owner,
        segments: (u32, Duration),
    ) -> io::Result<Self> {
        let partition = TopicPartition::new("__cluster_metadata", 0);
        let path = dir.join(METADATA_LOG_DIR);
        env.disk.create_dir_all(&path)?;
        env.disk.sync_dir(dir)?;
        let mut state = QuorumStateFile::open(env, &path.join("quorum-state"), owner)?;
        let stored = state.state().clone();
        if stored.owner.directory_id == Uuid::ZERO
            && stored.owner == (Owner { directory_id: Uuid::ZERO, ..owner })
        {
            // Written by a release that did not note it.
            state.save(|state| state.owner = owner)?;
        }
        let bounds = Bounds {
            purged: stored.purged,
            log_start_offset: stored.log_start_offset,
            flushed_end_offset: stored.flushed_end_offset,
        };
        let vote_term = stored.vote.map_or(0, |vote| vote.leader_id.term);
        let log = EntryLog::open(env, dir, partition, segments, bounds)?;
        if let Some(last) = log.last().filter(|last| last.leader_id.term > vote_term) {
            return Err(corrupt(format!(
                "quorum-state in {} has lost a vote: it knows epoch {vote_term}, the log epoch {}",
                path.display(),
                last.leader_id.term
            )));
        }
        state.mark_flushed(log.end_offset())?;
        Ok(Self(Arc::new(Stored {
            env: env.clone(),
            log: Mutex::new(log),
            state: Mutex::new(state),
            flushes: Mutex::default(),
            syncing: Mutex::default(),
            snapshot_end: AtomicI64::new(0),
        })))
    }

    /// Whose log it is.
    pub(super) fn owner(&self) -> Owner {
        self.0.state.lock().state().owner
    }

    /// The stored vote.
    pub(super) fn vote(&self) -> Option<Vote> {
        self.0.state.lock().state().vote
    }

    /// The last entry, or the last purged one.
    pub(super) fn last(&self) -> Option<LogId> {
        self.0.log.lock().last()
    }

    /// Bytes free for the log, if that can be told.
    pub(super) fn free_space(&self) -> Option<u64> {
        let dir = self.0.log.lock().log().path().to_owned();
        self.0.env.disk.available_space(&dir).ok()
    }

    /// First and next offset.
    pub(super) fn offsets(&self) -> (i64, i64) {
        let log = self.0.log.lock();
        (log.start_offset(), log.end_offset())
    }

    /// End offset and bytes of each segment, oldest first.
    pub(super) fn segment_sizes(&self) -> Vec<(i64, u64)> {
        let log = self.0.log.lock().log();
        log.segment_sizes().into_iter().map(|(end, bytes)| (end.0, bytes)).collect()
    }

    /// The number of the last entry that begins before `offset`, if any is here.
    pub(super) fn index_before(&self, offset: i64) -> Option<u64> {
        self.0.log.lock().index_before(offset)
    }

    /// Offset of the entry after `last`, if that is here.
    pub(super) fn offset_after(&self, last: Option<LogId>) -> Option<i64> {
        self.0.log.lock().offset_after(last)
    }

    /// Whether `id` cannot be in a log that agrees with this one up to `committed`. No voter that works
    /// says so, and Raft does not expect it.
    pub(super) fn contradicts(&self, id: LogId, committed: LogId) -> bool {
        if id.index > committed.index {
            return false;
        }
        id > committed
            || self.0.log.lock().term_at(id.index).is_some_and(|it| it != id.leader_id.term)
    }

    /// Batches from `offset` on and before `upto`; the record before them has to be of `epoch`.
    pub(super) fn committed_after(
        &self,
        (offset, epoch): (i64, i32),
        upto: i64,
        max_bytes: usize,
    ) -> io::Result<Past> {
        let log = {
            let log = self.0.log.lock();
            if offset < log.start_offset() {
                return Ok(Past::Purged);
            }
            if offset > upto || log.epoch_before(offset) != epoch {
                return Ok(Past::Diverged);
            }
            log.log()
        };
        // What is purged meanwhile is found out by the read.
        match log.read(Offset(offset), max_bytes, true, Offset(upto)) {
            Ok(data) => data.read().map(Past::Kept),
            Err(_) if offset < self.offsets().0 => Ok(Past::Purged),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// A snapshot that ends at `end_offset` is on the disk.
    pub(super) fn snapshot_taken(&self, end_offset: i64) {
        self.0.snapshot_end.fetch_max(end_offset, Ordering::Relaxed);
    }

    /// Entries in `range`, as far as they exist.
    pub(super) fn read(&self, range: impl RangeBounds<u64>) -> io::Result<Vec<LogEntry>> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let stretch = self.0.log.lock().stretch(from, to);
        stretch.map_or_else(|| Ok(Vec::new()), |stretch| stretch.read())
    }

    /// Syncs the log, unless it is, and remembers how far; blocks. After a failed sync the system
    /// may have dropped what was not written, so the log refuses everything from then on.
    fn flush(&self) -> io::Result<()> {
        let _no_cut = self.0.syncing.lock();
        let log = self.0.log.lock().log();
        let end_offset = log.log_end_offset();
        if self.0.state.lock().state().flushed_end_offset >= end_offset.0 {
            return Ok(());
        }
        log.flush(end_offset).map_err(io::Error::other)?;
        self.0.state.lock().mark_flushed(end_offset.0)
    }

    /// Cuts the log after the entry `last`; blocks.
    fn cut_after(&self, last: Option<u64>) -> io::Result<()> {
        let _no_flush = self.0.syncing.lock();
        let end_offset = self.0.log.lock().end_after_truncation(last);
        // First the promise shrinks, then the log, or a crash between looks like damage.
        self.0.state.lock().save(|state| {
            state.flushed_end_offset = state.flushed_end_offset.min(end_offset);
        })?;
        self.0.log.lock().truncate_after(last)
    }

    /// Syncs the log, then everything in the quorum state; blocks.
    pub(super) fn close(&self) -> io::Result<()> {
        self.flush()?;
        let log = self.0.log.lock().log();
        log.close().map_err(io::Error::other)?;
        self.0.state.lock().save(|_| {})
    }

    /// Syncs until nobody waits.
    async fn run_flushes(self) {
        loop {
            let waiting = {
                let mut flushes = self.0.flushes.lock();
                flushes.is_running = !flushes.waiting.is_empty();
                std::mem::take(&mut flushes.waiting)
            };
            if waiting.is_empty() {
                return;
            }
            let storage = self.clone();
            let flushed = self.0.env.run_blocking(move || storage.flush()).await;
            for callback in waiting {
                callback.io_completed(match &flushed {
                    Ok(()) => Ok(()),
                    Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                });
            }
        }
    }
}

impl RaftLogReader<MetadataRaft> for LogStorage {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<LogEntry>> {
        self.read(range)
    }

    /// As many as a message between voters takes; at least one.
    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> io::Result<Vec<LogEntry>> {
        let stretch = self.0.log.lock().stretch(from, to);
        stretch.map_or_else(|| Ok(Vec::new()), |stretch| stretch.read_some(READ_BYTES))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.vote())
    }
}

impl RaftLogStorage<MetadataRaft> for LogStorage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<MetadataRaft>> {
        let log = self.0.log.lock();
        Ok(LogState { last_purged_log_id: log.purged(), last_log_id: log.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (storage, vote) = (self.clone(), *vote);
        // What was appended before a vote must not be lost when the vote is not.
        self.0
            .env
            .run_blocking(move || {
                storage.flush()?;
                storage.0.state.lock().save(|state| state.vote = Some(vote))
            })
            .await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<MetadataRaft>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let leader = self.vote().map_or(0, |vote| vote.leader_id.voted_for);
        let now = self.0.env.clock.wall();
        self.0.log.lock().append(entries, leader, now)?;
        let must_start = {
            let mut flushes = self.0.flushes.lock();
            flushes.waiting.push(callback);
            !std::mem::replace(&mut flushes.is_running, true)
        };
        if must_start {
            // Detached: it ends by itself, and a callback that is dropped would stop the core.
            let _task = self.0.env.spawn("metadata log flush", self.clone().run_flushes());
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let storage = self.clone();
        let last = last.map(|last| last.index);
        self.0.env.run_blocking(move || storage.cut_after(last)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let storage = self.clone();
        self.0
            .env
            .run_blocking(move || {
                let snapshot_end = storage.0.snapshot_end.load(Ordering::Relaxed);
                let start_offset = {
                    let log = storage.0.log.lock();
                    if Some(upto) <= log.purged() {
                        return Ok(());
                    }
                    log.start_after_purge(upto, snapshot_end)
                };
                // First the note that the prefix is gone, then the prefix.
                storage.0.state.lock().save(|state| {
                    state.purged = Some(upto);
                    state.log_start_offset = start_offset;
                })?;
                let now = storage.0.env.clock.wall();
                storage.0.log.lock().purge(upto, start_offset, now)
            })
            .await
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "two threads meet")]
mod tests {
    use std::thread::yield_now;
    use std::time::Instant;

    use super::super::raft_config::{Payload, log_id};
    use super::*;
    use crate::faulty_disk::{Faults, faulty_env};
    use openraft::entry::RaftEntry as _;

    /// Of four entries.
    fn four_in(dir: &Path, env: &Env) -> LogStorage {
        let owner = Owner { cluster_id: Uuid::ZERO, node_id: 1, directory_id: Uuid::ZERO };
        let storage = LogStorage::open(env, dir, owner, (1 << 20, Duration::MAX)).unwrap();
        let entries = (0..4).map(|index| LogEntry::new(log_id(1, index), Payload::Blank));
        storage.0.log.lock().append(entries, 1, env.clock.wall()).unwrap();
        storage
    }

    #[tokio::test]
    async fn a_cut_behind_a_rotten_entry_is_no_success() {
        let dir = tempfile::tempdir().unwrap();
        let storage = four_in(dir.path(), &Env::os());
        let file = dir.path().join(METADATA_LOG_DIR).join("00000000000000000000.log");
        let mut bytes = std::fs::read(&file).unwrap();
        let in_the_second = bytes.len() / 2 - 1;
        bytes[in_the_second] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let cut = storage.cut_after(Some(2)).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::InvalidData, "{cut}");
    }

    #[tokio::test]
    async fn a_sync_that_began_before_a_cut_promises_nothing_after_it() {
        let (dir, faults) = (tempfile::tempdir().unwrap(), Arc::new(Faults::default()));
        let env = faulty_env(Env::os(), &faults);
        let storage = four_in(dir.path(), &env);
        let before = faults.syncs.load(Ordering::Relaxed);
        let syncs = || faults.syncs.load(Ordering::Relaxed) - before;
        std::thread::scope(|scope| {
            let gate = faults.gate.lock();
            scope.spawn(|| storage.flush().unwrap());
            while syncs() < 1 {
                yield_now();
            }
            scope.spawn(|| storage.cut_after(Some(1)).unwrap());
            // It has to wait for the other, and comes to a sync of its own if it does not.
            let began = Instant::now();
            while syncs() < 2 && began.elapsed() < Duration::from_millis(200) {
                yield_now();
            }
            drop(gate);
        });
        assert_eq!(storage.offsets().1, 2);
        assert_eq!(storage.0.state.lock().state().flushed_end_offset, 2);
    }
}
