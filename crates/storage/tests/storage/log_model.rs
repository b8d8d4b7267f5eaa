//! Random histories of a log against a list of records.

use std::path::Path;

use bytes::Bytes;
use ottla_protocol::record_batch::{NewRecord, RecordBatch, RecordBatchBuilder};
use ottla_protocol::{LeaderEpoch, Offset, Timestamp};
use ottla_storage::{AppendOrigin, LeaderAppend, ReadError};
use proptest::prelude::*;

use crate::batches;
use crate::single_log::{NOW, SingleLog};

#[derive(Clone, Debug)]
enum Step {
    /// Timestamps of the records, counted back from now.
    Append(Vec<u8>),
    /// Several batches at once, by a coordinator.
    AppendMany(Vec<u8>),
    NewLeader,
    Flush,
    Restart,
    Crash(Damage),
    Truncate(u8),
    DeleteRecords(u8),
    Read {
        from: u8,
        bound: u8,
        max_bytes: u16,
    },
    FindTime(u8),
}

/// What happens to bytes that were never synced. Places are counted from the last sync.
#[derive(Clone, Debug)]
enum Damage {
    None,
    CutOff(u16),
    Zeroes(u16),
    FlippedBit(u16),
    Garbage(u16),
    LostIndexes,
}

#[derive(Clone, Debug, PartialEq)]
struct ModelRecord {
    offset: i64,
    value: String,
    timestamp: i64,
    epoch: i32,
    /// Last offset of the batch it came in.
    batch_end: i64,
}

struct Model {
    log: SingleLog,
    records: Vec<ModelRecord>,
    start: i64,
    end: i64,
    epoch: i32,
    written: usize,
    /// Length of the last segment's file when it was synced last, and its name.
    synced: (std::path::PathBuf, u64),
}

impl Model {
    fn new() -> Self {
        let log = SingleLog::with_segments_of(600);
        let synced = (log.last_file("log"), 0);
        Self { log, records: Vec::new(), start: 0, end: 0, epoch: 0, written: 0, synced }
    }

    fn batch(&mut self, ages: &[u8]) -> Bytes {
        let mut builder = RecordBatchBuilder::new();
        let batch_end = self.end + ages.len() as i64 - 1;
        for age in ages {
            self.written += 1;
            let value = format!("value {}", self.written);
            let timestamp = NOW.0 - i64::from(*age);
            builder.append(&NewRecord {
                timestamp: Timestamp(timestamp),
                key: None,
                value: Some(value.as_bytes()),
                headers: &[("h", None)],
            });
            let record =
                ModelRecord { offset: self.end, value, timestamp, epoch: self.epoch, batch_end };
            self.records.push(record);
            self.end += 1;
        }
        builder.build()
    }

