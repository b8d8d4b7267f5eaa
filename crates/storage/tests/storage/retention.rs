//! Old segments go by time, by size and by the start of the log; readers do not notice.

use std::time::Duration;

use ottla_config::{CleanupPolicy, LogConfig};
use ottla_protocol::{Offset, Timestamp};

use crate::batches;
use crate::single_log::{NOW, SingleLog};

const HOUR: i64 = 3_600_000;

/// Six records, each in a segment of its own, one per hour, the last one now; all committed.
fn hourly(config: LogConfig) -> SingleLog {
    let log = SingleLog::new(LogConfig { segment_bytes: 100, ..config });
    for hour in 0..6 {
        let timestamp = NOW.0 - (5 - hour) * HOUR;
        log.append(&batches::builder(timestamp, &[&format!("hour {hour}")]).build()).unwrap();
    }
    assert_eq!(log.log.segment_count(), 6);
    log.log.set_high_watermark(Offset(6));
    log
}

#[test]
fn records_older_than_retention_ms_go() {
    let retention_ms = Some(Duration::from_millis(3 * HOUR as u64));
    let log = hourly(LogConfig { retention_ms, ..LogConfig::default() });
    log.log.housekeeping(NOW).unwrap();
    assert_eq!(log.log.log_start_offset(), Offset(2));
    assert_eq!(log.values(), ["hour 2", "hour 3", "hour 4", "hour 5"]);
}

/// Late records come in young segments, and young ones in old segments.
#[test]
fn the_newest_record_of_a_segment_counts_wherever_it_is_and_segments_go_from_the_front() {
    let retention_ms = Some(Duration::from_millis(3 * HOUR as u64));
    let log =
        SingleLog::new(LogConfig { segment_bytes: 200, retention_ms, ..LogConfig::default() });
    // Hours before now, two records in each segment.
    for pair in [[9, 8], [7, 1], [-1, 6], [9, 9], [0, 9], [9, 0]] {
        for hours in pair {
            let time = if hours < 0 { Timestamp::NONE.0 } else { NOW.0 - hours * HOUR };
            log.append(&batches::builder(time, &["x"]).build()).unwrap();
        }
    }
    assert_eq!(log.log.segment_count(), 6);
    log.log.set_high_watermark(Offset(12));
    log.log.housekeeping(NOW).unwrap();
    assert_eq!(log.log.log_start_offset(), Offset(2), "behind a young segment all stay");
    log.log.housekeeping(Timestamp(NOW.0 + 2 * HOUR + 1)).unwrap();
    assert_eq!(log.log.log_start_offset(), Offset(8), "a record without a time says nothing");
    log.log.housekeeping(Timestamp(NOW.0 + 3 * HOUR + 1)).unwrap();
    assert_eq!(log.log.log_start_offset(), Offset(12));
}

#[test]
fn a_log_that_is_old_as_a_whole_becomes_empty() {
    let retention_ms = Some(Duration::from_millis(HOUR as u64));
    let log = hourly(LogConfig { retention_ms, ..LogConfig::default() });
    log.log.housekeeping(Timestamp(NOW.0 + 2 * HOUR)).unwrap();
    assert_eq!(log.log.log_start_offset(), Offset(6));
    assert_eq!(log.log.log_end_offset(), Offset(6));
    log.append_values(&["next"]);
    assert_eq!(log.contents(), [(6, "next".to_owned())]);
}

#[test]
fn segments_beyond_retention_bytes_go_but_never_the_active_one() {
    let log = hourly(LogConfig { retention_ms: None, ..LogConfig::default() });
    let segment = log.log.size() / 6;
    let mut config = log.config.clone();
    config.retention_bytes = Some(2 * segment + 1);
    log.log.update_config(config.clone());
    log.log.housekeeping(NOW).unwrap();
    assert_eq!(log.log.log_start_offset(), Offset(3), "the log stays at or above the limit");
    config.retention_bytes = Some(0);
    log.log.update_config(config);
    log.log.housekeeping(NOW).unwrap();
    assert_eq!(log.values(), ["hour 5"]);
}

#[test]
fn what_is_not_committed_stays() {
    let retention_ms = Some(Duration::ZERO);
    let log = hourly(LogConfig { retention_ms, ..LogConfig::default() });
    let log = log.log;
    log.set_high_watermark(Offset(2));
    log.housekeeping(NOW).unwrap();
    assert_eq!(log.log_start_offset(), Offset(2));
}

