//! Whole clusters in one thread from one seed: faults, workloads, checkers.
//!
//! A [`Simulation`] holds machines ([`Node`]s) on a seeded network. Each life of a machine gets an
//! [`ottla_env::Env`] of virtual time, that network, a disk that forgets what was not synced, and
//! randomness from the seed; the real server and the real client run on it unchanged.
//!
//! ```text
//! seed ─┬─► turmoil: latency, order of hosts      ┐
//!       ├─► DiskDrive: what a crash tears, faults ├─► every operation ─► EventLog ─► one hash
//!       └─► SimRng: what nodes draw, the plan     ┘
//! ```
//!
//! # Invariants
//! - The same seed gives the same event hash, in the same binary.
//! - A life that has ended acts no more: its sockets are silent, its files refuse.
//! - A disk keeps what `env`'s traits promise and, at a power loss, nothing that they do not.
//!
//! # Not here
//! Anything that only works in the simulator: nodes do not know where they run.
#![allow(clippy::disallowed_methods, reason = "this crate is the other world behind the fence")]

mod checker;
mod clock;
mod disk;
mod event_log;
mod net;
mod node;
mod power;
mod rng;
mod scenario;
mod simulation;
mod spawn;

pub use checker::{History, Promise, RecordId, Violation};
pub use clock::EPOCH;
pub use disk::DiskFaults;
pub use event_log::EventLog;
pub use node::Node;
pub use power::Crash;
pub use rng::SimRng;
pub use scenario::{Outcome, Scenario, Setup};
pub use simulation::Simulation;
