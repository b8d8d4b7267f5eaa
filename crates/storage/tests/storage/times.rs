//! Offsets by time (KIP-32, KIP-79, KIP-734), whatever order records come in.

use ottla_config::{LogConfig, MessageTimestampType};
use ottla_protocol::compression::{Compression, Compressor};
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder};
use ottla_protocol::{LeaderEpoch, Offset, Timestamp};
use ottla_storage::{AppendOrigin, LeaderAppend};
use proptest::prelude::*;

use crate::single_log::{NOW, SingleLog};

/// What becomes of the log. Times are milliseconds before `NOW`.
#[derive(Clone, Debug)]
enum Step {
    /// A batch whose records have these times, or none; and the broker's time.
    Append(Vec<Option<i64>>, i64, bool),
    Flush,
    Checkpoint,
    Restart,
    Crash,
    Truncate(u8),
    DeleteUpTo(u8),
    Retention,
}

fn step() -> impl Strategy<Value = Step> {
    let time = prop_oneof![1 => Just(None), 6 => (0..40i64).prop_map(Some)];
    let batch = prop::collection::vec(time, 1..4);
    prop_oneof![
        12 => (batch, 0..40i64, any::<bool>()).prop_map(|(b, now, c)| Step::Append(b, now, c)),
        1 => Just(Step::Flush),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        1 => any::<u8>().prop_map(Step::Truncate),
        1 => any::<u8>().prop_map(Step::DeleteUpTo),
        1 => Just(Step::Retention),
    ]
}

/// The time of each record by its offset, and where batches begin.
#[derive(Default)]
struct Model {
    times: Vec<i64>,
    batches: Vec<usize>,
}

impl Model {
    fn truncate(&mut self, at: usize) {
        let begins = self.batches.iter().copied().rfind(|first| *first <= at);
        // A batch that is cut goes as a whole.
        let ends = match begins {
            Some(first) if at < self.times.len() && first < at => first,
            _ => at,
        };
        self.times.truncate(ends);
        self.batches.retain(|first| *first < ends);
    }

    /// Offsets and times of the records that may be read.
    fn readable(&self, start: usize) -> impl Iterator<Item = (i64, i64)> {
        self.times.iter().enumerate().skip(start).map(|(offset, time)| (offset as i64, *time))
    }

    fn at_or_after(&self, start: usize, target: i64) -> Option<(i64, i64)> {
        self.readable(start).find(|(_, time)| *time >= target)
    }

    fn largest(&self, start: usize) -> Option<(i64, i64)> {
        let largest = self.readable(start).map(|(_, time)| time).max()?;
        self.at_or_after(start, largest).filter(|_| largest >= 0)
    }
}

fn batch(times: &[Option<i64>], compressed: bool) -> bytes::Bytes {
    let mut builder = RecordBatchBuilder::new();
    for time in times {
        let timestamp = time.map_or(Timestamp::NONE, |before| Timestamp(NOW.0 - before));
        builder.append(&NewRecord { timestamp, key: Some(b"k"), ..NewRecord::default() });
    }
    match compressed {
        true => builder.build_compressed(&mut Compressor::new(Compression::Lz4, None)).unwrap(),
        false => builder.build(),
    }
}

fn check(log: &SingleLog, model: &Model) -> Result<(), TestCaseError> {
    let start = log.log.log_start_offset().0 as usize;
    for target in (NOW.0 - 41..=NOW.0 + 1).chain([0, i64::MAX]) {
        let found = log.log.offset_for_timestamp(Timestamp(target)).unwrap();
        let found = found.map(|found| (found.offset.0, found.timestamp.0));
        prop_assert_eq!(found, model.at_or_after(start, target), "NOW - {}", NOW.0 - target);
    }
    let largest = log.log.max_timestamp().unwrap();
    let largest = largest.map(|largest| (largest.offset.0, largest.timestamp.0));
    prop_assert_eq!(largest, model.largest(start));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_time_leads_to_the_first_record_that_is_not_older(
        steps in prop::collection::vec(step(), 1..40), brokers_time: bool,
        interval in prop_oneof![Just(1u32), Just(200), Just(4096)],
    ) {
        let message_timestamp_type = match brokers_time {
            true => MessageTimestampType::LogAppendTime,
            false => MessageTimestampType::CreateTime,
        };
        let mut log = SingleLog::new(LogConfig {
            message_timestamp_type,
            segment_bytes: 700,
            index_interval_bytes: interval,
            retention_ms: None,
            ..LogConfig::default()
        });
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Append(times, broker, compressed) => {
                    let now = Timestamp(NOW.0 - broker);
                    let (leader_epoch, origin) = (LeaderEpoch(0), AppendOrigin::Client);
                    let append = LeaderAppend { leader_epoch, origin, now };
                    log.log.append_as_leader(&batch(&times, compressed), append).unwrap();
                    model.batches.push(model.times.len());
                    model.times.extend(times.iter().map(|time| match (brokers_time, time) {
                        (true, _) => now.0,
                        (false, Some(before)) => NOW.0 - before,
                        (false, None) => Timestamp::NONE.0,
                    }));
                }
                Step::Flush => log.log.flush(log.log.log_end_offset()).unwrap(),
                Step::Checkpoint => log.log.checkpoint().unwrap(),
                Step::Restart => log.restart(),
                Step::Crash => log.crash(),
                Step::Truncate(at) => {
                    let (start, end) = (log.log.log_start_offset().0, log.log.log_end_offset().0);
                    let at = start + i64::from(at) % (end - start + 1);
                    log.log.truncate_to(Offset(at)).unwrap();
                    model.truncate(at as usize);
                    // Offsets before the start are not given out again.
                    model.times.resize(log.log.log_end_offset().0 as usize, Timestamp::NONE.0);
                }
                Step::DeleteUpTo(at) => {
                    let end = log.log.log_end_offset();
                    log.log.set_high_watermark(end);
                    let at = i64::from(at) % (end.0 + 1);
                    log.log.increment_log_start_offset(Offset(at)).unwrap();
                }
                Step::Retention => log.log.housekeeping(NOW).unwrap(),
            }
            check(&log, &model)?;
        }
    }
}