    fn append(&mut self, batches: &[&[u8]], origin: AppendOrigin) {
        let first = self.end;
        let records: Vec<u8> = batches.iter().flat_map(|ages| self.batch(ages)).collect();
        let append = LeaderAppend { leader_epoch: LeaderEpoch(self.epoch), origin, now: NOW };
        let info = self.log.log.append_as_leader(&records.into(), append).unwrap();
        assert_eq!((info.first_offset.0, info.last_offset.0), (first, self.end - 1));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(ages) => self.append(&[&ages], AppendOrigin::Client),
            Step::AppendMany(ages) => {
                let batches: Vec<&[u8]> = ages.chunks(2).collect();
                self.append(&batches, AppendOrigin::Coordinator);
            }
            Step::NewLeader => self.epoch += 1,
            Step::Flush => {
                self.log.log.flush(Offset(self.end)).unwrap();
                // Sealed segments whose indexes are not on disk yet hold it back.
                assert!(self.log.log.recovery_point() <= Offset(self.end));
                self.note_synced();
            }
            Step::Restart => {
                self.log.restart();
                self.note_synced();
            }
            Step::Crash(damage) => self.crash(&damage),
            Step::Truncate(at) => self.truncate(self.pick(at)),
            Step::DeleteRecords(at) => self.delete_records(self.pick(at)),
            Step::Read { from, bound, max_bytes } => {
                self.read(self.pick(from), self.pick(bound), usize::from(max_bytes));
            }
            Step::FindTime(age) => self.find_time(NOW.0 - i64::from(age)),
        }
    }

    /// An offset from the start to the end, both included.
    fn pick(&self, at: u8) -> i64 {
        self.start + i64::from(at) * (self.end - self.start) / 255
    }

    fn note_synced(&mut self) {
        let file = self.log.last_file("log");
        let len = std::fs::metadata(&file).unwrap().len();
        self.synced = (file, len);
    }

    fn crash(&mut self, damage: &Damage) {
        let recovery_point = self.log.log.recovery_point().0;
        let last = self.log.last_file("log");
        let synced = if last == self.synced.0 { self.synced.1 } else { 0 };
        damage.apply(&last, synced);
        if matches!(damage, Damage::LostIndexes) {
            for file in self.log.files("index").into_iter().chain(self.log.files("timeindex")) {
                std::fs::remove_file(file).unwrap();
            }
        }
        self.log.crash();
        let end = self.log.log.log_end_offset().0;
        assert!(end >= recovery_point, "synced records are lost: {end} < {recovery_point}");
        if matches!(damage, Damage::None | Damage::LostIndexes) {
            assert_eq!(end, self.end, "nothing was damaged");
        }
        self.cut(end);
        self.note_synced();
    }

    fn truncate(&mut self, to: i64) {
        self.log.log.truncate_to(Offset(to)).unwrap();
        let end = self.log.log.log_end_offset().0;
        assert!(end <= to || to == self.end, "{end} after truncating to {to}");
        self.cut(end);
        self.note_synced();
    }

    /// Forgets the records at and after `end`, which must be where a batch ended.
    fn cut(&mut self, end: i64) {
        let emptied = end <= self.start;
        self.records.retain(|record| record.offset < end && !emptied);
        if let Some(last) = self.records.last() {
            assert_eq!(last.batch_end, last.offset, "a batch was cut in two");
        }
        self.end = end;
        self.start = self.start.min(end);
        assert_eq!(self.log.log.log_start_offset().0, self.start);
    }

    fn delete_records(&mut self, before: i64) {
        assert_eq!(self.log.log.increment_log_start_offset(Offset(before)).unwrap().0, before);
        self.start = before;
    }

    fn read(&self, from: i64, bound: i64, max_bytes: usize) {
        let log = &self.log.log;
        let data = log.read(Offset(from), max_bytes, true, Offset(bound)).unwrap();
        let records = batches::decode(&data.read().unwrap());
        // A batch is read whole, or not at all if the bound lies inside it.
        let holder = self.records.iter().find(|record| record.offset == from);
        if holder.is_none_or(|record| record.batch_end >= bound) {
            assert!(records.is_empty());
            return;
        }
        let (first, last) = (records.first().unwrap(), records.last().unwrap());
        assert!(first.0 <= from && from <= last.0, "{from} is not in {} to {}", first.0, last.0);
        assert!(last.0 < bound);
        let wanted: Vec<_> = self
            .records
            .iter()
            .filter(|record| (first.0..=last.0).contains(&record.offset))
            .map(|record| (record.offset, record.value.clone()))
            .collect();
        assert_eq!(records, wanted);
        let one_batch = self.records.iter().any(|r| r.offset == first.0 && r.batch_end == last.0);
        assert!(data.len() <= max_bytes || one_batch, "{} > {max_bytes}", data.len());
    }

    fn find_time(&self, target: i64) {
        let found = self.log.log.offset_for_timestamp(Timestamp(target)).unwrap();
        let live = self.records.iter().filter(|record| record.offset >= self.start);
        let wanted = live.clone().find(|record| record.timestamp >= target);
        let wanted = wanted.map(|record| (record.timestamp, record.offset, record.epoch));
        assert_eq!(found.map(|f| (f.timestamp.0, f.offset.0, f.leader_epoch.0)), wanted);
    }

    fn check(&self) {
        let log = &self.log.log;
        assert_eq!(log.log_end_offset().0, self.end);
        let live = self.records.iter().filter(|record| record.offset >= self.start);
        let wanted: Vec<_> = live.map(|record| (record.offset, record.value.clone())).collect();
        assert_eq!(self.log.contents(), wanted);
        for offset in [self.start - 1, self.end + 1] {
            let error = log.read(Offset(offset), 1, true, Offset(self.end)).err().unwrap();
            assert!(matches!(error, ReadError::OffsetOutOfRange { .. }), "{error}");
        }
        for epoch in 0..=self.epoch {
            let after = self.records.iter().find(|record| record.epoch > epoch);
            let has = self.records.iter().any(|r| r.epoch == epoch && r.offset >= self.start);
            if has {
                let end = log.end_offset_for_epoch(LeaderEpoch(epoch)).unwrap();
                assert_eq!(end.epoch.0, epoch);
                assert_eq!(end.end_offset.0, after.map_or(self.end, |record| record.offset));
            }
        }
    }
}

