//! What a crash leaves, and what is made of it.

use ottla_protocol::record_batch::RecordBatchBuilder;
use ottla_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use ottla_storage::AppendOrigin;

use crate::batches;
use crate::single_log::{NOW, SingleLog};

/// Four batches of one record, of which two were synced.
fn half_synced() -> SingleLog {
    let log = SingleLog::with_segments_of(1 << 20);
    for value in ["a", "b"] {
        log.append_values(&[value]);
    }
    log.log.flush(Offset(2)).unwrap();
    for value in ["c", "d"] {
        log.append_values(&[value]);
    }
    log
}

#[test]
fn a_crash_alone_loses_nothing() {
    let mut log = half_synced();
    log.crash();
    assert_eq!(log.values(), ["a", "b", "c", "d"]);
    assert_eq!(log.log.recovery_point(), Offset(2), "what was read back is not synced yet");
}

#[test]
fn a_torn_tail_is_cut_off() {
    let mut log = half_synced();
    let file = log.last_file("log");
    let len = std::fs::metadata(&file).unwrap().len();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(len - 1).unwrap();
    log.crash();
    assert_eq!(log.values(), ["a", "b", "c"]);
    assert_eq!(std::fs::metadata(&file).unwrap().len(), len * 3 / 4, "cut at the last batch");
    log.append_values(&["e"]);
    assert_eq!(log.contents().last(), Some(&(3, "e".to_owned())));
}

#[test]
fn a_tail_of_zeroes_is_cut_off() {
    let mut log = half_synced();
    let file = log.last_file("log");
    let len = std::fs::metadata(&file).unwrap().len();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(len + 4096).unwrap();
    log.crash();
    assert_eq!(log.values(), ["a", "b", "c", "d"]);
    assert_eq!(std::fs::metadata(&file).unwrap().len(), len);
}

#[test]
fn a_flipped_bit_ends_the_log_before_it() {
    let mut log = half_synced();
    let file = log.last_file("log");
    let mut bytes = std::fs::read(&file).unwrap();
    let third = bytes.len() / 2;
    bytes[third + 70] ^= 4;
    std::fs::write(&file, bytes).unwrap();
    log.crash();
    assert_eq!(log.values(), ["a", "b"]);
}

#[test]
fn segments_after_a_damaged_one_are_removed() {
    let mut log = SingleLog::with_segments_of(200);
    for value in ["a", "b", "c", "d", "e", "f"] {
        log.append_values(&[value]);
    }
    let segments = log.files("log");
    assert!(segments.len() >= 3, "{segments:?}");
    std::fs::write(&segments[1], b"nonsense").unwrap();
    log.reopen(Offset(0), false);
    assert_eq!(log.values(), ["a", "b"]);
    assert_eq!(log.files("log").len(), 2);
}

#[test]
fn missing_and_torn_indexes_are_made_anew() {
    let mut log = SingleLog::with_segments_of(400);
    for index in 0..40 {
        log.append_values(&[&format!("value {index}")]);
    }
    let before = log.values();
    log.restart();
    let (indexes, time_indexes) = (log.files("index"), log.files("timeindex"));
    assert!(indexes.len() > 3);
    let good = std::fs::read(&indexes[2]).unwrap();
    std::fs::remove_file(&indexes[0]).unwrap();
    std::fs::remove_file(&time_indexes[1]).unwrap();
    std::fs::write(&indexes[2], &good[..good.len() - 3]).unwrap();
    log.restart();
    assert_eq!(log.values(), before);
    assert_eq!(std::fs::read(&indexes[2]).unwrap(), good);
}

#[test]
fn an_index_of_nonsense_costs_time_but_not_the_answer() {
    let mut log = SingleLog::with_segments_of(4000);
    for index in 0..60 {
        log.append_values(&[&format!("value {index}")]);
    }
    log.restart();
    let index = log.files("index")[0].clone();
    let len = std::fs::metadata(&index).unwrap().len() as usize;
    std::fs::write(&index, vec![0x01; len]).unwrap();
    log.restart();
    for from in [0, 1, 17, 30, 59] {
        let data = log.log.read(Offset(from), 1, true, log.log.log_end_offset()).unwrap();
        assert_eq!(batches::decode(&data.read().unwrap())[0].0, from);
    }
}

fn idempotent(sequence: i32, value: &str) -> bytes::Bytes {
    batches::builder(NOW.0, &[value]).producer(ProducerId(9), ProducerEpoch(0), sequence).build()
}

#[test]
fn producers_are_known_again_after_a_crash_with_and_without_snapshots() {
    let mut log = SingleLog::with_segments_of(200);
    for sequence in 0..6 {
        log.append(&idempotent(sequence, "x")).unwrap();
    }
    assert!(!log.files("snapshot").is_empty(), "one is taken when a segment is rolled");
    log.crash();
    assert!(log.append(&idempotent(5, "x")).unwrap().duplicate);
    for snapshot in log.files("snapshot") {
        std::fs::remove_file(snapshot).unwrap();
    }
    log.crash();
    assert!(log.append(&idempotent(5, "x")).unwrap().duplicate);
    assert!(log.append(&idempotent(7, "x")).is_err(), "6 is due");
    assert_eq!(log.append(&idempotent(6, "x")).unwrap().first_offset, Offset(6));
}

