//! When this node stands for election without waiting for silence: when it starts, and when the
//! process of the leader is known to be dead.
//!
//! Both ask first whether they would win (pre-vote), and in the order of ids, so that votes are not
//! split. Where it does not help, openraft's election timer goes on.

use std::sync::Arc;
use std::time::Duration;

use openraft::rt::WatchReceiver as _;
use ottla_env::Env;

use super::Core;
use super::answers::end_lease;
use super::peers::Link;
use super::raft_config::{Membership, Vote, VoterId, voter_of};

/// How long the next voter waits for the one before it.
const STAGGER: Duration = Duration::from_millis(40);
/// How often a node that starts, or has lost its leader, stands before it leaves it to the timer.
const TRIES: u32 = 5;

/// Stands for election in its turn.
#[derive(Clone)]
pub(super) struct Elections {
    pub(super) env: Env,
    pub(super) core: Core,
    pub(super) link: Arc<Link>,
}

impl Elections {
    /// A node that starts asks at once whether others would have it: if there is a leader, they
    /// would not. Waiting for silence would tell nothing more.
    pub(super) async fn stand_at_start(self) {
        self.stand_while(|vote, leader| leader.is_none() && !vote.committed, None).await;
    }

    /// Stands if `node_id` led until now.
    pub(super) async fn leader_vanished(self, node_id: i32) {
        let (vote, _) = self.situation();
        let led = vote.committed && voter_of(node_id).ok() == Some(vote.leader_id.voted_for);
        if !led || node_id == self.link.me.node_id {
            return;
        }
        tracing::info!(leader = node_id, "the process of the active controller is gone");
        self.link.set_vanished(vote);
        if end_lease(&self.core, vote).await.is_err() {
            return;
        }
        self.stand_while(move |now, _| now == vote, Some(vote.leader_id.voted_for)).await;
    }

    /// Stands in its turn, a few times, as long as `wanted` of the vote and the leader holds.
    async fn stand_while(
        &self,
        wanted: impl Fn(Vote, Option<VoterId>) -> bool,
        gone: Option<VoterId>,
    ) {
        let membership = self.membership();
        let (rank, voters) = rank(&membership, voter_of(self.link.me.node_id).ok(), gone);
        let Some(rank) = rank else { return };
        for turn in 0..TRIES {
            let wait = if turn == 0 { rank } else { voters + 1 };
            self.env.clock.sleep(STAGGER * wait).await;
            let (vote, leader) = self.situation();
            if !wanted(vote, leader) || self.core.trigger().elect(true).await.is_err() {
                return;
            }
        }
    }

    fn situation(&self) -> (Vote, Option<VoterId>) {
        let metrics = self.core.server_metrics();
        let metrics = metrics.borrow_watched();
        (metrics.vote, metrics.current_leader)
    }

    fn membership(&self) -> Membership {
        self.core.server_metrics().borrow_watched().membership_config.membership().clone()
    }
}

/// Which of the voters that live this node is, by id, and how many there are.
fn rank(membership: &Membership, me: Option<VoterId>, gone: Option<VoterId>) -> (Option<u32>, u32) {
    let alive: Vec<_> = membership.voter_ids().filter(|voter| Some(*voter) != gone).collect();
    let rank = alive.iter().position(|voter| Some(*voter) == me);
    (rank.map(|rank| rank as u32), alive.len() as u32)
}
