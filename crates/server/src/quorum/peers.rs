//! The way to other voters: openraft's messages over the node's transport.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::OptionalSend;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use ottla_protocol::{Monotonic, Uuid};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::batch::corrupt;
use super::checkpoint::Checkpoint;
use super::messages::{
    Ballot, Envelope, Party, Reply, Request, Response, SnapshotAnswer, SnapshotPiece,
};
use super::options::{Voter, VoterTransport};
use super::raft_config::{CommittedLeader, MetadataRaft, Vote, VoterId, VoterNode, node_id_of};

/// Bytes of a snapshot in one message.
pub(super) const SNAPSHOT_PIECE_BYTES: usize = 4 << 20;
/// Waits between two tries to reach a voter, doubling from the first to the last.
const RETRIES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Who this node is, and how it speaks to others.
pub(super) struct Link {
    pub(super) me: Party,
    pub(super) cluster_id: Uuid,
    pub(super) request_timeout: Duration,
    transport: Arc<dyn VoterTransport>,
    /// `controller.quorum.voters`: goes before what the membership says of a voter's address.
    configured: BTreeMap<i32, Voter>,
    /// `controller.quorum.bootstrap.servers`.
    servers: Vec<Voter>,
    /// Where this node is reached, if it can tell.
    endpoint: Option<Voter>,
    /// Where voters were last known to be: one that moves is found there by those who speak to it already.
    known: Mutex<BTreeMap<i32, Voter>>,
    /// The leadership whose process is known to be dead.
    vanished: Mutex<Option<Vote>>,
    vanishing: Notify,
    /// When a leader last spoke to this node.
    leader_heard: Mutex<Option<Monotonic>>,
    /// What was last logged about whom, so that it is logged once.
    complaints: Mutex<BTreeMap<i32, String>>,
}

/// Where nodes are, as far as the configuration says.
#[derive(Default)]
pub(super) struct Places {
    /// `controller.quorum.voters`.
    pub(super) voters: Vec<Voter>,
    /// `controller.quorum.bootstrap.servers`.
    pub(super) servers: Vec<Voter>,
    /// Where this node is reached, if it can tell.
    pub(super) endpoint: Option<Voter>,
}

impl Link {
    pub(super) fn new(
        me: Party,
        cluster_id: Uuid,
        request_timeout: Duration,
        places: Places,
        transport: Arc<dyn VoterTransport>,
    ) -> Self {
        let configured = places.voters.into_iter().map(|voter| (voter.node_id, voter));
        Self {
            me,
            cluster_id,
            request_timeout,
            transport,
            configured: configured.collect(),
            servers: places.servers,
            endpoint: places.endpoint,
            known: Mutex::default(),
            vanished: Mutex::default(),
            vanishing: Notify::new(),
            leader_heard: Mutex::default(),
            complaints: Mutex::default(),
        }
    }

    /// Notes that the leader that `vote` made spoke to this node: if its process was taken for dead, it lives.
    pub(super) fn hear_leader(&self, vote: &Vote, now: Monotonic) {
        *self.leader_heard.lock() = Some(now);
        if self.vanished.lock().take_if(|vanished| vanished == vote).is_some() {
            self.vanishing.notify_one();
        }
    }

    /// When a leader last spoke to this node.
    pub(super) fn leader_heard(&self) -> Option<Monotonic> {
        *self.leader_heard.lock()
    }

    /// Where a voter is: as configured, or as the voters agreed.
    pub(super) fn address(&self, node_id: i32, node: &VoterNode) -> Voter {
        let known = || Voter { node_id, host: node.host.clone(), port: node.port };
        self.configured.get(&node_id).cloned().unwrap_or_else(known)
    }

    /// The configured voters, by id.
    pub(super) fn configured(&self) -> impl Iterator<Item = &Voter> {
        self.configured.values()
    }

