//! Checks the directory of one partition.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ottla_env::{DirEntry, Disk};
use ottla_protocol::{Offset, TopicId};

use super::checkpoint_file::{LeaderEpochLine, leader_epoch_lines, topic_id};
use super::file_kind::{FileKind, Leftover};
use super::finding::{Finding, Problem};
use super::producer_check::ProducerCheck;
use super::segment::{Cut, EpochRange, Expected, Reached, SegmentCheck, SegmentFiles};
use super::{BatchAt, Progress};
use crate::file_name::TXN_INDEX;

/// What is known of a partition from outside its directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartitionContext {
    /// The node marked its last shutdown as clean.
    pub clean_shutdown: bool,
    /// From `recovery-point-offset-checkpoint`.
    pub recovery_point: Option<Offset>,
    /// From `log-start-offset-checkpoint`.
    pub log_start_offset: Option<Offset>,
    /// The log was compacted once, so that offsets without records are no loss.
    pub compacted: bool,
}

/// What the check of a partition came to.
#[derive(Clone, Debug)]
pub struct PartitionReport {
    /// What is wrong, file by file.
    pub findings: Vec<Finding>,
    /// Base offset of the first segment.
    pub first_offset: Offset,
    /// After the last whole batch.
    pub log_end: Offset,
    /// The topic's id, if it can be read.
    pub topic_id: Option<TopicId>,
    /// How many there are.
    pub segments: usize,
    /// Of whole batches.
    pub bytes: u64,
    /// Whole ones.
    pub batches: u64,
    /// In whole batches.
    pub records: u64,
    /// Where the log has to end because of damage.
    pub(super) cut: Option<Cut>,
    /// After the last batch that was seen, also behind damage.
    pub(super) seen_end: Offset,
}

/// Checks everything in the directory `path` of a partition.
pub fn verify_partition(
    disk: &dyn Disk,
    path: &Path,
    context: PartitionContext,
    progress: Progress<'_>,
) -> io::Result<PartitionReport> {
    let files = PartitionFiles::of(disk, path)?;
    let mut findings = files.remarks();
    let topic_id = check_topic_id(disk, path, &mut findings)?;
    let first_offset = files.segments.first().map_or(Offset(0), |first| first.base_offset);
    let compacted = context.compacted || files.awaits_swap();
    let mut reached = Reached::start(first_offset, compacted);
    let producers = ProducerCheck::new(disk, first_offset, compacted, &files.snapshots)?;
    let mut check = LogCheck { disk, context, producers, findings: &mut findings, progress };
    for (index, segment) in files.segments.iter().enumerate() {
        check.segment(segment, files.segments.get(index + 1), &mut reached)?;
    }
    if let Some(file) = &files.leader_epochs {
        check.leader_epochs(file, &reached)?;
    }
    check.producers.finish(&reached)?;
    check.findings.append(&mut check.producers.findings);
    if reached.compacted {
        // Some may have been met before there was a sign of compaction.
        findings.retain(|finding| finding.problem != Problem::Gap);
    }
    Ok(PartitionReport {
        findings,
        first_offset,
        log_end: reached.cut.as_ref().map_or(reached.due, |cut| cut.offset),
        topic_id,
        segments: files.segments.len(),
        bytes: reached.bytes,
        batches: reached.batches,
        records: reached.records,
        cut: reached.cut,
        seen_end: reached.seen_end,
    })
}

/// The files of a partition's directory by what they are.
#[derive(Default)]
pub(super) struct PartitionFiles {
    /// In the order of their offsets.
    pub(super) segments: Vec<SegmentFiles>,
    pub(super) snapshots: BTreeMap<Offset, PathBuf>,
    pub(super) leader_epochs: Option<PathBuf>,
    orphans: Vec<PathBuf>,
    leftovers: Vec<(PathBuf, Leftover)>,
    unknown: Vec<PathBuf>,
}

