//! What voters and observers say to each other, as bytes.
//!
//! ```text
//! request: version 1 | kind 1 | cluster id 16 | from: node.id 4, directory id 16 | to: likewise | body
//! answer:  version 1 | kind 1 | from: node.id 4, directory id 16 | body
//! ```
//! Entries travel as the batches that the log holds. Every length is checked against what is there,
//! and what would trip Raft (numbers out of range, entries out of order) is refused here.

mod fields;
mod requests;
mod responses;

use bytes::{BufMut, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use ottla_protocol::Uuid;

use super::LeaderAndEpoch;
use super::batch::corrupt;
use super::options::Voter;
use super::raft_config::{MetadataRaft, Vote};
use fields::Fields;

const VERSION: u8 = 2;

/// A node, and the directory in which it keeps its log (KIP-853).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Party {
    /// -1 if only its address is known.
    pub(super) node_id: i32,
    /// Zero if it is not known.
    pub(super) directory_id: Uuid,
}

/// A message, with who sent it to whom.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) cluster_id: Uuid,
    pub(super) from: Party,
    pub(super) to: Party,
    pub(super) request: Request,
}

/// What is said.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// Who are you, and do you have a log?
    Hello,
    Append(AppendEntriesRequest<MetadataRaft>),
    Vote(Ballot),
    PreVote(Ballot),
    Transfer(TransferLeaderRequest<MetadataRaft>),
    Snapshot(SnapshotPiece),
    Pull(Pull),
    /// A controller asks the leader to be replicated to.
    Join(Join),
}

/// A request for a part in the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Join {
    /// Where the node that asks is reached.
    pub(super) endpoint: Voter,
    /// Whether it wants to vote, too.
    pub(super) wants_vote: bool,
}

/// A request for a vote.
#[derive(Clone, Debug)]
pub(super) struct Ballot {
    pub(super) request: VoteRequest<MetadataRaft>,
    /// The leadership whose process the candidate knows to be dead: its lease binds nobody.
    pub(super) vanished: Option<Vote>,
}

/// A piece of a snapshot, in order.
#[derive(Clone, Debug)]
pub(super) struct SnapshotPiece {
    /// Of the leader that sends it.
    pub(super) vote: Vote,
    /// Which snapshot: its end offset and epoch.
    pub(super) end_offset: i64,
    pub(super) epoch: i32,
    /// Bytes of the whole snapshot.
    pub(super) total: u64,
    /// Where in it the piece belongs.
    pub(super) position: u64,
    pub(super) bytes: Bytes,
}

/// An observer asks for what follows its last committed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pull {
    /// Offset of the next record it needs.
    pub(super) offset: i64,
    /// Epoch of the record before it; 0 before the first.
    pub(super) epoch: i32,
    /// Most bytes it wants; a larger batch comes all the same.
    pub(super) max_bytes: u32,
    /// Milliseconds to wait for something to follow.
    pub(super) max_wait_ms: u32,
    /// The snapshot it is in the middle of, by end offset and epoch, and how many bytes it has.
    pub(super) snapshot: Option<(i64, i32, u64)>,
}

/// An answer, with who gave it.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) from: Party,
    pub(super) response: Response,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(super) enum Response {
    /// Nothing was done, and why not.
    Refused(String),
    /// Nothing was done: the node takes part no more until it is started again.
    Stopping,
    Hello {
        /// Whether its log has no entry.
        is_empty: bool,
        /// Of whom it would form a quorum: ids of `controller.quorum.voters`, or
        /// `controller.quorum.bootstrap.servers`, in order.
        founders: Vec<String>,
        /// Where it is reached, if it can tell.
        endpoint: Option<Voter>,
    },
    Append(AppendEntriesResponse<MetadataRaft>),
    Vote(VoteResponse<MetadataRaft>),
    /// Whether leadership is taken over.
    Transfer(bool),
    Snapshot(SnapshotAnswer),
    Pull(Pulled),
    Join(Joined),
}

/// What became of a request to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Joined {
    /// It takes part as it wanted; else the leader is to be asked.
    pub(super) is_done: bool,
    pub(super) leader: LeaderAndEpoch,
    /// Where controllers are, as far as known.
    pub(super) voters: Vec<Voter>,
}

/// What became of a piece of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SnapshotAnswer {
    /// Go on from this byte.
    Continue(u64),
    /// It is installed, or refused for this higher vote.
    Done(Vote),
}

/// What an observer is given.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pulled {
    pub(super) leader: LeaderAndEpoch,
    /// Where controllers are, as far as known.
    pub(super) voters: Vec<Voter>,
    /// Offset of the first record not known to be committed.
    pub(super) high_watermark: i64,
    pub(super) data: PulledData,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum PulledData {
    /// Ask the leader.
    NotLeader,
    /// Committed batches, maybe none.
    Batches(Bytes),
    /// The log begins later: a piece of a snapshot instead.
    Snapshot { end_offset: i64, epoch: i32, total: u64, position: u64, bytes: Bytes },
    /// What the observer has was never committed here.
    Diverged,
}

impl Envelope {
    /// The bytes of the message.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u8(self.request.kind());
        out.put_slice(self.cluster_id.as_bytes());
        fields::put_party(&mut out, self.from);
        fields::put_party(&mut out, self.to);
        self.request.encode(&mut out);
        out.freeze()
    }

    /// The message in `bytes`, which may be anything.
    pub(super) fn decode(bytes: Bytes) -> std::io::Result<Self> {
        let mut fields = Fields::of_version(bytes, VERSION)?;
        let kind = fields.u8()?;
        let (cluster_id, from, to) = (fields.uuid()?, fields.party()?, fields.party()?);
        let request = Request::decode(kind, &mut fields)?;
        fields.end()?;
        Ok(Self { cluster_id, from, to, request })
    }
}

impl Reply {
    /// The bytes of the answer.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u8(self.response.kind());
        fields::put_party(&mut out, self.from);
        self.response.encode(&mut out);
        out.freeze()
    }

    /// The answer in `bytes`, which may be anything.
    pub(super) fn decode(bytes: Bytes) -> std::io::Result<Self> {
        let mut fields = Fields::of_version(bytes, VERSION)?;
        let kind = fields.u8()?;
        let from = fields.party()?;
        let response = Response::decode(kind, &mut fields)?;
        fields.end()?;
        Ok(Self { from, response })
    }
}

/// Decodes `bytes` as a message and as an answer, for tests of what arbitrary bytes do.
pub fn decode_anything(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(envelope) = Envelope::decode(bytes.clone()) {
        let again = Envelope::decode(envelope.encode());
        assert!(again.is_ok(), "{envelope:?} does not survive: {again:?}");
    }
    if let Ok(reply) = Reply::decode(bytes) {
        let again = Reply::decode(reply.encode());
        assert!(again.is_ok(), "{reply:?} does not survive: {again:?}");
    }
}

fn unknown(kind: u8) -> std::io::Error {
    corrupt(format!("a message of unknown kind {kind}"))
}
