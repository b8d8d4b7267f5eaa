//! What a leader changes in a batch: offset, epoch, and with `LogAppendTime` the timestamp.

use super::{
    ATTRIBUTES_AT, BASE_SEQUENCE_AT, CRC_AT, HEADER_LENGTH, LEADER_EPOCH_AT, LOG_APPEND_TIME_BIT,
    MAX_TIMESTAMP_AT, PREFIX_LENGTH, PRODUCER_EPOCH_AT, PRODUCER_ID_AT, RecordBatch,
    RecordBatchError, field,
};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

impl RecordBatch<'_> {
    /// The first bytes of the batch with another offset and epoch. Written in front of the rest,
    /// from byte [`PREFIX_LENGTH`] on, they make the patched batch without a copy of its records.
    pub fn patched_prefix(
        &self,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
    ) -> [u8; PREFIX_LENGTH] {
        let mut prefix = field::<PREFIX_LENGTH, HEADER_LENGTH>(self.header, 0);
        put(&mut prefix, 0, base_offset.0.to_be_bytes());
        put(&mut prefix, LEADER_EPOCH_AT, leader_epoch.0.to_be_bytes());
        prefix
    }

    /// The whole header with another offset and epoch and, for `LogAppendTime`, the time of the
    /// append and the checksum that follows from it. Written in front of
    /// [`RecordBatch::payload`], it makes the patched batch. Reads the whole batch.
    pub fn patched_header(
        &self,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
        log_append_time: Timestamp,
    ) -> [u8; HEADER_LENGTH] {
        let mut header = *self.header;
        put(&mut header, 0, base_offset.0.to_be_bytes());
        put(&mut header, LEADER_EPOCH_AT, leader_epoch.0.to_be_bytes());
        put_log_append_time(&mut header, log_append_time);
        let crc = crc(&header, self.payload());
        put(&mut header, CRC_AT, crc.to_be_bytes());
        header
    }
}

/// One batch, whole and of format 2, that may be changed where it is.
#[derive(Debug)]
pub struct RecordBatchMut<'a> {
    header: &'a mut [u8; HEADER_LENGTH],
    payload: &'a mut [u8],
}

impl<'a> RecordBatchMut<'a> {
    /// The batch at the start of `bytes`, which may go on behind it.
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, RecordBatchError> {
        let length = RecordBatch::parse(bytes)?.len();
        let truncated =
            RecordBatchError::Truncated { position: 0, needed: length, available: length };
        let (header, payload) = bytes[..length].split_first_chunk_mut().ok_or(truncated)?;
        Ok(Self { header, payload })
    }

    /// Sets the base offset, and with it the offset of every record. The checksum stays.
    pub fn set_base_offset(&mut self, base_offset: Offset) {
        put(self.header, 0, base_offset.0.to_be_bytes());
    }

    /// Sets the offset of the last record, and with it that of every other. The checksum stays.
    pub fn set_last_offset(&mut self, last_offset: Offset) {
        let delta = i32::from_be_bytes(field(self.header, super::LAST_OFFSET_DELTA_AT));
        self.set_base_offset(Offset(last_offset.0.saturating_sub(i64::from(delta))));
    }

    /// Sets the leader epoch. The checksum stays.
    pub fn set_leader_epoch(&mut self, leader_epoch: LeaderEpoch) {
        put(self.header, LEADER_EPOCH_AT, leader_epoch.0.to_be_bytes());
    }

    /// Says who sends the batch, and the sequence number of its first record, and gives it its new
    /// checksum. What a producer does whose epoch has changed (KIP-360).
    pub fn set_producer(&mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) {
        put(self.header, PRODUCER_ID_AT, id.0.to_be_bytes());
        put(self.header, PRODUCER_EPOCH_AT, epoch.0.to_be_bytes());
        put(self.header, BASE_SEQUENCE_AT, base_sequence.to_be_bytes());
        let crc = crc(self.header, self.payload);
        put(self.header, CRC_AT, crc.to_be_bytes());
    }

    /// Gives all records the time of the append, and the batch its new checksum.
    pub fn set_log_append_time(&mut self, log_append_time: Timestamp) {
        put_log_append_time(self.header, log_append_time);
        let crc = crc(self.header, self.payload);
        put(self.header, CRC_AT, crc.to_be_bytes());
    }
}

fn put_log_append_time(header: &mut [u8; HEADER_LENGTH], time: Timestamp) {
    let attributes = i16::from_be_bytes(field(header, ATTRIBUTES_AT)) | LOG_APPEND_TIME_BIT;
    put(header, ATTRIBUTES_AT, attributes.to_be_bytes());
    put(header, MAX_TIMESTAMP_AT, time.0.to_be_bytes());
}

/// The checksum of a batch in two pieces.
pub(super) fn crc(header: &[u8; HEADER_LENGTH], payload: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&header[ATTRIBUTES_AT..]);
    digest.update(payload);
    digest.finalize() as u32
}

/// Puts `bytes` at `at`, both known at compile time to lie inside the header.
#[inline]
pub(super) fn put<const N: usize, const LENGTH: usize>(
    header: &mut [u8; LENGTH],
    at: usize,
    bytes: [u8; N],
) {
    header[at..at + N].copy_from_slice(&bytes);
}
