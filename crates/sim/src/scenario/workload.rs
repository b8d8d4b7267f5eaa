//! What clients do to a topic, and what they note of it for the judge: the same for one broker and
//! for a cluster. The real client, unchanged.

pub(super) mod commit;
pub(super) mod consume;
pub(super) mod members;
pub(super) mod produce;
pub(super) mod recreate;
pub(super) mod trim;
pub(super) mod watch;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_client::{
    Admin, AutoOffsetReset, Client, ClientError, ConnectionOptions, Consumer, ConsumerError,
    ConsumerOptions, Delivery, NewTopic, OffsetSpec, ProduceError, Producer, ProducerConfig,
    ProducerRecord,
};
use ottla_env::Env;
use ottla_protocol::{ErrorCode, Offset, TopicPartition};

use crate::checker::{History, Promise, RecordId};

pub(super) const TOPIC: &str = "t";
/// A client waits this long before it tries again what failed.
pub(super) const BACKOFF: Duration = Duration::from_millis(100);
/// How long a poll waits for records.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a client waits for an answer.
const REQUEST: Duration = Duration::from_secs(2);
/// How long a producer tries.
const DELIVERY: Duration = Duration::from_secs(60);

/// What the seed decided about the workload.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// `host:port` of each broker.
    pub(super) bootstrap: Vec<String>,
    pub(super) partitions: u64,
    pub(super) replication_factor: i16,
    pub(super) producers: u64,
    pub(super) idempotent: bool,
    /// Bytes added to each record.
    pub(super) padding: u64,
    pub(super) promise: Promise,
}

/// What the clients share; none of it is known to a broker.
pub(super) struct Shared {
    pub(super) load: Load,
    /// The number of the broker's life, where it is of matter ([`Promise::KeepsPrefix`]).
    life: Box<dyn Fn() -> u64>,
    /// Of each partition.
    pub(super) histories: Vec<RefCell<History>>,
    pub(super) topic_made: Cell<bool>,
    /// Nothing goes wrong any more.
    pub(super) calm: Cell<bool>,
    pub(super) producing: Cell<u64>,
    /// Who has not come to its end, by name: whom to ask where a run does not end.
    pub(super) busy: RefCell<BTreeSet<String>>,
    /// How often what happened, for the report.
    counted: RefCell<BTreeMap<&'static str, u64>>,
}

impl Shared {
    pub(super) fn new(load: Load, life: impl Fn() -> u64 + 'static) -> Self {
        Self {
            life: Box::new(life),
            histories: (0..load.partitions).map(|_| RefCell::default()).collect(),
            topic_made: Cell::new(false),
            calm: Cell::new(false),
            producing: Cell::new(load.producers),
            busy: RefCell::default(),
            counted: RefCell::default(),
            load,
        }
    }

    /// Notes that something happened so many times more.
    pub(super) fn count(&self, what: &'static str, times: u64) {
        *self.counted.borrow_mut().entry(what).or_default() += times;
    }

    /// What was counted: `what=times` for each.
    pub(super) fn counted(&self) -> String {
        let counted = self.counted.borrow();
        let told: Vec<_> = counted.iter().map(|(what, times)| format!("{what}={times}")).collect();
        told.join(" ")
    }

    pub(super) fn history(&self, partition: &TopicPartition) -> &RefCell<History> {
        &self.histories[partition.partition as usize]
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = TopicPartition> + use<> {
        (0..self.load.partitions).map(|partition| TopicPartition::new(TOPIC, partition as i32))
    }

    /// How many records were acknowledged in all.
    pub(super) fn acknowledged(&self) -> usize {
        self.histories.iter().map(|history| history.borrow().acknowledged_count()).sum()
    }

    /// Whether what is acknowledged or shown is there for good.
    fn keeps_all(&self) -> bool {
        self.load.promise == Promise::KeepsAcknowledged
    }
}

pub(super) fn producer_name(number: u64) -> String {
    format!("producer-{number}")
}

/// Connects, however long it takes.
pub(super) async fn connect(env: &Env, shared: &Shared) -> Client {
    let options = ConnectionOptions {
        connect_timeout: Duration::from_secs(1),
        request_timeout: REQUEST,
        ..ConnectionOptions::default()
    };
    loop {
        match Client::connect(env, shared.load.bootstrap.clone(), options.clone()).await {
            Ok(client) => return client,
            Err(_) => env.clock.sleep(BACKOFF).await,
        }
    }
}

/// Makes the topic; whoever comes first does.
async fn make_topic(env: &Env, client: &Client, shared: &Shared) {
    if !shared.topic_made.get() {
        make(env, client, (TOPIC, shared.load.partitions as i32), shared).await;
        shared.topic_made.set(true);
    }
}

/// Makes a topic with so many partitions, however long it takes; it may be there already.
async fn make(env: &Env, client: &Client, (name, partitions): (&str, i32), shared: &Shared) {
    let admin = Admin::new(client.clone(), Duration::from_secs(5));
    loop {
        let topic = NewTopic {
            partitions: Some(partitions),
            replication_factor: Some(shared.load.replication_factor),
            ..NewTopic::new(name)
        };
        match admin.create_topic(topic).await {
            Ok(()) => return,
            Err(ClientError::Refused { code: ErrorCode::TopicAlreadyExists, .. }) => return,
            Err(_) => env.clock.sleep(BACKOFF).await,
        }
    }
}

/// Asks until there is an answer.
async fn insist<T, E>(env: &Env, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(_) => env.clock.sleep(BACKOFF).await,
        }
    }
}

