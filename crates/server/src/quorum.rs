//! The embedded metadata quorum: what the controller decides becomes the metadata log.
//!
//! Kafka's KRaft quorum (KIP-500, KIP-595), agreed on by openraft, kept in Kafka's files: the
//! directory `__cluster_metadata-0` holds `quorum-state`, segments of record batches, one batch per
//! Raft entry, and `<offset>-<epoch>.checkpoint` snapshots. No type of openraft leaves this module.
//!
//! ```text
//! propose ─► openraft ─► log_storage (entry_log, quorum_state) ─► fdatasync ─► committed
//!                │ └─► peers ─► VoterTransport ─► answers (another voter)           │
//! Committed ◄── state_machine ─► MetadataApplier::apply ◄──────────────────────────┘
//! ```
//! `formation` writes the first membership, `voter_changes` the next, `joining` asks for a part in it, `elections` and `keeper` see to
//! it that somebody leads, `observers` hands out what is committed, `retention` removes what is old. What voters say to each other is
//! in `messages`; docs/adr/0009 says why.
//!
//! Invariants
//! - A proposal is answered after it is on the disk and applied, and is applied exactly once per
//!   run, in offset order, all its records together.
//! - Leadership is announced only once everything earlier leaders committed is applied here, so a
//!   controller that acts on it decides on complete state.
//! - The vote of a term is on the disk before any batch of that term.
//! - What had been flushed and cannot be read refuses to start; only an unflushed tail is cut.
//! - The logs of all voters are the same, byte for byte, as far as they go.
//! - A voter is its id and its directory (KIP-853): with another directory it neither votes nor counts.
//! - A lone voter needs no clock, and an idle one never wakes.
//!
//! Not here: what records mean (`ottla-metadata`), and connections: the node brings them
//! ([`VoterTransport`]).

mod answers;
mod batch;
mod checkpoint;
mod description;
mod elections;
mod entry_codec;
mod entry_log;
mod errors;
mod formation;
mod joining;
mod keeper;
mod log_storage;
mod messages;
mod observers;
mod options;
mod peers;
mod pulling;
mod quorum_state;
mod raft_config;
mod retention;
mod state_machine;
#[cfg(test)]
mod tests;
mod voter_changes;
mod voter_sets;

pub(crate) use description::{QuorumDescription, ReplicaState};
pub(crate) use errors::{CannotApply, ChangeVotersError, ProposeError, QuorumError};
pub use messages::decode_anything as decode_quorum_message;
pub(crate) use options::{QuorumOptions, Voter, VoterTransport};
pub(crate) use pulling::{News, Pulled, Puller};
pub use quorum_state::{QuorumStateContents, read_quorum_state};

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::rt::WatchReceiver as _;
use openraft::{Config, Instant as _, Raft, ReadPolicy, SnapshotPolicy};
use ottla_env::{Env, TaskHandle, timeout};
use ottla_protocol::{Monotonic, Uuid};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use answers::{Answers, differ};
use elections::Elections;
use joining::Joining;
use keeper::{CaughtUp, Keeper};
use log_storage::LogStorage;
use messages::Party;
use observers::Observers;
use peers::{Link, Peers};
use quorum_state::Owner;
use raft_config::{CommittedLeader, MetadataRaft, Proposal, Runtime, VoterId, VoterNode};
use raft_config::{node_id_of, voter_of};
use retention::{Cleaner, Retention};
use state_machine::{Progress, SnapshotDue, StateMachine};
use voter_changes::VoterChanges;

/// Most bytes of records in one proposal, as Kafka bounds a batch of its metadata log.
pub(crate) const MAX_PROPOSAL_BYTES: usize = 8 * 1024 * 1024;

/// Most bytes of a message between voters, and of its answer: a proposal, and what goes with it.
pub(crate) const MAX_MESSAGE_BYTES: usize = MAX_PROPOSAL_BYTES + MARGIN as usize;