    /// Whom to ask for the quorum, where no voters are configured.
    pub(super) fn servers(&self) -> &[Voter] {
        &self.servers
    }

    /// Whether `controller.quorum.voters` says where voters are.
    pub(super) fn is_static(&self) -> bool {
        self.servers.is_empty()
    }

    /// Where this node is reached, if it can tell.
    pub(super) fn endpoint(&self) -> Option<&Voter> {
        self.endpoint.as_ref()
    }

    /// Of whom this node would form a quorum, in a form that others compare with theirs.
    pub(super) fn founders(&self) -> Vec<String> {
        let ids = self.configured.keys().map(i32::to_string);
        let mut servers: Vec<_> = self.servers.iter().map(Voter::address).collect();
        servers.sort();
        servers.dedup();
        ids.chain(servers).collect()
    }

    /// Remembers where a voter is, for those who speak to it already.
    pub(super) fn set_known(&self, voter: Voter) {
        self.known.lock().insert(voter.node_id, voter);
    }

    /// Remembers that the process of the leader that `vote` made is dead.
    pub(super) fn set_vanished(&self, vote: Vote) {
        *self.vanished.lock() = Some(vote);
        self.vanishing.notify_one();
    }

    /// Completes when a leader has vanished, or turned out to live, since it last did.
    pub(super) async fn has_vanished(&self) {
        self.vanishing.notified().await;
    }

    /// The leadership whose process is known to be dead.
    pub(super) fn vanished(&self) -> Option<Vote> {
        *self.vanished.lock()
    }

    /// Asks `to`, which has to keep its log in `directory_id` unless that is zero.
    pub(super) async fn call(
        &self,
        to: &Voter,
        directory_id: Uuid,
        request: Request,
        limit: Duration,
    ) -> io::Result<Reply> {
        let (cluster_id, from) = (self.cluster_id, self.me);
        let party = Party { node_id: to.node_id, directory_id };
        let message = Envelope { cluster_id, from, to: party, request }.encode();
        let answer = self.transport.call(to, message, limit).await?;
        let reply = Reply::decode(answer)?;
        if let Response::Refused(why) = &reply.response {
            self.complain(reply.from.node_id, why);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why.clone()));
        }
        if let Response::Stopping = &reply.response {
            // As good as gone, and nothing that anybody has to look after.
            return Err(io::Error::from(io::ErrorKind::NotConnected));
        }
        Ok(reply)
    }

    /// Logs what is wrong with a node, once until something else is.
    pub(super) fn complain(&self, node_id: i32, what: &str) {
        let mut complaints = self.complaints.lock();
        if complaints.get(&node_id).is_none_or(|known| known != what) {
            tracing::error!(node_id, "metadata quorum: {what}");
            complaints.insert(node_id, what.to_owned());
        }
    }
}

/// Makes connections to other voters.
pub(super) struct Peers(pub(super) Arc<Link>);

/// Another voter.
pub(super) struct Peer {
    link: Arc<Link>,
    voter: Voter,
    directory_id: Uuid,
}

fn unreachable(error: &io::Error) -> Unreachable<MetadataRaft> {
    Unreachable::new(error)
}

fn unexpected() -> Unreachable<MetadataRaft> {
    unreachable(&corrupt("it does not answer what it was asked"))
}

impl Peer {
    async fn call(
        &self,
        request: Request,
        limit: Duration,
    ) -> Result<Response, Unreachable<MetadataRaft>> {
        let known = self.link.known.lock().get(&self.voter.node_id).cloned();
        let voter = known.as_ref().unwrap_or(&self.voter);
        let reply = self.link.call(voter, self.directory_id, request, limit).await;
        reply.map(|reply| reply.response).map_err(|error| unreachable(&error))
    }

    fn ballot(&self, request: VoteRequest<MetadataRaft>) -> Ballot {
        Ballot { request, vanished: self.link.vanished() }
    }

