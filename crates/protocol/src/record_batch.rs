//! Record batches of format 2 as borrowed views. Kafka: `DefaultRecordBatch`, `MemoryRecords`.
//!
//! ```text
//!  0 base offset         i64 ┐
//!  8 length              i32 │ not covered by the checksum, so that the leader
//! 12 leader epoch        i32 │ can fill in offset and epoch
//! 16 magic = 2           i8  │
//! 17 crc                 u32 ┘ CRC-32C of everything that follows
//! 21 attributes          i16   codec 0-2, timestamp type 3, transactional 4, control 5
//! 23 last offset delta   i32
//! 27 base timestamp      i64
//! 35 max timestamp       i64
//! 43 producer id         i64
//! 51 producer epoch      i16
//! 53 base sequence       i32
//! 57 records count       i32
//! 61 records                   compressed as a whole, or not at all
//! ```
//!
//! Formats 0 and 1 are not readable: brokers of Kafka 4 do not take them either (KIP-724).

mod builder;
mod compaction;
mod control;
mod patch;
mod record;
mod stream;
mod varint;

use crate::compression::{Compression, DecompressError, Decompressor};
use crate::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

pub use builder::{NewRecord, RecordBatchBuilder};
pub use compaction::{CompactedBatch, rebase_records};
pub use control::ControlRecordType;
pub use patch::RecordBatchMut;
pub use record::{Header, Headers, Record, Records};
pub use stream::RecordStream;

/// Bytes in front of the records.
pub const HEADER_LENGTH: usize = 61;
/// Bytes in front of what the length field counts: base offset and the field itself.
pub const LOG_OVERHEAD: usize = 12;
/// Bytes whose content the leader decides: base offset, length, leader epoch.
pub const PREFIX_LENGTH: usize = 16;
/// The only format there is.
pub const MAGIC: i8 = 2;

const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORDS_COUNT_AT: usize = 57;

const CODEC_MASK: i16 = 0b111;
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// No sequence number: the batch is not idempotent.
pub const NO_SEQUENCE: i32 = -1;

/// Who decides the timestamps of a batch. Kafka: `TimestampType`, `message.timestamp.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer; each record has its own.
    #[default]
    CreateTime,
    /// The broker; all records have the batch's maximum.
    LogAppendTime,
}

/// Why bytes are not a record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordBatchError {
    /// The bytes end within the batch.
    ///
    /// At the end of a Fetch response that is expected, and at the end of a log a crash.
    #[error("batch at byte {position} is cut off: {needed} bytes needed, {available} there")]
    Truncated {
        /// Where the batch begins.
        position: usize,
        /// How long it, or its header, is.
        needed: usize,
        /// How many bytes are left from there.
        available: usize,
    },
    /// The length field is smaller than the header of a batch.
    #[error("batch at byte {position} has the impossible length {length}")]
    InvalidLength {
        /// Where the batch begins.
        position: usize,
        /// What its length field says.
        length: i32,
    },
    /// The batch has another format than 2.
    #[error("batch at byte {position} has the unsupported format {magic}")]
    UnsupportedMagic {
        /// Where the batch begins.
        position: usize,
        /// Its format.
        magic: i8,
    },
}

impl RecordBatchError {
    /// What a producer is told of it.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            // As ProduceRequest.validateRecords has it since version 3 (KIP-98).
            Self::UnsupportedMagic { magic: 0 | 1, .. } => ErrorCode::InvalidRecord,
            Self::Truncated { .. } | Self::InvalidLength { .. } | Self::UnsupportedMagic { .. } => {
                ErrorCode::CorruptMessage
            }
        }
    }
}

/// Why the records of a batch cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The codec bits name no codec.
    #[error("unknown compression codec {0}")]
    UnknownCodec(u8),
    /// The records are compressed, and were to be read as if they were not.
    #[error("the records are compressed with {0}")]
    Compressed(Compression),
    /// The records could not be decompressed.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// A record contradicts itself.
    #[error("record {index} is malformed: {reason}")]
    Malformed {
        /// Position of the record in its batch, counted from 0.
        index: u32,
        /// What is wrong.
        reason: &'static str,
    },
    /// The header claims fewer than no records.
    #[error("the batch claims to have {0} records")]
    NegativeCount(i32),
    /// Bytes follow the last record.
    #[error("bytes follow the last of {count} records")]
    TrailingBytes {
        /// How many records the batch claims to have.
        count: u32,
    },
}

