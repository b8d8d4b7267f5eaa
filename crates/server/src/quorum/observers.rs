//! Serves the committed part of the log to nodes without a vote, which pull it as Kafka's observers
//! fetch it (KIP-595).
//!
//! An observer has only what was committed, and keeps nothing on disk: what it has is a prefix of
//! what the leader has, or its memory is of another cluster.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_env::{Env, timeout};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::checkpoint;
use super::log_storage::{LogStorage, Past};
use super::messages::{Party, Pull, Pulled, PulledData};
use super::options::Voter;
use super::peers::SNAPSHOT_PIECE_BYTES;
use super::state_machine::Progress;
use super::{LeaderAndEpoch, ReplicaState};

/// The longest that a pull is held back, whatever it asks for.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Who has not pulled for so long is told no more. Kafka's observers are forgotten as late.
const MEMORY_MS: i64 = 300_000;
/// Observers that are told at most: whoever can connect can name itself anything.
const MAX_KNOWN: usize = 10_000;

/// What is committed after some offset.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CommittedData {
    /// Whole batches as the log holds them, maybe none yet.
    Batches(Bytes),
    /// The log begins later: a snapshot, in the form of a `.checkpoint` file, stands for all before
    /// its end offset.
    Snapshot {
        /// Offset of the first record that it does not contain.
        end_offset: i64,
        /// Epoch of the last record in it.
        epoch: i32,
        /// The contents of the file.
        bytes: Bytes,
    },
    /// Nothing was ever committed here that ends at this offset in this epoch.
    Diverged,
}

/// Hands out what is committed, and remembers to whom.
#[derive(Clone)]
pub(super) struct Observers(Arc<Shared>);

struct Shared {
    env: Env,
    dir: PathBuf,
    node_id: i32,
    leader: watch::Receiver<LeaderAndEpoch>,
    progress: Arc<Progress>,
    addresses: Box<dyn Fn() -> Vec<Voter> + Send + Sync>,
    known: Mutex<BTreeMap<i32, ReplicaState>>,
    /// The snapshot of which pieces are being fetched.
    snapshot: Mutex<Option<(i64, i32, Bytes)>>,
}

