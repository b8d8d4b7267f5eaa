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
    faults: &'static [Fault],
}

impl Story {
    pub(crate) const ALL: [Self; 4] = [
        // A node whose only log directory failed while it led the quorum stopped, and turned without end.
        Self {
            name: "cluster/the-disk-of-a-leader-fails",
            nodes: 3,
            flush: false,
            churn: false,
            faults: &[Fault::FailingDisk, Fault::FailingDisk, Fault::FailingDisk],
        },
        // The second batch of an idempotent producer was stored before the first, which a full disk had refused.
        Self {
            name: "cluster/the-disk-of-a-leader-is-full",
            nodes: 3,
            flush: false,
            churn: false,
            faults: &[Fault::FullDisk, Fault::FullDisk, Fault::FullDisk],
        },
        // Voters come and go while those that stay die.
        Self {
            name: "cluster/voters-come-and-go",
            nodes: 3,
            flush: true,
            churn: true,
            faults: &[Fault::Kill, Fault::Pause, Fault::KillAll, Fault::Kill],
        },
        // A node never started again: the metadata log that its new process had read was not on its disk.
        Self {
            name: "cluster/a-sync-fails-and-later-the-power",
            nodes: 3,
            flush: false,
            churn: true,
            faults: &[Fault::FailingDisk, Fault::PowerLoss, Fault::FailingDisk, Fault::PowerLoss],
        },
    ];

    pub(super) fn set(&self, plan: &mut Plan) {
        plan.nodes = self.nodes;
        plan.flush = self.flush;
        plan.churn = self.churn;
        plan.retires_voters = self.churn;
        plan.script = self.faults;
        plan.faults = self.faults.len() as u64;
    }
}
