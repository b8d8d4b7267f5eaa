//! What the offline check says of a log in good health, and of one that is not.

use std::path::{Path, PathBuf};

use ottla_config::LogConfig;
use ottla_protocol::compression::{Compression, Compressor};
use ottla_protocol::record_batch::{self, ControlRecordType, NewRecord, RecordBatchBuilder};
use ottla_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition};
use ottla_storage::AppendOrigin;
use ottla_storage::inspect::{
    FileKind, Finding, LogStats, PartitionContext, Problem, RepairPlan, Severity, verify_file,
    verify_partition,
};
use proptest::prelude::*;

use crate::batches;
use crate::single_log::{NOW, SingleLog, env};

/// Appends a transaction of two records, and aborts it.
fn abort(log: &SingleLog, producer: i64) {
    let producer = |builder: RecordBatchBuilder, sequence| {
        builder.transactional().producer(ProducerId(producer), ProducerEpoch(0), sequence)
    };
    let data = producer(batches::builder(NOW.0 + 39, &["void", "void"]), 0).build();
    let mut marker = producer(RecordBatchBuilder::new(), -1).control();
    marker.append_control(ControlRecordType::Abort, Timestamp(NOW.0 + 39), &[0; 6]);
    for batch in [data, marker.build()] {
        log.append_as(&batch, AppendOrigin::Coordinator, 1).unwrap();
    }
}

/// A closed log of several segments: every codec, two leaders, a producer, transactions.
fn healthy() -> SingleLog {
    let log = SingleLog::new(LogConfig {
        segment_bytes: 1500,
        index_interval_bytes: 1,
        ..LogConfig::default()
    });
    for number in 0..40 {
        let codec = Compression::ALL[number % 5];
        let producer = (ProducerId(7), ProducerEpoch(0), 3 * number as i32);
        let values = ["first value", "second value", "third value"];
        let mut builder = RecordBatchBuilder::new().producer(producer.0, producer.1, producer.2);
        for value in values {
            builder.append(&NewRecord {
                timestamp: Timestamp(NOW.0 + number as i64),
                key: Some(b"key"),
                value: Some(value.as_bytes()),
                headers: &[("trace", Some(b"7"))],
            });
        }
        let batch = builder.build_compressed(&mut Compressor::new(codec, None)).unwrap();
        log.append_as(&batch, AppendOrigin::Client, i32::from(number >= 20)).unwrap();
    }
    abort(&log, 8);
    abort(&log, 9);
    log.log.close().unwrap();
    log
}

fn verify(log: &SingleLog) -> Vec<Finding> {
    let context = PartitionContext {
        clean_shutdown: true,
        recovery_point: Some(log.log.log_end_offset()),
        ..PartitionContext::default()
    };
    verify_partition(&*env().disk, &log.dir(), context, &mut |_| {}).unwrap().findings
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Where each batch of a segment begins.
fn batch_positions(log: &Path) -> Vec<usize> {
    let bytes = std::fs::read(log).unwrap();
    let whole = record_batch::batches(&bytes).map(Result::unwrap);
    whole.map(|batch| batch.as_bytes().as_ptr() as usize - bytes.as_ptr() as usize).collect()
}

#[test]
fn a_log_in_good_health_is_called_so() {
    let log = healthy();
    assert!(log.files("log").len() > 2, "several segments");
    let mut read = 0;
    let context = PartitionContext { clean_shutdown: true, ..PartitionContext::default() };
    let report =
        verify_partition(&*env().disk, &log.dir(), context, &mut |bytes| read += bytes).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.records, report.batches), (126, 44));
    assert_eq!((report.first_offset, report.log_end), (Offset(0), Offset(126)));
    assert_eq!(read, report.bytes, "progress counts every byte once");
}

