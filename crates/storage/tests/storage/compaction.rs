//! Of each key only the last record stays; offsets, producers and transactions stay what they were.

mod choice;
mod crashes;
mod model;
mod power;
mod producers;

use std::time::Duration;

use bytes::Bytes;
use ottla_config::{CleanupPolicy, LogConfig};
use ottla_protocol::compression::{Compression, Compressor, Decompressor};
use ottla_protocol::record_batch::{
    NewRecord, RecordBatch, RecordBatchBuilder, RecordError, batches,
};
use ottla_protocol::{Offset, Timestamp};
use ottla_storage::{AppendOrigin, CleanError, CleanerLimits, CleanerStats};

use crate::single_log::{NOW, SingleLog};

const HOUR: i64 = 3_600_000;

/// Offset, key and value of a record.
type Found = (i64, String, Option<String>);

fn compacted(segment_bytes: u32) -> LogConfig {
    LogConfig {
        cleanup_policy: CleanupPolicy { delete: false, compact: true },
        segment_bytes,
        index_interval_bytes: 1,
        ..LogConfig::default()
    }
}

fn found(offset: i64, key: &str, value: &str) -> Found {
    (offset, key.to_owned(), Some(value.to_owned()))
}

/// A batch of keys and values; no value is a tombstone.
fn batch(records: &[(&str, Option<&str>)]) -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new();
    for (key, value) in records {
        builder.append(&NewRecord {
            timestamp: NOW,
            key: Some(key.as_bytes()),
            value: value.map(str::as_bytes),
            headers: &[("h", Some(b"1"))],
        });
    }
    builder
}

impl SingleLog {
    pub(crate) fn compacted(segment_bytes: u32) -> Self {
        Self::new(compacted(segment_bytes))
    }

    fn put(&self, records: &[(&str, Option<&str>)]) {
        self.append_batch(&batch(records).build());
    }

    fn append_batch(&self, batch: &Bytes) {
        self.append_as(batch, AppendOrigin::Coordinator, 0).unwrap();
    }

    /// Ends the active segment, so that what it holds can be compacted, and commits everything.
    fn seal(&self) {
        self.roll();
        self.log.set_high_watermark(self.log.log_end_offset());
    }

    fn roll(&self) {
        let config = self.log.config();
        self.log.update_config(LogConfig { segment_bytes: 110, ..(*config).clone() });
        self.put(&[("seal", Some(""))]);
        self.log.update_config((*config).clone());
    }

    fn clean_at(&self, now: Timestamp) -> CleanerStats {
        self.log.clean(&CleanerLimits::default(), now).unwrap()
    }

    fn clean(&self) -> CleanerStats {
        self.clean_at(NOW)
    }

    /// Bytes of all batches from `from` to the log's end.
    fn bytes(&self, from: i64) -> Bytes {
        let end = self.log.log_end_offset();
        self.log.read(Offset(from), usize::MAX, true, end).unwrap().read().unwrap()
    }

    /// All records but those that [`seal`](Self::seal) wrote.
    fn records(&self) -> Vec<Found> {
        let mut found = records(&self.bytes(self.log.log_start_offset().0));
        found.retain(|(_, key, _)| key != "seal");
        found
    }
}

fn records(bytes: &Bytes) -> Vec<Found> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut found = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        assert!(batch.crc_is_valid(), "{batch:?}");
        batch
            .visit_records(&mut Decompressor::new(), 1 << 20, |record| {
                let offset = batch.offset_of(&record).0;
                assert!(offset <= batch.last_offset().0);
                found.push((offset, text(record.key.unwrap()), record.value.map(text)));
                Ok::<_, RecordError>(())
            })
            .unwrap();
    }
    found
}

#[test]
fn of_each_key_the_last_record_stays() {
    let mut log = SingleLog::compacted(1 << 20);
    log.put(&[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))]);
    log.put(&[("a", Some("3")), ("c", Some("1"))]);
    log.put(&[("b", Some("2"))]);
    log.seal();
    let stats = log.clean();
    let kept = [found(3, "a", "3"), found(4, "c", "1"), found(5, "b", "2")];
    assert_eq!(log.records(), kept);
    assert_eq!((stats.keys, stats.records_kept, stats.cleaned_to), (3, 3, Offset(6)));
    log.restart();
    assert_eq!(log.records(), kept);
    log.crash();
    assert_eq!(log.records(), kept);
    assert_eq!(log.log.log_end_offset(), Offset(7));
}

#[test]
fn a_batch_that_loses_nothing_is_copied_byte_for_byte() {
    for codec in Compression::ALL {
        let log = SingleLog::compacted(1 << 20);
        let whole = batch(&[("a", Some("1")), ("b", Some("1"))]);
        log.append_batch(&whole.build_compressed(&mut Compressor::new(codec, None)).unwrap());
        let before = log.bytes(0);
        log.seal();
        log.clean();
        assert_eq!(log.bytes(0)[..before.len()], before[..], "{codec}");
    }
}

