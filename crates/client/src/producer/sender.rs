//! The task behind a producer: does what [`Accumulator::poll`] says and tells it what came of it.
//! Kafka's `Sender`, without the decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ottla_env::BoxFuture;
use ottla_protocol::compression::Compressor;
use ottla_protocol::messages::InitProducerIdRequest;
use ottla_protocol::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use ottla_protocol::{
    ApiKey, BrokerId, ErrorCode, LeaderIdAndEpoch, Monotonic, NodeEndpoint, Offset, ProducerEpoch,
    ProducerId, StrBytes, Timestamp, TopicRef, message,
};
use tokio::sync::oneshot;

use super::Shared;
use super::accumulator::{Failure, Step};
use super::batch::{Batch, Identity};
use super::delivery::{Outcome, Stored};
use crate::client::{FIRST_VERSION_BY_ID, LAG};
use crate::silence::{ASK_AGAIN, SILENCE};
use crate::{ClientError, ClusterMetadata, Connection};

pub(super) struct Sender {
    shared: Arc<Shared>,
    connections: BTreeMap<BrokerId, Connection>,
    compressor: Compressor,
    doing: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Requests that were sent and not answered, in the order in which they were.
    unanswered: BTreeMap<u64, Unanswered>,
    next_request: u64,
    /// Topics to ask for, and from when on.
    refresh: BTreeSet<Arc<str>>,
    refreshing: bool,
    refresh_from: Monotonic,
    refreshed: Monotonic,
    refresh_failures: u32,
}

/// A request that waits for its answer.
struct Unanswered {
    broker: BrokerId,
    /// When it was sent, or when leaders were last asked for because of it.
    since: Monotonic,
    /// Whether leaders were asked for.
    silent: bool,
    partitions: Vec<Arc<Outcome>>,
    /// Has it wait no longer.
    give_up: oneshot::Sender<()>,
}

impl Unanswered {
    /// When others are asked about its broker.
    fn asks_at(&self) -> Monotonic {
        self.since + if self.silent { ASK_AGAIN } else { SILENCE }
    }
}

/// A request that was sent.
struct Sent {
    number: u64,
    broker: BrokerId,
    at: Monotonic,
    batches: Vec<Batch>,
    /// What was known of topics then: the answer calls them by their ids of then.
    metadata: Arc<ClusterMetadata>,
}

