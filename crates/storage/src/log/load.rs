//! Opening a log: listing its segments, recovering what a crash left, and finding its end.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use arc_swap::ArcSwap;
use ottla_config::LogConfig;
use ottla_env::is_out_of_space;
use ottla_protocol::{Offset, TopicPartition};
use parking_lot::Mutex;

use super::listing::{ListedFiles, Listing, keep_useful_snapshots};
use super::producer_recovery::ProducerRecovery;
use super::{Checkpointed, Log, Writer, flush, swap, txn_index_check};
use crate::batch_scanner::HeaderScanner;
use crate::cleaner::CleaningState;
use crate::leader_epoch_cache::{self, LeaderEpochCache};
use crate::log_dir::LogDir;
use crate::log_segment::{LogSegment, SegmentFileSizes};
use crate::partition_metadata;
use crate::producer_state::ProducerStates;
use crate::recovery::{self, Scanned, Suspect, skip_invalid};

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct LogOpenOptions {
    /// The topic's configuration.
    pub config: LogConfig,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
    /// From `recovery-point-offset-checkpoint`: what lies before it was synced.
    pub recovery_point: Offset,
    /// From `log-start-offset-checkpoint`.
    pub log_start_offset: Offset,
    /// From `replication-offset-checkpoint`.
    pub high_watermark: Offset,
    /// From `cleaner-offset-checkpoint`: what lies before it was compacted. `None` if the log never
    /// was.
    pub first_dirty_offset: Option<Offset>,
    /// The node was shut down cleanly: nothing needs to be checked.
    pub clean_shutdown: bool,
}

impl LogOpenOptions {
    /// A log of which no checkpoint is known.
    pub fn new(config: LogConfig, producer_id_expiration: Duration) -> Self {
        Self {
            config,
            producer_id_expiration,
            recovery_point: Offset(0),
            log_start_offset: Offset(0),
            high_watermark: Offset(0),
            first_dirty_offset: None,
            clean_shutdown: false,
        }
    }
}

/// What opening a log finds out.
struct Loaded {
    segments: Vec<Arc<LogSegment>>,
    log_start: Offset,
    log_end: Offset,
    epochs: LeaderEpochCache,
    producers: ProducerStates,
    /// The log was closed, and a snapshot at its end vouches for it.
    checkpointed: bool,
}

impl Log {
    /// Opens the log of `partition` in `dir`, or makes an empty one. Blocks while it recovers.
    pub fn open(
        dir: Arc<LogDir>,
        partition: TopicPartition,
        options: LogOpenOptions,
    ) -> io::Result<Self> {
        let name = partition.to_string();
        Self::open_at(dir, &name, partition, options)
    }

    /// [`open`](Self::open) for a log whose directory is called `name`.
    pub(crate) fn open_at(
        dir: Arc<LogDir>,
        name: &str,
        partition: TopicPartition,
        options: LogOpenOptions,
    ) -> io::Result<Self> {
        let path = dir.path().join(name);
        let Loaded { segments, log_start, log_end, mut epochs, producers, checkpointed } =
            load(&dir, &path, &options)?;
        let active = segments.last().cloned();
        let first = segments.first().map_or(Offset(0), |segment| segment.base_offset());
        let log_start = log_start.max(first).min(log_end);
        epochs.truncate_from_start(log_start);
        // Also of an epoch all of whose records are before the start.
        epochs.truncate_from_end(log_end);
        let unstable = producers.first_unstable_offset().map_or(i64::MAX, |offset| offset.0);
        let checkpointed = match (&active, checkpointed) {
            (Some(active), true) => Checkpointed::at(log_end, active.size()),
            (Some(_), false) | (None, _) => Checkpointed::default(),
        };
        let writer = Writer {
            active,
            roll_jitter: Duration::ZERO,
            producers,
            epochs,
            topic_id: partition_metadata::read(dir.disk(), &path)?,
            unsynced_names: true,
        };
        Ok(Self {
            partition,
            path,
            config: ArcSwap::from_pointee(options.config),
            producer_id_expiration: options.producer_id_expiration,
            segments: ArcSwap::from_pointee(segments),
            log_start_offset: AtomicI64::new(log_start.0),
            log_end_offset: AtomicI64::new(log_end.0),
            high_watermark: AtomicI64::new(options.high_watermark.0.clamp(log_start.0, log_end.0)),
            synced_end: AtomicI64::new(options.recovery_point.min(log_end).0),
            checkpointed,
            first_unstable_offset: AtomicI64::new(unstable),
            last_flush: AtomicI64::new(dir.now().0),
            settled: AtomicBool::new(false),
            writer: Mutex::new(writer),
            cleaning: CleaningState::new(options.first_dirty_offset, (log_start, log_end)),
            flushing: Mutex::default(),
            dir,
        })
    }
}

