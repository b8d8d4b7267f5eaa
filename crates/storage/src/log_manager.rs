//! All logs of a node. Kafka's `LogManager`.

mod open;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_config::{LogConfig, LogManagerConfig};
use ottla_env::{DirLock, Env};
use ottla_protocol::{BrokerId, Offset, Timestamp, TopicId, TopicPartition, Uuid};
use parking_lot::{Mutex, RwLock};
use thiserror::Error;

use crate::checkpoint::{self, Offsets};
use crate::file_name;
use crate::group_commit::Due;
use crate::log::{Log, LogOpenOptions};
use crate::log_dir::{LogDir, LogDirFailure};

pub use open::OpenError;

/// How the logs of a node are opened.
#[derive(Clone, Debug)]
pub struct LogManagerOptions {
    /// `log.dirs`.
    pub dirs: Vec<PathBuf>,
    /// `node.id`.
    pub node_id: BrokerId,
    /// The cluster this node belongs to. `None` takes the one that the directories name, or makes
    /// a new one if they are all empty.
    pub cluster_id: Option<String>,
    /// `log.*`.
    pub config: LogManagerConfig,
    /// Segment and index files kept open at once, at most.
    pub max_open_files: usize,
}

/// The logs of this node, by partition.
pub struct LogManager {
    env: Env,
    cluster_id: String,
    config: LogManagerConfig,
    dirs: Vec<Dir>,
    logs: RwLock<BTreeMap<TopicPartition, Arc<Log>>>,
    /// Held while a log is made or deleted, so that `logs` is never locked while the disk works.
    changing: Mutex<()>,
    schedule: Mutex<Schedule>,
    /// Held while a checkpoint is collected and written: an older one must not follow a newer one.
    checkpointing: Mutex<()>,
}

/// A log directory that this node holds the lock of.
struct Dir {
    dir: Arc<LogDir>,
    id: Uuid,
    _lock: DirLock,
}

/// When the work of [`LogManager::housekeeping`] was last done.
struct Schedule {
    retention: Timestamp,
    recovery_points: Timestamp,
    log_starts: Timestamp,
}

/// Why a log was not created.
#[derive(Debug, Error)]
pub enum CreateLogError {
    /// A log of another topic of the same name is still here: it has to be deleted first.
    #[error("{partition} belongs to another topic of the same name")]
    InconsistentTopicId {
        /// The partition.
        partition: TopicPartition,
    },
    /// `KAFKA_STORAGE_ERROR`
    #[error(transparent)]
    Storage(#[from] LogDirFailure),
}

/// Logs closed at once. They wait for the disk, which syncs many files nearly as fast as one.
const CLOSING_AT_ONCE: usize = 32;

const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
const LOG_START_FILE: &str = "log-start-offset-checkpoint";
const HIGH_WATERMARK_FILE: &str = "replication-offset-checkpoint";
const CLEANER_FILE: &str = "cleaner-offset-checkpoint";

impl LogManager {
    /// The cluster that the directories belong to.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The log directories and their ids (KIP-858), in the order of `log.dirs`.
    pub fn dirs(&self) -> impl Iterator<Item = (Uuid, &Arc<LogDir>)> {
        self.dirs.iter().map(|dir| (dir.id, &dir.dir))
    }

    /// Directories whose disk failed.
    pub fn offline_dirs(&self) -> Vec<Uuid> {
        let offline = self.dirs.iter().filter(|dir| dir.dir.failure().is_some());
        offline.map(|dir| dir.id).collect()
    }

    /// The log of `partition`.
    pub fn log(&self, partition: &TopicPartition) -> Option<Arc<Log>> {
        self.logs.read().get(partition).cloned()
    }

    /// All logs.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        self.logs.read().values().cloned().collect()
    }

