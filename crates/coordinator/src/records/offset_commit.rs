//! OffsetCommitKey and OffsetCommitValue.

use bytes::Bytes;
use kafka_wire_core::{BufferTarget, DecodeError, Decoder, EncodeError, Encoder};
use ottla_protocol::{LeaderEpoch, Offset, StrBytes, Timestamp};

use super::{RecordError, decoder};

const KIND: &str = "OffsetCommitValue";

/// Which group's offset of which partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetCommitKey {
    /// The group.
    pub group: StrBytes,
    /// Name of the topic.
    pub topic: StrBytes,
    /// Number of the partition.
    pub partition: i32,
}

/// What a group committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitValue {
    /// The offset to consume next.
    pub offset: Offset,
    /// The leader epoch of the last record consumed (KIP-320), or [`LeaderEpoch::NONE`].
    pub leader_epoch: LeaderEpoch,
    /// What the client wanted to remember with it.
    pub metadata: StrBytes,
    /// When it was committed.
    pub commit_timestamp: Timestamp,
    /// When it expires if the client said so (OffsetCommit 2 to 4); otherwise `offsets.retention.minutes` decides.
    pub expire_timestamp: Option<Timestamp>,
}

impl OffsetCommitKey {
    pub(super) fn encode(&self, out: &mut Encoder<BufferTarget<'_>>) -> Result<(), EncodeError> {
        out.write_i16(1)?;
        out.write_string(&self.group)?;
        out.write_string(&self.topic)?;
        out.write_i32(self.partition)
    }

    pub(super) fn decode(mut input: Decoder) -> Result<Self, DecodeError> {
        let key = Self {
            group: input.read_string()?,
            topic: input.read_string()?,
            partition: input.read_i32()?,
        };
        input.finish()?;
        Ok(key)
    }
}

impl OffsetCommitValue {
    /// Version 3, or 1 if an expiry was asked for: no newer version has a place for it.
    pub(super) fn encode(&self, out: &mut Encoder<BufferTarget<'_>>) -> Result<(), EncodeError> {
        out.write_i16(if self.expire_timestamp.is_some() { 1 } else { 3 })?;
        out.write_i64(self.offset.0)?;
        if self.expire_timestamp.is_none() {
            out.write_i32(self.leader_epoch.0)?;
        }
        out.write_string(&self.metadata)?;
        out.write_i64(self.commit_timestamp.0)?;
        match self.expire_timestamp {
            Some(expire) => out.write_i64(expire.0),
            None => Ok(()),
        }
    }

    pub(super) fn decode(input: &Bytes) -> Result<Self, RecordError> {
        let malformed = |error| RecordError::Value { kind: KIND, error };
        let mut input = decoder(input).map_err(malformed)?;
        let version = input.read_i16().map_err(malformed)?;
        if !(0..=4).contains(&version) {
            return Err(RecordError::ValueVersion { kind: KIND, version });
        }
        let value = Self::decode_version(&mut input, version).map_err(malformed)?;
        input.finish().map_err(malformed)?;
        Ok(value)
    }

    fn decode_version(input: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        let offset = Offset(input.read_i64()?);
        let leader_epoch =
            if version >= 3 { LeaderEpoch(input.read_i32()?) } else { LeaderEpoch::NONE };
        let metadata =
            if version >= 4 { input.read_compact_string()? } else { input.read_string()? };
        let commit_timestamp = Timestamp(input.read_i64()?);
        let expire_timestamp = if version == 1 {
            Some(Timestamp(input.read_i64()?)).filter(|expire| *expire != Timestamp::NONE)
        } else {
            None
        };
        if version >= 4 {
            input.read_tagged_fields()?;
        }
        Ok(Self { offset, leader_epoch, metadata, commit_timestamp, expire_timestamp })
    }
}
