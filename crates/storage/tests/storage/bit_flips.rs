//! A bit that flips in a file at rest, where no checksum tells (`docs/durability.md`).

use std::path::Path;
use std::time::Duration;

use ottla_config::{CleanupPolicy, LogConfig};
use ottla_env::Env;
use ottla_protocol::record_batch::RecordBatch;
use ottla_protocol::{ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition};
use ottla_storage::{CleanerLimits, LogManager, ReadError};

use crate::log_manager::{TOPIC, append, contents, options};
use crate::single_log::{NOW, SingleLog};
use crate::transactions;

/// Flips each bit of the bytes `range` of a file, one after the other, and has `look` at it.
fn flip_each(path: &Path, range: std::ops::Range<usize>, mut look: impl FnMut(&str)) {
    let sound = std::fs::read(path).unwrap();
    for bit in range.start * 8..range.end * 8 {
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(path, &flipped).unwrap();
        look(&format!("bit {} of byte {}", bit % 8, bit / 8));
    }
    std::fs::write(path, sound).unwrap();
}

#[test]
fn a_transaction_index_that_does_not_fit_the_log_is_made_anew() {
    let mut log = transactions::with_overlapping_aborts();
    let wanted = transactions::committed(&log);
    log.restart();
    let file = log.last_file("txnindex");
    let len = std::fs::read(&file).unwrap().len();
    assert_eq!(len, 2 * 34);
    flip_each(&file, 0..len, |place| {
        log.restart();
        log.log.set_high_watermark(log.log.log_end_offset());
        assert_eq!(transactions::committed(&log), wanted, "{place}");
    });
}

/// Of batches of some size each, of which an index knows every third or so.
fn batches_of(bytes: usize) -> SingleLog {
    let mut log = SingleLog::new(LogConfig {
        index_interval_bytes: 2 * bytes as u32,
        ..LogConfig::default()
    });
    for number in 0..12 {
        log.append_values(&[&format!("{number:>bytes$}"), "and another"]);
    }
    log.restart();
    log
}

#[test]
fn an_offset_or_length_that_does_not_fit_its_neighbours_is_corrupt() {
    for size in [100, 5000] {
        let log = batches_of(size);
        let end = log.log.log_end_offset();
        let file = log.last_file("log");
        let len = std::fs::read(&file).unwrap().len();
        let batch = len / 12;
        let mut corrupt = 0;
        for number in [0, 1, 5, 8, 11] {
            // Base offset and length.
            flip_each(&file, number * batch..number * batch + 12, |place| {
                let from = Offset(2 * number as i64);
                match log.log.read(from, 1, true, end) {
                    Err(ReadError::Corrupt(_)) => corrupt += 1,
                    other => {
                        let bytes = other.unwrap().read().unwrap();
                        let served = RecordBatch::parse(&bytes).ok();
                        // Of another length the checksum is another, and the client finds out.
                        let served = served.filter(|batch| batch.crc_is_valid());
                        let right = served.is_none_or(|batch| batch.base_offset() == from);
                        assert!(right, "{place} of batch {number}, {size}");
                    }
                }
            });
        }
        assert!(corrupt > 200, "{corrupt} of batches of {size}");
    }
}

