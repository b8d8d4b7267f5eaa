//! What the log knows of idempotent producers (KIP-98, KIP-360), whatever becomes of it meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use ottla_config::LogConfig;
use ottla_protocol::record_batch::{ControlRecordType, RecordBatchBuilder};
use ottla_protocol::{ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp};
use ottla_storage::{AppendOrigin, LogAppendInfo};
use proptest::prelude::*;

use crate::batches::builder;
use crate::single_log::{NOW, SingleLog};

/// As many as a client may have in flight.
const WINDOW: usize = 5;

#[derive(Clone, Copy, Debug)]
struct Sent {
    producer: i64,
    epoch: i16,
    sequence: i32,
    count: i32,
}

impl Sent {
    fn batch(self) -> Bytes {
        let values = vec!["x"; self.count as usize];
        let (producer, epoch) = (ProducerId(self.producer), ProducerEpoch(self.epoch));
        builder(NOW.0, &values).producer(producer, epoch, self.sequence).build()
    }

    /// One record of producer 9.
    fn one(sequence: i32) -> Self {
        Self { producer: 9, epoch: 0, sequence, count: 1 }
    }
}

impl SingleLog {
    fn send(&self, sent: Sent) -> Result<LogAppendInfo, ErrorCode> {
        self.append(&sent.batch()).map_err(|error| error.error_code())
    }

    /// The first offset of a batch that was sent before.
    fn resend(&self, sequence: i32) -> Result<i64, ErrorCode> {
        let info = self.send(Sent::one(sequence))?;
        assert!(info.duplicate, "{info:?}");
        Ok(info.first_offset.0)
    }

    fn snapshots(&self) -> Vec<i64> {
        let name = |path: &std::path::PathBuf| path.file_stem().unwrap().to_str().unwrap().parse();
        self.files("snapshot").iter().map(|path| name(path).unwrap()).collect()
    }
}

#[test]
fn all_that_was_in_flight_is_known_again_after_a_restart() {
    for segment_bytes in [1 << 20, 250] {
        let mut log = SingleLog::with_segments_of(segment_bytes);
        for sequence in 0..7 {
            log.send(Sent::one(sequence)).unwrap();
            log.send(Sent { producer: 8, ..Sent::one(sequence) }).unwrap();
        }
        for clean in [true, false] {
            match clean {
                true => log.restart(),
                false => log.crash(),
            }
            // In the order in which a client sends them again.
            for sequence in 2..7 {
                assert_eq!(log.resend(sequence), Ok(i64::from(sequence) * 2), "clean: {clean}");
            }
            assert_eq!(log.resend(1), Err(ErrorCode::OutOfOrderSequenceNumber), "the sixth last");
        }
        assert_eq!(log.send(Sent::one(7)).unwrap().first_offset, Offset(14));
        assert_eq!(log.resend(3), Ok(6));
        assert_eq!(log.resend(2), Err(ErrorCode::OutOfOrderSequenceNumber));
    }
}

#[test]
fn batches_of_an_earlier_epoch_are_not_recalled() {
    let mut log = SingleLog::with_segments_of(1 << 20);
    log.send(Sent::one(0)).unwrap();
    log.send(Sent::one(1)).unwrap();
    for sequence in 0..2 {
        log.send(Sent { epoch: 1, ..Sent::one(sequence) }).unwrap();
    }
    log.restart();
    let again = log.send(Sent { epoch: 1, ..Sent::one(0) }).unwrap();
    assert_eq!((again.duplicate, again.first_offset), (true, Offset(2)));
    assert_eq!(log.resend(1), Err(ErrorCode::InvalidProducerEpoch));
}

#[test]
fn a_producer_whose_records_are_deleted_is_still_known_until_it_expires() {
    let mut log = SingleLog::with_segments_of(100);
    for sequence in 0..3 {
        log.send(Sent::one(sequence)).unwrap();
    }
    log.log.increment_log_start_offset(Offset(3)).unwrap();
    log.log.housekeeping(NOW).unwrap();
    assert_eq!(log.send(Sent::one(7)).map(drop), Err(ErrorCode::OutOfOrderSequenceNumber));
    log.restart();
    assert_eq!(log.send(Sent::one(7)).map(drop), Err(ErrorCode::OutOfOrderSequenceNumber));
    log.log.housekeeping(Timestamp(NOW.0 + 3_600_000)).unwrap();
    // KIP-360: nothing is left to compare with.
    assert_eq!(log.send(Sent::one(7)).unwrap().first_offset, Offset(3));
    assert_eq!(log.resend(7), Ok(3));
}

