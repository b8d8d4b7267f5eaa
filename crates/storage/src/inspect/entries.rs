//! The entries of the index files, one after the other.

use std::io;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use bytes::Buf;
use ottla_env::{Disk, File, OpenMode};
use ottla_protocol::{Offset, ProducerId, Timestamp};

use crate::transaction_index::AbortedTxn;
use crate::{offset_index, time_index, transaction_index};

/// Entries read at once.
const AT_ONCE: usize = 4096;

/// An entry of fixed size.
pub trait IndexEntry: Sized {
    /// Its size in bytes.
    const SIZE: usize;
    /// Reads one from exactly [`SIZE`](Self::SIZE) bytes. Offsets in the file count from
    /// `base_offset`.
    fn read(bytes: &[u8], base_offset: Offset) -> Self;
}

/// Of `.index`: the batch that ends with `offset` begins at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Last offset of a batch.
    pub offset: Offset,
    /// Byte of the `.log` file.
    pub position: u64,
}

/// Of `.timeindex`: no record up to and including `offset` is newer than `timestamp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// The largest timestamp so far.
    pub timestamp: Timestamp,
    /// Last offset of the batch that has it.
    pub offset: Offset,
}

impl IndexEntry for OffsetEntry {
    const SIZE: usize = offset_index::ENTRY_LEN as usize;

    fn read(mut bytes: &[u8], base_offset: Offset) -> Self {
        let relative = i64::from(bytes.try_get_u32().unwrap_or_default());
        let position = u64::from(bytes.try_get_u32().unwrap_or_default());
        Self { offset: Offset(base_offset.0.saturating_add(relative)), position }
    }
}

impl IndexEntry for TimeEntry {
    const SIZE: usize = time_index::ENTRY_LEN as usize;

    fn read(mut bytes: &[u8], base_offset: Offset) -> Self {
        let timestamp = Timestamp(bytes.try_get_i64().unwrap_or_default());
        let relative = i64::from(bytes.try_get_u32().unwrap_or_default());
        Self { timestamp, offset: Offset(base_offset.0.saturating_add(relative)) }
    }
}

/// Of `.txnindex`: a transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionEntry {
    /// Version of the entry.
    pub version: i16,
    /// The transaction.
    pub aborted: AbortedTxn,
}

impl IndexEntry for TransactionEntry {
    const SIZE: usize = transaction_index::ENTRY_LEN as usize;

    fn read(mut bytes: &[u8], _base_offset: Offset) -> Self {
        let version = bytes.try_get_i16().unwrap_or(-1);
        let mut number = || bytes.try_get_i64().unwrap_or(-1);
        let aborted = AbortedTxn {
            producer_id: ProducerId(number()),
            first_offset: Offset(number()),
            last_offset: Offset(number()),
            last_stable_offset: Offset(number()),
        };
        Self { version, aborted }
    }
}

/// An entry and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryAt<E> {
    /// Byte of the index file.
    pub position: u64,
    /// The entry.
    pub entry: E,
}

/// Reads entries from the front of a file to its end.
pub struct Entries<E> {
    file: Arc<dyn File>,
    base_offset: Offset,
    len: u64,
    position: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
    entry: PhantomData<E>,
}

impl<E: IndexEntry> Entries<E> {
    /// The entries of the index file at `path`, whose segment begins at `base_offset`.
    pub fn open(disk: &dyn Disk, path: &Path, base_offset: Offset) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Read)?;
        let len = file.len()?;
        let (buffer, buffer_start) = (Vec::new(), 0);
        Ok(Self { file, base_offset, len, position: 0, buffer, buffer_start, entry: PhantomData })
    }

    /// Length of the file in bytes.
    pub fn file_length(&self) -> u64 {
        self.len
    }

    /// Bytes at the end that are no whole entry.
    pub fn rest(&self) -> u64 {
        self.len % E::SIZE as u64
    }

    /// The next entry, which stays the next one.
    pub fn peek(&mut self) -> io::Result<Option<EntryAt<E>>> {
        let position = self.position;
        let (base_offset, size) = (self.base_offset, E::SIZE);
        let Some(bytes) = self.bytes()?.get(..size) else { return Ok(None) };
        Ok(Some(EntryAt { position, entry: E::read(bytes, base_offset) }))
    }

    /// Goes on behind the next entry.
    pub fn advance(&mut self) {
        self.position += E::SIZE as u64;
    }

    /// The next entry.
    #[allow(clippy::should_implement_trait, reason = "reading may fail")]
    pub fn next(&mut self) -> io::Result<Option<EntryAt<E>>> {
        let next = self.peek()?;
        self.advance();
        Ok(next)
    }

    /// Whether nothing but zeroes is left, and something: space that was reserved for whole entries.
    pub fn only_zeroes_left(&mut self) -> io::Result<bool> {
        let from = self.position;
        let mut zeroes = from < self.len && self.rest() == 0;
        while zeroes && self.position < self.len {
            let bytes = self.bytes()?;
            zeroes = !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0);
            self.position += bytes.len() as u64;
        }
        self.position = from;
        Ok(zeroes)
    }

    /// What is held from the position on: at least an entry, unless the file ends.
    fn bytes(&mut self) -> io::Result<&[u8]> {
        let end = self.buffer_start + self.buffer.len() as u64;
        let held = self.position >= self.buffer_start && self.position + E::SIZE as u64 <= end;
        if !held {
            let left = self.len.saturating_sub(self.position);
            let wanted = (AT_ONCE * E::SIZE).min(usize::try_from(left).unwrap_or(usize::MAX));
            self.buffer.resize(wanted, 0);
            let read = self.file.read_at(&mut self.buffer, self.position)?;
            self.buffer.truncate(read);
            self.buffer_start = self.position;
        }
        let from = usize::try_from(self.position - self.buffer_start).unwrap_or(usize::MAX);
        Ok(self.buffer.get(from..).unwrap_or_default())
    }
}
