//! Lines of standard input or of a file, as they come.

use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use ottla_env::{Env, File, OpenMode};

use crate::failure::Failure;

/// Bytes of a file that are read at once.
const CHUNK: usize = 1 << 18;

/// Where lines come from.
pub(super) struct Input {
    source: Source,
    /// The beginning of a line whose end has not come yet.
    rest: Vec<u8>,
    ended: bool,
}

enum Source {
    Stdin,
    File { file: Arc<dyn File>, at: u64, length: u64 },
}

/// Whole lines.
pub(super) struct Lines {
    text: Vec<u8>,
    read: usize,
}

impl Lines {
    /// The lines without their ends.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let text = self.text.strip_suffix(b"\n").unwrap_or(&self.text);
        let lines = (!self.text.is_empty()).then(|| text.split(|byte| *byte == b'\n'));
        lines.into_iter().flatten().map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// How many bytes were read for them.
    pub(super) fn bytes(&self) -> usize {
        self.read
    }
}

impl Input {
    pub(super) fn open(env: &Env, path: Option<&Path>) -> Result<Self> {
        let source = match path {
            None => Source::Stdin,
            Some(path) => {
                let opened = env.disk.open(path, OpenMode::Read);
                let opened = opened.and_then(|file| file.len().map(|length| (file, length)));
                let (file, length) = opened.map_err(|error| Failure {
                    what: format!("{} cannot be read", path.display()),
                    why: error.to_string(),
                    next: "check the path, or pipe the records in".to_owned(),
                })?;
                Source::File { file, at: 0, length }
            }
        };
        Ok(Self { source, rest: Vec::new(), ended: false })
    }

    /// Bytes there are, if that is known.
    pub(super) fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Stdin => None,
            Source::File { length, .. } => Some(*length),
        }
    }

    /// The next lines that are there; `None` at the end.
    pub(super) async fn next(&mut self, env: &Env) -> Result<Option<Lines>> {
        if self.ended {
            return Ok(None);
        }
        let chunk = match &mut self.source {
            // Where it blocks nothing: what was typed before is to be sent meanwhile.
            Source::Stdin => env.run_blocking(read_stdin).await?,
            Source::File { file, at, .. } => {
                let mut chunk = vec![0; CHUNK];
                let read = file.read_at(&mut chunk, *at)?;
                chunk.truncate(read);
                *at += read as u64;
                chunk
            }
        };
        let read = chunk.len();
        self.ended = read == 0;
        Ok(Some(Lines { text: whole_lines(&mut self.rest, chunk), read }))
    }
}

fn read_stdin() -> io::Result<Vec<u8>> {
    let mut stdin = io::stdin().lock();
    let chunk = stdin.fill_buf()?.to_vec();
    stdin.consume(chunk.len());
    Ok(chunk)
}

/// The lines that end in `chunk`, which is empty at the end of all; keeps the beginning of the
/// next one in `rest`.
fn whole_lines(rest: &mut Vec<u8>, chunk: Vec<u8>) -> Vec<u8> {
    if chunk.is_empty() {
        return std::mem::take(rest);
    }
    rest.extend(chunk);
    let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let behind = rest.split_off(end);
    std::mem::replace(rest, behind)
}

/// Key and value of a line.
pub(super) fn split<'a>(line: &'a [u8], separator: Option<&str>) -> (Option<&'a [u8]>, &'a [u8]) {
    let separator = separator.map(str::as_bytes).filter(|it| !it.is_empty());
    let Some(separator) = separator else { return (None, line) };
    match line.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
        None => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_come_in_pieces() {
        let mut rest = Vec::new();
        let mut lines = Vec::new();
        for chunk in ["on", "e\ntwo\r\n\nth", "ree", ""] {
            let text = whole_lines(&mut rest, chunk.as_bytes().to_vec());
            let whole = Lines { text, read: 0 };
            lines.extend(whole.lines().map(|it| String::from_utf8(it.to_vec()).unwrap()));
        }
        assert_eq!(lines, ["one", "two", "", "three"]);
    }

    #[test]
    fn a_key_stands_before_the_separator() {
        assert_eq!(split(b"k::v::w", Some("::")), (Some(&b"k"[..]), &b"v::w"[..]));
        assert_eq!(split(b"kv", Some(":")), (None, &b"kv"[..]));
        assert_eq!(split(b"k:v", None), (None, &b"k:v"[..]));
    }
}
