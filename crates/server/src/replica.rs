//! The partitions of this node: Kafka's `ReplicaManager`.
//!
//! ```text
//! image ─► ReplicaManager ─► Partition { replication::Partition (pure), storage::Log (bytes), Watermarks (who waits) }
//!              │                  │ ▲
//!              │                  │ └── ReplicaFetcher (a task for each leader) ◄── Fetch ── the leader
//!              └─ follow, unfollow└──── IsrChanges ── AlterPartition ──► the controller
//! ```
//!
//! # Invariants
//! - A record is appended and its partition's high watermark moved under one short lock, never held across an await.
//! - Readers take no lock.

mod alter_partition;
mod context;
mod fetched_records;
#[cfg(test)]
pub(crate) mod one_of_two;
mod partition;
mod replica_fetcher;
mod replica_manager;
#[cfg(test)]
mod tests;
mod watermarks;

pub(crate) use fetched_records::FetchedRecords;
pub(crate) use partition::{FetchingReplica, Flushing, Partition, ProduceError, ReadBound};
pub(crate) use replica_manager::{Applied, Placement, ReplicaManager};
pub(crate) use watermarks::{Changes, Subscription, WaitFor, Watch};