/// What came of something.
enum Event {
    Connected(BrokerId, Result<Connection, ClientError>),
    Answered(Sent, Result<Option<ProduceResponse>, ClientError>),
    Refreshed(Result<Arc<ClusterMetadata>, ClientError>),
    Identified(Result<Identity, ClientError>),
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let config = &shared.config;
        let compressor = Compressor::new(config.compression, config.compression_level);
        let now = shared.now();
        Self {
            shared,
            connections: BTreeMap::new(),
            compressor,
            doing: FuturesUnordered::new(),
            unanswered: BTreeMap::new(),
            next_request: 0,
            refresh: BTreeSet::new(),
            refreshing: false,
            refresh_from: now,
            refreshed: now,
            refresh_failures: 0,
        }
    }

    /// Runs until the producer is closed and nothing is left to send.
    pub(super) async fn run(mut self) {
        loop {
            let now = self.shared.now();
            let (step, done) = {
                let mut accumulator = self.shared.accumulator.lock();
                // Ended while nothing was on it: no batch has to fail to find out.
                self.connections.retain(|broker, connection| {
                    !connection.is_closed() || !accumulator.disconnected(*broker)
                });
                let step = accumulator.poll(now);
                (step, accumulator.closed && accumulator.flushed(u64::MAX))
            };
            self.tell();
            if done {
                self.shared.progress.notify_waiters();
                return;
            }
            let wake_at = self.start(now, step);
            let wait = wake_at.map_or(Duration::from_secs(3600), |at| at.since(now));
            let sleep = self.shared.env().clock.sleep(wait);
            tokio::select! {
                biased;
                Some(event) = self.doing.next() => self.take(event),
                () = self.shared.wake.notified() => {}
                () = sleep => {}
            }
            // What else is there already goes with it.
            while let Some(Some(event)) = futures_util::FutureExt::now_or_never(self.doing.next()) {
                self.take(event);
            }
        }
    }

    /// Starts what is to be done; answers when to look again.
    fn start(&mut self, now: Monotonic, step: Step) -> Option<Monotonic> {
        for broker in step.connect {
            let client = self.shared.client.clone();
            self.doing.push(Box::pin(async move {
                let connected = client.broker(broker).await;
                Event::Connected(broker, connected)
            }));
        }
        for (broker, batches) in step.requests {
            let metadata = self.shared.client.metadata();
            self.next_request += 1;
            self.send(Sent { number: self.next_request, broker, at: now, batches, metadata });
        }
        if step.ask_identity {
            let shared = self.shared.clone();
            self.doing.push(Box::pin(async move { Event::Identified(identify(&shared).await) }));
        }
        self.refresh.extend(step.refresh);
        let age = self.shared.config.common.metadata_max_age;
        if now.since(self.refreshed) >= age {
            self.refreshed = now;
            self.refresh.extend(self.shared.accumulator.lock().topic_names());
        }
        let silent_at = self.ask_about_the_silent(now);
        let mut wake_at = step.wake_at.into_iter().chain(silent_at).min();
        if !self.refreshing && !self.refresh.is_empty() {
            if self.refresh_from <= now {
                self.start_refresh();
            } else {
                wake_at = Some(wake_at.map_or(self.refresh_from, |at| at.min(self.refresh_from)));
            }
        }
        wake_at
    }

    /// Asks who leads what a broker is silent about; answers when the next may be too silent.
    fn ask_about_the_silent(&mut self, now: Monotonic) -> Option<Monotonic> {
        for request in self.unanswered.values_mut() {
            if request.asks_at() <= now {
                (request.since, request.silent) = (now, true);
                let topics = request.partitions.iter().map(|it| it.partition().topic.clone());
                self.refresh.extend(topics);
            }
        }
        self.unanswered.values().map(Unanswered::asks_at).min()
    }

    /// Waits no longer for brokers that have lost what they were asked to store.
    fn give_up_on_the_silent(&mut self, metadata: &ClusterMetadata) {
        let has_lost_all = |request: &Unanswered| {
            let leaders = request.partitions.iter().map(|outcome| {
                let partition = outcome.partition();
                let topic = metadata.topics.get(&*partition.topic)?;
                topic.partitions.get(&partition.partition)?.leader
            });
            let leaders: Vec<_> = leaders.collect();
            !leaders.contains(&Some(request.broker)) && leaders.iter().any(Option::is_some)
        };
        let silent = self.unanswered.iter().filter(|(_, it)| it.silent && has_lost_all(it));
        for number in silent.map(|(number, _)| *number).collect::<Vec<_>>() {
            if let Some(request) = self.unanswered.remove(&number) {
                let _answered_meanwhile = request.give_up.send(());
            }
        }
    }

    fn start_refresh(&mut self) {
        self.refreshing = true;
        let topics = std::mem::take(&mut self.refresh);
        let client = self.shared.client.clone();
        self.doing.push(Box::pin(async move {
            let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            Event::Refreshed(client.refresh_metadata(&names).await)
        }));
    }

    fn send(&mut self, mut sent: Sent) {
        let connection = self.connections.get(&sent.broker).cloned();
        let sealed: Result<Vec<_>, _> =
            sent.batches.iter_mut().map(|batch| batch.seal(&mut self.compressor)).collect();
        let request = sealed.and_then(|records| {
            let connection =
                connection.ok_or_else(|| ClientError::refused(ErrorCode::NetworkException))?;
            let request = self.request(&connection, &sent, records)?;
            Ok((connection, request))
        });
        let (give_up, given_up) = oneshot::channel();
        let partitions = sent.batches.iter().map(|batch| batch.outcome.clone()).collect();
        let (broker, since, silent) = (sent.broker, sent.at, false);
        let unanswered = Unanswered { broker, since, silent, partitions, give_up };
        self.unanswered.insert(sent.number, unanswered);
        self.doing.push(Box::pin(async move {
            let response = match request {
                Ok((connection, request)) => tokio::select! {
                    biased;
                    response = connection.produce(&request) => response,
                    // Whether it was stored is as little known as after any other time without an answer.
                    Ok(()) = given_up => Err(ClientError::TimedOut {
                        address: connection.address().into(),
                        api: ApiKey::Produce,
                        limit: SILENCE,
                    }),
                },
                Err(error) => Err(error),
            };
            Event::Answered(sent, response)
        }));
    }

    fn request(
        &self,
        connection: &Connection,
        Sent { batches, metadata, .. }: &Sent,
        records: Vec<bytes::Bytes>,
    ) -> Result<ProduceRequest, ClientError> {
        let config = &self.shared.config;
        let by_id = connection.records_version(ApiKey::Produce)? >= FIRST_VERSION_BY_ID;
        let mut topics: Vec<TopicProduceData> = Vec::new();
        let mut last = None;
        for (batch, records) in batches.iter().zip(records) {
            let partition = batch.outcome.partition();
            let data = PartitionProduceData { index: partition.partition, records: Some(records) };
            if last != Some(batch.queue.0) {
                let topic = if by_id {
                    let known = metadata.topics.get(&*partition.topic);
                    let id = known.map(|topic| topic.topic_id);
                    TopicRef::Id(
                        id.ok_or_else(|| ClientError::refused(ErrorCode::UnknownTopicOrPartition))?,
                    )
                } else {
                    TopicRef::Name(StrBytes::from(&*partition.topic))
                };
                topics.push(TopicProduceData { topic, partitions: Vec::new() });
                last = Some(batch.queue.0);
            }
            topics.last_mut().into_iter().for_each(|topic| topic.partitions.push(data.clone()));
        }
        let timeout_ms = i32::try_from(config.common.request_timeout.as_millis());
        Ok(ProduceRequest {
            transactional_id: None,
            acks: config.acks.code(),
            timeout_ms: timeout_ms.unwrap_or(i32::MAX),
            topics,
        })
    }

    fn take(&mut self, event: Event) {
        let now = self.shared.now();
        match event {
            Event::Connected(broker, Ok(connection)) => {
                self.connections.insert(broker, connection);
                self.shared.accumulator.lock().connected(broker);
            }
            Event::Connected(broker, Err(_)) => {
                self.shared.accumulator.lock().not_connected(now, broker);
            }
            Event::Answered(sent, response) => self.take_answer(now, sent, response),
            Event::Refreshed(Ok(metadata)) => {
                self.refreshing = false;
                self.refreshed = now;
                self.refresh_failures = 0;
                self.refresh_from = now + self.shared.config.common.retry_backoff;
                self.shared.learn(&metadata);
                self.give_up_on_the_silent(&metadata);
            }
            Event::Refreshed(Err(_)) => {
                self.refreshing = false;
                self.refresh_failures = self.refresh_failures.saturating_add(1);
                let common = &self.shared.config.common;
                self.refresh_from = now + common.retry_backoff_after(self.refresh_failures, 0.5);
                self.refresh.extend(self.shared.accumulator.lock().topic_names());
            }
            Event::Identified(Ok(identity)) => {
                self.shared.accumulator.lock().identified_as(identity);
            }
            Event::Identified(Err(error)) => {
                self.shared.accumulator.lock().not_identified(now, error);
            }
        }
    }

    fn take_answer(
        &mut self,
        now: Monotonic,
        Sent { number, broker, at, batches, metadata }: Sent,
        response: Result<Option<ProduceResponse>, ClientError>,
    ) {
        self.unanswered.remove(&number);
        let mut answers = match response {
            Ok(Some(response)) => Answers::Said(response),
            Ok(None) => Answers::NotAsked,
            Err(error) => Answers::Failed(Arc::new(error)),
        };
        let lost = matches!(&answers, Answers::Failed(_));
        let mut accumulator = self.shared.accumulator.lock();
        if let Answers::Said(response) = &answers {
            let throttled = u64::try_from(response.throttle_time_ms).unwrap_or(0);
            accumulator.metrics.produce_throttle_time_total += throttled;
            accumulator.latency.add(now.since(at));
            if let Some(connection) = self.connections.get(&broker) {
                let silence = connection.silence_after(ApiKey::Produce, response.throttle_time_ms);
                accumulator.throttled(broker, now + silence);
            }
        }
        for batch in batches {
            let (result, leader) = answers.of(&batch, &metadata);
            let (queue, partition) = (batch.queue, batch.outcome.partition().clone());
            accumulator.answered(now, batch, result);
            let client = &self.shared.client;
            // Only asked where another leads: an answer most often says nothing of that.
            let learns = |leader| {
                let topic_id = metadata.topics.get(&*partition.topic).map(|topic| topic.topic_id);
                let asked = (&partition, topic_id.unwrap_or_default());
                client.learn_leader(asked, leader, answers.endpoints())
            };
            match leader {
                Some(leader) if learns(leader) => {
                    accumulator.set_leader(queue, leader.leader_id);
                }
                Some(leader) if client.metadata().leads_later(&partition, broker, leader) => {
                    accumulator.retry_at(queue, now + LAG);
                }
                Some(_) | None => accumulator.not_led_by(queue, broker),
            }
        }
        accumulator.request_done(now, broker, lost);
        drop(accumulator);
        if lost {
            self.connections.remove(&broker);
        }
    }

    /// Tells who waits, and interceptors, what came of things.
    fn tell(&self) {
        let (progress, acknowledged) = {
            let mut accumulator = self.shared.accumulator.lock();
            (accumulator.take_progress(), accumulator.take_acknowledged())
        };
        if progress {
            self.shared.progress.notify_waiters();
        }
        for told in acknowledged {
            for (at, sent) in (0..).zip(&told.sent) {
                let result = match &told.result {
                    Ok(stored) => Ok(told.outcome.metadata(*stored, at, *sent)),
                    Err(error) => Err(error),
                };
                for interceptor in &self.shared.interceptors {
                    interceptor.on_acknowledgement(result.as_ref().map_err(|error| *error));
                }
            }
        }
    }
}

