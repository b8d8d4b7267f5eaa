//! What the records of a partition add up to.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::Path;

use ottla_env::Disk;
use ottla_protocol::compression::{Compression, DecompressError, Decompressor};
use ottla_protocol::record_batch::{RecordBatch, RecordError};
use ottla_protocol::{Offset, Timestamp};

use super::partition::PartitionFiles;
use super::{BatchStream, MAX_DECOMPRESSED, Progress};

/// Producers that are told apart; of more it is only known that there are more.
const MAX_PRODUCERS: usize = 1 << 20;
/// Bytes decompressed at once.
const WINDOW: usize = 64 << 10;

/// Sums over one log, or several.
#[derive(Clone, Debug, Default)]
pub struct LogStats {
    /// How many there are.
    pub segments: u64,
    /// Of whole batches, as they lie in the files.
    pub bytes: u64,
    /// What the records take that are in those bytes, without compression.
    pub uncompressed_bytes: u64,
    /// Whole ones.
    pub batches: u64,
    /// Bytes of the largest batch.
    pub largest_batch: u64,
    /// Batches by codec.
    pub codecs: BTreeMap<Compression, u64>,
    /// Records for applications.
    pub records: u64,
    /// Those without a key.
    pub null_keys: u64,
    /// Those without a value: on a compacted topic, tombstones.
    pub null_values: u64,
    /// Bytes of all keys.
    pub key_bytes: u64,
    /// Bytes of all values.
    pub value_bytes: u64,
    /// Records that brokers wrote: the ends of transactions.
    pub control_records: u64,
    /// Batches that are part of a transaction.
    pub transactional_batches: u64,
    /// Batches that cannot be read whole; nothing of them is in the other sums.
    pub damaged: u64,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
    producers: BTreeSet<i64>,
    keys: DistinctKeys,
}

impl LogStats {
    /// Reads all batches of the partition whose directory is `path`.
    pub fn of(disk: &dyn Disk, path: &Path, progress: Progress<'_>) -> io::Result<Self> {
        let mut stats = Self::default();
        let mut decompressor = Decompressor::new();
        for segment in PartitionFiles::of(disk, path)?.segments {
            stats.segments += 1;
            let mut stream = BatchStream::open(disk, &segment.log, 0)?;
            while let Some(next) = stream.next()? {
                match next {
                    Ok(at) => {
                        progress(at.batch.len() as u64);
                        // What cannot be read has a sum of its own.
                        if stats.add_batch(&at.batch, &mut decompressor).is_err() {
                            stats.damaged += 1;
                        }
                    }
                    Err(_) => {
                        stats.damaged += 1;
                        if !stream.resume(Offset(0))? {
                            break;
                        }
                    }
                }
            }
        }
        Ok(stats)
    }

    fn add_batch(
        &mut self,
        batch: &RecordBatch<'_>,
        decompressor: &mut Decompressor,
    ) -> Result<(), RecordError> {
        let codec = batch.compression()?;
        let uncompressed = uncompressed_size(batch, codec, decompressor)?;
        let mut seen = Self::default();
        let mut keys = std::mem::take(&mut self.keys);
        let read = batch.visit_records(decompressor, MAX_DECOMPRESSED, |record| {
            if batch.is_control() {
                seen.control_records += 1;
                return Ok::<(), RecordError>(());
            }
            seen.records += 1;
            match record.key {
                None => seen.null_keys += 1,
                Some(key) => {
                    seen.key_bytes += key.len() as u64;
                    keys.insert(key);
                }
            }
            seen.null_values += u64::from(record.value.is_none());
            seen.value_bytes += record.value.map_or(0, <[u8]>::len) as u64;
            let time = Some(batch.timestamp_of(&record)).filter(|time| time.0 >= 0);
            seen.oldest = earlier(seen.oldest, time);
            seen.newest = seen.newest.max(time);
            Ok(())
        });
        self.keys = keys;
        read?;
        seen.bytes = batch.len() as u64;
        seen.uncompressed_bytes = uncompressed;
        seen.batches = 1;
        seen.largest_batch = batch.len() as u64;
        seen.codecs.insert(codec, 1);
        seen.transactional_batches = u64::from(batch.is_transactional());
        if batch.has_producer_id() {
            seen.producers.insert(batch.producer_id().0);
        }
        self.add(&seen);
        Ok(())
    }

