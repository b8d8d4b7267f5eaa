//! Where results go: lines of text, or JSON objects.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::Format;

/// Standard output, in one of the two formats.
pub(super) struct Output {
    format: Format,
    stdout: BufWriter<StdoutLock<'static>>,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format, stdout: BufWriter::with_capacity(1 << 16, io::stdout().lock()) }
    }

    /// A line for people.
    pub(super) fn text(&mut self, line: impl FnOnce() -> String) -> Result<()> {
        if self.format == Format::Text {
            writeln!(self.stdout, "{}", line())?;
        }
        Ok(())
    }

    /// An object for programs.
    pub(super) fn json(&mut self, object: impl FnOnce() -> Value) -> Result<()> {
        if self.format == Format::Json {
            serde_json::to_writer(&mut self.stdout, &object())?;
            self.stdout.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Shows what was written so far.
    pub(super) fn flush(&mut self) -> Result<()> {
        Ok(self.stdout.flush()?)
    }
}

/// Whether the reader of the output went away.
pub(super) fn is_closed(error: &anyhow::Error) -> bool {
    let of_json =
        |error: &serde_json::Error| error.io_error_kind() == Some(io::ErrorKind::BrokenPipe);
    error.downcast_ref::<io::Error>().is_some_and(|it| it.kind() == io::ErrorKind::BrokenPipe)
        || error.downcast_ref::<serde_json::Error>().is_some_and(of_json)
}

/// A path as JSON has it.
pub(super) fn path(path: &Path) -> Value {
    json!(path.display().to_string())
}
