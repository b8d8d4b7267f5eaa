//! What happens to a log besides appends and reads: syncing, retention, closing, deletion.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_env::OpenMode;
use ottla_protocol::{Offset, Timestamp, TopicId};

use super::{Log, Writer};
use crate::file_name::{SNAPSHOT, segment_file};
use crate::log_dir::LogDirFailure;
use crate::log_reader::floor_segment;
use crate::log_segment::LogSegment;
use crate::{checkpoint, leader_epoch_cache, partition_metadata};

impl Log {
    /// Makes everything before `up_to` survive a power loss. Callers that wait for one another
    /// share one sync: who comes after it finds nothing left to do (group commit).
    pub fn flush(&self, up_to: Offset) -> Result<(), LogDirFailure> {
        if up_to <= self.recovery_point() {
            return self.dir.check_online();
        }
        let _flushing = self.flushing.lock();
        self.dir.check_online()?;
        if up_to <= self.recovery_point() {
            return Ok(());
        }
        self.flush_open(up_to)
    }

    /// Syncs, unless the log was closed or deleted meanwhile: that its files are gone then is no
    /// fault of the disk. Called with `flushing` held.
    fn flush_open(&self, up_to: Offset) -> Result<(), LogDirFailure> {
        self.writer.lock().active()?;
        self.flush_files(up_to).map_err(|error| self.dir.failed("syncing a log", &error))
    }

    /// Syncs all segments that begin before `up_to`, whole. Called with `flushing` held.
    fn flush_files(&self, up_to: Offset) -> io::Result<()> {
        let (log_end, names, epochs) = {
            let mut writer = self.writer.lock();
            let names = std::mem::take(&mut writer.unsynced_names);
            (self.log_end_offset(), names, writer.epochs.take_dirty())
        };
        let segments = self.segments.load_full();
        let unsynced = floor_segment(&segments, self.recovery_point());
        let from = unsynced.min(first_unsaved(&segments).unwrap_or(unsynced));
        let mut synced_up_to = log_end;
        for (index, segment) in segments.iter().enumerate().skip(from) {
            if segment.base_offset() >= up_to {
                synced_up_to = segment.base_offset();
                break;
            }
            segment.file()?.sync_data()?;
            segment.txn_index().sync()?;
            let sealed = index + 1 < segments.len();
            if sealed && segment.has_unsaved_indexes() {
                segment.save_indexes(&self.dir)?;
                self.replace_segment(segment, segment.with_saved_indexes(&self.dir));
            }
        }
        if let Some(lines) = epochs {
            let path = self.path.join(leader_epoch_cache::FILE_NAME);
            checkpoint::write_lines(self.dir.disk(), &path, lines.iter())?;
        }
        if names {
            partition_metadata::sync(self.dir.disk(), &self.path)?;
            self.dir.disk().sync_dir(&self.path)?;
            self.dir.disk().sync_dir(self.dir.path())?;
        }
        self.recovery_point.fetch_max(synced_up_to.0, Ordering::AcqRel);
        self.last_flush.store(self.now().0, Ordering::Release);
        Ok(())
    }

    /// Puts `new` in the place of `old`, unless `old` left the list in the meantime.
    fn replace_segment(&self, old: &Arc<LogSegment>, new: Arc<LogSegment>) {
        let _writer = self.writer.lock();
        let mut segments = self.segments.load().to_vec();
        if let Some(slot) = segments.iter_mut().find(|segment| Arc::ptr_eq(segment, old)) {
            *slot = new;
            self.segments.store(Arc::new(segments));
        }
    }

    /// What is due at `now`: retention by time, by size and by log start, sealed segments and
    /// `flush.ms`, producers that went silent.
    pub fn housekeeping(&self, now: Timestamp) -> Result<(), LogDirFailure> {
        let config = self.config.load_full();
        self.writer.lock().producers.expire(now, self.producer_id_expiration);
        if config.cleanup_policy.delete {
            self.delete_old_segments(&config, now)?;
        }
        self.flush_if_due(now)
    }

    /// Syncs sealed segments, and everything once `flush.ms` has passed.
    pub(crate) fn flush_if_due(&self, now: Timestamp) -> Result<(), LogDirFailure> {
        self.dir.check_online()?;
        let log_end = self.log_end_offset();
        let waited = now.0.saturating_sub(self.last_flush.load(Ordering::Acquire));
        if self.config.load().flush_ms.is_some_and(|limit| waited >= millis(limit)) {
            return self.flush(log_end);
        }
        match self.segments.load().as_slice() {
            [sealed @ .., active] if first_unsaved(sealed).is_some() => {
                let _flushing = self.flushing.lock();
                self.flush_open(active.base_offset())
            }
            _ => Ok(()),
        }
    }

    fn delete_old_segments(&self, config: &LogConfig, now: Timestamp) -> Result<(), LogDirFailure> {
        let due = Timestamp(now.0.saturating_add(millis(config.file_delete_delay)));
        // A sync under way must not find its segments gone: it would call that a failed disk.
        let _flushing = self.flushing.lock();
        let mut writer = self.writer.lock();
        if writer.active.is_none() {
            return Err(LogDirFailure::Closed);
        }
        let count = self
            .count_old_segments(config, now)
            .map_err(|error| self.dir.failed("reading a segment's time", &error))?;
        let segments = self.segments.load();
        if count == segments.len() && segments.last().is_some_and(|active| active.size() > 0) {
            self.roll(&mut writer, self.log_end_offset(), config)?;
        }
        self.delete_front(&mut writer, count, due)
    }

