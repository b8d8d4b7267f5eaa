//! Results: tables for people, one JSON object per line for programs.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use owo_colors::OwoColorize;
use serde_json::Value;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// A column of a table: its title, and the field of the objects that it shows.
pub(crate) type Column = (&'static str, &'static str);

/// Whether a stream may be painted: it is a terminal, and `NO_COLOR` is not set.
pub(crate) fn may_paint(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

impl Format {
    /// Prints objects: as they are, or as a table of some of their fields.
    pub(crate) fn rows(self, columns: &[Column], rows: &[Value]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        match self {
            Self::Json => {
                for row in rows {
                    writeln!(stdout, "{row}")?;
                }
            }
            Self::Text => {
                let text = table(columns, rows);
                let (title, rest) = text.split_once('\n').unwrap_or((&text, ""));
                if may_paint(&stdout) {
                    writeln!(stdout, "{}", title.bold())?;
                } else {
                    writeln!(stdout, "{title}")?;
                }
                if !rest.is_empty() {
                    writeln!(stdout, "{rest}")?;
                }
            }
        }
        Ok(stdout.flush()?)
    }

    /// Prints one object: as it is, or as a sentence.
    pub(crate) fn object(self, object: &Value, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        match self {
            Self::Json => writeln!(stdout, "{object}")?,
            Self::Text => writeln!(stdout, "{text}")?,
        }
        Ok(stdout.flush()?)
    }

    /// As [`rows`](Self::rows), but where there are none people are told so.
    pub(crate) fn rows_or(self, columns: &[Column], rows: &[Value], nothing: &str) -> Result<()> {
        if rows.is_empty() && self == Self::Text {
            return self.remark(nothing);
        }
        self.rows(columns, rows)
    }

    /// Prints a line that only people want.
    pub(crate) fn remark(self, text: &str) -> Result<()> {
        if self == Self::Text {
            writeln!(io::stdout().lock(), "{text}")?;
        }
        Ok(())
    }
}

/// Columns with two blanks between them, and nothing behind the last.
fn table(columns: &[Column], rows: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(title, _)| *title));
    for row in rows {
        table.add_row(columns.iter().map(|(_, field)| cell(&row[*field])));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A value of JSON as a cell.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(key, value)| format!("{key}={}", cell(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
    }
}

/// Whether the reader of the output went away.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    let is_pipe = |kind: io::ErrorKind| kind == io::ErrorKind::BrokenPipe;
    error.chain().any(|it| {
        it.downcast_ref::<io::Error>().is_some_and(|it| is_pipe(it.kind()))
            || it
                .downcast_ref::<serde_json::Error>()
                .and_then(serde_json::Error::io_error_kind)
                .is_some_and(is_pipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_shows_the_fields_of_its_columns() {
        let rows = [
            json!({ "topic": "orders", "isr": [1, 2], "leader": null, "internal": false }),
            json!({ "topic": "t", "isr": [], "leader": 1, "internal": true }),
        ];
        let columns =
            [("TOPIC", "topic"), ("LEADER", "leader"), ("ISR", "isr"), ("INTERNAL", "internal")];
        let wanted =
            "TOPIC   LEADER  ISR  INTERNAL\norders  -       1,2  no\nt       1       -    yes";
        assert_eq!(table(&columns, &rows), wanted);
    }
}
