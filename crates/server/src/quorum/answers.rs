//! Answers what other voters and observers say.
//!
//! Whoever speaks names itself and whom it means, with directories (KIP-853): a voter that lost its
//! disk has a new one, and must not vote or count as a copy under the old one's name.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::RaftError;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest};
use openraft::rt::WatchReceiver as _;
use ottla_env::{Env, timeout};
use ottla_protocol::{Uuid, format_uuid};
use parking_lot::Mutex;

use super::batch::corrupt;
use super::checkpoint::Checkpoint;
use super::errors::ChangeVotersError;
use super::log_storage::LogStorage;
use super::messages::{
    Ballot, Envelope, Join, Joined, Party, Reply, Request, Response, SnapshotAnswer, SnapshotPiece,
};
use super::observers::Observers;
use super::peers::Link;
use super::raft_config::{MetadataRaft, Vote, VoterId, voter_of};
use super::voter_changes::VoterChanges;
use super::{Core, METADATA_LOG_DIR};

/// A larger snapshot is refused: it would have to fit into memory, twice.
const MAX_SNAPSHOT_BYTES: u64 = 2 << 30;

/// What a message can ask of this node.
pub(super) struct Answers {
    pub(super) env: Env,
    pub(super) core: Core,
    pub(super) storage: LogStorage,
    pub(super) link: Arc<Link>,
    pub(super) observers: Observers,
    pub(super) changes: VoterChanges,
    /// The snapshot that a leader is sending.
    incoming: Mutex<Option<Incoming>>,
    /// Held for reading by whatever asks Raft.
    asking: tokio::sync::RwLock<()>,
    is_stopping: AtomicBool,
}

/// A snapshot of which not all pieces are here.
struct Incoming {
    vote: Vote,
    end_offset: i64,
    epoch: i32,
    bytes: Vec<u8>,
}