impl RecordError {
    /// What a producer is told of it.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::UnknownCodec(_) => ErrorCode::UnsupportedCompressionType,
            Self::Decompress(DecompressError::TooLarge { .. }) => ErrorCode::MessageTooLarge,
            Self::Compressed(_) | Self::Decompress(DecompressError::Corrupt(_)) => {
                ErrorCode::CorruptMessage
            }
            Self::Malformed { .. } | Self::NegativeCount(_) | Self::TrailingBytes { .. } => {
                ErrorCode::InvalidRecord
            }
        }
    }
}

/// One batch, whole and of format 2; nothing else about it has been checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RecordBatch<'a> {
    bytes: &'a [u8],
    header: &'a [u8; HEADER_LENGTH],
}

impl<'a> RecordBatch<'a> {
    /// The batch at the start of `bytes`, which may go on behind it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordBatchError> {
        Self::parse_at(bytes, 0)
    }

    fn parse_at(buffer: &'a [u8], position: usize) -> Result<Self, RecordBatchError> {
        let bytes = buffer.get(position..).unwrap_or_default();
        let available = bytes.len();
        let truncated = |needed| RecordBatchError::Truncated { position, needed, available };
        // Every format has its magic at the same place: a short old one is called what it is.
        let Some(prefix) = bytes.first_chunk::<{ MAGIC_AT + 1 }>() else {
            return Err(truncated(HEADER_LENGTH));
        };
        let magic = prefix[MAGIC_AT] as i8;
        if magic != MAGIC {
            return Err(RecordBatchError::UnsupportedMagic { position, magic });
        }
        let length = i32::from_be_bytes(field(prefix, LENGTH_AT));
        let size = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(LOG_OVERHEAD))
            .filter(|&size| size >= HEADER_LENGTH)
            .ok_or(RecordBatchError::InvalidLength { position, length })?;
        let bytes = bytes.get(..size).ok_or(truncated(size))?;
        let header = bytes.first_chunk().ok_or(truncated(size))?;
        Ok(Self { bytes, header })
    }

    /// The whole batch.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Size of the whole batch in bytes, at least [`HEADER_LENGTH`].
    #[allow(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The offset of the first record, as far as one was ever in the batch.
    pub fn base_offset(&self) -> Offset {
        Offset(i64::from_be_bytes(field(self.header, 0)))
    }

    /// The offset of the last record.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset().0.saturating_add(i64::from(self.last_offset_delta())))
    }

    /// The offset after the last record, where the next batch begins.
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// The epoch of the leader that appended the batch.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(i32::from_be_bytes(field(self.header, LEADER_EPOCH_AT)))
    }

    /// The checksum the batch claims to have.
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(field(self.header, CRC_AT))
    }

    /// The checksum it has. Reads the whole batch.
    pub fn computed_crc(&self) -> u32 {
        crc_fast::crc32_iscsi(&self.bytes[ATTRIBUTES_AT..])
    }

    /// Whether the checksum fits. Reads the whole batch.
    pub fn crc_is_valid(&self) -> bool {
        self.crc() == self.computed_crc()
    }

    /// The attribute bits as they are.
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(field(self.header, ATTRIBUTES_AT))
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Result<Compression, RecordError> {
        let id = (self.attributes() & CODEC_MASK) as u8;
        Compression::from_id(id).ok_or(RecordError::UnknownCodec(id))
    }

    /// Who decided the timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        match self.attributes() & LOG_APPEND_TIME_BIT {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// Whether the batch is part of a transaction (KIP-98).
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL_BIT != 0
    }

    /// Whether its records are for brokers and clients, not for applications.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL_BIT != 0
    }

    /// When the tombstones of a compacted batch may go, if that is decided (KIP-534).
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        (self.attributes() & DELETE_HORIZON_BIT != 0).then(|| self.base_timestamp())
    }

    /// The last record's offset, counted from the base offset.
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(field(self.header, LAST_OFFSET_DELTA_AT))
    }

    /// What the records' timestamps count from.
    pub fn base_timestamp(&self) -> Timestamp {
        Timestamp(i64::from_be_bytes(field(self.header, BASE_TIMESTAMP_AT)))
    }

    /// The largest timestamp, or with `LogAppendTime` that of all records.
    pub fn max_timestamp(&self) -> Timestamp {
        Timestamp(i64::from_be_bytes(field(self.header, MAX_TIMESTAMP_AT)))
    }

    /// The idempotent producer, or -1.
    pub fn producer_id(&self) -> ProducerId {
        ProducerId(i64::from_be_bytes(field(self.header, PRODUCER_ID_AT)))
    }

    /// The producer's epoch, or -1.
    pub fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(i16::from_be_bytes(field(self.header, PRODUCER_EPOCH_AT)))
    }

    /// The sequence number of the first record, or -1.
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(field(self.header, BASE_SEQUENCE_AT))
    }

    /// The sequence number of the last record, which wraps to 0 after `i32::MAX`; or -1.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            NO_SEQUENCE => NO_SEQUENCE,
            base => increment_sequence(base, self.last_offset_delta()),
        }
    }

    /// Whether the batch comes from an idempotent producer.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id() != ProducerId::NONE
    }

    /// How many records the header claims. May be wrong, and even negative, until they are read.
    pub fn records_count(&self) -> i32 {
        i32::from_be_bytes(field(self.header, RECORDS_COUNT_AT))
    }

    /// The records as they are, possibly compressed.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LENGTH..]
    }

    /// The timestamp of `record`, which is one of this batch.
    pub fn timestamp_of(&self, record: &Record<'_>) -> Timestamp {
        match self.timestamp_type() {
            TimestampType::LogAppendTime => self.max_timestamp(),
            TimestampType::CreateTime => {
                Timestamp(self.base_timestamp().0.wrapping_add(record.timestamp_delta))
            }
        }
    }

    /// The offset of `record`, which is one of this batch.
    pub fn offset_of(&self, record: &Record<'_>) -> Offset {
        Offset(self.base_offset().0.saturating_add(i64::from(record.offset_delta)))
    }

    /// The records of a batch that is not compressed, without any allocation.
    pub fn records(&self) -> Result<Records<'a>, RecordError> {
        let codec = self.compression()?;
        if codec != Compression::None {
            return Err(RecordError::Compressed(codec));
        }
        Records::new(self.payload(), self.records_count())
    }

    /// The records whether compressed or not, one at a time through a small window.
    ///
    /// `limit` bounds what the records take uncompressed, in bytes; more is
    /// [`DecompressError::TooLarge`]. Memory is bounded by the largest record.
    pub fn stream_records<'d>(
        &self,
        decompressor: &'d mut Decompressor,
        limit: usize,
    ) -> Result<RecordStream<'d>, RecordError>
    where
        'a: 'd,
    {
        let reader = decompressor.reader(self.compression()?, self.payload(), limit);
        RecordStream::new(reader, self.records_count())
    }

    /// Calls `visit` for every record, compressed or not, and checks that there are exactly as
    /// many as the header claims. Stops at the first error, `visit`'s own included.
    ///
    /// `limit` is that of [`RecordBatch::stream_records`] and applies to compressed batches.
    pub fn visit_records<E: From<RecordError>>(
        &self,
        decompressor: &mut Decompressor,
        limit: usize,
        mut visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.compression()? == Compression::None {
            return self.records()?.visit(visit);
        }
        let mut stream = self.stream_records(decompressor, limit)?;
        while let Some(record) = stream.next()? {
            visit(record)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for RecordBatch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordBatch")
            .field("base_offset", &self.base_offset().0)
            .field("last_offset_delta", &self.last_offset_delta())
            .field("leader_epoch", &self.leader_epoch().0)
            .field("attributes", &self.attributes())
            .field("max_timestamp", &self.max_timestamp().0)
            .field("producer_id", &self.producer_id().0)
            .field("producer_epoch", &self.producer_epoch().0)
            .field("base_sequence", &self.base_sequence())
            .field("records_count", &self.records_count())
            .field("len", &self.len())
            .finish()
    }
}

