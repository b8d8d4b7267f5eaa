//! Recovering a segment: what a crash left half written is cut off, and the indexes are made anew
//! from what stays.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ottla_config::LogConfig;
use ottla_env::File;
use ottla_protocol::record_batch::{HEADER_LENGTH, RecordBatch};
use ottla_protocol::{LeaderEpoch, Offset};

use crate::batch_header::BatchHeader;
use crate::batch_scanner::{FoundBatch, read_exact};
use crate::file_name::{LOG, segment_file};
use crate::log_dir::LogDir;
use crate::log_segment::{LogSegment, SegmentFileSizes};

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// What a scan of a segment found.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// Where the scan began.
    pub(crate) first_offset: Offset,
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
    /// A scan that ended where it began.
    pub(crate) fn nothing(at: Offset) -> Self {
        Self {
            first_offset: at,
            next_offset: at,
            epochs: Vec::new(),
            truncated: 0,
            has_markers: false,
        }
    }

    fn note(&mut self, header: &BatchHeader) {
        self.next_offset = header.next_offset();
        self.has_markers |= header.is_control();
        if self.epochs.last().is_none_or(|(latest, _)| header.leader_epoch > *latest) {
            self.epochs.push((header.leader_epoch, header.base_offset));
        }
    }
}

/// A segment that cannot be trusted as it is.
pub(crate) struct Suspect<'a> {
    pub(crate) dir: &'a LogDir,
    /// The partition's directory.
    pub(crate) path: &'a Path,
    pub(crate) base_offset: Offset,
    pub(crate) sizes: SegmentFileSizes,
    /// An offset up to which batches and indexes were synced.
    pub(crate) checkpoint: Option<Offset>,
    /// Where the next segment begins, if all of this one was synced. No crash has torn it: what does
    /// not check out is rotten, its readers are told so, and what stands behind it is good.
    pub(crate) synced_up_to: Option<Offset>,
}

impl Suspect<'_> {
    /// Checks every batch from the checkpoint on, indexes them, and cuts the file after the last good
    /// one. A synced segment is not cut, but indexed as far as its batches can be told apart.
    pub(crate) fn recover(&self, config: &LogConfig) -> io::Result<(Arc<LogSegment>, Scanned)> {
        let (segment, from) = self.resume()?;
        let file = segment.file()?;
        let len = self.sizes.log;
        let first = from.map_or(self.base_offset, |batch| batch.header.base_offset);
        let mut scanned = Scanned::nothing(first);
        let start = from.map_or(0, |batch| batch.position);
        let (mut valid, mut is_rotten) = (start, false);
        let mut reader = BatchReader::new(&*file, start, len);
        while let Some(ReadBatch { header, size, is_sound }) = reader.next_batch()? {
            if !self.takes(&header, is_sound, &scanned) {
                break;
            }
            match is_sound {
                true => {
                    segment.appended(&header, valid, size, config.index_interval_bytes);
                    scanned.note(&header);
                }
                false => is_rotten = true,
            }
            valid += size;
        }
        is_rotten |= valid < len;
        if is_rotten && self.synced_up_to.is_some() {
            self.leave_rotten(&segment, &mut scanned);
            valid = len;
        }
        segment.publish(valid);
        scanned.truncated = len - valid;
        self.bring_to_disk(&*file, start..valid, scanned.truncated > 0 || from.is_none())?;
        if valid > 0 {
            segment.complete_time_index();
        }
        Ok((segment, scanned))
    }

    /// Whether a batch is part of the segment, behind those scanned so far. Offset and epoch lie
    /// outside its checksum.
    fn takes(&self, header: &BatchHeader, is_sound: bool, scanned: &Scanned) -> bool {
        let relative = header.last_offset().0.saturating_sub(self.base_offset.0);
        header.base_offset >= scanned.next_offset
            && relative <= i64::from(i32::MAX)
            && scanned.epochs.last().is_none_or(|(latest, _)| header.leader_epoch >= *latest)
            && self.synced_up_to.map_or(is_sound, |next| header.next_offset() <= next)
    }

    fn leave_rotten(&self, segment: &LogSegment, scanned: &mut Scanned) {
        tracing::error!(
            file = %segment.path().display(),
            "a batch is rotten, its readers are told so: have the partition fetched anew from another replica"
        );
        // Those that were synced with it stand: an epoch may be what is rotten.
        scanned.epochs.clear();
    }

    fn bring_to_disk(&self, file: &dyn File, valid: Range<u64>, changed: bool) -> io::Result<()> {
        let Range { start, end } = valid;
        if end < self.sizes.log {
            let path = segment_file(self.path, self.base_offset, LOG);
            tracing::warn!(
                file = %path.display(), valid = end, truncated = self.sizes.log - end,
                "cut off what is no valid batch"
            );
            file.set_len(end)?;
        }
        let distrusted = self.dir.is_distrusted();
        if distrusted {
            write_again(file, start, end)?;
        }
        // A process that died while it truncated the log left a length that is not on the disk, and
        // no checkpoint. If records took the offsets anew, a power loss would bring the old ones back.
        if changed || distrusted {
            file.sync_data()?;
        }
        Ok(())
    }

    /// The segment with the indexes that a checkpoint vouches for, and the batch to go on with;
    /// without any, and from its start on, where there is none.
    fn resume(&self) -> io::Result<(Arc<LogSegment>, Option<FoundBatch>)> {
        let Self { dir, path, base_offset, sizes, checkpoint, .. } = *self;
        if let Some(checkpoint) = checkpoint
            && sizes.index.is_some()
            && sizes.time_index.is_some()
        {
            let segment = LogSegment::open(dir, path, base_offset, sizes);
            if let Some(Some(batch)) = skip_invalid(segment.resume_at(checkpoint))? {
                return Ok((segment, Some(batch)));
            }
        }
        if sizes.index.is_some() || sizes.time_index.is_some() {
            // Both go before one is made anew: a crash in between would leave a new one beside an
            // old one, and a checkpoint would vouch for the two.
            LogSegment::open(dir, path, base_offset, sizes).remove_index_files(dir)?;
            dir.disk().sync_dir(path)?;
        }
        Ok((LogSegment::open(dir, path, base_offset, SegmentFileSizes::default()), None))
    }
}

