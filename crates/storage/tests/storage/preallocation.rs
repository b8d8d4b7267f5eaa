//! `preallocate`: a segment's space is reserved when it is made, and what is not needed of it given back.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ottla_config::LogConfig;
use ottla_protocol::Offset;

use crate::single_log::SingleLog;

const SEGMENT_BYTES: u32 = 1 << 20;
/// More than the records of these tests take.
const LITTLE: u64 = 64 << 10;

fn log() -> SingleLog {
    let config =
        LogConfig { preallocate: true, segment_bytes: SEGMENT_BYTES, ..LogConfig::default() };
    SingleLog::new(config)
}

/// Bytes that a file takes on the disk.
fn space(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn the_space_of_a_segment_is_reserved_when_it_is_made() {
    let log = log();
    assert!(space(&log.last_file("log")) >= u64::from(SEGMENT_BYTES), "the first one, too");
    let value = "x".repeat(600_000);
    log.append_values(&[&value]);
    log.append_values(&[&value]);
    let files = log.files("log");
    assert_eq!(files.len(), 2);
    assert!(space(&files[1]) >= u64::from(SEGMENT_BYTES));
    assert_eq!(std::fs::metadata(&files[1]).unwrap().len() / 600_000, 1, "nobody sees more");
    log.log.truncate_fully_and_start_at(Offset(9)).unwrap();
    assert!(space(&log.last_file("log")) >= u64::from(SEGMENT_BYTES));
}

#[test]
fn what_is_not_needed_is_given_back() {
    let mut log = log();
    log.append_values(&["a"]);
    let value = "x".repeat(SEGMENT_BYTES as usize - 100);
    log.append_values(&[&value]);
    let files = log.files("log");
    assert_eq!(files.len(), 2);
    assert!(space(&files[0]) < LITTLE, "{} bytes after a roll", space(&files[0]));
    log.append_values(&["b"]);
    log.log.close().unwrap();
    let left = space(&log.last_file("log"));
    assert!(left < LITTLE, "{left} bytes after a stop");
    log.reopen(log.log.recovery_point(), true);
    assert_eq!(log.values().len(), 3);
}

/// Kafka extends the file itself, and a crash leaves the zeroes.
#[test]
fn the_zeroes_behind_the_records_of_a_preallocated_file_are_cut_off() {
    let mut log = log();
    log.append_values(&["a"]);
    log.append_values(&["b"]);
    let path = log.last_file("log");
    let len = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(u64::from(SEGMENT_BYTES)).unwrap();
    for extension in ["index", "timeindex"] {
        std::fs::write(path.with_extension(extension), vec![0; 10_000]).unwrap();
    }
    log.crash();
    assert_eq!(log.values(), ["a", "b"]);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
    log.append_values(&["c"]);
    log.restart();
    assert_eq!(log.values(), ["a", "b", "c"]);
}
