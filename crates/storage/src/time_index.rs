//! Which offset a time leads to. Kafka's `TimeIndex`: entries of 12 bytes, the largest timestamp
//! so far (`i64`) and the last offset of its batch relative to the segment's base (`i32`).

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut};
use ottla_protocol::{Offset, Timestamp};

use crate::open_files::{CachedFile, Wait};
use crate::segment_index::SegmentIndex;

/// Bytes of one entry.
pub(crate) const ENTRY_LEN: u64 = 12;

/// One entry: no record up to and including `offset` is newer than `timestamp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimestampOffset {
    pub(crate) timestamp: Timestamp,
    pub(crate) offset: Offset,
}

const ENTRY: usize = ENTRY_LEN as usize;

/// The time index of one segment. Timestamps and offsets both ascend strictly.
pub(crate) struct TimeIndex {
    base_offset: Offset,
    entries: SegmentIndex<ENTRY>,
}

impl TimeIndex {
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

    /// Appends an entry if it is later than the last one, in time and offset. Of an index that
    /// was opened, the [`last`](Self::last) one has to be read before.
    pub(crate) fn maybe_append(&self, entry: TimestampOffset) {
        let Ok(relative) = u32::try_from(entry.offset.0 - self.base_offset.0) else { return };
        let later = match self.entries.known_last() {
            Some(last) => {
                entry.timestamp.0 > timestamp(&last) && i64::from(relative) > relative_offset(&last)
            }
            None => self.entries.len() == 0,
        };
        if entry.timestamp.0 >= 0 && later {
            let mut bytes = [0; ENTRY];
            let mut rest = &mut bytes[..];
            rest.put_i64(entry.timestamp.0);
            rest.put_u32(relative);
            self.entries.push(bytes);
        }
    }

    /// The last entry that is not newer than `target`; `None` if there is none.
    pub(crate) fn lookup(&self, target: Timestamp) -> io::Result<Option<TimestampOffset>> {
        let found = self.entries.last_up_to(target.0, timestamp, Wait::ForDisk)?;
        found.map(|entry| self.decode(entry)).transpose()
    }

    /// The last entry: the largest timestamp of the segment, once it is sealed.
    pub(crate) fn last(&self) -> io::Result<Option<TimestampOffset>> {
        let last = self.entries.last(Wait::ForDisk)?;
        last.map(|entry| self.decode(entry)).transpose()
    }

    /// Keeps the entries on disk up to the last one before `end`. What a power loss left behind
    /// the others is zeroes.
    pub(crate) fn keep_before(&self, end: Offset) -> io::Result<()> {
        let end = end.0 - self.base_offset.0;
        let sound = |entry: &[u8; ENTRY]| *entry != [0; ENTRY] && relative_offset(entry) < end;
        self.entries.keep_up_to_last(sound).map(drop)
    }

    fn decode(&self, entry: [u8; ENTRY]) -> io::Result<TimestampOffset> {
        let offset = self.base_offset.0.checked_add(relative_offset(&entry)).map(Offset);
        let offset = offset.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(TimestampOffset { timestamp: Timestamp(timestamp(&entry)), offset })
    }
}

fn timestamp(entry: &[u8; ENTRY]) -> i64 {
    entry.as_slice().get_i64()
}

fn relative_offset(entry: &[u8; ENTRY]) -> i64 {
    i64::from((&entry[8..]).get_u32())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::open_files::tests::Scratch;

    proptest! {
        /// Whatever is offered, wherever it is saved: the entries ascend, and a lookup finds the
        /// last one that is not newer.
        #[test]
        fn a_lookup_finds_the_last_entry_that_is_not_newer(
            offered in prop::collection::vec((-1i64..100, 0i64..200), 0..60), target in -5i64..105,
            saved: prop::sample::Index,
        ) {
            let base = Offset(7);
            let scratch = Scratch::new();
            let index = TimeIndex::new(base, scratch.file(), None);
            let mut kept: Vec<(i64, i64)> = Vec::new();
            let saved = saved.index(offered.len() + 1);
            for (count, (timestamp, relative)) in offered.into_iter().enumerate() {
                if count == saved {
                    index.entries().save().unwrap();
                }
                let offset = base.0 + relative;
                let entry = TimestampOffset { timestamp: Timestamp(timestamp), offset: Offset(offset) };
                index.maybe_append(entry);
                if timestamp >= 0 && kept.last().is_none_or(|(t, o)| timestamp > *t && offset > *o) {
                    kept.push((timestamp, offset));
                }
            }
            let check = |index: &TimeIndex| {
                let plain = |entry: Option<TimestampOffset>| entry.map(|e| (e.timestamp.0, e.offset.0));
                prop_assert_eq!(plain(index.last().unwrap()), kept.last().copied());
                let wanted = kept.iter().rfind(|(timestamp, _)| *timestamp <= target).copied();
                prop_assert_eq!(plain(index.lookup(Timestamp(target)).unwrap()), wanted);
                Ok(())
            };
            check(&index)?;
            index.entries().save().unwrap();
            check(&index)?;
            let bytes = kept.len() as u64 * ENTRY_LEN;
            check(&TimeIndex::new(base, scratch.file(), Some(bytes)))?;
        }
    }
}
