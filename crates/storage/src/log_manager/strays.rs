//! Logs that belong to nobody: their topic was deleted while the node was down, or died between the
//! decision and the deed. Kafka's stray partitions.
//!
//! They are never removed, since a metadata log that was lost or mixed up would look the same: the
//! directory is renamed to `<topic>-<partition>.<unique>-stray`, and an operator decides.

use std::path::PathBuf;

use ottla_protocol::{TopicId, TopicPartition};

use super::LogManager;
use crate::file_name;
use crate::log::Log;
use crate::log_dir::LogDirFailure;

impl LogManager {
    /// Sets aside every log that was found at the start, that nobody has claimed, and that `belongs`
    /// says belongs to no topic. To be called once the metadata is known.
    pub fn set_strays_aside(&self, belongs: impl Fn(&Log) -> bool) {
        for twin in std::mem::take(&mut *self.twins.lock()) {
            if let Err(error) = self.rename_stray(&twin) {
                tracing::error!(path = %twin.path().display(), %error, "cannot set aside a log");
            }
        }
        let unclaimed = self.unclaimed.lock().clone();
        for log in unclaimed.iter().filter_map(|partition| self.log(partition)) {
            if belongs(&log) {
                continue;
            }
            let partition = log.partition();
            // A directory that failed said so; the log stays as it is until the next start.
            if let Err(error) = self.set_aside(partition) {
                tracing::error!(%partition, %error, "cannot set aside a log without a topic");
            }
        }
    }

    /// Closes the log of `partition` and renames its directory, which is kept. Answers its new path.
    pub fn set_aside(&self, partition: &TopicPartition) -> Result<Option<PathBuf>, LogDirFailure> {
        let _changing = self.changing.lock();
        let Some(log) = self.log(partition) else { return Ok(None) };
        let path = self.rename_stray(&log)?;
        self.forget(partition);
        Ok(Some(path))
    }

    fn rename_stray(&self, log: &Log) -> Result<PathBuf, LogDirFailure> {
        let partition = log.partition();
        let path = log.rename_dir(&file_name::stray_dir(partition, self.unique()))?;
        tracing::warn!(
            %partition, path = %path.display(),
            "the log belongs to no topic here and was set aside: keep it or remove it by hand"
        );
        Ok(path)
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
