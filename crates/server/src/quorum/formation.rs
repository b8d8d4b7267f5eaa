//! The first membership of a new quorum.
//!
//! All founders start with empty logs, and exactly one of them may write who votes. That is the one
//! with the lowest id, once each of the others has said that its log is empty too, which cluster it
//! belongs to, in which directory it keeps its log, and that it knows the same founders. If one has a
//! log there is a quorum already, and this node waits until that replicates to it.
//!
//! The founders are those of `controller.quorum.voters`. Where `controller.quorum.bootstrap.servers`
//! takes its place (KIP-853) they are whoever answers there, and a node that does not find itself among
//! them founds nothing.

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
pub(super) const ROUNDS: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(500));

/// Forms a quorum of the configured voters, unless there is one. Ends once this node has a log.
pub(super) async fn form(env: Env, core: Core, link: Arc<Link>) {
    let lowest = link.configured().map(|voter| voter.node_id).min();
    if lowest != Some(link.me.node_id) {
        return;
    }
    let (mut wait, longest) = ROUNDS;
    while matches!(core.is_initialized().await, Ok(false)) {
        match try_form(&core, &link).await {
            Ok(()) | Err(Obstacle::Fault) => return,
            Err(Obstacle::Unreachable | Obstacle::NotOurs) => {}
            Err(Obstacle::Settled(why)) => link.complain(link.me.node_id, &why),
            Err(Obstacle::Exists(node_id)) => link.complain(link.me.node_id, &format!(
                "node {node_id} has a metadata log and this node has none: it waits for the quorum to replicate to it. If it lost its disk, remove it from the voters and add it again"
            )),
        }
        env.clock.sleep(wait).await;
        wait = (wait * 2).min(longest);
    }
}

/// Why a quorum is not formed now.
pub(super) enum Obstacle {
    /// Not all founders answer. They may be starting.
    Unreachable,
    /// Another of the founders forms it, or this node is none of them.
    NotOurs,
    /// This node has a log, so there is a quorum.
    Exists(i32),
    /// Asking again does not help: people have to do something.
    Settled(String),
    /// The quorum of this node has stopped.
    Fault,
}

/// Writes the first membership, if it is up to this node and all founders are ready.
pub(super) async fn try_form(core: &Core, link: &Link) -> Result<(), Obstacle> {
    let members = ask_all(link).await?;
    match core.initialize(members).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => {
            link.complain(link.me.node_id, &format!("it cannot be formed: {error}"));
            Err(Obstacle::Fault)
        }
    }
}

/// All founders as members, if each of them has an empty log and this node is the first of them.
async fn ask_all(link: &Link) -> Result<BTreeMap<VoterId, VoterNode>, Obstacle> {
    let places = link.configured().chain(link.servers());
    let answers = join_all(places.map(|place| ask(link, place))).await;
    let mut members = BTreeMap::new();
    for answer in answers {
        let (voter, node) = answer?;
        let directory_id = node.directory_id;
        let other = members.insert(voter, node);
        if other.is_some_and(|other: VoterNode| other.directory_id != directory_id) {
            return Err(Obstacle::Settled(format!(
                "two of controller.quorum.bootstrap.servers have node.id={voter}: give each node its own"
            )));
        }
    }
    let me = voter_of(link.me.node_id).ok();
    let is_here = me.and_then(|me| members.get(&me)).map(|node| node.directory_id);
    if members.keys().next().copied() != me || is_here != Some(link.me.directory_id) {
        return Err(Obstacle::NotOurs);
    }
    Ok(members)
}

async fn ask(link: &Link, place: &Voter) -> Result<(VoterId, VoterNode), Obstacle> {
    let member = |directory_id: Uuid, at: &Voter| {
        let id = voter_of(at.node_id).map_err(|error| Obstacle::Settled(error.to_string()))?;
        Ok((id, VoterNode { directory_id, host: at.host.clone(), port: at.port }))
    };
    if place.node_id == link.me.node_id {
        return member(link.me.directory_id, place);
    }
    let greeted = greet(link, place, Uuid::ZERO).await.map_err(|_| Obstacle::Unreachable)?;
    let node_id = greeted.node_id;
    if !greeted.is_empty {
        return Err(Obstacle::Exists(node_id));
    }
    let founders = link.founders();
    if greeted.founders != founders {
        let key = match link.servers().is_empty() {
            true => "controller.quorum.voters",
            false => "controller.quorum.bootstrap.servers",
        };
        return Err(Obstacle::Settled(format!(
            "to form a quorum, node {node_id} looks for {}, this node for {}: {key} has to name the same on both",
            greeted.founders.join(", "),
            founders.join(", ")
        )));
    }
    let told = greeted.endpoint.filter(|_| place.node_id < 0);
    let at = told.unwrap_or_else(|| place.clone());
    member(greeted.directory_id, &Voter { node_id, ..at })
}

/// Who a node says it is.
pub(super) struct Greeted {
    pub(super) node_id: i32,
    pub(super) directory_id: Uuid,
    is_empty: bool,
    founders: Vec<String>,
    endpoint: Option<Voter>,
}

/// Asks a node who it is; it has to be who `voter` says, in `directory_id` unless that is zero.
pub(super) async fn greet(link: &Link, voter: &Voter, directory_id: Uuid) -> io::Result<Greeted> {
    let reply = link.call(voter, directory_id, Request::Hello, link.request_timeout).await?;
    let Response::Hello { is_empty, founders, endpoint } = reply.response else {
        return Err(io::Error::other("it does not answer what it was asked"));
    };
    let (node_id, directory_id) = (reply.from.node_id, reply.from.directory_id);
    Ok(Greeted { node_id, directory_id, is_empty, founders, endpoint })
}
