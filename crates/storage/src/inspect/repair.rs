//! Puts a partition right: cuts off what cannot stay, sets aside what follows it, and has the
//! node's own recovery make the rest anew. Nothing that holds records is ever deleted.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_env::{Disk, Env, OpenMode};
use ottla_protocol::{Offset, TopicPartition};

use super::file_kind::FileKind;
use super::finding::{Finding, Problem};
use super::length;
use super::partition::{PartitionContext, PartitionFiles, PartitionReport};
use crate::file_name::METADATA_TOPIC;
use crate::log::{Log, LogOpenOptions};
use crate::log_dir::LogDir;

/// Bytes copied at once.
const CHUNK: u64 = 1 << 20;

/// Something that a repair does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Copies what lies behind a byte of a file to another file, and cuts it off.
    Cut {
        /// The `.log` file.
        file: PathBuf,
        /// Where it ends from then on.
        position: u64,
        /// How many bytes go.
        bytes: u64,
        /// Where they go.
        saved_as: PathBuf,
    },
    /// Renames a file.
    SetAside {
        /// The file.
        file: PathBuf,
        /// Its new name.
        saved_as: PathBuf,
    },
    /// Makes indexes, transaction indexes, leader epochs and the last snapshot anew.
    Rebuild {
        /// The directory of the partition.
        path: PathBuf,
    },
}

/// What a repair of one partition would do.
#[derive(Clone, Debug)]
pub struct RepairPlan {
    partition: TopicPartition,
    path: PathBuf,
    context: PartitionContext,
    /// One after the other.
    pub steps: Vec<Step>,
    /// Where the log will end, if it is cut.
    pub new_end: Option<Offset>,
    /// After the last offset that whole batches behind the cut have.
    pub seen_end: Offset,
    /// What a repair cannot put right.
    pub remaining: Vec<Finding>,
}

impl RepairPlan {
    /// What would put right what a check of the partition found.
    pub fn of(
        disk: &dyn Disk,
        (partition, path): (&TopicPartition, &Path),
        context: PartitionContext,
        report: &PartitionReport,
        findings: &[Finding],
    ) -> io::Result<Self> {
        let mut plan = Self {
            partition: partition.clone(),
            path: path.to_owned(),
            context,
            steps: Vec::new(),
            new_end: None,
            seen_end: report.seen_end,
            remaining: Vec::new(),
        };
        // To cut the controller's log would take back what was decided.
        if &*partition.topic == METADATA_TOPIC {
            plan.remaining = findings.to_vec();
            return Ok(plan);
        }
        let mut aside = BTreeSet::new();
        let mut rebuild = report.cut.is_some();
        for finding in findings {
            match finding.problem {
                Problem::PartitionMetadata => {
                    aside.insert(finding.path.clone());
                }
                Problem::OffsetIndex
                | Problem::TimeIndex
                | Problem::TransactionIndex
                | Problem::ProducerSnapshot
                | Problem::LeaderEpochs => {
                    aside.extend(Some(finding.path.clone()).filter(|path| disk.exists(path)));
                    rebuild = true;
                }
                Problem::MissingIndex => rebuild = true,
                Problem::TornTail
                | Problem::DamagedBatch
                | Problem::OffsetOrder
                | Problem::EpochOrder => {}
                // The directory's own files are put right after all logs are.
                Problem::UnreadableCheckpoint | Problem::CheckpointBounds => {}
                Problem::UnreadableRecords
                | Problem::InconsistentBatch
                | Problem::Gap
                | Problem::MetaProperties
                | Problem::DuplicatePartition => plan.remaining.push(finding.clone()),
                Problem::OrphanFile | Problem::Leftover | Problem::UnknownFile => {}
            }
        }
        plan.cut(disk, report, &mut aside)?;
        plan.steps.extend(aside.into_iter().map(|file| {
            let saved_as = free_name(disk, &file);
            Step::SetAside { file, saved_as }
        }));
        if rebuild {
            plan.steps.push(Step::Rebuild { path: path.to_owned() });
        }
        Ok(plan)
    }