    /// How many segments from the front on are too old, too many, or before the log's start.
    fn count_old_segments(&self, config: &LogConfig, now: Timestamp) -> io::Result<usize> {
        let segments = self.segments.load();
        let (log_start, high_watermark) = (self.log_start_offset(), self.high_watermark());
        let total: u64 = segments.iter().map(|segment| segment.size()).sum();
        let mut surplus = config.retention_bytes.map_or(0, |limit| total.saturating_sub(limit));
        let mut count = 0;
        for (index, segment) in segments.iter().enumerate() {
            let end = segments.get(index + 1).map_or(self.log_end_offset(), |n| n.base_offset());
            let size = segment.size();
            // What is not committed yet stays, and an empty active segment is no use deleting.
            if end > high_watermark || size == 0 {
                break;
            }
            let sealed = index + 1 < segments.len();
            let too_much = sealed && surplus >= size && surplus > 0;
            let before_start = sealed && end <= log_start;
            let too_old = match config.retention_ms {
                Some(limit) => self.is_older_than(limit, segment, now)?,
                None => false,
            };
            if !(too_much || before_start || too_old) {
                break;
            }
            surplus = surplus.saturating_sub(size);
            count = index + 1;
        }
        Ok(count)
    }

    /// Whether the newest record of `segment` is older than `limit`. Where records have no time
    /// that of the file counts, as in Kafka.
    fn is_older_than(
        &self,
        limit: Duration,
        segment: &LogSegment,
        now: Timestamp,
    ) -> io::Result<bool> {
        match segment.largest_timestamp()? {
            Timestamp::NONE => Ok(self.dir.disk().age(segment.path())? > limit),
            largest => Ok(now.0.saturating_sub(largest.0) > millis(limit)),
        }
    }

    /// Gives the log its topic's id and writes `partition.metadata`.
    pub(crate) fn assign_topic_id(&self, topic_id: TopicId) -> Result<(), LogDirFailure> {
        let mut writer = self.writer.lock();
        if writer.topic_id == Some(topic_id) {
            return Ok(());
        }
        partition_metadata::write(self.dir.disk(), &self.path, topic_id)
            .map_err(|error| self.dir.failed("writing partition.metadata", &error))?;
        writer.topic_id = Some(topic_id);
        writer.unsynced_names = true;
        Ok(())
    }

    /// Syncs everything, writes what a start after a clean shutdown needs, and closes the log:
    /// appends are refused from now on.
    pub fn close(&self) -> Result<(), LogDirFailure> {
        let _flushing = self.flushing.lock();
        self.dir.check_online()?;
        let closing = || {
            if self.recovery_point() < self.log_end_offset() {
                self.flush_files(self.log_end_offset())?;
            }
            let mut writer = self.writer.lock();
            self.save_final_state(&mut writer)?;
            writer.active = None;
            Ok(())
        };
        closing().map_err(|error: io::Error| self.dir.failed("closing a log", &error))
    }

    fn save_final_state(&self, writer: &mut Writer) -> io::Result<()> {
        let Some(active) = &writer.active else { return Ok(()) };
        if active.size() > 0 && active.has_unsaved_indexes() && !writer.outdated_indexes {
            active.complete_time_index();
            active.save_indexes(&self.dir)?;
        }
        if let Some(lines) = writer.epochs.take_dirty() {
            let path = self.path.join(leader_epoch_cache::FILE_NAME);
            checkpoint::write_lines(self.dir.disk(), &path, lines.iter())?;
        }
        let snapshot = segment_file(&self.path, self.log_end_offset(), SNAPSHOT);
        if !writer.producers.is_empty() {
            let bytes = writer.producers.to_snapshot();
            let file = self.dir.disk().open(&snapshot, OpenMode::Truncate)?;
            file.write_all_at(&mut [IoSlice::new(&bytes)], 0)?;
            file.sync_data()?;
        }
        Ok(())
    }

    /// Closes the log without writing anything, and renames its directory to `name`, to be
    /// removed at `due`.
    pub(crate) fn delete(&self, name: &str, due: Timestamp) -> Result<PathBuf, LogDirFailure> {
        let _flushing = self.flushing.lock();
        let mut writer = self.writer.lock();
        writer.active()?;
        let deleted = self.dir.path().join(name);
        self.dir
            .disk()
            .rename(&self.path, &deleted)
            .and_then(|()| self.dir.disk().sync_dir(self.dir.path()))
            .map_err(|error| self.dir.failed("deleting a log", &error))?;
        writer.active = None;
        self.segments.store(Arc::default());
        self.dir.remove_at(due, deleted.clone(), true);
        Ok(deleted)
    }
}

/// The first segment whose indexes are in memory only.
fn first_unsaved(segments: &[Arc<LogSegment>]) -> Option<usize> {
    segments.iter().position(|segment| segment.has_unsaved_indexes())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
