//! A disk that fails as it is told: everything, or what lies under a path; that is as small as a
//! test needs it, or has no room for one kind of file; that opens only so many files.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ottla_env::{DirEntry, DirLock, Disk, Env, File, FileSystem, OpenMode};
use parking_lot::Mutex;
use tokio::sync::watch;

const EMFILE: i32 = 24;

/// What fails from now on.
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) write: AtomicBool,
    pub(crate) sync: AtomicBool,
    pub(crate) read: AtomicBool,
    /// Nothing is in memory.
    pub(crate) cold: AtomicBool,
    pub(crate) sync_finds_no_room: AtomicBool,
    /// Syncs wait while a test holds it.
    pub(crate) gate: Mutex<()>,
    /// Syncs that were asked for.
    pub(crate) syncs: AtomicU64,
    /// What a sync of the file system would have to write.
    pub(crate) unwritten: AtomicU64,
    /// Files made, written, renamed or removed.
    pub(crate) changes: AtomicU64,
    /// The number of the change at which the process dies: nothing works from then on. 0 is never.
    pub(crate) last_change: AtomicU64,
    /// Files are synced one by one: there is no file system to sync.
    pub(crate) no_file_system: AtomicBool,
    /// Nothing below it can be done (`EIO`).
    broken: Mutex<Option<PathBuf>>,
    /// How many bytes fit into all files below a path.
    capacity: Mutex<Option<(PathBuf, u64)>>,
    /// A part of the paths of files for which there is no room.
    no_room_for: Mutex<Option<&'static str>>,
    /// How often one of those was to be written.
    refused: watch::Sender<usize>,
    /// The file system shows more room than there is, as with a quota.
    quota: AtomicBool,
    /// Files that may be open at once; 0 is any number.
    max_files: AtomicUsize,
    files: AtomicUsize,
    /// A directory that cannot be opened to be synced, as too many files are open.
    unsyncable: Mutex<Option<PathBuf>>,
}

impl Faults {
    /// Breaks the disk below `path`, or mends it.
    pub(crate) fn break_below(&self, path: Option<&Path>) {
        *self.broken.lock() = path.map(Path::to_owned);
    }

    /// Lets only `free` more bytes into the files below `path`, or as many as there are.
    pub(crate) fn leave_free(&self, path: &Path, free: Option<u64>) {
        *self.capacity.lock() = free.map(|free| (path.to_owned(), used_below(path) + free));
    }

    /// [`leave_free`](Self::leave_free), but nobody can see it.
    pub(crate) fn leave_quota(&self, path: &Path, free: Option<u64>) {
        self.quota.store(free.is_some(), Ordering::Relaxed);
        self.leave_free(path, free);
    }

    /// From now on there is no room for files whose paths hold `part`; with `None` there is for all.
    pub(crate) fn has_no_room_for(&self, part: Option<&'static str>) {
        *self.no_room_for.lock() = part;
    }

    /// Completes when a file has found no room `count` times.
    pub(crate) async fn refused(&self, count: usize) {
        let mut refused = self.refused.subscribe();
        refused.wait_for(|refused| *refused >= count).await.unwrap();
    }

    /// Lets only `count` files be open at once; 0 is any number.
    pub(crate) fn limit_files(&self, count: usize) {
        self.max_files.store(count, Ordering::Relaxed);
    }

    /// Lets nobody open the directory `path` to sync it, for want of files.
    pub(crate) fn no_file_to_sync(&self, path: &Path) {
        *self.unsyncable.lock() = Some(path.to_owned());
    }

    /// How many files are open.
    pub(crate) fn open_files(&self) -> usize {
        self.files.load(Ordering::Relaxed)
    }

