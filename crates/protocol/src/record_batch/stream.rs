//! Records of a compressed batch, through a window.

use super::varint::read_i32;
use super::{Record, RecordError};
use crate::compression::DecompressReader;

/// Size of the window as long as no record needs more.
const WINDOW: usize = 64 * 1024;

/// Reads records from decompressed bytes as they come; a lending iterator.
pub struct RecordStream<'d> {
    reader: DecompressReader<'d>,
    window: Vec<u8>,
    start: usize,
    end: usize,
    index: u32,
    count: u32,
}

impl<'d> RecordStream<'d> {
    pub(super) fn new(reader: DecompressReader<'d>, count: i32) -> Result<Self, RecordError> {
        let count = u32::try_from(count).map_err(|_| RecordError::NegativeCount(count))?;
        Ok(Self { reader, window: vec![0; WINDOW], start: 0, end: 0, index: 0, count })
    }

    /// The next record, valid until the next call; `None` after the last.
    ///
    /// After an error the stream is of no use.
    #[allow(clippy::should_implement_trait, reason = "it lends, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, RecordError> {
        if self.index == self.count {
            return match self.start == self.end && !self.fill(1)? {
                true => Ok(None),
                false => Err(RecordError::TrailingBytes { count: self.count }),
            };
        }
        let index = self.index;
        let malformed = |reason| RecordError::Malformed { index, reason };
        let length = self.length()?;
        while self.end - self.start < length {
            if !self.fill(length)? {
                return Err(malformed("it is longer than the batch"));
            }
        }
        let body = &self.window[self.start..self.start + length];
        self.start += length;
        self.index += 1;
        Record::read(body).map(Some).map_err(malformed)
    }

    fn length(&mut self) -> Result<usize, RecordError> {
        let malformed = |index, reason| RecordError::Malformed { index, reason };
        loop {
            let window = &self.window[self.start..self.end];
            let mut unread = window;
            if let Some(length) = read_i32(&mut unread) {
                self.start += window.len() - unread.len();
                return usize::try_from(length)
                    .map_err(|_| malformed(self.index, "its length is negative"));
            }
            // A length takes five bytes at most.
            if window.len() >= 5 || !self.fill(5)? {
                return Err(malformed(self.index, "its length is not there"));
            }
        }
    }

    /// Reads more, making room for `wanted` bytes from `start`; `false` at the end.
    ///
    /// The window grows with what has been read, not with what a length claims.
    fn fill(&mut self, wanted: usize) -> Result<bool, RecordError> {
        self.window.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.window.len() {
            let size = wanted.min(2 * self.window.len());
            self.window.resize(size, 0);
        }
        let length = self.reader.read(&mut self.window[self.end..])?;
        self.end += length;
        Ok(length > 0)
    }
}
