//! One of `log.dirs`: what its logs share, and whether its disk still works.

mod room;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use ottla_env::{Clock, Disk, Env, File, OpenMode, Rng, Spawn, is_out_of_files, is_out_of_space};
use ottla_protocol::compression::Decompressor;
use ottla_protocol::{Timestamp, Uuid};
use parking_lot::Mutex;
use thiserror::Error;

use crate::file_name::WENT_OFFLINE;
use crate::group_commit::{CommitQueue, SharedSync};
use crate::open_files::{CachedFile, OpenFiles};

use room::Room;

/// A fault: the disk failed or is full, or the log is gone. `KAFKA_STORAGE_ERROR` to a client.
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
    /// There is no room for what was to be written, and nothing was. The directory is online, and
    /// takes writes again when there is room.
    #[error("log directory {} is full: {reason}", path.display())]
    Full {
        /// The directory.
        path: PathBuf,
        /// What there was no room for.
        reason: Arc<str>,
    },
    /// A file could not be opened because too many are open; nothing was done. Some were closed
    /// meanwhile.
    #[error("too many files are open: {reason}")]
    OutOfFiles {
        /// What needed one.
        reason: Arc<str>,
    },
    /// The log was deleted or closed.
    #[error("the log is closed")]
    Closed,
}

/// One log directory.
pub struct LogDir {
    path: PathBuf,
    id: OnceLock<Uuid>,
    room: Room,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    open_files: Arc<OpenFiles>,
    failure: OnceLock<Arc<str>>,
    /// What can be read need not be on the disk.
    distrusted: AtomicBool,
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

/// About what the first files of a log take on a disk, in bytes.
const NEW_LOG: usize = 8192;

/// Something to remove after `file.delete.delay.ms`.
struct Doomed {
    due: Timestamp,
    path: PathBuf,
    is_dir: bool,
}

impl LogDir {
    /// The directory `path`, whose logs together keep at most `max_open_files` files open. Its room
    /// is not counted.
    pub fn new(env: &Env, path: PathBuf, max_open_files: usize) -> Arc<Self> {
        let open_files = OpenFiles::new(env.disk.clone(), max_open_files);
        Self::with_room(env, path, open_files, Room::uncounted())
    }

    /// One of `dirs` directories that share their open files. Each keeps `reserved` bytes of its
    /// file system free.
    pub(crate) fn sharing(
        env: &Env,
        path: PathBuf,
        open_files: Arc<OpenFiles>,
        (reserved, dirs): (u64, usize),
    ) -> Arc<Self> {
        Self::with_room(env, path, open_files, Room::keeping(Some(reserved), dirs))
    }

