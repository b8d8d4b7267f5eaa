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
            self.unsettle();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use ottla_config::LogConfig;
    use ottla_env::Env;
    use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder};
    use ottla_protocol::{LeaderEpoch, Timestamp, TopicPartition};

    use super::*;
    use crate::log_dir::LogDir;
    use crate::{AppendOrigin, LeaderAppend, LogOpenOptions};

    fn open(dir: &Arc<LogDir>, recovery_point: Offset) -> Log {
        let mut options = LogOpenOptions::new(LogConfig::default(), Duration::from_secs(60));
        options.recovery_point = recovery_point;
        Log::open(dir.clone(), TopicPartition::new("topic", 0), options).unwrap()
    }

    fn append(log: &Log) -> Offset {
        let mut batch = RecordBatchBuilder::new();
        batch.append(&NewRecord { value: Some(b"a record"), ..NewRecord::default() });
        let (leader_epoch, origin) = (LeaderEpoch(0), AppendOrigin::Client);
        let append = LeaderAppend { leader_epoch, origin, now: Timestamp(0) };
        log.append_as_leader(&batch.build(), append).unwrap().first_offset
    }

    #[tokio::test]
    async fn offsets_that_were_used_stay_used_without_records() {
        let root = tempfile::tempdir().unwrap();
        let dir = LogDir::new(&Env::os(), root.path().to_owned(), 10);
        let log = open(&dir, Offset(0));
        assert_eq!([append(&log), append(&log)], [Offset(0), Offset(1)]);
        log.end_at_least(Offset(1)).unwrap();
        assert_eq!((log.log_end_offset(), log.segment_count()), (Offset(2), 1), "it is longer");
        log.end_at_least(Offset(7)).unwrap();
        assert_eq!(log.log_end_offset(), Offset(7));
        drop(log);
        // Also after a crash, as the checkpoint of a move says that no record is missing.
        let log = open(&dir, Offset(7));
        assert_eq!((log.log_end_offset(), append(&log)), (Offset(7), Offset(7)));
        let all = log.read(Offset(0), usize::MAX, true, log.log_end_offset()).unwrap();
        assert_eq!(all.slices.len(), 2, "what was there before, and what came after");
    }
}
