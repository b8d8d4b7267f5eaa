//! What a broker and the controller add to an Envelope (KIP-590).

use bytes::Bytes;
use kafka_wire_core::{TaggedField, TaggedFields};

use crate::Offset;
use crate::messages::EnvelopeResponse;

/// A tag that Kafka does not use, of an optional field that everybody else skips (KIP-482).
const METADATA_OFFSET: u32 = 10_000;

/// Says how far the broker that forwarded a request has to have followed the metadata log before it answers its client, so
/// that the client finds there what it has changed.
pub fn set_metadata_offset(response: &mut EnvelopeResponse, offset: Offset) {
    let data = Bytes::copy_from_slice(&offset.0.to_be_bytes());
    let field = TaggedField::new(METADATA_OFFSET, data);
    response.unknown_tagged_fields = TaggedFields::from_sorted(vec![field]).unwrap_or_default();
}

/// What [`set_metadata_offset`] said, if the controller says such things.
pub fn metadata_offset(response: &EnvelopeResponse) -> Option<Offset> {
    let mut fields = response.unknown_tagged_fields.iter();
    let field = fields.find(|field| field.tag() == METADATA_OFFSET)?;
    let bytes = <[u8; 8]>::try_from(&**field.data()).ok()?;
    Some(Offset(i64::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiKey, Response, decode_response, decode_response_header};

    #[test]
    fn the_offset_survives_the_wire() {
        let mut response = EnvelopeResponse::default();
        assert_eq!(metadata_offset(&response), None);
        set_metadata_offset(&mut response, Offset(4711));
        let frame = Response::<Bytes>::from(response).encode(7, 0).unwrap().into_bytes();
        let (id, body) = decode_response_header(&frame.slice(4..), ApiKey::Envelope, 0).unwrap();
        let decoded: EnvelopeResponse = decode_response(body, 0).unwrap();
        assert_eq!((id, metadata_offset(&decoded)), (7, Some(Offset(4711))));
    }
}
