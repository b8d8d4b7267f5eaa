//! Reading: no lock, and no copy. What is answered are pieces of files.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ottla_env::File;
use ottla_protocol::{ErrorCode, Offset};
use thiserror::Error;

use super::Log;
use crate::batch_scanner::read_exact;
use crate::log_dir::LogDirFailure;
use crate::log_segment::LogSegment;
use crate::transaction_index::AbortedTxn;

/// How often a read looks before it gives up. The second time it sees a list of segments newer
/// than the change that failed it.
const ATTEMPTS: usize = 3;

/// A piece of a file.
#[derive(Clone)]
pub struct FileSlice {
    /// The file; it stays readable while it is held, even if the segment is deleted.
    pub file: Arc<dyn File>,
    /// Where the piece begins, in bytes.
    pub position: u64,
    /// Its length in bytes.
    pub len: usize,
}

/// Whole batches, the first of which holds the offset asked for.
#[derive(Clone, Default)]
pub struct FetchData {
    /// The batches, in order.
    pub slices: Vec<FileSlice>,
    /// First offset of the log.
    pub log_start_offset: Offset,
    /// End of the log.
    pub log_end_offset: Offset,
    /// More batches follow, which `max_bytes` left no room for.
    pub is_limited: bool,
    /// Transactions of these batches that were aborted, if they were asked for, and perhaps some
    /// that begin soon after.
    pub aborted_txns: Vec<AbortedTxn>,
}

/// Why nothing was read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// `OFFSET_OUT_OF_RANGE`
    #[error("offset {offset} lies outside the log, {log_start} to {log_end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// First offset of the log.
        log_start: Offset,
        /// End of the log.
        log_end: Offset,
    },
    /// `CORRUPT_MESSAGE`: the segment holds something that is no batch.
    #[error("{0}")]
    Corrupt(io::Error),
    /// `KAFKA_STORAGE_ERROR`
    #[error(transparent)]
    Storage(#[from] LogDirFailure),
}

