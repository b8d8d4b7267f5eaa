//! Bringing to the disk what was appended: one log by itself, or many with one sync.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_env::{OpenMode, is_out_of_space};
use ottla_protocol::{Offset, Timestamp};
use parking_lot::MutexGuard;

use super::maintenance::millis;
use super::{Log, Writer};
use crate::checkpoint::Replacement;
use crate::file_name::{SNAPSHOT, segment_file};
use crate::group_commit::Waiting;
use crate::log_dir::{LogDir, LogDirFailure};
use crate::log_reader::floor_segment;
use crate::log_segment::LogSegment;
use crate::{checkpoint, leader_epoch_cache, partition_metadata};

/// What one log has written and a power loss could take. What it does not list (indexes that can be
/// made anew, names of files that hold nothing yet) is no loss.
pub(crate) struct Unsynced {
    /// Everything before it survives once this is synced.
    end: Offset,
    segments: Vec<Arc<LogSegment>>,
    /// Those of `segments` that are sealed, and whose index files were just written.
    indexed: Vec<Arc<LogSegment>>,
    /// Other files that were just written.
    files: Vec<PathBuf>,
    /// The leader epochs, beside the file that they replace, and the producers of a checkpoint.
    replacements: Vec<Replacement>,
    /// The directory has new names, or is new itself.
    names: bool,
    /// The leader epochs are among `replacements`.
    epochs: bool,
    /// Length of the active segment, if `end` is to be a checkpoint.
    checkpoint: Option<u64>,
}

impl Unsynced {
    /// System calls that syncing file by file takes.
    pub(crate) fn calls(&self) -> usize {
        let replaced = self.replacements.len();
        let names = if self.names { 3 } else { replaced.min(1) };
        self.segments.len() + self.files.len() + replaced + names
    }

    /// Gives new files that are on the disk the names of those they replace; whether there were
    /// any: then the names have to be synced once more.
    pub(crate) fn replace_files(&self, dir: &LogDir) -> io::Result<bool> {
        self.replacements.iter().try_for_each(|file| file.replace(dir.disk()))?;
        Ok(!self.replacements.is_empty())
    }
}

impl Log {
    /// Makes everything before `up_to` survive a power loss. Blocks on the disk; callers that wait
    /// for one another share one sync: who comes after it finds nothing left to do.
    pub fn flush(&self, up_to: Offset) -> Result<(), LogDirFailure> {
        if up_to <= self.synced_end() {
            return self.dir.check_online();
        }
        let _flushing = self.flushing.lock();
        self.flush_alone(up_to)
    }

    /// Does what [`flush`](Self::flush) does, together with whatever else waits for this log's
    /// disk, and tells `done` of it (group commit). The work begins at once and elsewhere; `done`
    /// is called on a thread that may block, and before this returns if nothing is left to flush.
    pub fn flush_in_group(
        self: &Arc<Self>,
        up_to: Offset,
        done: impl FnOnce(Result<(), LogDirFailure>) + Send + 'static,
    ) {
        if up_to <= self.synced_end() {
            return done(self.dir.check_online());
        }
        self.dir.flush_soon(Waiting { log: self.clone(), up_to, done: Box::new(done) });
    }

    /// How far the log has to be flushed at `now`: all of it once `flush.ms` has passed, else what
    /// is sealed and not synced. `None` if nothing is due.
    pub(crate) fn flush_due(&self, now: Timestamp) -> Option<Offset> {
        let log_end = self.log_end_offset();
        let waited = now.0.saturating_sub(self.last_flush.load(Ordering::Acquire));
        if self.config.load().flush_ms.is_some_and(|limit| waited >= millis(limit)) {
            return (log_end > self.synced_end()).then_some(log_end);
        }
        let segments = self.segments.load();
        first_unsaved(sealed(&segments))?;
        segments.last().map(|active| active.base_offset())
    }

    /// Whether neither a flush nor a checkpoint had anything left to do when somebody last looked, and
    /// nothing was written since. Costs one load: most logs of a node are at rest, and all are asked each second.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Looks whether there is anything left to do.
    pub(crate) fn settle(&self) {
        // Before the look, which sees all that was written by then; what is written later unsettles it again.
        self.settled.swap(true, Ordering::AcqRel);
        let unsynced = self.synced_end() < self.log_end_offset();
        let unsaved = first_unsaved(sealed(&self.segments.load())).is_some();
        if unsynced || unsaved || self.unchecked_bytes() > 0 {
            self.unsettle();
        }
    }

