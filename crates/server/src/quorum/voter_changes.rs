//! Adding, moving and removing voters while the quorum runs (KIP-853), one at a time.
//!
//! A node first follows, as a learner, and votes once it has the log. Where controllers find the quorum
//! by `controller.quorum.bootstrap.servers` those without a vote follow, too, and so does everywhere who has lost its
//! vote: they ask for it ([`VoterChanges::join`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::rt::WatchReceiver as _;
use ottla_env::{Env, timeout};
use ottla_protocol::{Uuid, format_uuid};
use tokio::sync::watch;

use super::answers::differ;
use super::errors::ChangeVotersError;
use super::formation::greet;
use super::messages::{Join, Party};
use super::options::Voter;
use super::peers::Link;
use super::raft_config::{Membership, MetadataRaft, VoterId, VoterNode, node_id_of, voter_of};
use super::{Core, LeaderAndEpoch};

/// A new voter that gets no further for so long is given up.
const CATCH_UP: Duration = Duration::from_secs(30);
/// How long an entry of this kind may take to be committed.
const COMMIT: Duration = Duration::from_secs(30);

/// Changes the voters, as their leader.
#[derive(Clone)]
pub(super) struct VoterChanges {
    pub(super) env: Env,
    pub(super) core: Core,
    pub(super) link: Arc<Link>,
    pub(super) leader: watch::Receiver<LeaderAndEpoch>,
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

/// Who has it may change the voters.
pub(super) type Turn = tokio::sync::OwnedMutexGuard<()>;

impl VoterChanges {
    /// Waits for at most `limit` until no change is under way: nodes that follow make them, too, of which whoever asks for
    /// this one need not know.
    pub(super) async fn turn(&self, limit: Duration) -> Result<Turn, ChangeVotersError> {
        let turn = Arc::clone(&self.turn).lock_owned();
        let turn = timeout(&*self.env.clock, limit, turn).await;
        turn.map_err(|_elapsed| ChangeVotersError::InProgress)
    }

    /// Has a node follow, waits until it has the log, and gives it a vote.
    pub(super) async fn add(
        self,
        _turn: Turn,
        voter: Voter,
        directory: Uuid,
    ) -> Result<(), ChangeVotersError> {
        self.check_leads()?;
        let id = checked_id(voter.node_id, directory)?;
        if self.votes(id) {
            let directory_id = self.known(id).unwrap_or_default().directory_id;
            let node_id = voter.node_id;
            return Err(ChangeVotersError::DuplicateVoter { node_id, directory_id });
        }
        self.check_is_there(&voter, directory).await?;
        self.give_vote(id, &voter, directory).await
    }

    /// Has a node take part as it asks for: it follows, or votes, at the place that it names. One that votes with
    /// another directory loses that vote, if it wants another in its place (KIP-1186).
    pub(super) async fn join(&self, who: Party, join: &Join) -> Result<(), ChangeVotersError> {
        self.check_leads()?;
        let (node_id, directory_id) = (who.node_id, who.directory_id);
        let id = checked_id(node_id, directory_id)?;
        let voter = Voter { node_id, ..join.endpoint.clone() };
        let known = self.known(id);
        let is_known = known.as_ref() == Some(&node_at(&voter, directory_id));
        let stays = |known: &VoterNode| {
            self.link.is_static() && self.votes(id) && !differ(known.directory_id, directory_id)
        };
        if is_known && (self.votes(id) || !join.wants_vote) || known.as_ref().is_some_and(stays) {
            return Ok(());
        }
        let Ok(_turn) = self.turn.try_lock() else { return Err(ChangeVotersError::InProgress) };
        self.check_is_there(&voter, directory_id).await?;
        if self.votes(id) {
            let voted_with = known.unwrap_or_default().directory_id;
            if !differ(voted_with, directory_id) {
                return self.move_voter(id, voter, directory_id).await;
            }
            if !join.wants_vote {
                return Err(ChangeVotersError::DuplicateVoter {
                    node_id,
                    directory_id: voted_with,
                });
            }
            self.take_vote(id, node_id).await?;
        }
        match join.wants_vote {
            true => self.give_vote(id, &voter, directory_id).await,
            false => self.follow(id, &voter, directory_id).await,
        }
    }