/// What is done to which file, and what has to be found where.
type Case = (&'static str, fn(&SingleLog) -> (PathBuf, Option<u64>, Problem));

const CASES: [Case; 19] = [
    ("a flipped bit in the records of a batch", |log| {
        let file = log.files("log")[1].clone();
        let at = batch_positions(&file)[2];
        change(&file, |bytes| bytes[at + 70] ^= 1);
        (file, Some(at as u64), Problem::DamagedBatch)
    }),
    ("the last batch cut short", |log| {
        let file = log.last_file("log");
        let at = *batch_positions(&file).last().unwrap();
        change(&file, |bytes| bytes.truncate(bytes.len() - 1));
        (file, Some(at as u64), Problem::TornTail)
    }),
    ("zeroes behind the last batch", |log| {
        let file = log.last_file("log");
        let mut at = 0;
        change(&file, |bytes| {
            at = bytes.len();
            bytes.extend([0; 4096]);
        });
        (file, Some(at as u64), Problem::TornTail)
    }),
    ("a batch that repeats an offset", |log| {
        let file = log.files("log")[1].clone();
        let at = batch_positions(&file)[1];
        change(&file, |bytes| bytes.copy_within(0..8, at));
        (file, Some(at as u64), Problem::OffsetOrder)
    }),
    ("a segment that begins before the one in front of it ends", |log| {
        let file = log.dir().join("00000000000000000001.log");
        std::fs::copy(&log.files("log")[0], &file).unwrap();
        (file, None, Problem::OffsetOrder)
    }),
    ("offsets that no batch has", |log| {
        let file = log.last_file("log");
        let at = *batch_positions(&file).last().unwrap();
        change(&file, |bytes| bytes[at + 7] += 1);
        (file, Some(at as u64), Problem::Gap)
    }),
    ("a batch of an older leader after one of a newer", |log| {
        let file = log.last_file("log");
        let at = batch_positions(&file)[1];
        change(&file, |bytes| bytes[at + 15] = 0);
        (file, Some(at as u64), Problem::EpochOrder)
    }),
    ("a header with another number of records", |log| {
        let file = log.files("log")[0].clone();
        change(&file, |bytes| {
            // The first batch is not compressed: one record fewer leaves bytes over.
            bytes[60] = 2;
            let size = 12 + u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
            let crc = crc_fast::crc32_iscsi(&bytes[21..size]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        });
        (file, Some(0), Problem::UnreadableRecords)
    }),
    ("an index entry that points between batches", |log| {
        let file = log.files("index")[0].clone();
        change(&file, |bytes| bytes[8 + 7] ^= 1);
        (file, Some(8), Problem::OffsetIndex)
    }),
    ("an index entry with the offset of another batch", |log| {
        let file = log.files("index")[0].clone();
        change(&file, |bytes| bytes[8 + 3] -= 1);
        (file, Some(8), Problem::OffsetIndex)
    }),
    ("an index cut in the middle of an entry", |log| {
        let file = log.files("index")[0].clone();
        let mut at = 0;
        change(&file, |bytes| {
            at = bytes.len() - 8;
            bytes.truncate(at + 3);
        });
        (file, Some(at as u64), Problem::OffsetIndex)
    }),
    ("a time index entry with another time", |log| {
        let file = log.files("timeindex")[1].clone();
        change(&file, |bytes| bytes[12 + 7] ^= 0x40);
        (file, Some(12), Problem::TimeIndex)
    }),
    ("a time index without its last entry", |log| {
        let file = log.files("timeindex")[0].clone();
        let mut at = 0;
        change(&file, |bytes| {
            at = bytes.len() - 12;
            bytes.truncate(at);
        });
        (file, Some(at as u64), Problem::TimeIndex)
    }),
    ("a leader epoch that begins elsewhere", |log| {
        let file = log.dir().join("leader-epoch-checkpoint");
        std::fs::write(&file, "0\n2\n0 0\n1 63\n").unwrap();
        (file, None, Problem::LeaderEpochs)
    }),
    ("a snapshot with a flipped bit", |log| {
        let file = log.files("snapshot")[1].clone();
        change(&file, |bytes| bytes[30] ^= 1);
        (file, None, Problem::ProducerSnapshot)
    }),
    ("a snapshot that is whole and says what is not so", |log| {
        let file = log.files("snapshot")[1].clone();
        change(&file, |bytes| {
            // Producer id i64 and epoch i16 come before the last sequence.
            bytes[10 + 8 + 2 + 3] += 3;
            let crc = crc_fast::crc32_iscsi(&bytes[6..]);
            bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        });
        (file, None, Problem::ProducerSnapshot)
    }),
    ("a transaction index that lacks an aborted transaction", |log| {
        let file = log.last_file("txnindex");
        change(&file, |bytes| bytes.truncate(34));
        (file, None, Problem::TransactionIndex)
    }),
    ("a transaction index with another first offset", |log| {
        let file = log.last_file("txnindex");
        change(&file, |bytes| bytes[34 + 2 + 8 + 7] ^= 1);
        (file, Some(34), Problem::TransactionIndex)
    }),
    ("a sealed segment without its index", |log| {
        let file = log.files("index")[0].clone();
        std::fs::remove_file(&file).unwrap();
        (file, None, Problem::MissingIndex)
    }),
];

#[test]
fn every_damage_is_named_with_its_place() {
    for (what, damage) in CASES {
        let log = healthy();
        let (path, position, problem) = damage(&log);
        let findings = verify(&log);
        let named = findings.iter().any(|finding| {
            (&finding.path, finding.position, finding.problem) == (&path, position, problem)
        });
        assert!(named, "{what}: {problem:?} at {position:?} of {path:?} not in {findings:#?}");
        assert!(findings.iter().all(|finding| !finding.problem.advice().is_empty()));
    }
}

/// Everything that starts with the log's base name, and its size.
fn bytes_of_records(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap());
    let of_logs = files.filter(|file| file.file_name().to_string_lossy().contains(".log"));
    of_logs.map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn a_repair_leaves_nothing_to_find_and_loses_no_bytes() {
    for (what, damage) in CASES {
        let mut log = healthy();
        let contents = log.contents();
        damage(&log);
        let bytes = bytes_of_records(&log.dir());
        let (disk, partition) = (&*env().disk, TopicPartition::new("topic", 0));
        let context = PartitionContext { clean_shutdown: true, ..PartitionContext::default() };
        let report = verify_partition(disk, &log.dir(), context, &mut |_| {}).unwrap();
        let dir = log.dir();
        let plan =
            RepairPlan::of(disk, (&partition, &dir), context, &report, &report.findings).unwrap();
        if plan.is_empty() {
            assert_eq!(plan.remaining.len(), 1, "{what}: {:?}", report.findings);
            continue;
        }
        plan.apply(&env()).unwrap();
        assert_eq!(bytes_of_records(&log.dir()), bytes, "{what}: bytes are gone");
        let left: Vec<_> = verify(&log)
            .into_iter()
            .filter(|finding| finding.severity() > Severity::Note)
            .collect();
        assert_eq!(left, plan.remaining, "{what}");
        log.reopen(Offset(0), false);
        let kept = log.values();
        let end = plan.new_end.unwrap_or(report.log_end);
        assert_eq!(log.log.log_end_offset(), end, "{what}");
        let before = contents.iter().filter(|(offset, _)| *offset < end.0);
        let before: Vec<String> = before.map(|(_, value)| value.clone()).collect();
        assert_eq!(kept, before, "{what}");
    }
}

#[test]
fn the_check_goes_on_behind_damage() {
    let log = healthy();
    let files = log.files("log");
    let first = batch_positions(&files[0])[1];
    let second = batch_positions(&files[1])[0];
    change(&files[0], |bytes| bytes[first + 61] ^= 1);
    change(&files[1], |bytes| bytes[second + 16] = 9);
    let found: Vec<_> = verify(&log)
        .into_iter()
        .filter(|finding| finding.problem == Problem::DamagedBatch)
        .map(|finding| (finding.path, finding.position))
        .collect();
    let at = |file: &PathBuf, position| (file.clone(), Some(position as u64));
    assert_eq!(found, [at(&files[0], first), at(&files[1], second)]);
}

#[test]
fn a_crash_leaves_nothing_that_needs_a_person() {
    let log = SingleLog::with_segments_of(300);
    for value in ["a", "b", "c", "d", "e", "f", "g"] {
        log.append(&batches::builder(NOW.0, &[value]).build()).unwrap();
    }
    assert!(log.files("log").len() > 1);
    let context = PartitionContext { recovery_point: Some(Offset(0)), ..Default::default() };
    let report = verify_partition(&*env().disk, &log.dir(), context, &mut |_| {}).unwrap();
    assert_eq!(report.findings, [], "indexes that were never written are no mistake");
}

#[test]
fn what_a_repair_set_aside_outlives_starts_and_compactions() {
    let mut log = healthy();
    let first = log.files("log")[0].clone();
    let aside = first.with_extension("log.17.corrupt");
    std::fs::write(&aside, b"the rest").unwrap();
    // A compaction that was decided, and not finished when the node died.
    std::fs::copy(&first, first.with_extension("log.swap")).unwrap();
    let before = log.contents();
    log.reopen(Offset(0), false);
    assert_eq!(log.contents(), before);
    assert!(log.files("swap").is_empty(), "the start finished the compaction");
    assert_eq!(std::fs::read(&aside).unwrap(), b"the rest");
}

#[test]
fn what_waits_for_the_next_start_is_a_note() {
    let log = healthy();
    for name in ["00000000000000000000.log.deleted", "00000000000000000009.log.cleaned", "notes"] {
        std::fs::write(log.dir().join(name), b"x").unwrap();
    }
    let findings = verify(&log);
    assert_eq!(findings.len(), 3, "{findings:?}");
    assert!(findings.iter().all(|finding| finding.severity() == Severity::Note));
}

/// Names of one file of every kind.
const NAMES: [&str; 12] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000000.txnindex",
    "00000000000000000003.snapshot",
    "00000000000000000003-0000000001.checkpoint",
    "leader-epoch-checkpoint",
    "partition.metadata",
    "recovery-point-offset-checkpoint",
    "meta.properties",
    "quorum-state",
    ".ottla_went_offline",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever is done to the files of a log, one repair is enough, and the log opens.
    #[test]
    fn one_repair_is_enough(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..5, any::<u16>(), any::<u8>()), 1..6),
    ) {
        let mut log = healthy();
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(log.dir()).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for (file, how, at, byte) in edits {
            let file: &PathBuf = file.get(&files);
            change(file, |bytes| {
                let at = usize::from(at) % (bytes.len() + 1);
                match how {
                    0 => bytes.truncate(at),
                    1 => bytes.extend(std::iter::repeat_n(byte, at)),
                    2 => bytes.insert(at, byte),
                    _ if at < bytes.len() => bytes[at] ^= byte,
                    _ => bytes.clear(),
                }
            });
        }
        let (disk, partition, dir) = (&*env().disk, TopicPartition::new("topic", 0), log.dir());
        let plan = || {
            let context = PartitionContext::default();
            let report = verify_partition(disk, &dir, context, &mut |_| {}).unwrap();
            RepairPlan::of(disk, (&partition, &dir), context, &report, &report.findings).unwrap()
        };
        plan().apply(&env()).unwrap();
        prop_assert_eq!(plan().steps, []);
        log.reopen(Offset(0), false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a file holds: the check ends, says something or nothing, and does not panic.
    #[test]
    fn any_bytes_in_any_file_are_survived(
        name in prop::sample::select(NAMES.to_vec()),
        garbage in prop::collection::vec(any::<u8>(), 0..300),
        repeated in 1usize..4,
    ) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(name);
        std::fs::write(&path, garbage.repeat(repeated)).unwrap();
        if name.ends_with("index") {
            let log = batches::builder(NOW.0, &["a", "b"]).build();
            std::fs::write(path.with_extension("log"), log).unwrap();
        }
        prop_assert_ne!(FileKind::of(name), FileKind::Unknown);
        verify_file(&*env().disk, &path, &mut |_| {}).unwrap();
        verify_partition(&*env().disk, root.path(), PartitionContext::default(), &mut |_| {}).unwrap();
    }

    /// A bit that flips in a `.log` file is never overlooked, unless it lies outside the checksum,
    /// where the offsets still have to make sense.
    #[test]
    fn any_flipped_bit_under_the_checksum_is_found(byte in 17usize..1000, bit in 0u8..8) {
        let log = SingleLog::with_segments_of(1 << 20);
        log.append(&batches::builder(NOW.0, &["a value that is flipped"; 40]).build()).unwrap();
        log.log.close().unwrap();
        let file = log.last_file("log");
        change(&file, |bytes| bytes[byte] ^= 1 << bit);
        let findings = verify(&log);
        prop_assert!(findings.iter().any(|finding| finding.path == file), "{findings:?}");
    }
}

