//! A log as it was at one moment, for whoever reads it.

use std::io;
use std::sync::Arc;

use arc_swap::Guard;
use bytes::Bytes;
use ottla_env::File;
use ottla_protocol::Offset;

use crate::batch_scanner::{corrupt, read_exact};
use crate::log_segment::LogSegment;
use crate::open_files::Wait;
use crate::transaction_index::AbortedTxn;

/// Distance of the bytes that tell whether a piece is in memory: what Linux reads ahead at once.
const PROBE_STEP: usize = 128 * 1024;
/// Distance of the bytes that have to be read to bring a piece in.
const PAGE: usize = 4096;
/// Bytes at the end of a log that count as written a moment ago.
const RECENT: u64 = 8 << 20;

/// A piece of a file.
#[derive(Clone)]
pub struct FileSlice {
    /// The file; it stays readable while it is held, even if the segment is deleted.
    pub file: Arc<dyn File>,
    /// Where the piece begins, in bytes.
    pub position: u64,
    /// Its length in bytes.
    pub len: usize,
    /// It was written a moment ago: it is in memory, nobody needs to ask.
    pub is_recent: bool,
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

impl FileSlice {
    /// Where the piece ends.
    pub fn end(&self) -> u64 {
        self.position + self.len as u64
    }

    /// Reads the piece.
    pub fn read(&self) -> io::Result<Bytes> {
        read_exact(&*self.file, self.position, self.len).map(Bytes::from)
    }

