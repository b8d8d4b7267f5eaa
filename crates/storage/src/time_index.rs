//! Which offset a time leads to. Kafka's `TimeIndex`: entries of 12 bytes, the largest timestamp
//! so far (`i64`) and the last offset of its batch relative to the segment's base (`i32`).

use std::io;
use std::sync::Arc;

use bytes::Buf;
use ottla_protocol::{Offset, Timestamp};

use crate::index_entries::IndexEntries;
use crate::index_file::IndexFile;
use crate::open_files::{CachedFile, Wait};

/// Bytes of one entry.
pub(crate) const ENTRY_LEN: u64 = 12;

/// One entry: no record up to and including `offset` is newer than `timestamp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimestampOffset {
    pub(crate) timestamp: Timestamp,
    pub(crate) offset: Offset,
}

/// The time index of one segment. Timestamps and offsets both ascend strictly.
pub(crate) struct TimeIndex {
    base_offset: Offset,
    source: Source,
}

enum Source {
    /// Offsets are pushed before timestamps, so a reader that counts timestamps finds both.
    Memory {
        timestamps: IndexEntries,
        offsets: IndexEntries,
    },
    File(IndexFile<{ ENTRY_LEN as usize }>),
}

impl TimeIndex {
    pub(crate) fn in_memory(base_offset: Offset) -> Self {
        let source = Source::Memory {
            timestamps: IndexEntries::default(),
            offsets: IndexEntries::default(),
        };
        Self { base_offset, source }
    }

    /// The index in a file of `bytes` bytes, of which a rest that is no whole entry is ignored.
    pub(crate) fn in_file(base_offset: Offset, file: Arc<CachedFile>, bytes: u64) -> Self {
        Self { base_offset, source: Source::File(IndexFile::new(file, bytes)) }
    }

    /// Takes an index in memory from what a file held; `None` if the entries do not ascend.
    pub(crate) fn from_bytes(base_offset: Offset, bytes: &[u8]) -> Option<Self> {
        let index = Self::in_memory(base_offset);
        let (entries, rest) = bytes.as_chunks::<{ ENTRY_LEN as usize }>();
        if !rest.is_empty() {
            return None;
        }
        for (appended, entry) in entries.iter().enumerate() {
            index.maybe_append(decode(base_offset, *entry)?);
            if index.len() != appended + 1 {
                return None;
            }
        }
        Some(index)
    }

    pub(crate) fn len(&self) -> usize {
        match &self.source {
            Source::Memory { timestamps, .. } => timestamps.len(),
            Source::File(file) => file.len(),
        }
    }

    /// Appends an entry if it is later than the last one, in time and offset.
    pub(crate) fn maybe_append(&self, entry: TimestampOffset) {
        let Source::Memory { timestamps, offsets } = &self.source else { return };
        let Ok(relative) = u32::try_from(entry.offset.0 - self.base_offset.0) else { return };
        if let Some(last) = timestamps.len().checked_sub(1) {
            let newer = timestamps.get(last).is_none_or(|t| entry.timestamp.0 > t as i64);
            let further = offsets.get(last).is_none_or(|o| u64::from(relative) > o);
            if !newer || !further {
                return;
            }
        }
        if entry.timestamp.0 >= 0 && offsets.push(u64::from(relative)) {
            timestamps.push(entry.timestamp.0 as u64);
        }
    }

    /// The last entry that is not newer than `target`; `None` if there is none.
    pub(crate) fn lookup(&self, target: Timestamp) -> io::Result<Option<TimestampOffset>> {
        match &self.source {
            Source::Memory { timestamps, .. } => {
                let count = timestamps.partition_point(|entry| entry as i64 <= target.0);
                count.checked_sub(1).map(|last| self.entry(last)).transpose()
            }
            Source::File(file) => {
                let found = file.last_up_to(target.0, timestamp, Wait::ForDisk)?;
                found.map(|entry| self.decode(entry)).transpose()
            }
        }
    }

