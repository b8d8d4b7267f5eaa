//! How an ISR changes: the leader proposes, the controller decides (KIP-497).
//!
//! ```text
//!             propose_expansion, propose_shrink                      changed, or a newer registration
//!  Committed ──────────────────────────────────► Pending(proposal) ─────────────────────────────────► Committed
//!      ▲                                            │       ▲  │ nobody knows what became of it:
//!      └────────────────────────────────────────────┘       └──┘ it stays, until the image says
//!        OPERATION_NOT_ATTEMPTED, INELIGIBLE_REPLICA
//! ```

use std::collections::BTreeSet;

use ottla_protocol::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch};

use crate::partition::Advance;

/// A member of a proposed ISR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsrMember {
    /// The broker.
    pub id: BrokerId,
    /// The incarnation that is in sync (KIP-903), as it said itself when it fetched; the controller checks it. None if it has
    /// not fetched from this leader, and none for the leader, which the request names anyway.
    pub broker_epoch: BrokerEpoch,
}

/// What a leader asks of the controller with AlterPartition. That it recovered is always part of it (KIP-704): a leader has
/// nothing to do before it serves what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrProposal {
    /// The epoch in which it leads.
    pub leader_epoch: LeaderEpoch,
    /// What the proposal was decided on: another change in between refuses it.
    pub partition_epoch: i32,
    /// The whole new ISR, in the order of the ids.
    pub isr: Vec<IsrMember>,
}

/// What came of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IsrAnswer {
    /// The partition as the controller has it now.
    Changed {
        /// Its leader epoch.
        leader_epoch: LeaderEpoch,
        /// Its partition epoch.
        partition_epoch: i32,
        /// Its ISR.
        isr: BTreeSet<BrokerId>,
    },
    /// The controller, or somebody on the way to it, refused it.
    Refused(ErrorCode),
}

/// What follows from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrFollowUp {
    /// What became of the high watermark.
    pub advance: Advance,
    /// To be sent once more, after a pause.
    pub retry: Option<IsrProposal>,
}

/// A proposal under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) proposal: IsrProposal,
    /// Members that it adds: until it is known what became of it, they count as in sync.
    pub(crate) added: BTreeSet<BrokerId>,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It was not done and never will be.
    NotDone,
    /// Whether it was done only the image can tell.
    Unclear,
    /// It may be tried again as it is.
    Again,
}

impl Refusal {
    pub(crate) fn of(error: ErrorCode) -> Self {
        if matches!(error, ErrorCode::OperationNotAttempted | ErrorCode::IneligibleReplica) {
            // The controller says that the partition epoch is current and that it wrote nothing. It holds for every controller
            // that could still have the request, since none of them is newer.
            Self::NotDone
        } else if matches!(
            error,
            ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::InvalidUpdateVersion
                | ErrorCode::InvalidRequest
                | ErrorCode::NewLeaderElected
        ) {
            Self::Unclear
        } else {
            Self::Again
        }
    }
}
