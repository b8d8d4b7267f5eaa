//! The embedded metadata quorum: what the controller decides becomes the metadata log.
//!
//! Kafka's KRaft quorum (KIP-500, KIP-595), agreed on by openraft, kept in Kafka's files: the
//! directory `__cluster_metadata-0` holds `quorum-state`, segments of record batches, one batch per
//! Raft entry, and `<offset>-<epoch>.checkpoint` snapshots. No type of openraft leaves this module.
//!
//! ```text
//! propose ─► openraft ─► log_storage (entry_log, quorum_state) ─► fdatasync ─► committed
//!                └─► peers (other voters: none yet)                                │
//! Committed ◄── state_machine ─► MetadataApplier::apply ◄──────────────────────────┘
//! ```
//!
//! Invariants
//! - A proposal is answered after it is on the disk and applied, and is applied exactly once per
//!   run, in offset order, all its records together.
//! - Leadership is announced only once everything earlier leaders committed is applied here, so a
//!   controller that acts on it decides on complete state.
//! - The vote of a term is on the disk before any batch of that term.
//! - What had been flushed and cannot be read refuses to start; only an unflushed tail is cut.
//!
//! Not here: what records mean (`ottla-metadata`), and a transport between voters: a cluster has
//! one voter, and [`MetadataQuorum::start`] refuses more.

mod batch;
mod checkpoint;
mod description;
mod entry_codec;
mod entry_log;
mod errors;
mod log_storage;
mod options;
mod peers;
mod quorum_state;
mod raft_config;
mod state_machine;
#[cfg(test)]
mod tests;

pub(crate) use description::{QuorumDescription, ReplicaState};
pub(crate) use errors::{ChangeVotersError, ProposeError, QuorumError};
pub(crate) use options::{QuorumOptions, Voter, VoterTransport};
pub(crate) use peers::NoTransport;
pub use quorum_state::{QuorumStateContents, read_quorum_state};

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use openraft::errors::{ClientWriteError, Fatal, LinearizableReadError, RaftError};
use openraft::rt::WatchReceiver as _;
use openraft::{Config, Raft, ReadPolicy, SnapshotPolicy};
use ottla_env::{Env, TaskHandle};
use ottla_protocol::Uuid;
use tokio::sync::watch;

use log_storage::LogStorage;
use quorum_state::Owner;
use raft_config::{MetadataRaft, Proposal, Runtime, VoterId, node_id_of, voter_of};
use state_machine::{Progress, StateMachine};

/// Most bytes of records in one proposal, as Kafka bounds a batch of its metadata log.
pub(crate) const MAX_PROPOSAL_BYTES: usize = 8 * 1024 * 1024;

/// Most bytes of a message between voters, and of its answer: a proposal, and what goes with it.
#[allow(dead_code, reason = "not everything that several voters need is in place")]
pub(crate) const MAX_MESSAGE_BYTES: usize = MAX_PROPOSAL_BYTES + (1 << 20);

/// Bytes that have to be free beside those of a proposal: headers, indexes, a new segment.
const MARGIN: u64 = 1 << 20;
/// Bytes that have to be free for a snapshot. Without them the log grows on: a snapshot that does not fit stops the quorum.
const SNAPSHOT_ROOM: u64 = 32 << 20;

/// The directory of the metadata log inside `metadata.log.dir`.
pub(crate) const METADATA_LOG_DIR: &str = "__cluster_metadata-0";

/// Where a proposal stands in the metadata log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// Offset of its first record.
    pub(crate) base_offset: i64,
    /// Offset of its last record.
    pub(crate) last_offset: i64,
    /// Leader epoch it was written in.
    pub(crate) epoch: i32,
}

/// Records that were committed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommittedBatch {
    /// Offset of the first record; the others follow without gaps.
    pub(crate) base_offset: i64,
    /// Leader epoch they were written in.
    pub(crate) epoch: i32,
    /// When they were proposed, in milliseconds since the Unix epoch.
    pub(crate) timestamp: i64,
    /// Encoded metadata records; at least one.
    pub(crate) records: Vec<Bytes>,
}

