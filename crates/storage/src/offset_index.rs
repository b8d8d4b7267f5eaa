//! Where a batch lies in its segment. Kafka's `OffsetIndex`: entries of 8 bytes, the last offset
//! of a batch relative to the segment's base and the batch's position, both big-endian `i32`.

use std::io;
use std::sync::Arc;

use ottla_protocol::Offset;

use crate::index_entries::IndexEntries;
use crate::index_file::IndexFile;
use crate::open_files::{CachedFile, Wait};

/// Bytes of one entry.
pub(crate) const ENTRY_LEN: u64 = 8;

/// One entry: the batch that ends with `offset` begins at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetPosition {
    pub(crate) offset: Offset,
    pub(crate) position: u64,
}

/// The index of one segment.
pub(crate) struct OffsetIndex {
    base_offset: Offset,
    source: Source,
}

enum Source {
    /// Of an active segment, or one not yet synced.
    Memory(IndexEntries),
    /// Of a sealed segment.
    File(IndexFile<{ ENTRY_LEN as usize }>),
}

impl OffsetIndex {
    pub(crate) fn in_memory(base_offset: Offset) -> Self {
        Self { base_offset, source: Source::Memory(IndexEntries::default()) }
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
        let mut last: Option<OffsetPosition> = None;
        for entry in entries {
            let entry = index.decode(u64::from_be_bytes(*entry))?;
            if last.is_some_and(|l| l.offset >= entry.offset || l.position >= entry.position) {
                return None;
            }
            index.append(entry);
            last = Some(entry);
        }
        Some(index)
    }

    pub(crate) fn len(&self) -> usize {
        match &self.source {
            Source::Memory(entries) => entries.len(),
            Source::File(file) => file.len(),
        }
    }

    /// Whether the entries are in memory only.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.source, Source::Memory(_))
    }

    /// Appends an entry; ignored if it does not fit into the format or the index is sealed.
    pub(crate) fn append(&self, entry: OffsetPosition) {
        let Source::Memory(entries) = &self.source else { return };
        let relative = u32::try_from(entry.offset.0 - self.base_offset.0);
        let position = u32::try_from(entry.position);
        if let (Ok(relative), Ok(position)) = (relative, position) {
            entries.push(u64::from(relative) << 32 | u64::from(position));
        }
    }

    /// The last entry at or before `target`, or the start of the segment.
    pub(crate) fn lookup(&self, target: Offset, wait: Wait) -> io::Result<OffsetPosition> {
        self.last_up_to(target.0.saturating_sub(self.base_offset.0), relative_offset, wait)
    }

    /// The last entry at or before byte `limit` of the segment, or its start.
    pub(crate) fn lookup_position(&self, limit: u64, wait: Wait) -> io::Result<OffsetPosition> {
        self.last_up_to(i64::try_from(limit).unwrap_or(i64::MAX), position, wait)
    }

    /// The last entry, or the start of the segment.
    pub(crate) fn last(&self) -> io::Result<OffsetPosition> {
        self.lookup_position(u64::MAX, Wait::ForDisk)
    }

    /// The file, if there is one, is renamed: see [`CachedFile::retire`].
    pub(crate) fn retire(&self) {
        match &self.source {
            Source::Memory(_) => {}
            Source::File(file) => file.retire(),
        }
    }

    /// The file's contents.
    pub(crate) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.len() * ENTRY_LEN as usize);
        for index in 0..self.len() {
            let entry = match &self.source {
                Source::Memory(entries) => entries.get(index).unwrap_or_default().to_be_bytes(),
                Source::File(file) => file.entry(index, Wait::ForDisk)?,
            };
            bytes.extend_from_slice(&entry);
        }
        Ok(bytes)
    }

    fn last_up_to(
        &self,
        target: i64,
        key: fn(u64) -> i64,
        wait: Wait,
    ) -> io::Result<OffsetPosition> {
        let found = match &self.source {
            Source::Memory(entries) => {
                let count = entries.partition_point(|entry| key(entry) <= target);
                count.checked_sub(1).and_then(|last| entries.get(last))
            }
            Source::File(file) => file
                .last_up_to(target, |entry| key(u64::from_be_bytes(*entry)), wait)?
                .map(u64::from_be_bytes),
        };
        let Some(found) = found else {
            return Ok(OffsetPosition { offset: self.base_offset, position: 0 });
        };
        self.decode(found).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    fn decode(&self, raw: u64) -> Option<OffsetPosition> {
        let offset = Offset(self.base_offset.0.checked_add(relative_offset(raw))?);
        Some(OffsetPosition { offset, position: position(raw) as u64 })
    }
}

fn relative_offset(raw: u64) -> i64 {
    (raw >> 32) as i64
}

fn position(raw: u64) -> i64 {
    i64::from(raw as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        #[test]
        fn a_lookup_finds_the_last_entry_before_the_target(
            entries in entries(), target in 0i64..1_000_000, limit in 0u64..1_000_000,
        ) {
            let index = OffsetIndex::in_memory(Offset(BASE));
            for entry in &entries {
                index.append(*entry);
            }
            let read = OffsetIndex::from_bytes(Offset(BASE), &index.to_bytes().unwrap()).unwrap();
            let start = OffsetPosition { offset: Offset(BASE), position: 0 };
            let target = Offset(BASE + target);
            let by_offset = entries.iter().rfind(|entry| entry.offset <= target);
            let by_position = entries.iter().rfind(|entry| entry.position <= limit);
            for index in [index, read] {
                prop_assert_eq!(index.lookup(target, Wait::ForDisk).unwrap(), *by_offset.unwrap_or(&start));
                prop_assert_eq!(index.lookup_position(limit, Wait::ForDisk).unwrap(), *by_position.unwrap_or(&start));
                prop_assert_eq!(index.last().unwrap(), *entries.last().unwrap_or(&start));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(index) = OffsetIndex::from_bytes(Offset(0), &bytes) {
                prop_assert_eq!(index.to_bytes().unwrap(), bytes);
            }
        }
    }
}
