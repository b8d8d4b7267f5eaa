//! How a topic's log is agreed on: Kafka's `Partition`, without its I/O.
//!
//! A [`Partition`] is told what happened (an append, a fetch of a follower, news of the controller) and answers with what
//! follows from it: how far the high watermark moved, or an [`IsrProposal`] for the controller. The shell around it owns the
//! log, the clock and the wire; time and the state of the brokers come in as a [`Moment`].
//!
//! ```text
//!                       replicas_changed(leader = this broker)
//!          ┌──────────────────────────────────────────────────────────┐
//!          │                                                          ▼
//!   Follower ──┐ fetch_position → fetched(LEO, leader's HW)         Leader ──┐ appended(LEO), follower_fetched(...)
//!          ▲ ▲─┘ diverged → truncation_offset → truncated(LEO)        │  ▲──┘   → HW = least LEO of the maximal ISR
//!          │                                                          │  │ propose_expansion, propose_shrink → IsrProposal
//!          └──────────────────────────────────────────────────────────┘  └──── isr_answered(proposal, answer)
//!                       replicas_changed(leader = another or nobody)
//! ```
//!
//! # Invariants
//! - HW ≤ LEO; the HW goes back by a truncation alone.
//! - The HW of a leader never passes a member of the *maximal* ISR: the ISR and the members that are being added to it (KIP-497).
//! - It does not move while the ISR is smaller than `min.insync.replicas` (KIP-966).
//! - The ISR is a subset of the replicas and holds the leader.
//! - Neither a leader epoch nor a partition epoch goes back. At most one proposal of a partition is under way.
//!
//! # Not here
//! The bytes (`storage`), who becomes leader and whether a proposal is taken (`metadata`), how requests travel (`server`).

mod brokers;
mod follower;
mod isr;
mod leader;
mod leadership;
mod partition;
mod replica_selector;

pub use brokers::{BrokerStatus, Brokers, Moment};
pub use follower::{EpochEnd, FetchPosition, Reposition, reposition, truncation_offset};
pub use isr::{IsrAnswer, IsrFollowUp, IsrMember, IsrProposal};
pub use leader::{FollowerError, FollowerFetch, FollowerView};
pub use leadership::{EpochCheckError, Leadership, LeadershipError};
pub use partition::{Advance, Partition, Replicas, Terms};
pub use replica_selector::{Candidate, ReplicaSelector};
