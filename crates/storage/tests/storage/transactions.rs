//! Transactions as the log keeps them (KIP-98): what a `read_committed` consumer is shown.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_config::LogConfig;
use ottla_protocol::record_batch::{ControlRecordType, RecordBatch, RecordBatchBuilder, batches};
use ottla_protocol::{Offset, ProducerEpoch, ProducerId, TopicPartition};
use ottla_storage::{AbortedTxn, AppendOrigin, FetchData, Log, LogDir};
use proptest::prelude::*;

use crate::batches::{builder, decode};
use crate::faulty_disk::{Faults, faulty_env};
use crate::single_log::{NOW, SingleLog, env};

/// A record of `producer` in its transaction.
fn record(producer: i64, sequence: i32, value: &str) -> Bytes {
    let builder = builder(NOW.0, &[value]).transactional();
    builder.producer(ProducerId(producer), ProducerEpoch(0), sequence).build()
}

pub(crate) fn marker(producer: i64, kind: ControlRecordType) -> Bytes {
    let mut builder = RecordBatchBuilder::new().control().transactional().producer(
        ProducerId(producer),
        ProducerEpoch(0),
        -1,
    );
    builder.append_control(kind, NOW, &[0, 0, 0, 0, 0, 3]);
    builder.build()
}

impl SingleLog {
    /// Appends as the transaction coordinator's node does, and commits.
    fn coordinate(&self, records: &Bytes) -> Offset {
        let info = self.append_as(records, AppendOrigin::Coordinator, 0).unwrap();
        self.log.set_high_watermark(self.log.log_end_offset());
        info.first_offset
    }

    fn write(&self, producer: i64, value: &str) -> Offset {
        self.coordinate(&record(producer, 0, value))
    }

    fn abort(&self, producer: i64) -> Offset {
        self.coordinate(&marker(producer, ControlRecordType::Abort))
    }

    fn commit(&self, producer: i64) -> Offset {
        self.coordinate(&marker(producer, ControlRecordType::Commit))
    }

    fn stable_end(&self) -> Offset {
        self.log.last_stable_offset(self.log.high_watermark())
    }

    fn aborted_from(&self, from: i64) -> Vec<(i64, i64)> {
        let data = self.log.read_committed(Offset(from), 1 << 20, true, self.stable_end()).unwrap();
        data.aborted_txns.iter().map(|txn| (txn.producer_id.0, txn.first_offset.0)).collect()
    }

    /// What a consumer with `isolation.level=read_committed` sees that reads `max_bytes` at a time.
    fn committed(&self, max_bytes: usize) -> Vec<String> {
        let (mut from, mut seen) = (self.log.log_start_offset(), Vec::new());
        loop {
            let data = self.log.read_committed(from, max_bytes, true, self.stable_end()).unwrap();
            if data.is_empty() {
                return seen;
            }
            from = consume(&data, from, &mut seen);
        }
    }
}

/// Two transactions that overlap and are aborted, each of one batch, among what counts.
pub(crate) fn with_overlapping_aborts() -> SingleLog {
    let log = SingleLog::with_segments_of(1 << 20);
    log.append_values(&["before"]);
    log.write(1, "void");
    log.append_values(&["between"]);
    log.write(2, "void, too");
    log.abort(1);
    log.append_values(&["within"]);
    log.abort(2);
    log.append_values(&["after"]);
    log.log.set_high_watermark(log.log.log_end_offset());
    log
}

/// All values that a consumer with `isolation.level=read_committed` sees.
pub(crate) fn committed(log: &SingleLog) -> Vec<String> {
    log.committed(usize::MAX)
}