    async fn ask_for_vote(
        &self,
        request: Request,
    ) -> Result<VoteResponse<MetadataRaft>, RPCError<MetadataRaft>> {
        let answer = self.call(request, self.link.request_timeout).await?;
        let Response::Vote(response) = answer else { return Err(unexpected().into()) };
        Ok(response)
    }

    /// Sends a snapshot piece by piece; answers the vote of the receiver.
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: &Checkpoint,
    ) -> Result<Vote, Unreachable<MetadataRaft>> {
        let broken = |error: io::Error| unreachable(&error);
        let epoch = snapshot.epoch().map_err(broken)?;
        let whole = snapshot.encode().map_err(broken)?;
        let mut position = 0;
        loop {
            let end = whole.len().min(position + SNAPSHOT_PIECE_BYTES);
            let piece = SnapshotPiece {
                vote,
                end_offset: snapshot.end_offset,
                epoch,
                total: whole.len() as u64,
                position: position as u64,
                bytes: whole.slice(position..end),
            };
            let answer = self.call(Request::Snapshot(piece), self.link.request_timeout).await?;
            let Response::Snapshot(answer) = answer else { return Err(unexpected()) };
            let next = match answer {
                SnapshotAnswer::Done(vote) => return Ok(vote),
                SnapshotAnswer::Continue(next) => usize::try_from(next).ok(),
            };
            position = next.filter(|next| *next < whole.len()).ok_or_else(|| {
                unreachable(&corrupt("it wants bytes that the snapshot does not have"))
            })?;
        }
    }
}

impl RaftNetworkFactory<MetadataRaft> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: VoterId, node: &VoterNode) -> Peer {
        // Ids come from memberships, which hold no others.
        let voter = self.0.address(node_id_of(target).unwrap_or(-1), node);
        self.0.set_known(voter.clone());
        Peer { link: Arc::clone(&self.0), voter, directory_id: node.directory_id }
    }
}

impl RaftNetworkV2<MetadataRaft> for Peer {
    type SnapshotData = Checkpoint;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<MetadataRaft>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<MetadataRaft>, RPCError<MetadataRaft>> {
        // A heartbeat that is late is worth nothing; entries are, as long as the leader waits.
        let limit = match rpc.entries.is_empty() {
            true => option.hard_ttl(),
            false => self.link.request_timeout,
        };
        let answer = self.call(Request::Append(rpc), limit).await?;
        let Response::Append(response) = answer else { return Err(unexpected().into()) };
        Ok(response)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<MetadataRaft>,
        _option: RPCOption,
    ) -> Result<VoteResponse<MetadataRaft>, RPCError<MetadataRaft>> {
        self.ask_for_vote(Request::Vote(self.ballot(rpc))).await
    }

    /// openraft's own answer would be to grant, which would make pre-vote mean nothing.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<MetadataRaft>,
        _option: RPCOption,
    ) -> Result<VoteResponse<MetadataRaft>, RPCError<MetadataRaft>> {
        self.ask_for_vote(Request::PreVote(self.ballot(rpc))).await
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<MetadataRaft>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<MetadataRaft>, RPCError<MetadataRaft>> {
        let expected = rpc.last_log_id().copied();
        let answer = self.call(Request::Transfer(rpc), self.link.request_timeout).await?;
        let Response::Transfer(is_taken) = answer else { return Err(unexpected().into()) };
        Ok(match is_taken {
            true => Ok(()),
            false => Err(TransferLeaderError::LogNotFlushed { expected, actual: None }),
        })
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::storage::Snapshot<CommittedLeader, VoterId, VoterNode, Checkpoint>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<MetadataRaft>, StreamingError<MetadataRaft>> {
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = self.send_snapshot(vote, &snapshot.snapshot) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => Err(error.into()),
            }
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let (first, last) = RETRIES;
        let waits = std::iter::successors(Some(first), move |wait| Some((*wait * 2).min(last)));
        Some(Backoff::new(waits))
    }
}
