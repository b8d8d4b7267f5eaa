//! One partition in one file.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use ottla_protocol::record_batch::{RecordBatch, batches};
use ottla_protocol::{LeaderEpoch, Offset};

/// Offsets between two entries of the list of positions.
const POSITION_INTERVAL: u64 = 4096;

pub(crate) struct Log {
    file: File,
    state: Mutex<State>,
}

/// Where the log ends, and where batches begin.
#[derive(Default)]
struct State {
    end: u64,
    next_offset: i64,
    /// Offset and position of a batch, one per [`POSITION_INTERVAL`] bytes at most.
    positions: Vec<(i64, u64)>,
}

/// A range of the file that begins with a batch.
pub(crate) struct Range {
    pub(crate) position: u64,
    pub(crate) length: usize,
    pub(crate) end_offset: Offset,
}

impl Log {
    pub(crate) fn create(path: &Path) -> std::io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Self { file, state: Mutex::default() })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Checks and appends the batches of a request; answers the first offset.
    pub(crate) fn append(&self, records: &[u8]) -> Result<Offset> {
        let mut state = self.lock();
        let first = state.next_offset;
        for batch in batches(records) {
            let batch = batch?;
            ensure!(batch.crc_is_valid(), "a batch with a wrong CRC");
            state.append(&self.file, &batch)?;
        }
        Ok(Offset(first))
    }

    /// Up to `max_bytes` from the batch that holds `offset`, at least to that batch's end.
    pub(crate) fn range(&self, offset: Offset, max_bytes: usize) -> Range {
        let state = self.lock();
        let entry = state.positions.partition_point(|(first, _)| *first <= offset.0);
        let position = entry.checked_sub(1).and_then(|i| state.positions.get(i));
        let position = if offset.0 >= state.next_offset {
            state.end
        } else {
            position.map_or(0, |(_, position)| *position)
        };
        let left = usize::try_from(state.end - position).unwrap_or(usize::MAX);
        Range { position, length: left.min(max_bytes), end_offset: Offset(state.next_offset) }
    }

    pub(crate) fn end_offset(&self) -> Offset {
        Offset(self.lock().next_offset)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, file: &File, batch: &RecordBatch<'_>) -> Result<()> {
        let prefix = batch.patched_prefix(Offset(self.next_offset), LeaderEpoch(0));
        let rest = batch.as_bytes().get(prefix.len()..).unwrap_or_default();
        let written =
            rustix::io::pwritev(file, &[IoSlice::new(&prefix), IoSlice::new(rest)], self.end)?;
        ensure!(written == batch.len(), "a short write: {written} of {}", batch.len());
        let last = self.positions.last().map_or(0, |(_, position)| *position);
        if self.positions.is_empty() || self.end - last >= POSITION_INTERVAL {
            self.positions.push((self.next_offset, self.end));
        }
        self.end += batch.len() as u64;
        self.next_offset += i64::from(batch.last_offset_delta()) + 1;
        Ok(())
    }
}

/// Reads a range into a buffer and writes it.
pub(crate) fn copy(
    file: &File,
    range: &Range,
    buffer: &mut Vec<u8>,
    to: &mut impl Write,
) -> Result<()> {
    buffer.resize(range.length.min(1 << 20), 0);
    let mut sent = 0;
    while sent < range.length {
        let want = buffer.len().min(range.length - sent);
        let piece = buffer.get_mut(..want).unwrap_or_default();
        let read = rustix::io::pread(file, piece, range.position + sent as u64)?;
        ensure!(read > 0, "the log is shorter than its list of positions");
        to.write_all(buffer.get(..read).unwrap_or_default())?;
        sent += read;
    }
    Ok(())
}
