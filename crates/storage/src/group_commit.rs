//! Group commit: the logs of a directory that wait for the disk share one sync.
//!
//! ```text
//! append, flush.messages due ─► flush_soon ─┐                       ┌─► done: high watermark, answers
//! append, flush.messages due ─► flush_soon ─┼─► one job: hold all,  ┼─► done
//! append, flush.messages due ─► flush_soon ─┘   note ends, sync     └─► done
//!                         meanwhile: wait for the next turn
//! ```
//!
//! Why one sync may stand for many, and when it must not: docs/adr/0007-group-commit.md.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_env::FileSystem;
use ottla_protocol::{Offset, TopicPartition};

use crate::log::{Log, Unsynced};
use crate::log_dir::{LogDir, LogDirFailure};

/// Up to so many system calls, syncing file by file costs less than syncing the file system.
const FEW_CALLS: usize = 2;

/// So often a turn lets other threads go first, at most.
const MAX_YIELDS: usize = 64;

/// Logs synced at once, each for itself, where the file system cannot be synced as a whole: its
/// journal takes them together.
const SYNCS_AT_ONCE: usize = 32;

/// Somebody who waits until a log is on the disk.
pub(crate) struct Waiting {
    pub(crate) log: Arc<Log>,
    pub(crate) up_to: Offset,
    pub(crate) done: Box<dyn FnOnce(Result<(), LogDirFailure>) + Send>,
}

/// Who waits for a directory's disk. Bounded by the answers that connections may be owed.
#[derive(Default)]
pub(crate) struct CommitQueue {
    waiting: Vec<Waiting>,
    /// Jobs under way.
    jobs: usize,
}

/// The file system of a directory, where one call can sync all of it.
pub(crate) struct SharedSync {
    file_system: Arc<dyn FileSystem>,
    /// `log.dir.sync.max.bytes`.
    max_unwritten: u64,
    /// Bytes are being written back that would hold up who waits for a sync.
    catching_up: AtomicBool,
}

impl SharedSync {
    pub(crate) fn new(file_system: Arc<dyn FileSystem>, max_unwritten: u64) -> Self {
        Self { file_system, max_unwritten, catching_up: AtomicBool::new(false) }
    }
}

/// Logs to flush and how far, each once. All flushes of several logs go in this order, so that two
/// never wait for each other's logs.
#[derive(Default)]
pub(crate) struct Due(BTreeMap<LogKey, (Arc<Log>, Offset)>);

/// By name, and among those of one name (one may be deleted, the other new) by identity.
type LogKey = (TopicPartition, usize);

fn key(log: &Arc<Log>) -> LogKey {
    (log.partition().clone(), Arc::as_ptr(log) as usize)
}

impl Due {
    pub(crate) fn add(&mut self, log: &Arc<Log>, up_to: Offset) {
        let (_, furthest) = self.0.entry(key(log)).or_insert_with(|| (log.clone(), up_to));
        *furthest = (*furthest).max(up_to);
    }
}

impl LogDir {
    /// Has a log flushed together with others.
    pub(crate) fn flush_soon(self: &Arc<Self>, waiting: Waiting) {
        let limit = if self.shared_sync().is_some() { 1 } else { SYNCS_AT_ONCE };
        {
            let mut queue = self.commit_queue().lock();
            queue.waiting.push(waiting);
            if queue.jobs >= limit {
                return;
            }
            queue.jobs += 1;
        }
        let dir = Arc::clone(self);
        // The work is done whether or not its future is kept.
        drop(self.spawner().blocking(Box::new(move || dir.flush_waiting())));
    }

    /// Serves those who wait until nobody does.
    fn flush_waiting(self: &Arc<Self>) {
        self.let_more_come();
        while let Some(turn) = self.next_turn() {
            let mut due = Due::default();
            turn.iter().for_each(|waiting| due.add(&waiting.log, waiting.up_to));
            let outcomes = self.flush_together(&due);
            for Waiting { log, done, .. } in turn {
                done(outcomes.get(&key(&log)).cloned().unwrap_or(Err(LogDirFailure::Closed)));
            }
            self.let_more_come();
        }
    }

    /// Lets other threads go first as long as they bring more: who was just answered often comes
    /// again at once. Costs who comes alone a microsecond.
    fn let_more_come(&self) {
        let waiting = || self.commit_queue().lock().waiting.len();
        let mut before = waiting();
        for _ in 0..MAX_YIELDS {
            std::thread::yield_now();
            let now = waiting();
            if now == before {
                break;
            }
            before = now;
        }
    }

    /// Those who are served next: all of them, or where no sync can be shared, those of one log.
    /// `None` ends the job.
    fn next_turn(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.commit_queue().lock();
        let Some(first) = queue.waiting.first() else {
            queue.jobs -= 1;
            return None;
        };
        if self.shared_sync().is_some() {
            return Some(std::mem::take(&mut queue.waiting));
        }
        let log = first.log.clone();
        Some(queue.waiting.extract_if(.., |waiting| Arc::ptr_eq(&waiting.log, &log)).collect())
    }