/// A producer that waits for all replicas and never stores anything twice.
fn idempotent(client: Client) -> Producer {
    let mut config = ProducerConfig { delivery_timeout: DELIVERY, ..ProducerConfig::default() };
    config.common.request_timeout = REQUEST;
    Producer::builder(config).over(client)
}

/// Sends a record by itself; answers at which offset it was acknowledged, or why it was not.
async fn send_one(producer: &Producer, topic: &str, id: &RecordId) -> Result<i64, String> {
    let record = ProducerRecord::to(topic).value(value_of(id, 0)).partition(0);
    acknowledged(producer.send(record).await).await
}

/// Sends records that find place in one batch; answers of each what [`send_one`] does.
async fn send_together(
    producer: &Producer,
    topic: &str,
    ids: &[RecordId],
) -> Vec<Result<i64, String>> {
    let mut sent = Vec::new();
    for id in ids {
        let record = ProducerRecord::to(topic).value(value_of(id, 0)).partition(0);
        sent.push(producer.send(record).await);
    }
    let mut outcomes = Vec::new();
    for delivery in sent {
        outcomes.push(acknowledged(delivery).await);
    }
    outcomes
}

async fn acknowledged(sent: Result<Delivery, ProduceError>) -> Result<i64, String> {
    let outcome = match sent {
        Ok(delivery) => delivery.await,
        Err(error) => Err(error),
    };
    outcome.map(|stored| stored.offset.0).map_err(|error| error.to_string())
}

/// Everything in partition 0 of a topic from `start` on, by offset.
async fn read_from(
    consumer: &mut Consumer,
    topic: &str,
    start: Offset,
) -> Result<BTreeMap<i64, RecordId>, ConsumerError> {
    let partition = TopicPartition::new(topic, 0);
    let Offset(end) = consumer.offset(&partition, OffsetSpec::Latest).await?;
    consumer.assign([partition.clone()])?;
    consumer.seek(&partition, start)?;
    let mut read = BTreeMap::new();
    while consumer.position(&partition).is_some_and(|Offset(position)| position < end) {
        for record in consumer.poll(PATIENCE).await?.iter() {
            let id = record.value.map(|value| String::from_utf8_lossy(without_padding(value)));
            read.insert(record.offset.0, id.unwrap_or_default().into_owned());
        }
    }
    Ok(read)
}

fn reader(client: Client) -> Consumer {
    let options = ConsumerOptions {
        auto_offset_reset: AutoOffsetReset::None,
        default_api_timeout: REQUEST,
        ..ConsumerOptions::default()
    };
    Consumer::new(client, options)
}

/// Whether all that was acknowledged from `start` on was read.
fn check_kept(
    acknowledged: &BTreeMap<i64, RecordId>,
    start: i64,
    read: &BTreeMap<i64, RecordId>,
) -> Result<()> {
    for (offset, id) in acknowledged.range(start..) {
        let found = read.get(offset);
        ensure!(found == Some(id), "acknowledged {id} at {offset} is lost; there is {found:?}");
    }
    Ok(())
}

async fn wait_for_topic(env: &Env, shared: &Shared) {
    while !shared.topic_made.get() {
        env.clock.sleep(BACKOFF).await;
    }
}

/// The value of a record, and the record of a value.
fn value_of(id: &RecordId, padding: u64) -> Vec<u8> {
    let mut value = format!("{id}|").into_bytes();
    value.resize(value.len() + padding as usize, b'.');
    value
}

fn id_of(value: &[u8]) -> Result<RecordId> {
    Ok(String::from_utf8(without_padding(value).to_vec())?)
}

fn without_padding(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b'|').next().unwrap_or_default()
}
