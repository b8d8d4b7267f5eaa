//! What can go wrong, for those who use the quorum.

use std::io;
use std::path::PathBuf;

use openraft::errors::Fatal;
use ottla_protocol::{ErrorCode, Uuid, format_uuid};

use super::raft_config::MetadataRaft;
use super::{MAX_PROPOSAL_BYTES, METADATA_LOG_DIR};

/// Why a quorum did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuorumError {
    /// The log on the disk was written by another node or in another cluster.
    #[error("{} belongs to node {node_id} of cluster {}, not to this node", dir.display(), format_uuid(*cluster_id))]
    ForeignLog {
        /// The directory of the log.
        dir: PathBuf,
        /// Whose log it is.
        node_id: i32,
        /// Which cluster's log it is.
        cluster_id: Uuid,
    },
    /// The log on the disk was written in another directory.
    #[error(
        "the metadata log in {} was written as directory {}, and meta.properties beside it says {}: put back the meta.properties that was there, or remove {METADATA_LOG_DIR}, remove this voter from the quorum and add it again", dir.display(), format_uuid(*written), format_uuid(*now)
    )]
    ForeignDirectory {
        /// The directory of the log.
        dir: PathBuf,
        /// `directory.id` when it was written.
        written: Uuid,
        /// `directory.id` now.
        now: Uuid,
    },
    /// The disk failed, or what it holds is damaged.
    #[error("the metadata log cannot be opened: {0}")]
    Disk(#[from] io::Error),
    /// Raft stopped before it had a leader.
    #[error("the metadata quorum stopped while starting: {0}")]
    Stopped(String),
}

/// A committed record that this release cannot apply, and why: who has met it stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the metadata log holds a record that this release cannot apply: {0}. Start the release that wrote it"
)]
pub(crate) struct CannotApply(pub(crate) String);

/// Why a proposal was not committed, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProposeError {
    /// Another node is the active controller, or none is. Nothing was written.
    #[error("this node is not the active controller (which is {leader:?})")]
    NotLeader {
        /// The active controller, if it is known.
        leader: Option<i32>,
    },
    /// A proposal needs at least one record. Nothing was written.
    #[error("a proposal without records")]
    Empty,
    /// The records exceed [`MAX_PROPOSAL_BYTES`]. Nothing was written.
    #[error("a proposal of {bytes} bytes exceeds the limit of {MAX_PROPOSAL_BYTES}")]
    TooLarge {
        /// Bytes of all records.
        bytes: usize,
    },
    /// The disk is full. Nothing was written: a write that fails would stop the quorum.
    #[error(
        "the file system of the metadata log has {available} bytes free, and {needed} are needed: make room"
    )]
    NoRoom {
        /// Bytes that are free.
        available: u64,
        /// Bytes that have to be.
        needed: u64,
    },
    /// Leadership was lost while the proposal was on its way. It may or may not be committed.
    #[error(
        "this node lost the lead of the metadata quorum: the change may or may not have been made"
    )]
    LostLead,
    /// The quorum is stopping. The proposal may or may not be committed.
    #[error("the metadata quorum is shutting down")]
    ShuttingDown,
    /// The log failed; the quorum has stopped. The proposal may or may not be committed.
    #[error("the metadata quorum has failed: {0}")]
    Fault(String),
}

/// Why the voters were not changed, or are not known to be (KIP-853).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeVotersError {
    /// Another node is the active controller, or none is. `NOT_LEADER_OR_FOLLOWER`.
    #[error("this node is not the active controller (which is {leader:?})")]
    NotLeader {
        /// The active controller, if it is known.
        leader: Option<i32>,
    },
    /// It votes already. `DUPLICATE_VOTER`.
    #[error(
        "node {node_id} votes already, with directory {}: remove that voter before adding it with another one", format_uuid(*directory_id)
    )]
    DuplicateVoter {
        /// The voter.
        node_id: i32,
        /// The directory it votes with.
        directory_id: Uuid,
    },
    /// No such voter. `VOTER_NOT_FOUND`.
    #[error("no voter has node id {node_id} and directory {}", format_uuid(*directory_id))]
    VoterNotFound {
        /// The node.
        node_id: i32,
        /// The directory.
        directory_id: Uuid,
    },
    /// The last voter stays. `INVALID_REQUEST`.
    #[error("node {node_id} is the only voter: add another before removing it")]
    LastVoter {
        /// The voter.
        node_id: i32,
    },
    /// What was asked for makes no sense. `INVALID_REQUEST`.
    #[error("{0}")]
    Invalid(String),
    /// Another change is under way. `REQUEST_TIMED_OUT`, as Kafka has it: try again.
    #[error("another change of the voters is under way: try again when it is done")]
    InProgress,
    /// The new voter could not be reached, or did not catch up in time. `REQUEST_TIMED_OUT`.
    #[error("{0}")]
    TimedOut(String),
    /// The quorum is stopping or has failed. The change may or may not be committed.
    #[error("the metadata quorum has failed: {0}")]
    Fault(String),
}

impl ChangeVotersError {
    /// The code that a client is told.
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            Self::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
            Self::DuplicateVoter { .. } => ErrorCode::DuplicateVoter,
            Self::VoterNotFound { .. } => ErrorCode::VoterNotFound,
            Self::LastVoter { .. } | Self::Invalid(_) => ErrorCode::InvalidRequest,
            Self::InProgress | Self::TimedOut(_) => ErrorCode::RequestTimedOut,
            Self::Fault(_) => ErrorCode::UnknownServerError,
        }
    }
}

impl From<Fatal<MetadataRaft>> for ProposeError {
    fn from(fatal: Fatal<MetadataRaft>) -> Self {
        match fatal {
            Fatal::Stopped => Self::ShuttingDown,
            Fatal::StorageError(_) | Fatal::Panicked => Self::Fault(fatal.to_string()),
        }
    }
}

impl From<Fatal<MetadataRaft>> for QuorumError {
    fn from(fatal: Fatal<MetadataRaft>) -> Self {
        Self::Stopped(fatal.to_string())
    }
}
