//! Cutting a log at either end.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_config::LogConfig;
use ottla_env::is_out_of_space;
use ottla_protocol::{Offset, Timestamp};

use super::listing::{Listing, keep_useful_snapshots};
use super::producer_recovery::ProducerRecovery;
use super::{Log, Writer, flush, load};
use crate::log_dir::LogDirFailure;
use crate::log_reader::floor_segment;
use crate::log_segment::LogSegment;
use crate::recovery::skip_invalid;

impl Log {
    /// Removes every batch that ends at or after `offset`: the log ends there, or at the batch
    /// before if `offset` lies within a batch. It ends earlier if a batch before `offset`, of the
    /// segment that is cut, turns out to be rotten. No record is removed at or after the log's end.
    pub fn truncate_to(&self, offset: Offset) -> Result<(), LogDirFailure> {
        if offset <= self.log_start_offset() && offset < self.log_end_offset() {
            return self.truncate_fully_and_start_at(offset);
        }
        let _flushing = self.flushing.lock();
        let mut writer = self.writer.lock();
        writer.active()?;
        if offset >= self.log_end_offset() {
            // This broker may have led, and been replaced before it wrote anything: what it noted
            // of its epoch contradicts its successor's (KIP-101).
            writer.epochs.truncate_from_end(self.log_end_offset());
            return Ok(());
        }
        self.truncate_tail(&mut writer, offset)
            // Half done, whatever the reason: a restart makes it whole.
            .map_err(|error| self.dir.take_offline("truncating a log", &error))
    }

    /// Removes everything; the next record gets `offset`.
    pub fn truncate_fully_and_start_at(&self, offset: Offset) -> Result<(), LogDirFailure> {
        let _flushing = self.flushing.lock();
        let mut writer = self.writer.lock();
        writer.active()?;
        self.start_anew(&mut writer, offset)
            // Half done, whatever the reason: a restart makes it whole.
            .map_err(|error| self.dir.take_offline("truncating a log", &error))
    }

    /// Moves the start of the log to `offset`, for DeleteRecords (KIP-107) or because the leader's
    /// moved. It never goes back, nor beyond the log's end. Whole segments before it are removed
    /// by [`housekeeping`](Self::housekeeping).
    pub fn increment_log_start_offset(&self, offset: Offset) -> Result<Offset, LogDirFailure> {
        let mut writer = self.writer.lock();
        writer.active()?;
        let offset = offset.min(self.log_end_offset());
        if offset > self.log_start_offset() {
            self.log_start_offset.store(offset.0, Ordering::Release);
            self.high_watermark.fetch_max(offset.0, Ordering::AcqRel);
            writer.epochs.truncate_from_start(offset);
            // What ended before the start holds nobody back.
            writer.producers.high_watermark_moved(offset);
            self.publish_first_unstable(&writer);
        }
        Ok(self.log_start_offset())
    }

    fn truncate_tail(&self, writer: &mut Writer, offset: Offset) -> io::Result<()> {
        let segments = self.segments.load_full();
        let (kept, dropped) = segments.split_at(floor_segment(&segments, offset) + 1);
        let Some((last, before)) = kept.split_last() else { return Ok(()) };
        let (size, used) = last.find_cut(offset)?;
        let recovery_point = self.recovery_point();
        // From the end on, and before the cut: whatever a crash leaves of this has no hole, and
        // nothing vouches for what is not there any more.
        for segment in dropped.iter().rev() {
            segment.delete(&self.dir, self.now())?;
        }
        let checkpoints = last.base_offset().next()..;
        for (_, file) in Listing::of(&self.dir, &self.path)?.snapshots.range(checkpoints) {
            self.dir.disk().remove_file(file)?;
        }
        last.remove_index_files(&self.dir)?;
        self.dir.disk().sync_dir(&self.path)?;
        let file = last.file()?;
        file.set_len(size)?;
        // A power loss must not bring back what others may hold differently by then.
        file.sync_data()?;
        let (active, scanned) = load::rescan(&self.dir, last, &self.config.load())?;
        // Checkpoints before the cut vouch for the indexes on disk.
        flush::sync_indexes(&active, &self.dir)?;
        // Where compaction left a gap the log does not end at the batch before it: the offsets
        // between were used. Where they were not synced nobody could tell the gap from a loss, and
        // what stood behind a rotten batch is no gap: it has to be fetched again.
        let used = used.filter(|used| scanned.truncated == 0 && *used <= recovery_point);
        let log_end = used.unwrap_or(scanned.next_offset);
        let mut outdated_txn_indexes = BTreeMap::new();
        if skip_invalid(cut_txn_index(last, &active, log_end))?.is_none() {
            outdated_txn_indexes.insert(active.base_offset(), active.base_offset());
        }
        if log_end < self.log_start_offset() {
            // The batch that was cut off reached back over the start of the log.
            return self.start_anew(writer, self.log_start_offset());
        }
        let mut segments = before.to_vec();
        segments.push(active.clone());
        let active = match log_end > scanned.next_offset {
            // Only a name can say so.
            true => self.begin_segment(log_end)?,
            false => active,
        };
        if log_end > scanned.next_offset {
            self.dir.disk().sync_dir(&self.path)?;
            segments.push(active.clone());
        }
        self.end_at(writer, segments, active, log_end);
        writer.epochs.truncate_from_end(log_end);
        let snapshots = Listing::of(&self.dir, &self.path)?.snapshots;
        let snapshots =
            keep_useful_snapshots(&self.dir, snapshots, &self.segments.load(), log_end)?;
        let producers = ProducerRecovery {
            dir: &self.dir,
            segments: &self.segments.load(),
            log_end,
            outdated_txn_indexes,
        };
        writer.producers = producers.run(snapshots)?;
        self.publish_first_unstable(writer);
        Ok(())
    }

