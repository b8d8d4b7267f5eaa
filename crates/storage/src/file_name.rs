//! Kafka's names of a partition's directory and of the files in it.

use std::path::{Path, PathBuf};

use ottla_protocol::{Offset, TopicPartition};

pub(crate) const LOG: &str = "log";
pub(crate) const INDEX: &str = "index";
pub(crate) const TIME_INDEX: &str = "timeindex";
pub(crate) const SNAPSHOT: &str = "snapshot";
pub(crate) const TXN_INDEX: &str = "txnindex";
/// Added to a file that waits to be removed.
pub(crate) const DELETED: &str = "deleted";
/// Added to a file that a cleaner is writing.
pub(crate) const CLEANED: &str = "cleaned";
/// Added to a cleaned file that takes the place of others: from then on a crash does not stop it.
pub(crate) const SWAP: &str = "swap";
/// Added to a new version of a file until it is on the disk.
pub(crate) const TEMPORARY: &str = "tmp";
/// Ends the name of a partition's directory that waits to be removed.
pub(crate) const DELETE_DIR: &str = "-delete";
/// Ends the name of a partition's directory that belongs to no topic.
pub(crate) const STRAY_DIR: &str = "-stray";

/// Ends the name of a directory into which a log is copied.
pub(crate) const FUTURE_DIR: &str = "-future";
/// A file that names the directory, by its id, from which a log was moved; only until the move is
/// over.
pub(crate) const MOVED_FROM: &str = "moved-from";
/// An empty file that a log directory gets when it goes offline, for the next start to know.
///
/// After a failed sync the system takes pages for written that are not, and shows them to the next
/// process, which would take them for synced. The name of this file lives as long as those pages do.
pub(crate) const WENT_OFFLINE: &str = ".ottla_went_offline";

/// The topic of the metadata log, which is opened by itself.
pub(crate) const METADATA_TOPIC: &str = "__cluster_metadata";

/// Longest file name that every file system takes.
const NAME_MAX: usize = 255;

/// `<20-digit offset>.<extension>` in `dir`.
pub(crate) fn segment_file(dir: &Path, base_offset: Offset, extension: &str) -> PathBuf {
    dir.join(format!("{:020}.{extension}", base_offset.0))
}

/// Offset and extension of a segment's file.
pub(crate) fn parse_segment_file(name: &str) -> Option<(Offset, &str)> {
    let (digits, extension) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((Offset(digits.parse().ok()?), extension))
}

/// The partition whose directory is called `name`.
pub(crate) fn parse_partition_dir(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let partition: i32 = partition.parse().ok()?;
    (!topic.is_empty() && partition >= 0).then(|| TopicPartition::new(topic, partition))
}

/// What a deleted partition's directory is renamed to: `<topic>-<partition>.<unique>-delete`,
/// with the topic cut where the name would become too long.
pub(crate) fn deleted_dir(partition: &TopicPartition, unique: u128) -> String {
    renamed_dir(partition, unique, DELETE_DIR)
}

/// What a stray partition's directory is renamed to: `<topic>-<partition>.<unique>-stray`.
pub(crate) fn stray_dir(partition: &TopicPartition, unique: u128) -> String {
    renamed_dir(partition, unique, STRAY_DIR)
}

/// What a partition's directory is called while its log is copied into it:
/// `<topic>-<partition>.<unique>-future`.
pub(crate) fn future_dir(partition: &TopicPartition, unique: u128) -> String {
    renamed_dir(partition, unique, FUTURE_DIR)
}

fn renamed_dir(partition: &TopicPartition, unique: u128, ending: &str) -> String {
    let suffix = format!("-{}.{unique:032x}{ending}", partition.partition);
    let mut topic = &*partition.topic;
    while topic.len() + suffix.len() > NAME_MAX {
        let mut chars = topic.chars();
        chars.next_back();
        topic = chars.as_str();
    }
    format!("{topic}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        let file = segment_file(Path::new("d"), Offset(42), LOG);
        assert_eq!(file, Path::new("d/00000000000000000042.log"));
        assert_eq!(parse_segment_file("00000000000000000042.log"), Some((Offset(42), "log")));
        assert_eq!(parse_segment_file("42.log"), None);
        assert_eq!(parse_partition_dir("a-b-3"), Some(TopicPartition::new("a-b", 3)));
        for other in
            ["a", "-1", "a-", "a-x", "a-0.0123-delete", "a-0.0123-stray", "a-0.0123-future"]
        {
            assert_eq!(parse_partition_dir(other), None, "{other}");
        }
    }

    #[test]
    fn a_deleted_directory_keeps_within_the_longest_name() {
        let name = deleted_dir(&TopicPartition::new("t".repeat(249), 7), 1);
        assert_eq!(name.len(), NAME_MAX);
        assert!(name.ends_with("-7.00000000000000000000000000000001-delete"));
    }
}