    /// The last entry: the largest timestamp of the segment, once it is sealed.
    pub(crate) fn last(&self) -> io::Result<Option<TimestampOffset>> {
        match &self.source {
            Source::Memory { .. } => {
                self.len().checked_sub(1).map(|last| self.entry(last)).transpose()
            }
            Source::File(file) => {
                file.last(Wait::ForDisk)?.map(|entry| self.decode(entry)).transpose()
            }
        }
    }

    /// The file, if there is one, is renamed: see [`CachedFile::retire`].
    pub(crate) fn retire(&self) {
        match &self.source {
            Source::Memory { .. } => {}
            Source::File(file) => file.retire(),
        }
    }

    /// The file's contents.
    pub(crate) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.len() * ENTRY_LEN as usize);
        for index in 0..self.len() {
            let entry = self.entry(index)?;
            let relative = u32::try_from(entry.offset.0 - self.base_offset.0).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&entry.timestamp.0.to_be_bytes());
            bytes.extend_from_slice(&relative.to_be_bytes());
        }
        Ok(bytes)
    }

    fn entry(&self, index: usize) -> io::Result<TimestampOffset> {
        match &self.source {
            Source::Memory { timestamps, offsets } => {
                let timestamp = timestamps.get(index).unwrap_or_default() as i64;
                let relative = offsets.get(index).unwrap_or_default() as i64;
                let offset = Offset(self.base_offset.0 + relative);
                Ok(TimestampOffset { timestamp: Timestamp(timestamp), offset })
            }
            Source::File(file) => self.decode(file.entry(index, Wait::ForDisk)?),
        }
    }

    fn decode(&self, entry: [u8; ENTRY_LEN as usize]) -> io::Result<TimestampOffset> {
        decode(self.base_offset, entry).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

fn timestamp(entry: &[u8; ENTRY_LEN as usize]) -> i64 {
    entry.as_slice().get_i64()
}

fn decode(base_offset: Offset, bytes: [u8; ENTRY_LEN as usize]) -> Option<TimestampOffset> {
    let mut bytes = bytes.as_slice();
    let timestamp = Timestamp(bytes.get_i64());
    let relative = i64::from(bytes.get_u32());
    Some(TimestampOffset { timestamp, offset: Offset(base_offset.0.checked_add(relative)?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is offered, the entries ascend, and a lookup finds the last one not newer.
        #[test]
        fn a_lookup_finds_the_last_entry_that_is_not_newer(
            offered in prop::collection::vec((-1i64..100, 0i64..200), 0..60), target in -5i64..105,
        ) {
            let base = Offset(7);
            let index = TimeIndex::in_memory(base);
            let mut kept: Vec<(i64, i64)> = Vec::new();
            for (timestamp, relative) in offered {
                let offset = base.0 + relative;
                let entry = TimestampOffset { timestamp: Timestamp(timestamp), offset: Offset(offset) };
                index.maybe_append(entry);
                if timestamp >= 0 && kept.last().is_none_or(|(t, o)| timestamp > *t && offset > *o) {
                    kept.push((timestamp, offset));
                }
            }
            let read = TimeIndex::from_bytes(base, &index.to_bytes().unwrap()).unwrap();
            for index in [index, read] {
                let plain = |entry: Option<TimestampOffset>| entry.map(|e| (e.timestamp.0, e.offset.0));
                prop_assert_eq!(plain(index.last().unwrap()), kept.last().copied());
                let wanted = kept.iter().rfind(|(timestamp, _)| *timestamp <= target).copied();
                prop_assert_eq!(plain(index.lookup(Timestamp(target)).unwrap()), wanted);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(index) = TimeIndex::from_bytes(Offset(0), &bytes) {
                prop_assert_eq!(index.to_bytes().unwrap(), bytes);
            }
        }
    }
}
