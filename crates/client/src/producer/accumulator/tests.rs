//! Random histories against a broker that loses answers, refuses, and forgets nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::compression::{Compression, Compressor, Decompressor};
use ottla_protocol::record_batch::{NewRecord, RecordBatch, RecordError};
use ottla_protocol::{
    BrokerId, ErrorCode, Monotonic, Offset, ProducerEpoch, ProducerId, Timestamp,
};

use super::super::delivery::Stored;
use super::super::{Delivery, ProducerConfig};
use super::answers::Failure;
use super::{Accumulator, NotAppended};
use crate::ClientError;
use crate::producer::batch::Batch;

const BROKER: BrokerId = BrokerId(1);

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// A partition as a broker keeps it.
#[derive(Default)]
struct Log {
    records: Vec<u32>,
    epoch: i16,
    next_sequence: i32,
    /// First sequence and base offset of what was stored in this epoch.
    stored: BTreeMap<i32, i64>,
}

impl Log {
    fn append(&mut self, batch: &RecordBatch<'_>) -> Result<i64, ErrorCode> {
        let (epoch, sequence) = (batch.producer_epoch().0, batch.base_sequence());
        if epoch > self.epoch {
            if sequence != 0 {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
            *self = Self { records: std::mem::take(&mut self.records), epoch, ..Self::default() };
        } else if epoch < self.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if let Some(base) = self.stored.get(&sequence) {
            return Ok(*base);
        }
        if sequence != self.next_sequence {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        let base = self.records.len() as i64;
        let mut ids = Vec::new();
        let visited = batch.visit_records(&mut Decompressor::new(), usize::MAX, |record| {
            let id = record.value.and_then(|value| value.first_chunk::<4>()).unwrap();
            ids.push(u32::from_be_bytes(*id));
            Ok::<(), RecordError>(())
        });
        visited.unwrap();
        self.stored.insert(sequence, base);
        self.next_sequence += ids.len() as i32;
        self.records.extend(ids);
        Ok(base)
    }
}

struct World {
    random: Random,
    now: Monotonic,
    accumulator: Accumulator,
    logs: Vec<Log>,
    /// Requests in the order in which the broker takes them, each with what it will be told.
    wire: Vec<Vec<Batch>>,
    deliveries: Vec<(u32, Delivery)>,
    compressor: Compressor,
}

impl World {
    fn new(seed: u64) -> Self {
        let config = ProducerConfig {
            batch_size: 150,
            delivery_timeout: Duration::from_secs(40),
            ..ProducerConfig::default()
        };
        let mut accumulator = Accumulator::new(config, seed, false);
        accumulator.set_topic("t", &[Some(BROKER); 2]);
        Self {
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            now: Monotonic::default(),
            accumulator,
            logs: vec![Log::default(), Log::default()],
            wire: Vec::new(),
            deliveries: Vec::new(),
            compressor: Compressor::new(Compression::None, None),
        }
    }

    fn send(&mut self, id: u32) {
        let value = id.to_be_bytes();
        let record =
            NewRecord { timestamp: Timestamp(1), value: Some(&value), ..NewRecord::default() };
        let partition = (id % 2) as i32;
        match self.accumulator.append(self.now, "t", Some(partition), &record) {
            Ok(appended) => self.deliveries.push((id, appended.delivery)),
            Err(NotAppended::Full | NotAppended::Unknown | NotAppended::Never(_)) => {
                panic!("{id} was not appended")
            }
        }
    }

    fn step(&mut self) {
        let step = self.accumulator.poll(self.now);
        if step.ask_identity {
            self.accumulator.identified_as((ProducerId(7), ProducerEpoch(0)));
        }
        for broker in step.connect {
            self.accumulator.connected(broker);
        }
        self.wire.extend(step.requests.into_iter().map(|(_, request)| request));
    }

    /// The broker answers the first request, or the connection is lost with all of them.
    fn answer(&mut self, faults: bool) {
        if self.wire.is_empty() {
            return;
        }
        let lost = faults && self.random.below(10) == 0;
        let count = if lost { self.wire.len() } else { 1 };
        // Of a lost connection some requests arrived, then none.
        let arrived = if lost { self.random.below(count as u64 + 1) as usize } else { 1 };
        let requests: Vec<_> = self.wire.drain(..count).collect();
        for (at, request) in requests.into_iter().enumerate() {
            for mut batch in request {
                let bytes = batch.seal(&mut self.compressor).unwrap();
                let refuses = faults && self.random.below(12) == 0;
                let fatal = self.random.below(3) == 0;
                let log = &mut self.logs[batch.queue.1];
                let result = if at >= arrived {
                    Err(ErrorCode::None)
                } else if refuses {
                    // Whoever loses its lead says so before an append, and after it as well.
                    let late = !fatal && self.random.below(2) == 0;
                    late.then(|| log.append(&RecordBatch::parse(&bytes).unwrap()));
                    Err(if fatal {
                        ErrorCode::InvalidRecord
                    } else {
                        ErrorCode::NotLeaderOrFollower
                    })
                } else {
                    log.append(&RecordBatch::parse(&bytes).unwrap())
                };
                let failure = |error| Failure { error: Arc::new(error), record_errors: Vec::new() };
                let closed =
                    || ClientError::Closed { address: "b".into(), reason: "lost".to_owned() };
                let result = match result {
                    _ if lost => Err(failure(closed())),
                    Ok(base) => {
                        Ok(Stored { base_offset: Offset(base), log_append_time: Timestamp::NONE })
                    }
                    Err(code) => Err(failure(ClientError::refused(code))),
                };
                self.accumulator.answered(self.now, batch, result);
            }
            self.accumulator.request_done(self.now, BROKER, lost);
        }
    }

    fn check(&self, seed: u64) {
        let mut stored = BTreeSet::new();
        for log in &self.logs {
            for id in &log.records {
                assert!(stored.insert(*id), "seed {seed}: {id} is stored twice");
            }
        }
        let mut last = [None, None];
        for (id, delivery) in &self.deliveries {
            let number = (id % 2) as usize;
            let result = delivery.now();
            match result.unwrap_or_else(|| panic!("seed {seed}: nothing known of {id}")) {
                Ok(metadata) => {
                    let at = metadata.offset.0 as usize;
                    assert_eq!(self.logs[number].records[at], *id, "seed {seed}");
                    assert!(last[number] < Some(at), "seed {seed}: {id} is out of order");
                    last[number] = Some(at);
                }
                Err(error) if error.maybe_stored() => {}
                Err(error) => assert!(!stored.contains(id), "seed {seed}: {id} is stored: {error}"),
            }
        }
        assert_eq!(self.accumulator.used(), 0, "seed {seed}");
    }
}

#[test]
fn every_record_is_stored_once_and_in_order_or_said_to_have_failed() {
    for seed in 1..400 {
        let mut world = World::new(seed);
        for id in 0..200 {
            world.send(id);
            while world.random.below(3) > 0 {
                match world.random.below(3) {
                    0 => world.now = world.now + Duration::from_millis(world.random.below(20)),
                    1 => world.step(),
                    _ => world.answer(true),
                }
            }
        }
        for _ in 0..2_000 {
            world.now = world.now + Duration::from_millis(10);
            world.step();
            world.answer(false);
        }
        world.check(seed);
    }
}

#[test]
fn a_broker_that_wants_silence_is_sent_nothing_until_it_is_over() {
    let mut world = World::new(1);
    world.send(0);
    while world.wire.is_empty() {
        world.step();
        world.now = world.now + Duration::from_millis(1);
    }
    world.accumulator.throttled(BROKER, world.now + Duration::from_secs(5));
    world.accumulator.throttled(BROKER, world.now + Duration::from_secs(3));
    world.answer(false);
    world.send(1);
    world.now = world.now + Duration::from_millis(4999);
    let step = world.accumulator.poll(world.now);
    assert!(step.requests.is_empty());
    assert_eq!(step.wake_at, Some(world.now + Duration::from_millis(1)));
    world.now = world.now + Duration::from_millis(1);
    world.step();
    assert_eq!(world.wire.len(), 1);
}

#[test]
fn one_request_in_flight_keeps_order_when_the_leader_changes() {
    let mut world = World::new(1);
    let config = ProducerConfig {
        idempotence: false,
        max_in_flight: 1,
        linger: Duration::ZERO,
        ..ProducerConfig::default()
    };
    world.accumulator = Accumulator::new(config, 1, false);
    let other = BrokerId(BROKER.0 + 1);
    world.accumulator.set_topic("t", &[Some(BROKER)]);
    for broker in [BROKER, other] {
        world.accumulator.connected(broker);
    }
    world.send(0);
    assert_eq!(world.accumulator.poll(world.now).requests.len(), 1);
    world.accumulator.set_topic("t", &[Some(other)]);
    world.send(2);
    assert!(world.accumulator.poll(world.now).requests.is_empty(), "the first has no answer yet");
}

#[test]
fn a_leader_that_has_refused_nothing_is_not_waited_for() {
    let other = BrokerId(BROKER.0 + 1);
    let refuse = || {
        let mut world = World::new(1);
        world.accumulator.connected(other);
        world.send(0);
        world.now = world.now + Duration::from_millis(5);
        (0..3).for_each(|_| world.step());
        let batch = world.wire.remove(0).remove(0);
        let error = Arc::new(ClientError::refused(ErrorCode::NotLeaderOrFollower));
        let (queue, refused) = (batch.queue, Failure { error, record_errors: Vec::new() });
        world.accumulator.answered(world.now, batch, Err(refused));
        world.accumulator.request_done(world.now, BROKER, false);
        (world, queue)
    };
    let sent_to = |world: &mut World| {
        let step = world.accumulator.poll(world.now);
        step.requests.into_iter().map(|(broker, _)| broker).collect::<Vec<_>>()
    };
    let (mut world, queue) = refuse();
    world.accumulator.not_led_by(queue, BROKER);
    world.accumulator.set_topic("t", &[Some(BROKER); 2]);
    assert_eq!(sent_to(&mut world), [], "the one that refused is asked again later");
    world.accumulator.set_topic("t", &[Some(other); 2]);
    assert_eq!(sent_to(&mut world), [other]);
    // It may be known before the answer comes.
    let (mut world, queue) = refuse();
    world.accumulator.topics[queue.0].queues[queue.1].leader = Some(other);
    assert_eq!(sent_to(&mut world), []);
    world.accumulator.not_led_by(queue, BROKER);
    assert_eq!(sent_to(&mut world), [other]);
}

#[test]
fn whoever_is_elected_is_connected_to_at_once_however_long_it_was_out_of_reach() {
    let mut world = World::new(1);
    let other = BrokerId(BROKER.0 + 1);
    (0..5).for_each(|_| world.accumulator.not_connected(world.now, other));
    world.send(0);
    world.now = world.now + Duration::from_millis(5);
    world.step();
    world.accumulator.set_topic("t", &[Some(other); 2]);
    assert_eq!(world.accumulator.poll(world.now).connect, [other]);
}

#[test]
fn nothing_new_is_sent_to_a_leader_while_another_owes_answers() {
    let mut world = World::new(1);
    let other = BrokerId(BROKER.0 + 1);
    world.accumulator.connected(other);
    let mut sent = Vec::new();
    for id in [0, 2, 4] {
        world.send(id);
        world.now = world.now + Duration::from_millis(5);
        (0..3).for_each(|_| world.step());
        // The first is stored, so that the leader knows the producer.
        if id == 0 {
            world.answer(false);
        }
    }
    sent.append(&mut world.wire);
    assert_eq!(sent.len(), 2, "two requests wait for their answers");
    world.accumulator.set_topic("t", &[Some(other); 2]);
    world.send(6);
    world.now = world.now + Duration::from_millis(5);
    assert!(world.accumulator.poll(world.now).requests.is_empty(), "it would overtake both");
    for request in sent {
        for batch in request {
            let error = Arc::new(ClientError::refused(ErrorCode::NotLeaderOrFollower));
            let (queue, refused) = (batch.queue, Failure { error, record_errors: Vec::new() });
            world.accumulator.answered(world.now, batch, Err(refused));
            world.accumulator.not_led_by(queue, BROKER);
        }
        world.accumulator.request_done(world.now, BROKER, false);
    }
    let step = world.accumulator.poll(world.now);
    assert!(step.requests.iter().all(|(broker, _)| *broker == other));
    let first = step.requests.iter().flat_map(|(_, batches)| batches).next().unwrap();
    assert_eq!(first.attempts, 2, "the oldest goes first");
}

#[test]
fn a_record_that_nobody_takes_expires() {
    let mut world = World::new(1);
    world.send(0);
    world.now = world.now + Duration::from_secs(41);
    world.step();
    let error = world.deliveries[0].1.now().unwrap().unwrap_err();
    assert!(!error.maybe_stored() && error.is_retriable(), "{error}");
}

#[test]
fn a_batch_waits_for_others_until_it_is_full_or_old() {
    let mut world = World::new(1);
    world.step();
    world.send(0);
    let sent = |world: &mut World| {
        // One step asks for an identity, one connects, one sends.
        (0..3).for_each(|_| world.step());
        world.wire.len()
    };
    assert_eq!(sent(&mut world), 0);
    world.now = world.now + Duration::from_millis(5);
    assert_eq!(sent(&mut world), 1);
    (2..60).step_by(2).for_each(|id| world.send(id));
    assert_eq!(
        sent(&mut world),
        1,
        "nothing overtakes the first that the leader sees of a producer"
    );
    world.answer(false);
    assert_eq!(sent(&mut world), 3, "three full ones go at once, the last one waits");
    let queued = &world.accumulator.queued;
    let average = Duration::from_micros(1250);
    assert_eq!((queued.average(), queued.max), (average, Duration::from_millis(5)));
}

#[test]
fn a_connection_that_ended_is_made_anew_before_anything_is_sent() {
    let mut world = World::new(1);
    world.send(0);
    while world.wire.is_empty() {
        world.step();
        world.now = world.now + Duration::from_millis(1);
    }
    assert!(!world.accumulator.disconnected(BROKER), "what is under way will tell");
    world.answer(false);
    assert!(world.accumulator.disconnected(BROKER));
    world.send(1);
    world.now = world.now + Duration::from_millis(5);
    let step = world.accumulator.poll(world.now);
    assert_eq!((step.connect, step.requests.len()), (vec![BROKER], 0));
}
