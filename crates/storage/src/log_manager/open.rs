//! Opening the log directories: locks, identity, recovery.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_config::LogManagerConfig;
use ottla_env::{DirLock, Disk, Env};
use ottla_protocol::{BrokerId, Offset, TopicPartition, Uuid, format_uuid};
use parking_lot::{Mutex, RwLock};
use thiserror::Error;

use super::strays::{HadLog, MetadataRead};
use super::{
    CLEANER_FILE, Dir, HIGH_WATERMARK_FILE, LOG_START_FILE, LogManager, LogManagerOptions,
    RECOVERY_POINT_FILE, Schedule, moves, strays,
};
use crate::checkpoint::{self, Offsets};
use crate::file_name::{
    DELETE_DIR, FUTURE_DIR, METADATA_TOPIC, STRAY_DIR, deleted_dir, parse_partition_dir,
};
use crate::log::{Log, LogOpenOptions};
use crate::log_dir::LogDir;
use crate::meta_properties::{self, MetaProperties, MetaPropertiesError};
use crate::open_files::OpenFiles;

const LOCK_FILE: &str = ".lock";
const CLEAN_SHUTDOWN_FILE: &str = ".kafka_cleanshutdown";

/// Why the log directories could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process uses the directory.
    #[error(
        "log directory {} is in use by another process: stop it, or set another directory",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory belongs to another cluster.
    #[error(
        "log directory {} belongs to cluster {found}, not to {expected}: set another directory, \
         or empty this one if its data is not needed", path.display()
    )]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// The cluster it names.
        found: String,
        /// The cluster of this node.
        expected: String,
    },
    /// The directory belongs to another node.
    #[error(
        "log directory {} belongs to node {found}, not to {expected}: set node.id={found}, or \
         another directory", path.display()
    )]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// The node it names.
        found: BrokerId,
        /// `node.id`.
        expected: BrokerId,
    },
    /// A directory that is not empty, but was never formatted.
    #[error(
        "log directory {} holds partitions but no meta.properties: restore that file, or set \
         another directory", path.display()
    )]
    NotFormatted {
        /// The directory.
        path: PathBuf,
    },
    /// The same partition lies in two directories.
    #[error("{partition} lies in {} and in {}: remove one of them", first.display(), second.display())]
    DuplicateLog {
        /// The partition.
        partition: TopicPartition,
        /// One directory.
        first: PathBuf,
        /// The other directory.
        second: PathBuf,
    },
    /// No directory is left that works.
    #[error("no log directory can be used: {}", reasons.join("; "))]
    NoneUsable {
        /// What is wrong with each.
        reasons: Vec<String>,
    },
    /// The directories that work are new, and one that does not may know the cluster.
    #[error(
        "log directories that can be used are all empty, and one cannot: {reason}: repair it, or \
         take it from log.dirs to start a new cluster"
    )]
    ClusterUnknown {
        /// What is wrong with it.
        reason: String,
    },
}

/// A log that waits to be opened.
struct Pending {
    dir: Arc<LogDir>,
    partition: TopicPartition,
    options: LogOpenOptions,
    /// A checkpoint names it.
    is_named: bool,
}

impl Pending {
    /// How far the checkpoints say that it was synced, and cleaned.
    fn promised(&self) -> (TopicPartition, Offset, Option<Offset>) {
        let LogOpenOptions { recovery_point, first_dirty_offset, .. } = self.options;
        (self.partition.clone(), recovery_point, first_dirty_offset)
    }
}

