//! One pass through a log, in steps: first the keys of the dirty section, then a copy of what
//! stays, segment by segment.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_protocol::compression::Decompressor;
use ottla_protocol::record_batch::{RecordBatch, Records};
use ottla_protocol::{Offset, Timestamp};

use super::batch_cursor::{BatchCursor, Buffer};
use super::cleanable::{CleanableLog, Source, group, millis};
use super::cleaned_segment::{CleanedSegment, discard};
use super::offset_map::{Full, OffsetMap};
use super::retention::{Retention, Surroundings, plain};
use super::transactions::CleanedTransactions;
use super::{CleanError, CleanerLimits, CleanerStats, Stop};
use crate::log::Log;

/// A pass that was begun. If it is dropped before its end, nothing has happened to segments that
/// it did not get to.
pub(super) struct Pass {
    log: Arc<Log>,
    cleanable: CleanableLog,
    now: Timestamp,
    io_buffer_bytes: usize,
    phase: Phase,
    stats: CleanerStats,
}

/// What a step has come to.
pub(super) struct Progress {
    /// Bytes read and written.
    pub(super) io_bytes: u64,
    /// What the whole pass did, if this was its last step.
    pub(super) done: Option<CleanerStats>,
}

enum Phase {
    Mapping(Box<Mapping>),
    Copying(Box<Copying>),
    Done,
}

/// Finding the last offset of each key.
struct Mapping {
    sources: VecDeque<Source>,
    cursor: Option<BatchCursor>,
    buffer: Option<Buffer>,
    map: OffsetMap,
    /// Everything up to here is in the map.
    latest: Offset,
    transactions: CleanedTransactions,
    decompressor: Decompressor,
}

/// Copying what stays.
struct Copying {
    retention: Retention,
    groups: VecDeque<Vec<Source>>,
    group: Option<Group>,
    buffer: Option<Buffer>,
    around: Surroundings,
}

/// Segments that become one.
struct Group {
    sources: Vec<Source>,
    /// How many of them were begun.
    begun: usize,
    /// Where the last batch of all ends.
    end: Option<Offset>,
    cursor: Option<BatchCursor>,
    output: CleanedSegment,
}

/// Bytes read between two looks at whether the log is still there.
const STRIDE: u64 = 1 << 20;

impl Pass {
    /// Begins a pass over what may be cleaned; `None` if one is under way.
    pub(super) fn begin(
        cleanable: CleanableLog,
        limits: &CleanerLimits,
        now: Timestamp,
    ) -> Option<Self> {
        let log = cleanable.log.clone();
        if !log.cleaning().begin() {
            return None;
        }
        let first_dirty = cleanable.first_dirty;
        let mut sources = VecDeque::from(cleanable.sources(cleanable.end));
        sources.retain(|source| source.end > first_dirty);
        let records = cleanable.end.0.saturating_sub(first_dirty.0);
        let map = OffsetMap::new(
            limits.dedupe_buffer_bytes,
            limits.io_buffer_load_factor,
            u64::try_from(records).unwrap_or(0),
            (log.log_dir().random(), log.log_dir().random()),
        );
        let mapping = Mapping {
            sources,
            cursor: None,
            buffer: Some(Buffer::new(limits.io_buffer_bytes)),
            map,
            latest: Offset(first_dirty.0 - 1),
            transactions: CleanedTransactions::default(),
            decompressor: Decompressor::new(),
        };
        let stats = CleanerStats { first_dirty, cleaned_to: first_dirty, ..Default::default() };
        let io_buffer_bytes = limits.io_buffer_bytes;
        let phase = Phase::Mapping(Box::new(mapping));
        Some(Self { log, cleanable, now, io_buffer_bytes, phase, stats })
    }

    /// Goes on until `budget` bytes were read and written, or a little more.
    pub(super) fn advance(&mut self, budget: u64) -> Result<Progress, CleanError> {
        let log = self.log.clone();
        let _step = log.cleaning().step();
        let before = self.stats.io_bytes();
        let result = self.work(before.saturating_add(budget));
        if let Err(stop) = result {
            let error = self.explain(stop);
            self.discard_output();
            self.phase = Phase::Done;
            return Err(error);
        }
        let done = match self.phase {
            Phase::Done => Some(self.stats),
            Phase::Mapping(_) | Phase::Copying(_) => None,
        };
        Ok(Progress { io_bytes: self.stats.io_bytes() - before, done })
    }

    fn work(&mut self, enough: u64) -> Result<(), Stop> {
        while self.stats.io_bytes() < enough {
            self.check()?;
            let stride = enough.min(self.stats.io_bytes() + STRIDE);
            match &mut self.phase {
                Phase::Mapping(mapping) => {
                    if mapping.advance(&self.cleanable, stride, &mut self.stats)? {
                        self.begin_copying();
                    }
                }
                Phase::Copying(copying) => {
                    if copying.advance(&self.log, self.io_buffer_bytes, stride, &mut self.stats)? {
                        self.log.cleaning().cleaned(self.cleanable.seen, self.stats.cleaned_to);
                        self.phase = Phase::Done;
                    }
                }
                Phase::Done => break,
            }
        }
        Ok(())
    }