/// Bytes beside those of a proposal's records: headers of records and of a message, and what has to
/// be free on the disk for indexes and a new segment.
const MARGIN: u64 = 2 << 20;
/// Bytes that a record takes in a batch beside its value, at most.
const RECORD_OVERHEAD: usize = 16;
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
/// Calls run on the runtime and must not block for long. Once one has failed there are no more: the quorum of this node
/// stops, for it must not lead, nor write snapshots, without what it could not apply.
pub(crate) trait MetadataApplier: Send + Sync + 'static {
    /// Takes records that are committed. Offsets between batches that are skipped belong to
    /// the quorum's own entries.
    fn apply(&mut self, batch: CommittedBatch) -> Result<(), CannotApply>;
    /// Lets everybody see what was applied. A node that was away has many batches to catch up with, and nobody there has to
    /// live through each: topics that came and went meanwhile never were.
    fn publish(&mut self);
    /// The whole state as records that [`MetadataApplier::install`] understands.
    fn snapshot(&self) -> Vec<Bytes>;
    /// Replaces the whole state by that of a snapshot, which stands for everything before `end_offset`,
    /// the last of it written in `epoch`.
    fn install(
        &mut self,
        records: Vec<Bytes>,
        end_offset: i64,
        epoch: i32,
    ) -> Result<(), CannotApply>;
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
    link: Arc<Link>,
    leader: watch::Receiver<LeaderAndEpoch>,
    answers: Arc<Answers>,
    changes: VoterChanges,
    caught_up: CaughtUp,
    election_timeout: Duration,
    /// This one and the others hold the core, which stops when nobody holds it.
    keeper: TaskHandle,
    tasks: Mutex<Vec<TaskHandle>>,
}

impl MetadataQuorum {
    /// Opens or makes the log, and begins to take part.
    ///
    /// A lone voter elects itself, without any timeout, and has replayed its log into `applier` when
    /// this returns. One of several returns when the log is open: [`MetadataQuorum::leader`] tells the
    /// rest.
    pub(crate) async fn start(
        env: Env,
        options: QuorumOptions,
        applier: impl MetadataApplier,
        transport: Arc<dyn VoterTransport>,
    ) -> Result<Self, QuorumError> {
        let storage = open_storage(&env, &options).await?;
        let dir = options.dir.join(METADATA_LOG_DIR);
        let progress = Arc::new(Progress::default());
        let state_machine = StateMachine::new(
            (env.clone(), dir.clone()),
            Box::new(applier),
            SnapshotDue {
                bytes: options.max_bytes_between_snapshots,
                interval: options.max_snapshot_interval,
            },
            Arc::clone(&progress),
            storage.clone(),
        );
        let me = Party { node_id: options.node_id, directory_id: options.directory_id };
        let (cluster_id, limit) = (options.cluster_id, options.request_timeout);
        let link = Arc::new(Link::new(me, cluster_id, limit, options.places(), transport));
        let (core, is_alone) = start_core(&env, &options, &link, &storage, state_machine).await?;
        let (announce, leader) = watch::channel(LeaderAndEpoch::default());
        let caught_up = CaughtUp::default();
        let keeper = Keeper {
            env: env.clone(),
            core: core.clone(),
            storage: storage.clone(),
            progress: Arc::clone(&progress),
            link: Arc::clone(&link),
            announce,
            caught_up: Arc::clone(&caught_up),
            fetch_timeout: options.fetch_timeout,
        };
        let place = (env.clone(), dir, options.node_id);
        let addresses = addresses_of(&core, &link);
        let observers = Observers::new(place, leader.clone(), Arc::clone(&progress), addresses);
        let changes = VoterChanges {
            env: env.clone(),
            core: core.clone(),
            link: Arc::clone(&link),
            leader: leader.clone(),
            turn: Arc::default(),
        };
        let answers = Answers::new(&storage, observers, changes.clone());
        let keeper = env.spawn("metadata quorum keeper", keeper.run());
        let quorum = Self {
            core,
            storage,
            progress,
            link,
            leader: leader.clone(),
            answers: Arc::new(answers),
            changes,
            caught_up,
            election_timeout: options.election_timeout,
            keeper,
            tasks: Mutex::default(),
            env,
        };
        if is_alone {
            let mut elected = leader;
            if elected.wait_for(|leader| leader.leader.is_some()).await.is_err() {
                return Err(QuorumError::Stopped(quorum.why_stopped()));
            }
        } else {
            quorum.find_others(&options);
        }
        quorum.run("metadata log cleaner", quorum.cleaner(&options).run());
        quorum.run("metadata quorum joining", quorum.joining(&options).run());
        Ok(quorum)
    }