#[test]
fn stats_add_up_what_was_written() {
    let log = healthy();
    let stats = LogStats::of(&*env().disk, &log.dir(), &mut |_| {}).unwrap();
    assert_eq!((stats.records, stats.control_records, stats.batches), (124, 2, 44));
    assert_eq!(stats.segments as usize, log.files("log").len());
    let sizes = log.files("log").into_iter().map(|file| std::fs::metadata(file).unwrap().len());
    assert_eq!(stats.bytes, sizes.sum::<u64>());
    assert_eq!(stats.codecs.len(), 5);
    assert_eq!((stats.codecs[&Compression::Zstd], stats.transactional_batches), (8, 4));
    assert_eq!((stats.null_keys, stats.null_values), (0, 0));
    assert_eq!(stats.producers(), 3);
    assert_eq!(stats.times(), Some((NOW, Timestamp(NOW.0 + 39))));
    assert!(stats.uncompressed_bytes > stats.bytes, "{stats:?}");
    // All have the same key, so only the last would stay.
    assert!(stats.compactable_share() > 0.98, "{stats:?}");
    let file = log.files("log")[0].clone();
    let at = batch_positions(&file)[1];
    change(&file, |bytes| bytes[at + 70] ^= 1);
    let damaged = LogStats::of(&*env().disk, &log.dir(), &mut |_| {}).unwrap();
    assert_eq!((damaged.damaged, damaged.batches), (1, 43));
}
