//! What compaction leaves of idempotent and transactional producers (KIP-98, KIP-534).

use bytes::Bytes;
use ottla_protocol::record_batch::{ControlRecordType, RecordBatch, batches};
use ottla_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp};
use ottla_storage::AppendOrigin;

use super::{batch, found};
use crate::single_log::{NOW, SingleLog};
use crate::transactions::{committed, marker};

fn idempotent(producer: i64, sequence: i32, key: &str, value: &str) -> Bytes {
    batch(&[(key, Some(value))]).producer(ProducerId(producer), ProducerEpoch(0), sequence).build()
}

pub(super) fn transactional(producer: i64, key: &str, value: &str) -> Bytes {
    let batch = batch(&[(key, Some(value))]).transactional();
    batch.producer(ProducerId(producer), ProducerEpoch(0), 0).build()
}

/// Base offset, records and whether it is a marker, of every batch but those of `seal`.
fn kept(log: &SingleLog) -> Vec<(i64, i32, bool)> {
    let bytes = log.bytes(0);
    let batches = batches(&bytes).map(Result::unwrap);
    let producers = batches.filter(RecordBatch::has_producer_id);
    producers.map(|b| (b.base_offset().0, b.records_count(), b.is_control())).collect()
}

#[test]
fn the_last_batch_of_a_producer_stays_and_its_retry_is_still_known() {
    let mut log = SingleLog::compacted(1 << 20);
    log.append(&idempotent(7, 0, "a", "1")).unwrap();
    log.append(&idempotent(7, 1, "a", "2")).unwrap();
    log.append(&idempotent(8, 0, "a", "3")).unwrap();
    log.seal();
    log.clean();
    assert_eq!(log.records(), [found(2, "a", "3")]);
    assert_eq!(kept(&log), [(1, 0, false), (2, 1, false)], "base offset and sequence stay");
    for sequence_lost in [false, true] {
        if sequence_lost {
            // All that is known comes from the log.
            for file in log.files("snapshot") {
                std::fs::remove_file(file).unwrap();
            }
        }
        log.crash();
        let retry = log.append(&idempotent(7, 1, "a", "2")).unwrap();
        assert!(retry.duplicate);
        assert_eq!(retry.first_offset, Offset(1));
    }
    log.append(&idempotent(7, 2, "b", "1")).unwrap();
    log.seal();
    log.clean();
    assert_eq!(kept(&log), [(2, 1, false), (4, 1, false)], "a newer one has taken its part");
}

#[test]
fn aborted_records_go_and_their_marker_follows_when_its_horizon_has_passed() {
    let mut log = SingleLog::compacted(1 << 20);
    let retention = log.config.delete_retention_ms.as_millis() as i64;
    log.put(&[("a", Some("good"))]);
    log.append_batch(&transactional(1, "a", "aborted"));
    log.append_batch(&transactional(2, "b", "committed"));
    log.append_batch(&marker(1, ControlRecordType::Abort));
    log.append_batch(&marker(2, ControlRecordType::Commit));
    // Newer batches of the same producers, so that the first ones are not their last.
    log.append_batch(&transactional(1, "c", "committed"));
    log.append_batch(&marker(1, ControlRecordType::Commit));
    log.append_batch(&transactional(2, "c", "committed"));
    log.append_batch(&marker(2, ControlRecordType::Commit));
    log.seal();
    let seen = committed(&log);
    log.clean();
    let data = |log: &SingleLog| -> Vec<_> {
        let mut records = log.records();
        records.retain(|(_, key, _)| key.len() == 1);
        records
    };
    let expected = [found(0, "a", "good"), found(2, "b", "committed"), found(7, "c", "committed")];
    assert_eq!(data(&log), expected);
    // The marker is there for who has read the records already, the index entry for nobody.
    let markers =
        |log: &SingleLog| kept(log).into_iter().filter(|(_, _, control)| *control).count();
    assert_eq!(markers(&log), 4);
    assert_eq!(log.files("txnindex").len(), 1, "the abort marker's batch was there until now");
    assert!(committed(&log).iter().all(|value| seen.contains(value)));
    log.restart();
    log.seal();
    log.clean();
    let horizon = Timestamp(NOW.0 + retention);
    log.seal();
    log.clean_at(Timestamp(horizon.0 - 1));
    assert_eq!(markers(&log), 4);
    assert_eq!(log.files("txnindex").len(), 0);
    log.seal();
    log.clean_at(horizon);
    assert_eq!(markers(&log), 3, "the batches of the others are still there, or just gone");
    assert_eq!(data(&log), expected);
}

#[test]
fn aborted_records_do_not_hide_what_came_before_them() {
    let log = SingleLog::compacted(200);
    log.put(&[("a", Some("good"))]);
    log.append_batch(&transactional(1, "a", "aborted"));
    log.put(&[("b", Some("1"))]);
    log.append_batch(&transactional(1, "b", "aborted"));
    log.append_batch(&marker(1, ControlRecordType::Abort));
    log.seal();
    assert!(log.log.segment_count() > 2, "the marker is in another segment than its records");
    log.clean();
    let values: Vec<_> = log.records().into_iter().filter_map(|(_, _, value)| value).collect();
    assert!(values.contains(&"good".to_owned()) && values.contains(&"1".to_owned()), "{values:?}");
    assert_eq!(committed(&log).iter().filter(|value| *value == "aborted").count(), 0);
}

#[test]
fn an_open_transaction_bounds_what_is_cleaned() {
    let log = SingleLog::compacted(100);
    log.put(&[("a", Some("1"))]);
    log.put(&[("a", Some("2"))]);
    log.append_batch(&transactional(1, "a", "3"));
    log.put(&[("a", Some("4"))]);
    log.seal();
    assert_eq!(log.clean().cleaned_to, Offset(2));
    assert_eq!(log.records().len(), 3);
    log.append_as(&marker(1, ControlRecordType::Commit), AppendOrigin::Coordinator, 0).unwrap();
    log.seal();
    log.clean();
    assert_eq!(log.records()[0], found(3, "a", "4"));
}

#[test]
fn the_producers_at_the_start_of_a_segment_stay_known_and_those_of_merged_ones_go() {
    let mut log = SingleLog::compacted(200);
    for sequence in 0..6 {
        log.append(&idempotent(7, sequence, "a", &"x".repeat(60))).unwrap();
    }
    log.seal();
    let names = |log: &SingleLog, extension: &str| -> Vec<_> {
        let stem = |path: &std::path::PathBuf| path.file_stem().unwrap().to_owned();
        log.files(extension).iter().map(stem).collect()
    };
    assert_eq!(names(&log, "log").len(), 7);
    log.clean();
    log.seal();
    log.clean();
    assert!(log.log.segment_count() < 7);
    // None is written at the log's beginning, and the last one stands for all when it is closed.
    assert_eq!(names(&log, "snapshot"), names(&log, "log")[1..]);
    log.crash();
    assert!(log.append(&idempotent(7, 5, "a", &"x".repeat(60))).unwrap().duplicate);
}
