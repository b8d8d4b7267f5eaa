//! What clients do to a topic, and what they note of it for the judge: the same for one broker and
//! for a cluster. The real client, unchanged.

pub(super) mod commit;
pub(super) mod consume;
pub(super) mod members;
pub(super) mod produce;
pub(super) mod watch;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use ottla_client::{Admin, Client, ClientError, ConnectionOptions, NewTopic};
use ottla_env::Env;
use ottla_protocol::{ErrorCode, TopicPartition};

use crate::checker::{History, Promise, RecordId};

pub(super) const TOPIC: &str = "t";
/// A client waits this long before it tries again what failed.
pub(super) const BACKOFF: Duration = Duration::from_millis(100);

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
            load,
        }
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
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(5),
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
    let admin = Admin::new(client.clone(), Duration::from_secs(5));
    while !shared.topic_made.get() {
        let topic = NewTopic {
            partitions: Some(shared.load.partitions as i32),
            replication_factor: Some(shared.load.replication_factor),
            ..NewTopic::new(TOPIC)
        };
        match admin.create_topic(topic).await {
            Ok(()) => shared.topic_made.set(true),
            Err(ClientError::Refused { code: ErrorCode::TopicAlreadyExists, .. }) => {
                shared.topic_made.set(true);
            }
            Err(_) => env.clock.sleep(BACKOFF).await,
        }
    }
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
    let id = value.split(|byte| *byte == b'|').next().unwrap_or_default();
    Ok(String::from_utf8(id.to_vec())?)
}
