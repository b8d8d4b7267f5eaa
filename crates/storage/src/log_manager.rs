//! All logs of a node. Kafka's `LogManager`.

mod checkpoints;
mod moves;
mod open;
mod origins;
mod shutdown;
mod strays;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use ottla_config::{LogConfig, LogManagerConfig};
use ottla_env::{DirLock, Env};
use ottla_protocol::{BrokerId, Timestamp, TopicId, TopicPartition, Uuid, format_uuid};
use parking_lot::{Mutex, RwLock};
use thiserror::Error;

use crate::file_name;
use crate::group_commit::Due;
use crate::log::{Log, LogOpenOptions};
use crate::log_dir::{LogDir, LogDirFailure};
use crate::open_files::OpenFiles;
use checkpoints::in_dir;
use strays::MetadataRead;

pub use checkpoints::Unwritten;
pub use moves::{LogMove, MoveError};
pub use open::{OpenError, OwnDir};

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
    /// The broker epoch under which every directory was closed in order, or -1.
    previous_epoch: i64,
    config: LogManagerConfig,
    /// `producer.id.expiration.ms`, which may change.
    producer_id_expiration: Mutex<Duration>,
    open_files: Arc<OpenFiles>,
    dirs: Vec<Dir>,
    logs: RwLock<BTreeMap<TopicPartition, Arc<Log>>>,
    /// Logs that were found at the start and that nobody has asked for since: their topics'
    /// configuration is not known, so nothing of them may be deleted or compacted.
    unclaimed: Mutex<BTreeSet<TopicPartition>>,
    /// Logs in a second directory, of another topic of the same name: only the metadata can tell
    /// which is the right one.
    twins: Mutex<Vec<Arc<Log>>>,
    /// Logs on their way to another directory.
    moves: Mutex<BTreeMap<TopicPartition, Arc<LogMove>>>,
    /// A copy that is about to take the place of its log.
    arriving: Mutex<Option<Arc<Log>>>,
    /// In which directories logs are to be made that are not there yet, oldest wish first.
    wishes: Mutex<IndexMap<TopicPartition, Arc<LogDir>>>,
    /// Held while a log is made, deleted or put in the place of another, so that `logs` is never locked while the disk works.
    changing: Mutex<()>,
    /// Partitions without a log that a checkpoint file may still name: a log that is made for one
    /// must not be taken for the old one after a crash. Held while the files are written anew.
    stale: Mutex<BTreeSet<TopicPartition>>,
    metadata_read: MetadataRead,
    schedule: Mutex<Schedule>,
    /// Held while a checkpoint is collected and written: an older one must not follow a newer one.
    checkpointing: Mutex<()>,
}

/// A log directory. This node holds its lock, unless it could not be used from the start.
struct Dir {
    dir: Arc<LogDir>,
    _lock: Option<DirLock>,
}

/// When the work of [`LogManager::housekeeping`] was last done.
struct Schedule {
    idle_files: Timestamp,
    retention: Timestamp,
    recovery_points: Timestamp,
    log_starts: Timestamp,
}

impl Schedule {
    fn starting(now: Timestamp) -> Self {
        Self { idle_files: now, retention: now, recovery_points: now, log_starts: now }
    }
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
    /// The directory that it should lie in is none of this node's, or is offline.
    #[error("{partition} lies in the directory {}, which is not online", format_uuid(*dir))]
    NotOnline {
        /// The partition.
        partition: TopicPartition,
        /// The id of the directory.
        dir: Uuid,
    },
    /// `KAFKA_STORAGE_ERROR`
    #[error(transparent)]
    Storage(#[from] LogDirFailure),
}

/// A file that nobody used for so long is closed, give or take once more.
const IDLE_FILES_INTERVAL: Duration = Duration::from_secs(60);

/// As many wishes are remembered: a client may name any number of partitions that never come.
const MAX_WISHES: usize = 10_000;

const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
const LOG_START_FILE: &str = "log-start-offset-checkpoint";
const HIGH_WATERMARK_FILE: &str = "replication-offset-checkpoint";
const CLEANER_FILE: &str = "cleaner-offset-checkpoint";
const METADATA_FILE: &str = "metadata-offset-checkpoint";

impl LogManager {
    /// The cluster that the directories belong to.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The broker epoch under which the last run ended, or -1 if some directory was not closed in order
    /// then: records may be missing (KIP-966).
    pub fn previous_epoch(&self) -> i64 {
        self.previous_epoch
    }

    /// The log directories, in the order of `log.dirs`.
    pub fn dirs(&self) -> impl Iterator<Item = &Arc<LogDir>> {
        self.dirs.iter().map(|dir| &dir.dir)
    }

