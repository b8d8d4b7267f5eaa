//! GroupMetadataKey and GroupMetadataValue.

use bytes::Bytes;
use kafka_wire_core::{BufferTarget, DecodeError, Decoder, EncodeError, Encoder};
use ottla_protocol::{StrBytes, Timestamp};

use super::{RecordError, decoder};

const KIND: &str = "GroupMetadataValue";

/// Which group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupMetadataKey {
    /// The group.
    pub group: StrBytes,
}

/// One generation of a classic group: who is in it, and what each member was assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadataValue {
    /// `consumer`, `connect`, …; empty for a group that never had a member.
    pub protocol_type: StrBytes,
    /// The generation, counted from 0.
    pub generation: i32,
    /// The assignment protocol the members agreed on; `None` without members.
    pub protocol: Option<StrBytes>,
    /// Member id of the leader; `None` without members.
    pub leader: Option<StrBytes>,
    /// When the group entered its state, or [`Timestamp::NONE`].
    pub current_state_timestamp: Timestamp,
    /// The members.
    pub members: Vec<MemberMetadata>,
}

/// One member of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    /// Id the coordinator gave it.
    pub member_id: StrBytes,
    /// `group.instance.id` of a static member (KIP-345).
    pub group_instance_id: Option<StrBytes>,
    /// `client.id` of its connection.
    pub client_id: StrBytes,
    /// Address it connected from, as Java prints it: `/127.0.0.1`.
    pub client_host: StrBytes,
    /// Milliseconds it may take to rejoin.
    pub rebalance_timeout_ms: i32,
    /// Milliseconds without a heartbeat after which it is dead.
    pub session_timeout_ms: i32,
    /// Its metadata for the protocol chosen.
    pub subscription: Bytes,
    /// What the leader assigned to it.
    pub assignment: Bytes,
}

impl GroupMetadataKey {
    pub(super) fn encode(&self, out: &mut Encoder<BufferTarget<'_>>) -> Result<(), EncodeError> {
        out.write_i16(2)?;
        out.write_string(&self.group)
    }

    pub(super) fn decode(mut input: Decoder) -> Result<Self, DecodeError> {
        let key = Self { group: input.read_string()? };
        input.finish()?;
        Ok(key)
    }
}

impl GroupMetadataValue {
    /// Version 3.
    pub(super) fn encode(&self, out: &mut Encoder<BufferTarget<'_>>) -> Result<(), EncodeError> {
        out.write_i16(3)?;
        out.write_string(&self.protocol_type)?;
        out.write_i32(self.generation)?;
        out.write_nullable_string(self.protocol.as_ref())?;
        out.write_nullable_string(self.leader.as_ref())?;
        out.write_i64(self.current_state_timestamp.0)?;
        out.write_array_len(self.members.len())?;
        self.members.iter().try_for_each(|member| member.encode(out))
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
        let value = Self {
            protocol_type: read_string(input, version)?,
            generation: input.read_i32()?,
            protocol: read_nullable_string(input, version)?,
            leader: read_nullable_string(input, version)?,
            current_state_timestamp: if version >= 2 {
                Timestamp(input.read_i64()?)
            } else {
                Timestamp::NONE
            },
            members: {
                let count = if version >= 4 {
                    input.read_compact_array_len()?
                } else {
                    input.read_array_len()?
                };
                input.read_vec(count, |input| MemberMetadata::decode(input, version))?
            },
        };
        if version >= 4 {
            input.read_tagged_fields()?;
        }
        Ok(value)
    }
}

impl MemberMetadata {
    fn encode(&self, out: &mut Encoder<BufferTarget<'_>>) -> Result<(), EncodeError> {
        out.write_string(&self.member_id)?;
        out.write_nullable_string(self.group_instance_id.as_ref())?;
        out.write_string(&self.client_id)?;
        out.write_string(&self.client_host)?;
        out.write_i32(self.rebalance_timeout_ms)?;
        out.write_i32(self.session_timeout_ms)?;
        out.write_bytes(&self.subscription)?;
        out.write_bytes(&self.assignment)
    }

    fn decode(input: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        let member_id = read_string(input, version)?;
        let group_instance_id =
            if version >= 3 { read_nullable_string(input, version)? } else { None };
        let client_id = read_string(input, version)?;
        let client_host = read_string(input, version)?;
        let rebalance_timeout = if version >= 1 { input.read_i32()? } else { -1 };
        let session_timeout_ms = input.read_i32()?;
        let member = Self {
            member_id,
            group_instance_id,
            client_id,
            client_host,
            // Version 0 had one timeout for both.
            rebalance_timeout_ms: if rebalance_timeout == -1 {
                session_timeout_ms
            } else {
                rebalance_timeout
            },
            session_timeout_ms,
            subscription: read_bytes(input, version)?,
            assignment: read_bytes(input, version)?,
        };
        if version >= 4 {
            input.read_tagged_fields()?;
        }
        Ok(member)
    }
}

fn read_string(input: &mut Decoder, version: i16) -> Result<StrBytes, DecodeError> {
    if version >= 4 { input.read_compact_string() } else { input.read_string() }
}

fn read_nullable_string(
    input: &mut Decoder,
    version: i16,
) -> Result<Option<StrBytes>, DecodeError> {
    if version >= 4 { input.read_compact_nullable_string() } else { input.read_nullable_string() }
}

fn read_bytes(input: &mut Decoder, version: i16) -> Result<Bytes, DecodeError> {
    if version >= 4 { input.read_compact_bytes() } else { input.read_bytes() }
}
