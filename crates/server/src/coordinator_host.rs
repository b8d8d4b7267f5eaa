//! Runs the group coordinator: one shard for each partition of `__consumer_offsets` that this broker leads.
//! Kafka's `CoordinatorRuntime`.
//!
//! ```text
//!             became leader            log replayed
//! (no shard) ──────────────► Loading ───────────────► Active ──┐
//!      ▲                        │ could not be read     │      │ decide ─► append ─► replay ─► committed ─► reply
//!      │                        ▼                       │      └────────────────────────────────────────────┘
//!      └──── resigned ─────── Failed                    │
//!      ▲                                                │
//!      └──────────────── resigned, everyone told ───────┘
//! ```
//!
//! # Invariants
//! - A shard answers nothing before its whole partition is replayed: never a wrong offset, rather
//!   `COORDINATOR_LOAD_IN_PROGRESS`.
//! - What a shard decided is appended and replayed under its lock, so decisions are made on what is in the log.
//! - Nobody is told of what is not committed, in the epoch in which the shard was elected: see [`Decided::committing`].
//! - A shard appends in that epoch only. What was elected in a newer one replays the log anew.

mod commitment;
mod shard;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_config::BrokerConfig;
use ottla_coordinator::group::{
    Effects, GroupCoordinator, GroupCoordinatorConfig, Now, Outcome, Reply, ReplyToken,
};
use ottla_coordinator::records::partition_for;
use ottla_env::{BoxFuture, Env};
use ottla_protocol::topic_name::GROUP_METADATA_TOPIC;
use ottla_protocol::{ErrorCode, Monotonic, StrBytes};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};
use tracing::{error, info};

use crate::replica::Partition;
use commitment::Commitments;
pub(crate) use commitment::Committing;
use shard::{LoadError, Shard};

/// What a coordinator answers, and what comes before anybody is told.
pub(crate) struct Decided<A> {
    /// The answer.
    pub(crate) answer: A,
    /// What it tells of is on its way to the other replicas, or to the disk (`flush.messages`); `None` if it is committed.
    pub(crate) committing: Option<Committing>,
}

/// The group coordinators of this node.
pub(crate) struct CoordinatorHost {
    env: Env,
    config: GroupCoordinatorConfig,
    /// `offsets.load.buffer.size`.
    load_buffer_bytes: usize,
    /// `offsets.commit.timeout.ms`.
    commit_timeout: Duration,
    /// One for each partition that may be loaded at the same time (`group.coordinator.threads`).
    loads: Semaphore,
    /// Partitions of `__consumer_offsets` (`offsets.topic.num.partitions` when it was created).
    shards: Mutex<BTreeMap<i32, Arc<Shard>>>,
    next_token: AtomicU64,
    /// When the timer task wakes next, and what wakes it before.
    armed: Mutex<Option<Monotonic>>,
    rearm: Notify,
}

impl CoordinatorHost {
    pub(crate) fn new(env: Env, config: &BrokerConfig) -> Self {
        let offsets = &config.offsets;
        Self {
            env,
            config: GroupCoordinatorConfig::new(&config.group_coordinator, offsets),
            load_buffer_bytes: offsets.load_buffer_bytes,
            commit_timeout: offsets.commit_timeout,
            loads: Semaphore::new(config.group_coordinator.threads),
            shards: Mutex::default(),
            next_token: AtomicU64::new(1),
            armed: Mutex::new(None),
            rearm: Notify::new(),
        }
    }

    /// This broker leads `partition` of `__consumer_offsets`: loads its groups in the background.
    pub(crate) fn elected(self: &Arc<Self>, partition: Arc<Partition>) {
        let index = partition.name().partition;
        let commitments =
            Commitments::new(self.env.clone(), self.commit_timeout, Arc::clone(&partition));
        let shard = Arc::new(Shard::loading(partition, commitments));
        let before = self.shards.lock().insert(index, Arc::clone(&shard));
        if let Some(before) = before {
            // A new epoch of the same leader: what was replayed before is replayed again, from the log. Nobody who still
            // holds the old shard may append behind what the new one replays.
            before.resign();
            info!(partition = index, "reloading groups");
        }
        let load = Arc::clone(self).load(shard);
        self.env.spawner.spawn("group loader", Box::pin(load));
    }

    async fn load(self: Arc<Self>, shard: Arc<Shard>) {
        let Ok(_turn) = self.loads.acquire().await else { return };
        let (loading, config) = (Arc::clone(&shard), self.config.clone());
        let buffer_bytes = self.load_buffer_bytes;
        let load = move || shard::load(&loading, config, buffer_bytes);
        match self.env.run_blocking(load).await {
            Ok(loaded) => {
                let deadline = shard.activate(loaded, self.now());
                self.arm(deadline);
            }
            Err(LoadError::Resigned) => {}
            Err(reason) => {
                error!(partition = shard.index(), %reason, "could not load the groups of a partition");
                shard.fail();
            }
        }
    }

    /// This broker does not lead that partition of `__consumer_offsets` any more.
    pub(crate) fn resigned(&self, partition: i32) {
        let shard = self.shards.lock().remove(&partition);
        if let Some(shard) = shard {
            shard.resign();
        }
    }