/// Flips a bit of the records of a batch, of which a segment's file holds `batches` of one size.
fn rot(path: &Path, batches: usize, number: usize, byte: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = number * (bytes.len() / batches) + byte;
    bytes[at] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

/// A byte of a batch's records, within its checksum.
const IN_RECORDS: usize = 70;

#[test]
fn a_truncation_behind_a_rotten_batch_ends_the_log_before_it() {
    let leader = SingleLog::with_segments_of(1 << 20);
    for value in ["a", "b", "c", "d", "e", "f"] {
        leader.append_values(&[value]);
    }
    let sent = leader.log.read(Offset(0), 1 << 20, true, Offset(6)).unwrap().read().unwrap();
    let follower = SingleLog::with_segments_of(1 << 20);
    follower.log.append_as_follower(&sent).unwrap();
    follower.log.flush(Offset(6)).unwrap();
    rot(&follower.last_file("log"), 6, 2, IN_RECORDS);
    follower.log.truncate_to(Offset(4)).unwrap();
    let end = follower.log.log_end_offset();
    assert_eq!((end, follower.values()), (Offset(2), vec!["a".to_owned(), "b".to_owned()]));
    assert!(follower.log.recovery_point() <= end && follower.log.high_watermark() <= end);
    // What is missing is fetched again.
    let again = leader.log.read(end, 1 << 20, true, Offset(6)).unwrap().read().unwrap();
    follower.log.append_as_follower(&again).unwrap();
    assert_eq!(follower.contents(), leader.contents());
}

/// Segments of two batches each, all but the last of them synced, and what is in them.
fn synced_segments() -> (SingleLog, Vec<(i64, String)>) {
    let log = SingleLog::with_segments_of(200);
    for number in 0..8 {
        log.append_values(&[&format!("value {number}")]);
    }
    assert_eq!(log.files("log").len(), 4, "two batches each");
    log.log.flush(Offset(6)).unwrap();
    let contents = log.contents();
    (log, contents)
}

/// What can be read, one offset after the other.
fn readable(log: &SingleLog) -> Vec<(i64, String)> {
    let end = log.log.log_end_offset();
    let read = |offset| match log.log.read(Offset(offset), 1, true, end) {
        Err(ReadError::Corrupt(_)) => Vec::new(),
        read => {
            let bytes = read.unwrap().read().unwrap();
            let is_sound = RecordBatch::parse(&bytes).is_ok_and(|batch| batch.crc_is_valid());
            if is_sound { crate::batches::decode(&bytes) } else { Vec::new() }
        }
    };
    (0..end.0).flat_map(read).collect()
}

#[test]
fn a_rotten_batch_in_a_synced_segment_costs_no_other() {
    // Its records; its length, so that nobody knows where the next batch begins; its offset, which
    // would reach over the next segment.
    for (byte, damaged) in [(IN_RECORDS, vec![2]), (IN_LENGTH, vec![2, 3]), (6, vec![2, 3])] {
        let (mut log, contents) = synced_segments();
        let files = log.files("log");
        let lens = |log: &SingleLog| -> Vec<u64> {
            log.files("log").iter().map(|file| file.metadata().unwrap().len()).collect()
        };
        let before = lens(&log);
        rot(&files[1], 2, 0, byte);
        for extension in ["index", "timeindex"] {
            std::fs::remove_file(files[1].with_extension(extension)).unwrap();
        }
        log.reopen(Offset(6), false);
        assert_eq!((lens(&log), log.log.log_end_offset()), (before, Offset(8)), "byte {byte}");
        let wanted: Vec<_> =
            contents.iter().filter(|(offset, _)| !damaged.contains(offset)).cloned().collect();
        assert_eq!(readable(&log), wanted, "byte {byte}");
        assert!(files[1].with_extension("index").exists(), "made anew");
    }
}

#[test]
fn a_rotten_batch_before_a_recovery_point_between_two_segments_costs_no_other() {
    let (mut log, contents) = synced_segments();
    rot(&log.files("log")[2], 2, 1, IN_RECORDS);
    log.crash();
    let wanted: Vec<_> = contents.into_iter().filter(|(offset, _)| *offset != 5).collect();
    assert_eq!((readable(&log), log.log.log_end_offset()), (wanted, Offset(8)));
    // Beyond the recovery point a crash may have torn what does not check out.
    log.reopen(Offset(4), false);
    assert_eq!(log.log.log_end_offset(), Offset(5));
}

/// In the length of a batch, so that nobody knows where the next one begins.
const IN_LENGTH: usize = 10;

/// Nothing but one batch is wrong: the disk works.
fn assert_online(log: &SingleLog) {
    let failure = log.log.log_dir().failure();
    assert!(failure.is_none(), "{failure:?}");
}

#[test]
fn a_segment_whose_times_are_rotten_is_as_old_as_its_file() {
    let hour = Duration::from_secs(3600);
    let mut log = SingleLog::new(LogConfig {
        segment_bytes: 100,
        retention_ms: Some(hour),
        ..LogConfig::default()
    });
    for value in ["a", "b", "c"] {
        log.append_values(&[value]);
    }
    log.log.set_high_watermark(Offset(3));
    log.restart();
    log.log.set_high_watermark(Offset(3));
    let first = log.files("log")[0].clone();
    rot(&first, 1, 0, IN_LENGTH);
    let later = Timestamp(NOW.0 + 2 * 3_600_000);
    log.log.housekeeping(later).unwrap();
    assert_eq!(log.log.log_start_offset(), Offset(0), "it was written a moment ago");
    let first = std::fs::File::options().write(true).open(&first).unwrap();
    first.set_modified(std::time::SystemTime::now() - 2 * hour).unwrap();
    log.log.housekeeping(later).unwrap();
    assert_eq!(log.log.log_start_offset(), Offset(3));
    assert_online(&log);
}

#[test]
fn a_segment_whose_first_batch_is_rotten_takes_more() {
    let mut log = SingleLog::with_segments_of(1 << 20);
    for _ in 0..4 {
        log.append_values(&["a"]);
    }
    log.restart();
    rot(&log.last_file("log"), 4, 0, IN_LENGTH);
    assert_eq!(log.append_values(&["b"]).first_offset, Offset(4));
    assert_online(&log);
}

#[test]
fn whether_a_batch_is_sent_again_nobody_knows_where_those_before_are_rotten() {
    let mut log = SingleLog::with_segments_of(1 << 20);
    let batch = |sequence| {
        let builder = crate::batches::builder(NOW.0, &["value"]);
        builder.producer(ProducerId(9), ProducerEpoch(0), sequence).build()
    };
    for sequence in 0..4 {
        log.append(&batch(sequence)).unwrap();
    }
    log.restart();
    let file = log.last_file("log");
    rot(&file, 4, 0, IN_LENGTH);
    let error = log.append(&batch(1)).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::CorruptMessage, "{error}");
    assert_online(&log);
    // What follows its last batch is new in any case.
    log.append(&batch(4)).unwrap();
    rot(&file, 5, 0, IN_LENGTH);
    assert!(log.append(&batch(1)).unwrap().duplicate, "the disk has come to its senses");
}