fn load(dir: &Arc<LogDir>, path: &Path, options: &LogOpenOptions) -> io::Result<Loaded> {
    let mut listing = Listing::of(dir, path)?;
    if listing.is_compaction_interrupted {
        swap::complete(dir, path)?;
        listing = Listing::of(dir, path)?;
    }
    let Listing { segments: listed, snapshots, .. } = listing;
    let epoch_file = path.join(leader_epoch_cache::FILE_NAME);
    let known_epochs = skip_invalid(LeaderEpochCache::read(dir.disk(), &epoch_file))?;
    let epochs_lost = known_epochs.is_none();
    let epochs = known_epochs.unwrap_or_default();
    let outdated_txn_indexes = BTreeMap::new();
    let mut loader =
        Loader { dir, path, options, snapshots: &snapshots, epochs, outdated_txn_indexes };
    let mut segments = Vec::with_capacity(listed.len().max(1));
    let mut log_end = options.log_start_offset;
    let mut rest = listed.into_iter().peekable();
    while let Some((base_offset, files)) = rest.next() {
        let next_base = rest.peek().map(|(next, _)| *next);
        let (segment, scanned) = loader.open_segment(base_offset, &files, next_base, &segments)?;
        let Some(scanned) = scanned else {
            segments.push(segment);
            log_end = next_base.unwrap_or(log_end);
            continue;
        };
        log_end = scanned.next_offset;
        if let Some(next_base) = next_base.filter(|next_base| *next_base < log_end) {
            return Err(overlap(&segment, log_end, next_base));
        }
        let lost_end = next_base.is_some_and(|next_base| next_base > log_end)
            && !loader.is_known_whole(next_base);
        let damaged = scanned.truncated > 0 || lost_end;
        if next_base.is_some() && !damaged {
            flush::sync_indexes(&segment, dir)?;
            segments.push(segment);
            continue;
        }
        segments.push(segment);
        if damaged {
            remove_after_damage(dir, path, rest.by_ref())?;
        }
    }
    let Loader { mut epochs, outdated_txn_indexes, .. } = loader;
    // No segment is left where a crash interrupted a truncation of all of them.
    let log_start = believable_start(path, options, log_end);
    let began_anew = segments.is_empty() || log_end < log_start;
    let log_end = begin_at_start(dir, path, options, &mut segments, (log_start, log_end))?;
    if epochs_lost {
        tracing::warn!(file = %epoch_file.display(), "damaged: finding the epochs in the log");
        epochs = find_epochs(&segments)?;
    }
    let snapshots = if began_anew { forget_producers(dir, path)? } else { snapshots };
    let snapshots = keep_useful_snapshots(dir, snapshots, &segments, log_end)?;
    let as_closed = options.clean_shutdown && options.recovery_point == log_end;
    // A log that was closed and left no snapshot at its end knew no producer.
    let has_snapshot = snapshots.contains_key(&log_end);
    let none_known = as_closed && !has_snapshot;
    let producers = match none_known && outdated_txn_indexes.is_empty() {
        true => ProducerStates::default(),
        false => ProducerRecovery { dir, segments: &segments, log_end, outdated_txn_indexes }
            .run(snapshots)?,
    };
    let checkpointed = as_closed && has_snapshot;
    Ok(Loaded { segments, log_start, log_end, epochs, producers, checkpointed })
}

/// Opens the segments of a log one after the other.
struct Loader<'a> {
    dir: &'a Arc<LogDir>,
    path: &'a Path,
    options: &'a LogOpenOptions,
    snapshots: &'a BTreeMap<Offset, PathBuf>,
    epochs: LeaderEpochCache,
    /// Segments whose transaction index has to be made anew, once the producers are known, and
    /// from where on.
    outdated_txn_indexes: BTreeMap<Offset, Offset>,
}