#[test]
fn a_damaged_snapshot_is_not_believed() {
    let mut log = SingleLog::with_segments_of(1 << 20);
    log.append(&idempotent(0, "x")).unwrap();
    log.restart();
    let snapshot = log.last_file("snapshot");
    let mut bytes = std::fs::read(&snapshot).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&snapshot, bytes).unwrap();
    log.restart();
    assert!(log.append(&idempotent(0, "x")).unwrap().duplicate);
}

#[test]
fn segments_that_overlap_are_refused_and_left_as_they_are() {
    let log = SingleLog::with_segments_of(200);
    for value in ["a", "b", "c", "d", "e", "f"] {
        log.append_values(&[value]);
    }
    let files = log.files("log");
    assert!(files.len() > 2, "{files:?}");
    // As if the first one had been copied from somebody else's log.
    let whole: Vec<u8> = files.iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
    std::fs::write(&files[0], whole).unwrap();
    let before: Vec<_> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let error = log.try_reopen(Offset(0), false).err().unwrap();
    let second = files[1].file_stem().unwrap().to_str().unwrap().trim_start_matches('0');
    let sentence = error.to_string();
    assert!(sentence.contains(&files[0].display().to_string()), "{sentence}");
    assert!(
        sentence.contains(&format!("up to 5, but another segment begins at {second}")),
        "{sentence}"
    );
    let after: Vec<_> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!(before, after);
}

#[test]
fn a_batch_of_another_format_ends_the_log() {
    let mut log = half_synced();
    let file = log.last_file("log");
    let mut bytes = std::fs::read(&file).unwrap();
    let mut old = RecordBatchBuilder::new().build().to_vec();
    old[16] = 1;
    bytes.extend(old);
    std::fs::write(&file, bytes).unwrap();
    log.crash();
    assert_eq!(log.values(), ["a", "b", "c", "d"]);
}

#[test]
fn a_snapshot_beyond_a_truncation_is_never_believed_again() {
    let mut log = SingleLog::with_segments_of(1 << 20);
    log.append_values(&["a"]);
    for sequence in 0..3 {
        log.append(&idempotent(sequence, "x")).unwrap();
    }
    log.restart();
    log.log.truncate_to(Offset(1)).unwrap();
    for value in ["b", "c", "d", "e"] {
        log.append_values(&[value]);
    }
    log.crash();
    assert!(!log.append(&idempotent(2, "x")).unwrap().duplicate);
}

#[test]
fn a_damaged_epoch_file_is_made_anew_from_the_log() {
    let mut log = SingleLog::with_segments_of(200);
    for epoch in [0, 0, 3, 3, 4] {
        let records = batches::builder(NOW.0, &["x"]).build();
        log.append_as(&records, AppendOrigin::Client, epoch).unwrap();
    }
    log.log.close().unwrap();
    std::fs::write(log.dir().join("leader-epoch-checkpoint"), b"0\n3\n0 0\n").unwrap();
    log.reopen(Offset(5), true);
    let end = |epoch| log.log.end_offset_for_epoch(LeaderEpoch(epoch)).map(|end| end.end_offset.0);
    assert_eq!([end(0), end(3), end(4)], [Some(2), Some(4), Some(5)]);
}

#[test]
fn a_segment_that_lost_its_end_is_scanned_even_after_a_clean_shutdown() {
    let mut log = SingleLog::with_segments_of(1 << 20);
    for value in ["a", "b", "c"] {
        log.append_values(&[value]);
    }
    log.log.close().unwrap();
    let file = log.last_file("log");
    let len = std::fs::metadata(&file).unwrap().len();
    // What is left ends where the last index entry says that a batch begins.
    std::fs::File::options().write(true).open(&file).unwrap().set_len(len * 2 / 3).unwrap();
    log.reopen(Offset(3), true);
    log.append_values(&["d"]);
    assert_eq!(log.contents().last(), Some(&(2, "d".to_owned())));
    assert_eq!(log.values(), ["a", "b", "d"]);
}

#[test]
fn an_index_that_points_into_batches_costs_time_but_not_the_answer() {
    let mut log = SingleLog::with_segments_of(4000);
    for index in 0..60 {
        log.append_values(&[&format!("value {index}")]);
    }
    log.restart();
    let index = log.files("index")[0].clone();
    let mut entries = std::fs::read(&index).unwrap();
    for entry in entries.chunks_mut(8) {
        entry[7] |= 1;
    }
    std::fs::write(&index, entries).unwrap();
    log.restart();
    for from in [0, 5, 20] {
        let data = log.log.read(Offset(from), 500, true, log.log.log_end_offset()).unwrap();
        let read = batches::decode(&data.read().unwrap());
        assert_eq!(read[0].0, from);
        assert!(read.len() > 1, "{read:?}");
    }
}

