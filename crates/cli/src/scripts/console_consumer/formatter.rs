//! How records are printed: Kafka's `DefaultMessageFormatter` and what it is configured with.

use std::io::{self, Write};

use ottla_client::RecordRef;
use ottla_protocol::record_batch::TimestampType;

use crate::scripts::{java, target, warn};

/// Prints records.
pub(super) struct Formatter {
    style: Style,
    /// Columns in front of the value, in order.
    columns: Vec<Column>,
    print_value: bool,
    key_separator: Vec<u8>,
    line_separator: Vec<u8>,
    headers_separator: Vec<u8>,
    null: Vec<u8>,
    key: Reading,
    value: Reading,
    header: Reading,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Default,
    /// And once more on standard error, as a logger writes.
    Logging,
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Timestamp,
    Partition,
    Offset,
    Delivery,
    Epoch,
    Headers,
    Key,
}

const COLUMNS: [(&str, Column); 7] = [
    ("print.timestamp", Column::Timestamp),
    ("print.partition", Column::Partition),
    ("print.offset", Column::Offset),
    ("print.delivery", Column::Delivery),
    ("print.epoch", Column::Epoch),
    ("print.headers", Column::Headers),
    ("print.key", Column::Key),
];

/// What bytes mean. Kafka's deserializers.
#[derive(Clone, Copy)]
enum Reading {
    Bytes,
    Number(usize),
    Float(usize),
}

impl Reading {
    fn new(class: Option<&str>) -> Result<Self, String> {
        let name = class.unwrap_or("StringDeserializer");
        Ok(match name.trim_start_matches("org.apache.kafka.common.serialization.") {
            "StringDeserializer" => Self::Bytes,
            "ShortDeserializer" => Self::Number(2),
            "IntegerDeserializer" => Self::Number(4),
            "LongDeserializer" => Self::Number(8),
            "FloatDeserializer" => Self::Float(4),
            "DoubleDeserializer" => Self::Float(8),
            _ => {
                return Err(format!(
                    "{name} is not known: take the String, Short, Integer, Long, Float or DoubleDeserializer of org.apache.kafka.common.serialization"
                ));
            }
        })
    }

    fn text(self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let wrong = || format!("{} bytes are not what the deserializer reads", bytes.len());
        match self {
            Self::Bytes => Ok(bytes.to_vec()),
            Self::Number(size) if bytes.len() == size => {
                let first = bytes.first().map_or(0, |byte| i64::from(byte.cast_signed()));
                let rest = bytes.iter().skip(1);
                let number = rest.fold(first, |number, byte| number << 8 | i64::from(*byte));
                Ok(number.to_string().into_bytes())
            }
            Self::Float(4) => {
                let bytes = bytes.try_into().map_err(|_| wrong())?;
                Ok(format!("{:?}", f32::from_be_bytes(bytes)).into_bytes())
            }
            Self::Float(_) => {
                let bytes = bytes.try_into().map_err(|_| wrong())?;
                Ok(java::double(f64::from_be_bytes(bytes)).into_bytes())
            }
            Self::Number(_) => Err(wrong()),
        }
    }
}

impl Formatter {
    /// The formatter of a class, with its properties; what is wrong with them.
    pub(super) fn new(
        class: Option<&str>,
        properties: &[(String, String)],
    ) -> Result<Self, String> {
        let class = class.unwrap_or("DefaultMessageFormatter");
        let style = match class.rsplit('.').next().unwrap_or(class) {
            "DefaultMessageFormatter" => Style::Default,
            "LoggingMessageFormatter" => Style::Logging,
            "NoOpMessageFormatter" => Style::Nothing,
            _ => return Err(class.to_owned()),
        };
        let find = |key: &str| target::find(properties, key);
        let is_true = |text: &str| text.trim().eq_ignore_ascii_case("true");
        let text = |key: &str, default: &str| find(key).unwrap_or(default).as_bytes().to_vec();
        let wanted = COLUMNS.iter().filter(|(key, _)| find(key).is_some_and(is_true));
        Ok(Self {
            style,
            columns: wanted.map(|(_, column)| *column).collect(),
            print_value: find("print.value").is_none_or(is_true),
            key_separator: text("key.separator", "\t"),
            line_separator: text("line.separator", "\n"),
            headers_separator: text("headers.separator", ","),
            null: text("null.literal", "null"),
            key: Reading::new(find("key.deserializer"))?,
            value: Reading::new(find("value.deserializer"))?,
            header: Reading::new(find("headers.deserializer"))?,
        })
    }

