//! Entries of an active segment's index: one writer appends, any number of readers search, and
//! nobody locks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Length of the first chunk; each further one is twice as long.
const FIRST: usize = 8;
/// Enough for an index of 64 MiB.
const CHUNKS: usize = 20;

type Chunk = OnceLock<Box<[AtomicU64]>>;

/// A list that only grows. An entry never moves and never changes once it is counted in `len`.
#[derive(Default)]
pub(crate) struct IndexEntries {
    chunks: OnceLock<Box<[Chunk; CHUNKS]>>,
    len: AtomicUsize,
}

impl IndexEntries {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Appends; `false` if the list is full. Only one thread may push at a time.
    pub(crate) fn push(&self, entry: u64) -> bool {
        let len = self.len.load(Ordering::Relaxed);
        let (chunk, at) = locate(len);
        let chunks = self.chunks.get_or_init(Box::default);
        let Some(chunk_cell) = chunks.get(chunk) else { return false };
        let entries =
            chunk_cell.get_or_init(|| (0..FIRST << chunk).map(|_| AtomicU64::new(0)).collect());
        let Some(slot) = entries.get(at) else { return false };
        slot.store(entry, Ordering::Relaxed);
        self.len.store(len + 1, Ordering::Release);
        true
    }

    /// The entry `index`; `None` beyond the end.
    pub(crate) fn get(&self, index: usize) -> Option<u64> {
        if index >= self.len() {
            return None;
        }
        let (chunk, at) = locate(index);
        let entries = self.chunks.get()?.get(chunk)?.get()?;
        Some(entries.get(at)?.load(Ordering::Relaxed))
    }

    /// How many entries there are before the first of which `holds` is false, and stays so.
    pub(crate) fn partition_point(&self, holds: impl Fn(u64) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).is_some_and(&holds) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}

/// Chunk of the entry `index`, and where in it the entry is.
fn locate(index: usize) -> (usize, usize) {
    let chunk = (index / FIRST + 1).ilog2() as usize;
    (chunk, index - FIRST * ((1 << chunk) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_every_entry_in_order_across_chunks() {
        let entries = IndexEntries::default();
        assert_eq!(entries.get(0), None);
        for value in 0..10_000 {
            assert!(entries.push(value * 3));
        }
        assert_eq!(entries.len(), 10_000);
        for value in 0..10_000 {
            assert_eq!(entries.get(value as usize), Some(value * 3));
        }
        assert_eq!(entries.get(10_000), None);
    }

    #[test]
    fn chunks_meet_without_a_gap() {
        assert_eq!(locate(0), (0, 0));
        assert_eq!(locate(7), (0, 7));
        assert_eq!(locate(8), (1, 0));
        assert_eq!(locate(23), (1, 15));
        assert_eq!(locate(24), (2, 0));
    }
}