impl LogManager {
    /// Takes the lock of every directory, formats the empty ones, refuses those of another
    /// cluster or node, and opens all logs. After a crash the logs are recovered, several at once.
    /// A directory that cannot be used is offline from the start, as long as another works.
    pub async fn open(env: Env, options: LogManagerOptions) -> Result<Self, OpenError> {
        let LogManagerOptions { dirs, node_id, cluster_id, config, max_open_files } = options;
        let open_files = OpenFiles::new(env.disk.clone(), max_open_files);
        let room = (config.reserved_bytes, dirs.len());
        let log_dirs: Vec<_> = dirs
            .into_iter()
            .map(|path| LogDir::sharing(&env, path, open_files.clone(), room))
            .collect();
        let (cluster_id, dirs) = claim(&env, log_dirs, node_id, cluster_id)?;
        for Dir { dir, .. } in dirs.iter().filter(|dir| dir.dir.failure().is_none()) {
            if let Err(error) = dir.share_syncs(config.dir_sync_max_bytes) {
                dir.take_offline("opening its file system", &error);
            }
        }
        let (mut pending, mut stale) = (VecDeque::new(), BTreeSet::new());
        let online = || dirs.iter().map(|dir| &dir.dir).filter(|dir| dir.failure().is_none());
        let previous_epoch = previous_epoch(online());
        for dir in online() {
            match list_logs(dir, &config) {
                Ok((logs, gone)) => {
                    pending.extend(logs);
                    stale.extend(gone);
                }
                Err(error) => drop(dir.take_offline("listing its logs", &error)),
            }
        }
        let promised: Vec<_> = pending.iter().map(Pending::promised).collect();
        let metadata_read = MetadataRead::noted_in(online(), named(&pending));
        let threads = config.recovery_threads_per_data_dir.max(1) * dirs.len();
        let (logs, twins) = open_logs(&env, pending, threads).await?;
        online().for_each(|dir| dir.trust_again());
        if online().next().is_none() {
            return Err(OpenError::NoneUsable {
                reasons: reasons(dirs.iter().map(|dir| &dir.dir)),
            });
        }
        forget_moves(&env, &logs, online().cloned().collect()).await;
        let now = env.clock.wall();
        let manager = Self {
            env,
            cluster_id,
            previous_epoch,
            producer_id_expiration: Mutex::new(config.producer_id_expiration),
            config,
            open_files,
            dirs,
            unclaimed: Mutex::new(logs.keys().cloned().collect()),
            logs: RwLock::new(logs),
            twins: Mutex::new(twins),
            moves: Mutex::default(),
            arriving: Mutex::default(),
            wishes: Mutex::default(),
            changing: Mutex::default(),
            stale: Mutex::new(stale),
            checkpointing: Mutex::default(),
            metadata_read,
            schedule: Mutex::new(Schedule::starting(now)),
        };
        let falls_short = |(partition, synced, cleaned): &(_, Offset, Option<Offset>)| {
            manager.log(partition).is_some_and(|log| {
                log.recovery_point() < *synced || log.first_dirty_offset() < *cleaned
            })
        };
        if promised.iter().any(falls_short) {
            // Died while it was cut. What is appended now must not be taken for what was synced, or cleaned.
            let _told = manager.checkpoint_cut();
        }
        Ok(manager)
    }
}

/// A directory that is this node's though no partition lies there: `metadata.log.dir`, where it is none of `log.dirs`.
/// Nobody else may use it as long as this is held.
pub struct OwnDir {
    id: Uuid,
    _lock: DirLock,
}

impl OwnDir {
    /// Takes the lock of the directory, and formats it if it is empty. One of another cluster or node is refused, and one
    /// that cannot be used. Blocks on the disk.
    pub fn claim(
        env: &Env,
        path: PathBuf,
        node_id: BrokerId,
        cluster_id: &str,
    ) -> Result<Self, OpenError> {
        let dir = LogDir::new(env, path, 1);
        let (_, claimed) = claim(env, vec![dir.clone()], node_id, Some(cluster_id.to_owned()))?;
        let lock = claimed.into_iter().find_map(|dir| dir._lock);
        let own = dir.id().zip(lock).map(|(id, _lock)| Self { id, _lock });
        own.ok_or_else(|| OpenError::NoneUsable { reasons: reasons([&dir].into_iter()) })
    }

    /// `directory.id`
    pub fn id(&self) -> Uuid {
        self.id
    }
}

/// Why directories are offline.
fn reasons<'a>(dirs: impl Iterator<Item = &'a Arc<LogDir>>) -> Vec<String> {
    dirs.filter_map(|dir| dir.failure()).map(|failure| failure.to_string()).collect()
}

/// A directory that may be used, if it turns out to be this node's.
struct Found {
    dir: Arc<LogDir>,
    /// What locking it and reading its identity gave; nothing if its disk does not let us.
    held: Option<(DirLock, Option<MetaProperties>)>,
}