#[test]
fn producers_are_known_again_if_a_log_lost_its_end_after_a_clean_shutdown() {
    let mut log = SingleLog::with_segments_of(1 << 20);
    for sequence in 0..3 {
        log.append(&idempotent(sequence, "x")).unwrap();
    }
    log.log.close().unwrap();
    let file = log.last_file("log");
    let len = std::fs::metadata(&file).unwrap().len();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(len - 1).unwrap();
    log.reopen(Offset(3), true);
    assert!(log.append(&idempotent(1, "x")).unwrap().duplicate);
    assert_eq!(log.append(&idempotent(2, "x")).unwrap().first_offset, Offset(2));
}

/// Two idempotent batches and ten others, of which the first has the largest timestamp, then a
/// checkpoint, and two more batches.
fn checkpointed() -> SingleLog {
    let log = SingleLog::with_segments_of(1 << 20);
    log.append(&idempotent(0, "p0")).unwrap();
    log.append(&idempotent(1, "p1")).unwrap();
    for index in 0..10 {
        let batch = batches::builder(NOW.0 + 1000 - index, &[&format!("v{index}")]).build();
        log.append(&batch).unwrap();
    }
    log.log.checkpoint().unwrap();
    assert_eq!(log.log.recovery_point(), Offset(12));
    log.append(&idempotent(2, "p2")).unwrap();
    log.append_values(&["last"]);
    log
}

fn check_checkpointed(log: &SingleLog) {
    assert_eq!(log.log.log_end_offset(), Offset(14));
    let duplicate = log.append(&idempotent(1, "p1")).unwrap();
    assert!(duplicate.duplicate && duplicate.first_offset == Offset(1), "{duplicate:?}");
    let largest = log.log.max_timestamp().unwrap().unwrap();
    assert_eq!((largest.offset, largest.timestamp.0), (Offset(2), NOW.0 + 1000));
    for from in 1..14 {
        let data = log.log.read(Offset(from), 1, true, Offset(14)).unwrap();
        assert_eq!(batches::decode(&data.read().unwrap())[0].0, from);
    }
}

/// Of the fourteen batches that [`checkpointed`] wrote: whoever read it would cut the log there.
fn flip_a_bit_of_the_first_batch(log: &SingleLog) {
    let file = log.last_file("log");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() / 14 - 1;
    bytes[last] ^= 4;
    std::fs::write(&file, bytes).unwrap();
}

#[test]
fn recovery_begins_at_the_last_checkpoint() {
    let mut log = checkpointed();
    flip_a_bit_of_the_first_batch(&log);
    log.crash();
    check_checkpointed(&log);
    flip_a_bit_of_the_first_batch(&log);
    assert_eq!(log.values().len(), 14);
}

#[test]
fn checkpoints_follow_one_another() {
    let mut log = checkpointed();
    log.log.checkpoint().unwrap();
    let snapshots = |log: &SingleLog| {
        let name = |path: &std::path::PathBuf| path.file_stem().unwrap().to_owned();
        log.files("snapshot").iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(snapshots(&log), ["00000000000000000014"], "older ones are of no use");
    log.crash();
    assert_eq!(snapshots(&log), ["00000000000000000014"]);
    check_checkpointed(&log);
    log.restart();
    check_checkpointed(&log);
    log.log.truncate_to(Offset(13)).unwrap();
    log.append_values(&["another"]);
    log.crash();
    check_checkpointed(&log);
}

/// What a power loss may leave behind what was synced.
#[test]
fn indexes_that_end_in_zeroes_are_cut_at_the_checkpoint() {
    let mut log = checkpointed();
    for (extension, zeroes) in [("index", 16), ("timeindex", 36)] {
        let file = log.last_file(extension);
        let len = std::fs::metadata(&file).unwrap().len();
        std::fs::File::options().write(true).open(&file).unwrap().set_len(len + zeroes).unwrap();
    }
    log.crash();
    check_checkpointed(&log);
}

#[test]
fn without_its_indexes_a_checkpoint_vouches_for_nothing() {
    for extension in ["index", "timeindex"] {
        let mut log = checkpointed();
        std::fs::remove_file(log.last_file(extension)).unwrap();
        log.crash();
        check_checkpointed(&log);
        log.log.checkpoint().unwrap();
        log.crash();
        check_checkpointed(&log);
    }
}

/// A clean shutdown is a checkpoint for the run after it.
#[test]
fn a_crash_after_a_clean_start_reads_only_what_came_since() {
    let mut log = checkpointed();
    log.restart();
    flip_a_bit_of_the_first_batch(&log);
    log.crash();
    check_checkpointed(&log);
}
