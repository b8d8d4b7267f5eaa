//! Moving a log to another directory of `log.dirs` while it is written (KIP-113).
//!
//! ```text
//! one/T-0                     the log: appends and reads go on
//! other/T-0.<unique>-future   its copy, which catches up
//! ```
//!
//! When the copy has (almost) caught up, nothing may be appended for a moment:
//! 1. the rest is copied, and the copy is closed as at a clean stop: all of it is on the disk
//! 2. `moved-from` in it names the directory that it comes from, and the checkpoint files of its
//!    directory know it
//! 3. the copy gets the log's name, then the log is renamed as any that is deleted; both directories
//!    are synced before anything is appended again
//!
//! A crash before 3 leaves the log, and a copy that the next start removes: how far it can be trusted
//! nobody knows, and who asked for the move can ask again. A crash within 3 may leave both under one
//! name. They have one history, so the longer one has all that the other has; where both are equal
//! the old one stays, as if nothing had been asked for.
//!
//! If the old directory fails within 3 the copy is the log, and `moved-from` says so before anything is
//! appended: the old one may be found with its directory repaired, whichever is longer by then.

use std::sync::Arc;

use ottla_protocol::{Offset, Timestamp, TopicPartition};
use thiserror::Error;

use super::LogManager;
use super::checkpoints::in_dir;
use super::origins::{Fate, Origins};
use crate::append::AppendError;
use crate::file_name;
use crate::log::{Log, LogOpenOptions, ReadError};
use crate::log_dir::{LogDir, LogDirFailure};
use crate::log_reader::Wanted;

/// Bytes read and written at once.
const CHUNK: usize = 1 << 20;

/// A log that is on its way to another directory.
pub struct LogMove {
    current: Arc<Log>,
    future: Arc<Log>,
    /// How often the log had been cut when the move began.
    truncations: u64,
}

/// Why a log did not get to another directory. It goes on where it is.
#[derive(Debug, Error)]
pub enum MoveError {
    /// The log was deleted, closed or cut, or the move is not wanted any more.
    #[error("the move was cancelled")]
    Cancelled,
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The copy cannot be written, or what was read is damaged.
    #[error("the copy cannot be written: {0}")]
    Append(#[from] AppendError),
    /// One of the directories failed, or the new one is full.
    #[error(transparent)]
    Storage(#[from] LogDirFailure),
}

impl LogMove {
    /// The log that moves.
    pub fn partition(&self) -> &TopicPartition {
        self.current.partition()
    }

    /// Its copy, as far as it has come.
    pub fn future(&self) -> &Arc<Log> {
        &self.future
    }

    /// How many offsets the copy is behind.
    pub fn lag(&self) -> i64 {
        (self.current.log_end_offset().0 - self.future.log_end_offset().0).max(0)
    }

    /// Copies about `max_bytes`, or all there are, and answers how many. Blocks on both disks.
    pub fn copy(&self, max_bytes: u64) -> Result<u64, MoveError> {
        let mut copied = 0;
        while copied < max_bytes {
            match self.copy_some(max_bytes - copied)? {
                0 => break,
                some => copied += some,
            }
        }
        // Not all at once at the end, when nothing can be appended.
        self.future.flush_sealed()?;
        Ok(copied)
    }

    /// Brings what was copied so far to the disk.
    pub fn flush(&self) -> Result<(), MoveError> {
        Ok(self.future.flush(self.future.log_end_offset())?)
    }

    fn copy_some(&self, max_bytes: u64) -> Result<u64, MoveError> {
        self.check()?;
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX).min(CHUNK);
        loop {
            let from = self.future.log_end_offset().max(self.current.log_start_offset());
            let wanted = Wanted {
                from,
                upper_bound: self.current.log_end_offset(),
                max_bytes,
                min_one_message: true,
                aborted_txns: false,
            };
            let data = match self.current.fetch(&wanted) {
                // Retention was faster: what it took need not be copied.
                Err(ReadError::OffsetOutOfRange { .. })
                    if from < self.current.log_start_offset() =>
                {
                    continue;
                }
                fetched => fetched?,
            };
            let dir = self.current.log_dir();
            let bytes = data.read().map_err(|error| dir.failed("reading a log to copy", &error))?;
            if !bytes.is_empty() {
                self.future.append_as_follower(&bytes)?;
            }
            return Ok(bytes.len() as u64);
        }
    }

    fn check(&self) -> Result<(), MoveError> {
        let cleaning = self.current.cleaning();
        match cleaning.is_stopped() || cleaning.truncations() != self.truncations {
            true => Err(MoveError::Cancelled),
            false => Ok(()),
        }
    }

    /// Copies the rest and makes the copy whole. The log is held, and nothing is appended.
    fn complete(&self) -> Result<(), MoveError> {
        self.check()?;
        while self.copy_some(u64::MAX)? > 0 {}
        let (current, future) = (&self.current, &self.future);
        future.end_at_least(current.log_end_offset())?;
        future.increment_log_start_offset(current.log_start_offset())?;
        future.set_high_watermark(current.high_watermark());
        future.take_over(current);
        future.close()?;
        let origins = Origins::read(current).lost().with(current.log_dir(), Fate::Unsettled);
        origins
            .write(future)
            .map_err(|error| future.log_dir().failed("completing the copy of a log", &error).into())
    }
}

impl LogManager {
    /// The move of a partition's log that is under way.
    pub fn move_of(&self, partition: &TopicPartition) -> Option<Arc<LogMove>> {
        self.moves.lock().get(partition).cloned()
    }