#[test]
fn a_snapshot_is_kept_for_each_segment_and_goes_with_it() {
    let mut log = SingleLog::with_segments_of(250);
    for sequence in 0..12 {
        log.send(Sent::one(sequence)).unwrap();
    }
    let bases: Vec<i64> = log
        .files("log")
        .iter()
        .map(|p| p.file_stem().unwrap().to_str().unwrap().parse().unwrap())
        .collect();
    assert!(bases.len() > 3, "{bases:?}");
    assert_eq!(log.snapshots(), bases[1..], "one at each roll");
    log.restart();
    assert_eq!(log.snapshots(), [&bases[1..], &[12]].concat(), "and one at the end");
    log.log.truncate_to(Offset(bases[2])).unwrap();
    assert_eq!(log.snapshots(), bases[1..3], "none of what was cut off");
    assert_eq!(log.resend(bases[2] as i32 - 1), Ok(bases[2] - 1));
    assert_eq!(log.send(Sent::one(bases[2] as i32)).unwrap().first_offset.0, bases[2]);
    log.log.set_high_watermark(log.log.log_end_offset());
    log.log.increment_log_start_offset(Offset(bases[2])).unwrap();
    log.log.housekeeping(NOW).unwrap();
    assert_eq!(log.snapshots(), [bases[2]], "those of deleted segments go");
}

#[test]
fn a_log_that_was_cut_behind_its_checkpoint_still_knows_its_producers_after_a_stop() {
    let mut log = SingleLog::with_segments_of(1 << 20);
    for sequence in 0..5 {
        log.send(Sent::one(sequence)).unwrap();
    }
    log.log.checkpoint().unwrap();
    log.log.truncate_to(Offset(2)).unwrap();
    log.restart();
    assert_eq!(log.resend(1), Ok(1));
    assert_eq!(log.send(Sent::one(3)).map(drop), Err(ErrorCode::OutOfOrderSequenceNumber));
}

#[test]
fn an_older_snapshot_does_where_the_newest_are_damaged() {
    let mut log = SingleLog::with_segments_of(250);
    for sequence in 0..8 {
        log.send(Sent::one(sequence)).unwrap();
    }
    log.restart();
    let snapshots = log.files("snapshot");
    for (damage, path) in snapshots.iter().skip(1).enumerate() {
        let mut bytes = std::fs::read(path).unwrap();
        match damage % 3 {
            0 => *bytes.last_mut().unwrap() ^= 1,
            1 => bytes.truncate(20),
            _ => bytes.fill(0),
        }
        std::fs::write(path, bytes).unwrap();
    }
    // What the first one says is believed: were it not read, the records before it would be.
    std::fs::remove_file(&snapshots[0]).unwrap();
    std::fs::write(&snapshots[0], snapshot_of(9, 77)).unwrap();
    log.crash();
    let left = log.snapshots();
    assert_eq!(left.len(), 1, "damaged ones are removed: {left:?}");
    assert_eq!(log.resend(7), Ok(7), "batches after it count");
    let first: i64 = left[0];
    let bytes = std::fs::read(&snapshots[0]).unwrap();
    assert_eq!(bytes, snapshot_of(9, 77), "at {first}");
    assert_eq!(
        log.send(Sent { producer: 77, ..Sent::one(5) }).map(drop),
        Err(ErrorCode::OutOfOrderSequenceNumber)
    );
}

/// A snapshot in which two producers have each sent sequence 0, long ago.
fn snapshot_of(first: i64, second: i64) -> Vec<u8> {
    let entry = |producer: i64| {
        let mut bytes = producer.to_be_bytes().to_vec();
        bytes.extend(0i16.to_be_bytes());
        bytes.extend(0i32.to_be_bytes());
        bytes.extend(0i64.to_be_bytes());
        bytes.extend(0i32.to_be_bytes());
        bytes.extend(NOW.0.to_be_bytes());
        bytes.extend((-1i32).to_be_bytes());
        bytes.extend((-1i64).to_be_bytes());
        bytes
    };
    let body = [2i32.to_be_bytes().to_vec(), entry(first), entry(second)].concat();
    [&1i16.to_be_bytes()[..], &crc_fast::crc32_iscsi(&body).to_be_bytes(), &body].concat()
}

