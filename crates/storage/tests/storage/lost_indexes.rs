//! Index files that somebody removes or cuts while the log is in use.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ottla_config::LogConfig;
use ottla_protocol::record_batch::{ControlRecordType, RecordBatchBuilder};
use ottla_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp};
use ottla_storage::{AppendOrigin, ReadError};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::batches;
use crate::single_log::{NOW, SingleLog};

const RECORDS: i64 = 60;

/// Several segments of several index entries, just opened: no index file is in memory.
fn opened() -> SingleLog {
    let config = LogConfig { segment_bytes: 40_000, retention_ms: None, ..LogConfig::default() };
    let mut log = SingleLog::new(config);
    for offset in 0..RECORDS {
        let value = format!("{offset:>3000}");
        // Every third record is late.
        let time = NOW.0 + offset - (offset % 3) * 5;
        log.append(&batches::builder(time, &[&value]).build()).unwrap();
    }
    log.log.set_high_watermark(Offset(RECORDS));
    log.restart();
    log.log.set_high_watermark(Offset(RECORDS));
    assert!(log.files("index").len() > 3);
    log
}

fn time_of(offset: i64) -> i64 {
    NOW.0 + offset - (offset % 3) * 5
}

fn assert_answers(log: &SingleLog) {
    let end = log.log.log_end_offset();
    for from in (0..RECORDS).step_by(7) {
        let data = log.log.read(Offset(from), 1, true, end).unwrap();
        assert_eq!(batches::decode(&data.read().unwrap())[0].0, from);
        let target = NOW.0 + from;
        let found = log.log.offset_for_timestamp(Timestamp(target)).unwrap().unwrap();
        let expected = (0..RECORDS).find(|offset| time_of(*offset) >= target).unwrap();
        assert_eq!(found.offset.0, expected);
    }
    assert_eq!(log.log.max_timestamp().unwrap().unwrap().offset.0, RECORDS - 3);
    assert!(log.log.log_dir().failure().is_none());
}

fn contents(log: &SingleLog) -> Vec<(PathBuf, Vec<u8>)> {
    let files = log.files("index").into_iter().chain(log.files("timeindex"));
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

type Damage = fn(&PathBuf);

const DAMAGES: [(&str, Damage); 3] = [
    ("removed", |path| std::fs::remove_file(path).unwrap()),
    ("cut", |path| std::fs::File::options().write(true).open(path).unwrap().set_len(5).unwrap()),
    ("emptied", |path| std::fs::write(path, []).unwrap()),
];

#[test]
fn the_answers_stay_right_and_the_files_come_back() {
    for extensions in [&["index"][..], &["timeindex"], &["index", "timeindex"]] {
        for (what, damage) in DAMAGES {
            let mut log = opened();
            let before = contents(&log);
            for extension in extensions {
                log.files(extension).iter().for_each(damage);
            }
            assert_answers(&log);
            log.log.housekeeping(NOW).unwrap();
            assert_answers(&log);
            log.restart();
            assert_eq!(contents(&log), before, "{extensions:?} {what}");
            assert_answers(&log);
        }
    }
}

#[test]
fn retention_by_time_does_without_a_time_index() {
    for (what, damage) in DAMAGES {
        let log = opened();
        log.files("timeindex").iter().for_each(damage);
        let mut config = log.config.clone();
        config.retention_ms = Some(std::time::Duration::from_millis(30));
        log.log.update_config(config);
        log.log.housekeeping(Timestamp(NOW.0 + RECORDS)).unwrap();
        let start = log.log.log_start_offset().0;
        assert!((15..=30).contains(&start), "{what}: {start}");
        assert!(log.log.log_dir().failure().is_none());
    }
}

#[test]
fn the_segment_that_grows_takes_its_indexes_up_again() {
    for (what, damage) in DAMAGES {
        let mut log = opened();
        let active = log.files("log").len() - 1;
        damage(&log.files("index")[active]);
        damage(&log.files("timeindex")[active]);
        for offset in RECORDS..RECORDS + 30 {
            let value = format!("{offset:>3000}");
            log.append(&batches::builder(NOW.0, &[&value]).build()).unwrap();
        }
        log.log.flush(log.log.log_end_offset()).unwrap();
        log.restart();
        assert_answers(&log);
        for (index, time_index) in log.files("index").iter().zip(log.files("timeindex")) {
            let lens = [index, &time_index].map(|path| std::fs::metadata(path).unwrap().len());
            assert!(lens[0] > 0 && lens[1] > 0, "{what}: {index:?} {lens:?}");
        }
    }
}

#[test]
fn without_its_transaction_index_a_segment_is_not_read_as_committed() {
    for (what, damage) in DAMAGES {
        let mut log = SingleLog::with_segments_of(100);
        let producer = |builder: RecordBatchBuilder, sequence| {
            builder.transactional().producer(ProducerId(1), ProducerEpoch(0), sequence)
        };
        let open = producer(batches::builder(NOW.0, &["aborted"]), 0).build();
        log.append_as(&open, AppendOrigin::Coordinator, 0).unwrap();
        let mut marker = producer(RecordBatchBuilder::new().control(), -1);
        marker.append_control(ControlRecordType::Abort, NOW, &[0; 6]);
        log.append_as(&marker.build(), AppendOrigin::Coordinator, 0).unwrap();
        for _ in 0..6 {
            log.append_values(&["more"]);
        }
        log.restart();
        let end = log.log.log_end_offset();
        // Until other files took the place of that one among the open ones.
        for from in [2, 3, 4, 5, 6, 7, 2, 3, 4, 5, 6, 7] {
            log.log.read(Offset(from), 1, true, end).unwrap().read().unwrap();
        }
        damage(&log.last_file("txnindex"));
        let read = log.log.read_committed(Offset(0), 1 << 20, true, end);
        assert!(matches!(read, Err(ReadError::Corrupt(_))), "{what}: {:?}", read.map(drop));
        assert!(log.log.log_dir().failure().is_none());
        log.reopen(Offset(0), false);
        let read = log.log.read_committed(Offset(0), 1 << 20, true, end).unwrap();
        assert_eq!(read.aborted_txns.len(), 1, "{what}: a start that looks makes it anew");
    }
}

/// Counts warnings.
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn each_segment_is_warned_of_once() {
    let log = opened();
    let sealed = log.files("index").len() - 1;
    for index in &log.files("index")[..sealed] {
        // Entries that lead into the middle of batches.
        let mut entries = std::fs::read(index).unwrap();
        entries.chunks_mut(8).for_each(|entry| entry[7] ^= 1);
        std::fs::write(index, entries).unwrap();
    }
    let warnings = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::with_default(Warnings(warnings.clone()), || {
        for _ in 0..3 {
            assert_answers(&log);
        }
        assert_eq!(warnings.load(Ordering::Relaxed), sealed);
        log.log.housekeeping(NOW).unwrap();
        assert_answers(&log);
        assert_eq!(warnings.load(Ordering::Relaxed), sealed, "nothing is wrong any more");
    });
}
