//! Opening the log directories: locks, identity, recovery.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_config::LogManagerConfig;
use ottla_env::{Disk, Env};
use ottla_protocol::{BrokerId, Offset, TopicPartition, Uuid, format_uuid};
use parking_lot::{Mutex, RwLock};
use thiserror::Error;

use super::{
    CLEANER_FILE, Dir, HIGH_WATERMARK_FILE, LOG_START_FILE, LogManager, LogManagerOptions,
    RECOVERY_POINT_FILE, Schedule,
};
use crate::checkpoint::{self, Offsets};
use crate::file_name::{DELETE_DIR, parse_partition_dir};
use crate::log::{Log, LogOpenOptions};
use crate::log_dir::LogDir;
use crate::meta_properties::{self, MetaProperties, MetaPropertiesError};
use crate::open_files::OpenFiles;

const LOCK_FILE: &str = ".lock";
const CLEAN_SHUTDOWN_FILE: &str = ".kafka_cleanshutdown";
/// The metadata quorum's own log, which it opens itself.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Why the log directories could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process uses the directory.
    #[error(
        "log directory {} is in use by another process: stop it, or set another log.dirs",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory belongs to another cluster.
    #[error(
        "log directory {} belongs to cluster {found}, not to {expected}: set another log.dirs, \
         or empty the directory if its data is not needed", path.display()
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
         another log.dirs", path.display()
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
         another log.dirs", path.display()
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
    /// `meta.properties` cannot be used.
    #[error(transparent)]
    MetaProperties(#[from] MetaPropertiesError),
    /// The disk failed.
    #[error("log directory {}: {error}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What failed.
        error: io::Error,
    },
}

/// A log that waits to be opened.
struct Pending {
    dir: Arc<LogDir>,
    partition: TopicPartition,
    options: LogOpenOptions,
}

impl LogManager {
    /// Takes the lock of every directory, formats the empty ones, refuses those of another
    /// cluster or node, and opens all logs. After a crash the logs are recovered, several at once.
    pub async fn open(env: Env, options: LogManagerOptions) -> Result<Self, OpenError> {
        let LogManagerOptions { dirs, node_id, cluster_id, config, max_open_files } = options;
        let open_files = OpenFiles::new(env.disk.clone(), max_open_files);
        let log_dirs: Vec<_> =
            dirs.into_iter().map(|path| LogDir::sharing(&env, path, open_files.clone())).collect();
        let (cluster_id, dirs) =
            claim(&env, log_dirs, node_id, cluster_id, config.dir_sync_max_bytes)?;
        let mut pending = VecDeque::new();
        for Dir { dir, .. } in &dirs {
            list_logs(dir, &config, &mut pending).map_err(|error| io_error(dir.path(), error))?;
        }
        let threads = config.recovery_threads_per_data_dir.max(1) * dirs.len();
        let logs = open_logs(&env, pending, threads).await?;
        let now = env.clock.wall();
        Ok(Self {
            env,
            cluster_id,
            config,
            dirs,
            logs: RwLock::new(logs),
            changing: Mutex::default(),
            checkpointing: Mutex::default(),
            schedule: Mutex::new(Schedule {
                retention: now,
                recovery_points: now,
                log_starts: now,
            }),
        })
    }
}

