//! What may be appended, what becomes of it on disk, and what is refused.

use std::time::Duration;

use bytes::Bytes;
use ottla_config::{CleanupPolicy, LogConfig, MessageTimestampType, TopicCompression};
use ottla_protocol::compression::{Compression, Compressor};
use ottla_protocol::record_batch::{
    ControlRecordType, NewRecord, RecordBatch, RecordBatchBuilder, TimestampType, batches,
};
use ottla_protocol::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use ottla_storage::AppendOrigin;

use crate::batches::{builder, decode};
use crate::single_log::{NOW, SingleLog};

fn log() -> SingleLog {
    SingleLog::new(LogConfig::default())
}

fn refused(log: &SingleLog, records: &Bytes) -> ErrorCode {
    let error = log.append(records).unwrap_err();
    assert_eq!(log.log.log_end_offset(), Offset(0), "nothing was written");
    error.error_code()
}

#[test]
fn the_file_holds_the_batch_with_offset_and_epoch_filled_in() {
    let log = log();
    let sent = builder(NOW.0, &["a", "b"]).build();
    log.append_as(&sent, AppendOrigin::Client, 4).unwrap();
    log.append_as(&sent, AppendOrigin::Client, 5).unwrap();
    let file = std::fs::read(log.last_file("log")).unwrap();
    let expected: Vec<u8> = [(0u8, 4u8), (2, 5)]
        .into_iter()
        .flat_map(|(offset, epoch)| {
            let mut bytes = sent.to_vec();
            bytes[7] = offset;
            bytes[12..16].copy_from_slice(&[0, 0, 0, epoch]);
            bytes
        })
        .collect();
    assert_eq!(file, expected);
}

#[test]
fn index_files_are_kafkas_byte_for_byte() {
    let log = SingleLog::with_segments_of(1 << 20);
    for timestamp in [NOW.0, NOW.0 + 5, NOW.0 + 3, NOW.0 + 9] {
        log.append(&builder(timestamp, &["a", "b"]).build()).unwrap();
    }
    let batch = std::fs::metadata(log.last_file("log")).unwrap().len() as u32 / 4;
    log.log.close().unwrap();
    // The first batch gets no entry; offsets are those of a batch's last record.
    let index: Vec<u8> = [(3u32, batch), (5, 2 * batch), (7, 3 * batch)]
        .into_iter()
        .flat_map(|(offset, position)| [offset.to_be_bytes(), position.to_be_bytes()].concat())
        .collect();
    assert_eq!(std::fs::read(log.last_file("index")).unwrap(), index);
    // Times only where they grew.
    let time_index: Vec<u8> = [(NOW.0 + 5, 3u32), (NOW.0 + 9, 7)]
        .into_iter()
        .flat_map(|(time, offset)| [&time.to_be_bytes()[..], &offset.to_be_bytes()].concat())
        .collect();
    assert_eq!(std::fs::read(log.last_file("timeindex")).unwrap(), time_index);
}