    /// All moves that are under way.
    pub fn moves(&self) -> Vec<Arc<LogMove>> {
        self.moves.lock().values().cloned().collect()
    }

    /// Begins to move `log` into `dir`. Compaction of the log pauses: what it takes away could have
    /// been copied. Blocks on the disk.
    pub fn begin_move(
        &self,
        current: &Arc<Log>,
        dir: &Arc<LogDir>,
    ) -> Result<Arc<LogMove>, LogDirFailure> {
        let _changing = self.changing.lock();
        let partition = current.partition();
        if let Some(other) = self.move_of(partition) {
            self.drop_move(&other);
        }
        if self.log(partition).is_none_or(|log| !Arc::ptr_eq(&log, current)) {
            return Err(LogDirFailure::Closed);
        }
        dir.check_room()?;
        let name = file_name::future_dir(partition, self.unique());
        let options = self.options_like(current, current.first_copied_offset());
        let topic_id = current.topic_id();
        let made = Log::open_at(dir.clone(), &name, partition.clone(), options)
            .map_err(|error| dir.failed("making the copy of a log", &error))
            .and_then(|log| topic_id.map_or(Ok(()), |id| log.assign_topic_id(id)).map(|()| log));
        let future = match made {
            Ok(log) => Arc::new(log),
            Err(failure) => {
                // What is left of it, if anything, the next start removes.
                let _gone = dir.disk().remove_dir_all(&dir.path().join(&name));
                return Err(failure);
            }
        };
        let truncations = current.cleaning().pause();
        let begun = Arc::new(LogMove { current: current.clone(), future, truncations });
        self.moves.lock().insert(partition.clone(), begun.clone());
        Ok(begun)
    }

    /// Gives up a move, unless it is over already; the copy is removed.
    pub fn cancel_move(&self, begun: &Arc<LogMove>) {
        let _changing = self.changing.lock();
        self.drop_move(begun);
    }

    fn drop_move(&self, begun: &Arc<LogMove>) {
        if !self.take_move(begun) {
            return;
        }
        begun.current.cleaning().resume();
        let dir = begun.future.log_dir();
        if dir.failure().is_none() && dir.disk().exists(begun.future.path()) {
            // If its directory fails now, the next start with that repaired removes it.
            let _told = self.discard(&begun.future);
        }
    }

    fn discard(&self, log: &Log) -> Result<(), LogDirFailure> {
        let name = file_name::deleted_dir(log.partition(), self.unique());
        let renamed = log.discard(&name)?;
        log.log_dir().remove_at(self.env.clock.wall(), renamed, true);
        Ok(())
    }

    /// Takes it from those that are under way; `false` if it is none of them.
    fn take_move(&self, begun: &Arc<LogMove>) -> bool {
        let mut moves = self.moves.lock();
        let same = moves.get(begun.partition()).is_some_and(|it| Arc::ptr_eq(it, begun));
        same && moves.remove(begun.partition()).is_some()
    }

    /// Puts the copy in the place of the log, and answers it: from now on it is the log, and the old
    /// one is closed. Nothing may be appended meanwhile. If that fails the move is given up.
    pub fn finish_move(&self, begun: &Arc<LogMove>) -> Result<Arc<Log>, MoveError> {
        let _changing = self.changing.lock();
        if self.move_of(begun.partition()).is_none_or(|it| !Arc::ptr_eq(&it, begun)) {
            return Err(MoveError::Cancelled);
        }
        let finished = self.swap(begun);
        match &finished {
            Ok(_) => drop(self.take_move(begun)),
            Err(_) => self.drop_move(begun),
        }
        finished
    }