/// Passes over what was aborted, as Kafka's consumer does; the offset to go on from.
fn consume(data: &FetchData, from: Offset, seen: &mut Vec<String>) -> Offset {
    let bytes = data.read().unwrap();
    let mut to_come = data.aborted_txns.clone();
    let mut aborted = std::collections::BTreeSet::new();
    let mut next = from;
    for batch in batches(&bytes) {
        let batch = batch.unwrap();
        next = batch.last_offset().next();
        to_come.retain(|txn: &AbortedTxn| {
            let begun = txn.first_offset <= batch.last_offset();
            if begun {
                aborted.insert(txn.producer_id);
            }
            !begun
        });
        if batch.is_control() {
            if is_abort(&batch) {
                aborted.remove(&batch.producer_id());
            }
        } else if !aborted.contains(&batch.producer_id()) {
            let records = decode(&Bytes::copy_from_slice(batch.as_bytes()));
            seen.extend(records.into_iter().filter(|r| r.0 >= from.0).map(|r| r.1));
        }
    }
    next
}

fn is_abort(batch: &RecordBatch<'_>) -> bool {
    let record = batch.records().unwrap().next().unwrap().unwrap();
    ControlRecordType::from_key(record.key.unwrap()) == Some(ControlRecordType::Abort)
}

#[test]
fn a_reader_is_told_of_the_aborted_transactions_in_what_it_reads() {
    let log = SingleLog::new(LogConfig::default());
    log.write(1, "aborted");
    log.write(2, "committed");
    log.abort(1);
    assert_eq!(log.stable_end(), Offset(1), "producer 2 holds consumers back");
    assert_eq!(log.aborted_from(0), [(1, 0)]);
    log.commit(2);
    assert_eq!(log.stable_end(), Offset(4));
    assert_eq!(log.aborted_from(0), [(1, 0)]);
    assert_eq!(log.aborted_from(3), [], "it ended before");
    assert_eq!(log.committed(1 << 20), ["committed"]);
    let plain = log.log.read(Offset(0), 1 << 20, true, log.stable_end()).unwrap();
    assert_eq!(plain.aborted_txns, [], "read_uncommitted does not ask");
}

#[test]
fn a_follower_learns_of_what_the_leader_aborted() {
    let (leader, mut follower) =
        (SingleLog::new(LogConfig::default()), SingleLog::with_segments_of(250));
    for producer in [1, 2, 1] {
        leader.write(producer, "x");
    }
    leader.abort(2);
    leader.abort(1);
    let end = leader.log.log_end_offset();
    let bytes = leader.log.read(Offset(0), 1 << 20, true, end).unwrap().read().unwrap();
    for batch in batches(&bytes) {
        let batch = Bytes::copy_from_slice(batch.unwrap().as_bytes());
        follower.log.append_as_follower(&batch).unwrap();
    }
    for _ in 0..2 {
        follower.log.set_high_watermark(end);
        assert_eq!(follower.stable_end(), end);
        assert_eq!(follower.aborted_from(0), [(2, 1), (1, 0)]);
        follower.crash();
    }
}

#[test]
fn an_abort_marker_in_a_later_segment_is_found() {
    let log = SingleLog::with_segments_of(200);
    for value in ["a", "b", "c", "d"] {
        log.write(1, value);
    }
    log.abort(1);
    assert!(log.log.segment_count() > 2);
    assert_eq!(log.files("txnindex").len(), 1, "made only where there is an entry");
    assert_eq!(log.aborted_from(0), [(1, 0)]);
    assert_eq!(log.committed(100), [""; 0]);
}

#[test]
fn a_read_is_told_of_no_transaction_far_behind_it() {
    let log = SingleLog::with_segments_of(1 << 20);
    for _ in 0..10 {
        log.write(1, "aborted");
        log.abort(1);
    }
    let first = log.log.read_committed(Offset(0), 1, true, log.stable_end()).unwrap();
    assert_eq!(first.aborted_txns.len(), 1);
}

#[test]
fn the_index_is_made_anew_after_a_crash() {
    for damage in [None, Some(&b"torn"[..]), Some(&[0xff; 68][..])] {
        let mut log = SingleLog::with_segments_of(200);
        for value in ["a", "b", "c"] {
            log.write(1, value);
        }
        log.abort(1);
        log.write(2, "kept");
        log.commit(2);
        let index = log.last_file("txnindex");
        let before = std::fs::read(&index).unwrap();
        match damage {
            None => std::fs::remove_file(&index).unwrap(),
            Some(bytes) => std::fs::write(&index, bytes).unwrap(),
        }
        log.crash();
        log.log.set_high_watermark(log.log.log_end_offset());
        assert_eq!(std::fs::read(&index).unwrap(), before, "{damage:?}");
        assert_eq!(log.committed(1 << 20), ["kept"]);
    }
}