    fn start_anew(&self, writer: &mut Writer, offset: Offset) -> io::Result<()> {
        for segment in self.segments.load().iter() {
            segment.delete(&self.dir, self.now())?;
        }
        for file in Listing::of(&self.dir, &self.path)?.snapshots.values() {
            self.dir.disk().remove_file(file)?;
        }
        let active = self.begin_segment(offset)?;
        self.dir.disk().sync_dir(&self.path)?;
        self.end_at(writer, vec![active.clone()], active, offset);
        self.log_start_offset.store(offset.0, Ordering::Release);
        self.high_watermark.store(offset.0, Ordering::Release);
        writer.epochs.clear();
        writer.producers = Default::default();
        self.publish_first_unstable(writer);
        Ok(())
    }

    /// A segment for a log that was cut, which cannot stay without: also where nothing can be reserved
    /// for it (`preallocate`).
    fn begin_segment(&self, base_offset: Offset) -> io::Result<Arc<LogSegment>> {
        let config = self.config.load();
        match LogSegment::create(&self.dir, &self.path, base_offset, &config) {
            Err(error) if config.preallocate && is_out_of_space(&error) => {
                self.dir.failed("reserving the space of a segment", &error);
                let config = LogConfig { preallocate: false, ..LogConfig::clone(&config) };
                LogSegment::create(&self.dir, &self.path, base_offset, &config)
            }
            created => created,
        }
    }

    /// Publishes a log that ends at `log_end`.
    fn end_at(
        &self,
        writer: &mut Writer,
        segments: Vec<Arc<LogSegment>>,
        active: Arc<LogSegment>,
        log_end: Offset,
    ) {
        self.segments.store(Arc::new(segments));
        self.log_end_offset.store(log_end.0, Ordering::Release);
        self.high_watermark.fetch_min(log_end.0, Ordering::AcqRel);
        self.synced_end.fetch_min(log_end.0, Ordering::AcqRel);
        // No snapshot has what the log ends with now.
        self.checkpointed.offset.store(0, Ordering::Release);
        self.unsettle();
        self.cleaning.truncated(log_end);
        writer.active = Some(active);
        writer.unsynced_names = true;
    }

    /// Removes segments at the front of the list that `expired` says may go.
    pub(super) fn delete_front(
        &self,
        writer: &mut Writer,
        count: usize,
        due: Timestamp,
    ) -> Result<(), LogDirFailure> {
        let segments = self.segments.load_full();
        let (gone, kept) = segments.split_at(count.min(segments.len().saturating_sub(1)));
        let Some(first) = kept.first().filter(|_| !gone.is_empty()) else { return Ok(()) };
        // First out of the readers' sight, then out of the directory.
        self.log_start_offset.fetch_max(first.base_offset().0, Ordering::AcqRel);
        self.segments.store(Arc::new(kept.to_vec()));
        writer.epochs.truncate_from_start(self.log_start_offset());
        for segment in gone {
            segment
                .delete(&self.dir, due)
                .map_err(|error| self.dir.failed("deleting a segment", &error))?;
        }
        tracing::info!(
            partition = %self.partition, segments = gone.len(), log_start = %self.log_start_offset(),
            "deleted old segments"
        );
        Ok(())
    }
}

/// Cuts the transaction index of the segment `last`, which `active` takes over. Entries that make no
/// sense are [`io::ErrorKind::InvalidData`].
fn cut_txn_index(last: &LogSegment, active: &LogSegment, log_end: Offset) -> io::Result<()> {
    last.txn_index().truncate_to(log_end)?;
    last.txn_index().sync()?;
    active.txn_index().take_over(last.txn_index())
}
