//! Which transactions were aborted (KIP-98), for `read_committed` consumers. Kafka's
//! `TransactionIndex`.
//!
//! Most segments have none: the file is made with its first entry, of 34 bytes, big-endian:
//!
//! ```text
//! version i16 = 0 | producer id i64 | first offset i64 | last offset i64 | last stable offset i64
//! ```
//!
//! An entry stands in the segment that holds the transaction's ABORT marker. Last offsets ascend.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Buf, BufMut};
use ottla_env::{Disk, File};
use ottla_protocol::{Offset, ProducerId};

use crate::open_files::{CachedFile, Wait};

/// Bytes of one entry.
pub(crate) const ENTRY_LEN: u64 = 34;

const ENTRY: usize = ENTRY_LEN as usize;
const VERSION: i16 = 0;
/// Entries read at once: a page of them.
const WINDOW: usize = 120;

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Its producer.
    pub producer_id: ProducerId,
    /// The first record it wrote.
    pub first_offset: Offset,
    /// Its ABORT marker.
    pub last_offset: Offset,
    /// The last stable offset once the marker was there. Who reads no further than this need not
    /// look at later entries: those transactions began after it.
    pub last_stable_offset: Offset,
}

impl AbortedTxn {
    /// The entry's bytes.
    pub(crate) fn encode(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        let mut rest = &mut bytes[..];
        rest.put_i16(VERSION);
        rest.put_i64(self.producer_id.0);
        rest.put_i64(self.first_offset.0);
        rest.put_i64(self.last_offset.0);
        rest.put_i64(self.last_stable_offset.0);
        bytes
    }

    fn decode(mut bytes: &[u8]) -> io::Result<Self> {
        if bytes.len() < ENTRY {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A newer version may only add: Kafka reads it, too.
        if bytes.get_i16() < VERSION {
            return Err(invalid("an entry has no valid version"));
        }
        Ok(Self {
            producer_id: ProducerId(bytes.get_i64()),
            first_offset: Offset(bytes.get_i64()),
            last_offset: Offset(bytes.get_i64()),
            last_stable_offset: Offset(bytes.get_i64()),
        })
    }
}

/// The transactions that a segment's markers aborted. One writer appends, readers take no lock.
pub(crate) struct TransactionIndex {
    base_offset: Offset,
    file: Arc<CachedFile>,
    /// How many entries there are; the file holds at least as many.
    len: AtomicU64,
    unsynced: AtomicBool,
}

impl TransactionIndex {
    /// An index without entries, and without a file: `file` is made when it is needed.
    pub(crate) fn empty(base_offset: Offset, file: Arc<CachedFile>) -> Self {
        let (len, unsynced) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { base_offset, file, len, unsynced }
    }

    /// Where its file is, if it has one.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Takes the entries that the file holds, `bytes` long. Entries that make no sense are
    /// [`io::ErrorKind::InvalidData`]: the index has to be made anew from the log.
    pub(crate) fn load(&self, bytes: u64) -> io::Result<()> {
        if !bytes.is_multiple_of(ENTRY_LEN) {
            return Err(invalid("the file ends within an entry"));
        }
        let mut last = None;
        for entry in self.read(0, bytes / ENTRY_LEN, Wait::ForDisk) {
            let entry = entry?;
            let ascends = last.is_none_or(|last| entry.last_offset > last);
            let sound = entry.producer_id.0 >= 0
                && entry.first_offset.0 >= 0
                && entry.first_offset < entry.last_offset
                && entry.last_stable_offset.0 >= 0
                && entry.last_offset >= self.base_offset;
            if !(ascends && sound) {
                return Err(invalid("an entry does not belong there"));
            }
            last = Some(entry.last_offset);
        }
        self.len.store(bytes / ENTRY_LEN, Ordering::Release);
        Ok(())
    }

    /// Appends an entry, whose last offset is beyond those of all others. Lost with the power
    /// before the file is synced; the file's name, before its directory is synced.
    pub(crate) fn append(&self, entry: &AbortedTxn) -> io::Result<()> {
        let len = self.len.load(Ordering::Relaxed);
        let file = if len == 0 { self.file.create()? } else { self.file.get()? };
        file.write_all_at(&mut [io::IoSlice::new(&entry.encode())], len * ENTRY_LEN)?;
        self.unsynced.store(true, Ordering::Release);
        self.len.store(len + 1, Ordering::Release);
        Ok(())
    }

    /// Whether there are entries that a power loss could take; the caller syncs the file.
    pub(crate) fn take_unsynced(&self) -> bool {
        // An entry that is appended from now on says so again.
        self.unsynced.swap(false, Ordering::AcqRel)
    }

