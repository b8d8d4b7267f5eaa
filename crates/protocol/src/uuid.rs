//! The text form of ids: 22 characters of URL-safe base64 without padding.
//! Kafka: `org.apache.kafka.common.Uuid`.

use kafka_wire_core::Uuid;

/// The id of `__cluster_metadata`, the same in every cluster.
pub const METADATA_TOPIC_ID: Uuid =
    Uuid::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

const TEXT_LENGTH: usize = 22;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseUuidError {
    /// Not 22 characters.
    #[error("an id has 22 characters, not {0}")]
    Length(usize),
    /// A character outside `A-Z a-z 0-9 - _`.
    #[error("character {position} is not URL-safe base64")]
    Character {
        /// Position of the character in bytes, counted from 0.
        position: usize,
    },
    /// The four bits that 22 characters have over 128 are not zero.
    #[error("the last character says more than an id can hold")]
    Overflow,
}

/// `uuid` as Kafka writes it, for example `AAAAAAAAAAAAAAAAAAAAAQ`.
pub fn format_uuid(uuid: Uuid) -> String {
    // 132 bits: the id, then four zeros.
    let value = u128::from_be_bytes(uuid.to_bytes());
    (0..TEXT_LENGTH)
        .map(|position| {
            let bits = match (TEXT_LENGTH - 1 - position) * 6 {
                0 => value << 4,
                shift => value >> (shift - 4),
            };
            char::from(ALPHABET[(bits & 0x3f) as usize])
        })
        .collect()
}

/// The id that `text` stands for. The inverse of [`format_uuid`]; a padding of `==` is allowed.
pub fn parse_uuid(text: &str) -> Result<Uuid, ParseUuidError> {
    let text = text.strip_suffix("==").unwrap_or(text).as_bytes();
    if text.len() != TEXT_LENGTH {
        return Err(ParseUuidError::Length(text.len()));
    }
    let mut value = 0u128;
    for (position, character) in text.iter().enumerate() {
        let digit = ALPHABET
            .iter()
            .position(|letter| letter == character)
            .ok_or(ParseUuidError::Character { position })? as u128;
        if position + 1 < TEXT_LENGTH {
            value = value << 6 | digit;
        } else if digit & 0x0f != 0 {
            return Err(ParseUuidError::Overflow);
        } else {
            value = value << 2 | digit >> 4;
        }
    }
    Ok(Uuid::from_bytes(value.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_texts() {
        assert_eq!(format_uuid(Uuid::ZERO), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(format_uuid(METADATA_TOPIC_ID), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(format_uuid(Uuid::from_bytes([0xff; 16])), "_____________________w");
    }

    #[test]
    fn malformed_texts_are_refused() {
        assert_eq!(parse_uuid(""), Err(ParseUuidError::Length(0)));
        assert_eq!(parse_uuid("AAAAAAAAAAAAAAAAAAAAA"), Err(ParseUuidError::Length(21)));
        assert_eq!(
            parse_uuid("AA+AAAAAAAAAAAAAAAAAAA"),
            Err(ParseUuidError::Character { position: 2 })
        );
        assert_eq!(parse_uuid("AAAAAAAAAAAAAAAAAAAAAB"), Err(ParseUuidError::Overflow));
        assert_eq!(parse_uuid("AAAAAAAAAAAAAAAAAAAAAQ=="), Ok(METADATA_TOPIC_ID));
    }

    proptest! {
        #[test]
        fn every_id_survives_the_round_trip(bytes: [u8; 16]) {
            let uuid = Uuid::from_bytes(bytes);
            prop_assert_eq!(parse_uuid(&format_uuid(uuid)), Ok(uuid));
        }
    }
}
