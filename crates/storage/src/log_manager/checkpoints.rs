//! Kafka's checkpoint files: an offset of each log, in every directory.

use std::ops::Deref;
use std::sync::Arc;

use ottla_protocol::Offset;

use super::{CLEANER_FILE, HIGH_WATERMARK_FILE, LOG_START_FILE, LogManager, RECOVERY_POINT_FILE};
use crate::checkpoint::{self, Offsets};
use crate::log::Log;
use crate::log_dir::{LogDir, LogDirFailure};

/// Directories in which a checkpoint could not be written, and why.
pub type Unwritten = Vec<(Arc<LogDir>, LogDirFailure)>;

/// Fails if a checkpoint could not be written into `dir`.
pub(super) fn in_dir(dir: &Arc<LogDir>, unwritten: Unwritten) -> Result<(), LogDirFailure> {
    let failed = unwritten.into_iter().find(|(failed, _)| Arc::ptr_eq(failed, dir));
    failed.map_or(Ok(()), |(_, failure)| Err(failure))
}

impl LogManager {
    /// Makes checkpoints in every directory if they are `due`, and else where a crash would leave
    /// more to read than `log.dir.checkpoint.bytes`.
    pub(super) fn make_checkpoints(&self, logs: &[Arc<Log>], due: bool) {
        let mut made = due;
        for dir in self.dirs() {
            let held = logs.iter().filter(|log| Arc::ptr_eq(log.log_dir(), dir));
            let unchecked: Vec<_> = held.filter(|log| log.unchecked_bytes() > 0).cloned().collect();
            let bytes = || unchecked.iter().map(|log| log.unchecked_bytes()).sum::<u64>();
            if !unchecked.is_empty() && (due || bytes() > self.config.dir_checkpoint_bytes) {
                // A directory that failed, or is full, said so when it did.
                let _told = dir.checkpoint_together(&unchecked);
                made = true;
            }
        }
        if made {
            self.note_metadata();
            let _told = self.checkpoint_recovery_points();
        }
    }

    /// Writes the checkpoint files anew, so that none names a log that is gone.
    pub(super) fn forget_stale(&self) -> Unwritten {
        // Who comes with another waits: its lines may be among those that are written now.
        let mut stale = self.stale.lock();
        if stale.is_empty() {
            return Unwritten::new();
        }
        let unwritten = self.checkpoint_all();
        if unwritten.is_empty() {
            stale.clear();
        }
        unwritten
    }

    /// Writes all checkpoint files.
    pub(super) fn checkpoint_all(&self) -> Unwritten {
        let mut unwritten = self.checkpoint_recovery_points();
        unwritten.extend(self.checkpoint_log_starts());
        unwritten.extend(self.checkpoint(HIGH_WATERMARK_FILE, Log::high_watermark));
        unwritten.extend(self.checkpoint_cleaner());
        unwritten
    }

    /// Writes `log-start-offset-checkpoint`: what was deleted stays deleted after a power loss,
    /// unless the directory failed or is full. Blocks on the disk.
    pub fn checkpoint_log_starts(&self) -> Unwritten {
        self.checkpoint(LOG_START_FILE, Log::log_start_offset)
    }

    /// Writes `replication-offset-checkpoint`: the high watermarks that were last set. To be
    /// called every `replica.high.watermark.checkpoint.interval.ms`.
    pub fn checkpoint_high_watermarks(&self) {
        let _told = self.checkpoint(HIGH_WATERMARK_FILE, Log::high_watermark);
    }

    /// Writes `recovery-point-offset-checkpoint`.
    pub(crate) fn checkpoint_recovery_points(&self) -> Unwritten {
        self.checkpoint(RECOVERY_POINT_FILE, Log::recovery_point)
    }

    /// Writes `recovery-point-offset-checkpoint`; fails if that of `log` could not be written.
    pub(crate) fn checkpoint_recovery_point_of(&self, log: &Log) -> Result<(), LogDirFailure> {
        in_dir(log.log_dir(), self.checkpoint_recovery_points())
    }

    /// Writes `cleaner-offset-checkpoint`: where the section of each log begins that was never
    /// compacted.
    pub(crate) fn checkpoint_cleaner(&self) -> Unwritten {
        self.checkpoint_some(CLEANER_FILE, Log::first_dirty_offset)
    }

    /// [`Log::truncate_to`], and the checkpoint that must not say more than the log holds: a
    /// crash after new records would trust it. Until this has succeeded nothing may be appended; or if
    /// the log was cut and a checkpoint failed, until [`checkpoint_cut`](Self::checkpoint_cut) has.
    pub fn truncate_to(&self, log: &Log, offset: Offset) -> Result<(), LogDirFailure> {
        if offset >= log.log_end_offset() {
            return log.truncate_to(offset);
        }
        self.truncate(log, || log.truncate_to(offset))
    }

    /// [`Log::truncate_fully_and_start_at`], and the checkpoints, as in [`truncate_to`](Self::truncate_to).
    pub fn truncate_fully_and_start_at(
        &self,
        log: &Log,
        offset: Offset,
    ) -> Result<(), LogDirFailure> {
        self.truncate(log, || log.truncate_fully_and_start_at(offset))
    }

    /// Writes the checkpoints that must not say more than logs hold, after some were cut.
    pub fn checkpoint_cut(&self) -> Unwritten {
        self.checkpoint_cut_of(&self.logs())
    }

    /// The cleaner's is written only where one of those that were cut was ever compacted.
    fn checkpoint_cut_of<L: Deref<Target = Log>>(&self, cut: &[L]) -> Unwritten {
        let mut unwritten = self.checkpoint_recovery_points();
        unwritten.extend(self.checkpoint_log_starts());
        if cut.iter().any(|log| log.first_dirty_offset().is_some()) {
            unwritten.extend(self.checkpoint_cleaner());
        }
        unwritten
    }

    fn truncate(
        &self,
        log: &Log,
        truncate: impl FnOnce() -> Result<(), LogDirFailure>,
    ) -> Result<(), LogDirFailure> {
        truncate()?;
        in_dir(log.log_dir(), self.checkpoint_cut_of(&[log]))?;
        log.log_dir().check_online()
    }

    pub(super) fn checkpoint(&self, file: &str, offset: impl Fn(&Log) -> Offset) -> Unwritten {
        self.checkpoint_some(file, |log| Some(offset(log)))
    }

    /// Writes a checkpoint file into each directory that works, with a line for each log that has
    /// an offset.
    fn checkpoint_some(&self, file: &str, offset: impl Fn(&Log) -> Option<Offset>) -> Unwritten {
        let _checkpointing = self.checkpointing.lock();
        let mut logs = self.logs();
        logs.extend(self.arriving.lock().clone());
        let mut unwritten = Vec::new();
        for dir in self.dirs().filter(|dir| dir.failure().is_none()) {
            let held = logs.iter().filter(|log| Arc::ptr_eq(log.log_dir(), dir));
            let line = |log: &Arc<Log>| Some((log.partition().clone(), offset(log)?));
            let offsets: Offsets = held.filter_map(line).collect();
            if let Err(error) =
                checkpoint::write_offsets(dir.disk(), &dir.path().join(file), &offsets)
            {
                let failure = dir.failed("writing a checkpoint", &error);
                unwritten.push((dir.clone(), failure));
            }
        }
        unwritten
    }
}
