//! The header of a record batch (KIP-98) by itself, as a scan of a file reads it.

use bytes::Buf;
use ottla_protocol::record_batch::{
    HEADER_LENGTH, LOG_OVERHEAD, MAGIC, RecordBatch, increment_sequence,
};
use ottla_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;

/// A batch's header as plain values. What was read from a file is not to be believed before it is
/// checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: Offset,
    /// Length of the batch after the first [`LOG_OVERHEAD`] bytes.
    pub(crate) length: i32,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) magic: i8,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: Timestamp,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) base_sequence: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; `None` if they are too few.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(Self::from_bytes)
    }

    /// The header of a whole batch, which will get `base_offset` and `leader_epoch`.
    pub(crate) fn stamped(
        batch: &RecordBatch<'_>,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
    ) -> Self {
        Self { base_offset, leader_epoch, ..Self::of(batch) }
    }

    /// The header of a whole batch.
    pub(crate) fn of(batch: &RecordBatch<'_>) -> Self {
        Self {
            base_offset: batch.base_offset(),
            length: i32::try_from(batch.len() - LOG_OVERHEAD).unwrap_or(i32::MAX),
            leader_epoch: batch.leader_epoch(),
            magic: MAGIC,
            attributes: batch.attributes(),
            last_offset_delta: batch.last_offset_delta(),
            base_timestamp: batch.base_timestamp(),
            max_timestamp: batch.max_timestamp(),
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            base_sequence: batch.base_sequence(),
        }
    }

    fn from_bytes(bytes: &[u8; HEADER_LENGTH]) -> Self {
        let mut bytes = bytes.as_slice();
        let (base_offset, length) = (Offset(bytes.get_i64()), bytes.get_i32());
        let (leader_epoch, magic) = (LeaderEpoch(bytes.get_i32()), bytes.get_i8());
        let _crc = bytes.get_u32();
        Self {
            base_offset,
            length,
            leader_epoch,
            magic,
            attributes: bytes.get_i16(),
            last_offset_delta: bytes.get_i32(),
            base_timestamp: Timestamp(bytes.get_i64()),
            max_timestamp: Timestamp(bytes.get_i64()),
            producer_id: ProducerId(bytes.get_i64()),
            producer_epoch: ProducerEpoch(bytes.get_i16()),
            base_sequence: bytes.get_i32(),
        }
    }

    /// Size of the whole batch in bytes; `None` if the length field cannot be true.
    pub(crate) fn size(&self) -> Option<usize> {
        let size = usize::try_from(self.length).ok()?.checked_add(LOG_OVERHEAD)?;
        (size >= HEADER_LENGTH).then_some(size)
    }

    /// Whether the fields that place the batch in a log make sense: format, length and offsets.
    pub(crate) fn is_plausible(&self) -> bool {
        self.magic == MAGIC
            && self.size().is_some()
            && self.base_offset.0 >= 0
            && self.last_offset_delta >= 0
            && self.last_offset().0 < i64::MAX
    }

    pub(crate) fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    pub(crate) fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    pub(crate) fn has_producer(&self) -> bool {
        self.producer_id.0 >= 0
    }

    /// Sequence number of the last record; 0 follows `i32::MAX`.
    pub(crate) fn last_sequence(&self) -> i32 {
        increment_sequence(self.base_sequence.max(0), self.last_offset_delta.max(0))
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }
}