#[test]
fn a_hanging_transaction_outlives_restarts_crashes_and_expiry() {
    let config = LogConfig { segment_bytes: 250, retention_ms: None, ..LogConfig::default() };
    let mut log = SingleLog::new(config);
    let transactional = |value| builder(NOW.0, &[value]).transactional();
    let open = transactional("open").producer(ProducerId(5), ProducerEpoch(2), 0).build();
    log.append_as(&open, AppendOrigin::Coordinator, 0).unwrap();
    for value in ["a", "b", "c", "d"] {
        log.append_values(&[value]);
    }
    for round in 0..4 {
        log.log.set_high_watermark(log.log.log_end_offset());
        log.log.housekeeping(Timestamp(NOW.0 + (1 << 40))).unwrap();
        let stable = log.log.last_stable_offset(log.log.log_end_offset());
        assert_eq!(stable, Offset(0), "round {round}");
        if round % 2 == 0 { log.restart() } else { log.crash() }
    }
    let mut marker = RecordBatchBuilder::new().control().transactional().producer(
        ProducerId(5),
        ProducerEpoch(2),
        -1,
    );
    marker.append_control(ControlRecordType::Abort, NOW, &[0; 6]);
    log.append_as(&marker.build(), AppendOrigin::Coordinator, 0).unwrap();
    let end = log.log.log_end_offset();
    log.log.set_high_watermark(end);
    assert_eq!(log.log.last_stable_offset(end), end);
    let aborted = log.log.read_committed(Offset(0), 1 << 20, true, end).unwrap().aborted_txns;
    assert_eq!((aborted.len(), aborted[0].first_offset), (1, Offset(0)));
}

#[test]
fn a_fenced_coordinator_is_told() {
    let log = SingleLog::new(LogConfig::default());
    let marker = |coordinator_epoch: u8| {
        let producer = (ProducerId(5), ProducerEpoch(2));
        let mut marker = RecordBatchBuilder::new()
            .control()
            .transactional()
            .producer(producer.0, producer.1, -1);
        marker.append_control(ControlRecordType::Commit, NOW, &[0, 0, 0, 0, 0, coordinator_epoch]);
        marker.build()
    };
    log.append_as(&marker(3), AppendOrigin::Coordinator, 0).unwrap();
    let error = log.append_as(&marker(2), AppendOrigin::Coordinator, 0).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::TransactionCoordinatorFenced);
}

/// What a producer does, and what becomes of the log.
#[derive(Clone, Debug)]
enum Step {
    /// The next batch, of so many records.
    Next(i64, i32),
    /// The batch so many before the last, once more.
    Again(i64, usize),
    /// A sequence that lies so far ahead.
    Gap(i64, i32),
    /// A new epoch, from this sequence on.
    Bump(i64, i32),
    /// An old epoch.
    Zombie(i64),
    Flush,
    Checkpoint,
    Restart,
    Crash,
    Truncate(u8),
    DeleteUpTo(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let producer = 1i64..4;
    prop_oneof![
        12 => (producer.clone(), 1..4i32).prop_map(|(p, count)| Step::Next(p, count)),
        6 => (producer.clone(), 0..8usize).prop_map(|(p, back)| Step::Again(p, back)),
        1 => (producer.clone(), 1..5i32).prop_map(|(p, gap)| Step::Gap(p, gap)),
        1 => (producer.clone(), prop_oneof![4 => Just(0), 1 => Just(1)]).prop_map(|(p, s)| Step::Bump(p, s)),
        1 => producer.prop_map(Step::Zombie),
        1 => Just(Step::Flush),
        1 => Just(Step::Checkpoint),
        2 => Just(Step::Restart),
        1 => Just(Step::Crash),
        1 => any::<u8>().prop_map(Step::Truncate),
        1 => any::<u8>().prop_map(Step::DeleteUpTo),
    ]
}

/// Everything that was appended: a batch and its first offset.
#[derive(Default)]
struct Model(Vec<(Sent, i64)>);

impl Model {
    fn of(&self, producer: i64) -> VecDeque<(Sent, i64)> {
        self.0.iter().filter(|(sent, _)| sent.producer == producer).copied().collect()
    }

    fn next(&self, producer: i64, count: i32) -> Sent {
        let Some((last, _)) = self.of(producer).back().copied() else {
            // Near the end, so that sequences wrap.
            return Sent { producer, epoch: 0, sequence: i32::MAX - 7, count };
        };
        Sent { producer, count, sequence: after(last, 0), ..last }
    }