    /// Forms a quorum with the other voters, or looks whether it has a leader.
    fn find_others(&self, options: &QuorumOptions) {
        if self.storage.last().is_none() {
            if options.voters.is_empty() {
                return;
            }
            let (env, core, link) = (self.env.clone(), self.core.clone(), Arc::clone(&self.link));
            self.run("metadata quorum formation", formation::form(env, core, link));
            return;
        }
        if options.is_alone() {
            tracing::info!(
                "controller.quorum.voters names this node alone, the metadata log names others: the log counts"
            );
        }
        self.run("metadata quorum election", self.elections().stand_at_start());
    }

    /// Runs `task` for as long as this lives.
    fn run(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(self.env.spawn(name, task));
    }

    fn cleaner(&self, options: &QuorumOptions) -> Cleaner {
        Cleaner {
            env: self.env.clone(),
            core: self.core.clone(),
            storage: self.storage.clone(),
            dir: options.dir.join(METADATA_LOG_DIR),
            progress: Arc::clone(&self.progress),
            retention: Retention {
                bytes: options.max_retention_bytes,
                time: options.max_retention,
            },
        }
    }

    fn joining(&self, options: &QuorumOptions) -> Joining {
        Joining {
            changes: self.changes.clone(),
            auto_join: options.auto_join && !options.bootstrap.is_empty(),
            patience: options.fetch_timeout,
        }
    }

    fn elections(&self) -> Elections {
        let link = Arc::clone(&self.link);
        Elections { env: self.env.clone(), core: self.core.clone(), link }
    }

    /// [`MetadataQuorum::propose_in`] the epoch that is now.
    #[cfg(test)]
    #[cfg(test)]
    pub(crate) async fn propose(&self, records: Vec<Bytes>) -> Result<Committed, ProposeError> {
        let epoch = self.leader.borrow().epoch;
        self.propose_in(epoch, records).await
    }

    /// Commits `records`, decided while this node led in `epoch`, as one batch, and answers once they are
    /// applied here. Refused if it does not lead in that epoch any more, even if it leads again since.
    ///
    /// Dropping the future does not withdraw them: they may still be committed and applied.
    pub(crate) async fn propose_in(
        &self,
        epoch: i32,
        records: Vec<Bytes>,
    ) -> Result<Committed, ProposeError> {
        let bytes: usize = records.iter().map(Bytes::len).sum();
        if records.is_empty() {
            return Err(ProposeError::Empty);
        }
        let with_overhead = bytes + records.len() * RECORD_OVERHEAD;
        if bytes > MAX_PROPOSAL_BYTES || with_overhead > MAX_MESSAGE_BYTES - (1 << 16) {
            let is_many = bytes <= MAX_PROPOSAL_BYTES;
            return Err(ProposeError::TooLarge {
                bytes: if is_many { with_overhead } else { bytes },
            });
        }
        let needed = bytes as u64 + MARGIN;
        if let Some(available) = self.storage.free_space().filter(|free| *free < needed) {
            return Err(ProposeError::NoRoom { available, needed });
        }
        let mut leader = self.leader.clone();
        let told = *leader.borrow_and_update();
        let leads = LeaderAndEpoch { leader: Some(self.link.me.node_id), epoch };
        if told != leads && leader.has_changed().is_ok() {
            return Err(ProposeError::NotLeader { leader: told.leader });
        }
        let proposal = Proposal { timestamp: self.env.clock.wall().0, records };
        let (responder, written) = ProgressResponder::complete_only();
        let term = CommittedLeader::new(u64::from(epoch.unsigned_abs()));
        let write = self.core.write(proposal).with_leader(term).responder(responder);
        write.await?;
        tokio::select! {
            biased;
            written = written => match written {
                Ok(Ok(written)) => Ok(written.data),
                Ok(Err(error)) => Err(refused(error)),
                Err(_dropped) => Err(self.why_not_answered()),
            },
            lost = leader.wait_for(|now| *now != leads) => match lost {
                Ok(_) => Err(ProposeError::LostLead),
                Err(_closed) => Err(self.why_not_answered()),
            },
        }
    }

