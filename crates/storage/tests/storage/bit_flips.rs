//! A bit that flips in a file at rest, where no checksum tells (`docs/durability.md`).

use std::path::Path;

use ottla_protocol::Offset;
use ottla_protocol::record_batch::RecordBatch;
use ottla_storage::ReadError;

use crate::single_log::SingleLog;
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
    let mut log = SingleLog::new(ottla_config::LogConfig {
        index_interval_bytes: 2 * bytes as u32,
        ..ottla_config::LogConfig::default()
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
