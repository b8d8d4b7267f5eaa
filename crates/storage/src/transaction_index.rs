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
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use bytes::{Buf, BufMut};
use ottla_env::{Disk, File, is_out_of_space};
use ottla_protocol::{Offset, ProducerId};
use parking_lot::Mutex;

use crate::batch_scanner::read_exact;
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
    /// Replaced as a whole, so that a reader sees every entry once.
    parts: ArcSwap<Parts>,
    /// Held by who appends or saves.
    writing: Mutex<()>,
    unsynced: AtomicBool,
}

/// Entries in the file, which holds at least as many, and those that it had no room for.
#[derive(Default)]
struct Parts {
    saved: u64,
    tail: Vec<AbortedTxn>,
}

impl Parts {
    fn saved(saved: u64) -> Arc<Self> {
        Arc::new(Self { saved, tail: Vec::new() })
    }

    fn len(&self) -> u64 {
        self.saved + self.tail.len() as u64
    }

    /// An entry that is not in the file.
    fn unsaved(&self, number: u64) -> Option<AbortedTxn> {
        let at = usize::try_from(number.checked_sub(self.saved)?).ok()?;
        self.tail.get(at).copied()
    }
}

impl TransactionIndex {
    /// An index without entries, and without a file: `file` is made when it is needed.
    pub(crate) fn empty(base_offset: Offset, file: Arc<CachedFile>) -> Self {
        let (parts, unsynced) = (ArcSwap::default(), AtomicBool::new(false));
        Self { base_offset, file, parts, writing: Mutex::default(), unsynced }
    }