/// Locks the directories and makes sure that they are this node's. One that cannot be used is
/// offline from the start; one of another process, node or cluster is refused.
fn claim(
    env: &Env,
    log_dirs: Vec<Arc<LogDir>>,
    node_id: BrokerId,
    cluster_id: Option<String>,
) -> Result<(String, Vec<Dir>), OpenError> {
    let found = log_dirs.into_iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let cluster_id = find_cluster(env, &found, cluster_id)?;
    let mut dirs = Vec::with_capacity(found.len());
    for Found { dir, held } in found {
        let Some((lock, properties)) = held else {
            dirs.push(Dir { dir, _lock: None });
            continue;
        };
        match properties {
            Some(properties) => {
                dir.identify(check_identity(dir.path(), &properties, node_id, &cluster_id)?);
            }
            None => format_dir(env, &dir, node_id, &cluster_id)?,
        }
        dirs.push(Dir { dir, _lock: Some(lock) });
    }
    Ok((cluster_id, dirs))
}

/// Locks a directory and reads its identity.
fn find(dir: Arc<LogDir>) -> Result<Found, OpenError> {
    let (disk, path) = (dir.disk(), dir.path());
    let locked = disk.create_dir_all(path).and_then(|()| disk.lock(&path.join(LOCK_FILE)));
    let held = match locked {
        Err(error) => {
            dir.take_offline("opening it", &error);
            None
        }
        Ok(None) => return Err(OpenError::Locked { path: path.to_owned() }),
        Ok(Some(lock)) => match meta_properties::read(disk, path) {
            Ok(properties) => Some((lock, properties)),
            Err(error) => {
                dir.take_offline("reading meta.properties", &io_error(error));
                None
            }
        },
    };
    Ok(Found { dir, held })
}

fn io_error(error: MetaPropertiesError) -> io::Error {
    match error {
        MetaPropertiesError::Io(error) => error,
        invalid @ MetaPropertiesError::Invalid { .. } => {
            io::Error::new(io::ErrorKind::InvalidData, invalid)
        }
    }
}

/// The cluster that this node belongs to: as told, as the directories say, or a new one.
fn find_cluster(env: &Env, found: &[Found], told: Option<String>) -> Result<String, OpenError> {
    let named = found.iter().find_map(|found| found.held.as_ref()?.1.as_ref());
    if let Some(known) = told.or_else(|| named.map(|properties| properties.cluster_id.clone())) {
        return Ok(known);
    }
    let mut reasons = reasons(found.iter().map(|found| &found.dir));
    match reasons.pop() {
        None => Ok(format_uuid(random_uuid(env))),
        Some(_) if found.iter().all(|found| found.held.is_none()) => {
            Err(OpenError::NoneUsable { reasons: self::reasons(found.iter().map(|it| &it.dir)) })
        }
        Some(reason) => Err(OpenError::ClusterUnknown { reason }),
    }
}

fn check_identity(
    path: &Path,
    properties: &MetaProperties,
    node_id: BrokerId,
    cluster_id: &str,
) -> Result<Uuid, OpenError> {
    let path = path.to_owned();
    if properties.cluster_id != cluster_id {
        let found = properties.cluster_id.clone();
        return Err(OpenError::OtherCluster { path, found, expected: cluster_id.to_owned() });
    }
    if properties.node_id != node_id {
        let found = properties.node_id;
        return Err(OpenError::OtherNode { path, found, expected: node_id });
    }
    Ok(properties.directory_id)
}

/// Makes a new directory this node's, unless its disk fails.
fn format_dir(
    env: &Env,
    dir: &LogDir,
    node_id: BrokerId,
    cluster_id: &str,
) -> Result<(), OpenError> {
    let entries = match dir.disk().read_dir(dir.path()) {
        Ok(entries) => entries,
        Err(error) => {
            dir.take_offline("listing it", &error);
            return Ok(());
        }
    };
    if entries.iter().any(|entry| entry.is_dir && parse_partition_dir(&entry.name).is_some()) {
        return Err(OpenError::NotFormatted { path: dir.path().to_owned() });
    }
    let directory_id = random_uuid(env);
    let properties = MetaProperties { cluster_id: cluster_id.to_owned(), node_id, directory_id };
    match meta_properties::write(dir.disk(), dir.path(), &properties) {
        Ok(()) => {
            dir.identify(directory_id);
            tracing::info!(dir = %dir.path().display(), cluster_id, %node_id, "formatted");
        }
        Err(error) => drop(dir.take_offline("writing meta.properties", &error)),
    }
    Ok(())
}