/// What a leader said of the batches of a request.
enum Answers {
    Said(ProduceResponse),
    NotAsked,
    Failed(Arc<ClientError>),
}

type Answer = (Result<Stored, Failure>, Option<LeaderIdAndEpoch>);

impl Answers {
    /// Where the leaders are that it tells of.
    fn endpoints(&self) -> &[NodeEndpoint] {
        match self {
            Self::Said(response) => &response.node_endpoints,
            Self::NotAsked | Self::Failed(_) => &[],
        }
    }

    fn of(&mut self, batch: &Batch, metadata: &ClusterMetadata) -> Answer {
        let failed = |error| Err(Failure { error, record_errors: Vec::new() });
        let response = match self {
            Self::NotAsked => {
                let stored = Stored { base_offset: Offset::NONE, log_append_time: Timestamp::NONE };
                return (Ok(stored), None);
            }
            Self::Failed(error) => return (failed(error.clone()), None),
            Self::Said(response) => response,
        };
        let partition = batch.outcome.partition();
        let id = metadata.topics.get(&*partition.topic).map(|topic| topic.topic_id);
        let row = response
            .topics
            .iter_mut()
            .filter(|topic| match &topic.topic {
                TopicRef::Name(name) => name.as_str() == &*partition.topic,
                TopicRef::Id(named) => id.as_ref() == Some(named),
            })
            .flat_map(|topic| &mut topic.partitions)
            .find(|row| row.index == partition.partition);
        let Some(row) = row else {
            let error = ClientError::Nonsense(format!("nothing about {partition}"));
            return (failed(Arc::new(error)), None);
        };
        (verdict(row), row.current_leader)
    }
}

