//! Several nodes in one process, each in a runtime of its own, over real sockets: what they agree on, and what is left when
//! one of them is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::large_futures, reason = "a test's own futures lie on its own stack")]

mod controllers;
mod failover;
mod nodes;
mod replication;
mod throttling;
