//! Where each key was last seen. Kafka's `SkimpyOffsetMap`.

use std::hash::Hasher;

use ottla_protocol::Offset;
use siphasher::sip128::{Hasher128, SipHasher24};

/// Bytes of one slot: 128 bits of hash, and the offset.
pub(super) const SLOT_BYTES: u64 = 24;

/// Hash of a key, and the offset after its last one; 0 where the slot is free.
type Slot = [u64; 3];

/// The key is full, and a new one does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The last offset of each key, in a table of fixed size.
///
/// Keys are not kept, only 128 bits of their SipHash, under a random secret that no client knows:
/// two keys with one hash do not happen by chance, and cannot be made.
pub(super) struct OffsetMap {
    secret: (u64, u64),
    slots: Vec<Slot>,
    used: usize,
    max_used: usize,
}

impl OffsetMap {
    /// A map for at most `keys` keys that takes at most `bytes` bytes, of which `load_factor`, from
    /// 0.0 to 1.0, may be in use. It always holds one key, so that every pass gets somewhere.
    pub(super) fn new(bytes: u64, load_factor: f64, keys: u64, secret: (u64, u64)) -> Self {
        let load_factor = load_factor.clamp(0.01, 1.0);
        let affordable = (bytes / SLOT_BYTES).max(2);
        // Twice as many slots as keys: fast, and never full.
        let slots = keys.saturating_mul(2).clamp(2, affordable);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        // One slot stays free, where a search ends.
        let max_used = ((slots as f64 * load_factor) as usize).clamp(1, slots - 1);
        Self { secret, slots: vec![Slot::default(); slots], used: 0, max_used }
    }

    /// Notes that `key` was seen at `offset`, which is larger than all before.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let hash = self.hash(key);
        let index = self.find(hash);
        let Some(slot) = self.slots.get_mut(index) else { return Err(Full) };
        if slot[2] == 0 {
            if self.used == self.max_used {
                return Err(Full);
            }
            self.used += 1;
        }
        *slot = [hash.0, hash.1, offset.0 as u64 + 1];
        Ok(())
    }

    /// Where `key` was seen last.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slots.get(self.find(self.hash(key)))?;
        slot[2].checked_sub(1).map(|offset| Offset(offset as i64))
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// How full it is, from 0.0 to 1.0.
    pub(super) fn utilization(&self) -> f64 {
        self.used as f64 / self.slots.len() as f64
    }

    /// The slot of a hash, or the free one where it belongs.
    #[inline]
    fn find(&self, hash: (u64, u64)) -> usize {
        let len = self.slots.len();
        let mut index = ((u128::from(hash.0) * len as u128) >> 64) as usize;
        // Ends: there is always a free slot.
        while let Some(slot) = self.slots.get(index) {
            if slot[2] == 0 || (slot[0], slot[1]) == hash {
                break;
            }
            index = if index + 1 == len { 0 } else { index + 1 };
        }
        index
    }

    #[inline]
    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let mut hasher = SipHasher24::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(key);
        let hash = hasher.finish128();
        (hash.h1, hash.h2)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn knows_the_last_offset_of_every_key_that_fitted(
            keys in prop::collection::vec(0u8..60, 0..200), slots in 2u64..80, secret: (u64, u64),
        ) {
            let mut map = OffsetMap::new(slots * SLOT_BYTES, 0.9, u64::MAX, secret);
            let mut last = BTreeMap::new();
            for (offset, key) in keys.iter().enumerate() {
                let offset = Offset(offset as i64);
                match map.put(&[*key], offset) {
                    Ok(()) => drop(last.insert(*key, offset)),
                    Err(Full) => {
                        prop_assert!(!last.contains_key(key), "a known key always fits");
                        prop_assert!(last.len() >= ((slots as f64 * 0.9) as usize).clamp(1, slots as usize - 1));
                    }
                }
            }
            prop_assert_eq!(map.len(), last.len());
            for key in 0..60 {
                prop_assert_eq!(map.get(&[key]), last.get(&key).copied());
            }
        }
    }

    #[test]
    fn takes_no_more_memory_than_the_keys_need_or_than_is_allowed() {
        assert_eq!(OffsetMap::new(1 << 27, 0.9, 1000, (1, 2)).slots.len(), 2000);
        assert_eq!(OffsetMap::new(1 << 20, 0.9, u64::MAX, (1, 2)).slots.len(), (1 << 20) / 24);
    }
}
