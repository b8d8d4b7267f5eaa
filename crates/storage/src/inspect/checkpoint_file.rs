//! The small text files: what they say, and the first line that says nothing.

use ottla_protocol::{LeaderEpoch, Offset, TopicId, TopicPartition, Uuid, parse_uuid};
use thiserror::Error;

use crate::partition_metadata;

/// Why a text file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct CheckpointError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// A line of an offset checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetLine {
    /// Whose offset it is.
    pub partition: TopicPartition,
    /// The offset.
    pub offset: Offset,
}

/// A line of `leader-epoch-checkpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderEpochLine {
    /// The leader's epoch.
    pub epoch: LeaderEpoch,
    /// Where it begins.
    pub start_offset: Offset,
}

/// The lines of an offset checkpoint that can be read, and why not all can.
pub fn offset_lines(bytes: &[u8]) -> (Vec<OffsetLine>, Option<CheckpointError>) {
    lines(bytes, "<topic> <partition> <offset>", |fields| match fields {
        [topic, partition, offset] => {
            let partition = TopicPartition::new(*topic, partition.parse().ok()?);
            Some(OffsetLine { partition, offset: Offset(not_negative(offset)?) })
        }
        _ => None,
    })
}

/// The lines of a `leader-epoch-checkpoint` that can be read, and why not all can.
pub fn leader_epoch_lines(bytes: &[u8]) -> (Vec<LeaderEpochLine>, Option<CheckpointError>) {
    lines(bytes, "<epoch> <start offset>", |fields| match fields {
        [epoch, start] => {
            let epoch = LeaderEpoch(epoch.parse().ok().filter(|epoch| *epoch >= 0)?);
            Some(LeaderEpochLine { epoch, start_offset: Offset(not_negative(start)?) })
        }
        _ => None,
    })
}

/// The id in a `partition.metadata`.
pub fn topic_id(bytes: &[u8]) -> Result<TopicId, CheckpointError> {
    partition_metadata::parse(bytes).ok_or_else(|| CheckpointError {
        line: 1,
        reason: "not `version: 0` and then `topic_id: <id of 22 characters>`".to_owned(),
    })
}

/// What a `meta.properties` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaPropertiesFile {
    /// `cluster.id`
    pub cluster_id: String,
    /// `node.id`
    pub node_id: i32,
    /// `directory.id`
    pub directory_id: Uuid,
}

/// Reads a `meta.properties`.
pub fn meta_properties(bytes: &[u8]) -> Result<MetaPropertiesFile, CheckpointError> {
    let text = String::from_utf8_lossy(bytes);
    let value = |key: &str| {
        let is_key = |line: &str| {
            line.trim_start()
                .strip_prefix(key)?
                .trim_start()
                .strip_prefix('=')
                .map(|value| value.trim().replace('\\', ""))
        };
        let found = text.lines().enumerate().find_map(|(at, line)| Some((at + 1, is_key(line)?)));
        found.ok_or_else(|| CheckpointError {
            line: text.lines().count().max(1),
            reason: format!("the file ends without a value for {key}"),
        })
    };
    let invalid = |line, key: &str, value: &str| CheckpointError {
        line,
        reason: format!("{key}={value} is no valid value"),
    };
    let (line, version) = value("version")?;
    if version != "1" {
        return Err(invalid(line, "version", &version));
    }
    let (line, node_id) = value("node.id")?;
    let node_id = node_id.parse().map_err(|_| invalid(line, "node.id", &node_id))?;
    let (line, id) = value("directory.id")?;
    let directory_id = parse_uuid(&id).map_err(|_| invalid(line, "directory.id", &id))?;
    let (_, cluster_id) = value("cluster.id")?;
    Ok(MetaPropertiesFile { cluster_id, node_id, directory_id })
}

fn not_negative(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number| *number >= 0)
}

/// Reads a version, a count and one entry per line.
fn lines<T>(
    bytes: &[u8],
    form: &str,
    parse: impl Fn(&[&str]) -> Option<T>,
) -> (Vec<T>, Option<CheckpointError>) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let mut first_error = None;
    let mut wrong = |line, reason: String| {
        first_error.get_or_insert(CheckpointError { line, reason });
    };
    match lines.next() {
        Some((_, version)) if version.trim() == "0" => {}
        Some((line, version)) => wrong(line, format!("version {version:?} instead of 0")),
        None => wrong(1, "the file is empty".to_owned()),
    }
    let count = lines.next();
    let entries: Vec<T> = lines
        .filter_map(|(line, text)| {
            let fields: Vec<&str> = text.split_whitespace().collect();
            let entry = parse(&fields);
            if entry.is_none() {
                wrong(line, format!("{text:?} instead of {form}"));
            }
            entry
        })
        .collect();
    match count {
        Some((_, count)) if count.trim().parse() == Ok(entries.len()) => {}
        Some((line, count)) => {
            wrong(line, format!("{count:?} entries claimed, {} there", entries.len()));
        }
        None => wrong(2, "the number of entries is missing".to_owned()),
    }
    (entries, first_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_line_is_named_and_the_good_ones_are_kept() {
        let (lines, error) = offset_lines(b"0\n3\na 0 7\nb x 1\nc-d 2 9\n");
        assert_eq!(lines.len(), 2);
        let error = error.unwrap();
        assert_eq!(error.line, 4);
        assert!(error.reason.contains("b x 1"), "{error}");
        assert_eq!(offset_lines(b"0\n1\na 0 7\n").1, None);
        assert_eq!(offset_lines(b"0\n2\na 0 7\n").1.unwrap().line, 2);
        assert_eq!(offset_lines(b"").1.unwrap().line, 1);
        assert_eq!(leader_epoch_lines(b"0\n1\n-3 7\n").1.unwrap().line, 3);
    }

    #[test]
    fn meta_properties_without_a_node_is_refused() {
        let good = "version=1\nnode.id=7\ncluster.id=c\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n";
        assert_eq!(meta_properties(good.as_bytes()).unwrap().node_id, 7);
        let error = meta_properties(good.replace("node.id=7", "").as_bytes()).unwrap_err();
        assert!(error.reason.contains("node.id"), "{error}");
        let error = meta_properties(good.replace("=7", "=x").as_bytes()).unwrap_err();
        assert_eq!((error.line, &*error.reason), (2, "node.id=x is no valid value"));
    }
}
