//! `<offset>.snapshot`: the producers of a log up to an offset, in Kafka's format.
//!
//! ```text
//! version i16 = 1 | crc32c u32 of the rest | count i32 | count times:
//!   producer id i64, epoch i16, last sequence i32, last offset i64, offset delta i32,
//!   timestamp i64, coordinator epoch i32, first offset of the open transaction i64 (-1: none)
//! ```

use bytes::{Buf, BufMut};
use thiserror::Error;

use super::{BatchMetadata, ProducerStateEntry, ProducerStates};
use crc_fast::crc32_iscsi;

const VERSION: i16 = 1;
const HEADER_LEN: usize = 6;
const ENTRY_LEN: usize = 46;
const NO_SEQUENCE: i32 = -1;
const NO_OFFSET: i64 = -1;

/// A snapshot that cannot be used; the log is replayed from an older one.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum SnapshotError {
    #[error("version {0} is not known")]
    UnknownVersion(i16),
    #[error("the checksum does not match")]
    ChecksumMismatch,
    #[error("the file is cut short or has bytes left over")]
    WrongLength,
}

impl ProducerStates {
    /// The snapshot's bytes. The caller writes them as `<log end offset>.snapshot`.
    pub(crate) fn to_snapshot(&self) -> Vec<u8> {
        let mut entries = Vec::with_capacity(4 + self.producers.len() * ENTRY_LEN);
        entries.put_i32(i32::try_from(self.producers.len()).unwrap_or(i32::MAX));
        for (producer_id, entry) in &self.producers {
            let last = entry.batches().last();
            entries.put_i64(*producer_id);
            entries.put_i16(entry.epoch);
            entries.put_i32(last.map_or(NO_SEQUENCE, |batch| batch.last_sequence));
            entries.put_i64(last.map_or(NO_OFFSET, |batch| batch.last_offset));
            entries.put_i32(last.map_or(0, |batch| batch.offset_delta));
            entries.put_i64(entry.last_timestamp);
            entries.put_i32(entry.coordinator_epoch);
            entries.put_i64(entry.current_txn_first_offset.unwrap_or(NO_OFFSET));
        }
        let mut bytes = Vec::with_capacity(HEADER_LEN + entries.len());
        bytes.put_i16(VERSION);
        bytes.put_u32(crc32_iscsi(&entries));
        bytes.extend_from_slice(&entries);
        bytes
    }

    /// Reads a snapshot.
    pub(crate) fn from_snapshot(mut bytes: &[u8]) -> Result<Self, SnapshotError> {
        if bytes.len() < HEADER_LEN + 4 {
            return Err(SnapshotError::WrongLength);
        }
        let version = bytes.get_i16();
        if version != VERSION {
            return Err(SnapshotError::UnknownVersion(version));
        }
        if bytes.get_u32() != crc32_iscsi(bytes) {
            return Err(SnapshotError::ChecksumMismatch);
        }
        let count = usize::try_from(bytes.get_i32()).map_err(|_| SnapshotError::WrongLength)?;
        if count.checked_mul(ENTRY_LEN) != Some(bytes.len()) {
            return Err(SnapshotError::WrongLength);
        }
        let mut states = Self::default();
        for _ in 0..count {
            states.read_entry(&mut bytes);
        }
        Ok(states)
    }

    /// Reads one entry; the caller made sure that it is whole.
    fn read_entry(&mut self, bytes: &mut &[u8]) {
        let producer_id = bytes.get_i64();
        let mut entry = ProducerStateEntry::new(bytes.get_i16());
        let batch = BatchMetadata {
            last_sequence: bytes.get_i32(),
            last_offset: bytes.get_i64(),
            offset_delta: bytes.get_i32(),
            timestamp: bytes.get_i64(),
        };
        entry.last_timestamp = batch.timestamp;
        if batch.last_offset >= 0 && batch.last_sequence >= 0 && batch.offset_delta >= 0 {
            entry.push(batch);
        }
        entry.coordinator_epoch = bytes.get_i32();
        let first = bytes.get_i64();
        if first != NO_OFFSET {
            entry.current_txn_first_offset = Some(first);
            self.ongoing.insert(first, producer_id);
        }
        self.producers.insert(producer_id, entry);
    }

    /// Whether nothing is known of any producer.
    pub(crate) fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }
}
