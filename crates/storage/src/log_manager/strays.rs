//! Logs that belong to nobody: their topic was deleted while the node was down, or died between the
//! decision and the deed. Kafka's stray partitions.
//!
//! With a metadata log that was lost or mixed up it would look the same, and so would a log that
//! somebody has brought back. So one is deleted only if a checkpoint of this node names it, and if the
//! metadata is that of the other logs here, and newer than what the node had read when it was last
//! here ([`LogManager::compare_with_metadata`]). Else the directory is renamed to
//! `<topic>-<partition>.<unique>-stray`, and an operator decides.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use ottla_protocol::{Offset, TopicId, TopicPartition};
use parking_lot::Mutex;

use super::{LogManager, METADATA_FILE};
use crate::checkpoint::{self, Offsets};
use crate::file_name::{self, METADATA_TOPIC};
use crate::log::Log;
use crate::log_dir::{LogDir, LogDirFailure};

/// How far the metadata log was read.
pub(super) struct MetadataRead {
    /// When the node was last here, if a directory says so.
    noted: Option<Offset>,
    /// By now.
    now: AtomicI64,
    /// As the directories have it.
    written: AtomicI64,
    /// What it does not know was deleted.
    vouches: AtomicBool,
    /// Logs that the node had when it was last here, and their directories; only at the start.
    had: Mutex<BTreeSet<HadLog>>,
}

/// A log by its directory and partition.
pub(super) type HadLog = (PathBuf, TopicPartition);

impl MetadataRead {
    /// As far as one of `dirs` says, in which checkpoints name the logs that it `had`.
    pub(super) fn noted_in<'a>(
        dirs: impl Iterator<Item = &'a Arc<LogDir>>,
        had: BTreeSet<HadLog>,
    ) -> Self {
        let read = |dir: &Arc<LogDir>| {
            checkpoint::read_offsets(dir.disk(), &dir.path().join(METADATA_FILE)).ok()
        };
        let noted = dirs.filter_map(read).filter_map(|offsets| offsets.into_values().next()).max();
        let unknown = || AtomicI64::new(Offset::NONE.0);
        let (vouches, had) = (AtomicBool::new(false), Mutex::new(had));
        Self { noted, now: unknown(), written: unknown(), vouches, had }
    }

    /// Whether the topic of a log that belongs to nobody was surely deleted.
    fn vouches_for(&self, log: &Log) -> bool {
        let named = (log.log_dir().path().to_owned(), log.partition().clone());
        self.vouches.load(Ordering::Relaxed) && self.had.lock().contains(&named)
    }
}

impl LogManager {
    /// Looks whether the metadata, which was read up to `read`, can vouch for what was deleted while
    /// the node was down: it knows by its topic's id, a random number, that one of the logs found here
    /// `belongs` to it, and reaches as far as that which the node knew. To be called before a log is
    /// asked for.
    pub fn compare_with_metadata(&self, read: Offset, belongs: impl Fn(&Log) -> bool) {
        let reaches = self.metadata_read.noted.is_some_and(|noted| noted <= read);
        let is_known = |log: &Arc<Log>| log.topic_id().is_some() && belongs(log);
        let vouches = reaches && self.logs().iter().any(is_known);
        self.metadata_read.vouches.store(vouches, Ordering::Relaxed);
    }

    /// Deletes every log that was found at the start, that nobody has claimed, and that `belongs` says
    /// belongs to no topic, or sets it aside. To be called once the metadata is known.
    pub fn settle_unclaimed(&self, belongs: impl Fn(&Log) -> bool) {
        let _told = self.put_away_twins(|_| true);
        let unclaimed = self.unclaimed.lock().clone();
        for log in unclaimed.iter().filter_map(|partition| self.log(partition)) {
            if belongs(&log) {
                continue;
            }
            let partition = log.partition();
            // A directory that failed said so; the log stays as it is until the next start.
            if let Err(error) = self.delete_or_set_aside(partition) {
                tracing::error!(%partition, %error, "cannot put away a log without a topic");
            }
        }
        self.metadata_read.had.lock().clear();
    }

    /// Deletes the log of `partition`, which belongs to no topic. If the metadata cannot vouch for that
    /// its directory is renamed, and kept.
    pub fn delete_or_set_aside(&self, partition: &TopicPartition) -> Result<(), LogDirFailure> {
        let _changing = self.changing.lock();
        let Some(log) = self.log(partition) else { return Ok(()) };
        self.put_away(&log)?;
        self.forget(partition);
        Ok(())
    }

    /// Puts away the twins that are `meant`. One that cannot be stays one.
    pub(super) fn put_away_twins(&self, meant: impl Fn(&Log) -> bool) -> Result<(), LogDirFailure> {
        let mut outcome = Ok(());
        self.twins.lock().retain(|twin| {
            if !meant(twin) {
                return true;
            }
            let Err(error) = self.put_away(twin) else { return false };
            tracing::error!(path = %twin.path().display(), %error, "cannot put away a log");
            outcome = Err(error);
            true
        });
        outcome
    }

    fn put_away(&self, log: &Log) -> Result<(), LogDirFailure> {
        let partition = log.partition();
        if self.metadata_read.vouches_for(log) {
            tracing::info!(%partition, "deleting the log of a topic that was deleted meanwhile");
            return self.doom(log);
        }
        let path = self.rename_stray(log)?;
        tracing::warn!(
            %partition, path = %path.display(),
            "the log belongs to no topic here and was set aside: keep it or remove it by hand"
        );
        Ok(())
    }

    fn rename_stray(&self, log: &Log) -> Result<PathBuf, LogDirFailure> {
        log.rename_dir(&file_name::stray_dir(log.partition(), self.unique()))
    }

    /// Notes how far the metadata log was read; [`note_metadata`](Self::note_metadata) writes it down.
    pub fn metadata_was_read(&self, offset: Offset) {
        self.metadata_read.now.store(offset.0, Ordering::Release);
    }

    /// Writes `metadata-offset-checkpoint`, if there is news. Blocks on the disk.
    pub fn note_metadata(&self) {
        let now = self.metadata_read.now.load(Ordering::Acquire);
        if self.metadata_read.written.swap(now, Ordering::AcqRel) == now {
            return;
        }
        let offsets = Offsets::from([(TopicPartition::new(METADATA_TOPIC, 0), Offset(now))]);
        for dir in self.dirs().filter(|dir| dir.failure().is_none()) {
            let path = dir.path().join(METADATA_FILE);
            if let Err(error) = checkpoint::write_offsets(dir.disk(), &path, &offsets) {
                let _told = dir.failed("writing a checkpoint", &error);
            }
        }
    }

    /// Puts the log of the topic `id` in the place of its twin, if it has one.
    pub(super) fn prefer_twin(&self, partition: &TopicPartition, id: TopicId) {
        let mut twins = self.twins.lock();
        let right = twins
            .iter_mut()
            .find(|twin| twin.partition() == partition && twin.topic_id() == Some(id));
        if let Some(right) = right
            && let Some(wrong) = self.log(partition)
        {
            let right = std::mem::replace(right, wrong);
            self.logs.write().insert(partition.clone(), right);
        }
    }
}

/// Says which directories were set aside in earlier runs.
pub(super) fn mention(found: &[PathBuf]) {
    if !found.is_empty() {
        let count = found.len();
        tracing::warn!(count, first = %found[0].display(), "logs that were set aside are still here");
    }
}
