//! The files of a stopped node, read for people: what lies in them, whether it is right, what it
//! adds up to, and how to put right what is not. `ottla log` prints what this module answers.
//!
//! Nothing here is used by a running node, and nothing but [`repair`] writes. Files are read in
//! one pass from front to back; memory is bounded by the largest batch, whatever a file claims.

mod batch_stream;
mod checkpoint_file;
mod directory;
mod entries;
mod file;
mod file_kind;
mod finding;
mod index_check;
mod partition;
mod producer_check;
mod repair;
mod segment;
mod stats;

pub use batch_stream::{BatchAt, BatchDamage, BatchStream, DamageAt};
pub use checkpoint_file::{CheckpointError, LeaderEpochLine, MetaPropertiesFile, OffsetLine};
pub use checkpoint_file::{leader_epoch_lines, meta_properties, offset_lines, topic_id};
pub use directory::Directory;
pub use entries::{Entries, EntryAt, IndexEntry, OffsetEntry, TimeEntry, TransactionEntry};
pub use file::verify_file;
pub use file_kind::{FileKind, Leftover};
pub use finding::{Finding, Problem, Severity};
pub use partition::{PartitionContext, PartitionReport, verify_partition};
pub use repair::{RepairPlan, Step};
pub use stats::LogStats;

pub use crate::producer_state::{SnapshotEntry, SnapshotError, snapshot_entries};

use std::io;
use std::path::Path;

use ottla_protocol::TopicPartition;

use crate::file_name::parse_partition_dir;

/// Told after every batch how many bytes were read since the last call, for those who wait.
pub type Progress<'a> = &'a mut dyn FnMut(u64);

/// Decompressed bytes that the records of one batch may take. They pass through a small window.
pub const MAX_DECOMPRESSED: usize = i32::MAX as usize;

/// The partition whose directory is at `path`, by its name.
pub fn partition_of(path: &Path) -> Option<TopicPartition> {
    parse_partition_dir(&path.file_name()?.to_string_lossy())
}

/// A number of bytes as a length in memory.
fn length(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge.into())
}
