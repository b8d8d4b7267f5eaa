//! The segment that a cleaner writes: `<base>.log.cleaned` and its indexes.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use ottla_env::{File, OpenMode};
use ottla_protocol::Offset;
use ottla_protocol::record_batch::RecordBatch;

use crate::batch_header::BatchHeader;
use crate::file_name::{CLEANED, LOG, TXN_INDEX, segment_file};
use crate::log_dir::LogDir;
use crate::log_segment::{CLEANABLE_FILES, LogSegment};
use crate::transaction_index::AbortedTxn;

/// Bytes after which the disk is told to begin writing, so that the sync at the end is short.
const WRITEBACK: u64 = 8 << 20;

/// A cleaned segment whose files are whole, and still have names of their own.
pub(crate) struct FinishedSegment {
    pub(crate) segment: Arc<LogSegment>,
    /// Length of the transaction index, which is to be loaded once it has its name.
    pub(crate) txn_index_bytes: u64,
}

/// A segment on its way into the log. Its files have names of their own until it is swapped in; if
/// that never happens, they are removed.
pub(super) struct CleanedSegment {
    segment: Arc<LogSegment>,
    file: Arc<dyn File>,
    /// Batches that are not written yet.
    pub(super) buffer: Vec<u8>,
    written: u64,
    /// How much of it the disk was told to write.
    written_back: u64,
    interval: u32,
    aborted: Vec<AbortedTxn>,
}

impl CleanedSegment {
    /// Begins a segment in the partition's directory `path`, with an index entry for every
    /// `interval` bytes.
    pub(super) fn create(
        dir: &LogDir,
        path: &Path,
        base_offset: Offset,
        interval: u32,
    ) -> io::Result<Self> {
        discard(dir, path, base_offset);
        let file = dir.disk().open(&cleaned(path, base_offset, LOG), OpenMode::Truncate)?;
        Ok(Self {
            segment: LogSegment::unwritten(dir, path, base_offset),
            file,
            buffer: Vec::new(),
            written: 0,
            written_back: 0,
            interval,
            aborted: Vec::new(),
        })
    }

    pub(super) fn base_offset(&self) -> Offset {
        self.segment.base_offset()
    }

    /// Bytes of all batches so far.
    pub(super) fn size(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Takes a batch as it is.
    pub(super) fn copy(&mut self, batch: &RecordBatch<'_>) {
        let position = self.size();
        self.buffer.extend_from_slice(batch.as_bytes());
        self.added(&BatchHeader::of(batch), position);
    }

    /// Takes note of the batch that was put into the buffer at `position` of the segment.
    pub(super) fn added(&mut self, header: &BatchHeader, position: u64) {
        self.segment.appended(header, position, self.size() - position, self.interval);
    }

    /// Takes note of aborted transactions whose markers are in this segment.
    pub(super) fn add_aborted(&mut self, aborted: Vec<AbortedTxn>) {
        self.aborted.extend(aborted);
    }

    /// Writes what the buffer holds; how many bytes.
    pub(super) fn write(&mut self) -> io::Result<u64> {
        let len = self.buffer.len() as u64;
        self.file.write_all_at(&mut [IoSlice::new(&self.buffer)], self.written)?;
        self.buffer.clear();
        self.written += len;
        if self.written - self.written_back >= WRITEBACK {
            self.file.start_writeback(self.written_back, self.written - self.written_back);
            self.written_back = self.written;
        }
        Ok(len)
    }

    /// Writes the rest and the indexes, and makes all of it survive a power loss.
    pub(super) fn finish(&mut self, dir: &LogDir) -> io::Result<FinishedSegment> {
        self.write()?;
        self.file.sync_data()?;
        self.segment.publish(self.written);
        if self.written > 0 {
            self.segment.complete_time_index();
        }
        for path in self.segment.write_indexes_as(dir, CLEANED)? {
            dir.disk().open(&path, OpenMode::ReadWrite)?.sync_data()?;
        }
        let path = self.segment.path().parent().unwrap_or(Path::new(""));
        let entries: Vec<u8> = self.aborted.iter().flat_map(AbortedTxn::encode).collect();
        if !entries.is_empty() {
            let path = cleaned(path, self.base_offset(), TXN_INDEX);
            let file = dir.disk().open(&path, OpenMode::Truncate)?;
            file.write_all_at(&mut [IoSlice::new(&entries)], 0)?;
            file.sync_data()?;
        }
        let segment = LogSegment::open(dir, path, self.base_offset(), self.segment.file_sizes());
        Ok(FinishedSegment { segment, txn_index_bytes: entries.len() as u64 })
    }
}

/// Removes what a pass that came to nothing has written, if anything is there.
pub(super) fn discard(dir: &LogDir, path: &Path, base_offset: Offset) {
    for extension in CLEANABLE_FILES {
        // If the disk does not even do this, the next start does it.
        let _left = dir.disk().remove_file(&cleaned(path, base_offset, extension));
    }
}

fn cleaned(path: &Path, base_offset: Offset, extension: &str) -> std::path::PathBuf {
    segment_file(path, base_offset, &format!("{extension}.{CLEANED}"))
}