fn verdict(row: &mut PartitionProduceResponse) -> Result<Stored, Failure> {
    // A duplicate: an earlier try stored the batch, and its answer was lost.
    if row.error_code.is_none() || row.error_code == ErrorCode::DuplicateSequenceNumber {
        return Ok(Stored { base_offset: row.base_offset, log_append_time: row.log_append_time });
    }
    let message = row.error_message.take().map(StrBytes::into_string);
    let records = std::mem::take(&mut row.record_errors).into_iter();
    let record_errors = records.filter_map(|record| {
        let words = record.message.map(StrBytes::into_string).unwrap_or_default();
        Some((u32::try_from(record.batch_index).ok()?, words))
    });
    Err(Failure {
        error: Arc::new(ClientError::Refused { code: row.error_code, message }),
        record_errors: record_errors.collect(),
    })
}

/// Asks any broker for a producer id, another while one is silent: an id that nobody takes costs nothing.
async fn identify(shared: &Shared) -> Result<Identity, ClientError> {
    let request = message!(InitProducerIdRequest {
        // The default is an empty one, which is a transactional producer all the same.
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: ProducerId::NONE.0,
        producer_epoch: ProducerEpoch::NONE.0,
    });
    let request = &request;
    let question = |connection: Connection| async move { connection.call(request).await };
    let response = shared.client.ask_someone(question).await?;
    ClientError::check(ErrorCode::from_wire(response.error_code), None)?;
    Ok((ProducerId(response.producer_id), ProducerEpoch(response.producer_epoch)))
}
