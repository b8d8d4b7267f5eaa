//! A node: network, handlers, replica manager, coordinator hosts, metadata quorum. Kafka: `KafkaRaftServer`.
//!
//! [`Server::start`] brings one up; everything it needs of the world comes in through [`ottla_env::Env`].
//!
//! # Tour
//! ```text
//! socket ─► network ─► handlers ─► replica | coordinator_host | controller_host ─► pure machines ─► storage
//! socket ◄─ network ◄─ Reply ◄──── watermarks (published HW) ◄──────────────────── effects
//! ```
//! - `network`: sockets to request frames and back. `handlers`: one file per API.
//! - `replica`: the partitions of this node. `coordinator_host`: the groups of the partitions it leads.
//! - `controller_host`: decisions about the cluster, made on `quorum`, the metadata log.
//!
//! # Invariants
//! - Nothing here decides: decisions are made by the pure crates, under the lock of the one thing they are about.
//! - No lock is held across an await, but the controller's turn, the block of producer ids, and the place of a connection
//!   while it is made.
//!
//! # Not here
//! What bytes mean (`protocol`), how they lie on the disk (`storage`), the command line (`cli`).

mod broker;
mod broker_lease;
mod broker_lifecycle;
mod client_telemetry;
mod cluster_identity;
mod cold_reads;
mod controller_channel;
mod controller_host;
mod coordinator_host;
mod dynamic_config;
mod endpoints;
#[cfg(test)]
#[path = "../../storage/tests/storage/faulty_disk.rs"]
#[allow(dead_code, clippy::disallowed_methods, reason = "the disk of the storage crate's tests")]
mod faulty_disk;
mod fetch_sessions;
mod handlers;
mod log_dirs;
mod log_moves;
mod metadata_cache;
mod metadata_follower;
mod metrics;
mod network;
mod producer_ids;
mod quorum;
mod quotas;
mod replica;
mod server;
mod voter_connections;

pub use quorum::{QuorumStateContents, decode_quorum_message, read_quorum_state};
pub use server::{Server, StartError};