/// The last segment after a clean shutdown, and the log's end. `None` if its indexes do not fit.
pub(crate) fn open_active(
    dir: &LogDir,
    path: &Path,
    base_offset: Offset,
    sizes: SegmentFileSizes,
) -> io::Result<Option<(Arc<LogSegment>, Offset)>> {
    let segment = LogSegment::open(dir, path, base_offset, sizes);
    let end = skip_invalid(segment.find_end())?;
    Ok(end.map(|end| (segment, end)))
}

/// Writes what a failed sync may have left in memory only: the system writes none of it by itself.
fn write_again(file: &dyn File, mut from: u64, to: u64) -> io::Result<()> {
    while from < to {
        let len = usize::try_from(to - from).unwrap_or(usize::MAX).min(CHUNK);
        let bytes = read_exact(file, from, len)?;
        file.write_all_at(&mut [IoSlice::new(&bytes)], from)?;
        from += len as u64;
    }
    Ok(())
}

/// Data that makes no sense is no fault of the disk here: there is another way to find it out.
pub(crate) fn skip_invalid<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

/// A batch as a scan meets it.
struct ReadBatch {
    header: BatchHeader,
    size: u64,
    /// Its checksum fits.
    is_sound: bool,
}

/// Reads a segment in large pieces, batch by batch.
struct BatchReader<'a> {
    file: &'a dyn File,
    len: u64,
    position: u64,
    chunk: Vec<u8>,
    chunk_start: u64,
}

impl<'a> BatchReader<'a> {
    fn new(file: &'a dyn File, position: u64, len: u64) -> Self {
        Self { file, len, position, chunk: Vec::new(), chunk_start: position }
    }

    /// The next batch, if its header makes sense and it is not cut short.
    fn next_batch(&mut self) -> io::Result<Option<ReadBatch>> {
        let header = BatchHeader::parse(self.bytes(HEADER_LENGTH)?);
        let Some(header) = header else { return Ok(None) };
        let Some(size) = header.size().filter(|_| header.is_plausible()) else { return Ok(None) };
        if self.position + size as u64 > self.len {
            return Ok(None);
        }
        let is_sound =
            RecordBatch::parse(self.bytes(size)?).is_ok_and(|batch| batch.crc_is_valid());
        self.position += size as u64;
        Ok(Some(ReadBatch { header, size: size as u64, is_sound }))
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