impl Loader<'_> {
    /// Whether the power cannot have taken the end of a sealed segment. If it ends before the next
    /// one begins all the same, compaction has removed what was there, perhaps that of Kafka: what
    /// is compacted is synced.
    fn is_known_whole(&self, next_base: Option<Offset>) -> bool {
        let first_dirty = self.options.first_dirty_offset;
        let is_compacted = next_base.zip(first_dirty).is_some_and(|(next, dirty)| next <= dirty);
        is_compacted || self.is_synced(next_base)
    }

    /// Whether a segment was synced before the last run ended.
    fn is_synced(&self, next_base: Option<Offset>) -> bool {
        self.options.clean_shutdown
            || next_base.is_some_and(|next| next <= self.options.recovery_point)
    }

    /// Whether the indexes of a segment were synced, too, as it was sealed with: one that was sealed
    /// at the recovery point may have got its last entry afterwards.
    fn has_synced_indexes(&self, next_base: Option<Offset>) -> bool {
        self.options.clean_shutdown
            || next_base.is_some_and(|next| next < self.options.recovery_point)
    }

    /// Opens a segment, or recovers it if it cannot be trusted. `None` is scanned of a segment
    /// that is sealed and as it was left.
    fn open_segment(
        &mut self,
        base_offset: Offset,
        files: &ListedFiles,
        next_base: Option<Offset>,
        before: &[Arc<LogSegment>],
    ) -> io::Result<(Arc<LogSegment>, Option<Scanned>)> {
        let Self { dir, path, options, .. } = *self;
        let synced = self.is_synced(next_base);
        let sizes = files.sizes();
        if self.has_synced_indexes(next_base) && files.has_indexes() {
            let opened = match next_base {
                Some(_) => Some((LogSegment::open(dir, path, base_offset, sizes), None)),
                None => recovery::open_active(dir, path, base_offset, sizes)?
                    .map(|(segment, end)| (segment, Some(Scanned::nothing(end)))),
            };
            if let Some((segment, scanned)) = opened {
                if !self.load_txn_index(&segment, files, before)? {
                    self.outdated_txn_indexes.insert(base_offset, base_offset);
                }
                return Ok((segment, scanned));
            }
        }
        let checkpoint = self.checkpoint_in(base_offset)?;
        let synced_up_to = next_base.filter(|_| synced);
        let suspect = Suspect { dir, path, base_offset, sizes, checkpoint, synced_up_to };
        let (segment, scanned) = suspect.recover(&options.config)?;
        let mut may_be_indexed = true;
        if scanned.has_markers && files.txn_index.is_none() && self.has_synced_indexes(next_base) {
            // Who dies before it is made anew leaves the other indexes, and a start believes those.
            match segment.txn_index().doubt(dir.disk()) {
                Err(error) if is_out_of_space(&error) => may_be_indexed = false,
                doubted => doubted?,
            }
        }
        if scanned.first_offset == base_offset && may_be_indexed {
            // Indexes made anew: a checkpoint that is still there must not vouch for what is on
            // disk of them before they are.
            if self.snapshots.range(base_offset.next()..).next().is_some() {
                flush::sync_indexes(&segment, dir)?;
            }
        }
        if !synced {
            // The batches know better than a file that may be older than they are.
            self.epochs.truncate_from_end(scanned.first_offset);
        }
        for (epoch, start) in &scanned.epochs {
            self.epochs.assign(*epoch, *start);
        }
        if scanned.has_markers || files.txn_index.is_some() {
            // A checkpoint vouches for what is before it, as for the other indexes; it was synced
            // with its segment.
            let is_whole = synced_up_to.is_some() && files.txn_index.is_some();
            let vouched = is_whole || scanned.first_offset > base_offset;
            match vouched && self.load_txn_index(&segment, files, before)? {
                true if is_whole => None,
                true => self.outdated_txn_indexes.insert(base_offset, scanned.first_offset),
                false => self.outdated_txn_indexes.insert(base_offset, base_offset),
            };
        }
        Ok((segment, Some(scanned)))
    }

    /// The last checkpoint within the segment at `base_offset`, if there was one: a snapshot that
    /// [`Log::checkpoint`] wrote once everything before it was synced, the indexes too.
    fn checkpoint_in(&self, base_offset: Offset) -> io::Result<Option<Offset>> {
        let within = base_offset.next()..=self.options.recovery_point.max(base_offset.next());
        let Some((offset, file)) = self.snapshots.range(within).next_back() else {
            return Ok(None);
        };
        let snapshot = ProducerStates::from_snapshot(&self.dir.disk().read(file)?);
        Ok(snapshot.is_ok().then_some(*offset))
    }

    /// Reads the transaction index of a segment, if it has one; `false` if it makes no sense, or
    /// is not about what the log holds.
    fn load_txn_index(
        &self,
        segment: &Arc<LogSegment>,
        files: &ListedFiles,
        before: &[Arc<LogSegment>],
    ) -> io::Result<bool> {
        let Some(len) = files.txn_index else { return Ok(true) };
        let is_compacted = self.options.first_dirty_offset.is_some();
        let checked = segment
            .txn_index()
            .load(len)
            .and_then(|()| txn_index_check::compare(segment, before, is_compacted));
        match checked {
            Err(error) if is_torn(&error) => {
                let file = segment.txn_index().path().display();
                tracing::warn!(%file, %error, "making a damaged transaction index anew");
                Ok(false)
            }
            checked => checked.map(|()| true),
        }
    }
}