impl Damage {
    fn apply(&self, file: &Path, synced: u64) {
        let mut bytes = std::fs::read(file).unwrap();
        let unsynced = bytes.len() - synced as usize;
        let place = |at: &u16| synced as usize + usize::from(*at) % unsynced.max(1);
        match self {
            Self::None | Self::LostIndexes => return,
            Self::CutOff(at) => bytes.truncate(place(at)),
            Self::Zeroes(at) => {
                let from = place(at);
                bytes[from..].fill(0);
                bytes.extend([0; 100]);
            }
            Self::FlippedBit(_) if unsynced == 0 => return,
            Self::FlippedBit(at) => {
                let at = checked_place(&bytes, place(at));
                bytes[at] ^= 1 << (at % 8);
            }
            Self::Garbage(seed) => {
                bytes.extend((0..200u16).map(|i| i.wrapping_mul(seed | 1) as u8))
            }
        }
        std::fs::write(file, bytes).unwrap();
    }
}

/// `at`, or if that byte is in the part of a batch that no checksum covers (its offset and epoch),
/// a byte of its checksum.
fn checked_place(bytes: &[u8], at: usize) -> usize {
    let mut start = 0;
    while let Ok(batch) = RecordBatch::parse(&bytes[start..]) {
        if at < start + batch.len() {
            let within = at - start;
            return if within < 8 || (12..16).contains(&within) { start + 17 } else { at };
        }
        start += batch.len();
    }
    at
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        Just(Damage::None),
        Just(Damage::LostIndexes),
        any::<u16>().prop_map(Damage::CutOff),
        any::<u16>().prop_map(Damage::Zeroes),
        any::<u16>().prop_map(Damage::FlippedBit),
        any::<u16>().prop_map(Damage::Garbage),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let ages = || prop::collection::vec(any::<u8>(), 1..5);
    prop_oneof![
        12 => ages().prop_map(Step::Append),
        3 => ages().prop_map(Step::AppendMany),
        2 => Just(Step::NewLeader),
        2 => Just(Step::Flush),
        2 => Just(Step::Restart),
        3 => damage().prop_map(Step::Crash),
        1 => any::<u8>().prop_map(Step::Truncate),
        1 => (0u8..60).prop_map(Step::DeleteRecords),
        6 => (any::<u8>(), any::<u8>(), 0u16..900)
            .prop_map(|(from, bound, max_bytes)| Step::Read { from, bound, max_bytes }),
        3 => any::<u8>().prop_map(Step::FindTime),
    ]
}

proptest! {
    #[test]
    fn a_log_is_a_list_of_records(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
            model.check();
        }
    }
}
