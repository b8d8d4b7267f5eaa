//! The records of `__consumer_offsets`, byte for byte as Kafka writes them.
//!
//! A key and a value each begin with a big-endian `i16` version; the key's version also tells the
//! kind of record. A null value is a tombstone. Written are the versions a Kafka 4.1 broker writes
//! (KIP-915 explains why it does not use newer ones); read is every version it reads.
//!
//! ```text
//! key 0, 1  OffsetCommitKey    group: string, topic: string, partition: i32
//! value 3   OffsetCommitValue  offset: i64, leaderEpoch: i32, metadata: string, commitTimestamp: i64
//! value 1   OffsetCommitValue  offset: i64, metadata: string, commitTimestamp: i64, expireTimestamp: i64
//! key 2     GroupMetadataKey   group: string
//! value 3   GroupMetadataValue protocolType: string, generation: i32, protocol: string?, leader: string?,
//!                              currentStateTimestamp: i64, members: [MemberMetadata]
//!           MemberMetadata     memberId: string, groupInstanceId: string?, clientId: string, clientHost: string,
//!                              rebalanceTimeout: i32, sessionTimeout: i32, subscription: bytes, assignment: bytes
//! ```
//!
//! Key versions from 3 on belong to the newer group protocols (KIP-848, KIP-932, KIP-1071) and are skipped.

mod group_metadata;
mod offset_commit;

use bytes::{Bytes, BytesMut};
use kafka_wire_core::{DecodeError, DecodeLimits, Decoder, EncodeError, Encoder};
use thiserror::Error;

pub use group_metadata::{GroupMetadataKey, GroupMetadataValue, MemberMetadata};
pub use offset_commit::{OffsetCommitKey, OffsetCommitValue};

/// One record of `__consumer_offsets`. A value of `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorRecord {
    /// A group committed an offset for a partition, or the offset is gone.
    OffsetCommit {
        /// Which group and which partition.
        key: OffsetCommitKey,
        /// What it committed.
        value: Option<OffsetCommitValue>,
    },
    /// A classic group reached a new generation, or the group is gone.
    GroupMetadata {
        /// Which group.
        key: GroupMetadataKey,
        /// Its members and their assignments.
        value: Option<GroupMetadataValue>,
    },
}

/// A record's key and value as they stand in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedRecord {
    /// The key; never null, for the log is compacted by it.
    pub key: Bytes,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// Why a record cannot be written or read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// The record has no key, which a compacted topic does not allow.
    #[error("a record of __consumer_offsets has no key")]
    NoKey,
    /// The key is cut short, has bytes too many or a malformed field.
    #[error("malformed record key: {0}")]
    Key(#[source] DecodeError),
    /// The value is cut short, has bytes too many or a malformed field.
    #[error("malformed {kind} value: {error}")]
    Value {
        /// Kafka's name of the value.
        kind: &'static str,
        /// What is wrong with it.
        #[source]
        error: DecodeError,
    },
    /// The value has a version this broker does not know.
    #[error("{kind} value has version {version}, known are 0 to 4")]
    ValueVersion {
        /// Kafka's name of the value.
        kind: &'static str,
        /// The version it claims.
        version: i16,
    },
    /// A field is too long for the record format.
    #[error("a field does not fit into the record format: {0}")]
    TooLong(#[source] EncodeError),
}

impl From<EncodeError> for RecordError {
    fn from(error: EncodeError) -> Self {
        Self::TooLong(error)
    }
}

impl CoordinatorRecord {
    /// The id of the group the record belongs to.
    pub fn group_id(&self) -> &ottla_protocol::StrBytes {
        match self {
            Self::OffsetCommit { key, .. } => &key.group,
            Self::GroupMetadata { key, .. } => &key.group,
        }
    }

    /// The bytes to append. Fails only if a string is longer than 32767 bytes, which deciders refuse.
    pub fn encode(&self) -> Result<EncodedRecord, RecordError> {
        let mut key_bytes = BytesMut::new();
        let mut value_bytes = BytesMut::new();
        let value_present = match self {
            Self::OffsetCommit { key, value } => {
                key.encode(&mut Encoder::new(&mut key_bytes))?;
                let mut encoder = Encoder::new(&mut value_bytes);
                value.as_ref().map(|value| value.encode(&mut encoder)).transpose()?.is_some()
            }
            Self::GroupMetadata { key, value } => {
                key.encode(&mut Encoder::new(&mut key_bytes))?;
                let mut encoder = Encoder::new(&mut value_bytes);
                value.as_ref().map(|value| value.encode(&mut encoder)).transpose()?.is_some()
            }
        };
        Ok(EncodedRecord {
            key: key_bytes.freeze(),
            value: value_present.then(|| value_bytes.freeze()),
        })
    }

    /// Reads a record of the log. `Ok(None)` is a record of a kind this broker does not serve.
    pub fn decode(key: Option<&Bytes>, value: Option<&Bytes>) -> Result<Option<Self>, RecordError> {
        let key = key.ok_or(RecordError::NoKey)?;
        let mut key = decoder(key).map_err(RecordError::Key)?;
        let version = key.read_i16().map_err(RecordError::Key)?;
        let record = match version {
            0 | 1 => Self::OffsetCommit {
                key: OffsetCommitKey::decode(key).map_err(RecordError::Key)?,
                value: value.map(OffsetCommitValue::decode).transpose()?,
            },
            2 => Self::GroupMetadata {
                key: GroupMetadataKey::decode(key).map_err(RecordError::Key)?,
                value: value.map(GroupMetadataValue::decode).transpose()?,
            },
            _ => return Ok(None),
        };
        Ok(Some(record))
    }
}

/// A decoder of one key or value; its budgets lie far above what one record may hold.
fn decoder(input: &Bytes) -> Result<Decoder, DecodeError> {
    Decoder::new(input.clone(), DecodeLimits::default())
}

/// The partition of `__consumer_offsets` that holds a group, of `partitions` partitions.
///
/// Java's `String.hashCode` over UTF-16 units without its sign bit, as Kafka's `Utils.abs` does it.
/// A topic has at least one partition; `partitions` below one is taken as one.
pub fn partition_for(group_id: &str, partitions: i32) -> i32 {
    let hash = group_id
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX) % partitions.max(1)
}

#[cfg(test)]
mod tests;