/// The sequence number `increment` after `sequence`; 0 follows `i32::MAX` (KIP-98).
///
/// Both must not be negative.
pub fn increment_sequence(sequence: i32, increment: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(increment);
    (sum % (i64::from(i32::MAX) + 1)) as i32
}

/// The batches of `bytes`, one after the other. Ends at the end of `bytes`, or after the first
/// error, for where a broken batch ends nobody knows.
pub fn batches(bytes: &[u8]) -> RecordBatches<'_> {
    RecordBatches { bytes, position: 0 }
}

/// Iterator over batches; see [`batches`].
#[derive(Clone, Debug)]
pub struct RecordBatches<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl RecordBatches<'_> {
    /// Where the next batch begins, counted from the start of the bytes.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for RecordBatches<'a> {
    type Item = Result<RecordBatch<'a>, RecordBatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.bytes.len() {
            return None;
        }
        let batch = RecordBatch::parse_at(self.bytes, self.position);
        match &batch {
            Ok(batch) => self.position += batch.len(),
            Err(_) => self.bytes = &[],
        }
        Some(batch)
    }
}

/// `N` bytes of a header at `at`, both known at compile time to lie inside it.
#[inline]
fn field<const N: usize, const LENGTH: usize>(header: &[u8; LENGTH], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

#[cfg(test)]
mod tests;