    /// The offset of a duplicate, `None` for a new batch, or the error.
    fn expected(&self, sent: Sent) -> Result<Option<i64>, ErrorCode> {
        let known = self.of(sent.producer);
        let Some((last, _)) = known.back() else { return Ok(None) };
        if sent.epoch < last.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if sent.epoch > last.epoch {
            return if sent.sequence == 0 {
                Ok(None)
            } else {
                Err(ErrorCode::OutOfOrderSequenceNumber)
            };
        }
        let current = known.iter().rev().take_while(|(it, _)| it.epoch == sent.epoch);
        let same = |it: &&(Sent, i64)| it.0.sequence == sent.sequence && it.0.count == sent.count;
        if let Some((_, offset)) = current.take(WINDOW).find(same) {
            return Ok(Some(*offset));
        }
        match sent.sequence == after(*last, 0) {
            true => Ok(None),
            false => Err(ErrorCode::OutOfOrderSequenceNumber),
        }
    }
}

/// The sequence `gap` after a batch; 0 follows `i32::MAX`.
fn after(sent: Sent, gap: i32) -> i32 {
    let next = i64::from(sent.sequence) + i64::from(sent.count) + i64::from(gap);
    (next % (1 << 31)) as i32
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_producer_is_told_what_the_log_says_of_it(
        steps in prop::collection::vec(step(), 1..80), segment_bytes in prop_oneof![Just(400), Just(1 << 20)],
    ) {
        let mut log = SingleLog::with_segments_of(segment_bytes);
        let mut model = Model::default();
        for step in steps {
            let sent = match step {
                Step::Next(producer, count) => Some(model.next(producer, count)),
                Step::Again(producer, back) => model.of(producer).iter().rev().nth(back).map(|it| it.0),
                Step::Gap(producer, gap) => model.of(producer).back().map(|(last, _)| Sent { sequence: after(*last, gap), ..*last }),
                Step::Bump(producer, sequence) => {
                    let next = model.next(producer, 1);
                    Some(Sent { epoch: next.epoch + 1, sequence, ..next })
                }
                Step::Zombie(producer) => {
                    let next = model.next(producer, 1);
                    Some(Sent { epoch: (next.epoch - 1).max(0), ..next })
                }
                Step::Flush => {
                    log.log.flush(log.log.log_end_offset()).unwrap();
                    None
                }
                Step::Checkpoint => {
                    log.log.checkpoint().unwrap();
                    None
                }
                Step::Restart => {
                    log.restart();
                    None
                }
                Step::Crash => {
                    log.crash();
                    None
                }
                Step::Truncate(at) => {
                    let (start, end) = (log.log.log_start_offset().0, log.log.log_end_offset().0);
                    let at = start + i64::from(at) % (end - start + 1);
                    log.log.truncate_to(Offset(at)).unwrap();
                    let reached_over = model.0.iter().any(|(sent, first)| {
                        *first < start && at < first + i64::from(sent.count) && at > *first
                    });
                    model.0.retain(|(sent, first)| first + i64::from(sent.count) <= at);
                    if at < end && (at == start || reached_over) {
                        // Nothing is left, and nothing is known.
                        model.0.clear();
                    }
                    None
                }
                Step::DeleteUpTo(at) => {
                    let end = log.log.log_end_offset().0;
                    log.log.set_high_watermark(Offset(end));
                    let at = i64::from(at) % (end + 1);
                    log.log.increment_log_start_offset(Offset(at)).unwrap();
                    None
                }
            };
            let Some(sent) = sent else { continue };
            let told = log.send(sent);
            let told = told.map(|info| info.duplicate.then_some(info.first_offset.0));
            prop_assert_eq!(told, model.expected(sent), "{:?}", sent);
            if told == Ok(None) {
                let first = log.log.log_end_offset().0 - i64::from(sent.count);
                model.0.push((sent, first));
            }
        }
    }
}

#[test]
fn a_silent_producer_is_not_forgotten_too_early() {
    let log = SingleLog::new(LogConfig::default());
    log.send(Sent::one(0)).unwrap();
    let hour = Duration::from_secs(3600).as_millis() as i64;
    log.log.housekeeping(Timestamp(NOW.0 + hour - 1)).unwrap();
    assert_eq!(log.resend(0), Ok(0));
    log.log.housekeeping(Timestamp(NOW.0 + hour)).unwrap();
    assert!(!log.send(Sent::one(0)).unwrap().duplicate);
}
