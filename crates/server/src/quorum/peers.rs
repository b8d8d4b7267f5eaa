//! The way to other voters. There is none yet: whoever is asked for is unreachable.
//!
//! A real transport takes this file's place, and with it goes the check for a single voter in
//! [`super::MetadataQuorum::start`].

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use openraft::OptionalSend;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};

use super::checkpoint::Checkpoint;
use super::options::{Voter, VoterTransport};
use super::raft_config::{CommittedLeader, MetadataRaft, Vote, VoterId};

/// The transport of a quorum of one, which has nobody to talk to.
pub(crate) struct NoTransport;

impl VoterTransport for NoTransport {
    fn call(&self, to: &Voter, _: Bytes, _: Duration) -> BoxFuture<'static, io::Result<Bytes>> {
        let why = format!("voter {to} cannot be reached: this node has no way to other voters");
        async move { Err(io::Error::new(io::ErrorKind::NotConnected, why)) }.boxed()
    }
}

/// Makes connections to other voters.
pub(super) struct Peers;

/// A voter that cannot be reached.
pub(super) struct Peer(VoterId);

impl Peer {
    fn unreachable(&self) -> Unreachable<MetadataRaft> {
        let voter = self.0;
        let error = io::Error::new(
            io::ErrorKind::NotConnected,
            format!(
                "voter {voter} cannot be reached: clusters of several nodes are not served yet"
            ),
        );
        Unreachable::new(&error)
    }
}

impl RaftNetworkFactory<MetadataRaft> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: VoterId, _node: &()) -> Peer {
        Peer(target)
    }
}

impl RaftNetworkV2<MetadataRaft> for Peer {
    type SnapshotData = Checkpoint;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<MetadataRaft>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<MetadataRaft>, RPCError<MetadataRaft>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<MetadataRaft>,
        _option: RPCOption,
    ) -> Result<VoteResponse<MetadataRaft>, RPCError<MetadataRaft>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    /// openraft's own answer would be to grant, which would make pre-vote mean nothing.
    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<MetadataRaft>,
        _option: RPCOption,
    ) -> Result<VoteResponse<MetadataRaft>, RPCError<MetadataRaft>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: openraft::storage::Snapshot<CommittedLeader, VoterId, (), Checkpoint>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<MetadataRaft>, StreamingError<MetadataRaft>> {
        Err(StreamingError::Unreachable(self.unreachable()))
    }
}
