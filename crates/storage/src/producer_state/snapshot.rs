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
use ottla_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp};

const VERSION: i16 = 1;
const HEADER_LEN: usize = 6;
const ENTRY_LEN: usize = 46;
const NO_SEQUENCE: i32 = -1;
const NO_OFFSET: i64 = -1;

/// A snapshot that cannot be used; the log is replayed from an older one.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// Written by a newer release, or damaged.
    #[error("version {0} is not known")]
    UnknownVersion(i16),
    /// Damaged.
    #[error("the checksum does not match")]
    ChecksumMismatch,
    /// Torn.
    #[error("the file is cut short or has bytes left over")]
    WrongLength,
}

/// What a snapshot says of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// Sequence number of its last record; -1 if only a transaction's end is known of it.
    pub last_sequence: i32,
    /// Offset of its last record, or -1.
    pub last_offset: Offset,
    /// Offsets of its last batch, less one.
    pub offset_delta: i32,
    /// Of its last batch.
    pub last_timestamp: Timestamp,
    /// Of the last transaction's end, or -1.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins.
    pub current_txn_first_offset: Option<Offset>,
}

impl SnapshotEntry {
    fn write(&self, out: &mut Vec<u8>) {
        out.put_i64(self.producer_id.0);
        out.put_i16(self.epoch.0);
        out.put_i32(self.last_sequence);
        out.put_i64(self.last_offset.0);
        out.put_i32(self.offset_delta);
        out.put_i64(self.last_timestamp.0);
        out.put_i32(self.coordinator_epoch);
        out.put_i64(self.current_txn_first_offset.map_or(NO_OFFSET, |first| first.0));
    }

    /// Reads one entry from exactly [`ENTRY_LEN`] bytes.
    fn read(mut bytes: &[u8]) -> Self {
        Self {
            producer_id: ProducerId(bytes.get_i64()),
            epoch: ProducerEpoch(bytes.get_i16()),
            last_sequence: bytes.get_i32(),
            last_offset: Offset(bytes.get_i64()),
            offset_delta: bytes.get_i32(),
            last_timestamp: Timestamp(bytes.get_i64()),
            coordinator_epoch: bytes.get_i32(),
            current_txn_first_offset: Some(Offset(bytes.get_i64())).filter(|first| first.0 >= 0),
        }
    }
}

/// Checks a snapshot and reads its entries.
pub fn snapshot_entries(
    mut bytes: &[u8],
) -> Result<impl ExactSizeIterator<Item = SnapshotEntry>, SnapshotError> {
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
    Ok(bytes.chunks_exact(ENTRY_LEN).map(SnapshotEntry::read))
}

impl ProducerStates {
    /// What a snapshot says of each producer, by id.
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = SnapshotEntry> {
        self.producers.iter().map(|(producer_id, entry)| {
            let last = entry.batches().last();
            SnapshotEntry {
                producer_id: ProducerId(*producer_id),
                epoch: ProducerEpoch(entry.epoch),
                last_sequence: last.map_or(NO_SEQUENCE, |batch| batch.last_sequence),
                last_offset: Offset(last.map_or(NO_OFFSET, |batch| batch.last_offset)),
                offset_delta: last.map_or(0, |batch| batch.offset_delta),
                last_timestamp: Timestamp(entry.last_timestamp),
                coordinator_epoch: entry.coordinator_epoch,
                current_txn_first_offset: entry.current_txn_first_offset.map(Offset),
            }
        })
    }

    /// The snapshot's bytes. The caller writes them as `<log end offset>.snapshot`.
    pub(crate) fn to_snapshot(&self) -> Vec<u8> {
        let mut entries = Vec::with_capacity(4 + self.producers.len() * ENTRY_LEN);
        entries.put_i32(i32::try_from(self.producers.len()).unwrap_or(i32::MAX));
        for entry in self.entries() {
            entry.write(&mut entries);
        }
        let mut bytes = Vec::with_capacity(HEADER_LEN + entries.len());
        bytes.put_i16(VERSION);
        bytes.put_u32(crc32_iscsi(&entries));
        bytes.extend_from_slice(&entries);
        bytes
    }

    /// Reads a snapshot.
    pub(crate) fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut states = Self::default();
        for entry in snapshot_entries(bytes)? {
            states.insert(entry);
        }
        Ok(states)
    }

    fn insert(&mut self, read: SnapshotEntry) {
        let mut entry = ProducerStateEntry::new(read.epoch.0);
        entry.last_timestamp = read.last_timestamp.0;
        if read.last_offset.0 >= 0 && read.last_sequence >= 0 && read.offset_delta >= 0 {
            entry.push(BatchMetadata {
                last_sequence: read.last_sequence,
                last_offset: read.last_offset.0,
                offset_delta: read.offset_delta,
                timestamp: read.last_timestamp.0,
            });
            entry.cut = true;
        }
        entry.coordinator_epoch = read.coordinator_epoch;
        entry.current_txn_first_offset = read.current_txn_first_offset.map(|first| first.0);
        if let Some(first) = entry.current_txn_first_offset {
            self.ongoing.insert(first, read.producer_id.0);
        }
        self.producers.insert(read.producer_id.0, entry);
    }
}
