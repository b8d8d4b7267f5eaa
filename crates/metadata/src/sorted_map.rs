//! A sorted map that shares what two versions of it have in common.
//!
//! An image is published on every node with every batch, and readers hold on to older ones. A
//! `BTreeMap` behind an `Arc` would be copied whole each time: a millisecond for ten thousand topics.
//! Here the entries lie in chunks; a change copies one chunk and the list of pointers to them.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Entries of a chunk, at most: what a change copies grows with it, the list of chunks shrinks.
const MAX_CHUNK: usize = 64;

type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// The chunks are never empty; their keys ascend, within a chunk and from one to the next.
#[derive(Clone)]
pub(crate) struct SortedMap<K, V> {
    chunks: Arc<Vec<Chunk<K, V>>>,
    len: usize,
}

/// A key whose value differs between two versions; None is "not there".
#[derive(Debug, PartialEq)]
pub(crate) struct Difference<'a, K, V> {
    pub(crate) key: &'a K,
    pub(crate) old: Option<&'a V>,
    pub(crate) new: Option<&'a V>,
}

impl<K: Ord, V> SortedMap<K, V> {
    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let chunk = self.chunks.get(self.chunk_of(key))?;
        position(chunk, key).ok().map(|at| &chunk[at].1)
    }

    pub(crate) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// By key, ascending.
    pub(crate) fn iter(&self) -> Iter<'_, K, V> {
        Iter { chunks: self.chunks.iter(), entries: [].iter(), left: self.len }
    }

    /// The chunk that holds the key or would.
    fn chunk_of<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        let begins_before =
            |chunk: &Chunk<K, V>| chunk.first().is_some_and(|(first, _)| first.borrow() <= key);
        self.chunks.partition_point(begins_before).saturating_sub(1)
    }

    /// Every key whose value differs from `self` to `new`, ascending. Shared chunks are not looked into.
    pub(crate) fn differences<'a>(&'a self, new: &'a Self) -> Vec<Difference<'a, K, V>>
    where
        V: PartialEq,
    {
        let mut differences = Vec::new();
        if Arc::ptr_eq(&self.chunks, &new.chunks) {
            return differences;
        }
        let (mut left, mut right) = (Cursor::new(self), Cursor::new(new));
        loop {
            if left.skip_if_shared(&mut right) {
                continue;
            }
            let order = match (left.entry(), right.entry()) {
                (None, None) => return differences,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old, _)), Some((new, _))) => old.cmp(new),
            };
            let old = if order.is_le() { left.next() } else { None };
            let new = if order.is_ge() { right.next() } else { None };
            if let Some((key, _)) = old.or(new) {
                let (old, new) = (old.map(|(_, value)| value), new.map(|(_, value)| value));
                if old != new {
                    differences.push(Difference { key, old, new });
                }
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone> SortedMap<K, V> {
    /// The value of a key, to be changed; copies its chunk if another version shares it.
    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let index = self.chunk_of(key);
        let at = position(self.chunks.get(index)?, key).ok()?;
        let chunk = Arc::make_mut(Arc::make_mut(&mut self.chunks).get_mut(index)?);
        Some(&mut chunk[at].1)
    }

    /// Gives what the key had before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let index = self.chunk_of(&key);
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(chunk) = chunks.get_mut(index).map(Arc::make_mut) else {
            chunks.push(Arc::new(vec![(key, value)]));
            self.len = 1;
            return None;
        };
        match position(chunk, &key) {
            Ok(at) => Some(std::mem::replace(&mut chunk[at].1, value)),
            Err(at) => {
                chunk.insert(at, (key, value));
                if chunk.len() > MAX_CHUNK {
                    let tail = chunk.split_off(MAX_CHUNK / 2);
                    chunks.insert(index + 1, Arc::new(tail));
                }
                self.len += 1;
                None
            }
        }
    }

    /// Gives what the key had.
    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let index = self.chunk_of(key);
        let at = position(self.chunks.get(index)?, key).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let (_, value) = Arc::make_mut(chunks.get_mut(index)?).remove(at);
        self.len -= 1;
        let left = chunks[index].len();
        match chunks.get(index + 1).map(|next| next.len()) {
            _ if left == 0 => drop(chunks.remove(index)),
            // Half full at most, or the next key would split it again.
            Some(next) if left + next <= MAX_CHUNK / 2 => {
                let next = chunks.remove(index + 1);
                Arc::make_mut(&mut chunks[index]).extend_from_slice(&next);
            }
            Some(_) | None => {}
        }
        Some(value)
    }
}

fn position<K: Borrow<Q>, V, Q: Ord + ?Sized>(chunk: &[(K, V)], key: &Q) -> Result<usize, usize> {
    chunk.binary_search_by(|(other, _)| other.borrow().cmp(key))
}

