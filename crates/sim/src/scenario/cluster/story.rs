//! What was found once, told again: the seed decides the order of things, and no longer what goes wrong.

use super::Plan;
use super::trouble::Fault;

/// Faults in a given order. A seed alone would mean something else after the next change of the code.
#[derive(Debug, PartialEq, Eq)]
pub struct Story {
    /// As the command line calls it.
    pub(crate) name: &'static str,
    nodes: u64,
    /// `log.flush.interval.messages=1`.
    flush: bool,
    churn: bool,
    /// Whether records in front are deleted.
    trims: bool,
    faults: &'static [Fault],
}

/// What most stories have in common.
const PLAIN: Story =
    Story { name: "", nodes: 3, flush: false, churn: false, trims: false, faults: &[] };

impl Story {
    pub(crate) const ALL: [Self; 9] = [
        // A node whose only log directory failed while it led the quorum stopped, and turned without end.
        Self {
            name: "cluster/the-disk-of-a-leader-fails",
            faults: &[Fault::FailingDisk, Fault::FailingDisk, Fault::FailingDisk],
            ..PLAIN
        },
        // The second batch of an idempotent producer was stored before the first, which a full disk had refused.
        Self {
            name: "cluster/the-disk-of-a-leader-is-full",
            faults: &[Fault::FullDisk, Fault::FullDisk, Fault::FullDisk],
            ..PLAIN
        },
        // Voters come and go while those that stay die.
        Self {
            name: "cluster/voters-come-and-go",
            flush: true,
            churn: true,
            faults: &[Fault::Kill, Fault::Pause, Fault::KillAll, Fault::Kill],
            ..PLAIN
        },
        // A node never started again: the metadata log that its new process had read was not on its disk.
        Self {
            name: "cluster/a-sync-fails-and-later-the-power",
            churn: true,
            faults: &[Fault::FailingDisk, Fault::PowerLoss, Fault::FailingDisk, Fault::PowerLoss],
            ..PLAIN
        },
        // The same of all at once, where what was acknowledged has to be on each disk.
        Self {
            name: "cluster/a-sync-fails-and-later-the-power-of-all",
            flush: true,
            faults: &[
                Fault::FailingDisk,
                Fault::PowerLossOfAll,
                Fault::FailingDisk,
                Fault::PowerLossOfAll,
            ],
            ..PLAIN
        },
        // A voter with a new disk did not follow a leader that had got one before.
        Self {
            name: "cluster/disks-are-replaced",
            faults: &[Fault::ReplaceDisk, Fault::ReplaceDisk, Fault::ReplaceDisk],
            ..PLAIN
        },
        // The last life of a node counted as in sync when its disk was gone and all others had died.
        Self {
            name: "cluster/a-disk-is-replaced-and-all-die",
            faults: &[Fault::ReplaceDisk, Fault::KillAll, Fault::ReplaceDisk, Fault::KillAll],
            ..PLAIN
        },
        // A group was told offsets from before by a coordinator that did not know of its successor.
        Self {
            name: "cluster/a-coordinator-stands-still",
            faults: &[Fault::Pause, Fault::CutClients, Fault::Pause, Fault::IsolateFromNodes],
            ..PLAIN
        },
        // Records that were deleted came back.
        Self {
            name: "cluster/records-are-deleted-and-all-die",
            trims: true,
            faults: &[Fault::KillAll, Fault::PowerLoss, Fault::KillAll, Fault::Kill],
            ..PLAIN
        },
    ];

    pub(super) fn set(&self, plan: &mut Plan) {
        plan.nodes = self.nodes;
        plan.flush = self.flush;
        plan.churn = self.churn;
        plan.retires_voters = self.churn;
        plan.trims |= self.trims;
        plan.script = self.faults;
        plan.faults = self.faults.len() as u64;
    }
}