/// A random id of version 4.
fn random_uuid(env: &Env) -> Uuid {
    let versioned = env.rng.next_u128() & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    Uuid::from_bytes(versioned.to_be_bytes())
}

/// The logs of a directory and what its checkpoints say of each, and the partitions that they name
/// and that are not there. Deleted ones are removed.
fn list_logs(
    dir: &Arc<LogDir>,
    config: &LogManagerConfig,
) -> io::Result<(Vec<Pending>, BTreeSet<TopicPartition>)> {
    let (disk, path) = (dir.disk(), dir.path());
    if dir.recall_failure() {
        tracing::warn!(dir = %path.display(), "the directory went offline: writing again what was not synced");
    }
    let clean_shutdown = take_clean_shutdown(disk, path)?;
    let recovery_points = read_checkpoint(disk, &path.join(RECOVERY_POINT_FILE))?;
    let log_starts = read_checkpoint(disk, &path.join(LOG_START_FILE))?;
    let high_watermarks = read_checkpoint(disk, &path.join(HIGH_WATERMARK_FILE))?;
    let first_dirty = read_checkpoint(disk, &path.join(CLEANER_FILE))?;
    let checkpoints = [&recovery_points, &log_starts, &high_watermarks, &first_dirty];
    let mut gone: BTreeSet<TopicPartition> =
        checkpoints.into_iter().flat_map(Offsets::keys).cloned().collect();
    let (mut pending, mut strays) = (Vec::new(), Vec::new());
    for entry in disk.read_dir(path)?.into_iter().filter(|entry| entry.is_dir) {
        if entry.name.ends_with(STRAY_DIR) {
            strays.push(entry.path);
            continue;
        }
        // A copy that did not become the log is made anew if somebody asks again.
        if entry.name.ends_with(DELETE_DIR) || entry.name.ends_with(FUTURE_DIR) {
            disk.remove_dir_all(&entry.path)?;
            continue;
        }
        let Some(partition) = parse_partition_dir(&entry.name) else { continue };
        if &*partition.topic == METADATA_TOPIC {
            continue;
        }
        let is_named = gone.remove(&partition);
        let of = |offsets: &Offsets| offsets.get(&partition).copied().unwrap_or(Offset(0));
        let options = LogOpenOptions {
            config: config.defaults.clone(),
            producer_id_expiration: config.producer_id_expiration,
            recovery_point: of(&recovery_points),
            log_start_offset: of(&log_starts),
            high_watermark: of(&high_watermarks),
            first_dirty_offset: first_dirty.get(&partition).copied(),
            clean_shutdown,
        };
        pending.push(Pending { dir: dir.clone(), partition, options, is_named });
    }
    strays::mention(&strays);
    Ok((pending, gone))
}

/// Logs that a checkpoint names: those that this node had.
fn named(pending: &VecDeque<Pending>) -> BTreeSet<HadLog> {
    let named = pending.iter().filter(|log| log.is_named);
    named.map(|log| (log.dir.path().to_owned(), log.partition.clone())).collect()
}

/// A damaged checkpoint only costs a longer recovery.
fn read_checkpoint(disk: &dyn Disk, path: &Path) -> io::Result<Offsets> {
    match checkpoint::read_offsets(disk, path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::warn!(%error, "ignoring a checkpoint file");
            Ok(Offsets::new())
        }
        read => read,
    }
}

/// The broker epoch that every one of these directories was closed under, or -1.
fn previous_epoch<'a>(dirs: impl Iterator<Item = &'a Arc<LogDir>>) -> i64 {
    let epochs: BTreeSet<Option<i64>> = dirs.map(|dir| clean_epoch(dir)).collect();
    let first = epochs.first().copied().flatten();
    first.filter(|_| epochs.len() == 1).unwrap_or(-1)
}

