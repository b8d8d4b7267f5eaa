//! The storage crate through its public doors, on a real file system.
#![allow(clippy::disallowed_methods, reason = "tests look at the files behind the crate's back")]

mod batches;
mod log_manager;
