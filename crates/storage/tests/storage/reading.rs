//! Where batches lie, and what is known of it.

use ottla_config::LogConfig;
use ottla_protocol::Offset;
use ottla_storage::FileSlice;

use crate::single_log::SingleLog;

/// The batch that holds `offset`.
fn slice(log: &SingleLog, offset: i64) -> FileSlice {
    let end = log.log.log_end_offset();
    log.log.read(Offset(offset), 1, true, end).unwrap().slices.remove(0)
}

#[test]
fn only_what_was_written_a_moment_ago_is_taken_for_granted_to_be_in_memory() {
    let mut log = SingleLog::new(LogConfig::default());
    log.append_values(&["a"]);
    assert!(slice(&log, 0).is_recent);
    log.restart();
    assert!(!slice(&log, 0).is_recent, "nobody knows how long ago that was");
    log.append_values(&["b"]);
    assert!(!slice(&log, 0).is_recent);
    assert!(slice(&log, 1).is_recent);
    let large = "x".repeat(1_000_000);
    for _ in 0..9 {
        log.append_values(&[&large]);
    }
    assert!(!slice(&log, 1).is_recent);
    assert!(slice(&log, 10).is_recent);
}

#[test]
fn a_slice_tells_where_it_ends_and_whether_it_is_in_memory() {
    let mut log = SingleLog::new(LogConfig::default());
    log.append_values(&["a", "b"]);
    log.append_values(&["c"]);
    log.restart();
    let (first, second) = (slice(&log, 1), slice(&log, 2));
    assert_eq!(first.end(), second.position);
    assert!(first.is_in_memory(), "it was just read");
    assert_eq!(first.try_read().unwrap().unwrap(), first.read().unwrap());
    // Whoever reads a slice that was cut off is told so, and not before.
    first.file.set_len(first.position + 10).unwrap();
    first.bring_in();
    assert!(first.read().is_err());
    assert!(first.try_read().is_err());
}
