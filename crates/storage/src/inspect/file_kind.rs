//! What a file is, by its name.

use ottla_protocol::Offset;

use crate::file_name::{
    DELETED, INDEX, LOG, MOVED_FROM, SNAPSHOT, TIME_INDEX, TXN_INDEX, WENT_OFFLINE,
    parse_segment_file,
};

/// A file of a log directory or of a partition's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `<base offset>.log`: record batches.
    Log(Offset),
    /// `<base offset>.index`: offsets to positions.
    OffsetIndex(Offset),
    /// `<base offset>.timeindex`: timestamps to offsets.
    TimeIndex(Offset),
    /// `<base offset>.txnindex`: aborted transactions.
    TransactionIndex(Offset),
    /// `<offset>.snapshot`: the producers known before that offset.
    ProducerSnapshot(Offset),
    /// `<end offset>-<epoch>.checkpoint`: a snapshot of the cluster's metadata (KIP-630).
    MetadataSnapshot,
    /// `leader-epoch-checkpoint`: where each leader began.
    LeaderEpochs,
    /// `partition.metadata`: the id of the topic.
    PartitionMetadata,
    /// `recovery-point-offset-checkpoint` and its like: an offset per partition.
    OffsetCheckpoint,
    /// `meta.properties`: which node of which cluster the directory belongs to.
    MetaProperties,
    /// `.kafka_cleanshutdown`: the mark of a clean shutdown.
    CleanShutdown,
    /// `quorum-state`: the vote of a controller.
    QuorumState,
    /// `.lock`: held by the node that uses the directory.
    Lock,
    /// What a step left behind that was not finished, or was set aside by a repair.
    Leftover(Leftover),
    /// Nothing that a node writes.
    Unknown,
}

/// Files that wait for the next start, or for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// `*.deleted`: removed at the next start.
    Deleted,
    /// `*.cleaned`: a compaction that did not finish; removed at the next start.
    Cleaned,
    /// `*.swap`: a compaction that finished; put in its place at the next start.
    Swap,
    /// `*.tmp`: a file that was to be replaced at once; ignored.
    Temporary,
    /// `*.corrupt`: set aside by `ottla log repair`; ignored.
    Corrupt,
    /// `moved-from`: the mark of a log that came from another directory; removed at the next start at
    /// which that is online.
    MovedFrom,
    /// `.ottla_went_offline`: the directory's disk failed; removed at the next start.
    WentOffline,
}

impl Leftover {
    /// Why it is there.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Deleted => "deleted; the next start removes it",
            Self::Cleaned => "of a compaction that did not finish; the next start removes it",
            Self::Swap => "of a compaction that finished; the next start puts it in its place",
            Self::Temporary => "of a file that was to be replaced; it is ignored",
            Self::Corrupt => "set aside by a repair; it is ignored",
            Self::MovedFrom => "of a move that did not finish; the next start settles it",
            Self::WentOffline => "the disk failed; the next start writes again what was not synced",
        }
    }

    const ALL: [(&'static str, Self); 5] = [
        (DELETED, Self::Deleted),
        ("cleaned", Self::Cleaned),
        ("swap", Self::Swap),
        ("tmp", Self::Temporary),
        ("corrupt", Self::Corrupt),
    ];
}

impl FileKind {
    /// The kind of a file called `name`.
    pub fn of(name: &str) -> Self {
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        if let Some((_, leftover)) = Leftover::ALL.into_iter().find(|(end, _)| *end == ending) {
            return Self::Leftover(leftover);
        }
        match name {
            MOVED_FROM => Self::Leftover(Leftover::MovedFrom),
            WENT_OFFLINE => Self::Leftover(Leftover::WentOffline),
            "leader-epoch-checkpoint" => Self::LeaderEpochs,
            "partition.metadata" => Self::PartitionMetadata,
            "recovery-point-offset-checkpoint"
            | "log-start-offset-checkpoint"
            | "replication-offset-checkpoint"
            | "cleaner-offset-checkpoint"
            | "metadata-offset-checkpoint" => Self::OffsetCheckpoint,
            "meta.properties" => Self::MetaProperties,
            ".kafka_cleanshutdown" => Self::CleanShutdown,
            "quorum-state" => Self::QuorumState,
            ".lock" => Self::Lock,
            _ if is_metadata_snapshot(name) => Self::MetadataSnapshot,
            _ => Self::of_segment(name),
        }
    }

    /// The kind that a file called `name` had before it was set aside, deleted or cleaned; the
    /// offset of what a repair cut off is that of the segment.
    pub fn behind_leftover(name: &str) -> Self {
        let Some((stem, _)) = name.rsplit_once('.') else { return Self::Unknown };
        match (Self::of(stem), stem.rsplit_once('.')) {
            (Self::Unknown, Some((stem, number))) if number.parse::<u64>().is_ok() => {
                Self::of(stem)
            }
            (kind, _) => kind,
        }
    }

    /// Base offset of the segment that it is an index of.
    pub(super) fn index_of(self) -> Option<Offset> {
        if let Self::OffsetIndex(base) | Self::TimeIndex(base) | Self::TransactionIndex(base) = self
        {
            return Some(base);
        }
        None
    }

    fn of_segment(name: &str) -> Self {
        match parse_segment_file(name) {
            Some((base, LOG)) => Self::Log(base),
            Some((base, INDEX)) => Self::OffsetIndex(base),
            Some((base, TIME_INDEX)) => Self::TimeIndex(base),
            Some((base, TXN_INDEX)) => Self::TransactionIndex(base),
            Some((base, SNAPSHOT)) => Self::ProducerSnapshot(base),
            _ => Self::Unknown,
        }
    }
}

fn is_metadata_snapshot(name: &str) -> bool {
    let digits =
        |part: &str, count| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    name.strip_suffix(".checkpoint")
        .and_then(|stem| stem.split_once('-'))
        .is_some_and(|(offset, epoch)| digits(offset, 20) && digits(epoch, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_kind() {
        let base = Offset(42);
        for (name, kind) in [
            ("00000000000000000042.log", FileKind::Log(base)),
            ("00000000000000000042.index", FileKind::OffsetIndex(base)),
            ("00000000000000000042.timeindex", FileKind::TimeIndex(base)),
            ("00000000000000000042.txnindex", FileKind::TransactionIndex(base)),
            ("00000000000000000042.snapshot", FileKind::ProducerSnapshot(base)),
            ("00000000000000000042-0000000001.checkpoint", FileKind::MetadataSnapshot),
            ("00000000000000000042.log.deleted", FileKind::Leftover(Leftover::Deleted)),
            ("00000000000000000042.log.cleaned", FileKind::Leftover(Leftover::Cleaned)),
            ("00000000000000000042.index.swap", FileKind::Leftover(Leftover::Swap)),
            ("leader-epoch-checkpoint", FileKind::LeaderEpochs),
            ("cleaner-offset-checkpoint", FileKind::OffsetCheckpoint),
            ("42.log", FileKind::Unknown),
            ("notes.txt", FileKind::Unknown),
        ] {
            assert_eq!(FileKind::of(name), kind, "{name}");
        }
        let log = "00000000000000000042.log";
        for ending in ["corrupt", "17.corrupt", "deleted", "cleaned"] {
            let kind = FileKind::behind_leftover(&format!("{log}.{ending}"));
            assert_eq!(kind, FileKind::Log(base), "{ending}");
        }
    }
}
