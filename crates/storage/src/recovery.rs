//! Recovering a segment: what a crash left half written is cut off, and the indexes are made anew
//! from what stays.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_config::LogConfig;
use ottla_env::File;
use ottla_protocol::record_batch::{HEADER_LENGTH, RecordBatch};
use ottla_protocol::{LeaderEpoch, Offset, Timestamp};

use crate::batch_header::BatchHeader;
use crate::batch_scanner::{HeaderScanner, read_exact};
use crate::file_name::{INDEX, LOG, TIME_INDEX, segment_file};
use crate::log_dir::LogDir;
use crate::log_segment::{LogSegment, SegmentFileSizes, SegmentParts};
use crate::offset_index::OffsetIndex;
use crate::time_index::{TimeIndex, TimestampOffset};

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// What a scan of a segment found.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// Offset after the last batch.
    pub(crate) next_offset: Offset,
    /// Leader epochs of the batches, and where each begins.
    pub(crate) epochs: Vec<(LeaderEpoch, Offset)>,
    /// Bytes that were no whole, valid batch, and were cut off.
    pub(crate) truncated: u64,
    /// There are control batches, which may have aborted transactions.
    pub(crate) has_markers: bool,
}

impl Scanned {
    fn nothing(next_offset: Offset) -> Self {
        Self { next_offset, epochs: Vec::new(), truncated: 0, has_markers: false }
    }
}

/// Checks every batch of a segment, cuts the file after the last good one, and indexes the rest.
pub(crate) fn recover_segment(
    dir: &LogDir,
    path: &Path,
    base_offset: Offset,
    len: u64,
    config: &LogConfig,
) -> io::Result<(Arc<LogSegment>, Scanned)> {
    let segment = LogSegment::from_parts(dir, path, base_offset, empty_parts(base_offset));
    let file = segment.file()?;
    let mut scanned = Scanned::nothing(base_offset);
    let mut reader = BatchReader::new(&*file, len);
    let mut valid = 0;
    while let Some((header, size)) = reader.next_valid()? {
        if !follows(&header, base_offset, &scanned) {
            break;
        }
        segment.appended(&header, valid, size, config.index_interval_bytes);
        valid += size;
        scanned.next_offset = header.next_offset();
        scanned.has_markers |= header.is_control();
        if scanned.epochs.last().is_none_or(|(latest, _)| header.leader_epoch > *latest) {
            scanned.epochs.push((header.leader_epoch, header.base_offset));
        }
    }
    segment.publish(valid);
    scanned.truncated = len - valid;
    if scanned.truncated > 0 {
        tracing::warn!(
            file = %segment.path().display(), valid, truncated = scanned.truncated,
            "cut off what is no valid batch"
        );
        file.set_len(valid)?;
        file.sync_data()?;
    }
    if valid > 0 {
        segment.complete_time_index();
    }
    Ok((segment, scanned))
}

/// The last segment after a clean shutdown: its indexes are read, and only what follows their
/// last entry is scanned. `None` if they do not fit the segment.
pub(crate) fn open_active(
    dir: &LogDir,
    path: &Path,
    base_offset: Offset,
    sizes: SegmentFileSizes,
) -> io::Result<Option<(Arc<LogSegment>, Scanned)>> {
    let read = |extension| dir.disk().read(&segment_file(path, base_offset, extension));
    let indexes = (
        OffsetIndex::from_bytes(base_offset, &read(INDEX)?),
        TimeIndex::from_bytes(base_offset, &read(TIME_INDEX)?),
    );
    let (Some(offset_index), Some(time_index)) = indexes else { return Ok(None) };
    let last = offset_index.last()?;
    if last.position > 0 && last.position >= sizes.log {
        // The batch that the last entry is about is gone.
        return Ok(None);
    }
    let largest = time_index.last()?;
    let file = dir.cached_file(segment_file(path, base_offset, LOG)).get()?;
    let found = scan_tail(&*file, last.position, sizes.log, base_offset, largest);
    let Some(tail) = skip_invalid(found)? else { return Ok(None) };
    let parts = SegmentParts {
        size: sizes.log,
        offset_index,
        time_index,
        largest: tail.largest,
        bytes_since_index_entry: sizes.log - last.position,
    };
    let segment = LogSegment::from_parts(dir, path, base_offset, parts);
    let scanned = Scanned::nothing(tail.next_offset);
    Ok(Some((segment, scanned)))
}

