//! What of an index lies in a file, searched where it lies: a page at a time, and nothing is kept
//! but the first and the last entry. The page cache is the cache.
//!
//! Offsets, positions and times grow about evenly within a segment, so where an entry lies can be
//! guessed: mostly the first page is the right one. A guess is followed by a bisection, so a
//! lopsided index costs no more than twice what bisecting alone would.

use std::io;
use std::sync::{Arc, OnceLock};

use crate::open_files::{CachedFile, Wait};

/// Bytes read at once.
const PAGE: usize = 4096;

/// `len` entries of `N` bytes in a file, in ascending order.
pub(crate) struct IndexFile<const N: usize> {
    file: Arc<CachedFile>,
    len: usize,
    /// Both kept once they are known.
    first: OnceLock<[u8; N]>,
    last: OnceLock<[u8; N]>,
}

/// An entry, and which one it is.
#[derive(Clone, Copy)]
struct Bound<const N: usize> {
    index: usize,
    entry: [u8; N],
}

impl<const N: usize> IndexFile<N> {
    /// The entries in a file of `bytes` bytes, of which a rest that is no whole entry is ignored.
    pub(crate) fn new(file: Arc<CachedFile>, bytes: u64) -> Self {
        let len = usize::try_from(bytes / N as u64).unwrap_or(usize::MAX);
        Self { file, len, first: OnceLock::new(), last: OnceLock::new() }
    }