#[test]
fn log_append_time_replaces_the_times_of_the_records() {
    let config = LogConfig {
        message_timestamp_type: MessageTimestampType::LogAppendTime,
        ..LogConfig::default()
    };
    let log = SingleLog::new(config);
    let info = log.append(&builder(5, &["a"]).build()).unwrap();
    assert_eq!(info.log_append_time, NOW);
    let bytes = std::fs::read(log.last_file("log")).unwrap();
    let batch = RecordBatch::parse(&bytes).unwrap();
    assert!(batch.crc_is_valid());
    assert_eq!(batch.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(batch.max_timestamp(), NOW);
    let found = log.log.offset_for_timestamp(NOW).unwrap().unwrap();
    assert_eq!((found.timestamp, found.offset), (NOW, Offset(0)));
}

#[test]
fn a_topics_compression_replaces_the_producers() {
    for (wanted, stored) in [
        (TopicCompression::Zstd, Compression::Zstd),
        (TopicCompression::Lz4, Compression::Lz4),
        (TopicCompression::Uncompressed, Compression::None),
        (TopicCompression::Producer, Compression::Gzip),
    ] {
        let log = SingleLog::new(LogConfig { compression: wanted, ..LogConfig::default() });
        let mut gzip = Compressor::new(Compression::Gzip, None);
        let sent = builder(NOW.0, &["a", "b", "c"]).build_compressed(&mut gzip).unwrap();
        log.append(&sent).unwrap();
        let bytes = Bytes::from(std::fs::read(log.last_file("log")).unwrap());
        assert_eq!(RecordBatch::parse(&bytes).unwrap().compression().unwrap(), stored);
        assert_eq!(decode(&bytes).len(), 3, "and its checksum is right");
    }
}

#[test]
fn the_largest_timestamp_is_that_of_the_records_whatever_the_header_says() {
    let log = log();
    let mut lying = builder(NOW.0, &["a"]).build().to_vec();
    lying[35..43].copy_from_slice(&(NOW.0 + 77).to_be_bytes());
    let crc = crc_fast::crc32_iscsi(&lying[21..]);
    lying[17..21].copy_from_slice(&crc.to_be_bytes());
    log.append(&lying.into()).unwrap();
    assert_eq!(log.log.max_timestamp().unwrap().unwrap().timestamp, NOW);
}

#[test]
fn what_is_no_batch_is_refused() {
    let log = log();
    let good = builder(NOW.0, &["a", "b"]).build().to_vec();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Bytes::from(bytes)
    };
    let recount = |bytes: &mut Vec<u8>| {
        let crc = crc_fast::crc32_iscsi(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    };
    let table: [(&str, Bytes, ErrorCode); 9] = [
        ("nothing", Bytes::new(), ErrorCode::InvalidRecord),
        ("cut short", with(&|b| b.truncate(70)), ErrorCode::CorruptMessage),
        ("bytes left over", with(&|b| b.extend([0; 9])), ErrorCode::CorruptMessage),
        ("flipped bit", with(&|b| b[65] ^= 1), ErrorCode::CorruptMessage),
        ("old format", with(&|b| b[16] = 1), ErrorCode::InvalidRecord),
        (
            "more records than it holds",
            with(&|b| {
                (b[26], b[60]) = (2, 3);
                recount(b);
            }),
            ErrorCode::InvalidRecord,
        ),
        (
            "fewer records than it holds",
            with(&|b| {
                (b[26], b[60]) = (0, 1);
                recount(b);
            }),
            ErrorCode::InvalidRecord,
        ),
        (
            "unknown codec",
            with(&|b| {
                b[22] = 7;
                recount(b);
            }),
            ErrorCode::UnsupportedCompressionType,
        ),
        ("two batches", [good.clone(), good.clone()].concat().into(), ErrorCode::InvalidRecord),
    ];
    for (what, bytes, code) in table {
        assert_eq!(refused(&log, &bytes), code, "{what}");
    }
}

#[test]
fn clients_may_not_do_what_only_brokers_may() {
    let log = log();
    let mut control = RecordBatchBuilder::new().control();
    control.append_control(ControlRecordType::Commit, NOW, &[0; 6]);
    assert_eq!(refused(&log, &control.build()), ErrorCode::InvalidRecord);
    let stamped = builder(NOW.0, &["a"]).timestamp_type(TimestampType::LogAppendTime).build();
    assert_eq!(refused(&log, &stamped), ErrorCode::InvalidTimestamp);
}

#[test]
fn a_batch_may_be_as_large_as_max_message_bytes() {
    let batch = builder(NOW.0, &["0123456789"]).build();
    let limit = |bytes: usize| {
        let max_message_bytes = bytes as u32;
        SingleLog::new(LogConfig { max_message_bytes, ..LogConfig::default() })
    };
    limit(batch.len()).append(&batch).unwrap();
    assert_eq!(refused(&limit(batch.len() - 1), &batch), ErrorCode::MessageTooLarge);
    let segment_bytes = batch.len() as u32 - 1;
    let log = SingleLog::new(LogConfig { segment_bytes, ..LogConfig::default() });
    assert_eq!(refused(&log, &batch), ErrorCode::RecordListTooLarge);
}

#[test]
fn a_batch_that_swells_beyond_measure_is_refused() {
    let log = SingleLog::new(LogConfig { max_message_bytes: 10_000, ..LogConfig::default() });
    let huge = "x".repeat(2_000_000);
    let mut zstd = Compressor::new(Compression::Zstd, None);
    let bomb = builder(NOW.0, &[&huge]).build_compressed(&mut zstd).unwrap();
    assert!(bomb.len() < 10_000);
    assert_eq!(refused(&log, &bomb), ErrorCode::MessageTooLarge);
}

#[test]
fn each_bad_record_is_named() {
    let cleanup_policy = CleanupPolicy { delete: false, compact: true };
    let log = SingleLog::new(LogConfig { cleanup_policy, ..LogConfig::default() });
    let mut batch = RecordBatchBuilder::new();
    for key in [Some(&b"k"[..]), None, Some(b"k"), None] {
        batch.append(&NewRecord { timestamp: NOW, key, ..NewRecord::default() });
    }
    let error = log.append(&batch.build()).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::InvalidRecord);
    let indexes: Vec<i32> = error.record_errors().iter().map(|e| e.batch_index).collect();
    assert_eq!(indexes, [1, 3]);
}

#[test]
fn of_very_many_bad_records_the_first_are_named() {
    let cleanup_policy = CleanupPolicy { delete: false, compact: true };
    let log = SingleLog::new(LogConfig { cleanup_policy, ..LogConfig::default() });
    let mut batch = RecordBatchBuilder::new();
    for _ in 0..3000 {
        batch.append(&NewRecord { timestamp: NOW, ..NewRecord::default() });
    }
    let error = log.append(&batch.build()).unwrap_err();
    assert!(error.to_string().starts_with("3000 records were refused"), "{error}");
    assert_eq!(error.record_errors().len(), 1000);
}

