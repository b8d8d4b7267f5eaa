//! The first membership of a new quorum.
//!
//! All voters of `controller.quorum.voters` start with empty logs, and exactly one of them may write
//! who votes. That is the one with the lowest id, once each of the others has said that its log is
//! empty too, which cluster it belongs to, and in which directory it keeps its log. If one has a log
//! there is a quorum already, and this node waits until that replicates to it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::errors::{InitializeError, RaftError};
use ottla_env::Env;
use ottla_protocol::Uuid;

use super::Core;
use super::messages::{Request, Response};
use super::options::Voter;
use super::peers::Link;
use super::raft_config::{VoterId, VoterNode, voter_of};

/// Waits between two rounds of asking, doubling from the first to the last.
const ROUNDS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Forms a quorum of the configured voters, unless there is one. Ends once this node has a log.
pub(super) async fn form(env: Env, core: Core, link: Arc<Link>) {
    let lowest = link.configured().map(|voter| voter.node_id).min();
    if lowest != Some(link.me.node_id) {
        return;
    }
    let (mut wait, longest) = ROUNDS;
    while matches!(core.is_initialized().await, Ok(false)) {
        match ask_all(&link).await {
            Ok(members) => match core.initialize(members).await {
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => return,
                Err(error) => {
                    link.complain(link.me.node_id, &format!("it cannot be formed: {error}"));
                    return;
                }
            },
            Err(Obstacle::Unreachable) => {}
            Err(Obstacle::Settled(why)) => link.complain(link.me.node_id, &why),
        }
        env.clock.sleep(wait).await;
        wait = (wait * 2).min(longest);
    }
}

/// Why a quorum is not formed now.
enum Obstacle {
    /// Not all voters answer. They may be starting.
    Unreachable,
    /// Asking again does not help: people have to do something, or another quorum has to.
    Settled(String),
}

/// All voters as members, if each of them has an empty log.
async fn ask_all(link: &Link) -> Result<BTreeMap<VoterId, VoterNode>, Obstacle> {
    let answers = join_all(link.configured().map(|voter| ask(link, voter))).await;
    answers.into_iter().collect()
}

async fn ask(link: &Link, voter: &Voter) -> Result<(VoterId, VoterNode), Obstacle> {
    let member = |directory_id: Uuid| {
        let id = voter_of(voter.node_id).map_err(|error| Obstacle::Settled(error.to_string()))?;
        Ok((id, VoterNode { directory_id, host: voter.host.clone(), port: voter.port }))
    };
    if voter.node_id == link.me.node_id {
        return member(link.me.directory_id);
    }
    let greeted = greet(link, voter, Uuid::ZERO).await.map_err(|_| Obstacle::Unreachable)?;
    let settled = |why: String| Err(Obstacle::Settled(why));
    if greeted.voters != ids(link) {
        return settled(format!(
            "node {} has voters {:?} in controller.quorum.voters, this node has {:?}: they have to be the same to form a quorum",
            voter.node_id,
            greeted.voters,
            ids(link)
        ));
    }
    if !greeted.is_empty {
        return settled(format!(
            "node {} has a metadata log and this node has none: it waits for the quorum to replicate to it. If it lost its disk, remove it from the voters and add it again",
            voter.node_id
        ));
    }
    member(greeted.directory_id)
}

/// Who a node says it is.
pub(super) struct Greeted {
    pub(super) directory_id: Uuid,
    pub(super) is_empty: bool,
    voters: Vec<i32>,
}

/// Asks a node who it is; it has to be who `voter` says, in `directory_id` unless that is zero.
pub(super) async fn greet(link: &Link, voter: &Voter, directory_id: Uuid) -> io::Result<Greeted> {
    let hello = Request::Hello { voters: ids(link) };
    let reply = link.call(voter, directory_id, hello, link.request_timeout).await?;
    let Response::Hello { is_empty, voters } = reply.response else {
        return Err(io::Error::other("it does not answer what it was asked"));
    };
    Ok(Greeted { directory_id: reply.from.directory_id, is_empty, voters })
}

fn ids(link: &Link) -> Vec<i32> {
    link.configured().map(|voter| voter.node_id).collect()
}