/// Locks the directories and makes sure that they are this node's.
fn claim(
    env: &Env,
    log_dirs: Vec<Arc<LogDir>>,
    node_id: BrokerId,
    cluster_id: Option<String>,
    sync_max_bytes: u64,
) -> Result<(String, Vec<Dir>), OpenError> {
    let mut found = Vec::new();
    for dir in log_dirs {
        let (disk, path) = (dir.disk(), dir.path());
        let failed = |error| io_error(path, error);
        disk.create_dir_all(path).map_err(failed)?;
        let lock = disk.lock(&path.join(LOCK_FILE)).map_err(failed)?;
        let lock = lock.ok_or_else(|| OpenError::Locked { path: path.to_owned() })?;
        let properties = meta_properties::read(disk, path)?;
        found.push((dir, lock, properties));
    }
    let named = found.iter().find_map(|(_, _, properties)| properties.as_ref());
    let cluster_id = cluster_id
        .or_else(|| named.map(|properties| properties.cluster_id.clone()))
        .unwrap_or_else(|| format_uuid(random_uuid(env)));
    let mut dirs = Vec::with_capacity(found.len());
    for (dir, lock, properties) in found {
        let id = match properties {
            Some(properties) => check_identity(dir.path(), &properties, node_id, &cluster_id)?,
            None => format_dir(env, &dir, node_id, &cluster_id)?,
        };
        dir.share_syncs(sync_max_bytes).map_err(|error| io_error(dir.path(), error))?;
        dirs.push(Dir { dir, id, _lock: lock });
    }
    Ok((cluster_id, dirs))
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

fn format_dir(
    env: &Env,
    dir: &LogDir,
    node_id: BrokerId,
    cluster_id: &str,
) -> Result<Uuid, OpenError> {
    let failed = |error| io_error(dir.path(), error);
    let entries = dir.disk().read_dir(dir.path()).map_err(failed)?;
    if entries.iter().any(|entry| entry.is_dir && parse_partition_dir(&entry.name).is_some()) {
        return Err(OpenError::NotFormatted { path: dir.path().to_owned() });
    }
    let directory_id = random_uuid(env);
    let properties = MetaProperties { cluster_id: cluster_id.to_owned(), node_id, directory_id };
    meta_properties::write(dir.disk(), dir.path(), &properties).map_err(failed)?;
    tracing::info!(dir = %dir.path().display(), cluster_id, %node_id, "formatted");
    Ok(directory_id)
}

/// A random id of version 4.
fn random_uuid(env: &Env) -> Uuid {
    let random = u128::from(env.rng.next_u64()) << 64 | u128::from(env.rng.next_u64());
    let versioned = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    Uuid::from_bytes(versioned.to_be_bytes())
}

/// The logs of a directory and what its checkpoints say of each. Deleted ones are removed.
fn list_logs(
    dir: &Arc<LogDir>,
    config: &LogManagerConfig,
    pending: &mut VecDeque<Pending>,
) -> io::Result<()> {
    let (disk, path) = (dir.disk(), dir.path());
    let clean_shutdown = take_clean_shutdown(disk, path)?;
    let recovery_points = read_checkpoint(disk, &path.join(RECOVERY_POINT_FILE))?;
    let log_starts = read_checkpoint(disk, &path.join(LOG_START_FILE))?;
    let high_watermarks = read_checkpoint(disk, &path.join(HIGH_WATERMARK_FILE))?;
    let first_dirty = read_checkpoint(disk, &path.join(CLEANER_FILE))?;
    for entry in disk.read_dir(path)?.into_iter().filter(|entry| entry.is_dir) {
        if entry.name.ends_with(DELETE_DIR) {
            disk.remove_dir_all(&entry.path)?;
            continue;
        }
        let Some(partition) = parse_partition_dir(&entry.name) else { continue };
        if &*partition.topic == METADATA_TOPIC {
            continue;
        }
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
        pending.push_back(Pending { dir: dir.clone(), partition, options });
    }
    Ok(())
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

/// Whether the last run ended cleanly. The mark is removed, so that a crash from now on counts.
fn take_clean_shutdown(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.remove_file(&path.join(CLEAN_SHUTDOWN_FILE)) {
        Ok(()) => disk.sync_dir(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn write_clean_shutdown(dir: &LogDir, broker_epoch: i64) {
    let contents = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
    let path = dir.path().join(CLEAN_SHUTDOWN_FILE);
    if let Err(error) = dir.disk().write_atomic(&path, contents.as_bytes()) {
        dir.failed("marking the clean shutdown", &error);
    }
}

/// Opens all logs, `threads` at once.
async fn open_logs(
    env: &Env,
    pending: VecDeque<Pending>,
    threads: usize,
) -> Result<BTreeMap<TopicPartition, Arc<Log>>, OpenError> {
    let workers = threads.min(pending.len());
    let queue = Arc::new(Mutex::new(pending));
    let working: Vec<_> = (0..workers)
        .map(|_| {
            let queue = queue.clone();
            env.run_blocking(move || open_from(&queue))
        })
        .collect();
    let mut logs: BTreeMap<TopicPartition, Arc<Log>> = BTreeMap::new();
    for opened in working {
        for log in opened.await? {
            let partition = log.partition().clone();
            if let Some(other) = logs.insert(partition.clone(), log.clone()) {
                let (first, second) = (other.path().to_owned(), log.path().to_owned());
                return Err(OpenError::DuplicateLog { partition, first, second });
            }
        }
    }
    Ok(logs)
}

fn open_from(queue: &Mutex<VecDeque<Pending>>) -> Result<Vec<Arc<Log>>, OpenError> {
    let mut opened = Vec::new();
    loop {
        let Some(Pending { dir, partition, options }) = queue.lock().pop_front() else {
            return Ok(opened);
        };
        let path = dir.path().join(partition.to_string());
        let log = Log::open(dir, partition, options).map_err(|error| io_error(&path, error))?;
        opened.push(Arc::new(log));
    }
}

fn io_error(path: &Path, error: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), error }
}
