//! Kafka's checkpoint files: a version, a count, and one line per entry, as text.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use ottla_env::{Disk, OpenMode};
use ottla_protocol::{Offset, TopicPartition};

use crate::file_name::TEMPORARY;
use crate::log_dir::LogDir;

const VERSION: &str = "0";

/// An offset per partition: `recovery-point-offset-checkpoint` and its like.
pub(crate) type Offsets = BTreeMap<TopicPartition, Offset>;

/// Reads a checkpoint file. A missing one has no lines.
pub(crate) fn read_lines<T>(
    disk: &dyn Disk,
    path: &Path,
    parse: impl Fn(&str) -> Option<T>,
) -> io::Result<Vec<T>> {
    let bytes = match disk.read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    parse_lines(&bytes, parse).ok_or_else(|| {
        let message = format!("{} is not a checkpoint file of version {VERSION}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

fn parse_lines<T>(bytes: &[u8], parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let mut lines = str::from_utf8(bytes).ok()?.lines();
    if lines.next()?.trim() != VERSION {
        return None;
    }
    let count: usize = lines.next()?.trim().parse().ok()?;
    let entries: Vec<T> = lines.map(parse).collect::<Option<_>>()?;
    (entries.len() == count).then_some(entries)
}

/// Replaces a checkpoint file atomically.
pub(crate) fn write_lines<T: Display>(
    disk: &dyn Disk,
    path: &Path,
    lines: impl ExactSizeIterator<Item = T>,
) -> io::Result<()> {
    disk.write_atomic(path, format_lines(lines).as_bytes())
}

/// A new version of a file, beside the one that it replaces once it is on the disk.
pub(crate) struct Replacement {
    beside: PathBuf,
    path: PathBuf,
}

/// Writes a checkpoint file beside the one at `path`, for somebody who syncs several files at once.
pub(crate) fn write_lines_beside<T: Display>(
    dir: &LogDir,
    path: PathBuf,
    lines: impl ExactSizeIterator<Item = T>,
) -> io::Result<Replacement> {
    Replacement::write(dir, path, format_lines(lines).as_bytes())
}

impl Replacement {
    /// Writes a file beside `path`.
    pub(crate) fn write(dir: &LogDir, path: PathBuf, contents: &[u8]) -> io::Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".");
        beside.push(TEMPORARY);
        let beside = PathBuf::from(beside);
        let written = dir
            .open(&beside, OpenMode::Truncate)
            .and_then(|file| file.write_all_at(&mut [IoSlice::new(contents)], 0));
        match written {
            Ok(()) => Ok(Self { beside, path }),
            Err(error) => Err(dir.undo(error, &[&beside])),
        }
    }

    /// Removes the new version again. One that stays is replaced by the next, or removed at a start.
    pub(crate) fn discard(&self, disk: &dyn Disk) {
        let _stays = disk.remove_file(&self.beside);
    }

    /// Brings the new version to the disk.
    pub(crate) fn sync(&self, dir: &LogDir) -> io::Result<()> {
        dir.open(&self.beside, OpenMode::ReadWrite)?.sync_data()
    }

    /// Puts the new version in the place of the old. It must be on the disk: else a power loss
    /// could leave neither. The change of names survives once the directory is synced.
    pub(crate) fn replace(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.rename(&self.beside, &self.path)
    }
}

fn format_lines<T: Display>(lines: impl ExactSizeIterator<Item = T>) -> String {
    let mut text = format!("{VERSION}\n{}\n", lines.len());
    for line in lines {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{line}");
    }
    text
}

/// Reads a file of `topic partition offset` lines.
pub(crate) fn read_offsets(disk: &dyn Disk, path: &Path) -> io::Result<Offsets> {
    Ok(read_lines(disk, path, parse_offset)?.into_iter().collect())
}

/// Writes a file of `topic partition offset` lines.
pub(crate) fn write_offsets(disk: &dyn Disk, path: &Path, offsets: &Offsets) -> io::Result<()> {
    let lines =
        offsets.iter().map(|(tp, offset)| format!("{} {} {offset}", tp.topic, tp.partition));
    write_lines(disk, path, lines)
}

fn parse_offset(line: &str) -> Option<(TopicPartition, Offset)> {
    let mut fields = line.split_whitespace();
    let (topic, partition, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let partition = TopicPartition::new(topic, partition.parse().ok()?);
    fields.next().is_none().then_some((partition, Offset(offset.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_kafka_writes_it() {
        let offsets = Offsets::from([
            (TopicPartition::new("b", 1), Offset(42)),
            (TopicPartition::new("a", 0), Offset(7)),
        ]);
        let lines = offsets.iter().map(|(tp, o)| format!("{} {} {o}", tp.topic, tp.partition));
        let text = format_lines(lines);
        assert_eq!(text, "0\n2\na 0 7\nb 1 42\n");
        let read: Offsets =
            parse_lines(text.as_bytes(), parse_offset).unwrap().into_iter().collect();
        assert_eq!(read, offsets);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        for text in ["", "1\n0\n", "0\n2\na 0 7\n", "0\n1\na 0\n", "0\n1\na 0 7 9\n", "0\nx\n"] {
            assert!(parse_lines(text.as_bytes(), parse_offset).is_none(), "{text:?}");
        }
    }
}
