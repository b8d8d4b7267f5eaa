//! How Produce and Fetch name a topic.

use std::fmt;

use kafka_wire_core::{EncodeError, StrBytes};

use crate::TopicId;
use crate::uuid::format_uuid;
use crate::wire::{Reader, Writer};
use kafka_wire_core::{ApiVersion, DecodeError};

/// A topic as a request names it: by name, or by id from Produce 13 and Fetch 13 on (KIP-516).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicRef {
    /// The topic's name.
    Name(StrBytes),
    /// The topic's id.
    Id(TopicId),
}

impl TopicRef {
    pub(crate) fn read(reader: &mut Reader<'_>, by_id: bool) -> Result<Self, DecodeError> {
        if by_id { reader.uuid().map(Self::Id) } else { reader.string().map(Self::Name) }
    }

    /// Fails if `version`, which names topics by id or not, cannot carry this one.
    pub(crate) fn write(
        &self,
        writer: &mut Writer,
        message: &'static str,
        (version, by_id): (i16, bool),
    ) -> Result<(), EncodeError> {
        let not_representable = |field| EncodeError::FieldNotRepresentable {
            message,
            field,
            version: ApiVersion::new(version),
        };
        match self {
            Self::Name(name) if !by_id => writer.string(name),
            Self::Id(id) if by_id => {
                writer.uuid(*id);
                Ok(())
            }
            Self::Name(_) => Err(not_representable("topic name")),
            Self::Id(_) => Err(not_representable("topic id")),
        }
    }
}

impl fmt::Display for TopicRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => f.write_str(&format_uuid(*id)),
        }
    }
}