#[test]
fn what_is_left_of_a_batch_keeps_its_place_its_codec_and_its_times() {
    for codec in Compression::ALL {
        let log = SingleLog::compacted(1 << 20);
        let records = [("a", Some("1")), ("b", Some("1")), ("a", Some("2")), ("c", Some("1"))];
        let first = batch(&records).build_compressed(&mut Compressor::new(codec, None)).unwrap();
        log.append_batch(&first);
        log.put(&[("a", Some("3")), ("c", Some("2"))]);
        log.seal();
        log.clean();
        let kept = [found(1, "b", "1"), found(4, "a", "3"), found(5, "c", "2")];
        assert_eq!(log.records(), kept, "{codec}");
        let bytes = log.bytes(0);
        let first = RecordBatch::parse(&bytes).unwrap();
        assert_eq!(first.compression().unwrap(), codec);
        assert_eq!((first.base_offset(), first.last_offset()), (Offset(0), Offset(3)));
        assert_eq!((first.records_count(), first.max_timestamp()), (1, NOW));
    }
}

#[test]
fn a_record_without_a_key_goes() {
    let log = SingleLog::compacted(1 << 20);
    log.log.update_config(LogConfig { segment_bytes: 1 << 20, ..LogConfig::default() });
    let mut builder = batch(&[("a", Some("1"))]);
    builder.append(&NewRecord { timestamp: NOW, value: Some(b"no key"), ..NewRecord::default() });
    log.append_batch(&builder.build());
    log.log.update_config(compacted(1 << 20));
    log.seal();
    assert_eq!(log.clean().records_without_key, 1);
    assert_eq!(log.records(), [found(0, "a", "1")]);
}

#[test]
fn a_tombstone_goes_once_its_horizon_has_passed_and_not_before() {
    let mut log = SingleLog::compacted(1 << 20);
    let retention = log.config.delete_retention_ms.as_millis() as i64;
    log.put(&[("a", Some("1")), ("b", Some("1"))]);
    log.put(&[("a", None), ("c", Some("1"))]);
    log.seal();
    log.clean();
    let with_tombstone = [found(1, "b", "1"), (2, "a".to_owned(), None), found(3, "c", "1")];
    assert_eq!(log.records(), with_tombstone);
    let bytes = log.bytes(2);
    let horizon = Timestamp(NOW.0 + retention);
    assert_eq!(RecordBatch::parse(&bytes).unwrap().delete_horizon(), Some(horizon));
    log.restart();
    // The next pass comes a little too early, the one after it in time.
    log.put(&[("d", Some("1"))]);
    log.seal();
    log.clean_at(Timestamp(horizon.0 - 1));
    assert_eq!(log.records()[..3], with_tombstone);
    log.seal();
    log.clean_at(horizon);
    let kept: Vec<_> = log.records().into_iter().map(|(offset, _, _)| offset).collect();
    assert_eq!(kept, [1, 3, 5]);
}

#[test]
fn the_active_segment_and_what_is_not_stable_stay() {
    let log = SingleLog::compacted(1 << 20);
    log.put(&[("a", Some("1")), ("a", Some("2"))]);
    log.log.set_high_watermark(Offset(2));
    assert_eq!((log.clean().segments_cleaned, log.records().len()), (0, 2), "it is active");
    log.log.set_high_watermark(Offset(1));
    log.roll();
    assert_eq!((log.clean().segments_cleaned, log.records().len()), (0, 2), "not committed");
    log.log.set_high_watermark(Offset(2));
    assert_eq!((log.clean().segments_cleaned, log.records().len()), (1, 1));
}

#[test]
fn small_segments_become_one_and_large_ones_stay_apart() {
    let log = SingleLog::compacted(400);
    let value = "x".repeat(100);
    for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        log.put(&[(key, Some(&value)), ("same", Some(&value))]);
    }
    log.seal();
    assert_eq!(log.log.segment_count(), 9);
    let stats = log.clean();
    assert_eq!((stats.segments_cleaned, stats.segments_written), (8, 8));
    // Half as large now: the next pass puts two together.
    log.seal();
    let stats = log.clean();
    assert_eq!((stats.segments_cleaned, stats.segments_written), (9, 5));
    assert_eq!(log.log.segment_count(), 6);
    for file in log.files("log") {
        assert!(file.metadata().unwrap().len() <= 400);
    }
    let kept: Vec<_> = log.records().into_iter().map(|(offset, key, _)| (offset, key)).collect();
    let expected = [(0, "a"), (2, "b"), (4, "c"), (6, "d"), (8, "e"), (10, "f"), (12, "g")];
    assert_eq!(kept[..7], expected.map(|(offset, key)| (offset, key.to_owned())));
}

