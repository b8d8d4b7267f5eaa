//! Random histories of a compacted log against a list of records.

use std::collections::BTreeMap;

use ottla_protocol::compression::{Compression, Compressor, Decompressor};
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder, RecordError, batches};
use ottla_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp};
use ottla_storage::CleanerLimits;
use proptest::prelude::*;

use super::{HOUR, compacted};
use crate::single_log::{NOW, SingleLog};

const RETENTION: i64 = 10 * HOUR;
const SEGMENT_BYTES: u32 = 500;

#[derive(Clone, Debug)]
enum Step {
    /// A key for each record, and whether it is deleted.
    Append(Vec<(u8, bool)>, usize),
    Roll,
    /// Hours later, with room for so many keys.
    Clean(u8, Option<u8>),
    Restart,
    Crash {
        indexes_lost: bool,
    },
    Truncate(u8),
    Read(u8, u16),
    FindTime(u8),
}

#[derive(Clone, Debug, PartialEq)]
struct Record {
    offset: i64,
    key: u8,
    value: Option<i64>,
    /// First and last offset of the batch it came in.
    batch: (i64, i64),
}

struct Model {
    log: SingleLog,
    /// Those that must still be there.
    records: Vec<Record>,
    end: i64,
    first_dirty: i64,
    /// When the tombstones of a batch may go, by its first offset.
    horizons: BTreeMap<i64, i64>,
    now: i64,
    /// The producer, and the sequence number of its next record.
    producer: (i64, i32),
}

impl Model {
    fn new() -> Self {
        let mut config = compacted(SEGMENT_BYTES);
        config.delete_retention_ms = std::time::Duration::from_millis(RETENTION as u64);
        Self {
            log: SingleLog::new(config),
            records: Vec::new(),
            end: 0,
            first_dirty: 0,
            horizons: BTreeMap::new(),
            now: NOW.0,
            producer: (1, 0),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(keys, codec) => self.append(&keys, Compression::ALL[codec]),
            Step::Roll => self.append(&[(255, false); 12], Compression::None),
            Step::Clean(hours, room) => self.clean(hours, room),
            Step::Restart => self.log.restart(),
            Step::Crash { indexes_lost } => {
                if indexes_lost {
                    for file in self.log.files("index").iter().chain(&self.log.files("timeindex")) {
                        std::fs::remove_file(file).unwrap();
                    }
                }
                self.log.crash();
            }
            Step::Truncate(at) => self.truncate(self.pick(at)),
            Step::Read(from, max_bytes) => {
                let from = self.pick(from);
                let mut expected = self.records.clone();
                expected.retain(|record| record.offset >= from);
                assert_eq!(self.read(from, usize::from(max_bytes)), expected);
            }
            Step::FindTime(at) => self.find_time(self.pick(at)),
        }
        assert_eq!(self.log.log.log_end_offset().0, self.end);
        assert_eq!(self.read(0, usize::MAX), self.records);
    }

    fn pick(&self, at: u8) -> i64 {
        i64::from(at) * self.end / 255
    }

    fn append(&mut self, keys: &[(u8, bool)], codec: Compression) {
        let mut builder = RecordBatchBuilder::new();
        let batch = (self.end, self.end + keys.len() as i64 - 1);
        for (key, deleted) in keys {
            let value = (!deleted).then_some(self.end);
            builder.append(&NewRecord {
                timestamp: Timestamp(NOW.0 + self.end),
                key: Some(&[*key]),
                value: value.map(i64::to_be_bytes).as_ref().map(|value| &value[..]),
                headers: &[],
            });
            self.records.push(Record { offset: self.end, key: *key, value, batch });
            self.end += 1;
        }
        // What is known of a producer must stand in the log, whatever is compacted.
        let (producer, sequence) = self.producer;
        let builder = builder.producer(ProducerId(producer), ProducerEpoch(0), sequence);
        self.producer.1 += keys.len() as i32;
        let bytes = builder.build_compressed(&mut Compressor::new(codec, None)).unwrap();
        self.log.append(&bytes).unwrap();
        self.log.log.set_high_watermark(self.log.log.log_end_offset());
    }