#[test]
fn an_abort_that_a_crash_took_is_gone_from_the_index() {
    let mut log = SingleLog::new(LogConfig::default());
    log.write(1, "in doubt");
    let size = std::fs::metadata(log.last_file("log")).unwrap().len();
    log.abort(1);
    let file = std::fs::OpenOptions::new().write(true).open(log.last_file("log")).unwrap();
    file.set_len(size).unwrap();
    log.crash();
    log.restart();
    log.commit(1);
    assert_eq!(log.committed(1 << 20), ["in doubt"]);
}

#[test]
fn a_checkpoint_vouches_for_the_entries_before_it() {
    let mut log = SingleLog::with_segments_of(1 << 20);
    log.write(1, "a");
    log.abort(1);
    log.write(2, "open");
    log.log.checkpoint().unwrap();
    log.write(1, "b");
    log.abort(1);
    log.abort(2);
    let index = log.last_file("txnindex");
    let before = std::fs::read(&index).unwrap();
    // An end that nobody wrote.
    std::fs::write(&index, [&before[..34], &[0; 68][..]].concat()).unwrap();
    log.crash();
    assert_eq!(std::fs::read(&index).unwrap(), before);
    // An entry of a newer version, which is as good: nothing but a replay would write it anew.
    let mut known = before.clone();
    known[1] = 7;
    std::fs::write(&index, &known).unwrap();
    log.crash();
    assert_eq!(std::fs::read(&index).unwrap(), known, "what is before was not read again");
}

#[test]
fn a_damaged_index_below_the_recovery_point_is_made_anew() {
    for clean in [true, false] {
        let mut log = SingleLog::with_segments_of(200);
        log.write(1, "a");
        log.write(1, "b");
        log.abort(1);
        for value in ["c", "d", "e"] {
            log.write(2, value);
        }
        log.commit(2);
        log.log.flush(log.log.log_end_offset()).unwrap();
        let index = log.last_file("txnindex");
        let before = std::fs::read(&index).unwrap();
        log.log.close().unwrap();
        std::fs::write(&index, [0xff; 34]).unwrap();
        log.reopen(log.log.recovery_point(), clean);
        log.log.set_high_watermark(log.log.log_end_offset());
        assert_eq!(std::fs::read(&index).unwrap(), before);
        assert_eq!(log.committed(1 << 20), ["c", "d", "e"]);
    }
}

#[test]
fn a_death_while_the_index_is_made_anew_leaves_no_part_of_it() {
    for resets in [true, false] {
        let mut log = SingleLog::with_segments_of(1000);
        while log.log.segment_count() == 1 {
            log.write(1, "void");
            log.abort(1);
        }
        for _ in 0..10 {
            log.append_values(&["after"]);
        }
        log.log.flush(log.log.log_end_offset()).unwrap();
        let (wanted, end) = (log.aborted_from(0), log.log.log_end_offset());
        assert!(wanted.len() > 3);
        let file = log.files("txnindex")[0].clone();
        let sound = std::fs::read(&file).unwrap();
        for change in 1..20 {
            match resets {
                true => std::fs::write(&file, &sound[1..]).unwrap(),
                // Somebody has removed all that can be made anew.
                false => ["index", "timeindex", "txnindex"].iter().for_each(|extension| {
                    std::fs::remove_file(file.with_extension(extension)).unwrap();
                }),
            }
            let faults = Arc::new(Faults::default());
            faults.last_change.store(change, Ordering::Relaxed);
            let dir = LogDir::new(&faulty_env(env(), &faults), log.root.path().to_owned(), 3);
            let mut options = log.options();
            options.recovery_point = end;
            let _dead = Log::open(dir, TopicPartition::new("topic", 0), options);
            log.reopen(end, false);
            log.log.set_high_watermark(end);
            let place = format!("died at change {change}, resets: {resets}");
            assert_eq!(log.aborted_from(0), wanted, "{place}");
            assert_eq!(std::fs::read(&file).unwrap(), sound, "{place}");
        }
    }
}

