//! A log directory: its own files, and what they say of its partitions.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ottla_env::Disk;
use ottla_protocol::{Offset, TopicId, TopicPartition};

use super::checkpoint_file::{OffsetLine, meta_properties, offset_lines};
use super::file_kind::FileKind;
use super::finding::{Finding, Problem};
use super::partition::{PartitionContext, PartitionReport};
use crate::checkpoint;
use crate::file_name::{DELETE_DIR, FUTURE_DIR, parse_partition_dir};

const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
const LOG_STARTS: &str = "log-start-offset-checkpoint";
const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
const CLEANED: &str = "cleaner-offset-checkpoint";
/// Logs of the node's own that are compacted, whatever the checkpoint says.
const COMPACTED: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// One of `log.dirs`.
pub struct Directory {
    path: PathBuf,
    partitions: Vec<(TopicPartition, PathBuf)>,
    clean_shutdown: bool,
    checkpoints: BTreeMap<&'static str, BTreeMap<TopicPartition, Offset>>,
    topic_ids: BTreeMap<String, (TopicId, TopicPartition)>,
    findings: Vec<Finding>,
}

impl Directory {
    /// Reads the small files of the directory and lists its partitions.
    pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let mut directory = Self {
            path: path.to_owned(),
            partitions: Vec::new(),
            clean_shutdown: false,
            checkpoints: BTreeMap::new(),
            topic_ids: BTreeMap::new(),
            findings: Vec::new(),
        };
        let mut formatted = false;
        for entry in disk.read_dir(path)? {
            match (entry.is_dir, parse_partition_dir(&entry.name)) {
                (true, Some(partition)) => directory.partitions.push((partition, entry.path)),
                (true, None) if entry.name.ends_with(FUTURE_DIR) => {
                    let reason = "a copy of a log that was to move here; the next start removes it";
                    directory.found(entry.path, Problem::Leftover, reason.to_owned());
                }
                (true, None) if entry.name.ends_with(DELETE_DIR) => {
                    let reason = "a deleted partition; the next start removes it";
                    directory.found(entry.path, Problem::Leftover, reason.to_owned());
                }
                (true, None) => {}
                (false, _) => {
                    formatted |= entry.name == "meta.properties";
                    directory.read_file(disk, entry.path, &entry.name)?;
                }
            }
        }
        if !formatted && !directory.partitions.is_empty() {
            let path = path.join("meta.properties");
            directory.found(path, Problem::MetaProperties, "the file is missing".to_owned());
        }
        Ok(directory)
    }

    /// Whether the files of a log directory lie in `path`.
    pub fn is_one(disk: &dyn Disk, path: &Path) -> bool {
        ["meta.properties", RECOVERY_POINTS, HIGH_WATERMARKS, ".lock"]
            .iter()
            .any(|name| disk.exists(&path.join(name)))
    }

    fn read_file(&mut self, disk: &dyn Disk, path: PathBuf, name: &str) -> io::Result<()> {
        match FileKind::of(name) {
            FileKind::MetaProperties => {
                if let Err(error) = meta_properties(&disk.read(&path)?) {
                    self.found(path, Problem::MetaProperties, error.to_string());
                }
            }
            FileKind::OffsetCheckpoint => {
                let (lines, error) = offset_lines(&disk.read(&path)?);
                if let Some(error) = error {
                    self.found(path, Problem::UnreadableCheckpoint, error.to_string());
                }
                let known = [RECOVERY_POINTS, LOG_STARTS, HIGH_WATERMARKS, CLEANED];
                let Some(known) = known.into_iter().find(|known| *known == name) else {
                    return Ok(());
                };
                let offsets =
                    lines.into_iter().map(|OffsetLine { partition, offset }| (partition, offset));
                self.checkpoints.insert(known, offsets.collect());
            }
            FileKind::CleanShutdown => self.clean_shutdown = true,
            FileKind::Leftover(leftover) => {
                self.found(path, Problem::Leftover, leftover.meaning().to_owned());
            }
            FileKind::Lock => {}
            FileKind::Log(_)
            | FileKind::OffsetIndex(_)
            | FileKind::TimeIndex(_)
            | FileKind::TransactionIndex(_)
            | FileKind::ProducerSnapshot(_)
            | FileKind::MetadataSnapshot
            | FileKind::LeaderEpochs
            | FileKind::PartitionMetadata
            | FileKind::QuorumState => {
                let reason = "belongs into the directory of a partition";
                self.found(path, Problem::UnknownFile, reason.to_owned());
            }
            // Kafka leaves `bootstrap.checkpoint` here; people leave notes.
            FileKind::Unknown => {}
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with its own files.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Its partitions and their directories, by name.
    pub fn partitions(&self) -> &[(TopicPartition, PathBuf)] {
        &self.partitions
    }

    /// Whether the last node that used it shut down cleanly.
    pub fn clean_shutdown(&self) -> bool {
        self.clean_shutdown
    }

    /// What is known here of a partition.
    pub fn context(&self, partition: &TopicPartition) -> PartitionContext {
        PartitionContext {
            clean_shutdown: self.clean_shutdown,
            recovery_point: self.offset(RECOVERY_POINTS, partition),
            log_start_offset: self.offset(LOG_STARTS, partition),
            compacted: COMPACTED.contains(&&*partition.topic)
                || self.offset(CLEANED, partition).is_some(),
        }
    }

    fn offset(&self, checkpoint: &str, partition: &TopicPartition) -> Option<Offset> {
        self.checkpoints.get(checkpoint)?.get(partition).copied()
    }

    /// Whether the directory's files fit what was found of a partition. To be called once for each.
    pub fn compare(
        &mut self,
        partition: &TopicPartition,
        path: &Path,
        report: &PartitionReport,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        for name in [RECOVERY_POINTS, LOG_STARTS, HIGH_WATERMARKS, CLEANED] {
            let Some(offset) = self.offset(name, partition) else { continue };
            if offset > report.log_end {
                let reason =
                    format!("{partition} {offset}, but the log ends at {}", report.log_end);
                let (path, position) = (self.path.join(name), None);
                findings.push(Finding {
                    path,
                    position,
                    problem: Problem::CheckpointBounds,
                    reason,
                });
            }
        }
        let Some(id) = report.topic_id else { return findings };
        let first =
            self.topic_ids.entry(partition.topic.to_string()).or_insert((id, partition.clone()));
        if first.0 != id {
            let reason = format!("the topic id is not that of {}", first.1);
            let (path, position) = (path.join("partition.metadata"), None);
            findings.push(Finding { path, position, problem: Problem::PartitionMetadata, reason });
        }
        findings
    }

    /// Writes the offset checkpoints anew that have lines which cannot be read, or do not fit the
    /// logs that `ends` names: with what can be read, and no further than those logs reach. Removes
    /// the mark of a clean shutdown if records were `lost`.
    pub fn repair(
        &mut self,
        disk: &dyn Disk,
        ends: &BTreeMap<TopicPartition, Offset>,
        lost: bool,
    ) -> io::Result<()> {
        for (name, offsets) in &mut self.checkpoints {
            let path = self.path.join(name);
            let unreadable = offset_lines(&disk.read(&path)?).1.is_some();
            let mut changed = unreadable;
            for (partition, end) in ends {
                if let Some(offset) = offsets.get_mut(partition).filter(|offset| **offset > *end) {
                    *offset = *end;
                    changed = true;
                }
            }
            if changed {
                let bytes = disk.read(&path)?;
                disk.write_atomic(&self.path.join(format!("{name}.corrupt")), &bytes)?;
                checkpoint::write_offsets(disk, &path, offsets)?;
            }
        }
        if lost && self.clean_shutdown {
            disk.remove_file(&self.path.join(".kafka_cleanshutdown"))?;
            disk.sync_dir(&self.path)?;
        }
        Ok(())
    }

    fn found(&mut self, path: PathBuf, problem: Problem, reason: String) {
        self.findings.push(Finding { path, position: None, problem, reason });
    }
}