    fn clean(&mut self, hours: u8, room: Option<u8>) {
        self.now += i64::from(hours) * HOUR;
        let mut limits = CleanerLimits { io_buffer_bytes: 200, ..CleanerLimits::default() };
        if let Some(keys) = room {
            limits.dedupe_buffer_bytes = u64::from(keys) * 24;
        }
        let stats = self.log.log.clean(&limits, Timestamp(self.now)).unwrap();
        assert_eq!(stats.first_dirty.0, self.first_dirty);
        let to = stats.cleaned_to.0;
        assert!(to >= self.first_dirty && to <= self.end);
        if to == self.first_dirty {
            return;
        }
        self.first_dirty = to;
        let (now, all) = (self.now, self.records.clone());
        let is_latest = |record: &Record| {
            !all.iter().any(|o| o.key == record.key && o.offset > record.offset && o.offset < to)
        };
        let horizons = &self.horizons;
        let passed = |record: &Record| horizons.get(&record.batch.0).is_some_and(|at| *at <= now);
        self.records.retain(|record| {
            record.offset >= to
                || (is_latest(record) && (record.value.is_some() || !passed(record)))
        });
        for record in &self.records {
            if record.value.is_none() && record.offset < to {
                self.horizons.entry(record.batch.0).or_insert(now + RETENTION);
            }
        }
    }

    fn truncate(&mut self, to: i64) {
        self.log.log.truncate_to(Offset(to)).unwrap();
        let end = self.log.log.log_end_offset().0;
        assert!(end <= to || to == self.end, "{end} after truncating to {to}");
        if let Some(kept) = self.records.iter().rfind(|record| record.batch.1 < to) {
            assert!(end > kept.offset, "{kept:?} was cut off");
        }
        self.records.retain(|record| record.offset < end);
        self.horizons.retain(|batch, _| *batch < end);
        self.first_dirty = self.first_dirty.min(end);
        if end < self.end {
            // What the log knows of the old one may be more than what is left of its batches.
            self.producer = (self.producer.0 + 1, 0);
        }
        self.end = end;
    }

    /// What a consumer sees that begins at `from` and reads `max_bytes` at a time.
    fn read(&self, mut from: i64, max_bytes: usize) -> Vec<Record> {
        let (log, mut found) = (&self.log.log, Vec::new());
        loop {
            let data = log.read(Offset(from), max_bytes, true, log.log_end_offset()).unwrap();
            if data.is_empty() {
                return found;
            }
            for batch in batches(&data.read().unwrap()) {
                let batch = batch.unwrap();
                assert!(batch.crc_is_valid());
                assert!(batch.last_offset().0 >= from);
                let place = (batch.base_offset().0, batch.last_offset().0);
                batch
                    .visit_records(&mut Decompressor::new(), 1 << 20, |record| {
                        let offset = batch.offset_of(&record).0;
                        assert_eq!(batch.timestamp_of(&record).0, NOW.0 + offset);
                        let key = record.key.unwrap()[0];
                        let value = record.value.map(|v| i64::from_be_bytes(v.try_into().unwrap()));
                        if offset >= from {
                            found.push(Record { offset, key, value, batch: place });
                        }
                        Ok::<_, RecordError>(())
                    })
                    .unwrap();
                from = batch.next_offset().0;
            }
        }
    }

    fn find_time(&self, offset: i64) {
        let found = self.log.log.offset_for_timestamp(Timestamp(NOW.0 + offset)).unwrap();
        let expected = self.records.iter().find(|record| record.offset >= offset);
        assert_eq!(found.map(|found| found.offset.0), expected.map(|record| record.offset));
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop::collection::vec((0u8..6, prop::bool::weighted(0.2)), 1..6), 0usize..5)
            .prop_map(|(keys, codec)| Step::Append(keys, codec)),
        3 => Just(Step::Roll),
        4 => (0u8..8, prop::option::of(3u8..7)).prop_map(|(h, room)| Step::Clean(h, room)),
        1 => Just(Step::Restart),
        2 => any::<bool>().prop_map(|indexes_lost| Step::Crash { indexes_lost }),
        1 => any::<u8>().prop_map(Step::Truncate),
        2 => (any::<u8>(), 1u16..700).prop_map(|(from, max)| Step::Read(from, max)),
        1 => any::<u8>().prop_map(Step::FindTime),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn of_each_key_the_last_record_stays_through_any_history(
        steps in prop::collection::vec(step(), 1..50),
    ) {
        let mut model = Model::new();
        steps.into_iter().for_each(|step| model.step(step));
    }
}