/// The replayed side of the metadata log. Called from one task, in offset order.
///
/// Calls run on the runtime and must not block for long.
pub(crate) trait MetadataApplier: Send + Sync + 'static {
    /// Applies records that are committed. Offsets between batches that are skipped belong to
    /// the quorum's own entries.
    fn apply(&mut self, batch: CommittedBatch);
    /// The whole state as records that [`MetadataApplier::install`] understands.
    fn snapshot(&self) -> Vec<Bytes>;
    /// Replaces the whole state by that of a snapshot, which stands for everything before `end_offset`,
    /// the last of it written in `epoch`.
    fn install(&mut self, records: Vec<Bytes>, end_offset: i64, epoch: i32);
}

/// Who leads, and since which epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaderAndEpoch {
    /// The active controller; `None` while there is none. This node appears only once it has
    /// applied everything committed before its epoch.
    pub(crate) leader: Option<i32>,
    /// The latest epoch known here.
    pub(crate) epoch: i32,
}

type Core = Raft<MetadataRaft, StateMachine>;

/// This node's part in the metadata quorum. Dropping it stops it without ceremony, like a crash.
pub(crate) struct MetadataQuorum {
    env: Env,
    core: Core,
    storage: LogStorage,
    progress: Arc<Progress>,
    leader: watch::Receiver<LeaderAndEpoch>,
    keeper: TaskHandle,
    directory_id: Uuid,
    voters: Vec<Voter>,
}

impl MetadataQuorum {
    /// Opens or makes the log, replays it into `applier`, and returns once a leader is known.
    ///
    /// A lone voter elects itself at once: no election timeout passes.
    pub(crate) async fn start(
        env: Env,
        options: QuorumOptions,
        applier: impl MetadataApplier,
        transport: Arc<dyn VoterTransport>,
    ) -> Result<Self, QuorumError> {
        let _for_several_voters = transport;
        let voter = check_voters(&options)?;
        let owner = Owner { cluster_id: options.cluster_id, node_id: options.node_id };
        let dir = options.dir.join(METADATA_LOG_DIR);
        let storage = open_storage(&env, options.dir.clone(), owner, options.segment_bytes).await?;
        let progress = Arc::new(Progress::default());
        let state_machine = StateMachine::new(
            (env.clone(), dir),
            Box::new(applier),
            options.max_bytes_between_snapshots,
            Arc::clone(&progress),
            storage.clone(),
        );
        let config = Arc::new(raft_options(&options)?);
        let is_new = storage.last().is_none();
        let store = storage.clone();
        let starting = async move {
            let core = Core::new(voter, config, peers::Peers, store, state_machine).await?;
            if is_new {
                // It elects itself when it has written that it is the only voter.
                let voters = BTreeMap::from([(voter, ())]);
                core.initialize(voters).await.map_err(|error| match error {
                    RaftError::Fatal(fatal) => QuorumError::from(fatal),
                    RaftError::APIError(refused) => QuorumError::Stopped(refused.to_string()),
                })?;
            } else {
                core.trigger().elect(false).await?;
            }
            Ok::<_, QuorumError>(core)
        };
        // Tasks that openraft starts inherit a seed of their own from this one.
        let core = Runtime::scope(env.rng.next_u64(), starting).await?;
        let (announce, leader) = watch::channel(LeaderAndEpoch::default());
        let (kept, progressing) = (storage.clone(), Arc::clone(&progress));
        let keeper = Keeper { core: core.clone(), storage: kept, progress: progressing, announce };
        let keeper = env.spawn("metadata quorum keeper", keeper.run());
        let mut elected = leader.clone();
        let quorum = Self {
            env,
            core,
            storage,
            progress,
            leader,
            keeper,
            directory_id: options.directory_id,
            voters: options.voters,
        };
        match elected.wait_for(|leader| leader.leader.is_some()).await {
            Ok(_) => Ok(quorum),
            Err(_) => Err(QuorumError::Stopped(quorum.why_stopped())),
        }
    }

