//! What is wrong with a file, and what to do about it.

use std::fmt;
use std::path::PathBuf;

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file or directory.
    pub path: PathBuf,
    /// Byte of the file, where that can be told.
    pub position: Option<u64>,
    /// What kind of problem it is.
    pub problem: Problem,
    /// What exactly is wrong.
    pub reason: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong; the next start deals with it.
    Note,
    /// Records are safe, but something that is made of them, or says where they lie, is not.
    Warning,
    /// Records are damaged or missing.
    Error,
}

impl Severity {
    /// In lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Everything that can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// The last batch of a log is not whole.
    TornTail,
    /// Bytes between batches that are no batch.
    DamagedBatch,
    /// A batch with an offset that is not above those before it.
    OffsetOrder,
    /// A batch of an older leader than the one before it.
    EpochOrder,
    /// A batch whose checksum fits, but whose records cannot be read.
    UnreadableRecords,
    /// A batch whose header says other things than its records.
    InconsistentBatch,
    /// Offsets without records in a log that was never compacted.
    Gap,
    /// An `.index` file that does not fit its segment.
    OffsetIndex,
    /// A `.timeindex` file that does not fit its segment.
    TimeIndex,
    /// A `.txnindex` file that does not fit its segment.
    TransactionIndex,
    /// A segment without its index.
    MissingIndex,
    /// An index without its segment.
    OrphanFile,
    /// A `.snapshot` file that cannot be read, or does not fit the log.
    ProducerSnapshot,
    /// A `leader-epoch-checkpoint` that cannot be read, or does not fit the log.
    LeaderEpochs,
    /// A `partition.metadata` that cannot be read, or names another topic.
    PartitionMetadata,
    /// An offset checkpoint that cannot be read.
    UnreadableCheckpoint,
    /// A line of an offset checkpoint that does not fit the log.
    CheckpointBounds,
    /// A `meta.properties` that is missing, cannot be read, or names another node or cluster.
    MetaProperties,
    /// A partition that lies in two directories.
    DuplicatePartition,
    /// A file that waits for the next start.
    Leftover,
    /// A file that no node writes.
    UnknownFile,
}

impl Problem {
    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::DamagedBatch
            | Self::OffsetOrder
            | Self::EpochOrder
            | Self::UnreadableRecords
            | Self::InconsistentBatch
            | Self::Gap
            | Self::MetaProperties
            | Self::DuplicatePartition => Severity::Error,
            Self::TornTail
            | Self::OffsetIndex
            | Self::TimeIndex
            | Self::TransactionIndex
            | Self::ProducerSnapshot
            | Self::LeaderEpochs
            | Self::PartitionMetadata
            | Self::UnreadableCheckpoint
            | Self::CheckpointBounds
            | Self::MissingIndex => Severity::Warning,
            Self::OrphanFile | Self::Leftover | Self::UnknownFile => Severity::Note,
        }
    }

    /// Its name, for scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::TornTail => "torn-tail",
            Self::DamagedBatch => "damaged-batch",
            Self::OffsetOrder => "offset-order",
            Self::EpochOrder => "epoch-order",
            Self::UnreadableRecords => "unreadable-records",
            Self::InconsistentBatch => "inconsistent-batch",
            Self::Gap => "gap",
            Self::OffsetIndex => "offset-index",
            Self::TimeIndex => "time-index",
            Self::TransactionIndex => "transaction-index",
            Self::MissingIndex => "missing-index",
            Self::OrphanFile => "orphan-file",
            Self::ProducerSnapshot => "producer-snapshot",
            Self::LeaderEpochs => "leader-epochs",
            Self::PartitionMetadata => "partition-metadata",
            Self::UnreadableCheckpoint => "unreadable-checkpoint",
            Self::CheckpointBounds => "checkpoint-bounds",
            Self::MetaProperties => "meta-properties",
            Self::DuplicatePartition => "duplicate-partition",
            Self::Leftover => "leftover",
            Self::UnknownFile => "unknown-file",
        }
    }

    /// What a person can do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::TornTail => {
                "a start of the node cuts it off; so does `ottla log repair`, which keeps a copy"
            }
            Self::DamagedBatch | Self::OffsetOrder | Self::EpochOrder => {
                "if another replica or a backup has these records, empty the directory and let it \
                 be filled again; else `ottla log repair` keeps what comes before and sets the \
                 rest aside"
            }
            Self::UnreadableRecords | Self::InconsistentBatch => {
                "a producer wrote it so: consumers fail here; move them past it with a reset of \
                 their offsets, or delete up to it with DeleteRecords"
            }
            Self::Gap => {
                "if a file of the log was lost, restore it; if the topic was once compacted, \
                 nothing is wrong"
            }
            Self::OffsetIndex
            | Self::TimeIndex
            | Self::TransactionIndex
            | Self::MissingIndex
            | Self::ProducerSnapshot
            | Self::LeaderEpochs => "`ottla log repair` makes it anew from the records",
            Self::PartitionMetadata => {
                "`ottla log repair` sets it aside; the node writes it anew as it starts"
            }
            Self::UnreadableCheckpoint | Self::CheckpointBounds => {
                "`ottla log repair` writes what can be known of it anew"
            }
            Self::MetaProperties => {
                "restore the file from a backup, or write cluster.id, directory.id, node.id and \
                 version=1 by hand; the other log.dirs have the same cluster.id and node.id"
            }
            Self::DuplicatePartition => {
                "keep the copy with the larger log end, and move the other out of log.dirs"
            }
            Self::OrphanFile | Self::Leftover => "nothing: the next start deals with it",
            Self::UnknownFile => "nothing: the node ignores it",
        }
    }
}

impl Finding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.problem.severity()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(position) = self.position {
            write!(f, " at byte {position}")?;
        }
        write!(f, ": {}", self.reason)
    }
}