    /// Notes that a voter is reached elsewhere, for which Kafka has UpdateRaftVoter. Who votes stays as it is.
    async fn move_voter(
        &self,
        id: VoterId,
        voter: Voter,
        directory: Uuid,
    ) -> Result<(), ChangeVotersError> {
        let node = node_at(&voter, directory);
        // Before it is written: a majority may need the voter that moved.
        self.link.set_known(voter);
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, node)])), true).await
    }

    /// Has a node follow that does not vote.
    async fn follow(
        &self,
        id: VoterId,
        voter: &Voter,
        directory: Uuid,
    ) -> Result<(), ChangeVotersError> {
        let node = node_at(voter, directory);
        let known = self.known(id);
        if known.is_some_and(|known| known != node) {
            // It moved, or lost its disk, or a change that was given up left it behind.
            self.forget(id).await?;
        }
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, node)])), true).await
    }

    /// Has a node follow, waits until it has the log, and gives it a vote.
    async fn give_vote(
        &self,
        id: VoterId,
        voter: &Voter,
        directory: Uuid,
    ) -> Result<(), ChangeVotersError> {
        let followed = self.known(id).as_ref() == Some(&node_at(voter, directory));
        self.follow(id, voter, directory).await?;
        let caught_up = self.wait_until_caught_up(id, voter.node_id).await;
        let added = match caught_up {
            Ok(()) => self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id])), true).await,
            Err(error) => Err(error),
        };
        if added.is_err() && !followed && !self.votes(id) {
            // If that fails too, the next attempt to add it cleans up.
            let _left = self.forget(id).await;
        }
        added
    }

    /// Replicates no more to a node that only follows.
    async fn forget(&self, id: VoterId) -> Result<(), ChangeVotersError> {
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id])), false).await
    }

    /// [`VoterChanges::forget`] nodes that follow no more, unless another change is under way.
    pub(super) async fn forget_silent(
        &self,
        silent: Vec<VoterId>,
    ) -> Result<(), ChangeVotersError> {
        let Ok(_turn) = self.turn.try_lock() else { return Err(ChangeVotersError::InProgress) };
        for id in silent.into_iter().filter(|id| !self.votes(*id)) {
            self.forget(id).await?;
        }
        Ok(())
    }

    /// Takes the vote from a node. If that is this one, it leads until it is committed.
    pub(super) async fn remove(
        self,
        _turn: Turn,
        node_id: i32,
        directory: Uuid,
    ) -> Result<(), ChangeVotersError> {
        self.check_leads()?;
        let missing = ChangeVotersError::VoterNotFound { node_id, directory_id: directory };
        let Ok(id) = voter_of(node_id) else { return Err(missing) };
        let membership = self.membership();
        let Some(node) = membership.get_node(&id) else { return Err(missing) };
        if !self.votes(id) || differ(node.directory_id, directory) {
            return Err(missing);
        }
        self.take_vote(id, node_id).await
    }

    async fn take_vote(&self, id: VoterId, node_id: i32) -> Result<(), ChangeVotersError> {
        if self.membership().voter_ids().count() == 1 {
            return Err(ChangeVotersError::LastVoter { node_id });
        }
        self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id])), false).await
    }

    fn votes(&self, id: VoterId) -> bool {
        self.membership().voter_ids().any(|voter| voter == id)
    }

    /// What the membership says of a node.
    fn known(&self, id: VoterId) -> Option<VoterNode> {
        self.membership().get_node(&id).cloned()
    }

    fn check_leads(&self) -> Result<(), ChangeVotersError> {
        let leader = self.leader.borrow().leader;
        if leader != Some(self.link.me.node_id) {
            return Err(ChangeVotersError::NotLeader { leader });
        }
        Ok(())
    }

    fn membership(&self) -> Membership {
        self.core.server_metrics().borrow_watched().membership_config.membership().clone()
    }

    /// Asks the new voter itself, so that a wrong address or directory is found before anything is written.
    async fn check_is_there(
        &self,
        voter: &Voter,
        directory: Uuid,
    ) -> Result<(), ChangeVotersError> {
        if voter.node_id == self.link.me.node_id {
            return Ok(());
        }
        let greeted = greet(&self.link, voter, Uuid::ZERO).await.map_err(|error| {
            ChangeVotersError::TimedOut(format!("voter {voter} does not answer: {error}"))
        })?;
        if greeted.directory_id != directory {
            return Err(ChangeVotersError::Invalid(format!(
                "voter {voter} keeps its metadata log in directory {}, not in {}",
                format_uuid(greeted.directory_id),
                format_uuid(directory)
            )));
        }
        Ok(())
    }

    /// Waits until the node `id` has all that is in the log now.
    async fn wait_until_caught_up(
        &self,
        id: VoterId,
        node_id: i32,
    ) -> Result<(), ChangeVotersError> {
        let mut data = self.core.data_metrics();
        let goal = data.borrow_watched().last_log;
        let mut reached = None;
        while reached < goal {
            let advance = async {
                loop {
                    let replication = data.borrow_and_update().replication.clone();
                    let matching = replication?.get(&id).copied().flatten();
                    if matching > reached {
                        return matching;
                    }
                    data.changed().await.ok()?;
                }
            };
            reached = match timeout(&*self.env.clock, CATCH_UP, advance).await {
                Ok(Some(matching)) => Some(matching),
                Ok(None) => {
                    let leader = self.leader.borrow().leader;
                    return Err(ChangeVotersError::NotLeader { leader });
                }
                Err(_elapsed) => {
                    let seconds = CATCH_UP.as_secs();
                    return Err(ChangeVotersError::TimedOut(format!(
                        "node {node_id} got no further with the metadata log for {seconds} seconds: it was not made a voter"
                    )));
                }
            };
        }
        Ok(())
    }

    async fn change(
        &self,
        change: ChangeMembers<VoterId, VoterNode>,
        retain: bool,
    ) -> Result<(), ChangeVotersError> {
        let changed = self.core.change_membership(change, retain);
        match timeout(&*self.env.clock, COMMIT, changed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_elapsed) => Err(ChangeVotersError::TimedOut(format!(
                "the change of the voters was not committed within {} seconds; it may be later",
                COMMIT.as_secs()
            ))),
        }
    }
}

fn node_at(voter: &Voter, directory_id: Uuid) -> VoterNode {
    VoterNode { directory_id, host: voter.host.clone(), port: voter.port }
}

/// The id of a node that is to take part, which has to name its directory.
fn checked_id(node_id: i32, directory: Uuid) -> Result<VoterId, ChangeVotersError> {
    let id = voter_of(node_id).map_err(|error| ChangeVotersError::Invalid(error.to_string()))?;
    if directory == Uuid::ZERO {
        let why = format!("the directory id of node {node_id} is missing");
        return Err(ChangeVotersError::Invalid(why));
    }
    Ok(id)
}

type Refused = RaftError<MetadataRaft, ClientWriteError<MetadataRaft>>;

impl From<Refused> for ChangeVotersError {
    fn from(error: Refused) -> Self {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => Self::NotLeader {
                leader: forward.leader_id.and_then(|leader| node_id_of(leader).ok()),
            },
            RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_)
                | ChangeMembershipError::UncommittedLeaderLog(_),
            )) => Self::InProgress,
            RaftError::Fatal(fatal) => Self::Fault(fatal.to_string()),
            RaftError::APIError(error) => Self::Fault(error.to_string()),
        }
    }
}