    fn swap(&self, begun: &LogMove) -> Result<Arc<Log>, MoveError> {
        let LogMove { current, future, .. } = begun;
        // Retention and flushes of the log wait, too.
        let held = current.hold();
        begun.complete()?;
        let dir = future.log_dir();
        // Its first offset has to be known before the name is.
        *self.arriving.lock() = Some(future.clone());
        let log = in_dir(dir, self.checkpoint_all()).and_then(|()| self.rename_future(begun));
        let swapped = log.and_then(|log| {
            let name = file_name::deleted_dir(current.partition(), self.unique());
            match current.rename_dir_held(&name, &held) {
                Ok(renamed) => {
                    let delay = current.config().file_delete_delay.as_millis();
                    let now = self.env.clock.wall().0;
                    let due = now.saturating_add(i64::try_from(delay).unwrap_or(i64::MAX));
                    current.log_dir().remove_at(Timestamp(due), renamed, true);
                    Origins::read(&log).forget(&log, [&**current.log_dir()].into_iter());
                    Ok(log)
                }
                // The copy is whole, and the log is lost for this run.
                Err(_) if is_out_of_reach(current) => outlive(current, log),
                Err(failure) => self.discard(&log).and(Err(failure)),
            }
        });
        if let Ok(log) = &swapped {
            self.logs.write().insert(log.partition().clone(), log.clone());
        }
        *self.arriving.lock() = None;
        Ok(swapped?)
    }

    /// Gives the copy the log's name, and opens it there as after a clean stop.
    fn rename_future(&self, begun: &LogMove) -> Result<Arc<Log>, LogDirFailure> {
        let LogMove { current, future, .. } = begun;
        let (dir, partition) = (future.log_dir(), current.partition());
        let path = dir.path().join(partition.to_string());
        dir.disk()
            .sync_dir(future.path())
            .and_then(|()| dir.disk().rename(future.path(), &path))
            .map_err(|error| dir.failed("renaming a log that was moved", &error))?;
        // From here on both have the name: a fault must not leave it so while the log grows.
        let opened = dir.disk().sync_dir(dir.path()).and_then(|()| {
            let mut options = self.options_like(current, current.log_start_offset());
            options.recovery_point = current.log_end_offset();
            options.clean_shutdown = true;
            Log::open(dir.clone(), partition.clone(), options)
        });
        match opened {
            Ok(log) => {
                log.take_over(current);
                Ok(Arc::new(log))
            }
            Err(error) => {
                let deleted = dir.path().join(file_name::deleted_dir(partition, self.unique()));
                let undone = dir.disk().rename(&path, &deleted);
                dir.remove_at(self.env.clock.wall(), deleted, true);
                match undone.and_then(|()| dir.disk().sync_dir(dir.path())) {
                    Ok(()) => Err(dir.failed("opening a log that was moved", &error)),
                    Err(_) => Err(dir.take_offline("opening a log that was moved", &error)),
                }
            }
        }
    }

    fn options_like(&self, log: &Log, log_start_offset: Offset) -> LogOpenOptions {
        let expiration = *self.producer_id_expiration.lock();
        let mut options = LogOpenOptions::new((*log.config()).clone(), expiration);
        options.log_start_offset = log_start_offset;
        options.high_watermark = log.high_watermark();
        options.first_dirty_offset = log.first_dirty_offset();
        options
    }
}

/// Whether nobody can use the log again in this run: its directory failed, or its name is gone, which
/// need not be on the disk.
fn is_out_of_reach(log: &Log) -> bool {
    let dir = log.log_dir();
    dir.failure().is_some() || !dir.disk().exists(log.path())
}

/// Notes that `new` goes on without `old`, which may be found again. If that fails neither does: the
/// next start takes either.
fn outlive(old: &Log, new: Arc<Log>) -> Result<Arc<Log>, LogDirFailure> {
    let noted = Origins::read(&new).with(old.log_dir(), Fate::Lost).write(&new);
    noted.map_err(|error| new.log_dir().take_offline("noting where a log came from", &error))?;
    Ok(new)
}

/// Which of two logs of one partition is to be used, if a move has left both; then the other.
pub(super) fn settle(one: &Arc<Log>, other: &Arc<Log>) -> Option<(Arc<Log>, Arc<Log>)> {
    let fate = |new: &Log, old: &Log| Origins::read(new).of(old.log_dir());
    let (new, old, fate) = match (fate(one, other), fate(other, one)) {
        (Some(fate), None) => (one, other, fate),
        (None, Some(fate)) => (other, one, fate),
        (None, None) | (Some(_), Some(_)) => return None,
    };
    match fate == Fate::Lost || new.log_end_offset() > old.log_end_offset() {
        true => Some((new.clone(), old.clone())),
        false => Some((old.clone(), new.clone())),
    }
}

/// Removes the marks of moves that are over: where the directory that the log came from is one of
/// `online`, and the older log does not have its name there any more.
pub(super) fn forget_origins(logs: &[Arc<Log>], online: &[Arc<LogDir>]) {
    for log in logs {
        let name = log.partition().to_string();
        let is_empty = |dir: &&LogDir| !dir.disk().exists(&dir.path().join(&name));
        Origins::read(log).forget(log, online.iter().map(|dir| &**dir).filter(is_empty));
    }
}
