//! Compaction: of each key only the last record stays. Kafka's `LogCleaner`.
//!
//! ```text
//! dirty section ──► offset map: hash of each key ─► its last offset      reads once
//! whole log     ──► what is not older than the map says, group by group  reads again, writes
//!                       └─► <base>.log.cleaned ─► .swap ─► .log          a crash undoes or completes
//! ```
//!
//! A batch keeps its offsets, its producer and its sequence numbers, whatever is left of it; one
//! that loses nothing is copied byte for byte. The active segment is never touched.

mod batch_cursor;
mod cleanable;
mod cleaned_segment;
mod cleaning_state;
mod log_cleaner;
mod offset_map;
mod pass;
mod retention;
mod throttler;
mod transactions;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_protocol::record_batch::RecordError;
use ottla_protocol::{Offset, Timestamp};
use thiserror::Error;

use self::cleanable::CleanableLog;
use self::pass::Pass;
use crate::log::Log;
use crate::log_dir::LogDirFailure;

pub use log_cleaner::LogCleaner;

pub(crate) use cleaned_segment::FinishedSegment;
pub(crate) use cleaning_state::CleaningState;

/// What one cleaner may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanerLimits {
    /// Bytes of the map of keys; it is made for each pass, and no larger than needed.
    pub dedupe_buffer_bytes: u64,
    /// How full the map may get: 0.0 to 1.0. What no longer fits waits for the next pass.
    pub io_buffer_load_factor: f64,
    /// Bytes read at once, and written at once. More if a single batch is larger.
    pub io_buffer_bytes: usize,
}

impl Default for CleanerLimits {
    /// Kafka's defaults for one cleaner.
    fn default() -> Self {
        Self {
            dedupe_buffer_bytes: 128 << 20,
            io_buffer_load_factor: 0.9,
            io_buffer_bytes: 256 << 10,
        }
    }
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CleanerStats {
    /// Where the dirty section began.
    pub first_dirty: Offset,
    /// Where it begins now. Less than there was if the map was full.
    pub cleaned_to: Offset,
    /// Bytes of batches read to find the keys.
    pub map_bytes_read: u64,
    /// Keys found.
    pub keys: u64,
    /// How full the map was: 0.0 to 1.0.
    pub map_utilization: f64,
    /// Bytes of batches read to be copied.
    pub bytes_read: u64,
    /// Bytes of batches written.
    pub bytes_written: u64,
    /// Records in the batches that were read and not dropped whole.
    pub records_read: u64,
    /// Records that stayed.
    pub records_kept: u64,
    /// Records dropped for having no key.
    pub records_without_key: u64,
    /// Segments before.
    pub segments_cleaned: usize,
    /// Segments they became.
    pub segments_written: usize,
}

impl CleanerStats {
    /// Bytes read and written.
    fn io_bytes(&self) -> u64 {
        self.map_bytes_read + self.bytes_read + self.bytes_written
    }
}

/// Why a pass ended before its end. Segments that it had finished by then stay cleaned.
#[derive(Debug, Error)]
pub enum CleanError {
    /// The log was truncated, deleted, closed, or is no longer compacted; or another pass is under
    /// way; or too many files are open. Nothing is wrong.
    #[error("the log changed, or is in use")]
    Aborted,
    /// There is no room for the copy. Nothing is lost: a later pass may find some.
    #[error("the disk is full")]
    DiskFull,
    /// The log holds something that cannot be read.
    #[error("{}: {reason}", segment.display())]
    Corrupt {
        /// The segment.
        segment: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The disk failed, and its log directory is offline.
    #[error(transparent)]
    Storage(LogDirFailure),
}

impl From<LogDirFailure> for CleanError {
    fn from(failure: LogDirFailure) -> Self {
        match failure {
            LogDirFailure::Full { .. } => Self::DiskFull,
            LogDirFailure::Closed | LogDirFailure::OutOfFiles { .. } => Self::Aborted,
            LogDirFailure::Offline { .. } => Self::Storage(failure),
        }
    }
}

/// What a pass runs into.
#[derive(Debug)]
enum Stop {
    Changed,
    Io(io::Error),
    Corrupt {
        segment: PathBuf,
        reason: String,
    },
    /// In the batch that is being read.
    Malformed(String),
    Refused(LogDirFailure),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<LogDirFailure> for Stop {
    fn from(failure: LogDirFailure) -> Self {
        Self::Refused(failure)
    }
}

impl From<RecordError> for Stop {
    fn from(error: RecordError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl Log {
    /// Cleans all that may be cleaned at `now`, however little that is: `min.cleanable.dirty.ratio`
    /// is for who chooses a log. Blocks, for as long as it takes to read the log.
    ///
    /// Only what is below the last stable offset is cleaned, whole segments, and never the active
    /// one.
    pub fn clean(
        self: &Arc<Self>,
        limits: &CleanerLimits,
        now: Timestamp,
    ) -> Result<CleanerStats, CleanError> {
        let cleanable = CleanableLog::of(self, now)
            .map_err(|error| self.log_dir().failed("looking for what to clean", &error))?;
        secure(self)?;
        let mut pass = Pass::begin(cleanable, limits, now).ok_or(CleanError::Aborted)?;
        loop {
            if let Some(stats) = pass.advance(u64::MAX)?.done {
                return Ok(stats);
            }
        }
    }
}

/// Brings to the disk what a pass decides by: what a crash could take must not take the place of
/// anything. To be called when it is settled what is to be cleaned, for the log goes on: what is
/// appended meanwhile is left to the next pass.
fn secure(log: &Log) -> Result<(), LogDirFailure> {
    // Also what comes after it: a marker there may have committed a record, or aborted it.
    log.flush(log.log_end_offset())?;
    // A segment that has its indexes on disk is known to have been whole (see `load`).
    log.flush_sealed()
}
