//! Makes batches. Kafka: `MemoryRecordsBuilder`.

use bytes::Bytes;

use super::patch::{crc, put};
use super::varint;
use super::{
    ATTRIBUTES_AT, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, CONTROL_BIT, CRC_AT, ControlRecordType,
    HEADER_LENGTH, LAST_OFFSET_DELTA_AT, LEADER_EPOCH_AT, LENGTH_AT, LOG_APPEND_TIME_BIT,
    LOG_OVERHEAD, MAGIC, MAGIC_AT, MAX_TIMESTAMP_AT, NO_SEQUENCE, PRODUCER_EPOCH_AT,
    PRODUCER_ID_AT, RECORDS_COUNT_AT, TRANSACTIONAL_BIT, TimestampType,
};
use crate::compression::{CompressError, Compression, Compressor};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// A record to append to a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewRecord<'a> {
    /// When it was created.
    pub timestamp: Timestamp,
    /// The key, or `None` for null.
    pub key: Option<&'a [u8]>,
    /// The value, or `None` for null.
    pub value: Option<&'a [u8]>,
    /// The headers: key, and value or `None` for null.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Collects records and makes a batch of them.
///
/// ```
/// use ottla_protocol::record_batch::{NewRecord, RecordBatch, RecordBatchBuilder};
/// let mut builder = RecordBatchBuilder::new();
/// builder.append(&NewRecord { value: Some(b"hello"), ..NewRecord::default() });
/// let bytes = builder.build();
/// let batch = RecordBatch::parse(&bytes).unwrap();
/// assert!(batch.crc_is_valid());
/// assert_eq!(batch.records_count(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct RecordBatchBuilder {
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    attributes: i16,
    producer: (ProducerId, ProducerEpoch, i32),
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    next_offset_delta: i32,
    count: i32,
    /// Room for the header, then the records.
    bytes: Vec<u8>,
}

impl Default for RecordBatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordBatchBuilder {
    /// An empty batch at offset 0 with `CreateTime`, no producer id, and no leader epoch.
    pub fn new() -> Self {
        Self::with_capacity(HEADER_LENGTH)
    }