impl Answers {
    pub(super) fn new(storage: &LogStorage, observers: Observers, changes: VoterChanges) -> Self {
        Self {
            env: changes.env.clone(),
            core: changes.core.clone(),
            storage: storage.clone(),
            link: Arc::clone(&changes.link),
            observers,
            changes,
            incoming: Mutex::default(),
            asking: tokio::sync::RwLock::default(),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// Asks Raft nothing more, once it has answered what it has been asked; that is waited for for at most `limit`. Others go
    /// on speaking to a node that stops, as long as it listens.
    pub(super) async fn stop(&self, limit: Duration) {
        let answered = timeout(&*self.env.clock, limit, self.asking.write()).await;
        self.is_stopping.store(true, Ordering::Release);
        drop(answered);
    }

    /// Answers a message, whatever its bytes.
    pub(super) async fn answer(&self, message: Bytes) -> Bytes {
        let response = match Envelope::decode(message) {
            Ok(envelope) => self.respond(envelope).await,
            Err(error) => Response::Refused(format!("this is no message of a voter: {error}")),
        };
        Reply { from: self.link.me, response }.encode()
    }

    async fn respond(&self, envelope: Envelope) -> Response {
        let from = envelope.from;
        if let Err(why) = self.check_parties(&envelope) {
            return Response::Refused(why);
        }
        let asking = self.asking.read().await;
        if self.is_stopping.load(Ordering::Acquire) {
            return Response::Stopping;
        }
        if matches!(envelope.request, Request::Hello | Request::Pull(_) | Request::Join(_)) {
            // They take their time, and Raft has little to do with it.
            drop(asking);
        }
        let responded = match envelope.request {
            Request::Hello => Ok(Response::Hello {
                is_empty: self.storage.last().is_none(),
                founders: self.link.founders(),
                endpoint: self.link.endpoint().cloned(),
            }),
            Request::Append(append) => self.append(from, append).await,
            Request::Vote(ballot) => self.vote(from, ballot, false).await,
            Request::PreVote(ballot) => self.vote(from, ballot, true).await,
            Request::Transfer(transfer) => self.take_over(from, transfer).await,
            Request::Snapshot(piece) => self.take_snapshot_piece(from, piece).await,
            Request::Pull(pull) => {
                let pulled = self.observers.pull(from, &pull, &self.storage).await;
                pulled.map(Response::Pull)
            }
            Request::Join(join) => self.join(from, &join).await,
        };
        responded.unwrap_or_else(|error| Response::Refused(error.to_string()))
    }

    /// Whether the message is for this node, and from whom it says it is.
    fn check_parties(&self, envelope: &Envelope) -> Result<(), String> {
        let (me, from, to) = (self.link.me, envelope.from, envelope.to);
        if envelope.cluster_id != self.link.cluster_id {
            return Err(format!(
                "node {} belongs to cluster {}, not to {}",
                me.node_id,
                format_uuid(self.link.cluster_id),
                format_uuid(envelope.cluster_id)
            ));
        }
        if to.node_id >= 0 && to.node_id != me.node_id {
            return Err(format!("this is node {}, not node {}", me.node_id, to.node_id));
        }
        if differ(to.directory_id, me.directory_id) {
            let why = lost_directory(me, to.directory_id);
            self.link.complain(me.node_id, &why);
            return Err(why);
        }
        // Only a ballot says that a copy lies in the directory it was counted in. An observer has none that matters, a stranger
        // says so by asking who this is, and one that joins may have another than it had. So may a leader: those that elected
        // it knew its directory, and a log that begins anew here tells of earlier ones first.
        if !matches!(envelope.request, Request::Vote(_) | Request::PreVote(_)) {
            return Ok(());
        }
        match self.known_directory(from.node_id) {
            Some(known) if differ(known, from.directory_id) => {
                let why = lost_directory(from, known);
                self.link.complain(from.node_id, &why);
                Err(why)
            }
            _ => Ok(()),
        }
    }

    /// The directory with which a node is in the membership.
    fn known_directory(&self, node_id: i32) -> Option<Uuid> {
        let metrics = self.core.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        Some(membership.get_node(&voter_of(node_id).ok()?)?.directory_id)
    }

    async fn append(
        &self,
        from: Party,
        append: AppendEntriesRequest<MetadataRaft>,
    ) -> io::Result<Response> {
        self.check_leader(from, &append.vote)?;
        if let Some(first) = append.entries.first().and_then(|entry| entry.batch.as_ref())
            && let Some(due) = self.storage.offset_after(append.prev_log_id)
            && first.base_offset != due
        {
            let at = first.base_offset;
            return Err(corrupt(format!("a batch at offset {at} where {due} is due")));
        }
        let committed = self.core.data_metrics().borrow_watched().local_committed;
        let ids = append.prev_log_id.into_iter().chain(append.entries.iter().map(|it| it.log_id));
        // An old leader may: it has to be told of the new one, which openraft does.
        if append.vote.leader_id.term
            >= self.core.server_metrics().borrow_watched().vote.leader_id.term
        {
            for id in ids {
                if committed.is_some_and(|committed| self.storage.contradicts(id, committed)) {
                    return Err(corrupt(format!("entry {id} contradicts what is committed")));
                }
            }
        }
        match self.core.append_entries(append).await {
            Ok(response) => Ok(Response::Append(response)),
            Err(error) => Err(stopped(&error)),
        }
    }

    /// Whoever replicates says that it leads: in its own name, and not to itself.
    fn check_leader(&self, from: Party, vote: &Vote) -> io::Result<()> {
        let leader = voter_of(from.node_id)?;
        if vote.leader_id.voted_for != leader || from.node_id == self.link.me.node_id {
            return Err(corrupt(format!("node {} does not lead with vote {vote}", from.node_id)));
        }
        self.link.hear_leader(vote, self.env.clock.now());
        Ok(())
    }

    async fn vote(&self, from: Party, ballot: Ballot, is_pre_vote: bool) -> io::Result<Response> {
        let candidate = voter_of(from.node_id)?;
        if ballot.request.vote.leader_id.voted_for != candidate
            || from.node_id == self.link.me.node_id
        {
            return Err(corrupt(format!("node {} asks for votes for another", from.node_id)));
        }
        if let Some(vanished) = ballot.vanished {
            let vote = self.core.server_metrics().borrow_watched().vote;
            if vanished == vote && vanished.leader_id.voted_for != voter_of(self.link.me.node_id)? {
                self.link.set_vanished(vanished);
                end_lease(&self.core, vanished).await?;
            }
        }
        let voted = match is_pre_vote {
            true => self.core.pre_vote(ballot.request).await,
            false => self.core.vote(ballot.request).await,
        };
        voted.map(Response::Vote).map_err(|error| stopped(&error))
    }

    async fn take_over(
        &self,
        from: Party,
        transfer: TransferLeaderRequest<MetadataRaft>,
    ) -> io::Result<Response> {
        self.check_leader(from, transfer.from_leader())?;
        let taken = self.core.handle_transfer_leader(transfer).await.map_err(io::Error::other)?;
        Ok(Response::Transfer(taken.is_ok()))
    }

    async fn join(&self, from: Party, join: &Join) -> io::Result<Response> {
        let is_done = match self.changes.join(from, join).await {
            Ok(()) => true,
            // In its turn, when it asks again.
            Err(ChangeVotersError::NotLeader { .. } | ChangeVotersError::InProgress) => false,
            Err(error) => return Err(io::Error::other(error.to_string())),
        };
        let (leader, voters) = (self.observers.leader(), self.observers.addresses());
        Ok(Response::Join(Joined { is_done, leader, voters }))
    }

    async fn take_snapshot_piece(&self, from: Party, piece: SnapshotPiece) -> io::Result<Response> {
        self.check_leader(from, &piece.vote)?;
        let vote = piece.vote;
        let Some(whole) = self.gather(piece)? else {
            let have = self.incoming.lock().as_ref().map_or(0, |incoming| incoming.bytes.len());
            return Ok(Response::Snapshot(SnapshotAnswer::Continue(have as u64)));
        };
        let decode = move || Checkpoint::decode(Bytes::from(whole));
        let snapshot = self.env.run_blocking(decode).await?;
        snapshot.check()?;
        self.check_snapshot(&vote, &snapshot)?;
        let snapshot = openraft::storage::Snapshot { meta: snapshot.meta.clone(), snapshot };
        let installed = self.core.install_full_snapshot(vote, snapshot).await;
        let vote = installed.map_err(io::Error::other)?.vote;
        Ok(Response::Snapshot(SnapshotAnswer::Done(vote)))
    }

    /// Refuses a snapshot that no leader with this vote has, or that is not of the log here. No voter that works sends one,
    /// and Raft stops at it.
    fn check_snapshot(&self, vote: &Vote, snapshot: &Checkpoint) -> io::Result<()> {
        let Some(last) = snapshot.meta.last_log_id else { return Ok(()) };
        if last.leader_id.term > vote.leader_id.term {
            return Err(corrupt(format!("a snapshot up to {last} by a leader with vote {vote}")));
        }
        let committed = self.core.data_metrics().borrow_watched().local_committed;
        if committed.is_some_and(|committed| self.storage.contradicts(last, committed)) {
            return Err(corrupt(format!("a snapshot up to {last} contradicts what is committed")));
        }
        Ok(())
    }

    /// Adds a piece to those that are here; answers the snapshot once it is whole.
    fn gather(&self, piece: SnapshotPiece) -> io::Result<Option<Vec<u8>>> {
        if piece.total > MAX_SNAPSHOT_BYTES {
            return Err(corrupt(format!("a snapshot of {} bytes is too large", piece.total)));
        }
        let mut slot = self.incoming.lock();
        let SnapshotPiece { vote, end_offset, epoch, total, position, bytes } = piece;
        if position == 0 {
            *slot = Some(Incoming { vote, end_offset, epoch, bytes: Vec::new() });
        }
        let Some(incoming) = slot.as_mut() else { return Ok(None) };
        let is_same =
            (incoming.vote, incoming.end_offset, incoming.epoch) == (vote, end_offset, epoch);
        if !is_same {
            *slot = None;
            return Ok(None);
        }
        if incoming.bytes.len() as u64 == position {
            incoming.bytes.extend_from_slice(&bytes);
        }
        if (incoming.bytes.len() as u64) < total {
            return Ok(None);
        }
        Ok(slot.take().map(|incoming| incoming.bytes))
    }
}

/// Makes the lease of the leader that `vanished` made bind nobody here: its process is dead.
///
/// The lease only keeps voters from disturbing a leader that lives; no read relies on it
/// (`ReadPolicy::ReadIndex`). openraft ends it when a leader gives its lead away to a third node,
/// which is how it is told.
pub(super) async fn end_lease(core: &Core, vanished: Vote) -> io::Result<()> {
    const NOBODY: VoterId = VoterId::MAX;
    let given_away = TransferLeaderRequest::new(vanished, NOBODY, None);
    core.handle_transfer_leader(given_away).await.map_err(io::Error::other)?.ok();
    Ok(())
}

/// Whether two directories are known and not the same.
pub(super) fn differ(one: Uuid, other: Uuid) -> bool {
    one != Uuid::ZERO && other != Uuid::ZERO && one != other
}

fn lost_directory(node: Party, known: Uuid) -> String {
    let Party { node_id, directory_id } = node;
    let (known, directory_id) = (format_uuid(known), format_uuid(directory_id));
    format!(
        "node {node_id} votes with directory {known}, and its {METADATA_LOG_DIR} is in directory {directory_id} now: the log it voted with is gone. It takes no part until voter {node_id} with directory {known} is removed and added again with directory {directory_id}"
    )
}

fn stopped<E: std::error::Error>(error: &RaftError<MetadataRaft, E>) -> io::Error {
    io::Error::other(format!("the metadata quorum of this node has stopped: {error}"))
}
