//! Watches over the quorum: tells who leads, takes snapshots that are due, and lets the clock run
//! only where there is more than one node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{Fatal, RaftError};
use openraft::rt::WatchReceiver as _;
use openraft::{Instant as _, ReadPolicy};
use ottla_env::{Env, timeout};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::log_storage::LogStorage;
use super::peers::Link;
use super::raft_config::{MetadataRaft, Vote, VoterId, node_id_of};
use super::state_machine::Progress;
use super::{Core, LeaderAndEpoch};

/// Bytes that have to be free for a snapshot. Without them the log grows on: a snapshot that does not fit stops the quorum.
const SNAPSHOT_ROOM: u64 = 32 << 20;

/// When each voter last had all that the leader had, in milliseconds since the Unix epoch.
pub(super) type CaughtUp = Arc<Mutex<BTreeMap<i32, i64>>>;

/// Watches leadership, and snapshots that are due. Sleeps otherwise.
pub(super) struct Keeper {
    pub(super) env: Env,
    pub(super) core: Core,
    pub(super) storage: LogStorage,
    pub(super) progress: Arc<Progress>,
    pub(super) link: Arc<Link>,
    pub(super) announce: watch::Sender<LeaderAndEpoch>,
    pub(super) caught_up: CaughtUp,
    pub(super) fetch_timeout: Duration,
}

impl Keeper {
    pub(super) async fn run(self) {
        let mut server = self.core.server_metrics();
        loop {
            // Seen before it is looked at: what changes meanwhile is looked at again.
            server.borrow_and_update();
            let has_others = self.run_clock();
            if self.announce_leader(has_others).await.is_err() {
                return;
            }
            let look_again = async {
                match has_others {
                    true => self.env.clock.sleep(self.fetch_timeout / 4).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = server.changed() => if changed.is_err() { return },
                () = self.progress.snapshot_due.notified() => {
                    if self.storage.free_space().is_some_and(|free| free < SNAPSHOT_ROOM) {
                        tracing::warn!("no room for a snapshot of the metadata: the next one is tried again");
                    } else if self.core.trigger().snapshot().await.is_err() {
                        return;
                    }
                }
                () = self.link.has_vanished() => {}
                () = look_again => {}
            }
        }
    }

    /// Lets openraft's clock run if there is anybody to keep time with.
    fn run_clock(&self) -> bool {
        let metrics = self.core.server_metrics();
        let has_others = metrics.borrow_watched().membership_config.nodes().count() > 1;
        let clock = self.core.runtime_config();
        clock.heartbeat(has_others);
        clock.elect(has_others);
        clock.tick(has_others);
        has_others
    }

    /// Tells who leads; of this node only when it has caught up with its own epoch, and as long as a
    /// majority answers it (KIP-835).
    async fn announce_leader(&self, has_others: bool) -> Result<(), Fatal<MetadataRaft>> {
        let (vote, leader, me) = self.situation();
        let told = *self.announce.borrow();
        let is_told = told.leader.is_some() && epoch_of(vote) == told.epoch;
        let leads = leader == Some(me) && vote.committed && vote.leader_id.voted_for == me;
        let silence = self.silence();
        let now = if leads && !(is_told && silence < self.fetch_timeout) {
            // Whoever was told that it leads hears otherwise before one and a half fetch timeouts are over.
            let limit = match is_told {
                true => (self.fetch_timeout * 3 / 2).saturating_sub(silence),
                false => self.fetch_timeout,
            };
            let caught_up = match has_others {
                true => timeout(&*self.env.clock, limit, self.catch_up()).await,
                // Nobody can lead in its place, and nothing would have it look again.
                false => Ok(self.catch_up().await),
            };
            match caught_up {
                Ok(Ok(())) => self.leadership(),
                Ok(Err(RaftError::Fatal(fatal))) => return Err(fatal),
                Ok(Err(RaftError::APIError(_))) | Err(_) => {
                    LeaderAndEpoch { leader: None, epoch: epoch_of(vote) }
                }
            }
        } else {
            self.leadership()
        };
        match leads && has_others {
            true => self.note_caught_up(),
            // What an earlier lead of this node saw says nothing of the next.
            false => self.caught_up.lock().clear(),
        }
        self.announce.send_if_modified(|told| std::mem::replace(told, now) != now);
        Ok(())
    }

    /// Waits until everything is applied that was in the log when this node was sure to lead: what an
    /// earlier term of its own left there commits behind its back otherwise.
    async fn catch_up(&self) -> Result<(), RaftError<MetadataRaft, impl std::error::Error>> {
        self.core.ensure_linearizable(ReadPolicy::ReadIndex).await?;
        let mut data = self.core.data_metrics();
        let last = data.borrow_watched().last_log;
        while data.borrow_and_update().last_applied < last {
            if data.changed().await.is_err() {
                return Err(RaftError::Fatal(Fatal::Stopped));
            }
        }
        Ok(())
    }

    /// Who leads as far as this node knows, not counting a leader whose process is gone.
    fn leadership(&self) -> LeaderAndEpoch {
        let (vote, leader, _) = self.situation();
        let is_gone = self.link.vanished() == Some(vote);
        // While a vote is on its way to the disk the two differ.
        let leader =
            leader.filter(|it| vote.committed && vote.leader_id.voted_for == *it && !is_gone);
        LeaderAndEpoch { leader: leader.and_then(|it| node_id_of(it).ok()), epoch: epoch_of(vote) }
    }

    fn situation(&self) -> (Vote, Option<VoterId>, VoterId) {
        let metrics = self.core.server_metrics();
        let metrics = metrics.borrow_watched();
        (metrics.vote, metrics.current_leader, metrics.id)
    }

    /// For how long no majority has answered this leader. One that alone votes needs no answer, whoever follows it.
    fn silence(&self) -> Duration {
        let server = self.core.server_metrics();
        if server.borrow_watched().membership_config.membership().voter_ids().count() < 2 {
            return Duration::ZERO;
        }
        let data = self.core.data_metrics();
        let acked = data.borrow_watched().last_quorum_acked;
        acked.map_or(Duration::MAX, |acked| acked.elapsed())
    }

    fn note_caught_up(&self) {
        let data = self.core.data_metrics();
        let data = data.borrow_watched();
        let now = self.env.clock.wall().0;
        let mut caught_up = self.caught_up.lock();
        for (voter, matching) in data.replication.iter().flatten() {
            if let Ok(node_id) = node_id_of(*voter)
                && *matching >= data.last_log
            {
                caught_up.insert(node_id, now);
            }
        }
    }
}

fn epoch_of(vote: Vote) -> i32 {
    i32::try_from(vote.leader_id.term).unwrap_or(i32::MAX)
}
