//! What happens to a log besides appends, reads and syncs: retention and deletion.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_protocol::{Timestamp, TopicId};
use parking_lot::MutexGuard;

use super::Log;
use crate::log_dir::LogDirFailure;
use crate::log_segment::LogSegment;
use crate::partition_metadata;
use crate::recovery::skip_invalid;

impl Log {
    /// What is due at `now`: retention by time, by size and by log start, producers that went
    /// silent, and the syncs of sealed segments and of `flush.ms`.
    pub fn housekeeping(&self, now: Timestamp) -> Result<(), LogDirFailure> {
        self.retain(now, self.producer_id_expiration)?;
        self.flush_due(now).map_or(Ok(()), |up_to| {
            let _flushing = self.hold();
            self.flush_alone(up_to)
        })
    }

    /// [`housekeeping`](Self::housekeeping) but for the syncs, which logs of a directory share;
    /// producers that were silent for longer than `expiration` are forgotten.
    pub(crate) fn retain(&self, now: Timestamp, expiration: Duration) -> Result<(), LogDirFailure> {
        let config = self.config.load_full();
        self.writer.lock().producers.expire(now, expiration);
        self.delete_old_segments(&config, now)?;
        self.dir.check_online()
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
            match self.roll(&mut writer, self.log_end_offset(), config) {
                // There is no room for a new segment until the others are gone.
                Err(LogDirFailure::Full { .. }) => {}
                rolled => rolled?,
            }
        }
        self.delete_front(&mut writer, count, due)
    }

    /// How many segments from the front on are too old, too many, or before the log's start.
    fn count_old_segments(&self, config: &LogConfig, now: Timestamp) -> io::Result<usize> {
        let segments = self.segments.load();
        let (log_start, high_watermark) = (self.log_start_offset(), self.high_watermark());
        let total: u64 = segments.iter().map(|segment| segment.size()).sum();
        // A topic that is only compacted keeps its records, but not those before the log's start.
        let deletes = config.cleanup_policy.delete;
        let retention_ms = config.retention_ms.filter(|_| deletes);
        let retention_bytes = config.retention_bytes.filter(|_| deletes);
        let mut surplus = retention_bytes.map_or(0, |limit| total.saturating_sub(limit));
        let mut count = 0;
        for (index, segment) in segments.iter().enumerate() {
            let end = segments.get(index + 1).map_or(self.log_end_offset(), |n| n.base_offset());
            let size = segment.size();
            let sealed = index + 1 < segments.len();
            // What is not committed yet stays, and an empty active segment is no use deleting.
            if end > high_watermark || (size == 0 && !sealed) {
                break;
            }
            let too_much = sealed && surplus >= size && surplus > 0;
            let before_start = sealed && end <= log_start;
            let too_old = match retention_ms {
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

    /// Whether the newest record of `segment` is older than `limit`. Where records have no time, or
    /// it is rotten, that of the file counts, as in Kafka.
    fn is_older_than(
        &self,
        limit: Duration,
        segment: &LogSegment,
        now: Timestamp,
    ) -> io::Result<bool> {
        match skip_invalid(segment.largest_timestamp())?.unwrap_or(Timestamp::NONE) {
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
        partition_metadata::write(&self.dir, &self.path, topic_id)
            .map_err(|error| self.dir.failed("writing partition.metadata", &error))?;
        writer.topic_id = Some(topic_id);
        writer.unsynced_names = true;
        Ok(())
    }

    /// Closes the log without writing anything, and renames its directory to `name`; answers its
    /// new path. If that fails the log goes on, unless its directory does not.
    pub(crate) fn rename_dir(&self, name: &str) -> Result<PathBuf, LogDirFailure> {
        self.cleaning.stop();
        let held = self.flushing.lock();
        self.writer.lock().active()?;
        self.rename_dir_held(name, &held)
    }

    /// [`rename_dir`](Self::rename_dir) for who [holds](Self::hold) the log, be it open or not.
    pub(crate) fn rename_dir_held(
        &self,
        name: &str,
        _held: &MutexGuard<'_, ()>,
    ) -> Result<PathBuf, LogDirFailure> {
        let mut writer = self.writer.lock();
        let renamed = self.dir.path().join(name);
        self.dir
            .disk()
            .rename(&self.path, &renamed)
            .map_err(|error| self.dir.failed("renaming a log", &error))?;
        writer.active = None;
        self.segments.store(Arc::default());
        self.dir
            .disk()
            .sync_dir(self.dir.path())
            .map_err(|error| self.dir.sync_failed("renaming a log", &error))?;
        Ok(renamed)
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
