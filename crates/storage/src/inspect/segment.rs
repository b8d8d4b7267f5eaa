//! Checks one segment: batches, records, and the two indexes beside them, in one pass.

use std::io;
use std::path::{Path, PathBuf};

use ottla_env::Disk;
use ottla_protocol::compression::Decompressor;
use ottla_protocol::record_batch::{RecordBatch, RecordError, TimestampType};
use ottla_protocol::{LeaderEpoch, Offset, Timestamp};

use super::batch_stream::{BatchAt, BatchDamage, BatchStream, DamageAt};
use super::finding::{Finding, Problem};
use super::index_check::{OffsetIndexCheck, TimeIndexCheck};
use super::{MAX_DECOMPRESSED, Progress};

/// Damaged places of one segment that are reported one by one.
const MAX_DAMAGES: usize = 100;

/// What is there of a segment.
#[derive(Clone, Debug)]
pub(super) struct SegmentFiles {
    pub(super) base_offset: Offset,
    pub(super) log: PathBuf,
    pub(super) offset_index: Option<PathBuf>,
    pub(super) time_index: Option<PathBuf>,
}

/// What to expect of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// No segment follows.
    pub(super) is_last: bool,
    /// The time index ends with the largest timestamp.
    pub(super) time_index_complete: bool,
}

/// How far a log has been walked, and what was met.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    /// The next offset.
    pub(super) due: Offset,
    /// The largest that `due` ever was.
    pub(super) seen_end: Offset,
    pub(super) epoch: LeaderEpoch,
    pub(super) batches: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// A batch has fewer records than offsets, which only compaction leaves behind.
    pub(super) compacted: bool,
    /// Where the first bytes begin that cannot stay.
    pub(super) cut: Option<Cut>,
    pub(super) epochs: Vec<EpochRange>,
}

/// Where a log has to end because of damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) log: PathBuf,
    pub(super) position: u64,
    /// The log end after the cut.
    pub(super) offset: Offset,
}

/// A leader's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EpochRange {
    pub(super) epoch: LeaderEpoch,
    pub(super) first: Offset,
    /// After the last one.
    pub(super) end: Offset,
}

impl Reached {
    pub(super) fn start(base_offset: Offset, compacted: bool) -> Self {
        Self {
            due: base_offset,
            seen_end: base_offset,
            epoch: LeaderEpoch::NONE,
            batches: 0,
            records: 0,
            bytes: 0,
            compacted,
            cut: None,
            epochs: Vec::new(),
        }
    }

    /// Whether offsets without records are a loss, and one of which nothing else was said.
    pub(super) fn expects_every_offset(&self) -> bool {
        !self.compacted && self.cut.is_none()
    }

    pub(super) fn cut_at(&mut self, log: &Path, position: u64) {
        let offset = self.due;
        self.cut.get_or_insert_with(|| Cut { log: log.to_owned(), position, offset });
    }

    fn went_past(&mut self, batch: &RecordBatch<'_>) {
        self.due = self.due.max(batch.next_offset());
        self.seen_end = self.seen_end.max(self.due);
        self.epoch = self.epoch.max(batch.leader_epoch());
        self.batches += 1;
        self.bytes += batch.len() as u64;
        match self.epochs.last_mut() {
            Some(range) if range.epoch == batch.leader_epoch() => range.end = batch.next_offset(),
            _ => self.epochs.push(EpochRange {
                epoch: batch.leader_epoch(),
                first: batch.base_offset(),
                end: batch.next_offset(),
            }),
        }
    }
}

/// The check of one segment.
pub(super) struct SegmentCheck<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) files: &'a SegmentFiles,
    pub(super) expected: Expected,
    pub(super) findings: &'a mut Vec<Finding>,
    /// Sees every batch that is whole, with its place.
    pub(super) visit: &'a mut dyn FnMut(&BatchAt<'_>, &Reached) -> io::Result<()>,
    pub(super) progress: Progress<'a>,
}