#[test]
fn the_index_goes_with_its_segment() {
    let log = SingleLog::with_segments_of(100);
    log.write(1, "a");
    log.abort(1);
    log.write(1, "b");
    log.log.increment_log_start_offset(Offset(2)).unwrap();
    log.log.housekeeping(NOW).unwrap();
    assert_eq!(log.files("txnindex").len(), 0);
    let waiting = log.files("deleted");
    let is_index = |path: &std::path::PathBuf| path.to_string_lossy().contains(".txnindex.");
    assert_eq!(waiting.iter().filter(|path| is_index(path)).count(), 1, "{waiting:?}");
}

/// One step of a log's life.
#[derive(Clone, Debug)]
enum Step {
    Write(i64),
    Plain,
    Commit(i64),
    Abort(i64),
    Flush,
    Checkpoint,
    Restart,
    Crash,
    Truncate(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let producer = 1i64..5;
    prop_oneof![
        8 => producer.clone().prop_map(Step::Write),
        2 => Just(Step::Plain),
        2 => producer.clone().prop_map(Step::Commit),
        4 => producer.prop_map(Step::Abort),
        1 => Just(Step::Flush),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        1 => any::<u8>().prop_map(Step::Truncate),
    ]
}

/// What was written at each offset.
#[derive(Clone, Copy, PartialEq)]
enum Written {
    Plain,
    By(i64),
    Commit(i64),
    Abort(i64),
}

/// The values of all records before the oldest open transaction that are not aborted, and where
/// that one begins.
fn expected(written: &[Written]) -> (Vec<String>, usize) {
    let fate = |offset: usize, producer: i64| {
        let ends =
            |w: &&Written| matches!(w, Written::Commit(p) | Written::Abort(p) if *p == producer);
        written.get(offset..).unwrap_or_default().iter().find(ends).copied()
    };
    let is_open = |(offset, w): (usize, &Written)| match w {
        Written::By(producer) => fate(offset, *producer).is_none().then_some(offset),
        Written::Plain | Written::Commit(_) | Written::Abort(_) => None,
    };
    let end = written.iter().enumerate().find_map(is_open).unwrap_or(written.len());
    let shown = written.iter().take(end).enumerate().filter(|(offset, w)| match w {
        Written::Plain => true,
        Written::By(producer) => matches!(fate(*offset, *producer), Some(Written::Commit(_))),
        Written::Commit(_) | Written::Abort(_) => false,
    });
    (shown.map(|(offset, _)| offset.to_string()).collect(), end)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_read_committed_consumer_sees_what_was_committed_and_nothing_else(
        steps in prop::collection::vec(step(), 1..60), max_bytes in 1usize..600,
    ) {
        let mut log = SingleLog::with_segments_of(400);
        let mut written = Vec::new();
        for step in steps {
            let value = written.len().to_string();
            match step {
                Step::Write(producer) => {
                    log.write(producer, &value);
                    written.push(Written::By(producer));
                }
                Step::Plain => {
                    log.coordinate(&builder(NOW.0, &[&value]).build());
                    written.push(Written::Plain);
                }
                Step::Commit(producer) => {
                    log.commit(producer);
                    written.push(Written::Commit(producer));
                }
                Step::Abort(producer) => {
                    log.abort(producer);
                    written.push(Written::Abort(producer));
                }
                Step::Flush => log.log.flush(log.log.log_end_offset()).unwrap(),
                Step::Checkpoint => log.log.checkpoint().unwrap(),
                Step::Restart => log.restart(),
                Step::Crash => log.crash(),
                Step::Truncate(at) => {
                    let at = usize::from(at) % (written.len() + 1);
                    log.log.truncate_to(Offset(at as i64)).unwrap();
                    written.truncate(at);
                }
            }
            log.log.set_high_watermark(log.log.log_end_offset());
        }
        let (shown, end) = expected(&written);
        prop_assert_eq!(log.stable_end(), Offset(end as i64));
        prop_assert_eq!(log.committed(max_bytes), shown);
    }
}
