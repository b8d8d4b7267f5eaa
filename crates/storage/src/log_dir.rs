//! One of `log.dirs`: what its logs share, and whether its disk still works.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ottla_env::{Clock, Disk, Env, Rng, Spawn};
use ottla_protocol::Timestamp;
use ottla_protocol::compression::Decompressor;
use parking_lot::Mutex;
use thiserror::Error;

use crate::group_commit::{CommitQueue, SharedSync};
use crate::open_files::{CachedFile, OpenFiles};

/// A fault: the disk failed, or the log is gone. `KAFKA_STORAGE_ERROR` to a client.
#[derive(Clone, Debug, Error)]
pub enum LogDirFailure {
    /// Reading or writing failed, and the whole directory is offline until the node restarts.
    #[error("log directory {} is offline: {reason}", path.display())]
    Offline {
        /// The directory.
        path: PathBuf,
        /// What failed.
        reason: Arc<str>,
    },
    /// The log was deleted or closed.
    #[error("the log is closed")]
    Closed,
}

/// One log directory.
pub struct LogDir {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    open_files: Arc<OpenFiles>,
    failure: OnceLock<Arc<str>>,
    doomed: Mutex<Vec<Doomed>>,
    spawner: Arc<dyn Spawn>,
    shared_sync: OnceLock<SharedSync>,
    commits: Mutex<CommitQueue>,
    /// Not cheap to make, so they are used again; as many as were ever needed at once.
    decompressors: Mutex<Vec<Decompressor>>,
}

/// A decompressor that goes back to its directory when it is dropped.
pub(crate) struct LentDecompressor<'a> {
    dir: &'a LogDir,
    taken: Option<Decompressor>,
}

impl LentDecompressor<'_> {
    pub(crate) fn get(&mut self) -> &mut Decompressor {
        let dir = self.dir;
        self.taken.get_or_insert_with(|| dir.decompressors.lock().pop().unwrap_or_default())
    }
}

impl Drop for LentDecompressor<'_> {
    fn drop(&mut self) {
        self.dir.decompressors.lock().extend(self.taken.take());
    }
}

/// Something to remove after `file.delete.delay.ms`.
struct Doomed {
    due: Timestamp,
    path: PathBuf,
    is_dir: bool,
}

impl LogDir {
    /// The directory `path`, whose logs together keep at most `max_open_files` files open.
    pub fn new(env: &Env, path: PathBuf, max_open_files: usize) -> Arc<Self> {
        let open_files = OpenFiles::new(env.disk.clone(), max_open_files);
        Self::sharing(env, path, open_files)
    }

    pub(crate) fn sharing(env: &Env, path: PathBuf, open_files: Arc<OpenFiles>) -> Arc<Self> {
        Arc::new(Self {
            path,
            disk: env.disk.clone(),
            clock: env.clock.clone(),
            rng: env.rng.clone(),
            open_files,
            failure: OnceLock::new(),
            doomed: Mutex::default(),
            spawner: env.spawner.clone(),
            shared_sync: OnceLock::new(),
            commits: Mutex::default(),
            decompressors: Mutex::default(),
        })
    }

    /// Lets logs of this directory that wait for the disk at once share one sync of the file
    /// system, while no more than `max_unwritten` bytes have to be written with it
    /// (`log.dir.sync.max.bytes`; 0 is never). The directory must exist. From now on every failed
    /// write to the file system shows at the next shared sync.
    pub fn share_syncs(&self, max_unwritten: u64) -> io::Result<()> {
        if max_unwritten > 0
            && let Some(file_system) = self.disk.file_system(&self.path)?
        {
            self.shared_sync.get_or_init(|| SharedSync::new(file_system, max_unwritten));
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What failed, if anything did.
    pub fn failure(&self) -> Option<LogDirFailure> {
        let reason = self.failure.get()?.clone();
        Some(LogDirFailure::Offline { path: self.path.clone(), reason })
    }

    pub(crate) fn check_online(&self) -> Result<(), LogDirFailure> {
        self.failure().map_or(Ok(()), Err)
    }

    /// Takes the directory offline: after a failed write nobody knows what is on the disk.
    pub(crate) fn failed(&self, doing: &str, error: &io::Error) -> LogDirFailure {
        let reason = self.failure.get_or_init(|| {
            tracing::error!(dir = %self.path.display(), %error, "{doing} failed: directory offline");
            format!("{doing}: {error}").into()
        });
        LogDirFailure::Offline { path: self.path.clone(), reason: reason.clone() }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(crate) fn spawner(&self) -> &dyn Spawn {
        &*self.spawner
    }

    pub(crate) fn shared_sync(&self) -> Option<&SharedSync> {
        self.shared_sync.get()
    }

    pub(crate) fn commit_queue(&self) -> &Mutex<CommitQueue> {
        &self.commits
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.wall()
    }

    pub(crate) fn random(&self) -> u64 {
        self.rng.next_u64()
    }

    /// A decompressor for the time of one call, taken when it is first needed.
    pub(crate) fn decompressor(&self) -> LentDecompressor<'_> {
        LentDecompressor { dir: self, taken: None }
    }

    pub(crate) fn cached_file(&self, path: PathBuf) -> Arc<CachedFile> {
        CachedFile::new(path, self.open_files.clone())
    }

    /// Removes a file or directory once `due` has come.
    pub(crate) fn remove_at(&self, due: Timestamp, path: PathBuf, is_dir: bool) {
        self.doomed.lock().push(Doomed { due, path, is_dir });
    }

    /// Removes what is due.
    pub fn remove_due(&self, now: Timestamp) {
        let due: Vec<Doomed> =
            self.doomed.lock().extract_if(.., |doomed| doomed.due <= now).collect();
        for Doomed { path, is_dir, .. } in due {
            let removed = match is_dir {
                true => self.disk.remove_dir_all(&path),
                false => self.disk.remove_file(&path),
            };
            match removed {
                Ok(()) => tracing::debug!(path = %path.display(), "removed"),
                // The directory it lay in was removed before it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    self.failed("removing a deleted file", &error);
                }
            }
        }
    }
}
