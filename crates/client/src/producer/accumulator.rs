//! What waits to be sent, what is on its way, and what is to be done next: a plain value that is
//! told what happened. Kafka's `RecordAccumulator`, `Sender` and `TransactionManager`.
//!
//! Nothing here does I/O or looks at a clock. [`Accumulator::append`] takes a record,
//! [`Accumulator::poll`] says what is due, and [`Accumulator::answered`] takes what came of it.
//!
//! # Invariants
//! - Every batch is either queued, on the wire, or settled; memory is given back when it is settled.
//! - With idempotence, batches of a partition are sent in order, and one is sent again only behind
//!   all before it. Sequence numbers have no gap within an epoch (KIP-98, KIP-360).
//! - A batch that may have been stored is never sent under another epoch: it would be stored twice.

mod answers;
mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::record_batch::NewRecord;
use ottla_protocol::{BrokerId, Monotonic, TopicPartition};

pub(super) use self::answers::Failure;
use self::queue::{OnWire, Queue};
use super::batch::{Batch, Identity, Order, size_alone};
use super::delivery::{Outcome, SentRecord, Stored};
use super::metrics::{ProducerMetrics, Times};
use super::partitioner::{Sticky, draw, partition_for_key};
use super::{BuiltInPartitioner, Delivery, ProduceError, ProducerConfig};

/// The whole state of a producer.
#[derive(Debug)]
pub(super) struct Accumulator {
    config: ProducerConfig,
    topics: Vec<Topic>,
    index: BTreeMap<Arc<str>, usize>,
    /// The topic of the last record: most often that of the next one.
    last_topic: usize,
    /// Queues with batches, waiting or on the wire.
    active: BTreeSet<(usize, usize)>,
    brokers: BTreeMap<BrokerId, Broker>,
    identity: ProducerIdentity,
    used: usize,
    next_batch: u64,
    incomplete: BTreeSet<Order>,
    /// How many wait for [`Accumulator::flushed`].
    pub(super) flushing: usize,
    pub(super) memory: MemoryWaiters,
    pub(super) closed: bool,
    failed: Option<ProduceError>,
    /// Topics whose leaders are to be asked for.
    stale: BTreeSet<Arc<str>>,
    /// Something was settled that somebody may wait for.
    progress: bool,
    /// When [`Accumulator::poll`] wants to be called again, if nothing happens before.
    wake_at: Option<Monotonic>,
    random: u64,
    /// Whether each record's acknowledgement is noted.
    tracked: bool,
    acknowledged: Vec<Acknowledged>,
    pub(super) metrics: ProducerMetrics,
    /// Of requests, from sending to the answer.
    pub(super) latency: Times,
    /// Of batches, until they are sent for the first time.
    pub(super) queued: Times,
}

/// Who waits for memory.
#[derive(Debug, Default)]
pub(super) struct MemoryWaiters {
    waiters: usize,
    /// The most that one of them needs, about.
    wanted: usize,
}

impl MemoryWaiters {
    /// One more, who needs `size` bytes beside the overhead of a batch.
    pub(super) fn join(&mut self, size: usize) {
        self.waiters += 1;
        self.wanted = self.wanted.max(size + 256);
    }

    pub(super) fn leave(&mut self) {
        self.waiters -= 1;
        if self.waiters == 0 {
            self.wanted = 0;
        }
    }
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    queues: Vec<Queue>,
    available: Arc<[i32]>,
    sticky: Sticky,
    round_robin: usize,
}