    /// The same, of which the last entry is known, if there is one.
    pub(crate) fn ending_with(self, last: Option<[u8; N]>) -> Self {
        Self { last: last.map_or_else(OnceLock::new, OnceLock::from), ..self }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The last entry.
    pub(crate) fn last(&self, wait: Wait) -> io::Result<Option<[u8; N]>> {
        let Some(index) = self.len.checked_sub(1) else { return Ok(None) };
        self.kept(&self.last, index, wait).map(Some)
    }

    /// The last entry, if it was read before.
    pub(crate) fn known_last(&self) -> Option<[u8; N]> {
        self.last.get().copied()
    }

    /// The entry `index`, which must be there.
    fn entry(&self, index: usize, wait: Wait) -> io::Result<[u8; N]> {
        let mut entry = [0; N];
        let read = wait.read_at(&*self.file.get()?, &mut entry, (index * N) as u64)?;
        if read < N { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(entry) }
    }

    /// The last entry whose `key` is not above `target`. Keys that do not ascend, as in a file that
    /// was damaged, lead to some entry or none.
    pub(crate) fn last_up_to(
        &self,
        target: i64,
        key: impl Fn(&[u8; N]) -> i64,
        wait: Wait,
    ) -> io::Result<Option<[u8; N]>> {
        let Some(last) = self.last(wait)? else { return Ok(None) };
        let ends = (self.kept(&self.first, 0, wait)?, last);
        let file = self.file.get()?;
        search(self.len, ends, target, key, |from, bytes| {
            match wait.read_at(&*file, bytes, (from * N) as u64)? {
                read if read == bytes.len() => Ok(()),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        })
    }

    fn kept(&self, kept: &OnceLock<[u8; N]>, index: usize, wait: Wait) -> io::Result<[u8; N]> {
        match kept.get() {
            Some(entry) => Ok(*entry),
            None => self.entry(index, wait).map(|entry| *kept.get_or_init(|| entry)),
        }
    }
}

/// The last of `len` entries whose key is not above `target`, given the first and the last one.
/// `read` fills a buffer with the entries from an index on.
fn search<const N: usize>(
    len: usize,
    (first, last): ([u8; N], [u8; N]),
    target: i64,
    key: impl Fn(&[u8; N]) -> i64,
    mut read: impl FnMut(usize, &mut [u8]) -> io::Result<()>,
) -> io::Result<Option<[u8; N]>> {
    if key(&last) <= target {
        return Ok(Some(last));
    }
    if key(&first) > target {
        return Ok(None);
    }
    let mut low = Bound { index: 0, entry: first };
    let mut high = Bound { index: len - 1, entry: last };
    let per_page = PAGE / N;
    let mut buffer = [0; PAGE];
    let mut guessing = true;
    // low ≤ target < high, and what lies between is unknown.
    while high.index - low.index > 1 {
        let middle = match guessing {
            true => guess((low.index, key(&low.entry)), (high.index, key(&high.entry)), target),
            false => low.index.midpoint(high.index),
        };
        guessing = !guessing;
        let page = middle - middle % per_page;
        let (from, to) = (page.max(low.index + 1), (page + per_page).min(high.index));
        let bytes = buffer.get_mut(..(to - from) * N).unwrap_or_default();
        read(from, bytes)?;
        let entries = bytes.as_chunks::<N>().0;
        let below = entries.partition_point(|entry| key(entry) <= target);
        let bound =
            |at: usize| entries.get(at).map(|entry| Bound { index: from + at, entry: *entry });
        low = below.checked_sub(1).and_then(bound).unwrap_or(low);
        high = bound(below).unwrap_or(high);
    }
    Ok(Some(low.entry))
}

/// Where `target` lies between two indexes if keys grow evenly; never at either of them.
fn guess((low, low_key): (usize, i64), (high, high_key): (usize, i64), target: i64) -> usize {
    let range = (i128::from(high_key) - i128::from(low_key)).max(1);
    let part = i128::from(target) - i128::from(low_key);
    let steps = usize::try_from((high - low) as i128 * part / range).unwrap_or(usize::MAX);
    low.saturating_add(steps).clamp(low + 1, high - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The entry that is found, as its key, and how many pages were read.
    fn find(keys: &[i64], target: i64) -> (Option<i64>, usize) {
        let bytes: Vec<[u8; 8]> = keys.iter().map(|key| key.to_be_bytes()).collect();
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return (None, 0) };
        let key = |entry: &[u8; 8]| i64::from_be_bytes(*entry);
        let mut reads = 0;
        let found = search(keys.len(), (*first, *last), target, key, |from, buffer| {
            reads += 1;
            buffer.copy_from_slice(&bytes.as_flattened()[from * 8..][..buffer.len()]);
            Ok(())
        });
        (found.unwrap().as_ref().map(key), reads)
    }

    proptest! {
        #[test]
        fn the_last_entry_up_to_the_target_is_found(
            steps in prop::collection::vec(prop_oneof![1i64..4, 1i64..1_000_000], 0..3000),
            at: prop::sample::Index,
        ) {
            let grow = |at: &mut i64, step| { *at += step; Some(*at) };
            let keys: Vec<i64> = steps.into_iter().scan(100, grow).collect();
            let near = if keys.is_empty() { 100 } else { keys[at.index(keys.len())] };
            for target in [near - 1, near, near + 1, i64::MIN, i64::MAX] {
                let expected = keys.iter().rfind(|key| **key <= target).copied();
                prop_assert_eq!(find(&keys, target).0, expected);
            }
        }

        #[test]
        fn entries_in_any_order_end_the_search(
            keys in prop::collection::vec(any::<i64>(), 0..2000), target: i64,
        ) {
            find(&keys, target);
        }
    }

    fn most_reads(keys: &[i64]) -> usize {
        keys.iter().step_by(keys.len() / 97).map(|key| find(keys, *key).1).max().unwrap()
    }

    #[test]
    fn an_even_index_takes_one_read_and_a_lopsided_one_few() {
        let even: Vec<i64> = (0..100_000).map(|i| i * 37).collect();
        assert_eq!(most_reads(&even), 1);
        let bursts: Vec<i64> = (0..100_000).map(|i| i + i / 1000 * 1_000_000).collect();
        assert!(most_reads(&bursts) <= 5, "{} reads", most_reads(&bursts));
        let lopsided: Vec<i64> = (0..100_000).map(|i: i64| i * i * i).collect();
        assert!(most_reads(&lopsided) <= 16, "{} reads", most_reads(&lopsided));
    }
}