    /// For who changed what a flush or a checkpoint looks at.
    pub(super) fn unsettle(&self) {
        self.settled.store(false, Ordering::Release);
    }

    /// Syncs the sealed segments, and takes their indexes from memory to the disk.
    pub(crate) fn flush_sealed(&self) -> Result<(), LogDirFailure> {
        let _flushing = self.flushing.lock();
        let active = self.segments.load().last().map(|active| active.base_offset());
        active.map_or(Ok(()), |active| self.flush_alone(active))
    }

    /// Syncs everything, writes what a start after a clean shutdown needs, and closes the log:
    /// appends are refused from now on.
    pub fn close(&self) -> Result<(), LogDirFailure> {
        let unsynced = self.gather_and_close()?;
        let _flushing = self.flushing.lock();
        self.sync_alone(unsynced)
    }

    /// Brings to the disk what recovery needs to begin at the log's end: all records, indexes that
    /// cover them, leader epochs, and at last a snapshot of the producers, which vouches for the
    /// rest. Blocks on the disk.
    pub fn checkpoint(&self) -> Result<(), LogDirFailure> {
        let _flushing = self.flushing.lock();
        self.gather_checkpoint()?.map_or(Ok(()), |unsynced| self.sync_alone(unsynced))
    }

    /// Bytes that recovery would have to read after a crash.
    pub(crate) fn unchecked_bytes(&self) -> u64 {
        let segments = self.segments.load();
        let Some(active) = segments.last() else { return 0 };
        match self.checkpointed.offset.load(Ordering::Acquire) > active.base_offset().0 {
            true => active.size().saturating_sub(self.checkpointed.size.load(Ordering::Acquire)),
            false => active.size(),
        }
    }

    // --- the steps of a flush; `flushing` is held over all of them ---

