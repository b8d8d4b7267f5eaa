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
//! What could differ from run to run, and what closes it:
//!
//! | Source | Closed by |
//! |---|---|
//! | time, network, files, randomness of the node | its Env |
//! | `RandomState` of libraries' maps, tokio's `select!` | mad-turmoil's `getrandom`, a thread and a process of its own per run |
//! | `Instant::now` and `SystemTime::now` in libraries | mad-turmoil's `clock_gettime` |
//! | the order in which a dying runtime drops its tasks | the first socket dropped closes all, oldest first |
//! | openraft's randomness | seeded from `Env::rng` by the quorum |
//!
//! No `cfg` flag is needed. `cargo run -p ottla-sim -- --scenario log --seed 7` runs one seed; a
//! failure prints that command, and `--trace` every event.
//!
//! # Invariants
//! - The same seed gives the same event hash, in the same binary.
//! - A life that has ended acts no more: its sockets are silent, its files refuse.
//! - A disk keeps what `env`'s traits promise and, at a power loss, nothing that they do not.
//!
//! # Not here
//! Anything that only works in the simulator: nodes do not know where they run. Not modelled are
//! lost TCP segments (a way that is cut holds back what is sent on it), and that peers hear nothing
//! of a power loss: here they hear it at once.
#![allow(clippy::disallowed_methods, reason = "this crate is the other world behind the fence")]

mod clock;
mod disk;
mod event_log;
mod links;
pub mod log_model;
mod net;
mod node;
mod pause;
mod power;
mod rng;
mod scenario;
mod simulation;
mod spawn;

use ottla_history as checker;

pub use clock::EPOCH;
pub use disk::DiskFaults;
pub use event_log::EventLog;
pub use node::Node;
pub use power::Crash;
pub use rng::SimRng;
pub use scenario::{Outcome, Scenario, Setup, Story};
pub use simulation::Simulation;
