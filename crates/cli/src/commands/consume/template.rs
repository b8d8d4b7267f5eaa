//! How a record is printed: the language of `--format`.

use ottla_client::ConsumerRecord;
use serde_json::{Map, Value, json};

use super::super::text;

/// A format, ready to be used for every record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Template {
    /// One JSON object per line.
    Json,
    /// Pieces, one after the other.
    Pieces(Vec<Piece>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    KeyLength,
    Value,
    ValueLength,
    /// Milliseconds since 1970.
    Timestamp,
    /// As RFC 3339 has it.
    Time,
    Headers,
}

/// What may stand behind a percent sign, for errors and help.
pub(super) const LANGUAGE: &str = "%t topic, %p partition, %o offset, %k key, %K its length, \
    %v value, %V its length, %T milliseconds since 1970, %d time, %h headers, %% a percent sign; \
    \\n, \\t, \\0 and \\\\ as usual";

impl Template {
    /// Reads a format: `json`, `raw` (values, one per line), or text with percent signs. A line
    /// ends behind each record unless the text ends with a line end or a zero itself.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "json" => return Ok(Self::Json),
            "raw" => return Self::parse("%v"),
            _ => {}
        }
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let piece = match character {
                '%' => piece(characters.next())?,
                '\\' => Piece::Literal(vec![escaped(characters.next())?]),
                other => Piece::Literal(other.to_string().into_bytes()),
            };
            if let Piece::Literal(bytes) = piece {
                literal.extend(bytes);
                continue;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        if !matches!(literal.last(), Some(b'\n' | 0)) {
            literal.push(b'\n');
        }
        pieces.push(Piece::Literal(literal));
        Ok(Self::Pieces(pieces))
    }

    /// Prints `record` into `out`.
    pub(super) fn print(&self, record: &ConsumerRecord, out: &mut Vec<u8>) {
        let Self::Pieces(pieces) = self else {
            out.extend(json(record).to_string().as_bytes());
            out.push(b'\n');
            return;
        };
        let length = |bytes: Option<&[u8]>| bytes.map_or(-1, |it| it.len() as i64).to_string();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        for piece in pieces {
            match piece {
                Piece::Literal(bytes) => out.extend(bytes),
                Piece::Topic => out.extend(record.partition.topic.as_bytes()),
                Piece::Partition => out.extend(record.partition.partition.to_string().as_bytes()),
                Piece::Offset => out.extend(record.offset.0.to_string().as_bytes()),
                Piece::Key => out.extend(key.unwrap_or(b"null")),
                Piece::KeyLength => out.extend(length(key).as_bytes()),
                Piece::Value => out.extend(value.unwrap_or(b"null")),
                Piece::ValueLength => out.extend(length(value).as_bytes()),
                Piece::Timestamp => out.extend(record.timestamp.0.to_string().as_bytes()),
                Piece::Time => out.extend(text::time(record.timestamp).as_bytes()),
                Piece::Headers => print_headers(record, out),
            }
        }
    }
}

fn piece(character: Option<char>) -> Result<Piece, String> {
    Ok(match character {
        Some('t') => Piece::Topic,
        Some('p') => Piece::Partition,
        Some('o') => Piece::Offset,
        Some('k') => Piece::Key,
        Some('K') => Piece::KeyLength,
        Some('v' | 's') => Piece::Value,
        Some('V' | 'S') => Piece::ValueLength,
        Some('T') => Piece::Timestamp,
        Some('d') => Piece::Time,
        Some('h') => Piece::Headers,
        Some('%') => Piece::Literal(vec![b'%']),
        Some(other) => return Err(format!("%{other} means nothing; there are {LANGUAGE}")),
        None => return Err(format!("nothing stands behind the last %; there are {LANGUAGE}")),
    })
}

fn escaped(character: Option<char>) -> Result<u8, String> {
    match character {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        _ => Err(format!("a backslash stands before n, r, t, 0 or \\; there are {LANGUAGE}")),
    }
}

fn print_headers(record: &ConsumerRecord, out: &mut Vec<u8>) {
    for (at, (key, value)) in record.headers.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend(&**key);
        out.push(b'=');
        out.extend(value.as_deref().unwrap_or(b"null"));
    }
}

fn json(record: &ConsumerRecord) -> Value {
    let header = |(key, value): &(bytes::Bytes, Option<bytes::Bytes>)| json!({ "key": String::from_utf8_lossy(key), "value": text::json_bytes(value.as_deref()) });
    let fields = [
        ("topic", json!(&*record.partition.topic)),
        ("partition", json!(record.partition.partition)),
        ("offset", json!(record.offset.0)),
        ("timestamp", json!(record.timestamp.0)),
        ("key", text::json_bytes(record.key.as_deref())),
        ("value", text::json_bytes(record.value.as_deref())),
        ("headers", Value::Array(record.headers.iter().map(header).collect())),
    ];
    Value::Object(fields.into_iter().map(|(name, it)| (name.to_owned(), it)).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ottla_protocol::{Offset, Timestamp, TopicPartition};

    fn printed(format: &str) -> String {
        let record = super::super::tests::record(
            TopicPartition::new("orders", 2),
            (Offset(7), Timestamp(1_795_202_400_000)),
            (Some("k"), None),
            vec![(Bytes::from_static(b"trace"), Some(Bytes::from_static(b"9")))],
        );
        let mut out = Vec::new();
        Template::parse(format).unwrap().print(&record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_piece_is_printed() {
        let format = "%t-%p@%o %k(%K)=%v(%V) %T %d %h 100%%";
        let wanted =
            "orders-2@7 k(1)=null(-1) 1795202400000 2026-11-20T19:20:00.000Z trace=9 100%\n";
        assert_eq!(printed(format), wanted);
        assert_eq!(printed("raw"), "null\n");
        assert_eq!(printed("%k\\0"), "k\0");
        assert_eq!(printed("a\\tb\\n"), "a\tb\n");
    }

    #[test]
    fn json_has_every_field() {
        let wanted = json!({
            "topic": "orders", "partition": 2, "offset": 7, "timestamp": 1_795_202_400_000_i64,
            "key": "k", "value": null, "headers": [{ "key": "trace", "value": "9" }],
        });
        assert_eq!(serde_json::from_str::<Value>(&printed("json")).unwrap(), wanted);
    }

    #[test]
    fn what_is_no_format_says_what_there_is() {
        for text in ["%x", "%", "\\x", "\\"] {
            assert!(Template::parse(text).unwrap_err().contains("%t topic"), "{text}");
        }
    }
}