    /// Holds off everybody who would flush, truncate, close or delete the log.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.flushing.lock()
    }

    pub(super) fn flush_alone(&self, up_to: Offset) -> Result<(), LogDirFailure> {
        match self.gather(up_to)? {
            Some(unsynced) => self.sync_alone(unsynced),
            None => Ok(()),
        }
    }

    fn sync_alone(&self, unsynced: Unsynced) -> Result<(), LogDirFailure> {
        match self.sync_each(&unsynced) {
            Ok(()) => {
                self.synced(unsynced);
                Ok(())
            }
            Err(error) => {
                self.not_synced(&unsynced);
                Err(self.dir.sync_failed("syncing a log", &error))
            }
        }
    }

    /// What has to be synced so that everything before `up_to` survives: all segments that begin
    /// before it, whole. `None` if it does already.
    pub(crate) fn gather(&self, up_to: Offset) -> Result<Option<Unsynced>, LogDirFailure> {
        self.dir.check_online()?;
        let nothing_new = up_to <= self.synced_end();
        if nothing_new && first_unsaved(sealed(&self.segments.load())).is_none() {
            return Ok(None);
        }
        let mut writer = self.writer.lock();
        // A log that was closed or deleted meanwhile has no files: no fault of the disk.
        writer.active()?;
        let log_end = self.log_end_offset();
        let (names, epochs) =
            (std::mem::take(&mut writer.unsynced_names), writer.epochs.take_dirty());
        drop(writer);
        let has_epochs = epochs.is_some();
        self.gather_files(up_to, log_end, names, epochs).map(Some).map_err(|error| {
            take_back(&mut self.writer.lock(), names, has_epochs);
            self.dir.failed("syncing a log", &error)
        })
    }

    /// What has to be synced for a checkpoint at the log's end; `None` if there is one.
    pub(crate) fn gather_checkpoint(&self) -> Result<Option<Unsynced>, LogDirFailure> {
        self.dir.check_online()?;
        if self.unchecked_bytes() == 0 {
            return Ok(None);
        }
        let mut writer = self.writer.lock();
        let Some(active) = writer.active.clone() else { return Ok(None) };
        let log_end = self.log_end_offset();
        writer.unsynced_names = false;
        let epochs = writer.epochs.take_dirty();
        let has_epochs = epochs.is_some();
        let gathered =
            self.gather_files(log_end, log_end, true, epochs).and_then(|mut gathered| {
                let positions = self.gather_positions(&active, &writer, &mut gathered);
                gathered.checkpoint = Some(active.size());
                positions.inspect_err(|_| self.give_up(&gathered))?;
                Ok(gathered)
            });
        gathered.map(Some).map_err(|error| {
            take_back(&mut writer, true, has_epochs);
            self.dir.failed("making a checkpoint", &error)
        })
    }

    /// Closes the log: takes no more appends, and answers what has to be synced, besides all
    /// records, for a start after a clean shutdown. Takes `flushing` by itself.
    pub(crate) fn gather_and_close(&self) -> Result<Unsynced, LogDirFailure> {
        self.cleaning.stop();
        let _flushing = self.flushing.lock();
        self.dir.check_online()?;
        let mut writer = self.writer.lock();
        self.gather_final_state(&mut writer)
            .map_err(|error| self.dir.failed("closing a log", &error))
    }

    /// Notes that it is not on the disk. Where its directory goes on, the next flush has to do it.
    pub(crate) fn not_synced(&self, unsynced: &Unsynced) {
        self.give_up(unsynced);
        take_back(&mut self.writer.lock(), unsynced.names, unsynced.epochs);
    }

    /// Leaves the files that were gathered to the next flush.
    fn give_up(&self, unsynced: &Unsynced) {
        for segment in &unsynced.segments {
            segment.txn_index().mark_unsynced();
        }
        for replacement in &unsynced.replacements {
            replacement.discard(self.dir.disk());
        }
    }

    /// Syncs file by file, in an order that leaves no name without what it stands for.
    pub(crate) fn sync_each(&self, unsynced: &Unsynced) -> io::Result<()> {
        let disk = self.dir.disk();
        for segment in &unsynced.segments {
            segment.file()?.sync_data()?;
        }
        for path in &unsynced.files {
            self.dir.open(path, OpenMode::ReadWrite)?.sync_data()?;
        }
        for replacement in &unsynced.replacements {
            replacement.sync(&self.dir)?;
            replacement.replace(disk)?;
        }
        if unsynced.names {
            partition_metadata::sync(&self.dir, &self.path)?;
        }
        if unsynced.names || !unsynced.replacements.is_empty() {
            disk.sync_dir(&self.path)?;
        }
        if unsynced.names {
            disk.sync_dir(self.dir.path())?;
        }
        Ok(())
    }

    /// Notes that it is on the disk.
    pub(crate) fn synced(&self, unsynced: Unsynced) {
        for segment in unsynced.indexed {
            segment.indexes_are_synced();
        }
        self.synced_end.fetch_max(unsynced.end.0, Ordering::AcqRel);
        self.last_flush.store(self.now().0, Ordering::Release);
        if let Some(size) = unsynced.checkpoint {
            self.checkpointed.size.store(size, Ordering::Release);
            let before = self.checkpointed.offset.swap(unsynced.end.0, Ordering::AcqRel);
            if before != unsynced.end.0 {
                self.forget_checkpoint(Offset(before));
            }
        }
    }

    /// Removes the snapshot of an older checkpoint, unless it is one that a roll left: a truncation
    /// may go back to those.
    fn forget_checkpoint(&self, offset: Offset) {
        if !self.segments.load().iter().any(|segment| segment.base_offset() == offset) {
            // If it stays, the next start removes it.
            let _gone = self.dir.disk().remove_file(&segment_file(&self.path, offset, SNAPSHOT));
        }
    }

    fn gather_files(
        &self,
        up_to: Offset,
        log_end: Offset,
        names: bool,
        epochs: Option<Vec<String>>,
    ) -> io::Result<Unsynced> {
        let segments = self.segments.load_full();
        let unsynced = floor_segment(&segments, self.synced_end());
        let from = unsynced.min(first_unsaved(&segments).unwrap_or(unsynced));
        let mut gathered = Unsynced {
            end: log_end,
            segments: Vec::new(),
            indexed: Vec::new(),
            files: Vec::new(),
            replacements: Vec::new(),
            names,
            epochs: false,
            checkpoint: None,
        };
        for (index, segment) in segments.iter().enumerate().skip(from) {
            if segment.base_offset() >= up_to {
                gathered.end = segment.base_offset();
                break;
            }
            // A marker that is synced has its entry beside it.
            segment.txn_index().save()?;
            gathered.segments.push(segment.clone());
            let sealed = index + 1 < segments.len();
            if sealed
                && segment.has_unsaved_indexes()
                && let Some(saved) = saved(segment, &self.dir)?
            {
                gathered.files.extend(saved);
                gathered.indexed.push(segment.clone());
            }
        }
        if let Some(lines) = epochs {
            let path = self.path.join(leader_epoch_cache::FILE_NAME);
            let lines = checkpoint::write_lines_beside(&self.dir, path, lines.iter())?;
            gathered.replacements.push(lines);
            gathered.epochs = true;
        }
        // Nothing can fail any more: what is taken will be synced.
        for segment in &gathered.segments {
            if segment.txn_index().take_unsynced() {
                gathered.files.push(segment.txn_index().path().to_owned());
            }
        }
        Ok(gathered)
    }

    /// Writes where things are in the log and who wrote them, for recovery to go on from its end.
    fn gather_positions(
        &self,
        active: &Arc<LogSegment>,
        writer: &Writer,
        gathered: &mut Unsynced,
    ) -> io::Result<()> {
        active.complete_time_index();
        if active.has_unsaved_indexes() {
            gathered.files.extend(active.save_indexes()?);
            gathered.indexed.push(active.clone());
        }
        // The last to get its name: it vouches for the rest.
        let path = segment_file(&self.path, self.log_end_offset(), SNAPSHOT);
        let snapshot = writer.producers.to_snapshot();
        gathered.replacements.push(Replacement::write(&self.dir, path, &snapshot)?);
        Ok(())
    }

    fn gather_final_state(&self, writer: &mut Writer) -> io::Result<Unsynced> {
        let log_end = self.log_end_offset();
        let (names, epochs) =
            (std::mem::take(&mut writer.unsynced_names), writer.epochs.take_dirty());
        let unflushed = self.synced_end() < log_end;
        let up_to = if unflushed { log_end } else { self.synced_end() };
        let mut gathered = self.gather_files(up_to, log_end, names && unflushed, epochs)?;
        if !unflushed {
            gathered.segments.clear();
        }
        let Some(active) = writer.active.take() else { return Ok(gathered) };
        if self.config.load().preallocate {
            active.trim()?;
        }
        // A log that was closed without a snapshot at its end knows no producer.
        let noted = self.checkpointed.offset.load(Ordering::Acquire) == log_end.0;
        let producers_due = !noted && !writer.producers.is_empty();
        if self.unchecked_bytes() > 0 || active.has_lost_indexes() || producers_due {
            self.gather_positions(&active, writer, &mut gathered)?;
        }
        Ok(gathered)
    }
}