    fn why_not_answered(&self) -> ProposeError {
        match &self.core.metrics().borrow_watched().running_state {
            Ok(()) => ProposeError::ShuttingDown,
            Err(fatal) => fatal.clone().into(),
        }
    }

    /// Who leads. Closes when the quorum has stopped, however that came about.
    pub(crate) fn leader(&self) -> watch::Receiver<LeaderAndEpoch> {
        self.leader.clone()
    }

    /// When another voter that led last spoke to this node; `None` if none ever did.
    pub(crate) fn leader_heard(&self) -> Option<Monotonic> {
        self.link.leader_heard()
    }

    /// Waits until everything committed before the call is applied here, having made sure that
    /// this node still leads: what the applier shows then is not stale.
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
    pub(crate) fn answer(&self, message: Bytes) -> BoxFuture<'static, Bytes> {
        let answers = Arc::clone(&self.answers);
        async move { answers.answer(message).await }.boxed()
    }

    /// The process of the voter `node_id` is known to be dead. If it led, this node stands for
    /// election without waiting for silence to last.
    pub(crate) fn voter_vanished(&self, node_id: i32) {
        self.run("metadata quorum election", self.elections().leader_vanished(node_id));
    }

    /// Adds a voter: it follows first, and votes once it has the log (KIP-853). Answers within `limit`.
    ///
    /// Once no other change is under way it goes on, whether it is waited for or not.
    pub(crate) async fn add_voter(
        &self,
        voter: Voter,
        directory_id: Uuid,
        limit: Duration,
    ) -> Result<(), ChangeVotersError> {
        let deadline = self.env.clock.now() + limit;
        let turn = self.changes.turn(limit).await?;
        let adding = self.change_voters(self.changes.clone().add(turn, voter, directory_id));
        let left = deadline.since(self.env.clock.now());
        let added = timeout(&*self.env.clock, left, Box::pin(adding)).await;
        added.unwrap_or_else(|_elapsed| {
            let why = "the new voter has not caught up yet: it goes on, look with DescribeQuorum";
            Err(ChangeVotersError::TimedOut(why.to_owned()))
        })
    }

    /// Takes the vote from a voter (KIP-853). A leader that is removed leads until that is
    /// committed.
    ///
    /// Once no other change is under way it goes on, whether it is waited for or not.
    pub(crate) async fn remove_voter(
        &self,
        node_id: i32,
        directory_id: Uuid,
    ) -> Result<(), ChangeVotersError> {
        let turn = self.changes.turn(self.link.request_timeout).await?;
        self.change_voters(self.changes.clone().remove(turn, node_id, directory_id)).await
    }

    async fn change_voters(
        &self,
        change: impl Future<Output = Result<(), ChangeVotersError>> + Send + 'static,
    ) -> Result<(), ChangeVotersError> {
        let (done, changed) = oneshot::channel();
        self.run("metadata quorum voter change", async move {
            let _nobody_waits = done.send(change.await);
        });
        changed.await.unwrap_or_else(|_| Err(ChangeVotersError::Fault(self.why_stopped())))
    }

    /// The state of the quorum as this node knows it.
    pub(crate) fn describe(&self) -> QuorumDescription {
        let (log_start_offset, log_end_offset) = self.storage.offsets();
        let data = self.core.data_metrics().borrow_watched().clone();
        let server = self.core.server_metrics().borrow_watched().clone();
        let leader = *self.leader.borrow();
        let leads = leader.leader == Some(self.link.me.node_id);
        let (wall, caught_up) = (self.env.clock.wall().0, self.caught_up.lock());
        let state = |voter: VoterId, node: &VoterNode| {
            let node_id = node_id_of(voter).ok()?;
            if node_id == self.link.me.node_id {
                // The leader does not fetch: it has all there is, now.
                let now = if leads { wall } else { -1 };
                let directory_id = self.link.me.directory_id;
                return Some(ReplicaState::new((node_id, directory_id), log_end_offset, now, now));
            }
            let matching = data.replication.as_ref().and_then(|known| *known.get(&voter)?);
            let heard = data.heartbeat.as_ref().and_then(|known| *known.get(&voter)?);
            let fetched = heard.map_or(-1, |heard| wall - heard.elapsed().as_millis() as i64);
            let end = matching.and_then(|_| self.storage.offset_after(matching));
            let is_level = leads && matching.is_some() && matching >= data.last_log;
            let level = caught_up.get(&node_id).copied().unwrap_or(-1);
            let level = if is_level { level.max(fetched) } else { level };
            let id = (node_id, node.directory_id);
            Some(ReplicaState::new(id, end.unwrap_or(-1), fetched, level))
        };
        let membership = server.membership_config.membership();
        let (mut voters, mut observers) = (Vec::new(), self.answers.observers.known());
        let mut addresses = Vec::new();
        for (voter, node) in membership.nodes() {
            let Some(state) = state(*voter, node) else { continue };
            observers.retain(|observer| observer.node_id != state.node_id);
            addresses.push(self.link.address(state.node_id, node));
            match membership.voter_ids().any(|it| it == *voter) {
                true => voters.push(state),
                false => observers.push(state),
            }
        }
        observers.sort_by_key(|observer| observer.node_id);
        let high_watermark = *self.progress.applied.borrow();
        QuorumDescription {
            leader,
            high_watermark,
            log_start_offset,
            log_end_offset,
            voters,
            observers,
            addresses,
        }
    }

    /// Takes a snapshot soon and then purges the log before it; does not wait for either.
    #[allow(dead_code, reason = "for an operator's command, which is not there yet")]
    pub(crate) async fn take_snapshot(&self) -> Result<(), ProposeError> {
        Ok(self.core.trigger().snapshot().await?)
    }

    /// Stops: gives its lead away, refuses new proposals, answers those under way, syncs the log.
    pub(crate) async fn shutdown(&self) -> io::Result<()> {
        self.give_lead_away().await;
        self.answers.stop(self.election_timeout).await;
        // The keeper sees to it that whoever looks on hears of the end.
        self.abort_tasks();
        if let Err(error) = self.core.shutdown().await {
            tracing::error!(%error, "the metadata quorum did not stop well");
        }
        let storage = self.storage.clone();
        self.env.run_blocking(move || storage.close()).await
    }

    /// Has the voter that has most of the log lead, so that the others need not find out that this
    /// one is gone.
    async fn give_lead_away(&self) {
        let me = self.core.node_id();
        let data = self.core.data_metrics().borrow_watched().clone();
        let voters: Vec<_> = self.core.voter_ids().filter(|voter| voter != me).collect();
        let known = data.replication.iter().flatten().filter(|(voter, _)| voters.contains(voter));
        let Some((best, _)) = known.max_by_key(|(_, matching)| **matching) else { return };
        if self.core.trigger().transfer_leader(*best).await.is_err() {
            return;
        }
        let mut server = self.core.server_metrics();
        let given = async {
            while server.borrow_and_update().current_leader.as_ref() == Some(me) {
                if server.changed().await.is_err() {
                    return;
                }
            }
        };
        // If it does not work the others find out.
        let _in_time = timeout(&*self.env.clock, self.election_timeout, given).await;
    }

    fn abort_tasks(&self) {
        self.tasks.lock().drain(..).for_each(|task| task.abort());
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
        self.keeper.abort();
        self.abort_tasks();
    }
}

