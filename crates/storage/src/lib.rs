//! Bytes on disk: the log manager, logs, segments, indexes, recovery.
//!
//! Kafka's `LogManager`, `UnifiedLog`, `LogSegment` and what they are made of, in Kafka's own
//! directory layout and file formats.
//!
//! [`LogManager::open`] takes the log directories of a node and opens every [`Log`] in them.
//! [`Log::append_as_leader`] checks what a client sent, gives it offsets and writes it;
//! [`Log::read`] answers pieces of files that a socket can send. [`LogManager::housekeeping`] is
//! called about once a second and does everything that is not on the path of a request, but for
//! compaction: that is [`LogCleaner::run`].
//!
//! # Invariants
//! - A batch is stored as it was received but for its first 16 bytes, unless the topic asks for
//!   another compression or for the broker's time.
//! - Readers take no lock; what they see of a segment never changes, and a file they hold stays
//!   readable when its segment is deleted.
//! - `log start ≤ high watermark ≤ log end`, `recovery point ≤ log end`.
//! - A disk that fails takes its [`LogDir`] offline; it never makes the process panic.
//! - An idle partition holds no thread, no timer and no open file.
//!
//! # Not here
//! What is committed (`replication`), which logs should exist (`metadata`), and when things are
//! done: this crate has no task of its own but the job that syncs for those who wait.

mod append;
mod batch_header;
mod batch_scanner;
mod checkpoint;
mod cleaner;
#[cfg(test)]
#[path = "../tests/storage/faulty_disk.rs"]
#[allow(dead_code, clippy::disallowed_methods, reason = "the disk of the integration tests")]
mod faulty_disk;
mod file_name;
mod group_commit;
mod index_entries;
mod index_file;
pub mod inspect;
mod leader_epoch_cache;
mod log;
mod log_dir;
mod log_manager;
mod log_reader;
mod log_segment;
mod log_validator;
mod meta_properties;
mod offset_index;
mod open_files;
mod partition_metadata;
mod producer_state;
mod recovery;
mod segment_index;
mod time_index;
mod transaction_index;

pub use append::{AppendError, AppendOrigin, LeaderAppend, LogAppendInfo, RecordError};
pub use cleaner::{CleanError, CleanerLimits, CleanerStats, LogCleaner};
pub use leader_epoch_cache::EpochEndOffset;
pub use log::{Log, LogOpenOptions, ReadError, TimestampAndOffset};
pub use log_dir::{LogDir, LogDirFailure};
pub use log_manager::{
    CreateLogError, LogManager, LogManagerOptions, LogMove, MoveError, OpenError, OwnDir, Unwritten,
};
pub use log_reader::{FetchData, FileSlice, Wanted};
pub use meta_properties::{MetaPropertiesError, known_cluster_id};
pub use producer_state::ProducerStateError;
pub use transaction_index::AbortedTxn;