    /// Whether there is still something to clean, and a disk to do it on.
    fn check(&self) -> Result<(), Stop> {
        let compacted = self.log.config().cleanup_policy.compact;
        if self.log.cleaning().is_outdated(self.cleanable.seen) || !compacted {
            return Err(Stop::Changed);
        }
        self.log.log_dir().check_online().map_err(Stop::from)
    }

    /// The keys are known as far as the map could hold them: from here on it is decided what goes.
    fn begin_copying(&mut self) {
        let Phase::Mapping(mapping) = std::mem::replace(&mut self.phase, Phase::Done) else {
            return;
        };
        let Mapping { map, latest, buffer, cursor, .. } = *mapping;
        self.stats.keys = map.len() as u64;
        self.stats.map_utilization = map.utilization();
        self.stats.cleaned_to = latest.next();
        let config = self.log.config();
        let retention = Retention {
            map,
            latest,
            now: self.now,
            new_horizon: Timestamp(self.now.0.saturating_add(millis(config.delete_retention_ms))),
        };
        let sources = match latest < self.cleanable.first_dirty {
            // Nothing is dirty.
            true => Vec::new(),
            false => self.cleanable.sources(latest.next()),
        };
        self.phase = Phase::Copying(Box::new(Copying {
            retention,
            groups: group(sources, &config).into(),
            group: None,
            buffer: buffer.or(cursor.map(BatchCursor::into_buffer)),
            around: Surroundings::default(),
        }));
    }

    /// What stopped the pass, for who asked for it.
    fn explain(&self, stop: Stop) -> CleanError {
        match stop {
            Stop::Refused(failure) => failure.into(),
            Stop::Changed => CleanError::Aborted,
            // Files that were cut or removed under the pass look damaged, and are not.
            Stop::Corrupt { .. } | Stop::Malformed(_) | Stop::Io(_) if self.is_disturbed() => {
                CleanError::Aborted
            }
            Stop::Corrupt { segment, reason } => CleanError::Corrupt { segment, reason },
            Stop::Malformed(reason) => CleanError::Corrupt { segment: self.segment(), reason },
            Stop::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
                ) =>
            {
                CleanError::Corrupt { segment: self.segment(), reason: error.to_string() }
            }
            Stop::Io(error) => self.log.log_dir().failed("cleaning a log", &error).into(),
        }
    }

    /// Whether the log is closed, or has lost segments that the pass is about.
    fn is_disturbed(&self) -> bool {
        self.log.cleaning().is_outdated(self.cleanable.seen)
            || !match &self.phase {
                Phase::Mapping(mapping) => {
                    self.log.holds(mapping.sources.iter().map(|source| &*source.segment))
                }
                Phase::Copying(copying) => {
                    let sources = copying.group.iter().flat_map(|group| &group.sources);
                    self.log.holds(sources.map(|source| &*source.segment))
                }
                Phase::Done => true,
            }
    }

    /// The segment that is being read.
    fn segment(&self) -> PathBuf {
        let cursor = match &self.phase {
            Phase::Mapping(mapping) => mapping.cursor.as_ref(),
            Phase::Copying(copying) => {
                copying.group.as_ref().and_then(|group| group.cursor.as_ref())
            }
            Phase::Done => None,
        };
        cursor.map_or(self.log.path(), BatchCursor::path).to_owned()
    }

    /// Removes what was written and is not part of the log. Called within a step.
    fn discard_output(&mut self) {
        if let Phase::Copying(copying) = &mut self.phase
            && let Some(group) = copying.group.take()
            && !self.log.cleaning().is_stopped()
        {
            discard(self.log.log_dir(), self.log.path(), group.output.base_offset());
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let log = self.log.clone();
        let _step = log.cleaning().step();
        self.discard_output();
        log.cleaning().end();
    }
}

impl Mapping {
    /// Reads on until `enough` bytes were read in all; `true` once the map is complete, or full.
    fn advance(
        &mut self,
        cleanable: &CleanableLog,
        enough: u64,
        stats: &mut CleanerStats,
    ) -> Result<bool, Stop> {
        while stats.io_bytes() < enough {
            let Some(cursor) = &mut self.cursor else {
                if !self.open_next(cleanable)? {
                    return Ok(true);
                }
                continue;
            };
            if cursor.is_at_end() {
                // Offsets that are gone need not be looked for again.
                self.latest = Offset(cursor.end_offset().0 - 1);
                self.buffer = self.cursor.take().map(BatchCursor::into_buffer);
                self.sources.pop_front();
                continue;
            }
            let batch = cursor.next_batch()?;
            stats.map_bytes_read += batch.len() as u64;
            let (map, latest) = (&mut self.map, &mut self.latest);
            let discard = self.transactions.read(&batch) || batch.is_control();
            if !discard {
                let first_dirty = cleanable.first_dirty;
                if map_batch(&batch, first_dirty, map, latest, &mut self.decompressor)?.is_err() {
                    return Ok(true);
                }
            }
            *latest = batch.last_offset().max(*latest);
        }
        Ok(false)
    }

