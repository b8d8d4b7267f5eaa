//! The entries of an index of a segment: what was saved lies in a file, what came since in memory.

use std::io::{self, IoSlice};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ottla_env::{File, is_out_of_space};

use crate::index_entries::IndexEntries;
use crate::index_file::IndexFile;
use crate::open_files::{CachedFile, Wait};

/// Entries read at once while looking for the last sound one.
const WINDOW: usize = 512;

/// Entries of `N` bytes in ascending order. One writer appends and saves; any number of readers
/// search without a lock.
pub(crate) struct SegmentIndex<const N: usize> {
    file: Arc<CachedFile>,
    parts: ArcSwap<Parts<N>>,
}

/// Replaced as a whole, so that a reader sees every entry once.
struct Parts<const N: usize> {
    /// `None` as long as there is no file.
    saved: Option<IndexFile<N>>,
    tail: IndexEntries<N>,
}

impl<const N: usize> SegmentIndex<N> {
    /// An index with the entries in the first `bytes` bytes of `file`, of which a rest that is no
    /// whole entry is ignored; without any, and without a file, if `None`.
    pub(crate) fn new(file: Arc<CachedFile>, bytes: Option<u64>) -> Self {
        let saved = bytes.map(|bytes| IndexFile::new(file.clone(), bytes));
        let parts = ArcSwap::from_pointee(Parts { saved, tail: IndexEntries::default() });
        Self { file, parts }
    }

    /// An index without entries that would be saved in the same file.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.file.clone(), None)
    }

    pub(crate) fn len(&self) -> usize {
        let parts = self.parts.load();
        parts.saved_len() + parts.tail.len()
    }

    /// Whether the file holds all entries.
    pub(crate) fn is_saved(&self) -> bool {
        let parts = self.parts.load();
        parts.saved.is_some() && parts.tail.len() == 0
    }

    /// Appends an entry; ignored once there are more than fit into any segment.
    pub(crate) fn push(&self, entry: [u8; N]) {
        self.parts.load().tail.push(entry);
    }

    /// The last entry.
    pub(crate) fn last(&self, wait: Wait) -> io::Result<Option<[u8; N]>> {
        let parts = self.parts.load();
        if let Some(last) = parts.tail.len().checked_sub(1) {
            return Ok(parts.tail.get(last));
        }
        parts.saved.as_ref().map_or(Ok(None), |saved| saved.last(wait))
    }

    /// The last entry, without a look at the disk: `None` also if nobody asked for it since the
    /// file was opened.
    pub(crate) fn known_last(&self) -> Option<[u8; N]> {
        let parts = self.parts.load();
        match parts.tail.len().checked_sub(1) {
            Some(last) => parts.tail.get(last),
            None => parts.saved.as_ref()?.known_last(),
        }
    }

    /// The last entry whose `key` is not above `target`.
    pub(crate) fn last_up_to(
        &self,
        target: i64,
        key: impl Fn(&[u8; N]) -> i64,
        wait: Wait,
    ) -> io::Result<Option<[u8; N]>> {
        let parts = self.parts.load();
        if let Some(found) = parts.tail.last_up_to(target, &key) {
            return Ok(Some(found));
        }
        parts.saved.as_ref().map_or(Ok(None), |saved| saved.last_up_to(target, key, wait))
    }

    /// Appends to the file what is in memory only, and has it there from now on. Lost with the
    /// power before the file is synced; a new file's name, before its directory is. A file that
    /// somebody has cut is [`io::ErrorKind::UnexpectedEof`]. On an error the file holds what it held
    /// before.
    pub(crate) fn save(&self) -> io::Result<()> {
        if self.is_saved() {
            return Ok(());
        }
        let (saved, bytes, last) =
            (self.parts.load().saved_len(), self.unsaved(), self.known_last());
        let file = if saved == 0 { self.file.create() } else { self.file.get() };
        let written = file.and_then(|file| {
            if file.len()? < (saved * N) as u64 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.write_all_at(&mut [IoSlice::new(&bytes)], (saved * N) as u64)
        });
        written.map_err(|error| self.undo_save(error, saved))?;
        let len = (saved * N + bytes.len()) as u64;
        let saved = Some(IndexFile::new(self.file.clone(), len).ending_with(last));
        self.parts.store(Arc::new(Parts { saved, tail: IndexEntries::default() }));
        Ok(())
    }

    /// A part of an entry, or a new file without what it should hold, must not be found by the next
    /// start. An error that cannot be undone is none that passes.
    #[cold]
    fn undo_save(&self, error: io::Error, saved: usize) -> io::Error {
        if !is_out_of_space(&error) {
            return error;
        }
        let undone = match saved {
            0 => self.file.remove(),
            _ => self.file.get().and_then(|file| file.set_len((saved * N) as u64)),
        };
        match undone {
            Ok(()) => error,
            Err(stuck) => io::Error::other(format!("{error}; undoing it: {stuck}")),
        }
    }

    /// What [`save`](Self::save) would append.
    pub(crate) fn unsaved(&self) -> Vec<u8> {
        let parts = self.parts.load();
        (0..parts.tail.len()).filter_map(|index| parts.tail.get(index)).flatten().collect()
    }

    /// Keeps the saved entries up to the last one that is `sound`, on disk as well; that one.
    pub(crate) fn keep_up_to_last(
        &self,
        sound: impl Fn(&[u8; N]) -> bool,
    ) -> io::Result<Option<[u8; N]>> {
        let len = self.parts.load().saved_len();
        let file = self.file.get()?;
        let found = find_last(&*file, len, sound)?;
        let kept = found.map_or(0, |(index, _)| index + 1);
        if file.len()? != (kept * N) as u64 {
            file.set_len((kept * N) as u64)?;
        }
        let found = found.map(|(_, entry)| entry);
        let saved = Some(IndexFile::new(self.file.clone(), (kept * N) as u64).ending_with(found));
        self.parts.store(Arc::new(Parts { saved, tail: IndexEntries::default() }));
        Ok(found)
    }

    /// Has the entries of `other` instead, none of which is saved. Not while somebody appends.
    pub(crate) fn replace_by(&self, other: &Self) {
        self.parts.store(other.parts.load_full());
    }

    /// The file, if there is one, is renamed or removed: see [`CachedFile::retire`].
    pub(crate) fn retire(&self) {
        self.file.retire();
    }
}

impl<const N: usize> Parts<N> {
    fn saved_len(&self) -> usize {
        self.saved.as_ref().map_or(0, IndexFile::len)
    }
}

/// The last of `len` entries that is `sound`, and which one it is.
fn find_last<const N: usize>(
    file: &dyn File,
    len: usize,
    sound: impl Fn(&[u8; N]) -> bool,
) -> io::Result<Option<(usize, [u8; N])>> {
    let mut end = len;
    let mut window = vec![0; WINDOW * N];
    while end > 0 {
        let from = end.saturating_sub(WINDOW);
        let bytes = window.get_mut(..(end - from) * N).unwrap_or_default();
        let read = file.read_at(bytes, (from * N) as u64)?;
        let entries = bytes.get(..read).unwrap_or_default().as_chunks::<N>().0;
        if let Some(at) = entries.iter().rposition(&sound) {
            return Ok(entries.get(at).map(|entry| (from + at, *entry)));
        }
        end = from;
    }
    Ok(None)
}