impl ReadError {
    /// The code a client is told.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Corrupt(_) => ErrorCode::CorruptMessage,
            Self::Storage(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl FileSlice {
    /// Reads the piece.
    pub fn read(&self) -> io::Result<Bytes> {
        read_exact(&*self.file, self.position, self.len).map(Bytes::from)
    }
}

impl FetchData {
    /// Bytes in all slices.
    pub fn len(&self) -> usize {
        self.slices.iter().map(|slice| slice.len).sum()
    }

    /// Whether there is nothing to read yet.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// Reads all slices into one buffer.
    pub fn read(&self) -> io::Result<Bytes> {
        if let [slice] = self.slices.as_slice() {
            return slice.read();
        }
        let mut bytes = Vec::with_capacity(self.len());
        for slice in &self.slices {
            bytes.extend_from_slice(&slice.read()?);
        }
        Ok(bytes.into())
    }
}

/// What a reader still wants.
struct Wanted {
    from: Offset,
    upper_bound: Offset,
    max_bytes: u64,
    min_one_message: bool,
    aborted_txns: bool,
}

impl Log {
    /// Whole batches from the one that holds `from`, up to `max_bytes` and before `upper_bound`
    /// (the high watermark, the last stable offset, or the log's end). With `min_one_message` the
    /// first batch comes even if it alone is larger than `max_bytes` (KIP-74).
    ///
    /// Nothing is an answer too: at the end of the log, and at or after the upper bound.
    pub fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        min_one_message: bool,
        upper_bound: Offset,
    ) -> Result<FetchData, ReadError> {
        let max_bytes = max_bytes as u64;
        let wanted = Wanted { from, upper_bound, max_bytes, min_one_message, aborted_txns: false };
        self.looking("reading a segment", || self.read_once(&wanted))?
    }

    /// [`read`](Self::read) for a `read_committed` consumer, who passes over what was aborted
    /// (KIP-98). `upper_bound` is the last stable offset.
    pub fn read_committed(
        &self,
        from: Offset,
        max_bytes: usize,
        min_one_message: bool,
        upper_bound: Offset,
    ) -> Result<FetchData, ReadError> {
        let max_bytes = max_bytes as u64;
        let wanted = Wanted { from, upper_bound, max_bytes, min_one_message, aborted_txns: true };
        self.looking("reading a segment", || self.read_once(&wanted))?
    }

    /// Looks into segments without a lock. Retention or a truncation may take a file away in the
    /// meantime: then it looks again, at the segments there are now.
    pub(super) fn looking<T>(
        &self,
        doing: &str,
        look: impl Fn() -> io::Result<T>,
    ) -> Result<T, ReadError> {
        self.dir.check_online()?;
        let mut result = look();
        for _ in 1..ATTEMPTS {
            match &result {
                Err(error) if is_gone(error) || is_corrupt(error) => result = look(),
                Ok(_) | Err(_) => break,
            }
        }
        result.map_err(|error| {
            if is_corrupt(&error) {
                ReadError::Corrupt(error)
            } else if is_gone(&error) && self.writer.lock().active.is_none() {
                LogDirFailure::Closed.into()
            } else {
                self.dir.failed(doing, &error).into()
            }
        })
    }

    fn read_once(&self, wanted: &Wanted) -> io::Result<Result<FetchData, ReadError>> {
        let segments = self.segments.load();
        if segments.is_empty() {
            // The log was deleted.
            return Err(io::ErrorKind::NotFound.into());
        }
        let (log_start, log_end) = (self.log_start_offset(), self.log_end_offset());
        let from = wanted.from;
        if from < log_start || from > log_end {
            let error = ReadError::OffsetOutOfRange { offset: from, log_start, log_end };
            return Ok(Err(error));
        }
        let mut data = FetchData {
            slices: Vec::new(),
            log_start_offset: log_start,
            log_end_offset: log_end,
            is_limited: false,
            aborted_txns: Vec::new(),
        };
        if from >= wanted.upper_bound.min(log_end) {
            return Ok(Ok(data));
        }
        let (mut left, mut read_up_to) = (wanted.max_bytes, wanted.upper_bound);
        let mut index = floor_segment(&segments, from);
        while let Some(segment) = segments.get(index) {
            index += 1;
            let next_base = segments.get(index).map(|next| next.base_offset());
            if next_base.is_some_and(|base| base <= from) {
                continue;
            }
            let limit = self.readable_size(segment, next_base, wanted.upper_bound)?;
            let start = match data.slices.is_empty() {
                true => match segment.find_offset(from, limit)? {
                    Some(batch) => batch.position,
                    // Compaction left a gap: what comes next is in the next segment.
                    None => continue,
                },
                false => 0,
            };
            let must = wanted.min_one_message && data.slices.is_empty();
            let end = whole_batches(segment, start, left, limit, must)?;
            if end > start {
                let len = usize::try_from(end - start).unwrap_or(usize::MAX);
                data.slices.push(FileSlice { file: segment.file()?, position: start, len });
                left = left.saturating_sub(end - start);
                if wanted.aborted_txns {
                    read_up_to = match end < limit {
                        true => segment.offset_at(end)?,
                        false => next_base.unwrap_or(wanted.upper_bound),
                    };
                }
            }
            let bounded = next_base.is_none_or(|base| base >= wanted.upper_bound);
            data.is_limited = end < limit || (left == 0 && !bounded);
            if end < segment.size() || left == 0 || bounded {
                break;
            }
        }
        if wanted.aborted_txns && !data.slices.is_empty() {
            data.aborted_txns = aborted_txns(&segments, from, read_up_to)?;
        }
        Ok(Ok(data))
    }

    /// Bytes of `segment` that lie before `upper_bound`.
    fn readable_size(
        &self,
        segment: &LogSegment,
        next_base: Option<Offset>,
        upper_bound: Offset,
    ) -> io::Result<u64> {
        // In this order: whatever the size covers lies before an end that is looked at later.
        let size = segment.size();
        let whole =
            upper_bound >= self.log_end_offset() || next_base.is_some_and(|b| b <= upper_bound);
        if whole { Ok(size) } else { segment.position_of_bound(upper_bound, size) }
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn is_corrupt(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// Where the batches from `start` end that fit into `max` bytes before `limit`.
fn whole_batches(
    segment: &LogSegment,
    start: u64,
    max: u64,
    limit: u64,
    min_one: bool,
) -> io::Result<u64> {
    let target = start.saturating_add(max);
    if limit <= target {
        return Ok(limit.max(start));
    }
    let boundary = segment.batch_boundary(start, target, limit)?;
    if boundary > start || !min_one {
        return Ok(boundary);
    }
    segment.batch_end(start, limit)
}

/// The aborted transactions that a reader of `from..up_to` has to know. A marker may stand in a
/// later segment than what it aborted.
fn aborted_txns(
    segments: &[Arc<LogSegment>],
    from: Offset,
    up_to: Offset,
) -> io::Result<Vec<AbortedTxn>> {
    let mut found = Vec::new();
    for segment in segments.get(floor_segment(segments, from)..).unwrap_or_default() {
        if segment.txn_index().collect_aborted_txns(from, up_to, &mut found)? {
            break;
        }
    }
    Ok(found)
}

/// Index of the segment that holds `offset`, or would.
pub(super) fn floor_segment(segments: &[Arc<LogSegment>], offset: Offset) -> usize {
    segments.partition_point(|segment| segment.base_offset() <= offset).saturating_sub(1)
}
