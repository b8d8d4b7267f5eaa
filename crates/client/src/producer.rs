//! Sends records to topics, many at once, in order, and each once. Kafka's `KafkaProducer`.
//!
//! [`Producer::send`] puts a record into a batch of its partition and returns a [`Delivery`]: a
//! future that tells where the record was stored. One task per producer sends the batches when they
//! are full (`batch.size`) or old enough (`linger.ms`), several partitions in one request, and up to
//! `max.in.flight.requests.per.connection` requests per broker at once.
//!
//! What may pass is tried again until `delivery.timeout.ms`. With `enable.idempotence`, which is the
//! default, a batch that is sent again is never stored twice, and order is kept (KIP-98, KIP-360).
//!
//! What it does for a program is told in [`crate::guide::producing`].

mod accumulator;
mod batch;
mod config;
mod delivery;
mod error;
mod interceptor;
mod metrics;
mod partitioner;
mod record;
mod sender;
mod serializer;

use std::sync::Arc;
use std::time::Duration;

use ottla_env::Env;
use ottla_protocol::record_batch::NewRecord;
use ottla_protocol::{ErrorCode, Monotonic, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub use self::config::{Acks, BuiltInPartitioner, ProducerConfig};
pub use self::delivery::Delivery;
pub use self::error::ProduceError;
pub use self::interceptor::ProducerInterceptor;
pub use self::metrics::ProducerMetrics;
pub use self::partitioner::{Partitioner, Partitions, partition_for_key};
pub use self::record::{ProducerRecord, RecordBytes, RecordHeader, RecordMetadata};
pub use self::serializer::{SerializeError, Serializer, SerializingProducer, TextSerializer};

use self::accumulator::{Accumulator, Appended, NotAppended};
use self::sender::Sender;
use crate::{Client, ClientError, ClusterMetadata};

/// Sends records to topics, many at once, in order, and each once. Kafka's `KafkaProducer`.
///
/// Clones share everything. The guide has [a chapter](crate::guide::producing) on it.
#[derive(Clone)]
pub struct Producer(Arc<Handle>);

/// Closes the producer when the last clone goes.
struct Handle(Arc<Shared>);

/// What a producer's handles and its task share.
struct Shared {
    client: Client,
    config: ProducerConfig,
    accumulator: Mutex<Accumulator>,
    /// There is something for the task to do.
    wake: Notify,
    /// Something was settled.
    progress: Notify,
    interceptors: Vec<Arc<dyn ProducerInterceptor>>,
    partitioner: Option<Arc<dyn Partitioner>>,
}

/// Makes a [`Producer`] with code of the program's own.
pub struct ProducerBuilder {
    config: ProducerConfig,
    interceptors: Vec<Arc<dyn ProducerInterceptor>>,
    partitioner: Option<Arc<dyn Partitioner>>,
}

impl ProducerBuilder {
    /// Calls this interceptor too, behind those given before: Kafka's `interceptor.classes`.
    pub fn interceptor(mut self, interceptor: Arc<dyn ProducerInterceptor>) -> Self {
        self.interceptors.push(interceptor);
        self
    }

    /// Asks this partitioner first: Kafka's `partitioner.class`.
    pub fn partitioner(mut self, partitioner: Arc<dyn Partitioner>) -> Self {
        self.partitioner = Some(partitioner);
        self
    }

    /// [`Producer::connect`].
    pub async fn connect(self, env: &Env) -> Result<Producer, ClientError> {
        let common = &self.config.common;
        let options = common.connection_options();
        let client = Client::connect(env, common.bootstrap_servers.clone(), options).await?;
        Ok(self.over(client))
    }

    /// Sends through `client`, whose connections may be used by others as well.
    pub fn over(self, client: Client) -> Producer {
        let random = client.env().rng.next_u64();
        let tracked = !self.interceptors.is_empty();
        let shared = Arc::new(Shared {
            accumulator: Mutex::new(Accumulator::new(self.config.clone(), random, tracked)),
            client,
            config: self.config,
            wake: Notify::new(),
            progress: Notify::new(),
            interceptors: self.interceptors,
            partitioner: self.partitioner,
        });
        shared.env().spawn("producer", Sender::new(shared.clone()).run());
        Producer(Arc::new(Handle(shared)))
    }
}

impl Producer {
    /// Connects to one of `bootstrap.servers` and sends to its cluster.
    pub async fn connect(env: &Env, config: ProducerConfig) -> Result<Self, ClientError> {
        Self::builder(config).connect(env).await
    }

    /// A producer with interceptors or a partitioner.
    pub fn builder(config: ProducerConfig) -> ProducerBuilder {
        ProducerBuilder { config, interceptors: Vec::new(), partitioner: None }
    }

    /// Puts `record` into a batch. Waits, for at most `max.block.ms`, only where its topic is not
    /// known yet or `buffer.memory` is full.
    ///
    /// Records that are sent to a partition one after the other are stored in that order.
    pub async fn send(&self, mut record: ProducerRecord<'_>) -> Result<Delivery, ProduceError> {
        let shared = &*self.0.0;
        for interceptor in &shared.interceptors {
            interceptor.on_send(&mut record);
        }
        match shared.append(&record)? {
            Ok(delivery) => Ok(delivery),
            // Boxed: it is large, and rarely needed.
            Err(obstacle) => Box::pin(shared.append_later(&record, obstacle)).await,
        }
    }

    /// [`Producer::send`] that never waits: `None` where it would have to.
    pub fn try_send(
        &self,
        mut record: ProducerRecord<'_>,
    ) -> Result<Option<Delivery>, ProduceError> {
        let shared = &*self.0.0;
        for interceptor in &shared.interceptors {
            interceptor.on_send(&mut record);
        }
        let appended = shared.append(&record)?;
        if matches!(appended, Err(Obstacle::Unknown)) {
            shared.accumulator.lock().ask_for(&record.topic);
            shared.wake.notify_one();
        }
        Ok(appended.ok())
    }

    /// Sends what waits at once, and waits until it is known of every record sent before this call
    /// what became of it.
    pub async fn flush(&self) {
        let shared = &*self.0.0;
        let mark = {
            let mut accumulator = shared.accumulator.lock();
            accumulator.flushing += 1;
            accumulator.flush_mark()
        };
        let _waiting = Waiting(shared, |accumulator| accumulator.flushing -= 1);
        shared.wake.notify_one();
        loop {
            let progress = shared.progress.notified();
            if shared.accumulator.lock().flushed(mark) {
                return;
            }
            progress.await;
        }
    }

    /// Takes no more records, waits until those sent are stored, for at most `timeout`, and fails
    /// the rest with [`ProduceError::Closed`].
    pub async fn close(&self, timeout: Duration) {
        let shared = &*self.0.0;
        shared.close();
        if shared.env().timeout(timeout, self.flush()).await.is_err() {
            let closed = |_: &_, maybe_stored| ProduceError::Closed { maybe_stored };
            shared.accumulator.lock().give_up(closed);
            shared.wake.notify_one();
        }
    }

    /// What it has done so far.
    pub fn metrics(&self) -> ProducerMetrics {
        let shared = &*self.0.0;
        let accumulator = shared.accumulator.lock();
        let total = shared.config.buffer_memory;
        ProducerMetrics {
            buffer_total_bytes: total as u64,
            buffer_available_bytes: total.saturating_sub(accumulator.used()) as u64,
            request_latency_avg: accumulator.latency.average(),
            request_latency_max: accumulator.latency.max,
            record_queue_time_avg: accumulator.queued.average(),
            record_queue_time_max: accumulator.queued.max,
            ..accumulator.metrics
        }
    }

    /// The cluster it sends to.
    pub fn client(&self) -> &Client {
        &self.0.0.client
    }

    /// How it behaves.
    pub fn config(&self) -> &ProducerConfig {
        &self.0.0.config
    }
}

/// Why a record has to wait.
enum Obstacle {
    Unknown,
    Full,
}

/// Takes back, when dropped, that somebody waits.
struct Waiting<'a>(&'a Shared, fn(&mut Accumulator));

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.1(&mut self.0.accumulator.lock());
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Shared {
    fn env(&self) -> &Env {
        self.client.env()
    }

    fn now(&self) -> Monotonic {
        self.env().clock.now()
    }

    fn close(&self) {
        self.accumulator.lock().closed = true;
        self.wake.notify_one();
    }

    /// Takes over the leaders of all topics.
    fn learn(&self, metadata: &ClusterMetadata) {
        let mut accumulator = self.accumulator.lock();
        for (name, topic) in &metadata.topics {
            if topic.error_code.is_none() {
                let count = topic.partitions.keys().next_back().map_or(0, |last| last + 1);
                let leader =
                    |number| topic.partitions.get(&number).and_then(|partition| partition.leader);
                accumulator.set_topic(name, &(0..count).map(leader).collect::<Vec<_>>());
            }
        }
    }

    /// Appends a record, unless something stands in the way that may go.
    fn append(
        &self,
        record: &ProducerRecord<'_>,
    ) -> Result<Result<Delivery, Obstacle>, ProduceError> {
        let headers: Vec<_> =
            record.headers.iter().map(|(key, value)| (&**key, value.as_deref())).collect();
        let timestamp = record.timestamp.unwrap_or_else(|| self.env().clock.wall());
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        if record.partition.is_some_and(|partition| partition < 0) || timestamp.0 < 0 {
            let text = "its partition and its timestamp must not be negative";
            return Err(ProduceError::Invalid(text.to_owned()));
        }
        let partition = match (&self.partitioner, record.partition) {
            (Some(partitioner), None) => {
                let known = self.accumulator.lock().partitions(&record.topic);
                let Some((count, available)) = known else { return Ok(Err(Obstacle::Unknown)) };
                let partitions = Partitions { count, available: &available };
                let chosen = partitioner.partition(&record.topic, key, value, &partitions);
                if let Some(wrong) = chosen.filter(|it| !(0..count).contains(it)) {
                    let text = format!("the partitioner chose {wrong} of {count} partitions");
                    return Err(ProduceError::Invalid(text));
                }
                chosen
            }
            (_, given) => given,
        };
        let new = NewRecord { timestamp, key, value, headers: &headers };
        let now = self.now();
        let appended = self.accumulator.lock().append(now, &record.topic, partition, &new);
        match appended {
            Ok(Appended { delivery, wake }) => {
                if wake {
                    self.wake.notify_one();
                }
                Ok(Ok(delivery))
            }
            Err(NotAppended::Unknown) => Ok(Err(Obstacle::Unknown)),
            Err(NotAppended::Full) => Ok(Err(Obstacle::Full)),
            Err(NotAppended::Never(error)) => Err(error),
        }
    }

    /// Appends a record once nothing stands in the way any more.
    async fn append_later(
        &self,
        record: &ProducerRecord<'_>,
        mut obstacle: Obstacle,
    ) -> Result<Delivery, ProduceError> {
        let max_block = self.config.max_block;
        let deadline = self.now() + max_block;
        let mut failures = 0;
        loop {
            match obstacle {
                Obstacle::Unknown => {
                    Box::pin(self.learn_topic(record, deadline, failures)).await?;
                    failures += 1;
                }
                Obstacle::Full => self.await_memory(record, deadline).await?,
            }
            match self.append(record)? {
                Ok(delivery) => return Ok(delivery),
                Err(next) => obstacle = next,
            }
        }
    }

    /// Asks for the topic of a record.
    async fn learn_topic(
        &self,
        record: &ProducerRecord<'_>,
        deadline: Monotonic,
        failures: u32,
    ) -> Result<(), ProduceError> {
        let clock = &self.env().clock;
        let failed = |error| ProduceError::NoMetadata {
            partition: TopicPartition::new(&*record.topic, record.partition.unwrap_or(-1)),
            waited: self.config.max_block,
            error: Arc::new(error),
        };
        let left = deadline.since(clock.now());
        if failures > 0 {
            let wait = self.config.common.retry_backoff_after(failures, 0.5);
            clock.sleep(wait.min(left)).await;
        }
        let topics = [&*record.topic];
        let asked = Box::pin(self.client.refresh_metadata(&topics));
        let unknown = || ClientError::refused(ErrorCode::UnknownTopicOrPartition);
        let answer = self.env().timeout(deadline.since(clock.now()), asked).await;
        let error = match answer {
            Ok(Ok(metadata)) => {
                self.learn(&metadata);
                let topic = metadata.topics.get(&*record.topic);
                let code = topic.map_or(ErrorCode::UnknownTopicOrPartition, |it| it.error_code);
                let exists = topic.is_some_and(|topic| {
                    let wanted = record.partition.unwrap_or(0);
                    topic.partitions.contains_key(&wanted)
                });
                match ClientError::check(code, None) {
                    Ok(()) if exists => return Ok(()),
                    Ok(()) => unknown(),
                    Err(error) => error,
                }
            }
            Ok(Err(error)) => error,
            Err(_) => unknown(),
        };
        if clock.now() >= deadline || !error.is_retriable() {
            return Err(failed(error));
        }
        Ok(())
    }

    async fn await_memory(
        &self,
        record: &ProducerRecord<'_>,
        deadline: Monotonic,
    ) -> Result<(), ProduceError> {
        let progress = self.progress.notified();
        let length =
            |bytes: &Option<std::borrow::Cow<'_, [u8]>>| bytes.as_ref().map_or(0, |it| it.len());
        let headers = record.headers.iter().map(|(key, value)| key.len() + length(value) + 10);
        let size = length(&record.key) + length(&record.value) + headers.sum::<usize>();
        self.accumulator.lock().memory.join(size);
        let _waiting = Waiting(self, |accumulator| accumulator.memory.leave());
        self.wake.notify_one();
        let left = deadline.since(self.now());
        if left.is_zero() || self.env().timeout(left, progress).await.is_err() {
            let (waited, limit) = (self.config.max_block, self.config.buffer_memory);
            return Err(ProduceError::BufferFull { waited, limit });
        }
        Ok(())
    }
}