    /// Adds those of another log.
    pub fn add(&mut self, other: &Self) {
        self.segments += other.segments;
        self.bytes += other.bytes;
        self.uncompressed_bytes += other.uncompressed_bytes;
        self.batches += other.batches;
        self.largest_batch = self.largest_batch.max(other.largest_batch);
        for (codec, batches) in &other.codecs {
            *self.codecs.entry(*codec).or_default() += batches;
        }
        self.records += other.records;
        self.null_keys += other.null_keys;
        self.null_values += other.null_values;
        self.key_bytes += other.key_bytes;
        self.value_bytes += other.value_bytes;
        self.control_records += other.control_records;
        self.transactional_batches += other.transactional_batches;
        self.damaged += other.damaged;
        self.oldest = earlier(self.oldest, other.oldest);
        self.newest = self.newest.max(other.newest);
        let room = MAX_PRODUCERS.saturating_sub(self.producers.len());
        self.producers.extend(other.producers.iter().take(room));
        self.keys.add(&other.keys);
    }

    /// The smallest and the largest timestamp of a record, if any has one.
    pub fn times(&self) -> Option<(Timestamp, Timestamp)> {
        self.oldest.zip(self.newest)
    }

    /// Idempotent producers; at most about a million are told apart.
    pub fn producers(&self) -> u64 {
        self.producers.len() as u64
    }

    /// By how much compression made the batches smaller: 1.0 is not at all.
    pub fn compression_ratio(&self) -> f64 {
        match self.bytes {
            0 => 1.0,
            bytes => self.uncompressed_bytes as f64 / bytes as f64,
        }
    }

    /// The share of the records that compaction would remove, 0.0 to 1.0: those whose key comes
    /// again. An estimate, about 1 % off. Of several logs: a key that all have counts once.
    pub fn compactable_share(&self) -> f64 {
        let keyed = self.records - self.null_keys;
        match keyed {
            0 => 0.0,
            _ => (1.0 - self.keys.count() / keyed as f64).clamp(0.0, 1.0),
        }
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Bytes of the batch as if it were not compressed.
fn uncompressed_size(
    batch: &RecordBatch<'_>,
    codec: Compression,
    decompressor: &mut Decompressor,
) -> Result<u64, DecompressError> {
    let payload = batch.payload();
    let header = (batch.len() - payload.len()) as u64;
    if codec == Compression::None {
        return Ok(batch.len() as u64);
    }
    let mut reader = decompressor.reader(codec, payload, MAX_DECOMPRESSED);
    let (mut window, mut size) = (vec![0; WINDOW], header);
    loop {
        match reader.read(&mut window)? {
            0 => return Ok(size),
            read => size += read as u64,
        }
    }
}

/// How many different keys there are, in 16 KiB however many: a HyperLogLog of 2¹⁴ registers.
#[derive(Clone, Debug, Default)]
struct DistinctKeys(Vec<u8>);

impl DistinctKeys {
    const BITS: u32 = 14;
    const REGISTERS: usize = 1 << Self::BITS;

    fn insert(&mut self, key: &[u8]) {
        self.0.resize(Self::REGISTERS, 0);
        let mut hasher = DefaultHasher::new();
        hasher.write(key);
        let hash = hasher.finish();
        let register = (hash >> (64 - Self::BITS)) as usize;
        let zeroes = (hash << Self::BITS | 1 << (Self::BITS - 1)).leading_zeros() as u8 + 1;
        if let Some(most) = self.0.get_mut(register) {
            *most = zeroes.max(*most);
        }
    }

    /// Counts the keys of both, each once.
    fn add(&mut self, other: &Self) {
        if other.0.is_empty() {
            return;
        }
        self.0.resize(Self::REGISTERS, 0);
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own = (*own).max(*other);
        }
    }

    fn count(&self) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        let registers = Self::REGISTERS as f64;
        let sum: f64 = self.0.iter().map(|zeroes| 0.5_f64.powi(i32::from(*zeroes))).sum();
        let estimate = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let empty = self.0.iter().filter(|zeroes| **zeroes == 0).count() as f64;
        // Few keys leave many registers empty, and those tell more.
        if estimate <= 2.5 * registers && empty > 0.0 {
            return registers * (registers / empty).ln();
        }
        estimate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_keys_are_counted_well_enough() {
        for count in [0_u32, 1, 100, 10_000, 300_000] {
            let mut keys = DistinctKeys::default();
            for number in 0..3 * count {
                keys.insert(&(number % count).to_be_bytes());
            }
            let (found, count) = (keys.count(), f64::from(count));
            assert!((found - count).abs() <= 0.03 * count, "{found} of {count}");
        }
    }
}