    /// Decides on `group_id`; appends and replays what was decided.
    pub(crate) fn decide<A>(
        &self,
        partitions: i32,
        group_id: &str,
        decide: impl FnOnce(&mut GroupCoordinator, Now) -> Outcome<A>,
    ) -> Result<Decided<A>, ErrorCode> {
        let shard = self.shard(partitions, group_id)?;
        let (decided, deadline) = shard.decide(self.now(), decide)?;
        self.arm(deadline);
        Ok(decided)
    }

    /// Reads, or changes only what is soft (a heartbeat).
    pub(crate) fn look<A>(
        &self,
        partitions: i32,
        group_id: &str,
        look: impl FnOnce(&mut GroupCoordinator, Now) -> A,
    ) -> Result<Decided<A>, ErrorCode> {
        self.decide(partitions, group_id, |coordinator, now| Outcome {
            records: Vec::new(),
            answer: look(coordinator, now),
        })
    }

    /// A request whose reply may have to wait for other members.
    pub(crate) fn ask(
        &self,
        partitions: i32,
        group_id: &str,
        ask: impl FnOnce(&mut GroupCoordinator, Now, ReplyToken) -> Effects,
    ) -> Result<oneshot::Receiver<Decided<Reply>>, ErrorCode> {
        let shard = self.shard(partitions, group_id)?;
        let token = ReplyToken(self.next_token.fetch_add(1, Ordering::Relaxed));
        let (reply, deadline) = shard.ask(self.now(), token, ask)?;
        self.arm(deadline);
        Ok(reply)
    }

    /// Looks at every shard that is active; an error stands for those that are still loading. Who has just resigned is left
    /// out, as if that had been known.
    pub(crate) fn look_at_all<A>(
        &self,
        mut look: impl FnMut(&GroupCoordinator) -> A,
    ) -> Result<Vec<Decided<A>>, ErrorCode> {
        let shards: Vec<_> = self.shards.lock().values().cloned().collect();
        let now = self.now();
        shards
            .iter()
            .filter_map(|shard| {
                let looked = shard.decide(now, |coordinator, _| Outcome {
                    records: Vec::new(),
                    answer: look(coordinator),
                });
                match looked {
                    Ok((decided, _)) => Some(Ok(decided)),
                    Err(ErrorCode::NotCoordinator) => None,
                    Err(error) => Some(Err(error)),
                }
            })
            .collect()
    }

    /// Forgets what was committed for topics that are gone.
    pub(crate) fn topics_deleted(&self, topics: &BTreeSet<StrBytes>) {
        self.change_all("offsets of deleted topics", |coordinator, _| {
            coordinator.topics_deleted(topics)
        });
    }

    /// Forgets offsets that nobody needs any more (`offsets.retention.minutes`).
    fn expire_offsets(&self) {
        self.change_all("expired offsets", |coordinator, now| coordinator.expire_offsets(now.wall));
    }

    /// Removes batch after batch until nothing is left to remove.
    fn change_all(
        &self,
        what: &str,
        mut change: impl FnMut(&mut GroupCoordinator, Now) -> Outcome<()>,
    ) {
        let shards: Vec<_> = self.shards.lock().values().cloned().collect();
        for shard in shards {
            loop {
                let mut removed = false;
                let changed = shard.decide(self.now(), |coordinator, now| {
                    let outcome = change(coordinator, now);
                    removed = !outcome.records.is_empty();
                    outcome
                });
                match changed {
                    Ok(_) if removed => continue,
                    Ok(_) => {}
                    // What a shard that loads or resigns now would have removed expires in the end.
                    Err(ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator) => {}
                    Err(reason) => {
                        error!(partition = shard.index(), %reason, "could not remove {what}")
                    }
                }
                break;
            }
        }
    }

    /// Does what is due in time. Runs until the node stops.
    pub(crate) fn run_timers(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            loop {
                let armed = *self.armed.lock();
                match armed {
                    Some(deadline) => {
                        let wait = deadline.since(self.env.clock.now());
                        tokio::select! {
                            biased;
                            () = self.rearm.notified() => continue,
                            () = self.env.clock.sleep(wait) => {}
                        }
                    }
                    None => {
                        self.rearm.notified().await;
                        continue;
                    }
                }
                *self.armed.lock() = None;
                let shards: Vec<_> = self.shards.lock().values().cloned().collect();
                for shard in shards {
                    self.arm(shard.tick(self.now()));
                }
            }
        })
    }

    /// Sweeps expired offsets every `offsets.retention.check.interval.ms`. Runs until the node stops.
    pub(crate) fn run_expiry(self: Arc<Self>, interval: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            loop {
                self.env.clock.sleep(interval).await;
                self.expire_offsets();
            }
        })
    }

    /// Makes sure that the timer task wakes by `deadline`.
    fn arm(&self, deadline: Option<Monotonic>) {
        let Some(deadline) = deadline else { return };
        let mut armed = self.armed.lock();
        if armed.is_none_or(|at| deadline < at) {
            *armed = Some(deadline);
            self.rearm.notify_one();
        }
    }

    fn shard(&self, partitions: i32, group_id: &str) -> Result<Arc<Shard>, ErrorCode> {
        let index = partition_for(group_id, partitions);
        self.shards.lock().get(&index).cloned().ok_or(ErrorCode::NotCoordinator)
    }

    fn now(&self) -> Now {
        Now { monotonic: self.env.clock.now(), wall: self.env.clock.wall() }
    }
}

/// Whether a partition belongs to the group coordinator.
pub(crate) fn is_offsets_partition(partition: &Partition) -> bool {
    &*partition.name().topic == GROUP_METADATA_TOPIC
}