#[derive(Debug, Default)]
struct Broker {
    connection: Link,
    in_flight: usize,
    /// Until when it wants to hear nothing: this client is over a quota (KIP-219).
    silent_until: Monotonic,
    failures: u32,
    /// Since when it takes no batch that is ready.
    stuck_since: Option<Monotonic>,
    /// The queue after the last one that was drained, so that all get their turn.
    next: (usize, usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Link {
    /// To be tried from then on.
    #[default]
    None,
    Backoff(Monotonic),
    Connecting,
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProducerIdentity {
    /// Not idempotent.
    Off,
    /// To be asked for from then on.
    Wanted(Monotonic, u32),
    Asked(u32),
    Known(Identity),
}

/// Why a record was not appended.
#[derive(Debug)]
pub(super) enum NotAppended {
    /// Nothing is known of the topic, or it has no such partition.
    Unknown,
    /// There is no memory now.
    Full,
    /// It never will be.
    Never(ProduceError),
}

/// A record that was appended.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) delivery: Delivery,
    /// Whether [`Accumulator::poll`] has something to do earlier than it said.
    pub(super) wake: bool,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) requests: Vec<(BrokerId, Vec<Batch>)>,
    pub(super) connect: Vec<BrokerId>,
    pub(super) refresh: BTreeSet<Arc<str>>,
    pub(super) ask_identity: bool,
    /// When to ask again, if nothing happens before.
    pub(super) wake_at: Option<Monotonic>,
}

/// What became of the records of a batch, one by one.
#[derive(Debug)]
pub(super) struct Acknowledged {
    pub(super) outcome: Arc<Outcome>,
    pub(super) sent: Vec<SentRecord>,
    pub(super) result: Result<Stored, ProduceError>,
}

impl Accumulator {
    pub(super) fn new(config: ProducerConfig, random: u64, tracked: bool) -> Self {
        let wanted = ProducerIdentity::Wanted(Monotonic(Duration::ZERO), 0);
        Self {
            identity: if config.idempotence { wanted } else { ProducerIdentity::Off },
            config,
            topics: Vec::new(),
            index: BTreeMap::new(),
            last_topic: 0,
            active: BTreeSet::new(),
            brokers: BTreeMap::new(),
            used: 0,
            next_batch: 0,
            incomplete: BTreeSet::new(),
            flushing: 0,
            memory: MemoryWaiters::default(),
            closed: false,
            failed: None,
            stale: BTreeSet::new(),
            progress: false,
            wake_at: None,
            random: random | 1,
            tracked,
            acknowledged: Vec::new(),
            metrics: ProducerMetrics::default(),
            latency: Times::default(),
            queued: Times::default(),
        }
    }

    /// Takes the leaders of a topic's partitions, by number.
    pub(super) fn set_topic(&mut self, name: &str, leaders: &[Option<BrokerId>]) {
        let at = self.index.get(name).copied().unwrap_or_else(|| {
            let name: Arc<str> = Arc::from(name);
            self.index.insert(name.clone(), self.topics.len());
            self.topics.push(Topic {
                name,
                queues: Vec::new(),
                available: Arc::from([]),
                sticky: Sticky::default(),
                round_robin: 0,
            });
            self.topics.len() - 1
        });
        let topic = &mut self.topics[at];
        for number in topic.queues.len()..leaders.len() {
            let partition = i32::try_from(number).unwrap_or(i32::MAX);
            topic.queues.push(Queue::new(TopicPartition::new(topic.name.clone(), partition)));
        }
        for (number, queue) in topic.queues.iter_mut().enumerate() {
            let leader = leaders.get(number).copied().flatten();
            if let Some(leader) = leader.filter(|leader| Some(*leader) != queue.leader) {
                // It has refused nothing yet (KIP-951).
                queue.retry_at = Monotonic::default();
                elected(&mut self.brokers, leader);
            }
            queue.leader = leader;
        }
        let led = topic.queues.iter().filter(|queue| queue.leader.is_some());
        topic.available = led.map(|queue| queue.partition.partition).collect();
    }

    /// Takes the leader of one partition, as a broker that is not told (KIP-951).
    pub(super) fn set_leader(&mut self, (topic, number): (usize, usize), leader: BrokerId) {
        let queue = self.topics.get_mut(topic).and_then(|topic| topic.queues.get_mut(number));
        if let Some(queue) = queue {
            queue.leader = Some(leader);
            queue.retry_at = Monotonic::default();
            elected(&mut self.brokers, leader);
        }
    }

    /// Has a partition wait until then, and no longer.
    pub(super) fn retry_at(&mut self, (topic, number): (usize, usize), at: Monotonic) {
        let queue = self.topics.get_mut(topic).and_then(|topic| topic.queues.get_mut(number));
        if let Some(queue) = queue {
            queue.retry_at = at;
        }
    }

