//! The 61 bytes before the records of a batch (KIP-98), read from a file or a request.

use bytes::Buf;
use ottla_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// Bytes of a batch before its records.
pub(crate) const BATCH_HEADER_LEN: usize = 61;
/// Bytes of a batch that its length field does not count.
pub(crate) const LENGTH_PREFIX_LEN: usize = 12;
/// The only record format there is since Kafka 4.0 (KIP-724).
pub(crate) const MAGIC: i8 = 2;
/// Where the range that the checksum covers begins.
pub(crate) const CRC_FROM: usize = 21;

const COMPRESSION_MASK: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// A batch's header, as plain numbers. Nothing in it is to be believed before it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    /// Length of the batch after the first [`LENGTH_PREFIX_LEN`] bytes.
    pub(crate) length: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) magic: i8,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; `None` if they are too few.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut bytes = bytes.get(..BATCH_HEADER_LEN)?;
        Some(Self {
            base_offset: bytes.get_i64(),
            length: bytes.get_i32(),
            leader_epoch: bytes.get_i32(),
            magic: bytes.get_i8(),
            crc: bytes.get_u32(),
            attributes: bytes.get_i16(),
            last_offset_delta: bytes.get_i32(),
            base_timestamp: bytes.get_i64(),
            max_timestamp: bytes.get_i64(),
            producer_id: bytes.get_i64(),
            producer_epoch: bytes.get_i16(),
            base_sequence: bytes.get_i32(),
            count: bytes.get_i32(),
        })
    }

    /// Size of the whole batch in bytes; `None` if the length field cannot be true.
    pub(crate) fn size(&self) -> Option<usize> {
        let size = usize::try_from(self.length).ok()?.checked_add(LENGTH_PREFIX_LEN)?;
        (size >= BATCH_HEADER_LEN).then_some(size)
    }

    /// Whether the fields that place the batch in a log make sense: format, length and offsets.
    pub(crate) fn is_plausible(&self) -> bool {
        self.magic == MAGIC
            && self.size().is_some()
            && self.base_offset >= 0
            && self.last_offset_delta >= 0
    }

    pub(crate) fn base(&self) -> Offset {
        Offset(self.base_offset)
    }

    pub(crate) fn last_offset(&self) -> Offset {
        Offset(self.base_offset.saturating_add(i64::from(self.last_offset_delta)))
    }

    pub(crate) fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    pub(crate) fn epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.leader_epoch)
    }

    pub(crate) fn max_time(&self) -> Timestamp {
        Timestamp(self.max_timestamp)
    }

    pub(crate) fn producer(&self) -> ProducerId {
        ProducerId(self.producer_id)
    }

    pub(crate) fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(self.producer_epoch)
    }

    pub(crate) fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence number of the last record; sequences wrap after `i32::MAX`.
    pub(crate) fn last_sequence(&self) -> i32 {
        increment_sequence(self.base_sequence, self.last_offset_delta)
    }

    pub(crate) fn compression(&self) -> i16 {
        self.attributes & COMPRESSION_MASK
    }

    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }
}

/// The sequence number `by` after `sequence`; 0 follows `i32::MAX` (KIP-98).
pub(crate) fn increment_sequence(sequence: i32, by: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(by);
    let wrapped = if sum > i64::from(i32::MAX) { sum - i64::from(i32::MAX) - 1 } else { sum };
    i32::try_from(wrapped).unwrap_or(i32::MAX)
}

/// `attributes` with the timestamp type set to LogAppendTime or CreateTime (KIP-32).
pub(crate) fn with_timestamp_type(attributes: i16, log_append_time: bool) -> i16 {
    if log_append_time { attributes | LOG_APPEND_TIME } else { attributes & !LOG_APPEND_TIME }
}