/// Cuts a log at `offset` that holds offsets 0 to 5, after a bit of a batch has flipped.
fn cut_after_rot(number: usize, byte: usize, offset: i64, size: usize) -> SingleLog {
    let mut log =
        SingleLog::new(LogConfig { index_interval_bytes: 1 << 20, ..LogConfig::default() });
    for number in 0..6 {
        log.append_values(&[&format!("{number:>size$}")]);
    }
    log.restart();
    rot(&log.last_file("log"), 6, number, byte);
    log.log.truncate_to(Offset(offset)).unwrap();
    assert_online(&log);
    log
}

#[test]
fn a_truncation_among_rotten_headers_ends_the_log_before_them() {
    for size in [10, 5000] {
        // Its length; its offset, higher by 1024; its magic.
        for byte in [IN_LENGTH, 6, 16] {
            for number in 0..5 {
                let place = format!("byte {byte} of batch {number}, {size}");
                let log = cut_after_rot(number, byte, 4, size);
                let end = log.log.log_end_offset();
                assert_eq!(end, Offset(4.min(number as i64)), "{place}");
                assert_eq!(log.contents().len(), end.0 as usize, "{place}");
                assert_eq!(log.append_values(&["next"]).first_offset, end, "{place}");
            }
        }
    }
}

#[test]
fn a_truncation_makes_a_rotten_transaction_index_anew() {
    let log = transactions::with_overlapping_aborts();
    let mut wanted = transactions::committed(&log);
    wanted.pop();
    let mut entries = std::fs::read(log.last_file("txnindex")).unwrap();
    entries[0] ^= 0x80;
    entries[34] ^= 0x80;
    std::fs::write(log.last_file("txnindex"), entries).unwrap();
    log.log.truncate_to(Offset(log.log.log_end_offset().0 - 1)).unwrap();
    assert_online(&log);
    log.log.set_high_watermark(log.log.log_end_offset());
    assert_eq!(transactions::committed(&log), wanted);
}

#[test]
fn a_start_beyond_the_end_of_a_closed_log_is_not_believed() {
    let mut log = SingleLog::with_segments_of(200);
    for number in 0..10 {
        log.append_values(&[&format!("value {number}")]);
    }
    let (wanted, end) = (log.values(), log.log.log_end_offset());
    log.log.close().unwrap();
    let mut options = log.options();
    options.recovery_point = end;
    options.clean_shutdown = true;
    options.log_start_offset = Offset(1 << 20);
    log.open_with(options);
    assert_eq!((log.values(), log.log.log_end_offset()), (wanted, end));
}