impl PartitionFiles {
    pub(super) fn of(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let entries = disk.read_dir(path)?;
        let mut files = Self::default();
        for entry in &entries {
            files.note(entry);
        }
        let index_of = |kind: FileKind| {
            let found =
                entries.iter().find(|entry| !entry.is_dir && FileKind::of(&entry.name) == kind);
            found.map(|entry| entry.path.clone())
        };
        for segment in &mut files.segments {
            segment.offset_index = index_of(FileKind::OffsetIndex(segment.base_offset));
            segment.time_index = index_of(FileKind::TimeIndex(segment.base_offset));
        }
        let has_segment = |base: Offset| files.segments.iter().any(|it| it.base_offset == base);
        let is_orphan = |entry: &&DirEntry| {
            FileKind::of(&entry.name).index_of().is_some_and(|base| !has_segment(base))
        };
        files.orphans = entries.iter().filter(is_orphan).map(|entry| entry.path.clone()).collect();
        Ok(files)
    }

    fn note(&mut self, entry: &DirEntry) {
        let path = entry.path.clone();
        if entry.is_dir {
            return self.unknown.push(path);
        }
        match FileKind::of(&entry.name) {
            FileKind::Log(base_offset) => self.segments.push(SegmentFiles {
                base_offset,
                log: path,
                offset_index: None,
                time_index: None,
            }),
            FileKind::ProducerSnapshot(offset) => {
                self.snapshots.insert(offset, path);
            }
            FileKind::LeaderEpochs => self.leader_epochs = Some(path),
            FileKind::Leftover(leftover) => self.leftovers.push((path, leftover)),
            FileKind::OffsetCheckpoint
            | FileKind::MetaProperties
            | FileKind::CleanShutdown
            | FileKind::Lock
            | FileKind::Unknown => self.unknown.push(path),
            FileKind::OffsetIndex(_)
            | FileKind::TimeIndex(_)
            | FileKind::TransactionIndex(_)
            | FileKind::PartitionMetadata
            | FileKind::MetadataSnapshot
            | FileKind::QuorumState => {}
        }
    }

    /// Whether the next start puts cleaned segments in the place of others, some of which may be
    /// gone by now.
    fn awaits_swap(&self) -> bool {
        self.leftovers.iter().any(|(_, leftover)| *leftover == Leftover::Swap)
    }

    /// What is no mistake and yet worth a word.
    fn remarks(&self) -> Vec<Finding> {
        let remark = |path: &PathBuf, problem, reason: &str| Finding {
            path: path.clone(),
            position: None,
            problem,
            reason: reason.to_owned(),
        };
        let orphans = self
            .orphans
            .iter()
            .map(|path| remark(path, Problem::OrphanFile, "an index whose segment is not there"));
        let leftovers = self
            .leftovers
            .iter()
            .map(|(path, leftover)| remark(path, Problem::Leftover, leftover.meaning()));
        let unknown = self
            .unknown
            .iter()
            .map(|path| remark(path, Problem::UnknownFile, "no file of a partition"));
        orphans.chain(leftovers).chain(unknown).collect()
    }
}

fn check_topic_id(
    disk: &dyn Disk,
    path: &Path,
    findings: &mut Vec<Finding>,
) -> io::Result<Option<TopicId>> {
    let path = path.join("partition.metadata");
    let read = match disk.read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    match topic_id(&read) {
        Ok(id) => Ok(Some(id)),
        Err(error) => {
            let (position, problem) = (None, Problem::PartitionMetadata);
            findings.push(Finding { path, position, problem, reason: error.to_string() });
            Ok(None)
        }
    }
}

struct LogCheck<'a> {
    disk: &'a dyn Disk,
    context: PartitionContext,
    producers: ProducerCheck<'a>,
    findings: &'a mut Vec<Finding>,
    progress: Progress<'a>,
}