/// Has the next flush take care of new names and epochs.
fn take_back(writer: &mut Writer, names: bool, epochs: bool) {
    writer.unsynced_names |= names;
    if epochs {
        writer.epochs.mark_dirty();
    }
}

/// Saves the indexes of a segment, to be synced; `None` if there is no room, so that they stay in
/// memory. After a crash they are made anew.
fn saved(segment: &LogSegment, dir: &LogDir) -> io::Result<Option<[PathBuf; 2]>> {
    match segment.save_indexes() {
        Ok(saved) => Ok(Some(saved)),
        Err(error) if is_out_of_space(&error) => {
            dir.failed("saving indexes", &error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Makes the indexes of a segment survive a power loss, unless there is no room for them.
pub(super) fn sync_indexes(segment: &LogSegment, dir: &LogDir) -> io::Result<()> {
    match segment.sync_indexes(dir) {
        Err(error) if is_out_of_space(&error) => {
            dir.failed("saving indexes", &error);
            Ok(())
        }
        synced => synced,
    }
}

fn sealed(segments: &[Arc<LogSegment>]) -> &[Arc<LogSegment>] {
    segments.split_last().map_or(&[], |(_active, sealed)| sealed)
}

/// The first segment whose indexes are in memory only.
fn first_unsaved(segments: &[Arc<LogSegment>]) -> Option<usize> {
    segments.iter().position(|segment| segment.has_unsaved_indexes())
}
