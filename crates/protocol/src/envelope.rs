//! What a broker and the controller add to an Envelope (KIP-590).

use std::time::Duration;

use bytes::Bytes;
use kafka_wire_core::{TaggedField, TaggedFields};

use crate::Offset;
use crate::messages::EnvelopeResponse;

/// Tags that Kafka does not use, of optional fields that everybody else skips (KIP-482).
const METADATA_OFFSET: u32 = 10_000;
const THROTTLE_TIME_MS: u32 = 10_001;

/// What the controller says of an answer to the broker that passes it on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// How far the broker has to have followed the metadata log before it answers its client, so that the client finds there
    /// what it has changed; `None` if the controller does not say such things.
    pub metadata_offset: Option<Offset>,
    /// For how long the client has to be silent (KIP-219), in whole milliseconds: the answer says so too, but is not opened.
    pub throttle: Duration,
}

impl Note {
    /// Writes it beside the answer.
    pub fn write_to(self, response: &mut EnvelopeResponse) {
        let field =
            |tag, number: i64| TaggedField::new(tag, Bytes::copy_from_slice(&number.to_be_bytes()));
        let millis = i64::try_from(self.throttle.as_millis()).unwrap_or(i64::MAX);
        let offset = self.metadata_offset.map(|offset| field(METADATA_OFFSET, offset.0));
        let throttle = (millis > 0).then(|| field(THROTTLE_TIME_MS, millis));
        let fields = offset.into_iter().chain(throttle).collect();
        response.unknown_tagged_fields = TaggedFields::from_sorted(fields).unwrap_or_default();
    }

    /// Reads what is written beside an answer.
    pub fn of(response: &EnvelopeResponse) -> Self {
        let number = |tag| {
            let field = response.unknown_tagged_fields.iter().find(|field| field.tag() == tag)?;
            Some(i64::from_be_bytes(<[u8; 8]>::try_from(&**field.data()).ok()?))
        };
        let millis = number(THROTTLE_TIME_MS).and_then(|millis| u64::try_from(millis).ok());
        Self {
            metadata_offset: number(METADATA_OFFSET).map(Offset),
            throttle: Duration::from_millis(millis.unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiKey, Response, decode_response, decode_response_header};

    #[test]
    fn a_note_survives_the_wire() {
        let mut response = EnvelopeResponse::default();
        assert_eq!(Note::of(&response), Note::default());
        for millis in [0, 250] {
            let throttle = Duration::from_millis(millis);
            let note = Note { metadata_offset: Some(Offset(4711)), throttle };
            note.write_to(&mut response);
            let frame =
                Response::<Bytes>::from(response.clone()).encode(7, 0).unwrap().into_bytes();
            let body = frame.slice(4..);
            let (id, body) = decode_response_header(&body, ApiKey::Envelope, 0).unwrap();
            let decoded: EnvelopeResponse = decode_response(body, 0).unwrap();
            assert_eq!((id, Note::of(&decoded)), (7, note));
        }
    }
}