impl LogCheck<'_> {
    fn segment(
        &mut self,
        files: &SegmentFiles,
        next: Option<&SegmentFiles>,
        reached: &mut Reached,
    ) -> io::Result<()> {
        self.joins(files, reached);
        let clean = self.context.clean_shutdown;
        let synced = clean
            || next
                .zip(self.context.recovery_point)
                .is_some_and(|(n, point)| n.base_offset <= point);
        if next.is_some() && synced {
            for (index, name) in [(&files.offset_index, "index"), (&files.time_index, "timeindex")]
            {
                if index.is_none() {
                    let path = files.log.with_extension(name);
                    self.found(path, Problem::MissingIndex, "the file is missing".to_owned());
                }
            }
        }
        self.producers.begin_segment(&files.log.with_extension(TXN_INDEX), files.base_offset)?;
        let check = SegmentCheck {
            disk: self.disk,
            files,
            expected: Expected {
                is_last: next.is_none(),
                time_index_complete: next.is_some() || clean,
            },
            findings: self.findings,
            visit: &mut |at: &BatchAt<'_>, reached: &Reached| self.producers.batch(at, reached),
            progress: self.progress,
        };
        check.run(reached)?;
        self.producers.end_segment(reached)
    }

    /// Whether the segment begins where the one before it ends.
    fn joins(&mut self, files: &SegmentFiles, reached: &mut Reached) {
        let (base, due) = (files.base_offset, reached.due);
        if base < due {
            reached.cut_at(&files.log, 0);
            let reason =
                format!("the segment begins at offset {base}, the one before it ends at {due}");
            self.found(files.log.clone(), Problem::OffsetOrder, reason);
        } else if base > due && reached.expects_every_offset() {
            let reason = format!("no segment holds the offsets {due} to {}", base.0 - 1);
            self.found(files.log.clone(), Problem::Gap, reason);
        }
        reached.due = base;
        reached.seen_end = reached.seen_end.max(base);
    }

    /// Whether `leader-epoch-checkpoint` says of every batch what the batch says.
    fn leader_epochs(&mut self, path: &Path, reached: &Reached) -> io::Result<()> {
        let (lines, error) = leader_epoch_lines(&self.disk.read(path)?);
        let wrong = error.map(|error| error.to_string()).or_else(|| {
            if !lines.is_sorted_by(|a, b| a.epoch < b.epoch && a.start_offset < b.start_offset) {
                return Some("epochs and offsets do not ascend".to_owned());
            }
            reached.epochs.iter().find_map(|range| self.misplaced(&lines, *range))
        });
        if let Some(reason) = wrong {
            self.found(path.to_owned(), Problem::LeaderEpochs, reason);
        }
        Ok(())
    }

    fn misplaced(&self, lines: &[LeaderEpochLine], range: EpochRange) -> Option<String> {
        let EpochRange { epoch, first, end } = range;
        // The file says nothing of what lies before the log's start.
        let first_line = lines.first().map_or(first, |line| line.start_offset);
        let start = first.max(self.context.log_start_offset.unwrap_or(first_line));
        let unsynced = !self.context.clean_shutdown
            && self.context.recovery_point.is_none_or(|point| start >= point);
        if epoch.0 < 0 || start >= end || unsynced {
            // What was not synced yet is found again by the start that recovers it.
            return None;
        }
        let at = |offset: Offset| {
            let after = lines.partition_point(|line| line.start_offset <= offset);
            lines.get(after.checked_sub(1)?).map(|line| line.epoch)
        };
        [start, Offset(end.0 - 1)].into_iter().find(|offset| at(*offset) != Some(epoch)).map(
            |offset| {
                let said =
                    at(offset).map_or("no epoch".to_owned(), |epoch| format!("epoch {epoch}"));
                format!("{said} at offset {offset}, whose batch has epoch {epoch}")
            },
        )
    }

    fn found(&mut self, path: PathBuf, problem: Problem, reason: String) {
        self.findings.push(Finding { path, position: None, problem, reason });
    }
}