/// A place in a map, for walking through two of them side by side.
struct Cursor<'a, K, V> {
    chunks: &'a [Chunk<K, V>],
    at: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn new(map: &'a SortedMap<K, V>) -> Self {
        Self { chunks: &map.chunks, at: 0 }
    }

    fn entry(&self) -> Option<&'a (K, V)> {
        self.chunks.first()?.get(self.at)
    }

    fn next(&mut self) -> Option<&'a (K, V)> {
        let entry = self.entry()?;
        self.at += 1;
        if self.chunks.first().is_some_and(|chunk| chunk.len() == self.at) {
            self.skip();
        }
        Some(entry)
    }

    fn skip(&mut self) {
        self.chunks = self.chunks.get(1..).unwrap_or_default();
        self.at = 0;
    }

    /// Passes over a chunk that both have, if both are at its begin.
    fn skip_if_shared(&mut self, other: &mut Self) -> bool {
        let shared = match (self.chunks.first(), other.chunks.first()) {
            (Some(mine), Some(theirs)) => {
                self.at == 0 && other.at == 0 && Arc::ptr_eq(mine, theirs)
            }
            (None, _) | (_, None) => false,
        };
        if shared {
            self.skip();
            other.skip();
        }
        shared
    }
}

/// Entries by key, ascending.
pub(crate) struct Iter<'a, K, V> {
    chunks: std::slice::Iter<'a, Chunk<K, V>>,
    entries: std::slice::Iter<'a, (K, V)>,
    left: usize,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.entries.next() {
                self.left -= 1;
                return Some((key, value));
            }
            self.entries = self.chunks.next()?.iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self { chunks: Arc::default(), len: 0 }
    }
}

/// Two maps are equal if their entries are, wherever the chunks begin.
impl<K: Ord, V: PartialEq> PartialEq for SortedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.differences(other).is_empty()
    }
}

impl<K: Ord, V: Eq> Eq for SortedMap<K, V> {}

impl<K: Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for SortedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Whether the chunks are as they must be.
    fn check(map: &SortedMap<u16, u8>) {
        assert!(map.chunks.iter().all(|chunk| (1..=MAX_CHUNK).contains(&chunk.len())));
        assert_eq!(map.chunks.iter().map(|chunk| chunk.len()).sum::<usize>(), map.len);
        assert!(map.iter().map(|(key, _)| *key).is_sorted_by(|a, b| a < b));
    }

    fn expected(
        old: &BTreeMap<u16, u8>,
        new: &BTreeMap<u16, u8>,
    ) -> Vec<(u16, Option<u8>, Option<u8>)> {
        let keys: BTreeSet<u16> = old.keys().chain(new.keys()).copied().collect();
        let values = keys.iter().map(|key| (*key, old.get(key).copied(), new.get(key).copied()));
        values.filter(|(_, old, new)| old != new).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u8),
        Change(u16, u8),
        Remove(u16),
        RemoveRange(u16, u16),
        Keep,
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = 0..600u16;
        prop_oneof![
            12 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
            3 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Change(key, value)),
            3 => key.clone().prop_map(Step::Remove),
            1 => (key, 1..200u16).prop_map(|(key, count)| Step::RemoveRange(key, count)),
            1 => Just(Step::Keep),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn it_is_a_map_and_older_versions_stay_as_they_were(
            filled in 0..400u16, steps in vec(step(), 0..100)
        ) {
            let (mut map, mut model) = (SortedMap::default(), BTreeMap::new());
            for key in 0..filled {
                prop_assert_eq!(map.insert(key, 0), model.insert(key, 0));
            }
            let mut kept = (map.clone(), model.clone());
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                    }
                    Step::Change(key, value) => {
                        let (changed, expected) = (map.get_mut(&key), model.get_mut(&key));
                        prop_assert_eq!(&changed, &expected);
                        changed.into_iter().chain(expected).for_each(|old| *old = value);
                    }
                    Step::Remove(key) => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    Step::RemoveRange(first, count) => {
                        for key in first..first + count {
                            prop_assert_eq!(map.remove(&key), model.remove(&key));
                        }
                    }
                    Step::Keep => kept = (map.clone(), model.clone()),
                }
                check(&map);
                prop_assert!(map.iter().eq(model.iter()));
                prop_assert_eq!(map.iter().len(), model.len());
                prop_assert!((0..600).all(|key| map.get(&key) == model.get(&key)));
                prop_assert!(kept.0.iter().eq(kept.1.iter()));
                let differences = kept.0.differences(&map);
                let found: Vec<_> = differences
                    .iter()
                    .map(|found| (*found.key, found.old.copied(), found.new.copied()))
                    .collect();
                prop_assert_eq!(found, expected(&kept.1, &model));
                prop_assert_eq!(kept.0 == map, kept.1 == model);
            }
        }
    }

    #[test]
    fn a_change_copies_one_chunk() {
        let mut map = SortedMap::default();
        for key in 0..10_000u16 {
            map.insert(key, 0u8);
        }
        let before = map.clone();
        map.insert(5_000, 1);
        let pairs = before.chunks.iter().zip(map.chunks.iter());
        assert_eq!(pairs.filter(|(old, new)| !Arc::ptr_eq(old, new)).count(), 1);
    }
}