    /// Prints a record; what is wrong with it, if it cannot be.
    pub(super) fn write(
        &self,
        record: &RecordRef<'_>,
        output: &mut impl Write,
    ) -> io::Result<Result<(), String>> {
        if self.style == Style::Nothing {
            return Ok(Ok(()));
        }
        match self.line(record) {
            Ok(line) => output.write_all(&line)?,
            Err(why) => return Ok(Err(why)),
        }
        if self.style == Style::Logging {
            let text = |bytes: Option<&[u8]>| {
                bytes.map_or("null".into(), |it| String::from_utf8_lossy(it).into_owned())
            };
            warn(format!(
                "{:?}:{}, key:{}, value:{}",
                record.timestamp_type(),
                record.timestamp.0,
                text(record.key),
                text(record.value)
            ));
        }
        Ok(Ok(()))
    }

    fn line(&self, record: &RecordRef<'_>) -> Result<Vec<u8>, String> {
        let mut line = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            match column {
                Column::Timestamp => {
                    let whose = match record.timestamp_type() {
                        TimestampType::CreateTime => "CreateTime",
                        TimestampType::LogAppendTime => "LogAppendTime",
                    };
                    line.extend(format!("{whose}:{}", record.timestamp.0).bytes());
                }
                Column::Partition => {
                    line.extend(format!("Partition:{}", record.partition.partition).bytes());
                }
                Column::Offset => line.extend(format!("Offset:{}", record.offset.0).bytes()),
                // Kafka's script hands neither on.
                Column::Delivery => line.extend(b"Delivery:NOT_PRESENT"),
                Column::Epoch => line.extend(b"Epoch:NOT_PRESENT"),
                Column::Headers => self.headers(record, &mut line)?,
                Column::Key => line.extend(self.key.text(record.key.unwrap_or(&self.null))?),
            }
            let is_last = at + 1 == self.columns.len() && !self.print_value;
            line.extend(if is_last { &self.line_separator } else { &self.key_separator });
        }
        if self.print_value {
            line.extend(self.value.text(record.value.unwrap_or(&self.null))?);
            line.extend(&self.line_separator);
        }
        Ok(line)
    }

    fn headers(&self, record: &RecordRef<'_>, line: &mut Vec<u8>) -> Result<(), String> {
        let mut is_first = true;
        for (key, value) in record.headers() {
            if !is_first {
                line.extend(&self.headers_separator);
            }
            is_first = false;
            line.extend(key);
            line.push(b':');
            line.extend(self.header.text(value.unwrap_or(&self.null))?);
        }
        if is_first {
            line.extend(b"NO_HEADERS");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_the_deserializer_says() {
        let text = |class: &str, bytes: &[u8]| {
            let reading = Reading::new(Some(class)).and_then(|it| it.text(bytes));
            reading.map(|text| String::from_utf8_lossy(&text).into_owned())
        };
        let full = "org.apache.kafka.common.serialization.LongDeserializer";
        assert_eq!(text(full, &(-5_i64).to_be_bytes()).as_deref(), Ok("-5"));
        assert_eq!(text("IntegerDeserializer", &[0, 0, 1, 0]).as_deref(), Ok("256"));
        assert_eq!(text("DoubleDeserializer", &1.5_f64.to_be_bytes()).as_deref(), Ok("1.5"));
        assert!(text("IntegerDeserializer", b"four!").is_err());
        assert!(text("com.example.Mine", b"").is_err());
    }
}
