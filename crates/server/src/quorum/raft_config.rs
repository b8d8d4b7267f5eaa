//! What openraft is told about us: ids, entries, and the runtime it runs on.

use std::fmt;
use std::io;

use bytes::Bytes;
use openraft::entry::{RaftEntry, RaftPayload};
use openraft::impls::leader_id_std;
use openraft::rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use ottla_protocol::Uuid;

/// A voter's `node.id`; openraft's own tests want an unsigned number.
pub(super) type VoterId = u64;

/// What the membership knows of a voter beside its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VoterNode {
    /// The directory that holds its log; zero if it was never told.
    pub(super) directory_id: Uuid,
    /// Host of its controller listener; empty if it was never told.
    pub(super) host: String,
    pub(super) port: u16,
}

/// Tasks and time of tokio (virtual in a simulation), randomness from a seed that `env` gives.
pub(super) type Runtime = DeterministicRng<TokioRuntime>;

openraft::declare_raft_types!(
    pub(super) MetadataRaft:
        D = Proposal,
        R = super::Committed,
        NodeId = VoterId,
        Node = VoterNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, VoterId>,
        Payload = openraft::EntryPayload<Proposal, VoterId, VoterNode>,
        Entry = LogEntry,
        AsyncRuntime = Runtime,
);

/// A term of one leader, as log ids hold it. At most one leader exists in a term.
pub(super) type CommittedLeader = openraft::type_config::alias::CommittedLeaderIdOf<MetadataRaft>;
pub(super) type LogId = openraft::LogId<CommittedLeader>;
pub(super) type Vote = openraft::impls::Vote<leader_id_std::LeaderId<u64, VoterId>>;
pub(super) type Membership = openraft::Membership<VoterId, VoterNode>;
pub(super) type StoredMembership = openraft::StoredMembership<CommittedLeader, VoterId, VoterNode>;
pub(super) type Payload = openraft::EntryPayload<Proposal, VoterId, VoterNode>;
pub(super) type SnapshotMeta = openraft::storage::SnapshotMeta<CommittedLeader, VoterId, VoterNode>;

/// The log id of the entry number `index`, written in `term`.
pub(super) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeader::new(term), index)
}

/// A decision of the controller on its way into the log.
#[derive(Clone, PartialEq)]
pub(super) struct Proposal {
    /// Milliseconds since the Unix epoch.
    pub(super) timestamp: i64,
    /// Encoded metadata records, at least one.
    pub(super) records: Vec<Bytes>,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} metadata records", self.records.len())
    }
}

/// An entry in the form in which a log holds it, and every other log will.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoredBatch {
    pub(super) base_offset: i64,
    pub(super) bytes: Bytes,
}

/// One Raft entry, which is one record batch of the metadata log.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LogEntry {
    pub(super) log_id: LogId,
    /// Its batch, with the offset of its first record; `None` until a log has made it.
    pub(super) batch: Option<StoredBatch>,
    pub(super) payload: Payload,
}

impl LogEntry {
    /// How many offsets it takes.
    pub(super) fn record_count(&self) -> usize {
        match &self.payload {
            Payload::Normal(proposal) => proposal.records.len(),
            Payload::Blank => 1,
            Payload::Membership(membership) => membership.get_joint_config().len(),
        }
    }
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.log_id, self.payload)
    }
}

impl RaftEntry for LogEntry {
    type CommittedLeaderId = CommittedLeader;
    type Payload = Payload;

    fn new(log_id: LogId, payload: Payload) -> Self {
        Self { log_id, batch: None, payload }
    }

    fn log_id_parts(&self) -> (&CommittedLeader, u64) {
        (&self.log_id.leader_id, self.log_id.index)
    }

    fn set_log_id(&mut self, new: LogId) {
        self.log_id = new;
        self.batch = None;
    }

    fn get_membership(&self) -> Option<Membership> {
        self.payload.get_membership()
    }
}

/// A Raft term as Kafka's 31-bit leader epoch.
pub(super) fn epoch_of(term: u64) -> io::Result<i32> {
    i32::try_from(term).map_err(|_| io::Error::other(format!("term {term} is no leader epoch")))
}

/// A `node.id` as openraft's; negative ids never get past [`super::MetadataQuorum::start`].
pub(super) fn voter_of(node_id: i32) -> io::Result<VoterId> {
    VoterId::try_from(node_id)
        .map_err(|_| io::Error::other(format!("{node_id} cannot be the id of a voter")))
}

/// openraft's id of a voter as a `node.id`.
pub(super) fn node_id_of(voter: VoterId) -> io::Result<i32> {
    i32::try_from(voter).map_err(|_| io::Error::other(format!("{voter} is no node.id")))
}