#[test]
fn epochs_that_do_not_ascend_are_found_in_the_log() {
    let mut log = SingleLog::with_segments_of(1 << 20);
    for epoch in [1, 1, 4, 6] {
        let records = crate::batches::builder(0, &["value"]).build();
        log.append_as(&records, ottla_storage::AppendOrigin::Client, epoch).unwrap();
    }
    log.restart();
    let file = log.dir().join("leader-epoch-checkpoint");
    let sound = std::fs::read_to_string(&file).unwrap();
    assert_eq!(sound, "0\n3\n1 0\n4 2\n6 3\n");
    for damaged in ["0\n3\n9 0\n4 2\n6 3\n", "0\n3\n1 0\n4 3\n6 3\n", "0\n3\n1 0\n0 2\n6 3\n"] {
        std::fs::write(&file, damaged).unwrap();
        log.restart();
        let epochs = (0..4).map(|offset| log.log.epoch_for_offset(Offset(offset)).unwrap().0);
        assert_eq!(epochs.collect::<Vec<_>>(), [1, 1, 4, 6], "{damaged:?}");
    }
}

#[test]
fn an_epoch_older_than_the_one_before_is_corrupt() {
    let log = batches_of(100);
    let end = log.log.log_end_offset();
    let file = log.last_file("log");
    let batch = std::fs::read(&file).unwrap().len() / 12;
    let mut corrupt = 0;
    for number in 1..12 {
        // Only the lowest bits stay above what the others have.
        flip_each(&file, number * batch + 12..number * batch + 13, |place| {
            match log.log.read(Offset(2 * number as i64), 1, true, end) {
                Err(ReadError::Corrupt(_)) => corrupt += 1,
                read => assert!(!read.unwrap().read().unwrap().is_empty(), "{place}"),
            }
        });
    }
    assert!(corrupt > 0, "where the batch before it is read, too, the sign gives it away");
}

/// A log of thirty records in a node that stopped: a flip makes most digits of its checkpoints point
/// beyond the end.
async fn stopped_node() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let manager = LogManager::open(Env::os(), options(dir.path())).await.unwrap();
    let log = manager.create_log(&orders(), TOPIC, LogConfig::default()).unwrap();
    for number in 0..30 {
        append(&manager, &orders(), &[&format!("value {number}")]);
    }
    log.set_high_watermark(Offset(17));
    manager.checkpoint_high_watermarks();
    manager.shutdown(1).await;
    std::fs::write(dir.path().join("cleaner-offset-checkpoint"), "0\n1\norders 0 17\n").unwrap();
    dir
}

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

/// Flips each bit of a file below a stopped node's directory, and starts a node each time.
async fn start_with_flips(file: &str, look: impl Fn(&LogManager, &str)) {
    let sound = std::fs::read(stopped_node().await.path().join(file)).unwrap();
    for bit in 0..sound.len() * 8 {
        let dir = stopped_node().await;
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(dir.path().join(file), &flipped).unwrap();
        let manager = LogManager::open(Env::os(), options(dir.path())).await.unwrap();
        look(&manager, &format!("{:?}", String::from_utf8_lossy(&flipped)));
    }
}

fn assert_whole(manager: &LogManager, place: &str) {
    let log = manager.log(&orders()).expect(place);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(0), Offset(30)), "{place}");
    assert_eq!(contents(manager, &orders()).len(), 30, "{place}");
    let high_watermark = log.high_watermark();
    assert!((Offset(0)..=Offset(30)).contains(&high_watermark), "{high_watermark}, {place}");
}

#[tokio::test]
async fn high_watermarks_are_kept_within_the_log() {
    start_with_flips("replication-offset-checkpoint", assert_whole).await;
}

#[tokio::test]
async fn where_compaction_got_to_is_kept_within_the_log() {
    start_with_flips("cleaner-offset-checkpoint", |manager, place| {
        assert_whole(manager, place);
        let log = manager.log(&orders()).unwrap();
        log.set_high_watermark(Offset(30));
        log.update_config(LogConfig {
            cleanup_policy: CleanupPolicy { delete: false, compact: true },
            ..LogConfig::default()
        });
        let cleaned = log.clean(&CleanerLimits::default(), Env::os().clock.wall());
        let first = log.first_dirty_offset();
        assert!(first.is_none_or(|first| first <= Offset(30)), "{first:?}, {place}: {cleaned:?}");
    })
    .await;
}

#[tokio::test]
async fn a_log_of_another_topic_is_refused_and_one_of_none_is_taken() {
    start_with_flips("orders-0/partition.metadata", |manager, place| {
        assert_whole(manager, place);
        let is_other = manager.log(&orders()).unwrap().topic_id().is_some_and(|id| id != TOPIC);
        match manager.create_log(&orders(), TOPIC, LogConfig::default()) {
            Ok(log) => assert!(!is_other && log.topic_id() == Some(TOPIC), "{place}"),
            Err(error) => assert!(is_other, "{error}, {place}"),
        }
    })
    .await;
}