    /// Reads the piece without waiting for the disk; `None` if it is not in memory.
    pub fn try_read(&self) -> io::Result<Option<Bytes>> {
        let mut bytes = vec![0; self.len];
        match self.file.try_read_at(&mut bytes, self.position) {
            Ok(read) if read == self.len => Ok(Some(bytes.into())),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the piece is in the page cache, as far as a few looks tell.
    pub fn is_in_memory(&self) -> bool {
        if self.is_recent {
            return true;
        }
        let starts = (self.position..self.end()).step_by(PROBE_STEP);
        let mut probes = starts.chain(self.end().checked_sub(1));
        !probes.any(|position| {
            let probe = self.file.try_read_at(&mut [0], position);
            probe.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        })
    }

    /// Brings the piece into the page cache. Blocks on the disk. What is wrong with it is for
    /// whoever reads it to find out.
    pub fn bring_in(&self) {
        self.file.will_need(self.position, self.len as u64);
        let pages = (self.position..self.end()).step_by(PAGE);
        for position in pages.chain(self.end().checked_sub(1)) {
            if !matches!(self.file.read_at(&mut [0], position), Ok(1)) {
                break;
            }
        }
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

/// What a reader wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The first batch is the one that holds this offset.
    pub from: Offset,
    /// No batch that begins here or later: the high watermark, the last stable offset, or the log's
    /// end.
    pub upper_bound: Offset,
    /// Bytes of whole batches.
    pub max_bytes: usize,
    /// The first batch comes even if it alone is larger than `max_bytes` (KIP-74).
    pub min_one_message: bool,
    /// Name the transactions that were aborted, for a `read_committed` consumer (KIP-98);
    /// `upper_bound` is the last stable offset then.
    pub aborted_txns: bool,
}

/// The segments and bounds of a log at one moment. It never changes, so any task may read it
/// without a lock, for as long as it likes: what a writer does meanwhile is in the next one.
///
/// It answers where batches lie. Files are opened when they are first looked into: one that was
/// taken away since the snapshot is not found, and a newer snapshot knows what took its place.
pub(crate) struct LogReader {
    segments: Guard<Arc<Vec<Arc<LogSegment>>>>,
    /// Bytes of the last segment, the only one that grows.
    active_size: u64,
    log_start: Offset,
    /// Covers at least what `active_size` does.
    log_end: Offset,
}

impl LogReader {
    /// `bounds` tells the log's first offset and its end. It is asked after the size was looked at,
    /// so that the end covers it.
    pub(crate) fn new(
        segments: Guard<Arc<Vec<Arc<LogSegment>>>>,
        bounds: impl FnOnce() -> (Offset, Offset),
    ) -> Self {
        let active_size = segments.last().map_or(0, |active| active.size());
        let (log_start, log_end) = bounds();
        Self { segments, active_size, log_start, log_end }
    }

    pub(crate) fn log_start(&self) -> Offset {
        self.log_start
    }

    pub(crate) fn log_end(&self) -> Offset {
        self.log_end
    }

    /// Whether these are still the log's segments.
    pub(crate) fn is_of(&self, segments: &Arc<Vec<Arc<LogSegment>>>) -> bool {
        Arc::ptr_eq(&self.segments, segments)
    }

    /// Whether the log was deleted: there is always a segment otherwise.
    pub(crate) fn is_deleted(&self) -> bool {
        self.segments.is_empty()
    }

    /// Each segment that holds what may be read, and its bytes.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (&Arc<LogSegment>, u64)> {
        self.segments
            .iter()
            .enumerate()
            .skip(floor_segment(&self.segments, self.log_start))
            .map(|(index, segment)| (segment, self.size(index, segment)))
    }

    fn size(&self, index: usize, segment: &LogSegment) -> u64 {
        if index + 1 == self.segments.len() { self.active_size } else { segment.size() }
    }

    /// Where the wanted batches lie: `wanted.from` is within the log. Nothing is an answer too, at
    /// the end of the log, and at or after the upper bound.
    pub(crate) fn read(&self, wanted: &Wanted, wait: Wait) -> io::Result<FetchData> {
        let mut data = FetchData {
            slices: Vec::new(),
            log_start_offset: self.log_start,
            log_end_offset: self.log_end,
            is_limited: false,
            aborted_txns: Vec::new(),
        };
        let from = wanted.from;
        if from >= wanted.upper_bound.min(self.log_end) {
            return Ok(data);
        }
        let (mut left, mut read_up_to) = (wanted.max_bytes as u64, wanted.upper_bound);
        let mut index = floor_segment(&self.segments, from);
        while let Some(segment) = self.segments.get(index) {
            let size = self.size(index, segment);
            index += 1;
            let next_base = self.segments.get(index).map(|next| next.base_offset());
            if next_base.is_some_and(|base| base <= from) {
                continue;
            }
            let whole = wanted.upper_bound >= self.log_end
                || next_base.is_some_and(|base| base <= wanted.upper_bound);
            let limit = match whole {
                true => size,
                false => segment.position_of_bound(wanted.upper_bound, size, wait)?,
            };
            let min_one = wanted.min_one_message && data.slices.is_empty();
            let run = match data.slices.is_empty() {
                true => match segment.find_offset(from, limit, wait)? {
                    // Its offset lies outside its checksum, and a flipped bit may have moved it.
                    Some(batch)
                        if batch.header.last_offset() >= next_base.unwrap_or(self.log_end) =>
                    {
                        return Err(corrupt());
                    }
                    Some(batch) => {
                        let first_end = batch.end();
                        Run { start: batch.position, first_end: Some(first_end), limit }
                    }
                    // Compaction left a gap: what comes next is in the next segment.
                    None => continue,
                },
                false => Run { start: 0, first_end: None, limit },
            };
            let end = run.whole_batches(segment, left, min_one, wait)?;
            if end > run.start {
                let len = usize::try_from(end - run.start).unwrap_or(usize::MAX);
                let is_recent = next_base.is_none()
                    && run.start >= segment.found_size().max(size.saturating_sub(RECENT));
                let (file, position) = (segment.file()?, run.start);
                data.slices.push(FileSlice { file, position, len, is_recent });
                left = left.saturating_sub(end - run.start);
                if wanted.aborted_txns {
                    read_up_to = match end < limit {
                        true => segment.offset_at(end, wait)?,
                        false => next_base.unwrap_or(wanted.upper_bound),
                    };
                }
            }
            let bounded = next_base.is_none_or(|base| base >= wanted.upper_bound);
            data.is_limited = end < limit || (left == 0 && !bounded);
            if end < size || left == 0 || bounded {
                break;
            }
        }
        if wanted.aborted_txns && !data.slices.is_empty() {
            data.aborted_txns = self.aborted_txns(from, read_up_to, wait)?;
        }
        Ok(data)
    }

    /// The aborted transactions that a reader of `from..up_to` has to know. A marker may stand in a
    /// later segment than what it aborted.
    pub(crate) fn aborted_txns(
        &self,
        from: Offset,
        up_to: Offset,
        wait: Wait,
    ) -> io::Result<Vec<AbortedTxn>> {
        let mut found = Vec::new();
        let first = floor_segment(&self.segments, from);
        for segment in self.segments.get(first..).unwrap_or_default() {
            if segment.txn_index().collect_aborted_txns(from, up_to, &mut found, wait)? {
                break;
            }
        }
        Ok(found)
    }
}

/// Batches of one segment.
struct Run {
    /// Where the first one begins.
    start: u64,
    /// Where it ends, if that is known.
    first_end: Option<u64>,
    /// Where the last one ends that may be read.
    limit: u64,
}

impl Run {
    /// Where the batches end that fit into `max` bytes.
    fn whole_batches(
        &self,
        segment: &LogSegment,
        max: u64,
        min_one: bool,
        wait: Wait,
    ) -> io::Result<u64> {
        let target = self.start.saturating_add(max);
        if self.limit <= target {
            return Ok(self.limit.max(self.start));
        }
        if let Some(first_end) = self.first_end.filter(|end| *end >= target) {
            return Ok(if min_one || first_end == target { first_end } else { self.start });
        }
        let known = self.first_end.unwrap_or(self.start);
        let boundary = segment.batch_boundary(known, target, self.limit, wait)?;
        if boundary > self.start || !min_one {
            return Ok(boundary);
        }
        segment.batch_end(self.start, self.limit, wait)
    }
}

/// Index of the segment that holds `offset`, or would.
pub(crate) fn floor_segment(segments: &[Arc<LogSegment>], offset: Offset) -> usize {
    segments.partition_point(|segment| segment.base_offset() <= offset).saturating_sub(1)
}