    /// Begins to read the next segment; `false` after the last.
    fn open_next(&mut self, cleanable: &CleanableLog) -> Result<bool, Stop> {
        let Some(Source { segment, end }) = self.sources.front() else { return Ok(false) };
        let from = cleanable.first_dirty.max(segment.base_offset());
        self.transactions.add_aborted(cleanable.log.aborted_txns(from, *end)?);
        let buffer = self.buffer.take().unwrap_or_default();
        let position = segment.position_before(from);
        self.cursor = Some(BatchCursor::new(segment, position, *end, buffer)?);
        Ok(true)
    }
}

/// Puts the keys of a batch into the map. `latest` follows, so that a pass gets on even if one
/// batch alone is too much.
fn map_batch(
    batch: &RecordBatch<'_>,
    first_dirty: Offset,
    map: &mut OffsetMap,
    latest: &mut Offset,
    decompressor: &mut Decompressor,
) -> Result<Result<(), Full>, Stop> {
    let plain = plain(batch, decompressor).map_err(Stop::Malformed)?;
    let records = Records::new(&plain, batch.records_count())?;
    for record in records {
        let record = record?;
        let offset = batch.offset_of(&record);
        if offset < first_dirty {
            continue;
        }
        if let Some(key) = record.key
            && map.put(key, offset).is_err()
        {
            return Ok(Err(Full));
        }
        *latest = offset;
    }
    Ok(Ok(()))
}

impl Copying {
    /// Copies until `enough` bytes were read and written in all; `true` once all is copied.
    fn advance(
        &mut self,
        log: &Log,
        io_buffer_bytes: usize,
        enough: u64,
        stats: &mut CleanerStats,
    ) -> Result<bool, Stop> {
        while stats.io_bytes() < enough {
            let Some(group) = &mut self.group else {
                if !self.begin_group(log)? {
                    return Ok(true);
                }
                continue;
            };
            let Some(cursor) = &mut group.cursor else {
                let Some(Source { segment, end }) = group.sources.get(group.begun) else {
                    self.swap_in(log, stats)?;
                    continue;
                };
                group.begun += 1;
                let aborted = log.aborted_txns(segment.base_offset(), *end)?;
                self.around.transactions.add_aborted(aborted);
                let buffer = self.buffer.take().unwrap_or_default();
                group.cursor = Some(BatchCursor::new(segment, 0, *end, buffer)?);
                continue;
            };
            if cursor.is_at_end() {
                self.buffer = group.cursor.take().map(BatchCursor::into_buffer);
                continue;
            }
            let batch = cursor.next_batch()?;
            stats.bytes_read += batch.len() as u64;
            self.around.is_last = Some(batch.next_offset()) == group.end;
            self.retention.clean(&batch, &mut self.around, &mut group.output, stats)?;
            if group.output.buffer.len() >= io_buffer_bytes {
                stats.bytes_written += group.output.write()?;
            }
        }
        Ok(false)
    }

    /// Begins the segment that the next group becomes; `false` after the last group.
    fn begin_group(&mut self, log: &Log) -> Result<bool, Stop> {
        let Some(sources) = self.groups.pop_front() else { return Ok(false) };
        let Some(first) = sources.first() else { return Ok(true) };
        let base_offset = first.segment.base_offset();
        // What it takes now is given back, and more, when the old segments go.
        let bytes: u64 = sources.iter().map(|source| source.segment.size()).sum();
        log.log_dir().take_coordinators_room(usize::try_from(bytes).unwrap_or(usize::MAX))?;
        let interval = log.config().index_interval_bytes;
        let output = CleanedSegment::create(log.log_dir(), log.path(), base_offset, interval)?;
        self.around.producers = log.last_records();
        // Of segments that are empty, nothing is known, and nothing can be lost.
        let last = sources.iter().rfind(|source| source.segment.size() > 0);
        let end = last.map(|source| source.segment.end_offset()).transpose()?;
        self.group = Some(Group { sources, begun: 0, end, cursor: None, output });
        Ok(true)
    }

    /// The group is copied: what was written takes its place.
    fn swap_in(&mut self, log: &Log, stats: &mut CleanerStats) -> Result<(), Stop> {
        let Some(group) = &mut self.group else { return Ok(()) };
        stats.bytes_written += group.output.write()?;
        let cleaned = group.output.finish(log.log_dir())?;
        let old: Vec<_> = group.sources.iter().map(|source| source.segment.clone()).collect();
        let replaced = log.replace_segments(&old, &cleaned).map_err(|error| {
            // Some files may have their new names by now, and nobody would find the others.
            Stop::Refused(log.log_dir().take_offline("swapping in a compacted segment", &error))
        });
        if !replaced? {
            return Err(Stop::Changed);
        }
        stats.segments_cleaned += old.len();
        stats.segments_written += 1;
        self.group = None;
        Ok(())
    }
}