    /// What was taken was not synced after all.
    pub(crate) fn mark_unsynced(&self) {
        if self.len() > 0 {
            self.unsynced.store(true, Ordering::Release);
        }
    }

    /// Makes the entries survive a power loss.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.take_unsynced() {
            self.file.get()?.sync_data()?;
        }
        Ok(())
    }

    /// All entries, in order of their markers.
    pub(crate) fn entries(&self) -> impl Iterator<Item = io::Result<AbortedTxn>> {
        self.read(0, self.len(), Wait::ForDisk)
    }

    /// Adds to `found` what a reader has to know of who reads from `fetch_offset` up to
    /// `upper_bound`. `true` if no later segment has more.
    pub(crate) fn collect_aborted_txns(
        &self,
        fetch_offset: Offset,
        upper_bound: Offset,
        found: &mut Vec<AbortedTxn>,
        wait: Wait,
    ) -> io::Result<bool> {
        let len = self.len();
        for entry in self.read(self.first_ending_at(fetch_offset, len, wait)?, len, wait) {
            let entry = entry?;
            if entry.first_offset < upper_bound {
                found.push(entry);
            }
            if entry.last_stable_offset >= upper_bound {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the entries whose markers are at or after `offset`. Not while somebody appends.
    pub(crate) fn truncate_to(&self, offset: Offset) -> io::Result<()> {
        let len = self.len();
        let kept = self.first_ending_at(offset, len, Wait::ForDisk)?;
        if kept < len {
            self.len.store(kept, Ordering::Release);
            self.file.get()?.set_len(kept * ENTRY_LEN)?;
            self.unsynced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Removes all entries, known or not, and the file.
    pub(crate) fn reset(&self, disk: &dyn Disk) -> io::Result<()> {
        self.len.store(0, Ordering::Release);
        self.unsynced.store(false, Ordering::Release);
        self.file.close();
        match disk.remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The file is renamed: see [`CachedFile::retire`].
    pub(crate) fn retire(&self) {
        self.file.retire();
    }

    /// The file, which there is. Where somebody has removed it, nobody knows what was aborted: that
    /// is told to readers, until a start makes it anew.
    fn open(&self) -> io::Result<Arc<dyn File>> {
        self.file.get().map_err(|error| {
            let removed = error.kind() == io::ErrorKind::NotFound && !self.file.is_retired();
            if removed { invalid("the file is gone") } else { error }
        })
    }

    /// The number of the first of `len` entries whose last offset is `offset` or later.
    fn first_ending_at(&self, offset: Offset, len: u64, wait: Wait) -> io::Result<u64> {
        let (mut low, mut high) = (0, len);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut bytes = [0; ENTRY];
            let read = wait.read_at(&*self.open()?, &mut bytes, middle * ENTRY_LEN)?;
            let entry = AbortedTxn::decode(bytes.get(..read).unwrap_or_default())?;
            if entry.last_offset < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The entries `from..to`. Ends after an error.
    fn read(&self, from: u64, to: u64, wait: Wait) -> Entries<'_> {
        let window = Vec::new();
        Entries { index: self, wait, file: None, next: from, end: to, window, at: 0 }
    }
}

/// Walks the entries of an index, a window at a time.
struct Entries<'a> {
    index: &'a TransactionIndex,
    wait: Wait,
    /// Held from the first entry to the last, so that it is opened once.
    file: Option<Arc<dyn File>>,
    next: u64,
    end: u64,
    window: Vec<u8>,
    /// Where in the window the next entry begins.
    at: usize,
}

impl Entries<'_> {
    fn entry(&mut self) -> io::Result<AbortedTxn> {
        if self.at == self.window.len() {
            let file = match &self.file {
                Some(file) => file,
                None => self.file.insert(self.index.open()?),
            };
            let wanted = usize::try_from(self.end - self.next).unwrap_or(WINDOW).min(WINDOW);
            self.window.resize(wanted * ENTRY, 0);
            let read = self.wait.read_at(&**file, &mut self.window, self.next * ENTRY_LEN)?;
            self.window.truncate(read);
            self.at = 0;
        }
        let entry = AbortedTxn::decode(self.window.get(self.at..).unwrap_or_default())?;
        self.at += ENTRY;
        self.next += 1;
        Ok(entry)
    }
}

impl Iterator for Entries<'_> {
    type Item = io::Result<AbortedTxn>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.next = self.end;
        }
        Some(entry)
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("transaction index: {why}"))
}

#[cfg(test)]
mod tests;