    /// Takes note that `asked` did not store what it was asked to. If another leads by now, that one is not waited for (KIP-951).
    pub(super) fn not_led_by(&mut self, (topic, number): (usize, usize), asked: BrokerId) {
        let queue = self.topics.get_mut(topic).and_then(|topic| topic.queues.get_mut(number));
        if let Some(queue) = queue.filter(|queue| queue.leader.is_some_and(|it| it != asked)) {
            queue.retry_at = Monotonic::default();
        }
    }

    /// Has the leaders of a topic asked for that is not known.
    pub(super) fn ask_for(&mut self, topic: &str) {
        self.stale.insert(Arc::from(topic));
    }

    /// How many partitions a topic has, and which have a leader.
    pub(super) fn partitions(&mut self, topic: &str) -> Option<(i32, Arc<[i32]>)> {
        let at = self.find(topic)?;
        let topic = &self.topics[at];
        Some((i32::try_from(topic.queues.len()).ok()?, topic.available.clone()))
    }

    /// The topics that something was sent to.
    pub(super) fn topic_names(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        self.topics.iter().map(|topic| topic.name.clone())
    }

    fn find(&mut self, topic: &str) -> Option<usize> {
        if self.topics.get(self.last_topic).is_some_and(|last| *last.name == *topic) {
            return Some(self.last_topic);
        }
        self.last_topic = *self.index.get(topic)?;
        Some(self.last_topic)
    }

    /// Takes a record for `topic`, and chooses its partition if it has none.
    pub(super) fn append(
        &mut self,
        now: Monotonic,
        topic: &str,
        partition: Option<i32>,
        record: &NewRecord<'_>,
    ) -> Result<Appended, NotAppended> {
        self.check(record).map_err(NotAppended::Never)?;
        let at = self.find(topic).filter(|at| !self.topics[*at].queues.is_empty());
        let at = at.ok_or(NotAppended::Unknown)?;
        let (number, sticky) = self.choose(now, at, partition, record);
        if self.topics[at].queues.get(number).is_none() {
            return Err(NotAppended::Unknown);
        }
        if self.used + size_alone(record) > self.config.buffer_memory && self.used > 0 {
            self.metrics.buffer_exhausted_total += 1;
            return Err(NotAppended::Full);
        }
        let appended = self.append_to(now, (at, number), record);
        if sticky {
            let topic = &mut self.topics[at];
            let all_full = topic.queues[number].batches.back().is_none_or(|batch| batch.full);
            topic.sticky.appended(size_alone(record), self.config.batch_size, all_full);
        }
        Ok(appended)
    }