    /// Where its file is, if it has one.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> u64 {
        self.parts.load().len()
    }

    /// Takes the entries that the file holds, `bytes` long. Entries that make no sense are
    /// [`io::ErrorKind::InvalidData`]: the index has to be made anew from the log.
    pub(crate) fn load(&self, bytes: u64) -> io::Result<()> {
        if !bytes.is_multiple_of(ENTRY_LEN) {
            return Err(invalid("the file ends within an entry"));
        }
        self.take(Parts::saved(bytes / ENTRY_LEN))
    }

    /// Takes the entries of `other`, which has the same file.
    pub(crate) fn take_over(&self, other: &Self) -> io::Result<()> {
        self.unsynced.store(other.take_unsynced(), Ordering::Release);
        self.take(other.parts.load_full())
    }

    fn take(&self, parts: Arc<Parts>) -> io::Result<()> {
        let mut last = None;
        for entry in self.read(parts.clone(), 0, Wait::ForDisk) {
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
        self.parts.store(parts);
        Ok(())
    }

    /// Appends an entry, whose last offset is beyond those of all others. Lost with the power
    /// before the file is synced; the file's name, before its directory is synced. An entry for which
    /// there is no room is kept in memory, until [`save`](Self::save) finds some.
    pub(crate) fn append(&self, entry: &AbortedTxn) -> io::Result<()> {
        let _writing = self.writing.lock();
        let parts = self.parts.load();
        let tail = parts.tail.iter().chain([entry]).copied().collect();
        self.save_all(parts.saved, tail)
    }

    /// Appends to the file what it had no room for.
    pub(crate) fn save(&self) -> io::Result<()> {
        if self.parts.load().tail.is_empty() {
            return Ok(());
        }
        let _writing = self.writing.lock();
        let parts = self.parts.load();
        match parts.tail.is_empty() {
            true => Ok(()),
            false => self.save_all(parts.saved, parts.tail.clone()),
        }
    }

    /// Writes `tail` behind what is saved. Where there is no room the file holds what it held before.
    fn save_all(&self, saved: u64, tail: Vec<AbortedTxn>) -> io::Result<()> {
        let bytes: Vec<u8> = tail.iter().flat_map(AbortedTxn::encode).collect();
        let file = if saved == 0 { self.file.create() } else { self.file.get() };
        let written = file
            .and_then(|file| file.write_all_at(&mut [io::IoSlice::new(&bytes)], saved * ENTRY_LEN));
        match written {
            Ok(()) => {
                // Not before: who syncs takes it, and then does so what is in the file.
                self.unsynced.store(true, Ordering::Release);
                self.parts.store(Parts::saved(saved + tail.len() as u64));
                Ok(())
            }
            Err(error) => {
                let error = self.undo_save(error, saved);
                self.parts.store(Arc::new(Parts { saved, tail }));
                Err(error)
            }
        }
    }

    /// A part of an entry must not be found by the next start. An error that cannot be undone is none
    /// that passes.
    #[cold]
    fn undo_save(&self, error: io::Error, saved: u64) -> io::Error {
        if !is_out_of_space(&error) {
            return error;
        }
        let undone = match saved {
            0 => {
                self.unsynced.store(false, Ordering::Release);
                self.file.remove()
            }
            _ => self.file.get().and_then(|file| file.set_len(saved * ENTRY_LEN)),
        };
        match undone {
            Ok(()) => error,
            Err(stuck) => io::Error::other(format!("{error}; undoing it: {stuck}")),
        }
    }

    /// Whether there are entries that a power loss could take; the caller syncs the file.
    pub(crate) fn take_unsynced(&self) -> bool {
        // An entry that is appended from now on says so again.
        self.unsynced.swap(false, Ordering::AcqRel)
    }

    /// What was taken was not synced after all.
    pub(crate) fn mark_unsynced(&self) {
        if self.parts.load().saved > 0 {
            self.unsynced.store(true, Ordering::Release);
        }
    }

    /// Makes the entries that are saved survive a power loss.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.take_unsynced() {
            self.file.get()?.sync_data()?;
        }
        Ok(())
    }

    /// All entries, in order of their markers.
    pub(crate) fn entries(&self) -> impl Iterator<Item = io::Result<AbortedTxn>> {
        self.read(self.parts.load_full(), 0, Wait::ForDisk)
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
        if self.len() == 0 {
            return Ok(false);
        }
        let parts = self.parts.load_full();
        let first = self.first_ending_at(fetch_offset, &parts, wait)?;
        for entry in self.read(parts, first, wait) {
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
        let parts = self.parts.load_full();
        let kept = self.first_ending_at(offset, &parts, Wait::ForDisk)?;
        if kept == parts.len() {
            return Ok(());
        }
        let tail = parts.tail.iter().take_while(|entry| entry.last_offset < offset).copied();
        let left = Parts { saved: kept.min(parts.saved), tail: tail.collect() };
        if left.saved < parts.saved {
            self.file.get()?.set_len(left.saved * ENTRY_LEN)?;
            self.unsynced.store(true, Ordering::Release);
        }
        self.parts.store(Arc::new(left));
        Ok(())
    }

    /// Forgets the entries whose markers are at or after `offset`. The file stays as it is, until
    /// [`make_anew`](Self::make_anew) replaces it.
    pub(crate) fn keep_before(&self, offset: Offset) -> io::Result<()> {
        let kept = self.first_ending_at(offset, &self.parts.load_full(), Wait::ForDisk)?;
        self.parts.store(Parts::saved(kept));
        Ok(())
    }

    /// Puts a file in the place of the one that there is, with the entries that are known and those
    /// that were `found` behind them, or none if there is no entry. Who dies meanwhile leaves the old
    /// one, and a start that did not believe that does not believe it again. Where there is no room that
    /// is so, too, and what was found is kept in memory, as by [`append`](Self::append).
    pub(crate) fn make_anew(&self, disk: &dyn Disk, found: &[AbortedTxn]) -> io::Result<()> {
        let kept = self.len() * ENTRY_LEN;
        let mut bytes = match kept {
            0 => Vec::new(),
            _ if found.is_empty() && self.file.get()?.len()? == kept => return Ok(()),
            _ => read_exact(&*self.file.get()?, 0, usize::try_from(kept).unwrap_or(usize::MAX))?,
        };
        bytes.extend(found.iter().flat_map(AbortedTxn::encode));
        self.file.close();
        match bytes.is_empty() {
            true => self.file.remove()?,
            false => match disk.write_atomic(self.path(), &bytes) {
                Err(error) if is_out_of_space(&error) => return self.keep(found, error),
                written => written?,
            },
        }
        self.parts.store(Parts::saved(bytes.len() as u64 / ENTRY_LEN));
        Ok(())
    }

    /// Keeps what was found behind the entries of a file that is not to be believed: it ends within an
    /// entry, until that is overwritten.
    fn keep(&self, found: &[AbortedTxn], full: io::Error) -> io::Result<()> {
        let saved = self.len();
        if let Ok(file) = self.file.get() {
            file.set_len(saved * ENTRY_LEN + 1)?;
        }
        self.parts.store(Arc::new(Parts { saved, tail: found.to_vec() }));
        Err(full)
    }

    /// Puts a file in place that no start believes: there were no entries, but that is not known yet.
    pub(crate) fn doubt(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.write_atomic(self.path(), &[0])
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

    /// The number of the first entry whose last offset is `offset` or later.
    fn first_ending_at(&self, offset: Offset, parts: &Parts, wait: Wait) -> io::Result<u64> {
        let (mut low, mut high) = (0, parts.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = match parts.unsaved(middle) {
                Some(entry) => entry,
                None => {
                    let mut bytes = [0; ENTRY];
                    let read = wait.read_at(&*self.open()?, &mut bytes, middle * ENTRY_LEN)?;
                    AbortedTxn::decode(bytes.get(..read).unwrap_or_default())?
                }
            };
            if entry.last_offset < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The entries from the one numbered `from` on. Ends after an error.
    fn read(&self, parts: Arc<Parts>, from: u64, wait: Wait) -> Entries<'_> {
        let (window, end) = (Vec::new(), parts.len());
        Entries { index: self, parts, wait, file: None, next: from, end, window, at: 0 }
    }
}

/// Walks the entries of an index, a window at a time.
struct Entries<'a> {
    index: &'a TransactionIndex,
    parts: Arc<Parts>,
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
        if let Some(entry) = self.parts.unsaved(self.next) {
            self.next += 1;
            return Ok(entry);
        }
        if self.at == self.window.len() {
            let file = match &self.file {
                Some(file) => file,
                None => self.file.insert(self.index.open()?),
            };
            let wanted =
                usize::try_from(self.parts.saved - self.next).unwrap_or(WINDOW).min(WINDOW);
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