    /// An empty batch as [`RecordBatchBuilder::new`] makes it, with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity.max(HEADER_LENGTH));
        bytes.resize(HEADER_LENGTH, 0);
        Self {
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch::NONE,
            attributes: 0,
            producer: (ProducerId::NONE, ProducerEpoch::NONE, NO_SEQUENCE),
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            next_offset_delta: 0,
            count: 0,
            bytes,
        }
    }

    /// Starts at `base_offset`.
    pub fn base_offset(mut self, base_offset: Offset) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// Says that the leader of `leader_epoch` appends the batch.
    pub fn leader_epoch(mut self, leader_epoch: LeaderEpoch) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    /// Says who decides the timestamps; with `LogAppendTime` the largest is that of all records.
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.set_attribute(LOG_APPEND_TIME_BIT, timestamp_type == TimestampType::LogAppendTime);
        self
    }

    /// Makes the batch idempotent: its first record has the sequence number `base_sequence`.
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.producer = (id, epoch, base_sequence);
        self
    }

    /// Makes the batch part of a transaction.
    pub fn transactional(mut self) -> Self {
        self.set_attribute(TRANSACTIONAL_BIT, true);
        self
    }

    /// Makes the batch one of control records.
    pub fn control(mut self) -> Self {
        self.set_attribute(CONTROL_BIT, true);
        self
    }

    /// Appends a record at the next offset.
    ///
    /// # Panics
    /// If the batch would have more than `i32::MAX` records or bytes.
    pub fn append(&mut self, record: &NewRecord<'_>) {
        self.append_at_delta(self.next_offset_delta, record);
    }

    /// Appends a record at `offset`, not below the next; the offsets between stay empty, as in a
    /// compacted log.
    ///
    /// # Panics
    /// If `offset` lies below the next, or 2³¹ or more above the base offset.
    pub fn append_at(&mut self, offset: Offset, record: &NewRecord<'_>) {
        let delta = offset.0.checked_sub(self.base_offset.0).and_then(|d| i32::try_from(d).ok());
        let delta = delta.filter(|&delta| delta >= self.next_offset_delta);
        assert!(delta.is_some(), "offset {offset} does not fit into the batch");
        self.append_at_delta(delta.unwrap_or_default(), record);
    }

    /// Appends a control record at the next offset; the batch must be one of control records.
    pub fn append_control(&mut self, kind: ControlRecordType, timestamp: Timestamp, value: &[u8]) {
        debug_assert!(self.attributes & CONTROL_BIT != 0);
        let key = kind.to_key();
        self.append(&NewRecord {
            timestamp,
            key: Some(&key),
            value: Some(value),
            ..NewRecord::default()
        });
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How large the batch is, uncompressed, in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// How large the batch would be, uncompressed, with `record` too: at most this many bytes.
    pub fn size_with(&self, record: &NewRecord<'_>) -> usize {
        let delta = record.timestamp.0.wrapping_sub(self.base_timestamp.0);
        let body = body_size(record, delta, self.next_offset_delta);
        self.bytes.len() + varint::size(body as i64) + body
    }

    /// The batch, uncompressed.
    pub fn build(mut self) -> Bytes {
        let bytes = std::mem::take(&mut self.bytes);
        self.finish(bytes, Compression::None)
    }

    /// The batch, compressed.
    pub fn build_compressed(self, compressor: &mut Compressor) -> Result<Bytes, CompressError> {
        let mut bytes = Vec::with_capacity(HEADER_LENGTH + self.bytes.len() / 2);
        bytes.resize(HEADER_LENGTH, 0);
        compressor.compress(&self.bytes[HEADER_LENGTH..], &mut bytes)?;
        Ok(self.finish(bytes, compressor.codec()))
    }

    fn set_attribute(&mut self, bit: i16, on: bool) {
        self.attributes = if on { self.attributes | bit } else { self.attributes & !bit };
    }

    fn append_at_delta(&mut self, offset_delta: i32, record: &NewRecord<'_>) {
        assert!(offset_delta < i32::MAX, "the batch has no offset left");
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let timestamp_delta = record.timestamp.0.wrapping_sub(self.base_timestamp.0);
        let body = body_size(record, timestamp_delta, offset_delta);
        varint::write(body as i64, &mut self.bytes);
        self.bytes.push(0);
        varint::write(timestamp_delta, &mut self.bytes);
        varint::write(i64::from(offset_delta), &mut self.bytes);
        write_nullable(record.key, &mut self.bytes);
        write_nullable(record.value, &mut self.bytes);
        varint::write(record.headers.len() as i64, &mut self.bytes);
        for &(key, value) in record.headers {
            write_nullable(Some(key.as_bytes()), &mut self.bytes);
            write_nullable(value, &mut self.bytes);
        }
        assert!(self.bytes.len() <= i32::MAX as usize, "the batch is too large");
        self.count += 1;
        self.next_offset_delta = offset_delta + 1;
    }

    fn finish(&self, mut bytes: Vec<u8>, codec: Compression) -> Bytes {
        let length = bytes.len() - LOG_OVERHEAD;
        let mut header = [0; HEADER_LENGTH];
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        let attributes = self.attributes | i16::from(codec.id());
        put(&mut header, 0, self.base_offset.0.to_be_bytes());
        put(&mut header, LENGTH_AT, (length as i32).to_be_bytes());
        put(&mut header, LEADER_EPOCH_AT, self.leader_epoch.0.to_be_bytes());
        put(&mut header, MAGIC_AT, MAGIC.to_be_bytes());
        put(&mut header, ATTRIBUTES_AT, attributes.to_be_bytes());
        let last_offset_delta = (self.next_offset_delta - 1).max(0);
        put(&mut header, LAST_OFFSET_DELTA_AT, last_offset_delta.to_be_bytes());
        put(&mut header, BASE_TIMESTAMP_AT, self.base_timestamp.0.to_be_bytes());
        put(&mut header, MAX_TIMESTAMP_AT, self.max_timestamp.0.to_be_bytes());
        put(&mut header, PRODUCER_ID_AT, producer_id.0.to_be_bytes());
        put(&mut header, PRODUCER_EPOCH_AT, producer_epoch.0.to_be_bytes());
        put(&mut header, BASE_SEQUENCE_AT, base_sequence.to_be_bytes());
        put(&mut header, RECORDS_COUNT_AT, self.count.to_be_bytes());
        let crc = crc(&header, &bytes[HEADER_LENGTH..]);
        put(&mut header, CRC_AT, crc.to_be_bytes());
        bytes[..HEADER_LENGTH].copy_from_slice(&header);
        Bytes::from(bytes)
    }
}

/// Size of a record without its length field.
fn body_size(record: &NewRecord<'_>, timestamp_delta: i64, offset_delta: i32) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|&(key, value)| nullable_size(Some(key.as_bytes())) + nullable_size(value))
        .sum();
    1 + varint::size(timestamp_delta)
        + varint::size(i64::from(offset_delta))
        + nullable_size(record.key)
        + nullable_size(record.value)
        + varint::size(record.headers.len() as i64)
        + headers
}

fn nullable_size(value: Option<&[u8]>) -> usize {
    match value {
        None => varint::size(-1),
        Some(value) => varint::size(value.len() as i64) + value.len(),
    }
}

fn write_nullable(value: Option<&[u8]>, output: &mut Vec<u8>) {
    match value {
        None => varint::write(-1, output),
        Some(value) => {
            varint::write(value.len() as i64, output);
            output.extend_from_slice(value);
        }
    }
}