    fn check(&self, record: &NewRecord<'_>) -> Result<(), ProduceError> {
        if self.closed {
            return Err(ProduceError::Closed { maybe_stored: false });
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let size = size_alone(record);
        let limits = [
            (self.config.max_request_size, "max.request.size"),
            (self.config.buffer_memory, "buffer.memory"),
        ];
        match limits.into_iter().find(|(limit, _)| size > *limit) {
            Some((limit, key)) => Err(ProduceError::TooLarge { size, limit, key }),
            None => Ok(()),
        }
    }

    /// The number of a partition, and whether it is the sticky one.
    fn choose(
        &mut self,
        now: Monotonic,
        at: usize,
        given: Option<i32>,
        record: &NewRecord<'_>,
    ) -> (usize, bool) {
        let number = |partition: i32| usize::try_from(partition).unwrap_or(usize::MAX);
        if let Some(partition) = given {
            return (number(partition), false);
        }
        if self.config.partitioner == BuiltInPartitioner::RoundRobin {
            let topic = &mut self.topics[at];
            topic.round_robin = topic.round_robin.wrapping_add(1);
            let count =
                if topic.available.is_empty() { topic.queues.len() } else { topic.available.len() };
            let turn = topic.round_robin % count;
            return (topic.available.get(turn).map_or(turn, |it| number(*it)), false);
        }
        let key = record.key.filter(|_| !self.config.partitioner_ignore_keys);
        if let Some(key) = key {
            let count = i32::try_from(self.topics[at].queues.len()).unwrap_or(i32::MAX);
            return (number(partition_for_key(key, count)), false);
        }
        let topic = &mut self.topics[at];
        let leaderless = |number: usize| topic.queues[number].leader.is_none();
        let current = number(topic.sticky.current(|| -1));
        if current < topic.queues.len() && (!leaderless(current) || topic.available.is_empty()) {
            return (current, true);
        }
        topic.sticky.leave();
        let drawn = self.draw(now, at);
        (number(self.topics[at].sticky.current(|| drawn)), true)
    }

    /// A new sticky partition (KIP-794).
    fn draw(&mut self, now: Monotonic, at: usize) -> i32 {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let topic = &self.topics[at];
        let patience = self.config.partitioner_availability_timeout;
        let stuck = |leader: &BrokerId| {
            let since = self.brokers.get(leader).and_then(|broker| broker.stuck_since);
            !patience.is_zero() && since.is_some_and(|since| now.since(since) > patience)
        };
        let loads = |available: &dyn Fn(&Queue) -> bool| -> Vec<(i32, usize)> {
            let queues = topic.queues.iter().filter(|queue| available(queue));
            queues.map(|queue| (queue.partition.partition, queue.batches.len())).collect()
        };
        let adaptive = self.config.partitioner_adaptive;
        [
            loads(&|queue| queue.leader.is_some_and(|leader| !stuck(&leader))),
            loads(&|queue| queue.leader.is_some()),
            loads(&|_| true),
        ]
        .iter()
        .find_map(|loads| draw(loads, adaptive, self.random >> 11))
        .unwrap_or(0)
    }

    fn append_to(
        &mut self,
        now: Monotonic,
        at: (usize, usize),
        record: &NewRecord<'_>,
    ) -> Appended {
        let limit = self.config.batch_size;
        let queue = &mut self.topics[at.0].queues[at.1];
        let before = queue.batches.back().map_or(0, Batch::size);
        let fits = queue.batches.back_mut().is_some_and(|batch| batch.append(record, limit));
        if !fits {
            let outcome = Outcome::new(queue.partition.clone());
            let order = (self.next_batch, 0);
            self.next_batch += 1;
            let mut batch = Batch::new(outcome, at, order, now, queue.expected_size(record, limit));
            batch.append(record, limit);
            queue.batches.push_back(batch);
            self.incomplete.insert(order);
            self.active.insert(at);
        }
        let length = |bytes: Option<&[u8]>| {
            bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX))
        };
        let sent = SentRecord {
            timestamp: record.timestamp,
            key_size: length(record.key),
            value_size: length(record.value),
        };
        let (leader, several) = (queue.leader, queue.batches.len() > 1);
        let Some(batch) = queue.batches.back_mut() else { unreachable!("a batch was appended to") };
        let grown = batch.size() - if fits { before } else { 0 };
        batch.charged += grown;
        self.used += grown;
        if self.tracked {
            batch.sent.push(sent);
        }
        let delivery = Delivery { outcome: batch.outcome.clone(), index: batch.count - 1, sent };
        let due = if batch.full || several { now } else { batch.created + self.config.linger };
        let news = !fits || batch.full;
        let wake = news && self.may_send(leader) && self.wake_at.is_none_or(|at| due < at);
        Appended { delivery, wake }
    }

    /// Whether a leader takes requests, or something is to be done so that it does.
    fn may_send(&self, leader: Option<BrokerId>) -> bool {
        let broker = leader.and_then(|leader| self.brokers.get(&leader));
        broker.is_none_or(|broker| match broker.connection {
            // Who waits to try again must know that there is something to send by now.
            Link::None | Link::Backoff(_) => true,
            Link::Open => broker.in_flight < self.config.max_in_flight,
            Link::Connecting => false,
        })
    }

    /// Says what is due.
    pub(super) fn poll(&mut self, now: Monotonic) -> Step {
        let refresh = std::mem::take(&mut self.stale);
        let mut step = Step { refresh, ..Step::default() };
        self.expire(now, &mut step);
        self.settle_identities(now, &mut step);
        let ready = self.ready(now, &mut step);
        for (broker, queues) in ready {
            self.drain(now, broker, queues, &mut step);
        }
        self.wake_at = step.wake_at;
        step
    }