    /// Ids of the directories that work (KIP-858).
    pub fn online_dirs(&self) -> Vec<Uuid> {
        let online = self.dirs().filter(|dir| dir.failure().is_none());
        online.filter_map(|dir| dir.id()).collect()
    }

    /// Directories whose disk failed.
    pub fn offline_dirs(&self) -> Vec<Arc<LogDir>> {
        self.dirs().filter(|dir| dir.failure().is_some()).cloned().collect()
    }

    /// Goes on with another configuration, as far as it may change while the node runs:
    /// `producer.id.expiration.ms`. That of each log is given to it.
    pub fn reconfigure(&self, config: &LogManagerConfig) {
        *self.producer_id_expiration.lock() = config.producer_id_expiration;
    }

    /// The log of `partition`. There is none in a directory that could not be used from the start.
    pub fn log(&self, partition: &TopicPartition) -> Option<Arc<Log>> {
        self.logs.read().get(partition).cloned()
    }

    /// All logs.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        self.logs.read().values().cloned().collect()
    }

    /// The logs of which something may not be on the disk yet.
    fn unsettled_logs(&self) -> Vec<Arc<Log>> {
        self.logs.read().values().filter(|log| !log.is_settled()).cloned().collect()
    }

    /// The logs whose topics' configuration is in force: those that may be cleaned.
    pub fn claimed_logs(&self) -> Vec<Arc<Log>> {
        let unclaimed = self.unclaimed.lock();
        let logs = self.logs.read();
        let claimed = logs.iter().filter(|(partition, _)| !unclaimed.contains(*partition));
        claimed.map(|(_, log)| log.clone()).collect()
    }