#[test]
fn times_too_far_from_the_brokers_are_refused() {
    let minute = Duration::from_secs(60);
    let log = SingleLog::new(LogConfig {
        message_timestamp_before_max: minute,
        message_timestamp_after_max: minute,
        ..LogConfig::default()
    });
    for late in [NOW.0 - 60_001, NOW.0 + 60_001] {
        let error = log.append(&builder(late, &["a"]).build()).unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::InvalidTimestamp);
        assert_eq!(error.record_errors().len(), 1);
    }
    for good in [NOW.0 - 60_000, NOW.0 + 60_000, -1] {
        log.append(&builder(good, &["a"]).build()).unwrap();
    }
}

#[test]
fn a_retry_gets_the_offsets_of_the_first_try() {
    let log = log();
    let batch = |sequence, values: &[&str]| {
        builder(NOW.0, values).producer(ProducerId(1), ProducerEpoch(0), sequence).build()
    };
    log.append_values(&["other"]);
    log.append(&batch(0, &["a", "b"])).unwrap();
    log.append(&batch(2, &["c"])).unwrap();
    let again = log.append(&batch(0, &["a", "b"])).unwrap();
    assert!(again.duplicate);
    assert_eq!((again.first_offset, again.last_offset), (Offset(1), Offset(2)));
    assert_eq!(log.log.log_end_offset(), Offset(4));
}

#[test]
fn an_open_transaction_holds_read_committed_back() {
    let log = log();
    let producer = |builder: RecordBatchBuilder, sequence| {
        builder.transactional().producer(ProducerId(1), ProducerEpoch(0), sequence)
    };
    log.append_values(&["plain"]);
    let begin = producer(builder(NOW.0, &["in transaction"]), 0).build();
    let refused = log.append(&begin).unwrap_err();
    assert_eq!(refused.error_code(), ErrorCode::InvalidTxnState, "nobody would ever end it");
    log.append_as(&begin, AppendOrigin::Coordinator, 0).unwrap();
    log.log.set_high_watermark(Offset(2));
    assert_eq!(log.log.last_stable_offset(Offset(2)), Offset(1));
    let mut marker = producer(RecordBatchBuilder::new().control(), -1);
    marker.append_control(ControlRecordType::Commit, NOW, &[0, 0, 0, 0, 0, 3]);
    log.append_as(&marker.build(), AppendOrigin::Coordinator, 0).unwrap();
    assert_eq!(log.log.last_stable_offset(Offset(2)), Offset(1), "the marker is not committed");
    log.log.set_high_watermark(Offset(3));
    assert_eq!(log.log.last_stable_offset(Offset(3)), Offset(3));
}

#[test]
fn a_follower_keeps_the_leaders_bytes() {
    let (leader, follower) = (log(), log());
    for value in ["a", "b"] {
        leader.append_as(&builder(NOW.0, &[value]).build(), AppendOrigin::Client, 7).unwrap();
    }
    let bytes = leader.log.read(Offset(0), 1 << 20, true, Offset(2)).unwrap().read().unwrap();
    let info = follower.log.append_as_follower(&bytes).unwrap();
    assert_eq!((info.first_offset, info.last_offset), (Offset(0), Offset(1)));
    let files = [&leader, &follower].map(|log| std::fs::read(log.last_file("log")).unwrap());
    assert_eq!(files[0], files[1]);
    assert_eq!(follower.log.latest_epoch(), Some(LeaderEpoch(7)));
    assert!(follower.log.append_as_follower(&bytes).is_err(), "offsets never go back");
}

#[test]
fn the_largest_time_is_found_with_its_first_record() {
    let log = SingleLog::with_segments_of(300);
    assert_eq!(log.log.max_timestamp().unwrap(), None);
    for time in [5, 9, 3, 9, 1] {
        log.append(&builder(NOW.0 - 10 + time, &["x"]).build()).unwrap();
    }
    let found = log.log.max_timestamp().unwrap().unwrap();
    assert_eq!((found.timestamp, found.offset), (Timestamp(NOW.0 - 1), Offset(1)));
}

#[test]
fn several_batches_of_a_coordinator_are_one_append() {
    let log = log();
    let records: Vec<u8> =
        ["a", "b", "c"].iter().flat_map(|value| builder(NOW.0, &[value]).build()).collect();
    let info = log.append_as(&records.into(), AppendOrigin::Coordinator, 0).unwrap();
    assert_eq!((info.first_offset, info.last_offset), (Offset(0), Offset(2)));
    let bytes = std::fs::read(log.last_file("log")).unwrap();
    let offsets: Vec<i64> = batches(&bytes).map(|b| b.unwrap().base_offset().0).collect();
    assert_eq!(offsets, [0, 1, 2]);
}
