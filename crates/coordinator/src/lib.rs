//! Who consumes what and what is committed: consumer groups and offsets. Kafka: `GroupCoordinator`.
//!
//! Tour: [`records`] is the format of `__consumer_offsets`. [`group`] decides: one [`group::GroupCoordinator`]
//! per partition of that topic (a *shard*) holds every group that [`records::partition_for`] puts there.
//!
//! # Invariants
//! - Hard state ([`group::GroupStore`]) is what the partition's records say; only `replay` changes it, so that
//!   another broker that replays the same records holds the same state.
//! - Soft state (who waits for a rebalance, sessions, timers) may be lost at any time: members notice and rejoin.
//! - A reply that promises something was written leaves only after its records were appended.
//! - Nothing here reads a clock, draws a random number or performs I/O.
//!
//! # Not here
//! Which broker leads a partition, authorisation, and topic ids (KIP-848's `OffsetCommit` 10): the host answers
//! `NOT_COORDINATOR`, filters, and fills in names. KIP-848 groups, transactions and share groups come later.

pub mod group;
pub mod records;