    /// The log of `partition`, made if it is not there, in the directory with the fewest
    /// partitions. One that is there gets `config`.
    pub fn create_log(
        &self,
        partition: &TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<Arc<Log>, CreateLogError> {
        let _changing = self.changing.lock();
        if let Some(log) = self.log(partition) {
            if log.topic_id().is_some_and(|id| id != topic_id) {
                return Err(CreateLogError::InconsistentTopicId { partition: partition.clone() });
            }
            log.assign_topic_id(topic_id)?;
            log.update_config(config);
            return Ok(log);
        }
        let dir = self.emptiest_dir()?;
        let mut options = LogOpenOptions::new(config, self.config.producer_id_expiration);
        options.clean_shutdown = true;
        let log = Log::open(dir.clone(), partition.clone(), options)
            .map_err(|error| dir.failed("creating a log", &error))?;
        log.assign_topic_id(topic_id)?;
        let log = Arc::new(log);
        self.logs.write().insert(partition.clone(), log.clone());
        Ok(log)
    }

    /// Closes the log of `partition` and renames its directory; its files are removed after
    /// `file.delete.delay.ms`. `false` if there is none.
    pub fn delete_log(&self, partition: &TopicPartition) -> Result<bool, LogDirFailure> {
        let _changing = self.changing.lock();
        let Some(log) = self.logs.write().remove(partition) else { return Ok(false) };
        let unique =
            u128::from(self.env.rng.next_u64()) << 64 | u128::from(self.env.rng.next_u64());
        let delay = i64::try_from(log.config().file_delete_delay.as_millis()).unwrap_or(i64::MAX);
        let due = Timestamp(self.env.clock.wall().0.saturating_add(delay));
        log.delete(&file_name::deleted_dir(partition, unique), due)?;
        if log.first_dirty_offset().is_some() {
            // It would be taken for that of a topic of the same name.
            self.checkpoint_cleaner();
        }
        Ok(true)
    }

    /// Does what is due at `now`: retention, `flush.ms` and sealed segments, checkpoints, removal
    /// of deleted files. Blocks on the disk; meant to be called about once a second.
    pub fn housekeeping(&self, now: Timestamp) {
        let config = &self.config;
        let mut schedule = self.schedule.lock();
        let due = |last: &mut Timestamp, interval: std::time::Duration| {
            let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
            let due = now.0.saturating_sub(last.0) >= interval;
            if due {
                *last = now;
            }
            due
        };
        let retention = due(&mut schedule.retention, config.retention_check_interval);
        let logs = self.logs();
        // A directory that failed said so when it did.
        if retention {
            for log in &logs {
                let _offline = log.retain(now);
            }
        }
        for Dir { dir, .. } in &self.dirs {
            let mut due = Due::default();
            for log in logs.iter().filter(|log| Arc::ptr_eq(log.log_dir(), dir)) {
                log.flush_due(now).into_iter().for_each(|up_to| due.add(log, up_to));
            }
            let _offline = dir.flush_together(&due);
        }
        let checkpoints =
            due(&mut schedule.recovery_points, config.flush_offset_checkpoint_interval);
        self.make_checkpoints(&logs, checkpoints);
        if due(&mut schedule.log_starts, config.flush_start_offset_checkpoint_interval) {
            self.checkpoint_log_starts();
        }
        drop(schedule);
        for Dir { dir, .. } in &self.dirs {
            dir.remove_due(now);
        }
    }

    /// Makes checkpoints in every directory if they are `due`, and else where a crash would leave
    /// more to read than `log.dir.checkpoint.bytes`.
    fn make_checkpoints(&self, logs: &[Arc<Log>], due: bool) {
        let mut made = due;
        for Dir { dir, .. } in &self.dirs {
            let held = logs.iter().filter(|log| Arc::ptr_eq(log.log_dir(), dir));
            let unchecked: Vec<_> = held.filter(|log| log.unchecked_bytes() > 0).cloned().collect();
            let bytes = || unchecked.iter().map(|log| log.unchecked_bytes()).sum::<u64>();
            if !unchecked.is_empty() && (due || bytes() > self.config.dir_checkpoint_bytes) {
                // A directory that failed said so when it did.
                let _offline = dir.checkpoint_together(&unchecked);
                made = true;
            }
        }
        if made {
            self.checkpoint_recovery_points();
        }
    }

    /// Writes `log-start-offset-checkpoint`: what was deleted stays deleted after a power loss,
    /// unless the directory failed. Blocks on the disk.
    pub fn checkpoint_log_starts(&self) {
        self.checkpoint(LOG_START_FILE, Log::log_start_offset);
    }

    /// Writes `replication-offset-checkpoint`: the high watermarks that were last set. To be
    /// called every `replica.high.watermark.checkpoint.interval.ms`.
    pub fn checkpoint_high_watermarks(&self) {
        self.checkpoint(HIGH_WATERMARK_FILE, Log::high_watermark);
    }

    /// Writes `recovery-point-offset-checkpoint`.
    pub(crate) fn checkpoint_recovery_points(&self) {
        self.checkpoint(RECOVERY_POINT_FILE, Log::recovery_point);
    }

    /// Writes `cleaner-offset-checkpoint`: where the section of each log begins that was never
    /// compacted.
    pub(crate) fn checkpoint_cleaner(&self) {
        self.checkpoint_some(CLEANER_FILE, Log::first_dirty_offset);
    }

    /// Closes all logs, writes all checkpoints and the mark of a clean shutdown.
    ///
    /// `broker_epoch` is the one the broker was registered with, -1 if it never was (KIP-966).
    pub async fn shutdown(&self, broker_epoch: i64) {
        for Dir { dir, .. } in &self.dirs {
            self.close_logs(dir).await;
        }
        self.checkpoint(RECOVERY_POINT_FILE, Log::recovery_point);
        self.checkpoint_log_starts();
        self.checkpoint_high_watermarks();
        for Dir { dir, .. } in &self.dirs {
            if dir.failure().is_none() {
                open::write_clean_shutdown(dir, broker_epoch);
            }
        }
    }

    /// Closes the logs of a directory, and brings all they hold to the disk.
    async fn close_logs(&self, dir: &Arc<LogDir>) {
        let mut open = self.logs();
        open.retain(|log| Arc::ptr_eq(log.log_dir(), dir));
        let open = Arc::new(Mutex::new(open));
        let closing: Vec<_> = (0..CLOSING_AT_ONCE)
            .map(|_| {
                let (open, dir) = (open.clone(), dir.clone());
                self.env.run_blocking(move || {
                    let mut closed = Vec::new();
                    while let Some(log) = { open.lock().pop() } {
                        // A directory that failed said so, and gets no mark.
                        match dir.shared_sync().is_some() {
                            true => closed.extend(log.gather_and_close().map(|it| (log, it))),
                            false => drop(log.close()),
                        }
                    }
                    closed
                })
            })
            .collect();
        let mut unsynced = Vec::new();
        for closed in closing {
            unsynced.extend(closed.await);
        }
        let dir = dir.clone();
        let synced = self.env.run_blocking(move || {
            if dir.sync_gathered(&unsynced, dir.shared_sync()).is_ok() {
                unsynced.into_iter().for_each(|(log, gathered)| log.synced(gathered));
            }
        });
        synced.await;
    }

    /// [`Log::truncate_to`], and the checkpoint that must not say more than the log holds: a
    /// crash after new records would trust it.
    pub fn truncate_to(&self, log: &Log, offset: Offset) -> Result<(), LogDirFailure> {
        log.truncate_to(offset)?;
        self.checkpoint(RECOVERY_POINT_FILE, Log::recovery_point);
        self.checkpoint_log_starts();
        if log.first_dirty_offset().is_some() {
            self.checkpoint_cleaner();
        }
        log.log_dir().check_online()
    }

    fn emptiest_dir(&self) -> Result<&Arc<LogDir>, LogDirFailure> {
        let online: Vec<_> =
            self.dirs.iter().map(|dir| &dir.dir).filter(|dir| dir.failure().is_none()).collect();
        match online.as_slice() {
            [] => {
                let failure = self.dirs.iter().find_map(|dir| dir.dir.failure());
                Err(failure.unwrap_or(LogDirFailure::Closed))
            }
            [only] => Ok(only),
            several => {
                let logs = self.logs.read();
                let held = |dir: &&&Arc<LogDir>| {
                    logs.values().filter(|log| Arc::ptr_eq(log.log_dir(), dir)).count()
                };
                several.iter().min_by_key(held).copied().ok_or(LogDirFailure::Closed)
            }
        }
    }

    fn checkpoint(&self, file: &str, offset: impl Fn(&Log) -> Offset) {
        self.checkpoint_some(file, |log| Some(offset(log)));
    }

    /// Writes a checkpoint file into each directory, with a line for each log that has an offset.
    fn checkpoint_some(&self, file: &str, offset: impl Fn(&Log) -> Option<Offset>) {
        let _checkpointing = self.checkpointing.lock();
        let logs = self.logs();
        for Dir { dir, .. } in &self.dirs {
            if dir.failure().is_some() {
                continue;
            }
            let held = logs.iter().filter(|log| Arc::ptr_eq(log.log_dir(), dir));
            let line = |log: &Arc<Log>| Some((log.partition().clone(), offset(log)?));
            let offsets: Offsets = held.filter_map(line).collect();
            if let Err(error) =
                checkpoint::write_offsets(dir.disk(), &dir.path().join(file), &offsets)
            {
                dir.failed("writing a checkpoint", &error);
            }
        }
    }
}
