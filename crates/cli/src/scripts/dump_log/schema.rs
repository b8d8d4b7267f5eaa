//! Messages as tables of their fields, and how they look as JSON: as Kafka's own converters write them.
//!
//! A table tells more than the records that Ottla itself reads and writes: every version that a
//! log of Kafka's may hold, and fields that a node of Ottla has no use for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kafka_wire_core::{DecodeError, DecodeLimits, Decoder, TagOutcome};
use ottla_protocol::format_uuid;

use crate::scripts::java;

/// The newest version of a field that is in use.
const NEWEST: i16 = i16::MAX;

/// What a field is.
pub(super) enum Kind {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Float64,
    Uuid,
    Text,
    Bytes,
    /// Bytes that are a message with its version in front; shown as bytes if they are not.
    Message(&'static Message),
    Struct(&'static [Field]),
    List(&'static Kind),
}

/// A field of a message.
pub(super) struct Field {
    name: &'static str,
    kind: Kind,
    since: i16,
    until: i16,
    nullable: bool,
    /// Its tag, and the JSON of its default, which is not shown (KIP-482).
    tag: Option<(u32, &'static str)>,
}

/// A message.
pub(super) struct Message {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
    /// The newest version; the oldest is 0.
    pub(super) newest: i16,
    /// The first version with compact lengths and tagged fields.
    pub(super) flexible: i16,
}

/// A field of every version.
pub(super) const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, since: 0, until: NEWEST, nullable: false, tag: None }
}

impl Field {
    /// It came with a version.
    pub(super) const fn since(mut self, version: i16) -> Self {
        self.since = version;
        self
    }

    /// It went with the version behind this.
    pub(super) const fn until(mut self, version: i16) -> Self {
        self.until = version;
        self
    }

    /// It may be null.
    pub(super) const fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    /// It has a tag, and is left out where it is as by default.
    pub(super) const fn tagged(mut self, tag: u32, default: &'static str) -> Self {
        self.tag = Some((tag, default));
        self
    }

    fn is_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

impl Message {
    /// The JSON of `bytes`, and how many bytes are left behind it.
    pub(super) fn json(&self, bytes: Bytes, version: i16) -> Result<(String, usize), String> {
        if !(0..=self.newest).contains(&version) {
            return Err(format!(
                "{} has version {version}, known are 0 to {}",
                self.name, self.newest
            ));
        }
        let shape = Shape { version, is_flexible: version >= self.flexible };
        let read = || -> Result<(String, usize), DecodeError> {
            let mut from = Decoder::new(bytes, DecodeLimits::default())?;
            let json = shape.object(&mut from, self.fields)?;
            Ok((json, from.remaining()))
        };
        read().map_err(|error| error.to_string())
    }

    /// The JSON of bytes that begin with their version.
    pub(super) fn json_of(&self, mut bytes: Bytes) -> Result<String, String> {
        let version = version_of(&mut bytes).ok_or("there is no version in front")?;
        self.json(bytes, version).map(|(json, _)| json)
    }
}

/// Takes the version from the front.
pub(super) fn version_of(bytes: &mut Bytes) -> Option<i16> {
    let version = i16::from_be_bytes(*bytes.first_chunk()?);
    *bytes = bytes.slice(size_of::<i16>()..);
    Some(version)
}

/// How a message is laid out.
#[derive(Clone, Copy)]
struct Shape {
    version: i16,
    is_flexible: bool,
}

impl Shape {
    fn object(self, from: &mut Decoder, fields: &[Field]) -> Result<String, DecodeError> {
        let mut values: Vec<Option<String>> = fields.iter().map(|_| None).collect();
        for (field, value) in fields.iter().zip(&mut values) {
            if field.tag.is_none() && field.is_in(self.version) {
                *value = Some(self.value(from, &field.kind, field.nullable)?);
            }
        }
        if self.is_flexible {
            from.read_tagged_fields_with(|tag, from| {
                let known = fields.iter().zip(&mut values).find_map(|(field, value)| {
                    let (own, default) = field.tag?;
                    (own == tag && field.is_in(self.version)).then_some((field, value, default))
                });
                let Some((field, value, default)) = known else { return Ok(TagOutcome::Retained) };
                let json = self.value(from, &field.kind, field.nullable)?;
                *value = Some(json).filter(|json| json != default);
                Ok(TagOutcome::Decoded)
            })?;
        }
        let pairs = fields.iter().zip(values);
        let pairs =
            pairs.filter_map(|(field, value)| Some(format!("\"{}\":{}", field.name, value?)));
        Ok(format!("{{{}}}", pairs.collect::<Vec<_>>().join(",")))
    }

    fn value(self, from: &mut Decoder, kind: &Kind, nullable: bool) -> Result<String, DecodeError> {
        Ok(match kind {
            Kind::Bool => from.read_bool()?.to_string(),
            Kind::Int8 => from.read_i8()?.to_string(),
            Kind::Int16 => from.read_i16()?.to_string(),
            Kind::Uint16 => from.read_u16()?.to_string(),
            Kind::Int32 => from.read_i32()?.to_string(),
            Kind::Int64 => from.read_i64()?.to_string(),
            Kind::Float64 => java::double(from.read_float64()?),
            Kind::Uuid => quoted(&format_uuid(from.read_uuid()?)),
            Kind::Text => self.text(from, nullable)?,
            Kind::Bytes => self.bytes(from, nullable)?.map_or_else(null, |bytes| base64(&bytes)),
            Kind::Message(message) => match self.bytes(from, nullable)? {
                Some(bytes) => message.json_of(bytes.clone()).unwrap_or_else(|_| base64(&bytes)),
                None => null(),
            },
            Kind::Struct(_) if nullable && !from.read_struct_presence()? => null(),
            Kind::Struct(fields) => self.object(from, fields)?,
            Kind::List(element) => self.list(from, element, nullable)?,
        })
    }

    fn text(self, from: &mut Decoder, nullable: bool) -> Result<String, DecodeError> {
        let text = match (self.is_flexible, nullable) {
            (true, true) => from.read_compact_nullable_string()?,
            (true, false) => Some(from.read_compact_string()?),
            (false, true) => from.read_nullable_string()?,
            (false, false) => Some(from.read_string()?),
        };
        Ok(text.map_or_else(null, |text| quoted(&text)))
    }

    fn bytes(self, from: &mut Decoder, nullable: bool) -> Result<Option<Bytes>, DecodeError> {
        match (self.is_flexible, nullable) {
            (true, true) => from.read_compact_nullable_bytes(),
            (true, false) => from.read_compact_bytes().map(Some),
            (false, true) => from.read_nullable_bytes(),
            (false, false) => from.read_bytes().map(Some),
        }
    }

    fn list(
        self,
        from: &mut Decoder,
        element: &Kind,
        nullable: bool,
    ) -> Result<String, DecodeError> {
        let count = match (self.is_flexible, nullable) {
            (true, true) => from.read_compact_nullable_array_len()?,
            (true, false) => Some(from.read_compact_array_len()?),
            (false, true) => from.read_nullable_array_len()?,
            (false, false) => Some(from.read_array_len()?),
        };
        let Some(count) = count else { return Ok(null()) };
        let items = from.read_vec(count, |from| self.value(from, element, false))?;
        Ok(format!("[{}]", items.join(",")))
    }
}

fn null() -> String {
    "null".to_owned()
}

fn base64(bytes: &[u8]) -> String {
    format!("\"{}\"", STANDARD.encode(bytes))
}

/// A string as Kafka's JSON library writes it.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0'..='\u{1f}' => quoted.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Message = Message {
        name: "Plain",
        fields: &[
            field("a", Kind::Int16),
            field("b", Kind::Text).since(1).nullable(),
            field("c", Kind::Int32).until(0),
            field("d", Kind::List(&Kind::Int8)).tagged(3, "[]"),
        ],
        newest: 2,
        flexible: 2,
    };

    fn json(version: i16, bytes: &'static [u8]) -> Result<String, String> {
        PLAIN.json(Bytes::from_static(bytes), version).map(|(json, left)| format!("{json} {left}"))
    }

    #[test]
    fn a_field_is_there_in_its_versions() {
        assert_eq!(json(0, &[0, 1, 0, 0, 0, 9]).as_deref(), Ok("{\"a\":1,\"c\":9} 0"));
        assert_eq!(json(1, &[0, 1, 0xff, 0xff, 7]).as_deref(), Ok("{\"a\":1,\"b\":null} 1"));
        assert_eq!(json(1, &[0, 1, 0, 1, b'"']).as_deref(), Ok("{\"a\":1,\"b\":\"\\\"\"} 0"));
    }

    #[test]
    fn a_tagged_field_is_left_out_where_it_says_nothing() {
        assert_eq!(json(2, &[0, 1, 0, 0]).as_deref(), Ok("{\"a\":1,\"b\":null} 0"));
        assert_eq!(json(2, &[0, 1, 0, 1, 3, 1, 1]).as_deref(), Ok("{\"a\":1,\"b\":null} 0"));
        let one = [0, 1, 0, 2, 3, 2, 2, 5, 9, 1, 0];
        assert_eq!(
            PLAIN.json(Bytes::copy_from_slice(&one), 2).map(|(json, _)| json).as_deref(),
            Ok("{\"a\":1,\"b\":null,\"d\":[5]}")
        );
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert!(json(3, &[0, 1]).is_err_and(|why| why.ends_with("known are 0 to 2")));
        assert!(json(0, &[0]).is_err());
        assert!(json(2, &[0, 1, 0, 1, 3, 0xff]).is_err());
    }

    #[test]
    fn strings_are_escaped_as_kafkas_json_library_does() {
        assert_eq!(quoted("a\"\\\n\u{1f}é"), "\"a\\\"\\\\\\n\\u001Fé\"");
    }
}
