//! What goes wrong, and what is promised for it.

use std::time::Duration;

use clap::ValueEnum;

use crate::cluster::Layout;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// Nothing goes wrong: what is seen then is what the machine does to the times.
    Nothing,
    /// `kill -9` of any node.
    KillAny,
    /// `kill -9` of the leader of a partition.
    KillLeader,
    /// `kill -9` of the active controller.
    KillController,
    /// `kill -9` of the group's coordinator.
    KillCoordinator,
    /// `kill -9` of all nodes at once.
    KillAll,
    /// SIGSTOP, and later SIGCONT, of the leader of a partition.
    PauseLeader,
    /// The same of the active controller.
    PauseController,
    /// The leader of a partition reaches nobody, clients least of all.
    CutLeader,
    /// The leader of a partition reaches no other node, but clients do reach it.
    CutLeaderFromNodes,
    /// The active controller reaches nobody.
    CutController,
    /// What one node sends does not reach another.
    CutOneWay,
    /// Two nodes do not reach each other.
    CutTwoWays,
    /// All that a node sends and is sent comes late.
    Delay,
    /// A node is stopped in order and started again.
    Restart,
    /// All nodes are, one after the other.
    RollingRestart,
}

/// The longest a dead process may cost.
const DEAD: Duration = Duration::from_secs(1);
/// `broker.session.timeout.ms`.
const SESSION: Duration = Duration::from_secs(9);
/// The longest that links may cost which bring everything up to 0.2 s late: some ways to and fro, one after the other.
const DELAYED: Duration = Duration::from_secs(5);
/// The longest that stopping in order may cost.
const STOPPED: Duration = Duration::from_millis(200);

impl Fault {
    pub(crate) const ALL: [Self; 16] = [
        Self::Nothing,
        Self::KillLeader,
        Self::KillController,
        Self::Restart,
        Self::PauseLeader,
        Self::KillCoordinator,
        Self::CutLeader,
        Self::RollingRestart,
        Self::PauseController,
        Self::KillAny,
        Self::CutLeaderFromNodes,
        Self::CutController,
        Self::CutOneWay,
        Self::CutTwoWays,
        Self::Delay,
        Self::KillAll,
    ];

    /// As it stands in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::KillAny => "kill -9, any node",
            Self::KillLeader => "kill -9, a leader",
            Self::KillController => "kill -9, the active controller",
            Self::KillCoordinator => "kill -9, the group's coordinator",
            Self::KillAll => "kill -9, all nodes",
            Self::PauseLeader => "SIGSTOP, a leader",
            Self::PauseController => "SIGSTOP, the active controller",
            Self::CutLeader => "a leader cut off from all",
            Self::CutLeaderFromNodes => "a leader cut off from the nodes",
            Self::CutController => "the active controller cut off",
            Self::CutOneWay => "two nodes cut one way",
            Self::CutTwoWays => "two nodes cut both ways",
            Self::Delay => "a node's links delayed",
            Self::Restart => "a node restarted in order",
            Self::RollingRestart => "all nodes restarted in turn",
        }
    }

    /// The longest time without an acknowledgement that is promised, on any partition.
    pub(crate) fn acknowledgement_bound(self, layout: Layout) -> Option<Duration> {
        match self {
            // A controller that is no broker holds no partition up.
            Self::KillController if layout == Layout::Apart => Some(STOPPED),
            Self::KillAny | Self::KillLeader | Self::KillController | Self::KillCoordinator => {
                Some(DEAD)
            }
            Self::PauseLeader
            | Self::PauseController
            | Self::CutLeader
            | Self::CutLeaderFromNodes
            | Self::CutController => Some(SESSION),
            Self::Restart | Self::RollingRestart => Some(STOPPED),
            Self::Delay => Some(DELAYED),
            Self::Nothing | Self::KillAll | Self::CutOneWay | Self::CutTwoWays => None,
        }
    }

    /// The longest time that is promised until a topic can be made again.
    pub(crate) fn metadata_bound(self) -> Option<Duration> {
        (self == Self::KillController).then_some(DEAD)
    }

    /// Whether no client may hear of it.
    pub(crate) fn is_silent(self) -> bool {
        matches!(self, Self::Nothing | Self::Restart | Self::RollingRestart)
    }
}
