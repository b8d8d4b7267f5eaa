//! Which partition a record goes to.

/// Chooses partitions in place of the built-in rules. Kafka's `Partitioner`.
pub trait Partitioner: Send + Sync {
    /// The partition for a record; `None` leaves it to the built-in rules.
    ///
    /// `partitions` is how many the topic has, `available` those that have a leader now.
    fn partition(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        partitions: &Partitions<'_>,
    ) -> Option<i32>;
}

/// The partitions of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Partitions<'a> {
    /// How many there are.
    pub count: i32,
    /// Those with a leader, ascending.
    pub available: &'a [i32],
}

/// The partition of a key: Kafka's hash, so that all clients put a key into the same partition.
///
/// ```
/// assert_eq!(ottla_client::partition_for_key(b"foobar", 10), 6);
/// ```
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions.max(1)
}

/// Austin Appleby's MurmurHash2 with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut word = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        word = word.wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    for (at, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// Where records without keys go: to one partition until it has got `batch.size` bytes, then to
/// another (KIP-480, KIP-794).
#[derive(Debug, Default)]
pub(super) struct Sticky {
    current: Option<i32>,
    bytes: usize,
}

impl Sticky {
    /// The partition for the next record; a new one is drawn from `loads` if there is none.
    pub(super) fn current(&mut self, draw: impl FnOnce() -> i32) -> i32 {
        *self.current.get_or_insert_with(draw)
    }

    /// Notes that a record went to the current partition. It is left after `batch_size` bytes, but
    /// not in the middle of a batch unless that is twice as late: small batches help nobody.
    pub(super) fn appended(&mut self, bytes: usize, batch_size: usize, all_full: bool) {
        self.bytes += bytes;
        if (self.bytes >= batch_size && all_full) || self.bytes >= batch_size.saturating_mul(2) {
            *self = Self::default();
        }
    }

    /// Leaves the current partition, because it has no leader.
    pub(super) fn leave(&mut self) {
        *self = Self::default();
    }
}

/// Draws one of `(partition, batches waiting)`: evenly, or, if `adaptive`, the more likely the
/// fewer batches wait (KIP-794).
pub(super) fn draw(loads: &[(i32, usize)], adaptive: bool, random: u64) -> Option<i32> {
    let longest = loads.iter().map(|(_, waiting)| *waiting).max()?;
    let weight = |waiting: usize| if adaptive { (longest + 1 - waiting) as u64 } else { 1 };
    let total: u64 = loads.iter().map(|(_, waiting)| weight(*waiting)).sum();
    let mut at = random % total;
    for (partition, waiting) in loads {
        match at.checked_sub(weight(*waiting)) {
            Some(rest) => at = rest,
            None => return Some(*partition),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafka_puts_them() {
        // The pairs of Kafka's own test of its hash.
        let known: [(&[u8], i32); 5] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key) as i32, hash);
        }
    }

    #[test]
    fn sticky_changes_after_a_batch_and_not_in_the_middle_of_one() {
        let mut sticky = Sticky::default();
        assert_eq!(sticky.current(|| 3), 3);
        sticky.appended(60, 100, false);
        sticky.appended(60, 100, false);
        assert_eq!(sticky.current(|| 4), 3, "a batch is still open");
        sticky.appended(10, 100, true);
        assert_eq!(sticky.current(|| 4), 4);
        sticky.appended(200, 100, false);
        assert_eq!(sticky.current(|| 5), 5, "twice as much is enough");
    }

    #[test]
    fn a_partition_where_less_waits_is_drawn_more_often() {
        let count = |adaptive, partition| {
            let loads = [(0, 3), (1, 0)];
            (0..5).filter(|at| draw(&loads, adaptive, *at) == Some(partition)).count()
        };
        assert_eq!((count(true, 0), count(true, 1)), (1, 4));
        assert_eq!((count(false, 0), count(false, 1)), (3, 2));
        assert_eq!(draw(&[], true, 7), None);
    }
}
