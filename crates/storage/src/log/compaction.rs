//! What a cleaner sees of a log, and what it does to it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use ottla_protocol::{Offset, Timestamp};

use super::{Log, swap};
use crate::cleaner::{CleaningState, FinishedSegment};
use crate::log_segment::LogSegment;
use crate::open_files::Wait;
use crate::producer_state::LastRecord;
use crate::transaction_index::AbortedTxn;

impl Log {
    /// Where the section begins that was never compacted, as `cleaner-offset-checkpoint` has it.
    /// `None` if nothing was.
    pub fn first_dirty_offset(&self) -> Option<Offset> {
        self.cleaning.first_dirty()
    }

    /// What is known of the log's compaction.
    pub(crate) fn cleaning(&self) -> &CleaningState {
        &self.cleaning
    }

    /// The segments there are now; only the last one grows.
    pub(crate) fn segments(&self) -> Arc<Vec<Arc<LogSegment>>> {
        self.segments.load_full()
    }

    /// Whether all of these segments, however indexed, are still part of the log.
    pub(crate) fn holds<'a>(&self, segments: impl IntoIterator<Item = &'a LogSegment>) -> bool {
        let held = self.segments.load();
        segments.into_iter().all(|segment| held.iter().any(|other| other.is_same_file(segment)))
    }

    /// The aborted transactions that have records in `from..up_to`, and perhaps some more.
    pub(crate) fn aborted_txns(&self, from: Offset, up_to: Offset) -> io::Result<Vec<AbortedTxn>> {
        self.reader().aborted_txns(from, up_to, Wait::ForDisk)
    }

    /// The last batch of each active producer, and the last that the power cannot take back.
    pub(crate) fn last_records(&self) -> BTreeMap<i64, LastRecord> {
        self.writer.lock().producers.last_records(self.synced_end())
    }

    /// Puts a cleaned segment in the place of the neighbours it was made of. `false` if they are
    /// no longer all there: then nothing has happened.
    ///
    /// Whoever cuts the log waits until this is over; appends wait for renames only, and readers
    /// not at all.
    pub(crate) fn replace_segments(
        &self,
        old: &[Arc<LogSegment>],
        cleaned: &FinishedSegment,
    ) -> io::Result<bool> {
        let _flushing = self.flushing.lock();
        let Some(first) = old.first().filter(|_| self.writer.lock().active.is_some()) else {
            return Ok(false);
        };
        let held = self.segments.load_full();
        let at = held.partition_point(|segment| segment.base_offset() < first.base_offset());
        let current = held.get(at..at + old.len()).unwrap_or_default();
        if current.len() != old.len() || !current.iter().zip(old).all(|(a, b)| a.is_same_file(b)) {
            return Ok(false);
        }
        let (dir, disk) = (&self.dir, self.dir.disk());
        swap::commit(disk, cleaned.segment.path())?;
        disk.sync_dir(&self.path)?;
        {
            let _writer = self.writer.lock();
            let due = self.deletion_due();
            first.delete_replaced(dir, due)?;
            old.iter().skip(1).try_for_each(|segment| segment.delete(dir, due))?;
            swap::finish(disk, cleaned.segment.path())?;
            cleaned.segment.txn_index().load(cleaned.txn_index_bytes)?;
            let mut segments = self.segments.load().to_vec();
            segments.splice(at..at + old.len(), [cleaned.segment.clone()]);
            self.segments.store(Arc::new(segments));
            self.unsettle();
        }
        disk.sync_dir(&self.path)?;
        Ok(true)
    }

    /// When the files of a segment that leaves the log now are removed.
    fn deletion_due(&self) -> Timestamp {
        let delay = self.config.load().file_delete_delay.as_millis();
        Timestamp(self.now().0.saturating_add(i64::try_from(delay).unwrap_or(i64::MAX)))
    }
}