    /// The log of `partition`, made if it is not there, in the directory with the fewest
    /// partitions. One that is there gets `config`.
    pub fn create_log(
        &self,
        partition: &TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<Arc<Log>, CreateLogError> {
        self.create_log_in(None, partition, topic_id, config)
    }

    /// [`create_log`](Self::create_log) in the directory with the id `dir`, if there is one. A log
    /// that is there stays where it is.
    pub fn create_log_in(
        &self,
        dir: Option<Uuid>,
        partition: &TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<Arc<Log>, CreateLogError> {
        let _changing = self.changing.lock();
        self.prefer_twin(partition, topic_id);
        if let Some(log) = self.log(partition) {
            if log.topic_id().is_some_and(|id| id != topic_id) {
                return Err(CreateLogError::InconsistentTopicId { partition: partition.clone() });
            }
            log.assign_topic_id(topic_id)?;
            log.update_config(config);
            self.unclaimed.lock().remove(partition);
            return Ok(log);
        }
        let wish = self.wishes.lock().shift_remove(partition);
        let wish = wish.as_ref().filter(|dir| dir.failure().is_none());
        let dir = match dir {
            None => wish.map_or_else(|| self.emptiest_dir(), Ok)?,
            Some(id) => self.online_dir(id).ok_or_else(|| CreateLogError::NotOnline {
                partition: partition.clone(),
                dir: id,
            })?,
        };
        dir.check_room()?;
        // It would be taken for what is made now.
        self.put_away_twins(|twin| {
            twin.partition() == partition && Arc::ptr_eq(twin.log_dir(), dir)
        })?;
        if self.stale.lock().contains(partition) {
            in_dir(dir, self.forget_stale())?;
        }
        let log = self.make_log(dir, partition, topic_id, config)?;
        self.logs.write().insert(partition.clone(), log.clone());
        Ok(log)
    }

    /// Makes a new log. What was made of one that cannot be made whole is removed.
    fn make_log(
        &self,
        dir: &Arc<LogDir>,
        partition: &TopicPartition,
        topic_id: TopicId,
        config: LogConfig,
    ) -> Result<Arc<Log>, LogDirFailure> {
        let mut options = LogOpenOptions::new(config, *self.producer_id_expiration.lock());
        options.clean_shutdown = true;
        let made = Log::open(dir.clone(), partition.clone(), options)
            .map_err(|error| dir.failed("creating a log", &error))
            .and_then(|log| log.assign_topic_id(topic_id).map(|()| Arc::new(log)));
        if made.is_err() && dir.failure().is_none() {
            let path = dir.path().join(partition.to_string());
            match dir.disk().remove_dir_all(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => drop(dir.take_offline("removing a log that was not made", &error)),
            }
        }
        made
    }

    /// Remembers in which directory the log of `partition` is to be made if nothing else says so, as
    /// long as the node runs (KIP-113).
    pub fn wish_for_dir(&self, partition: &TopicPartition, dir: &Arc<LogDir>) {
        let mut wishes = self.wishes.lock();
        wishes.insert(partition.clone(), dir.clone());
        if wishes.len() > MAX_WISHES {
            wishes.shift_remove_index(0);
        }
    }

    fn online_dir(&self, id: Uuid) -> Option<&Arc<LogDir>> {
        self.dirs().find(|dir| dir.id() == Some(id) && dir.failure().is_none())
    }

    /// Closes the log of `partition` and renames its directory; its files are removed after
    /// `file.delete.delay.ms`. `false` if there is none.
    pub fn delete_log(&self, partition: &TopicPartition) -> Result<bool, LogDirFailure> {
        let _changing = self.changing.lock();
        let Some(log) = self.log(partition) else { return Ok(false) };
        if let Some(offline) = log.log_dir().failure() {
            // A start with the directory repaired will find that it belongs to nobody.
            self.forget(partition);
            return Err(offline);
        }
        self.doom(&log)?;
        self.forget(partition);
        Ok(true)
    }

    /// Renames the directory of a log, which is removed after `file.delete.delay.ms`.
    fn doom(&self, log: &Log) -> Result<(), LogDirFailure> {
        let partition = log.partition();
        let delay = i64::try_from(log.config().file_delete_delay.as_millis()).unwrap_or(i64::MAX);
        let due = Timestamp(self.env.clock.wall().0.saturating_add(delay));
        let renamed = log.rename_dir(&file_name::deleted_dir(partition, self.unique()))?;
        log.log_dir().remove_at(due, renamed, true);
        Ok(())
    }

    /// The log of `partition` is none of this node's any more. Its lines in the checkpoint files are, in
    /// whichever directory it ever lay, until they are written anew.
    fn forget(&self, partition: &TopicPartition) {
        self.logs.write().remove(partition);
        self.unclaimed.lock().remove(partition);
        // Not before: who writes checkpoints now may still have it among the logs.
        self.stale.lock().insert(partition.clone());
    }

    fn unique(&self) -> u128 {
        self.env.rng.next_u128()
    }

    /// Does what is due at `now`: retention, `flush.ms` and sealed segments, checkpoints, removal
    /// of deleted files. Blocks on the disk; meant to be called about once a second.
    pub fn housekeeping(&self, now: Timestamp) {
        let config = &self.config;
        let mut schedule = self.schedule.lock();
        let due = |last: &mut Timestamp, interval: Duration| {
            let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
            let due = now.0.saturating_sub(last.0) >= interval;
            if due {
                *last = now;
            }
            due
        };
        let retention = due(&mut schedule.retention, config.retention_check_interval);
        for dir in self.dirs() {
            dir.look();
        }
        if due(&mut schedule.idle_files, IDLE_FILES_INTERVAL) {
            self.open_files.close_idle();
        }
        // A directory that failed, or is full, said so when it did.
        if retention {
            let expiration = *self.producer_id_expiration.lock();
            for log in self.claimed_logs() {
                let _told = log.retain(now, expiration);
            }
        }
        let checkpoints =
            due(&mut schedule.recovery_points, config.flush_offset_checkpoint_interval);
        // Now and then all: a reader who finds an index damaged leaves it to the next flush.
        let logs = if checkpoints { self.logs() } else { self.unsettled_logs() };
        for dir in self.dirs() {
            let mut due = Due::default();
            for log in logs.iter().filter(|log| Arc::ptr_eq(log.log_dir(), dir)) {
                log.flush_due(now).into_iter().for_each(|up_to| due.add(log, up_to));
            }
            let _told = dir.flush_together(&due);
        }
        // What a full disk kept from being written is written when it is next due.
        self.make_checkpoints(&logs, checkpoints);
        logs.iter().for_each(|log| log.settle());
        if checkpoints {
            let _told = self.forget_stale();
        }
        if due(&mut schedule.log_starts, config.flush_start_offset_checkpoint_interval) {
            let _told = self.checkpoint_log_starts();
        }
        drop(schedule);
        for dir in self.dirs() {
            dir.remove_due(now);
        }
    }

    /// Whether there is a directory for a new log, and room in it.
    pub fn check_room(&self) -> Result<(), LogDirFailure> {
        self.emptiest_dir().map(|_| ())
    }

    /// The directory with the fewest logs among those that work and have room.
    fn emptiest_dir(&self) -> Result<&Arc<LogDir>, LogDirFailure> {
        let logs = self.logs.read();
        let held =
            |dir: &Arc<LogDir>| logs.values().filter(|log| Arc::ptr_eq(log.log_dir(), dir)).count();
        let mut refusal = LogDirFailure::Closed;
        let mut fewest = None;
        for dir in self.dirs() {
            match dir.check_room() {
                Ok(()) => {
                    let count = held(dir);
                    if fewest.is_none_or(|(_, least)| count < least) {
                        fewest = Some((dir, count));
                    }
                }
                Err(failure) => refusal = failure,
            }
        }
        fewest.map(|(dir, _)| dir).ok_or(refusal)
    }
}
