//! A whole node, asked through real sockets in real bytes: what it answers to requests good, bad and absurd, and what it
//! keeps when it stops, in order or not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod client;
#[path = "../../../storage/tests/storage/faulty_disk.rs"]
#[allow(dead_code, clippy::disallowed_methods, reason = "the disk of the storage crate's tests")]
mod faulty_disk;
mod node;
#[path = "../../../telemetry/tests/telemetry/otlp_bytes.rs"]
#[allow(dead_code, reason = "the bytes of the telemetry crate's tests")]
mod otlp_bytes;
mod records;
mod requests;
mod slow_disk;
mod stopped_clock;

mod administration;
mod bad_frames;
mod bad_records;
mod consumers;
mod deleting_records;
mod disks;
mod dynamic_configs;
mod every_version;
mod fetching;
mod groups;
mod lifecycle;
mod log_moves;
mod long_logs;
mod offsets;
mod partitions;
mod producers;
mod producing;
mod quotas;
mod slow_readers;
mod telemetry;
mod transactions;