/// Starts openraft, and a lone voter's election; answers whether it is alone.
async fn start_core(
    env: &Env,
    options: &QuorumOptions,
    link: &Arc<Link>,
    storage: &LogStorage,
    state_machine: StateMachine,
) -> Result<(Core, bool), QuorumError> {
    let me = voter_of(options.node_id)?;
    let config = Arc::new(raft_options(options)?);
    let is_new = storage.last().is_none();
    let (peers, store) = (Peers(Arc::clone(link)), storage.clone());
    let node = VoterNode { directory_id: options.directory_id, ..VoterNode::default() };
    let forms_alone = is_new && options.is_alone();
    let starting = async move {
        let core = Core::new(me, config, peers, store, state_machine).await?;
        if forms_alone {
            // It elects itself when it has written that it is the only voter.
            core.initialize(BTreeMap::from([(me, node)])).await.map_err(|error| match error {
                RaftError::Fatal(fatal) => QuorumError::from(fatal),
                RaftError::APIError(refused) => QuorumError::Stopped(refused.to_string()),
            })?;
            return Ok((core, true));
        }
        let voters = core.with_raft_state(|state| {
            state.membership_state.effective().membership().voter_ids().collect::<Vec<_>>()
        });
        let is_alone = voters.await? == [me];
        if is_alone {
            core.trigger().elect(false).await?;
        }
        Ok::<_, QuorumError>((core, is_alone))
    };
    // Tasks that openraft starts inherit a seed of their own from this one.
    Runtime::scope(env.rng.next_u64(), starting).await
}