#[test]
fn a_full_map_cleans_as_far_as_it_got_and_a_later_pass_goes_on() {
    let log = SingleLog::compacted(1 << 20);
    let keys: Vec<String> = (0..40).map(|key| format!("key {key}")).collect();
    for round in ["1", "2"] {
        for keys in keys.chunks(4) {
            let records: Vec<_> = keys.iter().map(|key| (key.as_str(), Some(round))).collect();
            log.put(&records);
        }
    }
    log.seal();
    // Room for 9 keys.
    let limits = CleanerLimits { dedupe_buffer_bytes: 240, ..CleanerLimits::default() };
    let mut passes = 0;
    loop {
        let stats = log.log.clean(&limits, NOW).unwrap();
        assert!(stats.keys <= 9 && stats.map_utilization <= 0.9, "{stats:?}");
        passes += 1;
        if stats.cleaned_to == Offset(80) {
            break;
        }
        assert_eq!(log.log.first_dirty_offset(), Some(stats.cleaned_to));
        assert!(stats.cleaned_to > stats.first_dirty, "every pass gets somewhere");
    }
    assert!(passes >= 80 / 9, "{passes}");
    let expected: Vec<_> = keys.iter().zip(40..).map(|(k, at)| found(at, k, "2")).collect();
    assert_eq!(log.records(), expected);
}

#[test]
fn a_batch_larger_than_the_buffer_is_read_all_the_same() {
    let log = SingleLog::compacted(1 << 20);
    log.put(&[("a", Some(&"x".repeat(10_000))), ("b", Some("1"))]);
    log.put(&[("a", Some("2"))]);
    log.seal();
    let limits = CleanerLimits { io_buffer_bytes: 100, ..CleanerLimits::default() };
    log.log.clean(&limits, NOW).unwrap();
    assert_eq!(log.records(), [found(1, "b", "1"), found(2, "a", "2")]);
}