impl Observers {
    pub(super) fn new(
        (env, dir, node_id): (Env, PathBuf, i32),
        leader: watch::Receiver<LeaderAndEpoch>,
        progress: Arc<Progress>,
        addresses: impl Fn() -> Vec<Voter> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            env,
            dir,
            node_id,
            leader,
            progress,
            addresses: Box::new(addresses),
            known: Mutex::default(),
            snapshot: Mutex::default(),
        }))
    }

    /// Where controllers are, as far as this node knows.
    pub(super) fn addresses(&self) -> Vec<Voter> {
        (self.0.addresses)()
    }

    /// Who leads.
    pub(super) fn leader(&self) -> LeaderAndEpoch {
        *self.0.leader.borrow()
    }

    /// Who pulled lately, by id.
    pub(super) fn known(&self) -> Vec<ReplicaState> {
        let oldest = self.0.env.clock.wall().0 - MEMORY_MS;
        let mut known = self.0.known.lock();
        known.retain(|_, observer| observer.last_fetch_timestamp >= oldest);
        known.values().cloned().collect()
    }

    /// What is committed after `offset`, the record before which is of `epoch`.
    pub(super) async fn committed_after(
        &self,
        (offset, epoch): (i64, i32),
        max_bytes: usize,
        storage: &LogStorage,
    ) -> io::Result<CommittedData> {
        let upto = *self.0.progress.applied.borrow();
        let (storage, env, dir) = (storage.clone(), self.0.env.clone(), self.0.dir.clone());
        let read = move || {
            // Whoever has nothing is brought up to date by a snapshot sooner than by all that led to it.
            let past = match offset == 0 && checkpoint::exists(&env, &dir)? {
                true => Past::Purged,
                false => storage.committed_after((offset, epoch), upto, max_bytes)?,
            };
            match past {
                Past::Kept(bytes) => Ok(CommittedData::Batches(bytes)),
                Past::Diverged => Ok(CommittedData::Diverged),
                Past::Purged => {
                    let newest = checkpoint::read_newest(&env, &dir)?;
                    let newest = newest.ok_or_else(|| {
                        io::Error::other(
                            "the metadata log has lost its beginning, and no snapshot is there",
                        )
                    })?;
                    Ok(CommittedData::Snapshot {
                        end_offset: newest.end_offset,
                        epoch: newest.epoch()?,
                        bytes: newest.encode()?,
                    })
                }
            }
        };
        self.0.env.run_blocking(read).await
    }

    /// Answers an observer, once there is something for it or it has waited long enough.
    pub(super) async fn pull(
        &self,
        from: Party,
        pull: &Pull,
        storage: &LogStorage,
    ) -> io::Result<Pulled> {
        let mut leader = self.0.leader.clone();
        let told = *leader.borrow_and_update();
        if told.leader == Some(self.0.node_id) {
            self.note(from, pull.offset);
            let mut applied = self.0.progress.applied.subscribe();
            let wait = Duration::from_millis(u64::from(pull.max_wait_ms)).min(MAX_WAIT);
            let more = async {
                tokio::select! {
                    biased;
                    _ = leader.changed() => {}
                    _ = applied.wait_for(|applied| *applied > pull.offset) => {}
                }
            };
            if !wait.is_zero() {
                // Whether there is more is looked at below.
                let _in_time = timeout(&*self.0.env.clock, wait, more).await;
            }
        }
        let told = *self.0.leader.borrow();
        let data = match told.leader == Some(self.0.node_id) {
            true => self.data_for(pull, storage).await?,
            false => PulledData::NotLeader,
        };
        Ok(Pulled {
            leader: told,
            voters: (self.0.addresses)(),
            high_watermark: *self.0.progress.applied.borrow(),
            data,
        })
    }

    async fn data_for(&self, pull: &Pull, storage: &LogStorage) -> io::Result<PulledData> {
        if let Some((end_offset, epoch, position)) = pull.snapshot
            && let Some((known_end, known_epoch, bytes)) = &*self.0.snapshot.lock()
            && (end_offset, epoch) == (*known_end, *known_epoch)
        {
            return Ok(piece((end_offset, epoch), position, bytes));
        }
        let max_bytes = (pull.max_bytes as usize).clamp(1, SNAPSHOT_PIECE_BYTES);
        let from = (pull.offset, pull.epoch);
        Ok(match self.committed_after(from, max_bytes, storage).await? {
            CommittedData::Batches(bytes) => PulledData::Batches(bytes),
            CommittedData::Diverged => PulledData::Diverged,
            CommittedData::Snapshot { end_offset, epoch, bytes } => {
                let first = piece((end_offset, epoch), 0, &bytes);
                *self.0.snapshot.lock() = Some((end_offset, epoch, bytes));
                first
            }
        })
    }

    /// Remembers how far an observer is.
    fn note(&self, from: Party, offset: i64) {
        let now = self.0.env.clock.wall().0;
        let is_caught_up = offset >= *self.0.progress.applied.borrow();
        let mut known = self.0.known.lock();
        if known.len() >= MAX_KNOWN && !known.contains_key(&from.node_id) {
            return;
        }
        let observer = known.entry(from.node_id).or_insert(ReplicaState {
            node_id: from.node_id,
            directory_id: from.directory_id,
            log_end_offset: offset,
            last_fetch_timestamp: now,
            last_caught_up_timestamp: -1,
        });
        observer.directory_id = from.directory_id;
        observer.log_end_offset = offset;
        observer.last_fetch_timestamp = now;
        if is_caught_up {
            observer.last_caught_up_timestamp = now;
        }
    }
}

/// The piece at `position` of a snapshot, or the first one if it has no such.
fn piece((end_offset, epoch): (i64, i32), position: u64, whole: &Bytes) -> PulledData {
    let start = usize::try_from(position).ok().filter(|start| *start < whole.len()).unwrap_or(0);
    let end = whole.len().min(start + SNAPSHOT_PIECE_BYTES);
    PulledData::Snapshot {
        end_offset,
        epoch,
        total: whole.len() as u64,
        position: start as u64,
        bytes: whole.slice(start..end),
    }
}
