//! What a log that was copied into another directory takes over beside the records (KIP-113).

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use ottla_protocol::Offset;

use super::Log;
use crate::log_dir::LogDirFailure;
use crate::log_reader::floor_segment;

impl Log {
    /// Where a copy has to begin so that every batch fits into it.
    pub(crate) fn first_copied_offset(&self) -> Offset {
        let segments = self.segments.load();
        let first = segments.get(floor_segment(&segments, self.log_start_offset()));
        first.map_or(Offset(0), |segment| segment.base_offset())
    }

    /// Lets the log end at `end` where no record does: offsets that were used are not given out
    /// again.
    pub(crate) fn end_at_least(&self, end: Offset) -> Result<(), LogDirFailure> {
        let _flushing = self.flushing.lock();
        let mut writer = self.writer.lock();
        if end > self.log_end_offset() {
            // Only a name can say so.
            self.roll(&mut writer, end, &self.config.load_full())?;
            self.log_end_offset.store(end.0, Ordering::Release);
        }
        Ok(())
    }

    /// Takes over what the log that was copied knows of its producers and its leaders: more than
    /// its records tell.
    pub(crate) fn take_over(&self, copied: &Log) {
        let (producers, epochs) = {
            let writer = copied.writer.lock();
            (writer.producers.clone(), writer.epochs.clone())
        };
        let mut writer = self.writer.lock();
        writer.producers = producers;
        writer.epochs = epochs;
        writer.epochs.mark_dirty();
        self.publish_first_unstable(&writer);
    }

    /// Closes the log, if it is not, without writing anything, and renames its directory to `name`.
    pub(crate) fn discard(&self, name: &str) -> Result<PathBuf, LogDirFailure> {
        self.cleaning.stop();
        let held = self.flushing.lock();
        self.rename_dir_held(name, &held)
    }
}