    fn change(&self) -> io::Result<()> {
        let number = self.changes.fetch_add(1, Ordering::Relaxed) + 1;
        match self.last_change.load(Ordering::Relaxed) {
            last if last != 0 && number >= last => Err(io::Error::other("the process is dead")),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let _open = self.gate.lock();
        fail_if(&self.sync)?;
        match self.sync_finds_no_room.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn check(&self, path: &Path) -> io::Result<()> {
        match &*self.broken.lock() {
            Some(broken) if path.starts_with(broken) => Err(io::Error::other("the disk is broken")),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a file at `path` may be written at all.
    fn admit(&self, path: &Path) -> io::Result<()> {
        if self.no_room_for.lock().is_some_and(|part| path.to_string_lossy().contains(part)) {
            self.refused.send_modify(|refused| *refused += 1);
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Bytes that still fit into a file at `path`.
    fn room(&self, path: &Path) -> u64 {
        match &*self.capacity.lock() {
            Some((root, capacity)) if path.starts_with(root) => {
                capacity.saturating_sub(used_below(root))
            }
            Some(_) | None => u64::MAX,
        }
    }
}

fn used_below(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let sizes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => used_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_gone) => 0,
    });
    sizes.sum()
}

fn fail_if(fault: &AtomicBool) -> io::Result<()> {
    match fault.load(Ordering::Relaxed) {
        true => Err(io::Error::other("the disk is broken")),
        false => Ok(()),
    }
}

/// The disk of `real`, which fails as `faults` say.
pub(crate) fn faulty_env(real: Env, faults: &Arc<Faults>) -> Env {
    let disk = Arc::new(FaultyDisk { disk: real.disk.clone(), faults: faults.clone() });
    Env { disk, ..real }
}

struct FaultyDisk {
    disk: Arc<dyn Disk>,
    faults: Arc<Faults>,
}

/// Counts and fails, and syncs nothing: what a sync keeps shows only when the power is lost, which is
/// the simulator's part.
struct FaultyFileSystem(Arc<Faults>);

impl FileSystem for FaultyFileSystem {
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn unwritten(&self) -> io::Result<u64> {
        Ok(self.0.unwritten.load(Ordering::Relaxed))
    }
}

struct FaultyFile {
    path: PathBuf,
    file: Arc<dyn File>,
    faults: Arc<Faults>,
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        self.faults.files.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.faults.check(path)?;
        self.faults.admit(path)?;
        match mode {
            OpenMode::Read | OpenMode::ReadWrite => {}
            OpenMode::Create | OpenMode::Truncate => self.faults.change()?,
        }
        let max = self.faults.max_files.load(Ordering::Relaxed);
        if max > 0 && self.faults.open_files() >= max {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        let file = self.disk.open(path, mode)?;
        self.faults.files.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(FaultyFile { path: path.to_owned(), file, faults: self.faults.clone() }))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.faults.check(path)?;
        self.disk.read(path)
    }
    fn write_atomic(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        self.faults.check(path)?;
        self.faults.admit(path)?;
        fail_if(&self.faults.write)?;
        if self.faults.room(path) < contents.len() as u64 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.disk.write_atomic(path, contents)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.faults.check(path)?;
        self.disk.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.faults.check(path)?;
        self.disk.read_dir(path)
    }
    fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.check(from)?;
        self.faults.change()?;
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.faults.check(path)?;
        self.faults.change()?;
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.faults.check(path)?;
        self.disk.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.check(path)?;
        if self.faults.unsyncable.lock().as_deref() == Some(path) {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        self.faults.sync()?;
        self.disk.sync_dir(path)
    }
    fn age(&self, path: &Path) -> io::Result<Duration> {
        self.disk.age(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<DirLock>> {
        self.faults.check(path)?;
        self.disk.lock(path)
    }
    fn available_space(&self, path: &Path) -> io::Result<u64> {
        self.faults.check(path)?;
        let available = self.disk.available_space(path)?;
        match self.faults.quota.load(Ordering::Relaxed) {
            true => Ok(available),
            false => Ok(available.min(self.faults.room(path))),
        }
    }
    fn total_space(&self, path: &Path) -> io::Result<u64> {
        self.faults.check(path)?;
        self.disk.total_space(path)
    }
    fn file_system(&self, path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
        self.faults.check(path)?;
        match self.faults.no_file_system.load(Ordering::Relaxed) {
            true => Ok(None),
            false => Ok(Some(Arc::new(FaultyFileSystem(self.faults.clone())))),
        }
    }
    fn syncs(&self) -> u64 {
        self.faults.syncs.load(Ordering::Relaxed)
    }
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.faults.check(&self.path)?;
        fail_if(&self.faults.read)?;
        self.file.read_at(buffer, offset)
    }
    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.faults.check(&self.path)?;
        fail_if(&self.faults.read)?;
        match self.faults.cold.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.file.try_read_at(buffer, offset),
        }
    }
    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.faults.check(&self.path)?;
        fail_if(&self.faults.write)?;
        self.faults.change()?;
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let growth = (offset + len as u64).saturating_sub(self.file.len()?);
        let room = self.faults.room(&self.path);
        if growth <= room {
            return self.file.write_all_at(slices, offset);
        }
        // As a real disk does: what fits is written.
        let mut fits: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        fits.truncate(len - (growth - room) as usize);
        self.file.write_all_at(&mut [IoSlice::new(&fits)], offset)?;
        Err(io::ErrorKind::StorageFull.into())
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.check(&self.path)?;
        self.file.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        match self.faults.room(&self.path) < len {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => self.file.allocate(len),
        }
    }
    fn sync_data(&self) -> io::Result<()> {
        self.faults.check(&self.path)?;
        self.faults.sync()?;
        self.file.sync_data()
    }
    fn start_writeback(&self, offset: u64, len: u64) {
        self.file.start_writeback(offset, len);
    }
    fn will_need(&self, offset: u64, len: u64) {
        self.file.will_need(offset, len);
    }
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_fd()
    }
}