#[test]
fn a_compacted_topic_keeps_its_segments() {
    let cleanup_policy = CleanupPolicy { delete: false, compact: true };
    let retention_ms = Some(Duration::ZERO);
    let log = hourly(LogConfig { cleanup_policy, retention_ms, ..LogConfig::default() });
    log.log.housekeeping(NOW).unwrap();
    assert_eq!(log.log.log_start_offset(), Offset(0));
    assert_eq!(log.log.segment_count(), 6);
    log.log.increment_log_start_offset(Offset(3)).unwrap();
    log.log.housekeeping(NOW).unwrap();
    assert_eq!(log.log.segment_count(), 3, "but for those that nobody may read");
}

#[test]
fn segments_before_the_start_of_the_log_go() {
    let mut log = hourly(LogConfig { retention_ms: None, ..LogConfig::default() });
    log.log.increment_log_start_offset(Offset(4)).unwrap();
    log.log.housekeeping(NOW).unwrap();
    assert_eq!(log.log.segment_count(), 2);
    log.restart();
    assert_eq!(log.values(), ["hour 4", "hour 5"]);
}

#[test]
fn a_reader_keeps_what_retention_deletes() {
    let retention_ms = Some(Duration::ZERO);
    let log = hourly(LogConfig { retention_ms, ..LogConfig::default() });
    let held = log.log.read(Offset(0), usize::MAX, true, Offset(6)).unwrap();
    log.log.housekeeping(Timestamp(NOW.0 + HOUR)).unwrap();
    assert_eq!(log.log.log_start_offset(), Offset(6));
    let delay = log.config.file_delete_delay.as_millis() as i64;
    log.log.log_dir().remove_due(Timestamp(NOW.0 + HOUR + delay - 1));
    assert_eq!(
        log.files("deleted").iter().filter(|f| f.to_string_lossy().contains(".log.")).count(),
        6
    );
    log.log.log_dir().remove_due(Timestamp(NOW.0 + HOUR + delay));
    assert_eq!(log.files("deleted").len(), 0);
    assert_eq!(batches::decode(&held.read().unwrap()).len(), 6);
}

#[test]
fn a_segment_is_rolled_by_time() {
    let segment_ms = Duration::from_millis(HOUR as u64);
    let log = SingleLog::new(LogConfig { segment_ms, ..LogConfig::default() });
    for minutes in [0, 30, 59, 61, 62] {
        let timestamp = NOW.0 - 120 * 60_000 + minutes * 60_000;
        log.append(&batches::builder(timestamp, &["x"]).build()).unwrap();
    }
    let names: Vec<_> =
        log.files("log").iter().map(|p| p.file_stem().unwrap().to_owned()).collect();
    assert_eq!(names, ["00000000000000000000", "00000000000000000003"]);
}

#[test]
fn the_time_of_the_file_counts_where_records_have_none() {
    let retention_ms = Some(Duration::from_millis(HOUR as u64));
    let log =
        SingleLog::new(LogConfig { segment_bytes: 100, retention_ms, ..LogConfig::default() });
    for value in ["a", "b", "c"] {
        log.append(&batches::builder(Timestamp::NONE.0, &[value]).build()).unwrap();
    }
    log.log.set_high_watermark(Offset(3));
    log.log.housekeeping(NOW).unwrap();
    assert_eq!(log.values(), ["a", "b", "c"]);
    let old = std::time::SystemTime::now() - Duration::from_millis(2 * HOUR as u64);
    let first = std::fs::File::options().write(true).open(&log.files("log")[0]).unwrap();
    first.set_modified(old).unwrap();
    log.log.housekeeping(NOW).unwrap();
    assert_eq!(log.values(), ["b", "c"]);
}

#[test]
fn a_sync_does_not_take_a_deleted_segment_for_a_failed_disk() {
    let retention_ms = Some(Duration::ZERO);
    let log =
        SingleLog::new(LogConfig { segment_bytes: 100, retention_ms, ..LogConfig::default() });
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for _ in 0..500 {
                let end = log.append_values(&["x"]).log_end_offset;
                log.log.set_high_watermark(end);
                log.log.flush(end).unwrap();
            }
        });
        while !writing.is_finished() {
            log.log.housekeeping(Timestamp(NOW.0 + HOUR)).unwrap();
        }
    });
    assert!(log.log.log_dir().failure().is_none());
}
