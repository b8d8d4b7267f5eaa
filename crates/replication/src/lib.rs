//! How a topic's log is agreed on: Kafka's `Partition`, without its I/O.
//!
//! A [`Partition`] is told what happened ([`Partition::appended`]) and answers with what follows from it: how far the
//! high watermark moved. The shell around it owns the log, the clock and the wire.
//!
//! ```text
//!                replicas_changed(leader = this broker)
//!             ┌───────────────────────────────────────────┐
//!             │                                           ▼
//!   NotLeader (another leads, or nobody)               Leader ──┐ appended(LEO): HW = LEO if alone in the ISR
//!             ▲                                           │ ▲───┘
//!             └───────────────────────────────────────────┘
//!                replicas_changed(leader = another or none)
//! ```
//!
//! # Invariants
//! - HW ≤ LEO; the HW of one leader epoch never goes back.
//! - The ISR is a subset of the replicas and holds the leader.
//! - A leader epoch never goes back.
//!
//! # Not here
//! The bytes (`storage`), who becomes leader (`metadata`), followers: a node serves partitions of one replica so far.

mod partition;

pub use partition::{Appended, EpochCheckError, Leadership, LeadershipError, Partition, Replicas};
