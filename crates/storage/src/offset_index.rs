//! Where a batch lies in its segment. Kafka's `OffsetIndex`: entries of 8 bytes, the last offset
//! of a batch relative to the segment's base and the batch's position, both big-endian `i32`.

use std::io;
use std::sync::Arc;

use ottla_protocol::Offset;

use crate::open_files::{CachedFile, Wait};
use crate::segment_index::SegmentIndex;

/// Bytes of one entry.
pub(crate) const ENTRY_LEN: u64 = 8;

/// One entry: the batch that ends with `offset` begins at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetPosition {
    pub(crate) offset: Offset,
    pub(crate) position: u64,
}

const ENTRY: usize = ENTRY_LEN as usize;

/// The index of one segment.
pub(crate) struct OffsetIndex {
    base_offset: Offset,
    entries: SegmentIndex<ENTRY>,
}

impl OffsetIndex {
    /// The index in the first `bytes` bytes of `file`, or one that is empty and has no file yet.
    pub(crate) fn new(base_offset: Offset, file: Arc<CachedFile>, bytes: Option<u64>) -> Self {
        Self { base_offset, entries: SegmentIndex::new(file, bytes) }
    }

    /// An index of the same segment without entries, to be filled in the place of this one.
    pub(crate) fn anew(&self) -> Self {
        Self { base_offset: self.base_offset, entries: self.entries.anew() }
    }

    /// The entries, for saving them.
    pub(crate) fn entries(&self) -> &SegmentIndex<ENTRY> {
        &self.entries
    }

    /// Appends an entry; ignored if it does not fit into the format.
    pub(crate) fn append(&self, entry: OffsetPosition) {
        let relative = u32::try_from(entry.offset.0 - self.base_offset.0);
        let position = u32::try_from(entry.position);
        if let (Ok(relative), Ok(position)) = (relative, position) {
            self.entries.push((u64::from(relative) << 32 | u64::from(position)).to_be_bytes());
        }
    }

    /// The last entry at or before `target`, or the start of the segment.
    pub(crate) fn lookup(&self, target: Offset, wait: Wait) -> io::Result<OffsetPosition> {
        let target = target.0.saturating_sub(self.base_offset.0);
        self.found(self.entries.last_up_to(target, relative_offset, wait)?)
    }

    /// The last entry at or before byte `limit` of the segment, or its start.
    pub(crate) fn lookup_position(&self, limit: u64, wait: Wait) -> io::Result<OffsetPosition> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.found(self.entries.last_up_to(limit, position, wait)?)
    }

    /// The last entry, or the start of the segment.
    pub(crate) fn last(&self) -> io::Result<OffsetPosition> {
        self.found(self.entries.last(Wait::ForDisk)?)
    }

    /// Keeps the entries on disk up to the last one before `end`, or the start of the segment;
    /// that one. What a power loss left behind the others has no position.
    pub(crate) fn keep_before(&self, end: Offset) -> io::Result<OffsetPosition> {
        let end = end.0 - self.base_offset.0;
        let sound = |entry: &[u8; ENTRY]| position(entry) > 0 && relative_offset(entry) < end;
        self.found(self.entries.keep_up_to_last(sound)?)
    }

    fn found(&self, entry: Option<[u8; ENTRY]>) -> io::Result<OffsetPosition> {
        let Some(entry) = entry else {
            return Ok(OffsetPosition { offset: self.base_offset, position: 0 });
        };
        let offset = self.base_offset.0.checked_add(relative_offset(&entry)).map(Offset);
        let offset = offset.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(OffsetPosition { offset, position: position(&entry) as u64 })
    }
}

fn relative_offset(entry: &[u8; ENTRY]) -> i64 {
    (u64::from_be_bytes(*entry) >> 32) as i64
}

fn position(entry: &[u8; ENTRY]) -> i64 {
    i64::from(u64::from_be_bytes(*entry) as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::open_files::tests::Scratch;

    const BASE: i64 = 1 << 40;

    fn entries() -> impl Strategy<Value = Vec<OffsetPosition>> {
        prop::collection::vec((1u32..5000, 61u32..5000), 0..200).prop_map(|steps| {
            let (mut offset, mut position) = (BASE, 0);
            let grow = |(more, bytes): (u32, u32)| {
                offset += i64::from(more);
                position += u64::from(bytes);
                OffsetPosition { offset: Offset(offset), position }
            };
            steps.into_iter().map(grow).collect()
        })
    }

    proptest! {
        /// Wherever the entries are saved, and the file is opened again or not.
        #[test]
        fn a_lookup_finds_the_last_entry_before_the_target(
            entries in entries(), target in 0i64..1_000_000, limit in 0u64..1_000_000,
            saved: prop::sample::Index,
        ) {
            let scratch = Scratch::new();
            let index = OffsetIndex::new(Offset(BASE), scratch.file(), None);
            let saved = saved.index(entries.len() + 1);
            for (count, entry) in entries.iter().enumerate() {
                if count == saved {
                    index.entries().save().unwrap();
                }
                index.append(*entry);
            }
            let start = OffsetPosition { offset: Offset(BASE), position: 0 };
            let target = Offset(BASE + target);
            let by_offset = entries.iter().rfind(|entry| entry.offset <= target);
            let by_position = entries.iter().rfind(|entry| entry.position <= limit);
            let check = |index: &OffsetIndex| {
                prop_assert_eq!(index.lookup(target, Wait::ForDisk).unwrap(), *by_offset.unwrap_or(&start));
                prop_assert_eq!(index.lookup_position(limit, Wait::ForDisk).unwrap(), *by_position.unwrap_or(&start));
                prop_assert_eq!(index.last().unwrap(), *entries.last().unwrap_or(&start));
                Ok(())
            };
            check(&index)?;
            index.entries().save().unwrap();
            check(&index)?;
            let bytes = entries.len() as u64 * ENTRY_LEN;
            check(&OffsetIndex::new(Offset(BASE), scratch.file(), Some(bytes)))?;
        }

        /// Zeroes that a power loss left at the end of the file are no entries.
        #[test]
        fn entries_from_an_offset_on_are_cut_off(
            entries in entries(), end in 0i64..1_000_000, zeroes in 0usize..2000,
        ) {
            let scratch = Scratch::new();
            let end = Offset(BASE + end);
            let index = OffsetIndex::new(Offset(BASE), scratch.file(), None);
            entries.iter().for_each(|entry| index.append(*entry));
            index.entries().save().unwrap();
            let bytes = (entries.len() + zeroes) as u64 * ENTRY_LEN;
            scratch.file().get().unwrap().set_len(bytes).unwrap();
            let index = OffsetIndex::new(Offset(BASE), scratch.file(), Some(bytes));
            let kept = entries.iter().rfind(|entry| entry.offset < end);
            let start = OffsetPosition { offset: Offset(BASE), position: 0 };
            prop_assert_eq!(index.keep_before(end).unwrap(), *kept.unwrap_or(&start));
            prop_assert_eq!(index.last().unwrap(), *kept.unwrap_or(&start));
        }
    }
}
