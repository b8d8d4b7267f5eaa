//! How this broker follows others: for each leader, and each of `num.replica.fetchers`, one task with one connection fetches all
//! partitions that are followed from there. Kafka's `ReplicaFetcherManager` and `ReplicaFetcherThread`.
//!
//! ```text
//! image ─► ReplicaManager ─► ReplicaFetchers::follow(partition) ─► Inbox ─► Fetcher task
//!                                                          FetchSession ─► Fetch ─► leader
//!                                     Partition::take_fetched, truncate ◄─ answer ◄─┘
//! ```
//!
//! # Invariants
//! - A partition is in one inbox, that of its leader, and in none if nobody leads it or its disk failed.
//! - What came for another epoch or position than the current one is not appended.
//! - Nothing is asked of a partition as long as the disk does not hold what it has to: the leader would count it as held.
//! - A partition that fails waits on its own, from a few milliseconds up to `replica.fetch.backoff.ms`; the others go on.

mod fetcher;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ottla_config::{BrokerConfig, ReplicaManagerConfig};
use ottla_env::{Env, TaskHandle};
use ottla_metadata::MetadataImage;
use ottla_protocol::{BrokerId, LeaderEpoch, TopicId, TopicPartition};
use ottla_storage::LogManager;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::context::ReplicaContext;
use super::partition::Partition;
use fetcher::Fetcher;

/// The first pause after a failure; each further one doubles it, up to `replica.fetch.backoff.ms`. A leader may hear of its
/// election a moment after its followers: a whole second would be a long time to lose then.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Which partition of which topic.
type Key = (TopicId, i32);

/// Which leader, and which of the fetchers from there.
type Source = (BrokerId, usize);

/// The fetchers of a node.
pub(super) struct ReplicaFetchers {
    shared: Arc<Shared>,
    running: Mutex<Running>,
}

/// What all fetchers need.
struct Shared {
    env: Env,
    config: ReplicaManagerConfig,
    context: Arc<ReplicaContext>,
    logs: Arc<LogManager>,
    /// `inter.broker.listener.name`.
    listener: String,
    /// Where the other brokers listen for this one.
    addresses: ArcSwap<BTreeMap<BrokerId, String>>,
}

#[derive(Default)]
struct Running {
    fetchers: BTreeMap<Source, (Arc<Inbox>, TaskHandle)>,
    followed: BTreeMap<TopicPartition, Following>,
    stopped: bool,
}

/// Where a partition is followed from.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Following {
    source: Source,
    epoch: LeaderEpoch,
    key: Key,
}

/// What a fetcher is told while it works.
#[derive(Default)]
struct Inbox {
    told: Mutex<Vec<Told>>,
    news: Notify,
}

enum Told {
    /// Of a partition that is new, or has another epoch.
    Follow(Arc<Partition>),
    Unfollow(Key),
}

impl Inbox {
    /// Only what is to be fetched at once is worth an interruption.
    fn tell(&self, told: Told) {
        let is_urgent = matches!(told, Told::Follow(_));
        self.told.lock().push(told);
        if is_urgent {
            self.news.notify_one();
        }
    }

    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.lock())
    }
}

impl ReplicaFetchers {
    pub(super) fn new(
        env: &Env,
        config: &BrokerConfig,
        context: &Arc<ReplicaContext>,
        logs: &Arc<LogManager>,
    ) -> Self {
        let shared = Shared {
            env: env.clone(),
            config: config.replica_manager.clone(),
            context: Arc::clone(context),
            logs: Arc::clone(logs),
            listener: config.node.inter_broker_listener_name.clone(),
            addresses: ArcSwap::default(),
        };
        Self { shared: Arc::new(shared), running: Mutex::default() }
    }

    /// Takes over where the other brokers listen.
    pub(super) fn brokers_changed(&self, image: &MetadataImage) {
        let address = |broker: &Arc<ottla_metadata::BrokerRegistration>| {
            let listener = broker.listener(&self.shared.listener)?;
            Some((broker.id, format!("{}:{}", listener.host, listener.port)))
        };
        self.shared.addresses.store(Arc::new(image.brokers().filter_map(address).collect()));
    }

    /// Follows partitions from their leaders, whoever they were followed from before.
    pub(super) fn follow(&self, partitions: Vec<Arc<Partition>>) {
        let mut running = self.running.lock();
        if running.stopped {
            return;
        }
        for partition in partitions {
            let Some(by) = partition.fetched_by() else {
                running.unfollow(partition.name());
                continue;
            };
            let key = (partition.topic_id(), partition.name().partition);
            let source = (by.leader, self.number_of(key));
            let following = Following { source, epoch: by.epoch, key };
            match running.followed.get(partition.name()) {
                Some(before) if *before == following => continue,
                Some(before) if (before.source, before.key) != (source, key) => {
                    running.unfollow(partition.name());
                }
                Some(_) | None => {}
            }
            running.followed.insert(partition.name().clone(), following);
            let (inbox, _) = running
                .fetchers
                .entry(source)
                .or_insert_with(|| Fetcher::start(Arc::clone(&self.shared), source.0));
            inbox.tell(Told::Follow(partition));
        }
    }

    /// Follows partitions no more.
    pub(super) fn unfollow<'a>(&self, partitions: impl Iterator<Item = &'a TopicPartition>) {
        let mut running = self.running.lock();
        partitions.for_each(|partition| running.unfollow(partition));
    }

    /// Which of the fetchers from a leader is to follow a partition.
    fn number_of(&self, (topic, index): Key) -> usize {
        let topic = topic
            .to_bytes()
            .iter()
            .fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        topic.wrapping_add(index.unsigned_abs() as usize) % self.shared.config.num_fetchers.max(1)
    }

    /// Ends all fetchers.
    pub(super) async fn shutdown(&self) {
        let fetchers = {
            let mut running = self.running.lock();
            running.stopped = true;
            running.followed.clear();
            std::mem::take(&mut running.fetchers)
        };
        for (_, task) in fetchers.into_values() {
            task.abort();
            task.wait().await;
        }
    }
}

impl Running {
    fn unfollow(&mut self, partition: &TopicPartition) {
        if let Some(Following { source, key, .. }) = self.followed.remove(partition)
            && let Some((inbox, _)) = self.fetchers.get(&source)
        {
            inbox.tell(Told::Unfollow(key));
        }
    }
}