#[test]
fn a_damaged_batch_stops_the_pass_and_nothing_is_lost() {
    let log = SingleLog::compacted(1 << 20);
    log.put(&[("a", Some("1"))]);
    log.put(&[("a", Some("2"))]);
    log.seal();
    let segment = log.files("log")[0].clone();
    let mut bytes = std::fs::read(&segment).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let error = log.log.clean(&CleanerLimits::default(), NOW).unwrap_err();
    assert!(matches!(error, CleanError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("00000000000000000000.log"), "{error}");
    assert!(error.to_string().contains("checksum"), "{error}");
    assert_eq!(std::fs::read(&segment).unwrap(), bytes);
    assert!(log.files("cleaned").is_empty());
}

#[test]
fn readers_of_replaced_segments_finish_and_new_ones_see_the_new_files() {
    let log = SingleLog::compacted(1 << 20);
    log.put(&[("a", Some("1"))]);
    log.put(&[("a", Some("2"))]);
    log.seal();
    let end = log.log.log_end_offset();
    let before = log.log.read(Offset(0), usize::MAX, true, end).unwrap();
    log.clean();
    assert_eq!(records(&before.read().unwrap()).len(), 3);
    assert_eq!(log.records(), [found(1, "a", "2")]);
    let waiting = log.files("deleted");
    assert_eq!(waiting.len(), 3, "log and two indexes wait for file.delete.delay.ms: {waiting:?}");
    log.log.log_dir().remove_due(Timestamp(i64::MAX));
    assert_eq!(log.files("deleted").len(), 0);
    assert_eq!(log.records(), [found(1, "a", "2")]);
}

#[test]
fn times_and_epochs_are_found_in_a_compacted_log() {
    let log = SingleLog::compacted(1 << 20);
    let at = |time: i64, key: &str| {
        let mut builder = RecordBatchBuilder::new();
        let (key, timestamp) = (Some(key.as_bytes()), Timestamp(time));
        builder.append(&NewRecord { timestamp, key, value: Some(b"1"), ..NewRecord::default() });
        builder.build()
    };
    for (time, key, epoch) in [(10, "a", 1), (20, "b", 1), (30, "a", 2), (40, "c", 3)] {
        log.append_as(&at(time, key), AppendOrigin::Coordinator, epoch).unwrap();
    }
    log.log.assign_epoch_start(ottla_protocol::LeaderEpoch(4));
    log.append_as(&at(50, "d"), AppendOrigin::Coordinator, 4).unwrap();
    log.log.update_config(compacted(100));
    log.append_as(&at(60, "e"), AppendOrigin::Coordinator, 4).unwrap();
    log.log.set_high_watermark(log.log.log_end_offset());
    log.clean();
    let first = |time| log.log.offset_for_timestamp(Timestamp(time)).unwrap().map(|f| f.offset.0);
    assert_eq!([5, 15, 25, 35].map(first), [Some(1), Some(1), Some(2), Some(3)]);
    let end = |epoch| {
        let end = log.log.end_offset_for_epoch(ottla_protocol::LeaderEpoch(epoch)).unwrap();
        end.end_offset.0
    };
    assert_eq!([1, 2, 3, 4].map(end), [2, 3, 4, 6]);
}

#[test]
fn compaction_and_deletion_go_together() {
    let hour = Duration::from_millis(HOUR as u64);
    let config = LogConfig {
        cleanup_policy: CleanupPolicy { delete: true, compact: true },
        retention_ms: Some(hour),
        ..compacted(200)
    };
    let log = SingleLog::new(config);
    for value in ["1", "2", "3", "4"] {
        log.put(&[("a", Some(value)), ("b", Some(value)), (value, Some(value))]);
    }
    log.seal();
    log.clean();
    let last = [found(9, "a", "4"), found(10, "b", "4"), found(11, "4", "4")];
    assert_eq!(log.records()[3..], last);
    assert_eq!(log.records().len(), 6);
    log.log.housekeeping(Timestamp(NOW.0 + HOUR + 1)).unwrap();
    assert_eq!(log.records(), [], "all of it is older than retention.ms");
    assert_eq!(log.log.log_start_offset(), log.log.log_end_offset());
    // The checkpoint lies before the start of the log now.
    log.put(&[("a", Some("5")), ("a", Some("6"))]);
    log.seal();
    log.clean();
    assert_eq!(log.records().len(), 1);
}

#[test]
fn the_log_start_moves_over_what_is_compacted() {
    let log = SingleLog::compacted(200);
    for value in ["1", "2", "3", "4"] {
        log.put(&[("a", Some(value)), ("b", Some(value)), (value, Some(value))]);
    }
    log.seal();
    log.clean();
    log.log.increment_log_start_offset(Offset(8)).unwrap();
    log.log.housekeeping(NOW).unwrap();
    assert_eq!(log.log.log_start_offset(), Offset(8));
    let offsets: Vec<_> = log.records().iter().map(|(offset, _, _)| *offset).collect();
    assert_eq!(offsets, [8, 9, 10, 11]);
}

#[test]
fn a_pass_gives_way_to_whoever_changes_the_log() {
    let log = SingleLog::compacted(1 << 20);
    log.put(&[("a", Some("1")), ("a", Some("2"))]);
    log.seal();
    let aborts = |log: &SingleLog| {
        matches!(log.log.clean(&CleanerLimits::default(), NOW), Err(CleanError::Aborted))
    };
    log.log.update_config(LogConfig::default());
    assert!(aborts(&log), "it is not compacted any more");
    log.log.update_config(compacted(1 << 20));
    log.log.close().unwrap();
    assert!(log.log.clean(&CleanerLimits::default(), NOW).is_err(), "it is closed");
    assert!(log.files("cleaned").is_empty());
}

#[test]
fn truncation_takes_the_checkpoint_back() {
    let log = SingleLog::compacted(100);
    for value in ["1", "2", "3", "4"] {
        log.put(&[("a", Some(value)), (value, Some(value))]);
    }
    log.seal();
    assert_eq!(log.clean().cleaned_to, Offset(8));
    log.log.truncate_to(Offset(5)).unwrap();
    assert_eq!(log.log.first_dirty_offset(), Some(log.log.log_end_offset()));
    log.put(&[("1", Some("new"))]);
    log.seal();
    log.clean();
    let keys: Vec<_> = log.records().into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys.iter().filter(|key| *key == "1").count(), 1, "{keys:?}");
}

#[test]
fn offsets_in_a_gap_are_not_given_out_again_after_a_truncation() {
    for in_one_segment in [true, false] {
        let mut log = SingleLog::compacted(if in_one_segment { 1 << 20 } else { 170 });
        log.put(&[("z", Some("1"))]);
        // All of these go, but for the end of their segment.
        (0..6).for_each(|_| log.put(&[("a", Some("1"))]));
        log.put(&[("b", Some("1"))]);
        log.seal();
        log.clean();
        assert_eq!(log.records().len(), 3);
        log.log.truncate_to(Offset(4)).unwrap();
        let end = log.log.log_end_offset();
        assert_eq!(end, Offset(4), "offset 3 was given to another record");
        log.log.flush(end).unwrap();
        log.crash();
        assert_eq!((log.log.log_end_offset(), log.records()), (end, vec![found(0, "z", "1")]));
        log.put(&[("c", Some("1"))]);
        assert_eq!(log.records(), [found(0, "z", "1"), found(4, "c", "1")]);
    }
}