    /// Flushes logs of this directory, with one sync if there are several. Blocks on the disk.
    pub(crate) fn flush_together(
        self: &Arc<Self>,
        due: &Due,
    ) -> BTreeMap<LogKey, Result<(), LogDirFailure>> {
        let _held: Vec<_> = due.0.values().map(|(log, _)| log.hold()).collect();
        let mut outcomes = BTreeMap::new();
        let mut unsynced = Vec::with_capacity(due.0.len());
        for (log, up_to) in due.0.values() {
            match log.gather(*up_to) {
                Ok(Some(gathered)) => unsynced.push((log.clone(), gathered)),
                Ok(None) => drop(outcomes.insert(key(log), Ok(()))),
                Err(failure) => drop(outcomes.insert(key(log), Err(failure))),
            }
        }
        let calls: usize = unsynced.iter().map(|(_, unsynced)| unsynced.calls()).sum();
        let shared = self.shared_sync().filter(|_| calls > FEW_CALLS);
        let shared = shared.filter(|shared| self.may_sync_all(shared));
        let synced = self.sync_gathered(&unsynced, shared);
        for (log, gathered) in unsynced {
            match &synced {
                Ok(()) => log.synced(gathered),
                Err(_) => log.not_synced(&gathered),
            }
            outcomes.insert(key(&log), synced.clone());
        }
        outcomes
    }

    /// Makes a checkpoint of each of `logs`, which are of this directory. Blocks on the disk.
    pub(crate) fn checkpoint_together(&self, logs: &[Arc<Log>]) -> Result<(), LogDirFailure> {
        // The bulk first, while nobody has to wait for it.
        if let Some(shared) = self.shared_sync() {
            let synced = shared.file_system.sync();
            synced.map_err(|error| self.sync_failed("syncing the file system", &error))?;
        }
        let due: Due = Due(logs.iter().map(|log| (key(log), (log.clone(), Offset(0)))).collect());
        let _held: Vec<_> = due.0.values().map(|(log, _)| log.hold()).collect();
        let mut unsynced = Vec::with_capacity(due.0.len());
        for (log, _) in due.0.values() {
            match log.gather_checkpoint() {
                Ok(gathered) => unsynced.extend(gathered.map(|gathered| (log.clone(), gathered))),
                // It was closed or deleted meanwhile, or there is no room: the next time.
                Err(
                    LogDirFailure::Closed
                    | LogDirFailure::Full { .. }
                    | LogDirFailure::OutOfFiles { .. },
                ) => {}
                Err(failure @ LogDirFailure::Offline { .. }) => return Err(failure),
            }
        }
        let synced = self.sync_gathered(&unsynced, self.shared_sync());
        for (log, gathered) in unsynced {
            match &synced {
                Ok(()) => log.synced(gathered),
                Err(_) => log.not_synced(&gathered),
            }
        }
        synced
    }

    /// Brings what several logs gathered to the disk, with `shared` at one go.
    pub(crate) fn sync_gathered(
        &self,
        unsynced: &[(Arc<Log>, Unsynced)],
        shared: Option<&SharedSync>,
    ) -> Result<(), LogDirFailure> {
        // What one of them could not write the sync would not bring to the disk either.
        self.check_online()?;
        let sync = || match shared {
            None => unsynced.iter().try_for_each(|(log, gathered)| log.sync_each(gathered)),
            Some(shared) => {
                shared.file_system.sync()?;
                let mut replaced = false;
                for (_, gathered) in unsynced {
                    replaced |= gathered.replace_files(self)?;
                }
                if replaced { shared.file_system.sync() } else { Ok(()) }
            }
        };
        sync().map_err(|error: io::Error| self.sync_failed("syncing logs", &error))
    }

    /// Whether a sync of the whole file system would not have to write too much that nobody waits
    /// for. If it would, that is written in the background, and the next turn may.
    fn may_sync_all(self: &Arc<Self>, shared: &SharedSync) -> bool {
        let unwritten = match shared.file_system.unwritten() {
            Ok(unwritten) => unwritten,
            Err(error) => {
                tracing::debug!(%error, "how much is to be written is not known");
                return false;
            }
        };
        if unwritten <= shared.max_unwritten {
            return true;
        }
        if !shared.catching_up.swap(true, Ordering::AcqRel) {
            let dir = Arc::clone(self);
            drop(self.spawner().blocking(Box::new(move || dir.catch_up())));
        }
        false
    }

    fn catch_up(&self) {
        let Some(shared) = self.shared_sync() else { return };
        if let Err(error) = shared.file_system.sync() {
            self.sync_failed("syncing the file system", &error);
        }
        shared.catching_up.store(false, Ordering::Release);
    }
}