    /// Commits `records` as one batch and answers once they are applied here.
    ///
    /// Dropping the future does not withdraw them: they may still be committed and applied.
    pub(crate) async fn propose(&self, records: Vec<Bytes>) -> Result<Committed, ProposeError> {
        let bytes = records.iter().map(Bytes::len).sum();
        if records.is_empty() {
            return Err(ProposeError::Empty);
        }
        if bytes > MAX_PROPOSAL_BYTES {
            return Err(ProposeError::TooLarge { bytes });
        }
        let needed = bytes as u64 + MARGIN;
        if let Some(available) = self.storage.free_space().filter(|free| *free < needed) {
            return Err(ProposeError::NoRoom { available, needed });
        }
        let proposal = Proposal { timestamp: self.env.clock.wall().0, records };
        match self.core.client_write(proposal).await {
            Ok(written) => Ok(written.data),
            Err(RaftError::Fatal(fatal)) => Err(fatal.into()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(not_leader(forward.leader_id))
            }
            // Another leader's log replaced the entry; it may commit all the same.
            Err(RaftError::APIError(error @ ClientWriteError::LogEntryDiscarded(_))) => {
                Err(ProposeError::Fault(error.to_string()))
            }
            Err(RaftError::APIError(
                error @ (ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_)),
            )) => Err(ProposeError::Fault(error.to_string())),
        }
    }

    /// Who leads. Closes when the quorum has stopped, however that came about.
    pub(crate) fn leader(&self) -> watch::Receiver<LeaderAndEpoch> {
        self.leader.clone()
    }

    /// Waits until everything committed before the call is applied here, having made sure that
    /// this node still leads: what the applier shows then is not stale.
    #[allow(
        dead_code,
        reason = "a lone voter's reads are never stale; several voters will need it"
    )]
    pub(crate) async fn read_barrier(&self) -> Result<(), ProposeError> {
        match self.core.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(RaftError::Fatal(fatal)) => Err(fatal.into()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(not_leader(forward.leader_id))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ProposeError::NotLeader { leader: None })
            }
        }
    }

    /// Answers a message that [`VoterTransport::call`] brought here, whatever its bytes.
    #[allow(dead_code, reason = "the controller listener will call it")]
    pub(crate) fn answer(&self, _message: Bytes) -> BoxFuture<'static, Bytes> {
        async { Bytes::new() }.boxed()
    }

    /// The process of the voter `node_id` is known to be dead. If it led, this node stands for
    /// election without waiting for silence to last.
    #[allow(dead_code, reason = "the node's connections will call it")]
    pub(crate) fn voter_vanished(&self, _node_id: i32) {}

    /// Adds a voter: it follows first, and votes once it has the log (KIP-853).
    #[allow(dead_code, reason = "AddRaftVoter will call it")]
    pub(crate) async fn add_voter(
        &self,
        voter: Voter,
        _directory_id: Uuid,
    ) -> Result<(), ChangeVotersError> {
        Err(ChangeVotersError::Fault(format!("voter {voter} cannot be added yet")))
    }

    /// Takes the vote from a voter (KIP-853). A leader that is removed leads until that is
    /// committed.
    #[allow(dead_code, reason = "RemoveRaftVoter will call it")]
    pub(crate) async fn remove_voter(
        &self,
        node_id: i32,
        directory_id: Uuid,
    ) -> Result<(), ChangeVotersError> {
        Err(ChangeVotersError::VoterNotFound { node_id, directory_id })
    }

    /// The state of the quorum as this node knows it.
    pub(crate) fn describe(&self) -> QuorumDescription {
        let (log_start_offset, log_end_offset) = self.storage.offsets();
        let node_id = self.storage.owner().node_id;
        let now = self.env.clock.wall().0;
        QuorumDescription {
            leader: *self.leader.borrow(),
            high_watermark: self.progress.applied_end.load(Ordering::Acquire),
            log_start_offset,
            log_end_offset,
            voters: vec![ReplicaState {
                node_id,
                directory_id: self.directory_id,
                log_end_offset,
                // The leader does not fetch: it has all there is, now.
                last_fetch_timestamp: now,
                last_caught_up_timestamp: now,
            }],
            observers: Vec::new(),
            addresses: self.voters.clone(),
        }
    }

    /// Takes a snapshot soon and then purges the log before it; does not wait for either.
    #[allow(dead_code, reason = "for an operator's command, which is not there yet")]
    pub(crate) async fn take_snapshot(&self) -> Result<(), ProposeError> {
        Ok(self.core.trigger().snapshot().await?)
    }

    /// Stops: refuses new proposals, answers those under way, syncs the log.
    pub(crate) async fn shutdown(&self) -> io::Result<()> {
        if let Err(error) = self.core.shutdown().await {
            tracing::error!(%error, "the metadata quorum did not stop well");
        }
        let storage = self.storage.clone();
        self.env.run_blocking(move || storage.close()).await
    }

    /// Why it takes no more part, once it does not.
    pub(crate) fn why_stopped(&self) -> String {
        match &self.core.metrics().borrow_watched().running_state {
            Ok(()) => "it was dropped".to_owned(),
            Err(fatal) => fatal.to_string(),
        }
    }
}

