//! `partition.metadata`: which topic a directory belongs to (KIP-516).

use std::io::{self, IoSlice};
use std::path::Path;

use ottla_env::{Disk, OpenMode};
use ottla_protocol::{TopicId, format_uuid, parse_uuid};

use crate::log_dir::LogDir;

const FILE_NAME: &str = "partition.metadata";

/// The topic's id; `None` if the file is missing, or was torn before it was ever synced.
pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<TopicId>> {
    match disk.read(&dir.join(FILE_NAME)) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the file. [`sync`] makes it last: thousands of partitions are created at once, and
/// nothing is lost with the id of a log that was never flushed.
pub(crate) fn write(dir: &LogDir, path: &Path, topic_id: TopicId) -> io::Result<()> {
    let path = path.join(FILE_NAME);
    let written = dir
        .open(&path, OpenMode::Truncate)
        .and_then(|file| file.write_all_at(&mut [IoSlice::new(format(topic_id).as_bytes())], 0));
    written.map_err(|error| dir.undo(error, &[&path]))
}

/// Makes the file survive a power loss, if there is one.
pub(crate) fn sync(dir: &LogDir, path: &Path) -> io::Result<()> {
    match dir.open(&path.join(FILE_NAME), OpenMode::ReadWrite) {
        Ok(file) => file.sync_data(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn format(topic_id: TopicId) -> String {
    format!("version: 0\ntopic_id: {}", format_uuid(topic_id))
}

pub(crate) fn parse(bytes: &[u8]) -> Option<TopicId> {
    let mut lines = str::from_utf8(bytes).ok()?.lines();
    if lines.next()? != "version: 0" {
        return None;
    }
    parse_uuid(lines.next()?.strip_prefix("topic_id: ")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_kafka_writes_it() {
        let id = TopicId::from_bytes([0xfb; 16]);
        assert_eq!(format(id), "version: 0\ntopic_id: -_v7-_v7-_v7-_v7-_v7-w");
        assert_eq!(parse(format(id).as_bytes()), Some(id));
        assert_eq!(parse(b"version: 1\ntopic_id: -_v7-_v7-_v7-_v7-_v7-w"), None);
        assert_eq!(parse(b""), None);
    }
}
