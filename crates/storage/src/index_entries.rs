//! Entries of an index that are in memory: one writer appends, any number of readers search, and
//! nobody locks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Length of the first chunk; each further one is twice as long.
const FIRST: usize = 8;
/// Enough for an index of 64 MiB.
const CHUNKS: usize = 20;
/// Bytes of the largest entry.
const WIDEST: usize = 16;

/// The bytes of an entry in two words.
type Slot = [AtomicU64; 2];
type Chunk = OnceLock<Box<[Slot]>>;

/// A list of entries of `N` bytes that only grows. An entry never moves and never changes once it
/// is counted in `len`.
#[derive(Default)]
pub(crate) struct IndexEntries<const N: usize> {
    chunks: OnceLock<Box<[Chunk; CHUNKS]>>,
    len: AtomicUsize,
}

impl<const N: usize> IndexEntries<N> {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Appends; `false` if the list is full. Only one thread may push at a time.
    pub(crate) fn push(&self, entry: [u8; N]) -> bool {
        let len = self.len.load(Ordering::Relaxed);
        let (chunk, at) = locate(len);
        let chunks = self.chunks.get_or_init(Box::default);
        let Some(chunk_cell) = chunks.get(chunk) else { return false };
        let slots =
            chunk_cell.get_or_init(|| (0..FIRST << chunk).map(|_| Slot::default()).collect());
        let Some([first, second]) = slots.get(at) else { return false };
        let [low, high] = to_words(entry);
        first.store(low, Ordering::Relaxed);
        second.store(high, Ordering::Relaxed);
        self.len.store(len + 1, Ordering::Release);
        true
    }

    /// The entry `index`; `None` beyond the end.
    pub(crate) fn get(&self, index: usize) -> Option<[u8; N]> {
        if index >= self.len() {
            return None;
        }
        let (chunk, at) = locate(index);
        let [first, second] = self.chunks.get()?.get(chunk)?.get()?.get(at)?;
        Some(from_words([first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)]))
    }

    /// The last entry whose `key` is not above `target`, of entries in ascending order.
    pub(crate) fn last_up_to(&self, target: i64, key: impl Fn(&[u8; N]) -> i64) -> Option<[u8; N]> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).is_some_and(|entry| key(&entry) <= target) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low.checked_sub(1).and_then(|last| self.get(last))
    }
}

fn to_words<const N: usize>(entry: [u8; N]) -> [u64; 2] {
    const { assert!(N <= WIDEST) }
    let mut wide = [0; WIDEST];
    for (to, from) in wide.iter_mut().zip(entry) {
        *to = from;
    }
    let wide = u128::from_be_bytes(wide);
    [(wide >> 64) as u64, wide as u64]
}

fn from_words<const N: usize>([high, low]: [u64; 2]) -> [u8; N] {
    let wide = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
    let mut entry = [0; N];
    for (to, from) in entry.iter_mut().zip(wide) {
        *to = from;
    }
    entry
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
        let entries = IndexEntries::<12>::default();
        let entry = |value: u64| {
            let mut entry = [value as u8; 12];
            entry[..8].copy_from_slice(&(value * 3).to_be_bytes());
            entry
        };
        assert_eq!(entries.get(0), None);
        for value in 0..10_000 {
            assert!(entries.push(entry(value)));
        }
        assert_eq!(entries.len(), 10_000);
        for value in 0..10_000 {
            assert_eq!(entries.get(value as usize), Some(entry(value)));
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
