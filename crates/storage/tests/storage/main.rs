//! The storage crate through its public doors, on a real file system.
#![allow(clippy::disallowed_methods, reason = "tests look at the files behind the crate's back")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod append;
mod batches;
mod bit_flips;
mod compaction;
mod epochs;
mod faults;
mod faulty_disk;
mod full_disk;
mod group_commit;
mod inspect;
mod jbod;
mod log_manager;
mod lost_indexes;
mod moves;
mod preallocation;
mod producers;
mod reading;
mod recovery;
mod retention;
mod single_log;
mod stale_checkpoints;
mod times;
mod transactions;
