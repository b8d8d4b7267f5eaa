//! Finds the quorum by `controller.quorum.bootstrap.servers`, and sees to it that this controller has its
//! part in it (KIP-853): it forms one with the others that are new, or follows the one that is there, votes
//! if it may give itself a vote (KIP-1186), and says so when it is reached elsewhere.
//!
//! With `controller.quorum.voters` in their place it does one thing only: a node that had a part in the quorum and hears nothing
//! of it any more asks to be replicated to. It may have lost its vote, of which nobody tells it.
//!
//! Whoever leads forgets those that only follow and have been silent for long: a controller that was taken
//! away for good is not tried for ever.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use openraft::Instant as _;
use openraft::rt::WatchReceiver as _;
use ottla_protocol::{Monotonic, Uuid};

use super::formation::{Obstacle, ROUNDS, try_form};
use super::messages::{Join, Joined, Request, Response};
use super::options::Voter;
use super::raft_config::{Membership, VoterId, node_id_of, voter_of};
use super::voter_changes::VoterChanges;

/// Who only follows and has not answered for so many fetch timeouts is forgotten: 5 minutes, as in Kafka.
const SILENCE: u32 = 150;
/// How long giving a vote may take: the log has to be brought first.
const VOTE_LIMIT: Duration = Duration::from_secs(90);
/// Nodes that are asked in one round, at most.
const MOST_ASKED: usize = 100;

/// Finds the quorum, and joins it.
pub(super) struct Joining {
    pub(super) changes: VoterChanges,
    /// `controller.quorum.auto.join.enable`.
    pub(super) auto_join: bool,
    /// `controller.quorum.fetch.timeout.ms`: how long it bears to know of no leader before it asks around.
    pub(super) patience: Duration,
}

impl Joining {
    pub(super) async fn run(self) {
        let (first, longest) = ROUNDS;
        let mut wait = first;
        let mut heard = BTreeMap::new();
        loop {
            if self.is_settled() {
                self.forget_silent(&mut heard).await;
                if !self.rest().await {
                    return;
                }
                wait = first;
                continue;
            }
            match self.round().await {
                // It is seen here when it has been replicated to this node.
                Ok(true) => self.changes.env.clock.sleep(wait.max(self.patience / 4)).await,
                Ok(false) => self.changes.env.clock.sleep(wait).await,
                Err(_said) => self.changes.env.clock.sleep(self.patience).await,
            }
            wait = (wait * 2).min(longest);
        }
    }

    /// Waits a while; until something changes where nobody else is: a lone voter never wakes. Whether the quorum
    /// still runs.
    async fn rest(&self) -> bool {
        if self.membership().nodes().count() > 1 {
            self.changes.env.clock.sleep(self.patience).await;
            return true;
        }
        let (mut server, mut leader) =
            (self.changes.core.server_metrics(), self.changes.leader.clone());
        leader.borrow_and_update();
        server.borrow_and_update();
        if !self.is_settled() {
            return true;
        }
        tokio::select! {
            biased;
            changed = server.changed() => changed.is_ok(),
            changed = leader.changed() => changed.is_ok(),
        }
    }

    /// Whether this node has the part in the quorum that it is to have.
    fn is_settled(&self) -> bool {
        let Self { changes, .. } = self;
        let membership = self.membership();
        let me = voter_of(changes.link.me.node_id).ok();
        let known = me.and_then(|me| membership.get_node(&me));
        let is_known = known.is_some_and(|known| {
            let endpoint = changes.link.endpoint();
            let is_here = |at: &Voter| {
                changes.link.is_static() || (&at.host, at.port) == (&known.host, known.port)
            };
            known.directory_id == changes.link.me.directory_id && endpoint.is_none_or(is_here)
        });
        let votes = membership.voter_ids().any(|voter| Some(voter) == me);
        is_known && (votes || !self.auto_join) && self.has_leader()
    }

    /// Whether this node leads, or hears from who does: one that is taken out of the quorum is not told so.
    fn has_leader(&self) -> bool {
        let Self { changes, .. } = self;
        let leader = changes.leader.borrow().leader;
        let heard = changes.link.leader_heard();
        let silence = heard.map(|heard| changes.env.clock.now().since(heard));
        leader == Some(changes.link.me.node_id)
            || leader.is_some() && silence.is_some_and(|silence| silence < self.patience)
    }

