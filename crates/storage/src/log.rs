//! One partition's log on this node. Kafka's `UnifiedLog`.

mod append;
mod compaction;
mod flush;
mod listing;
mod load;
mod lookup;
mod maintenance;
mod moves;
mod producer_recall;
mod producer_recovery;
mod read;
mod swap;
mod truncate;
mod txn_index_check;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use ottla_config::LogConfig;
use ottla_protocol::{Offset, Timestamp, TopicId, TopicPartition};
use parking_lot::Mutex;

use crate::cleaner::CleaningState;
use crate::leader_epoch_cache::LeaderEpochCache;
use crate::log_dir::{LogDir, LogDirFailure};
use crate::log_segment::LogSegment;
use crate::producer_state::{ProducerStates, SnapshotEntry};

pub(crate) use append::note_producer;
pub(crate) use flush::Unsynced;
pub use load::LogOpenOptions;
pub use lookup::TimestampAndOffset;
pub use read::ReadError;

/// A partition's log: segments of batches, each beginning where the one before ends.
///
/// Shared as `Arc<Log>`. Writers take a short lock; readers take none: they look at an immutable
/// list of segments, of which only the last one grows. Every call may block on the disk, none
/// waits for anything else.
///
/// ```text
///   log start          recovery point        high watermark     log end
///   │ segment │ segment │ segment │ active segment │              │
///   └─ retention        └─ synced up to here                      └─ next offset
/// ```
pub struct Log {
    partition: TopicPartition,
    path: PathBuf,
    dir: Arc<LogDir>,
    config: ArcSwap<LogConfig>,
    producer_id_expiration: Duration,
    segments: ArcSwap<Vec<Arc<LogSegment>>>,
    log_start_offset: AtomicI64,
    log_end_offset: AtomicI64,
    high_watermark: AtomicI64,
    synced_end: AtomicI64,
    checkpointed: Checkpointed,
    /// First offset of the oldest open transaction; `i64::MAX` if there is none.
    first_unstable_offset: AtomicI64,
    last_flush: AtomicI64,
    /// See [`is_settled`](Self::is_settled).
    settled: AtomicBool,
    writer: Mutex<Writer>,
    cleaning: CleaningState,
    /// Taken before `writer` by those who take both. Whoever waits for it finds its work done.
    flushing: Mutex<()>,
}

/// How far the last checkpoint reaches: recovery reads nothing before it.
#[derive(Default)]
struct Checkpointed {
    offset: AtomicI64,
    /// Length of the active segment by then.
    size: AtomicU64,
}

impl Checkpointed {
    fn at(offset: Offset, size: u64) -> Self {
        Self { offset: AtomicI64::new(offset.0), size: AtomicU64::new(size) }
    }
}

/// What only a writer looks at.
struct Writer {
    /// `None` once the log is closed or deleted.
    active: Option<Arc<LogSegment>>,
    /// Taken off `segment.ms` for the active segment.
    roll_jitter: Duration,
    producers: ProducerStates,
    epochs: LeaderEpochCache,
    topic_id: Option<TopicId>,
    /// New names in the directory that a power loss would take.
    unsynced_names: bool,
}

impl Writer {
    fn active(&self) -> Result<&Arc<LogSegment>, LogDirFailure> {
        self.active.as_ref().ok_or(LogDirFailure::Closed)
    }
}

impl Log {
    /// The partition.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The partition's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log directory it lies in.
    pub fn log_dir(&self) -> &Arc<LogDir> {
        &self.dir
    }

    /// The topic's id, once it is known (KIP-516).
    pub fn topic_id(&self) -> Option<TopicId> {
        self.writer.lock().topic_id
    }

    /// The producers that it remembers (KIP-664), by id.
    pub fn producers(&self) -> Vec<SnapshotEntry> {
        self.writer.lock().producers.entries().collect()
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.load_full()
    }

    /// Puts a new configuration in force.
    pub fn update_config(&self, config: LogConfig) {
        self.config.store(Arc::new(config));
    }

    /// First offset that may be read.
    pub fn log_start_offset(&self) -> Offset {
        Offset(self.log_start_offset.load(Ordering::Acquire))
    }

    /// Offset of the next record.
    pub fn log_end_offset(&self) -> Offset {
        Offset(self.log_end_offset.load(Ordering::Acquire))
    }

    /// Where recovery has to begin after a crash: before it everything survives a power loss, and
    /// indexes are complete on disk.
    pub fn recovery_point(&self) -> Offset {
        let segments = self.segments.load();
        let sealed = segments.split_last().map_or(&[][..], |(_, sealed)| sealed);
        let unsaved = sealed.iter().find(|segment| segment.has_unsaved_indexes());
        let synced_end = self.synced_end();
        unsaved.map_or(synced_end, |segment| segment.base_offset().min(synced_end))
    }

    /// Every batch before it survives a power loss.
    fn synced_end(&self) -> Offset {
        Offset(self.synced_end.load(Ordering::Acquire))
    }

    /// The high watermark that was last set; retention stays below it.
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// Notes what the partition's leader says is committed. Kept within the log's bounds.
    pub fn set_high_watermark(&self, offset: Offset) {
        let offset = offset.min(self.log_end_offset()).max(self.log_start_offset()).0;
        self.high_watermark.store(offset, Ordering::Release);
        if self.first_unstable_offset.load(Ordering::Acquire) != i64::MAX {
            let mut writer = self.writer.lock();
            writer.producers.high_watermark_moved(Offset(offset));
            self.publish_first_unstable(&writer);
        }
    }

    /// Where a `read_committed` consumer stops (KIP-98): the first record of the oldest open
    /// transaction, or `high_watermark`. Of a transaction that began before the log's start, only
    /// what is left counts.
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        let first_unstable = Offset(self.first_unstable_offset.load(Ordering::Acquire));
        high_watermark.min(first_unstable.max(self.log_start_offset()))
    }

    /// Bytes of all batches.
    pub fn size(&self) -> u64 {
        self.segments.load().iter().map(|segment| segment.size()).sum()
    }

    /// End offset and bytes of each segment, oldest first.
    pub fn segment_sizes(&self) -> Vec<(Offset, u64)> {
        let segments = self.segments.load();
        let next = segments.iter().skip(1).map(|next| next.base_offset());
        let ends = next.chain([self.log_end_offset()]);
        segments.iter().zip(ends).map(|(segment, end)| (end, segment.size())).collect()
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.segments.load().len()
    }

    fn publish_first_unstable(&self, writer: &Writer) {
        let first = writer.producers.first_unstable_offset();
        self.first_unstable_offset.store(first.map_or(i64::MAX, |f| f.0), Ordering::Release);
    }

    fn now(&self) -> Timestamp {
        self.dir.now()
    }
}