/// Whether a batch may follow those scanned so far. Offset and epoch lie outside its checksum.
fn follows(header: &BatchHeader, segment_base: Offset, scanned: &Scanned) -> bool {
    let relative = header.last_offset().0.saturating_sub(segment_base.0);
    header.base_offset >= scanned.next_offset
        && relative <= i64::from(i32::MAX)
        && scanned.epochs.last().is_none_or(|(latest, _)| header.leader_epoch >= *latest)
}

struct Tail {
    next_offset: Offset,
    largest: Option<TimestampOffset>,
}

fn scan_tail(
    file: &dyn File,
    from: u64,
    end: u64,
    base_offset: Offset,
    mut largest: Option<TimestampOffset>,
) -> io::Result<Tail> {
    let mut next_offset = base_offset;
    let mut scanner = HeaderScanner::new(file, from, end);
    while let Some(batch) = scanner.next_batch()? {
        next_offset = batch.header.next_offset();
        let timestamp = batch.header.max_timestamp;
        let known = largest.map_or(Timestamp::NONE, |largest| largest.timestamp);
        if timestamp > known {
            largest = Some(TimestampOffset { timestamp, offset: batch.header.last_offset() });
        }
    }
    // Without any timestamp there is still an answer: none.
    let none = TimestampOffset { timestamp: Timestamp::NONE, offset: base_offset };
    Ok(Tail { next_offset, largest: largest.or(Some(none)) })
}

/// Data that makes no sense is no fault of the disk here: there is another way to find it out.
pub(crate) fn skip_invalid<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

fn empty_parts(base_offset: Offset) -> SegmentParts {
    SegmentParts {
        size: 0,
        offset_index: OffsetIndex::in_memory(base_offset),
        time_index: TimeIndex::in_memory(base_offset),
        largest: None,
        bytes_since_index_entry: 0,
    }
}

/// Reads a segment from its start in large pieces, batch by batch.
struct BatchReader<'a> {
    file: &'a dyn File,
    len: u64,
    position: u64,
    chunk: Vec<u8>,
    chunk_start: u64,
}

impl<'a> BatchReader<'a> {
    fn new(file: &'a dyn File, len: u64) -> Self {
        Self { file, len, position: 0, chunk: Vec::new(), chunk_start: 0 }
    }

    /// The next batch if it is whole and its checksum fits.
    fn next_valid(&mut self) -> io::Result<Option<(BatchHeader, u64)>> {
        let header = BatchHeader::parse(self.bytes(HEADER_LENGTH)?);
        let Some(header) = header else { return Ok(None) };
        let Some(size) = header.size().filter(|_| header.is_plausible()) else { return Ok(None) };
        if self.position + size as u64 > self.len {
            return Ok(None);
        }
        if !RecordBatch::parse(self.bytes(size)?).is_ok_and(|batch| batch.crc_is_valid()) {
            return Ok(None);
        }
        self.position += size as u64;
        Ok(Some((header, size as u64)))
    }

    /// At least `wanted` bytes at the position, or what is left of the file.
    fn bytes(&mut self, wanted: usize) -> io::Result<&[u8]> {
        let held = self.chunk_start + self.chunk.len() as u64;
        if self.position + wanted as u64 > held && held < self.len {
            let left = usize::try_from(self.len - self.position).unwrap_or(usize::MAX);
            self.chunk = read_exact(self.file, self.position, left.min(wanted.max(CHUNK)))?;
            self.chunk_start = self.position;
        }
        let from = usize::try_from(self.position - self.chunk_start).unwrap_or(usize::MAX);
        Ok(self.chunk.get(from..).unwrap_or_default())
    }
}
