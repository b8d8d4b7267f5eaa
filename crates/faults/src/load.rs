//! What clients do all the time, and what they note of it for the judge: the project's own client, with its defaults.

pub(crate) mod administrator;
pub(crate) mod group;
pub(crate) mod producer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use ottla_client::{Client, ConnectionOptions, Env, TopicPartition};
use ottla_history::History;
use parking_lot::Mutex;

use crate::board::Board;

/// What fails at once is tried again after this time.
const PAUSE: Duration = Duration::from_millis(50);

/// A topic and who writes to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) topic: &'static str,
    pub(crate) partitions: i32,
    pub(crate) producers: usize,
    pub(crate) idempotent: bool,
}

/// Written by idempotent producers, and read by the group; and by producers whose tries may be stored twice.
pub(crate) const STREAMS: [Stream; 2] = [
    Stream { topic: "orders", partitions: 6, producers: 3, idempotent: true },
    Stream { topic: "visits", partitions: 3, producers: 1, idempotent: false },
];

impl Stream {
    pub(crate) fn partitions(&self) -> impl Iterator<Item = TopicPartition> + use<> {
        let topic = self.topic;
        (0..self.partitions).map(move |number| TopicPartition::new(topic, number))
    }
}

/// What clients share.
pub(crate) struct Shared {
    pub(crate) bootstrap: Vec<String>,
    pub(crate) board: Board,
    pub(crate) histories: BTreeMap<TopicPartition, Mutex<History>>,
    pub(crate) group: Mutex<group::Progress>,
    /// Topics that were made and not removed.
    pub(crate) topics: Mutex<BTreeSet<String>>,
    /// Producers and administrators come to their end.
    ending: AtomicBool,
    /// Nothing more will be written.
    written: AtomicBool,
}

impl Shared {
    pub(crate) fn new(bootstrap: Vec<String>) -> Self {
        let partitions = || STREAMS.iter().flat_map(Stream::partitions);
        Self {
            bootstrap,
            board: Board::new(partitions()),
            histories: partitions().map(|it| (it, Mutex::default())).collect(),
            group: Mutex::default(),
            topics: Mutex::default(),
            ending: AtomicBool::new(false),
            written: AtomicBool::new(false),
        }
    }

    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    pub(crate) fn set_written(&self) {
        self.written.store(true, Ordering::Relaxed);
    }

    fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    /// Partitions of which the group has not read all that was acknowledged.
    pub(crate) fn unread(&self) -> Vec<TopicPartition> {
        let group = self.group.lock();
        let is_read = |partition: &TopicPartition| {
            let last = self.histories[partition].lock().acknowledged_offsets().max();
            let read = group.read.get(partition);
            last.is_none_or(|last| read.is_some_and(|read| read.contains_key(&last)))
        };
        STREAMS[0].partitions().filter(|partition| !is_read(partition)).collect()
    }
}

/// Connects, however often it takes; the servers are tried from the `first` on.
pub(crate) async fn connect(shared: &Shared, first: usize) -> Client {
    let mut servers = shared.bootstrap.clone();
    let count = servers.len();
    servers.rotate_left(first % count);
    loop {
        match Client::connect(&Env::os(), servers.clone(), ConnectionOptions::default()).await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

pub(crate) fn id_of(value: &[u8]) -> Result<String> {
    Ok(String::from_utf8(value.to_vec())?)
}