    /// The queues that may be drained, by leader; notes in `step` what stands in the way of others.
    fn ready(
        &mut self,
        now: Monotonic,
        step: &mut Step,
    ) -> BTreeMap<BrokerId, Vec<(usize, usize)>> {
        let mut ready: BTreeMap<BrokerId, Vec<(usize, usize)>> = BTreeMap::new();
        let urgent = self.urgent();
        for at in self.active.clone() {
            let queue = &self.topics[at.0].queues[at.1];
            let due = queue.due(urgent, &self.config);
            let Some(due) = due else { continue };
            if due > now {
                wake_by(step, due);
                continue;
            }
            let Some(leader) = queue.leader else {
                step.refresh.insert(queue.partition.topic.clone());
                continue;
            };
            if !self.identified(now, step) {
                continue;
            }
            let broker = self.brokers.entry(leader).or_default();
            let may_send = match broker.connection {
                Link::None => true,
                Link::Backoff(until) => until <= now,
                Link::Connecting => false,
                Link::Open => {
                    broker.in_flight < self.config.max_in_flight && broker.silent_until <= now
                }
            };
            if broker.connection == Link::Open && broker.silent_until > now {
                wake_by(step, broker.silent_until);
            }
            if may_send && broker.connection != Link::Open {
                broker.connection = Link::Connecting;
                step.connect.push(leader);
            } else if let Link::Backoff(until) = broker.connection {
                wake_by(step, until);
            }
            if may_send && broker.connection == Link::Open {
                ready.entry(leader).or_default().push(at);
            } else {
                broker.stuck_since.get_or_insert(now);
            }
        }
        ready
    }

    /// Whoever waits for memory or for a flush must not wait for others to fill batches.
    fn urgent(&self) -> bool {
        self.flushing > 0 || self.memory.waiters > 0 || self.closed
    }

    /// Whether there is an identity, or none is needed.
    fn identified(&mut self, now: Monotonic, step: &mut Step) -> bool {
        match self.identity {
            ProducerIdentity::Off | ProducerIdentity::Known(_) => true,
            ProducerIdentity::Asked(_) => false,
            ProducerIdentity::Wanted(from, failures) if from <= now => {
                self.identity = ProducerIdentity::Asked(failures);
                step.ask_identity = true;
                false
            }
            ProducerIdentity::Wanted(from, _) => {
                wake_by(step, from);
                false
            }
        }
    }

    /// Takes requests out of `queues`, as many as the broker may have: of each queue one batch per
    /// request, up to `max.request.size`.
    fn drain(
        &mut self,
        now: Monotonic,
        id: BrokerId,
        mut queues: Vec<(usize, usize)>,
        step: &mut Step,
    ) {
        let urgent = self.urgent();
        let broker = self.brokers.entry(id).or_default();
        queues.sort_unstable_by_key(|at| (*at < broker.next, *at));
        while broker.in_flight < self.config.max_in_flight {
            let mut request = Vec::new();
            let mut size = 0;
            for at in &queues {
                let queue = &mut self.topics[at.0].queues[at.1];
                let head = queue.batches.front().map_or(0, Batch::size);
                if size > 0 && size + head > self.config.max_request_size {
                    broker.next = *at;
                    break;
                }
                let due = queue.due(urgent, &self.config).is_some_and(|due| due <= now);
                let Some(batch) = due.then(|| queue.take(self.identity.known())).flatten() else {
                    continue;
                };
                if batch.attempts == 1 {
                    self.queued.add(now.since(batch.created));
                }
                size += head;
                queue.wire.push(OnWire::of(&batch, id));
                request.push(batch);
            }
            if request.is_empty() {
                break;
            }
            broker.in_flight += 1;
            broker.stuck_since = None;
            self.metrics.request_total += 1;
            step.requests.push((id, request));
        }
    }
}

impl ProducerIdentity {
    fn known(self) -> Option<Identity> {
        match self {
            Self::Known(identity) => Some(identity),
            Self::Off | Self::Wanted(..) | Self::Asked(_) => None,
        }
    }
}

/// Whoever is elected is alive: that it could not be reached was before.
fn elected(brokers: &mut BTreeMap<BrokerId, Broker>, leader: BrokerId) {
    if let Some(broker) = brokers.get_mut(&leader)
        && let Link::Backoff(_) = broker.connection
    {
        broker.connection = Link::None;
    }
}

fn wake_by(step: &mut Step, at: Monotonic) {
    step.wake_at = Some(step.wake_at.map_or(at, |earlier| earlier.min(at)));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