impl Drop for MetadataQuorum {
    fn drop(&mut self) {
        // It holds the core, which stops when nobody holds it.
        self.keeper.abort();
    }
}

/// Watches leadership, and snapshots that are due. Sleeps otherwise.
struct Keeper {
    core: Core,
    storage: LogStorage,
    progress: Arc<Progress>,
    announce: watch::Sender<LeaderAndEpoch>,
}

impl Keeper {
    async fn run(self) {
        let mut server = self.core.server_metrics();
        loop {
            if self.announce_leader().await.is_err() {
                return;
            }
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
            }
        }
    }

    /// Tells who leads; of this node only when it has caught up with its own epoch.
    async fn announce_leader(&self) -> Result<(), Fatal<MetadataRaft>> {
        let metrics = self.core.server_metrics().borrow_watched().clone();
        let mut leader = metrics.current_leader;
        if leader == Some(metrics.id) {
            match self.core.ensure_linearizable(ReadPolicy::ReadIndex).await {
                Ok(_) => {}
                Err(RaftError::Fatal(fatal)) => return Err(fatal),
                Err(RaftError::APIError(_)) => leader = None,
            }
        }
        let now = LeaderAndEpoch {
            leader: leader.and_then(|leader| node_id_of(leader).ok()),
            epoch: i32::try_from(metrics.vote.leader_id.term).unwrap_or(i32::MAX),
        };
        self.announce.send_if_modified(|told| std::mem::replace(told, now) != now);
        Ok(())
    }
}

fn check_voters(options: &QuorumOptions) -> Result<VoterId, QuorumError> {
    let voters: Vec<_> = options.voters.iter().map(|voter| voter.node_id).collect();
    if voters.len() > 1 {
        return Err(QuorumError::SeveralVoters { voters });
    }
    if !options.is_alone() {
        return Err(QuorumError::NotAVoter { node_id: options.node_id, voters });
    }
    Ok(voter_of(options.node_id)?)
}

async fn open_storage(
    env: &Env,
    dir: PathBuf,
    owner: Owner,
    segment_bytes: u32,
) -> Result<LogStorage, QuorumError> {
    let blocking = env.clone();
    let metadata_log_dir = dir.clone();
    let storage = env
        .run_blocking(move || LogStorage::open(&blocking, &metadata_log_dir, owner, segment_bytes))
        .await?;
    let Owner { cluster_id, node_id } = storage.owner();
    if storage.owner() != owner {
        return Err(QuorumError::ForeignLog { dir, node_id, cluster_id });
    }
    Ok(storage)
}

/// openraft's settings. A lone voter needs no clock: it elects itself when told and has nobody to
/// send heartbeats to, so ticks are off and an idle quorum never wakes.
fn raft_options(options: &QuorumOptions) -> Result<Config, QuorumError> {
    let election_timeout = u64::try_from(options.election_timeout.as_millis()).unwrap_or(u64::MAX);
    let election_timeout = election_timeout.clamp(10, 3_600_000);
    let config = Config {
        cluster_name: METADATA_LOG_DIR.to_owned(),
        election_timeout_min: election_timeout,
        election_timeout_max: 2 * election_timeout,
        heartbeat_interval: election_timeout / 5,
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        enable_pre_vote: Some(true),
        // A restart is a new epoch, as with Kafka: what the old one knew in memory is gone.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        api_channel_size: Some(1024),
        ..Config::default()
    };
    config.validate().map_err(|error| QuorumError::Stopped(error.to_string()))
}

fn not_leader(leader: Option<VoterId>) -> ProposeError {
    ProposeError::NotLeader { leader: leader.and_then(|leader| node_id_of(leader).ok()) }
}
