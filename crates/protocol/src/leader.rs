//! What Produce and Fetch tell a client about a partition's leader (KIP-951).

use bytes::Bytes;
use kafka_wire_core::{DecodeError, EncodeError, StrBytes};

use crate::wire::{Reader, Writer};
use crate::{BrokerId, LeaderEpoch};

/// The leader of a partition, for a client that asked the wrong broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderIdAndEpoch {
    /// The leader, or -1 if unknown.
    pub leader_id: BrokerId,
    /// The leader's epoch, or -1 if unknown.
    pub leader_epoch: LeaderEpoch,
}

impl LeaderIdAndEpoch {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let leader_id = BrokerId(reader.i32()?);
        let leader_epoch = LeaderEpoch(reader.i32()?);
        reader.skip_tagged_fields()?;
        Ok(Self { leader_id, leader_epoch })
    }

    /// The value of the tagged field that carries it.
    pub(crate) fn to_tagged_field(self) -> Bytes {
        let mut writer = Writer::new(16, true);
        writer.i32(self.leader_id.0);
        writer.i32(self.leader_epoch.0);
        writer.no_tagged_fields();
        writer.into_bytes()
    }
}

/// Where a leader named in the same response can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// The broker.
    pub node_id: BrokerId,
    /// Its host name on the listener the request came in on.
    pub host: StrBytes,
    /// Its port there.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<StrBytes>,
}

impl NodeEndpoint {
    /// An id, two strings, a port, tagged fields.
    const MIN_SIZE: usize = 4 + 1 + 4 + 1 + 1;

    pub(crate) fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        reader.array(Self::MIN_SIZE, |reader| {
            let endpoint = Self {
                node_id: BrokerId(reader.i32()?),
                host: reader.string()?,
                port: reader.i32()?,
                rack: reader.nullable_string()?,
            };
            reader.skip_tagged_fields()?;
            Ok(endpoint)
        })
    }

    /// The value of the tagged field that carries `endpoints`.
    pub(crate) fn to_tagged_field(endpoints: &[Self]) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::new(64 * endpoints.len(), true);
        writer.array_length(endpoints.len())?;
        for endpoint in endpoints {
            writer.i32(endpoint.node_id.0);
            writer.string(&endpoint.host)?;
            writer.i32(endpoint.port);
            writer.nullable_string(endpoint.rack.as_ref())?;
            writer.no_tagged_fields();
        }
        Ok(writer.into_bytes())
    }
}