/// Tells where voters are, now and later.
fn addresses_of(core: &Core, link: &Arc<Link>) -> impl Fn() -> Vec<Voter> + use<> {
    // Not the core itself: what asks is held by what holds it.
    let (server, link) = (core.server_metrics(), Arc::clone(link));
    move || {
        let metrics = server.borrow_watched();
        let nodes = metrics.membership_config.membership().nodes();
        let addresses = nodes.filter_map(|(voter, node)| {
            let node_id = node_id_of(*voter).ok()?;
            Some(link.address(node_id, node))
        });
        addresses.collect()
    }
}

async fn open_storage(env: &Env, options: &QuorumOptions) -> Result<LogStorage, QuorumError> {
    let owner = Owner {
        cluster_id: options.cluster_id,
        node_id: options.node_id,
        directory_id: options.directory_id,
    };
    let (blocking, dir) = (env.clone(), options.dir.clone());
    let segments = (options.segment_bytes, options.segment_time);
    let open = move || LogStorage::open(&blocking, &dir, owner, segments);
    let storage = env.run_blocking(open).await?;
    let Owner { cluster_id, node_id, directory_id } = storage.owner();
    let dir = options.dir.clone();
    if (cluster_id, node_id) != (owner.cluster_id, owner.node_id) {
        return Err(QuorumError::ForeignLog { dir, node_id, cluster_id });
    }
    if differ(directory_id, owner.directory_id) {
        let now = owner.directory_id;
        return Err(QuorumError::ForeignDirectory { dir, written: directory_id, now });
    }
    Ok(storage)
}

/// openraft's settings. Its clock does not run until there is another node (see [`keeper`]): a lone
/// voter elects itself when told and has nobody to send heartbeats to.
///
/// A voter that hears nothing stands for election after a lease, `election_timeout_max`, and a random
/// time between minimum and maximum: `controller.quorum.fetch.timeout.ms` at the earliest. A candidate
/// without a majority tries again after such a random time, which begins at two thirds of
/// `controller.quorum.election.timeout.ms`.
fn raft_options(options: &QuorumOptions) -> Result<Config, QuorumError> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let election_timeout = millis(options.election_timeout).clamp(10, 3_600_000);
    let fetch_timeout = millis(options.fetch_timeout).clamp(10, 3_600_000);
    let shortest = election_timeout * 2 / 3;
    let longest = fetch_timeout.saturating_sub(shortest).max(shortest * 3 / 2);
    let config = Config {
        cluster_name: METADATA_LOG_DIR.to_owned(),
        election_timeout_min: shortest,
        election_timeout_max: longest,
        heartbeat_interval: (shortest / 2).min(fetch_timeout / 6).max(1),
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        enable_pre_vote: Some(true),
        // A restart is a new epoch, as with Kafka: what the old one knew in memory is gone.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        // What is kept is [`retention`]'s matter.
        max_in_snapshot_log_to_keep: u64::MAX,
        api_channel_size: Some(1024),
        ..Config::default()
    };
    config.validate().map_err(|error| QuorumError::Stopped(error.to_string()))
}

fn not_leader(leader: Option<VoterId>) -> ProposeError {
    ProposeError::NotLeader { leader: leader.and_then(|leader| node_id_of(leader).ok()) }
}

fn refused(error: ClientWriteError<MetadataRaft>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => not_leader(forward.leader_id),
        // Another leader's log replaced the entry; it may commit all the same.
        ClientWriteError::LogEntryDiscarded(_) => ProposeError::LostLead,
        error @ (ClientWriteError::ChangeMembershipError(_)
        | ClientWriteError::PreconditionFailed(_)) => ProposeError::Fault(error.to_string()),
    }
}
