//! What `DescribeQuorum` tells (KIP-595, KIP-836, KIP-853).

use ottla_protocol::Uuid;

use super::{LeaderAndEpoch, Voter};

/// How far a voter or an observer is with the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaState {
    /// Its `node.id`.
    pub(crate) node_id: i32,
    /// The directory that holds its log; zero if that is not known.
    pub(crate) directory_id: Uuid,
    /// Offset of the next record in its log; -1 if unknown.
    pub(crate) log_end_offset: i64,
    /// When it last answered the leader, or asked it, in milliseconds since the Unix epoch; -1 if it never did.
    pub(crate) last_fetch_timestamp: i64,
    /// When it last had all that the leader had, likewise.
    pub(crate) last_caught_up_timestamp: i64,
}

impl ReplicaState {
    /// What is known of the replica `node_id` in a directory.
    pub(super) fn new(
        (node_id, directory_id): (i32, Uuid),
        log_end_offset: i64,
        last_fetch_timestamp: i64,
        last_caught_up_timestamp: i64,
    ) -> Self {
        Self {
            node_id,
            directory_id,
            log_end_offset,
            last_fetch_timestamp,
            last_caught_up_timestamp,
        }
    }
}

/// The quorum as one of its nodes knows it. Only the leader knows how far the others are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuorumDescription {
    /// Leader and epoch.
    pub(crate) leader: LeaderAndEpoch,
    /// Offset of the first record that is not known to be committed and applied here.
    pub(crate) high_watermark: i64,
    /// Offset of the first record not replaced by a snapshot.
    pub(crate) log_start_offset: i64,
    /// Offset of the next record here.
    pub(crate) log_end_offset: i64,
    /// All voters, by id.
    pub(crate) voters: Vec<ReplicaState>,
    /// Who follows without a vote, by id.
    pub(crate) observers: Vec<ReplicaState>,
    /// Where the voters' controller listeners are, by id.
    pub(crate) addresses: Vec<Voter>,
}