impl SegmentCheck<'_> {
    /// Reads the segment and carries `reached` to its end.
    pub(super) fn run(mut self, reached: &mut Reached) -> io::Result<()> {
        let mut stream = BatchStream::open(self.disk, &self.files.log, 0)?;
        let base_offset = self.files.base_offset;
        let mut offset_index =
            OffsetIndexCheck::open(self.disk, self.files.offset_index.as_deref(), base_offset)?;
        let mut time_index =
            TimeIndexCheck::open(self.disk, self.files.time_index.as_deref(), base_offset)?;
        let mut decompressor = Decompressor::new();
        let mut damages = 0;
        loop {
            let damage = match stream.next()? {
                None => break,
                Some(Ok(at)) => {
                    self.check_placement(at, reached);
                    self.check_records(at, &mut decompressor, reached);
                    if damages == 0 {
                        offset_index.batch(&at, self.findings)?;
                        time_index.batch(&at, self.findings)?;
                    }
                    (self.visit)(&at, reached)?;
                    reached.went_past(&at.batch);
                    (self.progress)(at.batch.len() as u64);
                    continue;
                }
                Some(Err(damage)) => damage,
            };
            damages += 1;
            reached.cut_at(&self.files.log, damage.position);
            let goes_on = stream.resume(reached.due)?;
            self.report_damage(damage, goes_on.then(|| stream.position()), stream.file_length());
            (self.progress)(stream.position() - damage.position);
            if !goes_on || damages == MAX_DAMAGES {
                break;
            }
        }
        if damages == 0 {
            offset_index.finish(self.findings)?;
            time_index.finish(self.expected.time_index_complete, self.findings)?;
        }
        Ok(())
    }

    fn report_damage(&mut self, at: DamageAt, resumed: Option<u64>, len: u64) {
        let DamageAt { position, damage } = at;
        let torn = match damage {
            BatchDamage::Torn { .. } | BatchDamage::Zeroes { .. } => true,
            BatchDamage::WrongCrc { .. }
            | BatchDamage::UnsupportedMagic(_)
            | BatchDamage::InvalidLength(_)
            | BatchDamage::InvalidOffsets { .. } => false,
        };
        let problem = match torn && resumed.is_none() && self.expected.is_last {
            true => Problem::TornTail,
            false => Problem::DamagedBatch,
        };
        let after = match resumed {
            Some(next) => format!("whole batches go on at byte {next}"),
            None => format!("no whole batch follows up to the end at byte {len}"),
        };
        self.found(position, problem, format!("{damage}; {after}"));
    }

    /// Whether the batch may stand where it stands.
    fn check_placement(&mut self, at: BatchAt<'_>, reached: &mut Reached) {
        let BatchAt { position, batch } = at;
        let (base, due) = (batch.base_offset(), reached.due);
        let relative = batch.last_offset().0.saturating_sub(self.files.base_offset.0);
        if base < due {
            let reason = format!("the batch begins at offset {base}, where {due} or more was due");
            self.unplaced(position, Problem::OffsetOrder, reason, reached);
        } else if relative > i64::from(i32::MAX) {
            let reason =
                format!("offset {} is too far from the segment's base", batch.last_offset());
            self.unplaced(position, Problem::OffsetOrder, reason, reached);
        } else if batch.leader_epoch() < reached.epoch {
            let (epoch, before) = (batch.leader_epoch(), reached.epoch);
            let reason = format!("the batch has leader epoch {epoch}, the one before it {before}");
            self.unplaced(position, Problem::EpochOrder, reason, reached);
        } else if base > due && reached.expects_every_offset() {
            let reason = format!("offsets {due} to {} have no batch", base.0 - 1);
            self.found(position, Problem::Gap, reason);
        }
    }

    fn unplaced(&mut self, position: u64, problem: Problem, reason: String, reached: &mut Reached) {
        reached.cut_at(&self.files.log, position);
        self.found(position, problem, reason);
    }

    /// Whether the records can be read and are what the header says.
    fn check_records(
        &mut self,
        at: BatchAt<'_>,
        decompressor: &mut Decompressor,
        reached: &mut Reached,
    ) {
        let BatchAt { position, batch } = at;
        let mut seen = SeenRecords::default();
        let read = batch.visit_records(decompressor, MAX_DECOMPRESSED, |record| {
            seen.note(record.offset_delta, batch.timestamp_of(&record));
            Ok::<(), RecordError>(())
        });
        reached.records += seen.count;
        reached.compacted |= read.is_ok() && seen.count < batch_offsets(&batch);
        let offset = batch.base_offset();
        if let Err(error) = read {
            let reason = format!("the records from offset {offset} on cannot be read: {error}");
            self.found(position, Problem::UnreadableRecords, reason);
        } else if let Some(reason) = seen.contradicts(&batch) {
            let reason = format!("the batch at offset {offset} contradicts itself: {reason}");
            self.found(position, Problem::InconsistentBatch, reason);
        }
    }

    fn found(&mut self, position: u64, problem: Problem, reason: String) {
        let (path, position) = (self.files.log.clone(), Some(position));
        self.findings.push(Finding { path, position, problem, reason });
    }
}

/// The records of a batch, as far as its header speaks of them.
#[derive(Default)]
struct SeenRecords {
    count: u64,
    last_delta: Option<i32>,
    descending: bool,
    newest: Option<Timestamp>,
}

impl SeenRecords {
    fn note(&mut self, delta: i32, timestamp: Timestamp) {
        self.count += 1;
        self.descending |= delta < 0 || self.last_delta.is_some_and(|last| delta <= last);
        self.last_delta = Some(delta);
        self.newest = self.newest.max(Some(timestamp));
    }

    /// What does not fit the header, if anything. That there are fewer records than offsets does:
    /// compaction takes records out and leaves the offsets.
    fn contradicts(&self, batch: &RecordBatch<'_>) -> Option<String> {
        let claimed = batch.last_offset_delta();
        let last = self.last_delta?;
        if self.descending {
            return Some("the offsets of its records do not ascend".to_owned());
        }
        if last > claimed {
            return Some(format!("last offset delta {claimed}, and {last} in the last record"));
        }
        let newest = self.newest.unwrap_or(Timestamp::NONE);
        let max = batch.max_timestamp();
        let wrong = batch.timestamp_type() == TimestampType::CreateTime && newest != max;
        wrong.then(|| format!("largest timestamp {}, and {} in its records", max.0, newest.0))
    }
}

/// How many offsets a batch stands for.
fn batch_offsets(batch: &RecordBatch<'_>) -> u64 {
    u64::try_from(batch.last_offset_delta()).map_or(0, |delta| delta + 1)
}