/// The log's start as the checkpoint has it, unless it cannot be true: a log that was closed did
/// not end before its start, so a digit became another one.
fn believable_start(path: &Path, options: &LogOpenOptions, log_end: Offset) -> Offset {
    let log_start = options.log_start_offset;
    let was_closed = options.clean_shutdown && options.recovery_point == log_end;
    if was_closed && log_start > log_end {
        tracing::warn!(dir = %path.display(), %log_end, %log_start, "ignoring a start beyond the end");
        return Offset(0);
    }
    log_start
}

fn is_torn(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// Two segments with records of the same offsets: no crash leaves that, and which of them is right
/// nobody can tell. Nothing is touched.
fn overlap(segment: &LogSegment, end: Offset, next_base: Offset) -> io::Error {
    let message = format!(
        "{} holds offsets up to {}, but another segment begins at {next_base}: remove one of them",
        segment.path().display(),
        end.0 - 1,
    );
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// What follows the damage no longer joins on: with the power the system may lose the end of a
/// segment and keep the name of the next.
fn remove_after_damage(
    dir: &LogDir,
    path: &Path,
    rest: impl Iterator<Item = (Offset, ListedFiles)>,
) -> io::Result<()> {
    for (base_offset, files) in rest {
        tracing::warn!(dir = %path.display(), %base_offset, "removing a segment after a torn one");
        files.remove(dir, path, base_offset)?;
    }
    // Another power loss must not bring them back after new records took their offsets.
    dir.disk().sync_dir(path)
}

/// Makes sure that there is a segment, and that the log does not end before its start; the log's
/// end.
fn begin_at_start(
    dir: &LogDir,
    path: &Path,
    options: &LogOpenOptions,
    segments: &mut Vec<Arc<LogSegment>>,
    (log_start, log_end): (Offset, Offset),
) -> io::Result<Offset> {
    if log_end < log_start {
        // Deleted offsets are never given out again, even if a crash took what came after them.
        tracing::warn!(dir = %path.display(), %log_end, %log_start, "the log ends before its start");
        for segment in segments.drain(..) {
            segment.delete(dir, dir.now())?;
        }
    }
    if segments.is_empty() {
        segments.push(LogSegment::create(dir, path, log_start, &options.config)?);
    }
    Ok(log_end.max(log_start))
}

/// Removes all snapshots of a log that begins anew: the transactions that they call open may have
/// ended in what a crash took, and nobody would ever end them. Kafka's `truncateFullyAndStartAt`.
fn forget_producers(dir: &LogDir, path: &Path) -> io::Result<BTreeMap<Offset, PathBuf>> {
    for file in Listing::of(dir, path)?.snapshots.values() {
        dir.disk().remove_file(file)?;
    }
    dir.disk().sync_dir(path)?;
    Ok(BTreeMap::new())
}

/// The epochs of all batches, from their headers.
fn find_epochs(segments: &[Arc<LogSegment>]) -> io::Result<LeaderEpochCache> {
    let mut epochs = LeaderEpochCache::default();
    for segment in segments.iter().filter(|segment| segment.size() > 0) {
        let file = segment.file()?;
        let mut scanner = HeaderScanner::new(&*file, 0, segment.size());
        while let Some(Some(batch)) = skip_invalid(scanner.next_batch())? {
            epochs.assign(batch.header.leader_epoch, batch.header.base_offset);
        }
    }
    Ok(epochs)
}

/// Makes a segment anew from its file, after the file was cut.
pub(super) fn rescan(
    dir: &LogDir,
    segment: &LogSegment,
    config: &LogConfig,
) -> io::Result<(Arc<LogSegment>, Scanned)> {
    let path = segment.path().parent().unwrap_or(Path::new(""));
    let sizes = SegmentFileSizes { log: segment.file()?.len()?, ..SegmentFileSizes::default() };
    let base_offset = segment.base_offset();
    let (checkpoint, synced_up_to) = (None, None);
    Suspect { dir, path, base_offset, sizes, checkpoint, synced_up_to }.recover(config)
}