    /// Ends the log where it was found damaged, and sets all of it aside that lies behind.
    fn cut(
        &mut self,
        disk: &dyn Disk,
        report: &PartitionReport,
        aside: &mut BTreeSet<PathBuf>,
    ) -> io::Result<()> {
        let Some(cut) = &report.cut else { return Ok(()) };
        self.new_end = Some(cut.offset);
        let files = PartitionFiles::of(disk, &self.path)?;
        let damaged = files.segments.iter().skip_while(|segment| segment.log != cut.log);
        // One that begins before the segment in front of it ends must go even if it is empty.
        let overlaps = damaged.clone().next().is_some_and(|it| it.base_offset < cut.offset);
        let goes_whole = overlaps && cut.position == 0;
        if !goes_whole {
            let len = disk.open(&cut.log, OpenMode::Read)?.len()?;
            let name = format!("{}.{}", cut.log.display(), cut.position);
            self.steps.push(Step::Cut {
                file: cut.log.clone(),
                position: cut.position,
                bytes: len.saturating_sub(cut.position),
                saved_as: free_name(disk, Path::new(&name)),
            });
        }
        for (index, segment) in damaged.enumerate() {
            match index {
                // Its indexes are made anew, unless nothing is left of it.
                0 if !goes_whole && cut.position > 0 => continue,
                0 if !goes_whole => {}
                _ => {
                    aside.insert(segment.log.clone());
                }
            }
            aside.extend(segment.offset_index.clone());
            aside.extend(segment.time_index.clone());
            let transactions = segment.log.with_extension(crate::file_name::TXN_INDEX);
            aside.extend(Some(transactions).filter(|path| disk.exists(path)));
        }
        aside.extend(files.snapshots.range(cut.offset.next()..).map(|(_, path)| path.clone()));
        Ok(())
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Does it. What it writes is on the disk when it returns; a crash in the middle leaves
    /// something that can be repaired.
    pub fn apply(&self, env: &Env) -> io::Result<()> {
        let disk = &*env.disk;
        for step in &self.steps {
            match step {
                Step::Cut { file, position, saved_as, .. } => {
                    cut_off(disk, file, *position, saved_as)?;
                }
                Step::SetAside { file, saved_as } => disk.rename(file, saved_as)?,
                Step::Rebuild { .. } => {
                    disk.sync_dir(&self.path)?;
                    self.rebuild(env)?;
                }
            }
        }
        disk.sync_dir(&self.path)
    }

    /// Opens the log as after a crash of which nothing is known, and closes it.
    fn rebuild(&self, env: &Env) -> io::Result<()> {
        let Some(directory) = self.path.parent() else { return Ok(()) };
        let mut options = LogOpenOptions::new(LogConfig::default(), Duration::MAX);
        options.log_start_offset = self.context.log_start_offset.unwrap_or(Offset(0));
        // Where offsets are missing, the check has said so, or they were compacted away.
        options.first_dirty_offset = Some(Offset(i64::MAX));
        let directory = LogDir::new(env, directory.to_owned(), 16);
        let log = std::sync::Arc::new(Log::open(directory, self.partition.clone(), options)?);
        log.close().map_err(io::Error::other)
    }
}

/// Copies the end of `file` from `position` on, and cuts it off once the copy is on the disk.
fn cut_off(disk: &dyn Disk, file: &Path, position: u64, saved_as: &Path) -> io::Result<()> {
    let source = disk.open(file, OpenMode::ReadWrite)?;
    let len = source.len()?;
    let copy = disk.open(saved_as, OpenMode::Truncate)?;
    let mut buffer = vec![0; length(CHUNK)?];
    let mut at = position;
    while at < len {
        let read = source.read_at(&mut buffer, at)?;
        if read == 0 {
            break;
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        copy.write_all_at(&mut [IoSlice::new(bytes)], at - position)?;
        at += read as u64;
    }
    copy.sync_data()?;
    disk.sync_dir(file.parent().unwrap_or(Path::new(".")))?;
    source.set_len(position)?;
    source.sync_data()
}

/// `<file>.corrupt`, or with a number where that is taken.
fn free_name(disk: &dyn Disk, file: &Path) -> PathBuf {
    let mut name = PathBuf::from(format!("{}.corrupt", file.display()));
    let mut number = 1;
    while disk.exists(&name) {
        name = PathBuf::from(format!("{}.{number}.corrupt", file.display()));
        number += 1;
    }
    debug_assert!(matches!(
        FileKind::of(&name.file_name().unwrap_or_default().to_string_lossy()),
        FileKind::Leftover(_)
    ));
    name
}