    fn membership(&self) -> Membership {
        let metrics = self.changes.core.server_metrics();
        metrics.borrow_watched().membership_config.membership().clone()
    }

    /// Tries once; whether this node takes part as it wants, as the leader says.
    async fn round(&self) -> io::Result<bool> {
        let Self { changes, .. } = self;
        if matches!(changes.core.is_initialized().await, Ok(false)) {
            if changes.link.is_static() {
                // `formation` sees to it, or it waits until it is added.
                return Ok(false);
            }
            match try_form(&changes.core, &changes.link).await {
                Ok(()) => return Ok(true),
                Err(Obstacle::Settled(why)) => {
                    changes.link.complain(changes.link.me.node_id, &why);
                    return Ok(false);
                }
                Err(Obstacle::Fault) => return Ok(false),
                Err(Obstacle::Unreachable | Obstacle::NotOurs | Obstacle::Exists(_)) => {}
            }
        }
        let Some(endpoint) = changes.link.endpoint().cloned() else { return Ok(false) };
        let join = Join { endpoint, wants_vote: self.auto_join };
        if changes.leader.borrow().leader == Some(changes.link.me.node_id) {
            let joined = changes.join(changes.link.me, &join).await;
            return joined.map(|()| true).map_err(io::Error::other);
        }
        self.ask_around(join).await
    }

    /// Asks whoever may know the leader, and the leader itself when somebody does.
    async fn ask_around(&self, join: Join) -> io::Result<bool> {
        let link = &self.changes.link;
        let membership = self.membership();
        let known = membership.nodes().filter_map(|(voter, node)| {
            let node_id = node_id_of(*voter).ok()?;
            Some(link.address(node_id, node))
        });
        let mut due: VecDeque<(Voter, bool)> =
            known.chain(link.servers().iter().cloned()).map(|place| (place, false)).collect();
        let mut asked: Vec<Voter> = Vec::new();
        let mut failed = None;
        while let Some((place, leads)) = due.pop_front().filter(|_| asked.len() < MOST_ASKED) {
            if place.node_id == link.me.node_id || asked.contains(&place) {
                continue;
            }
            match self.ask(&place, &join, leads).await {
                Ok(Joined { is_done: true, .. }) => return Ok(true),
                Ok(Joined { leader, voters, .. }) => {
                    let leader = voters.into_iter().find(|it| Some(it.node_id) == leader.leader);
                    if let Some(leader) = leader {
                        due.push_front((leader, true));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    failed = Some(error);
                }
                Err(_unreachable) => {}
            }
            asked.push(place);
        }
        failed.map_or(Ok(false), Err)
    }

    async fn ask(&self, place: &Voter, join: &Join, leads: bool) -> io::Result<Joined> {
        let link = &self.changes.link;
        let limit = match leads && join.wants_vote {
            true => VOTE_LIMIT,
            false => link.request_timeout,
        };
        let request = Request::Join(join.clone());
        let Response::Join(joined) = link.call(place, Uuid::ZERO, request, limit).await?.response
        else {
            return Err(io::Error::other("it does not answer what it was asked"));
        };
        Ok(joined)
    }

    /// As the leader: replicates no more to nodes without a vote that have been silent for long.
    async fn forget_silent(&self, heard: &mut BTreeMap<VoterId, Monotonic>) {
        let Self { changes, .. } = self;
        if changes.leader.borrow().leader != Some(changes.link.me.node_id) {
            heard.clear();
            return;
        }
        let (now, longest) = (changes.env.clock.now(), self.patience * SILENCE);
        let data = changes.core.data_metrics();
        let answered = data.borrow_watched().heartbeat.clone().unwrap_or_default();
        let membership = self.membership();
        heard.retain(|id, _| membership.learner_ids().any(|learner| learner == *id));
        for learner in membership.learner_ids() {
            let last = answered.get(&learner).copied().flatten();
            let since = heard.entry(learner).or_insert(now);
            if let Some(last) = last {
                *since = now - last.elapsed();
            }
        }
        let silent = heard.iter().filter(|(_, since)| now.since(**since) >= longest);
        let silent: Vec<VoterId> = silent.map(|(id, _)| *id).collect();
        if !silent.is_empty() && changes.forget_silent(silent.clone()).await.is_ok() {
            tracing::info!(?silent, "controllers without a vote that were silent are forgotten");
        }
    }
}
