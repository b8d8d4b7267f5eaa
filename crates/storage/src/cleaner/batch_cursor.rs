//! Reads the batches of a segment one by one, through a buffer that grows with the largest.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_env::File;
use ottla_protocol::Offset;
use ottla_protocol::record_batch::{HEADER_LENGTH, RecordBatch};

use super::Stop;
use crate::batch_header::BatchHeader;
use crate::log_segment::LogSegment;

/// Where a cleaner is in a segment. Every batch is checked before it is believed: what is read
/// here decides what is deleted, and is written anew under a new checksum.
pub(super) struct BatchCursor {
    segment: Arc<LogSegment>,
    file: Arc<dyn File>,
    /// Where the next batch begins in the file, and where the last one ends.
    position: u64,
    end: u64,
    /// Offsets that are still possible.
    next_offset: Offset,
    end_offset: Offset,
    buffer: Buffer,
}

/// Bytes of a file: those from `start` to `end` are still to be used.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// How much is read at once, if no batch needs more.
    size: usize,
}

impl Buffer {
    pub(super) fn new(size: usize) -> Self {
        Self { size: size.max(HEADER_LENGTH), ..Self::default() }
    }

    fn held(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads on, so that at least `wanted` bytes are held; `from` is where the held bytes begin.
    fn fill(&mut self, file: &dyn File, from: u64, wanted: usize, end: u64) -> io::Result<()> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let left = usize::try_from(end - from).unwrap_or(usize::MAX);
        let size = wanted.max(self.size).min(left);
        if self.bytes.len() < size {
            self.bytes.resize(size, 0);
        }
        let room = self.bytes.get_mut(self.end..size).unwrap_or_default();
        let read = file.read_at(room, from + self.end as u64)?;
        if read < room.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end = size;
        Ok(())
    }

    /// Ready for another segment, and of its usual size again.
    fn clear(mut self) -> Self {
        (self.start, self.end) = (0, 0);
        if self.bytes.len() > self.size {
            self.bytes = Vec::new();
        }
        self
    }
}

impl BatchCursor {
    /// Begins at the batch at byte `position` of `segment`, whose offsets lie before `end_offset`.
    pub(super) fn new(
        segment: &Arc<LogSegment>,
        position: u64,
        end_offset: Offset,
        buffer: Buffer,
    ) -> io::Result<Self> {
        Ok(Self {
            file: segment.file()?,
            position,
            end: segment.size(),
            next_offset: segment.base_offset(),
            end_offset,
            buffer: buffer.clear(),
            segment: segment.clone(),
        })
    }

    /// The buffer, for the next segment.
    pub(super) fn into_buffer(self) -> Buffer {
        self.buffer
    }

    /// The offset that all batches end before.
    pub(super) fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// The segment's file.
    pub(super) fn path(&self) -> &Path {
        self.segment.path()
    }

    /// Whether there is no further batch.
    pub(super) fn is_at_end(&self) -> bool {
        self.position >= self.end
    }

    /// The next batch; there must be one.
    pub(super) fn next_batch(&mut self) -> Result<RecordBatch<'_>, Stop> {
        self.hold(HEADER_LENGTH)?;
        let header = BatchHeader::parse(self.buffer.held());
        let header = header.filter(|header| self.is_possible(header));
        let Some(size) = header.and_then(|header| header.size()) else {
            return Err(self.corrupt("no record batch of format 2 whose offsets fit"));
        };
        if self.position + size as u64 > self.end {
            return Err(self.corrupt("the record batch is cut short"));
        }
        self.hold(size)?;
        self.next_offset = header.map_or(self.next_offset, |header| header.next_offset());
        let (from, position) = (self.buffer.start, self.position);
        self.buffer.start += size;
        self.position += size as u64;
        let bytes = self.buffer.bytes.get(from..from + size).unwrap_or_default();
        match RecordBatch::parse(bytes) {
            Ok(batch) if batch.crc_is_valid() => Ok(batch),
            Ok(_) => Err(corrupt(&self.segment, position, "the checksum does not match")),
            Err(error) => Err(corrupt(&self.segment, position, &error.to_string())),
        }
    }

    fn is_possible(&self, header: &BatchHeader) -> bool {
        header.is_plausible()
            && header.base_offset >= self.next_offset
            && header.next_offset() <= self.end_offset
    }

    /// Makes sure that the next `wanted` bytes are in the buffer.
    fn hold(&mut self, wanted: usize) -> Result<(), Stop> {
        let held = self.buffer.end - self.buffer.start;
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        if left < wanted {
            return Err(self.corrupt("the segment ends within a record batch"));
        }
        if held < wanted {
            self.buffer.fill(&*self.file, self.position, wanted, self.end)?;
        }
        Ok(())
    }

    /// The error of a segment that makes no sense where the cursor is.
    fn corrupt(&self, reason: &str) -> Stop {
        corrupt(&self.segment, self.position, reason)
    }
}

fn corrupt(segment: &LogSegment, position: u64, reason: &str) -> Stop {
    Stop::Corrupt {
        segment: segment.path().to_owned(),
        reason: format!("at byte {position}: {reason}"),
    }
}
