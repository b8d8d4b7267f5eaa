//! Walks the batches of a segment's file, header by header or whole.

use std::io;

use ottla_env::File;

use ottla_protocol::record_batch::HEADER_LENGTH;
use ottla_protocol::{LeaderEpoch, Offset};

use crate::batch_header::BatchHeader;
use crate::open_files::Wait;

/// Bytes read at once while looking for a batch: one index interval.
const WINDOW: usize = 4096;

/// The headers of the batches from a position on, without reading the records where they are
/// larger than the window.
pub(crate) struct HeaderScanner<'a> {
    file: &'a dyn File,
    wait: Wait,
    next: u64,
    /// No later batch has an earlier offset, or an older epoch.
    least: (Offset, LeaderEpoch),
    end: u64,
    window: [u8; WINDOW],
    /// The part of the file that the window holds.
    window_start: u64,
    window_len: usize,
}

/// A batch found in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundBatch {
    pub(crate) header: BatchHeader,
    pub(crate) position: u64,
    pub(crate) size: u64,
}

impl FoundBatch {
    /// Where the next batch begins.
    pub(crate) fn end(&self) -> u64 {
        self.position + self.size
    }
}

impl<'a> HeaderScanner<'a> {
    /// Scans from the batch at `position` up to byte `end` of the file.
    pub(crate) fn new(file: &'a dyn File, position: u64, end: u64) -> Self {
        Self::waiting(file, position, end, Wait::ForDisk)
    }

    /// As [`new`](Self::new), waiting for the disk or not.
    pub(crate) fn waiting(file: &'a dyn File, position: u64, end: u64, wait: Wait) -> Self {
        let window = [0; WINDOW];
        let least = (Offset(0), LeaderEpoch(i32::MIN));
        Self { file, wait, next: position, least, end, window, window_start: 0, window_len: 0 }
    }

    /// The batches begin at `offset` or later, as those of a segment do.
    pub(crate) fn not_before(mut self, offset: Offset) -> Self {
        self.least.0 = offset;
        self
    }

    /// The next batch; `None` at the end. A header that makes no sense or does not follow
    /// the one before, or a batch that is cut short, is [`io::ErrorKind::InvalidData`]: offset, length
    /// and epoch lie outside a batch's checksum.
    pub(crate) fn next_batch(&mut self) -> io::Result<Option<FoundBatch>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let header = self.header()?.filter(BatchHeader::is_plausible).ok_or_else(corrupt)?;
        let size = header.size().ok_or_else(corrupt)? as u64;
        let found = FoundBatch { header, position: self.next, size };
        let (offset, epoch) = self.least;
        if found.end() > self.end || header.base_offset < offset || header.leader_epoch < epoch {
            return Err(corrupt());
        }
        self.next = found.end();
        self.least = (header.next_offset(), header.leader_epoch);
        Ok(Some(found))
    }

    /// Whether the batch after the last one, if there is one, begins no earlier than that ends. One
    /// that makes no sense at all says nothing about its predecessor.
    pub(crate) fn is_followed(&mut self) -> io::Result<bool> {
        let next = if self.next < self.end { self.header()? } else { None };
        let next = next.filter(BatchHeader::is_plausible);
        Ok(next.is_none_or(|next| next.base_offset >= self.least.0))
    }

    /// [`is_followed`](Self::is_followed), as far as that is known without another read.
    pub(crate) fn seems_followed(&mut self) -> io::Result<bool> {
        Ok(!self.holds_next() || self.is_followed()?)
    }

    fn holds_next(&self) -> bool {
        let end = self.window_start + self.window_len as u64;
        self.window_start <= self.next && self.next + HEADER_LENGTH as u64 <= end
    }

    fn header(&mut self) -> io::Result<Option<BatchHeader>> {
        if !self.holds_next() {
            let wanted = usize::try_from(self.end - self.next).unwrap_or(WINDOW).min(WINDOW);
            let window = self.window.get_mut(..wanted).unwrap_or_default();
            self.window_len = self.wait.read_at(self.file, window, self.next)?;
            self.window_start = self.next;
        }
        let from = usize::try_from(self.next - self.window_start).unwrap_or(usize::MAX);
        Ok(self.window.get(from..self.window_len).and_then(BatchHeader::parse))
    }
}

/// The error of a file whose batches make no sense.
pub(crate) fn corrupt() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the segment holds a corrupt record batch")
}

/// Reads `len` bytes at `position`; a file that ends before is an error.
pub(crate) fn read_exact(file: &dyn File, position: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    if file.read_at(&mut bytes, position)? < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}