/// The broker epoch in the mark of a clean shutdown, if there is one that can be read.
fn clean_epoch(dir: &LogDir) -> Option<i64> {
    let contents = dir.disk().read(&dir.path().join(CLEAN_SHUTDOWN_FILE)).ok()?;
    let text = std::str::from_utf8(&contents).ok()?;
    let (_, value) = text.split_once("\"brokerEpoch\":")?;
    let digits = value.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Whether the last run ended cleanly. The mark is removed, so that a crash from now on counts.
fn take_clean_shutdown(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    let was_clean = match disk.remove_file(&path.join(CLEAN_SHUTDOWN_FILE)) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    // Also where it was gone already: who removed it may have died before this, and the power would
    // bring it back, over logs that were written since.
    disk.sync_dir(path)?;
    Ok(was_clean)
}

pub(super) fn write_clean_shutdown(dir: &LogDir, broker_epoch: i64) {
    let contents = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
    let path = dir.path().join(CLEAN_SHUTDOWN_FILE);
    if let Err(error) = dir.disk().write_atomic(&path, contents.as_bytes()) {
        dir.failed("marking the clean shutdown", &error);
    }
}

/// Logs by partition, and those that lie in a second directory under the same name.
type OpenedLogs = (BTreeMap<TopicPartition, Arc<Log>>, Vec<Arc<Log>>);

/// Opens all logs, `threads` at once. Those of a directory that fails meanwhile are left out.
async fn open_logs(
    env: &Env,
    pending: VecDeque<Pending>,
    threads: usize,
) -> Result<OpenedLogs, OpenError> {
    let workers = threads.min(pending.len());
    let queue = Arc::new(Mutex::new(pending));
    let working: Vec<_> = (0..workers)
        .map(|_| {
            let queue = queue.clone();
            env.run_blocking(move || open_from(&queue))
        })
        .collect();
    let mut opened = Vec::new();
    for worker in working {
        opened.extend(worker.await);
    }
    let mut logs: BTreeMap<TopicPartition, Arc<Log>> = BTreeMap::new();
    let mut twins = Vec::new();
    for log in opened.into_iter().filter(|log| log.log_dir().failure().is_none()) {
        let partition = log.partition().clone();
        let Some(other) = logs.insert(partition.clone(), log.clone()) else { continue };
        if let Some((kept, dropped)) = moves::settle(&other, &log) {
            drop_log(env, &dropped);
            logs.insert(partition, kept);
            continue;
        }
        // A topic that was made again while its old log was out of reach is no mistake.
        if other.topic_id().zip(log.topic_id()).is_none_or(|(one, other)| one == other) {
            let (first, second) = (other.path().to_owned(), log.path().to_owned());
            return Err(OpenError::DuplicateLog { partition, first, second });
        }
        twins.push(other);
    }
    Ok((logs, twins))
}

/// Removes the marks of moves between directories that are over.
async fn forget_moves(
    env: &Env,
    logs: &BTreeMap<TopicPartition, Arc<Log>>,
    online: Vec<Arc<LogDir>>,
) {
    let opened: Vec<_> = logs.values().cloned().collect();
    env.run_blocking(move || moves::forget_origins(&opened, &online)).await;
}

/// Deletes what a move has left in one of two directories. A directory that failed said so.
fn drop_log(env: &Env, log: &Log) {
    let unique = env.rng.next_u128();
    tracing::info!(path = %log.path().display(), "deleting what an interrupted move left");
    if let Ok(renamed) = log.rename_dir(&deleted_dir(log.partition(), unique)) {
        log.log_dir().remove_at(env.clock.wall(), renamed, true);
    }
}

fn open_from(queue: &Mutex<VecDeque<Pending>>) -> Vec<Arc<Log>> {
    let mut opened = Vec::new();
    loop {
        let Some(Pending { dir, partition, options, .. }) = queue.lock().pop_front() else {
            return opened;
        };
        if dir.failure().is_some() {
            continue;
        }
        match Log::open(dir.clone(), partition.clone(), options) {
            Ok(log) => opened.push(Arc::new(log)),
            Err(error) => drop(dir.take_offline(&format!("opening {partition}"), &error)),
        }
    }
}
