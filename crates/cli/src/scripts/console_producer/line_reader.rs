//! Lines as records: `headers`, `key` and `value`, with separators between them.

use ottla_client::ProducerRecord;

use crate::scripts::{Outcome, Stop, target};

/// How a line is taken apart. Kafka's `LineMessageReader`.
pub(super) struct LineReader {
    parse_key: bool,
    key_separator: String,
    parse_headers: bool,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    ignore_error: bool,
    null_marker: Option<String>,
    line: usize,
}

impl LineReader {
    pub(super) fn new(properties: &[(String, String)]) -> Outcome<Self> {
        let find = |key: &str| target::find(properties, key);
        let is_true =
            |key: &str| find(key).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        let text = |key: &str, default: &str| find(key).unwrap_or(default).to_owned();
        let reader = Self {
            parse_key: is_true("parse.key"),
            key_separator: text("key.separator", "\t"),
            parse_headers: is_true("parse.headers"),
            headers_delimiter: text("headers.delimiter", "\t"),
            headers_separator: text("headers.separator", ","),
            headers_key_separator: text("headers.key.separator", ":"),
            ignore_error: is_true("ignore.error"),
            null_marker: find("null.marker").map(ToOwned::to_owned),
            line: 0,
        };
        reader.check()?;
        Ok(reader)
    }

    /// Separators have to differ.
    fn check(&self) -> Outcome {
        let parts = [
            ("headers.delimiter", &self.headers_delimiter),
            ("headers.separator", &self.headers_separator),
            ("headers.key.separator", &self.headers_key_separator),
        ];
        let same = |one: &str, other: &str| {
            Err(Stop::failed(format!("{one} and {other} may not be equal")))
        };
        for (at, (name, separator)) in parts.iter().enumerate() {
            if let Some((other, _)) = parts[at + 1..].iter().find(|(_, it)| it == separator) {
                return same(name, other);
            }
        }
        let mut all = parts.into_iter().chain([("key.separator", &self.key_separator)]);
        match all.find(|(_, it)| Some(*it) == self.null_marker.as_ref()) {
            Some((name, _)) => same("null.marker", name),
            None => Ok(()),
        }
    }

    /// The record that a line stands for.
    pub(super) fn record<'a>(
        &mut self,
        topic: &'a str,
        line: &'a str,
    ) -> Outcome<ProducerRecord<'a>> {
        self.line += 1;
        let mut rest = line;
        let headers = self.cut(
            self.parse_headers,
            line,
            &mut rest,
            (&self.headers_delimiter, "headers delimiter"),
        )?;
        let key =
            self.cut(self.parse_key, line, &mut rest, (&self.key_separator, "key separator"))?;
        let mut record = ProducerRecord::to(topic);
        record.key = key.filter(|it| !self.is_null(it)).map(|it| it.as_bytes().into());
        record.value = Some(rest).filter(|it| !self.is_null(it)).map(|it| it.as_bytes().into());
        if let Some(headers) = headers.filter(|it| !self.is_null(it)) {
            for pair in headers.split(&*self.headers_separator) {
                record.headers.push(self.header(pair)?);
            }
        }
        Ok(record)
    }

    fn is_null(&self, text: &str) -> bool {
        self.null_marker.as_deref() == Some(text)
    }

    /// What stands in front of a separator, which is cut off with it.
    fn cut<'a>(
        &self,
        enabled: bool,
        line: &str,
        rest: &mut &'a str,
        (separator, name): (&str, &str),
    ) -> Outcome<Option<&'a str>> {
        if !enabled {
            return Ok(None);
        }
        match rest.split_once(separator) {
            Some((before, after)) => {
                *rest = after;
                Ok(Some(before))
            }
            None if self.ignore_error => Ok(None),
            None => {
                Err(Stop::failed(format!("No {name} found on line number {}: '{line}'", self.line)))
            }
        }
    }

    fn header<'a>(&self, pair: &'a str) -> Outcome<ottla_client::RecordHeader<'a>> {
        let Some((key, value)) = pair.split_once(&*self.headers_key_separator) else {
            if self.ignore_error {
                return Ok((pair.into(), None));
            }
            return Err(Stop::failed(format!(
                "No header key separator found in pair '{pair}' on line number {}",
                self.line
            )));
        };
        if self.is_null(key) {
            return Err(Stop::failed(format!(
                "Header keys should not be equal to the null marker '{key}' as they can't be null"
            )));
        }
        let value = Some(value).filter(|it| !self.is_null(it));
        Ok((key.into(), value.map(|it| it.as_bytes().into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(properties: &[&str]) -> Outcome<LineReader> {
        LineReader::new(&target::pairs(properties))
    }

    fn parts(properties: &[&str], line: &str) -> Option<String> {
        let mut reader = reader(properties).ok()?;
        let record = reader.record("t", line).ok()?;
        let text = |bytes: Option<&[u8]>| {
            bytes.map_or("null".to_owned(), |it| String::from_utf8_lossy(it).into_owned())
        };
        let headers: Vec<String> = record
            .headers
            .iter()
            .map(|(key, value)| format!("{key}={}", text(value.as_deref())))
            .collect();
        Some(format!(
            "{} {} {}",
            headers.join(","),
            text(record.key.as_deref()),
            text(record.value.as_deref())
        ))
    }

    #[test]
    fn lines_are_taken_apart_as_the_properties_say() {
        let said = |properties: &[&str], line: &str| parts(properties, line).unwrap_or_default();
        assert_eq!(said(&[], "a\tb"), " null a\tb");
        assert_eq!(said(&["parse.key=true", "key.separator=:"], "k:v:w"), " k v:w");
        assert_eq!(said(&["parse.key=true", "null.marker=NULL"], "k\tNULL"), " k null");
        let both = ["parse.key=true", "parse.headers=true"];
        assert_eq!(said(&both, "a:1,b:2\tk\tv"), "a=1,b=2 k v");
        assert_eq!(said(&["parse.key=true", "ignore.error=true"], "v"), " null v");
        assert_eq!(parts(&["parse.key=true"], "v"), None);
    }

    #[test]
    fn separators_have_to_differ() {
        assert!(reader(&["headers.separator=:"]).is_err());
        assert!(reader(&["null.marker=,"]).is_err());
    }
}
