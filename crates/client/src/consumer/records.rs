//! Records as they are handed out: slices of what the broker sent. Kafka: `ConsumerRecords`.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::record_batch::TimestampType;
use ottla_protocol::{LeaderEpoch, Offset, Timestamp, TopicPartition};

use super::deserializer::{DeserializeError, Deserializer, TypedRecord};

/// A record that was read. It owns its place in what the broker sent, which stays in memory as
/// long as any record of it does: copy what is to be kept for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Where it stands.
    pub partition: TopicPartition,
    /// At which offset.
    pub offset: Offset,
    /// The epoch of the leader that appended it, or -1 (KIP-320).
    pub leader_epoch: LeaderEpoch,
    /// The producer's or the broker's time.
    pub timestamp: Timestamp,
    /// Whose time that is.
    pub timestamp_type: TimestampType,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// A record that was read, borrowed from its [`Records`].
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// Where it stands.
    pub partition: &'a TopicPartition,
    /// At which offset.
    pub offset: Offset,
    /// The producer's or the broker's time.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    batch: &'a DecodedBatch,
    entry: &'a Entry,
}

impl<'a> RecordRef<'a> {
    /// The epoch of the leader that appended it, or -1 (KIP-320).
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.batch.leader_epoch
    }

    /// Whose time its timestamp is.
    pub fn timestamp_type(&self) -> TimestampType {
        self.batch.timestamp_type
    }

    /// Its headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let batch = self.batch;
        batch.headers(self.entry).iter().map(move |header| {
            (header.key.slice(&batch.bytes).unwrap_or_default(), header.value.slice(&batch.bytes))
        })
    }

    /// The record on its own. Copies nothing but the list of its headers.
    pub fn to_record(&self) -> ConsumerRecord {
        let batch = self.batch;
        let headers = batch.headers(self.entry).iter();
        ConsumerRecord {
            partition: self.partition.clone(),
            offset: self.offset,
            leader_epoch: batch.leader_epoch,
            timestamp: self.timestamp,
            timestamp_type: batch.timestamp_type,
            key: self.entry.key.share(&batch.bytes),
            value: self.entry.value.share(&batch.bytes),
            headers: headers
                .map(|it| {
                    (it.key.share(&batch.bytes).unwrap_or_default(), it.value.share(&batch.bytes))
                })
                .collect(),
        }
    }
}

/// A place in a batch's bytes, or null.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    const NULL: u32 = u32::MAX;

    /// Where `part`, a slice of `whole`, lies in it.
    #[inline]
    pub(super) fn of(part: Option<&[u8]>, whole: &[u8]) -> Self {
        let Some(part) = part else { return Self { start: 0, length: Self::NULL } };
        // Batches are smaller than 2 GiB, so are their parts.
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Self { start: start as u32, length: part.len() as u32 }
    }

    #[inline]
    fn range(self) -> Option<Range<usize>> {
        let start = self.start as usize;
        (self.length != Self::NULL).then(|| start..start + self.length as usize)
    }

    #[inline]
    fn slice(self, whole: &[u8]) -> Option<&[u8]> {
        whole.get(self.range()?)
    }

    fn share(self, whole: &Bytes) -> Option<Bytes> {
        Some(whole.slice(self.range()?))
    }
}

/// One record of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Span,
    pub(super) value: Span,
    /// Its headers in the batch's list of headers.
    pub(super) headers: (u32, u32),
}

/// One header of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeaderEntry {
    pub(super) key: Span,
    pub(super) value: Span,
}

/// A batch that was looked through: where in its bytes which record is.
#[derive(Debug)]
pub(super) struct DecodedBatch {
    pub(super) bytes: Bytes,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) timestamp_type: TimestampType,
    pub(super) entries: Vec<Entry>,
    pub(super) headers: Vec<HeaderEntry>,
}

impl DecodedBatch {
    fn headers(&self, entry: &Entry) -> &[HeaderEntry] {
        let (start, count) = (entry.headers.0 as usize, entry.headers.1 as usize);
        self.headers.get(start..start + count).unwrap_or_default()
    }
}

/// Some records of one batch.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) partition: TopicPartition,
    pub(super) batch: Arc<DecodedBatch>,
    pub(super) range: Range<usize>,
}

/// What a poll handed out: records of one or more partitions, each partition's in order.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub(super) chunks: Vec<Chunk>,
    pub(super) count: usize,
}

impl Records {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The records, borrowed: no counter is touched and nothing allocated for any of them.
    ///
    /// ```
    /// # use ottla_client::Records;
    /// fn total(records: &Records) -> usize {
    ///     records.iter().filter_map(|record| record.value).map(<[u8]>::len).sum()
    /// }
    /// # assert_eq!(total(&Records::default()), 0);
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.chunks.iter().flat_map(|chunk| {
            let entries = chunk.batch.entries.get(chunk.range.clone()).unwrap_or_default();
            entries.iter().map(move |entry| RecordRef {
                partition: &chunk.partition,
                offset: Offset(entry.offset),
                timestamp: Timestamp(entry.timestamp),
                key: entry.key.slice(&chunk.batch.bytes),
                value: entry.value.slice(&chunk.batch.bytes),
                batch: &chunk.batch,
                entry,
            })
        })
    }

    /// The partitions of which there are records, each once.
    pub fn partitions(&self) -> Vec<&TopicPartition> {
        let mut partitions: Vec<_> = self.chunks.iter().map(|chunk| &chunk.partition).collect();
        partitions.sort();
        partitions.dedup();
        partitions
    }

    /// Only the records of `partition`.
    pub fn of(&self, partition: &TopicPartition) -> impl Iterator<Item = RecordRef<'_>> {
        self.iter().filter(move |record| record.partition == partition)
    }

    /// Keeps the records that `keep` says, as an interceptor may.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(RecordRef<'_>) -> bool) -> Self {
        let mut kept = Self::default();
        for chunk in &self.chunks {
            let whole = Self { chunks: vec![chunk.clone()], count: chunk.range.len() };
            for (index, record) in chunk.range.clone().zip(whole.iter()) {
                if keep(record) {
                    kept.count += 1;
                    kept.push(chunk, index);
                }
            }
        }
        kept
    }

    fn push(&mut self, chunk: &Chunk, index: usize) {
        if let Some(last) = self.chunks.last_mut()
            && last.range.end == index
            && Arc::ptr_eq(&last.batch, &chunk.batch)
        {
            last.range.end += 1;
            return;
        }
        self.chunks.push(Chunk { range: index..index + 1, ..chunk.clone() });
    }

    /// The records with keys and values as `key` and `value` make them of the bytes.
    pub fn typed<'a, K, V>(
        &'a self,
        key: &'a dyn Deserializer<K>,
        value: &'a dyn Deserializer<V>,
    ) -> impl Iterator<Item = Result<TypedRecord<'a, K, V>, DeserializeError>> {
        self.iter().map(|record| TypedRecord::read(record, key, value))
    }
}

/// The records on their own; see [`ConsumerRecord`].
impl IntoIterator for Records {
    type Item = ConsumerRecord;
    type IntoIter = std::vec::IntoIter<ConsumerRecord>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter().map(|record| record.to_record()).collect::<Vec<_>>().into_iter()
    }
}