    fn with_room(env: &Env, path: PathBuf, open_files: Arc<OpenFiles>, room: Room) -> Arc<Self> {
        Arc::new(Self {
            path,
            id: OnceLock::new(),
            room,
            disk: env.disk.clone(),
            clock: env.clock.clone(),
            rng: env.rng.clone(),
            open_files,
            failure: OnceLock::new(),
            distrusted: AtomicBool::new(false),
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

    /// `directory.id` of its `meta.properties` (KIP-858), unless that could not be read.
    pub fn id(&self) -> Option<Uuid> {
        self.id.get().copied()
    }

    pub(crate) fn identify(&self, id: Uuid) {
        let _once = self.id.set(id);
    }

    /// What failed, if anything did. Being full is no failure.
    pub fn failure(&self) -> Option<LogDirFailure> {
        let reason = self.failure.get()?.clone();
        Some(LogDirFailure::Offline { path: self.path.clone(), reason })
    }

    pub(crate) fn check_online(&self) -> Result<(), LogDirFailure> {
        self.failure().map_or(Ok(()), Err)
    }

    /// What an error of the disk means. Missing space and too many open files pass, if whoever
    /// wrote has undone what was written in part; anything else takes the directory offline.
    pub(crate) fn failed(&self, doing: &str, error: &io::Error) -> LogDirFailure {
        let reason = || format!("{doing}: {error}").into();
        if is_out_of_space(error) {
            // Others look at the disk before they write.
            self.room.grant(0, 0);
            self.now_full(true, doing);
            return LogDirFailure::Full { path: self.path.clone(), reason: reason() };
        }
        if is_out_of_files(error) {
            tracing::warn!(dir = %self.path.display(), %error, "{doing} failed: too many open files");
            self.open_files.close_some();
            return LogDirFailure::OutOfFiles { reason: reason() };
        }
        self.take_offline(doing, error)
    }

    /// What a failed sync means: pages of which nobody knows whether they were written, even if all
    /// that was missing is space. Only a file that could not be opened for it passes.
    pub(crate) fn sync_failed(&self, doing: &str, error: &io::Error) -> LogDirFailure {
        match is_out_of_files(error) {
            true => self.failed(doing, error),
            false => self.take_offline(doing, error),
        }
    }

    /// Takes the directory offline: after a failed write nobody knows what is on the disk.
    pub(crate) fn take_offline(&self, doing: &str, error: &io::Error) -> LogDirFailure {
        let mut online = false;
        let reason = self.failure.get_or_init(|| {
            online = true;
            tracing::error!(dir = %self.path.display(), %error, "{doing} failed: directory offline");
            format!("{doing}: {error}").into()
        });
        if online
            && let Err(error) = self.disk.open(&self.path.join(WENT_OFFLINE), OpenMode::Create)
        {
            let dir = self.path.display();
            tracing::warn!(%dir, %error, "the next start will not know that the directory failed");
        }
        LogDirFailure::Offline { path: self.path.clone(), reason: reason.clone() }
    }

    /// Looks whether a former process took the directory offline. Until
    /// [`trust_again`](Self::trust_again), what recovery reads is written again.
    pub(crate) fn recall_failure(&self) -> bool {
        let distrusted = self.disk.exists(&self.path.join(WENT_OFFLINE));
        self.distrusted.store(distrusted, Ordering::Relaxed);
        distrusted
    }

    pub(crate) fn is_distrusted(&self) -> bool {
        self.distrusted.load(Ordering::Relaxed)
    }

    /// All logs are open, and what was read is on the disk.
    pub(crate) fn trust_again(&self) {
        if !self.distrusted.swap(false, Ordering::Relaxed) {
            return;
        }
        let removed = self.disk.remove_file(&self.path.join(WENT_OFFLINE));
        if let Err(error) = removed.and_then(|()| self.disk.sync_dir(&self.path)) {
            self.take_offline("noting that it is online again", &error);
        }
    }

    /// Takes room for `bytes` that a client wants to append, or refuses before anything is written.
    pub(crate) fn take_room(&self, bytes: usize) -> Result<(), LogDirFailure> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        match self.room.take(bytes) {
            true => Ok(()),
            false => self.look_for_room(bytes, 1),
        }
    }

    /// Takes room for `bytes` of a coordinator. It may use half of the reserve: what it writes is
    /// small, and often the only way to get rid of more.
    pub(crate) fn take_coordinators_room(&self, bytes: usize) -> Result<(), LogDirFailure> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        match self.room.take(bytes) {
            true => Ok(()),
            false => self.look_for_room(bytes, 2),
        }
    }

    /// Whether a log may be made here, which takes room as an append does.
    pub(crate) fn check_room(&self) -> Result<(), LogDirFailure> {
        self.check_online()?;
        self.take_room(NEW_LOG)
    }

    /// Asks the file system. Those who may use a part of the reserve say what its divisor is.
    fn look_for_room(&self, bytes: i64, reserve_divisor: u64) -> Result<(), LogDirFailure> {
        let Some(reserved) = self.room.reserved() else { return Ok(()) };
        let available = match self.disk.available_space(&self.path) {
            Ok(available) => available,
            Err(error) => {
                // The write itself will tell.
                tracing::warn!(dir = %self.path.display(), %error, "cannot tell what is free");
                return Ok(());
            }
        };
        let granted = self.room.grant(available, bytes);
        if available <= reserved {
            self.now_full(true, "keeping log.dir.reserved.bytes free");
        }
        let needed = u64::try_from(bytes).unwrap_or(0).saturating_add(reserved / reserve_divisor);
        if granted || reserve_divisor > 1 && available >= needed {
            return Ok(());
        }
        let reason = format!(
            "{available} bytes are free, and log.dir.reserved.bytes keeps {reserved} of them for \
             deleting: delete records or topics, or make room"
        );
        Err(LogDirFailure::Full { path: self.path.clone(), reason: reason.into() })
    }

    /// Looks how much room there is. To be called about once a second: others use it up, too.
    pub(crate) fn look(&self) {
        let Some(reserved) = self.room.reserved().filter(|_| self.failure.get().is_none()) else {
            return;
        };
        if let Ok(available) = self.disk.available_space(&self.path) {
            self.room.grant(available, 0);
            self.now_full(available <= reserved, "keeping log.dir.reserved.bytes free");
        }
    }

    fn now_full(&self, full: bool, doing: &str) {
        if !self.room.set_full(full) {
            return;
        }
        let dir = self.path.display();
        match full {
            true => {
                tracing::warn!(%dir, "the log directory is full ({doing}): producers are refused")
            }
            false => tracing::info!(%dir, "the log directory has room again"),
        }
    }

    /// Whether producers are refused for want of room.
    pub fn is_full(&self) -> bool {
        self.room.is_full()
    }

    /// Bytes free, and size in bytes, of the file system it lies on.
    pub fn space(&self) -> io::Result<(u64, u64)> {
        Ok((self.disk.available_space(&self.path)?, self.disk.total_space(&self.path)?))
    }

    /// Removes files that `error` kept from being made whole, so that nobody takes them for more
    /// than they are. If even that fails, the error is none that passes.
    pub(crate) fn undo(&self, error: io::Error, made: &[&Path]) -> io::Error {
        for path in made {
            match self.disk.remove_file(path) {
                Ok(()) => {}
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
                Err(stuck) => return io::Error::other(format!("{error}; removing it: {stuck}")),
            }
        }
        error
    }

    /// Opens a file that is written or read as a whole.
    pub(crate) fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.open_files.open(path, mode)
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
        for Doomed { path, is_dir, due } in due {
            let removed = match is_dir {
                true => self.disk.remove_dir_all(&path),
                false => self.disk.remove_file(&path),
            };
            match removed {
                Ok(()) => tracing::debug!(path = %path.display(), "removed"),
                // The directory it lay in was removed before it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => match self.failed("removing a deleted file", &error) {
                    // Some file systems need a little space to remove something.
                    LogDirFailure::Full { .. } | LogDirFailure::OutOfFiles { .. } => {
                        self.remove_at(due, path, is_dir);
                    }
                    LogDirFailure::Offline { .. } | LogDirFailure::Closed => {}
                },
            }
        }
    }
}
