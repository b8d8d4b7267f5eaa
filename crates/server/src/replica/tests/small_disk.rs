//! A disk that has no room for one kind of file while a test says so.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_env::{DirEntry, DirLock, Disk, Env, File, FileSystem, OpenMode};
use parking_lot::Mutex;
use tokio::sync::watch;

/// The disk of the operating system, on which some files find no room.
pub(super) struct SmallDisk {
    disk: Arc<dyn Disk>,
    /// A part of the names of files that may not be written.
    no_room_for: Mutex<Option<&'static str>>,
    refused: watch::Sender<usize>,
}

impl SmallDisk {
    pub(super) fn env() -> (Env, Arc<Self>) {
        let env = Env::os();
        let disk = Arc::new(Self {
            disk: Arc::clone(&env.disk),
            no_room_for: Mutex::default(),
            refused: watch::Sender::default(),
        });
        (Env { disk: Arc::clone(&disk) as Arc<dyn Disk>, ..env }, disk)
    }

    /// From now on there is no room for files whose names hold `part`; with `None` there is for all.
    pub(super) fn has_no_room_for(&self, part: Option<&'static str>) {
        *self.no_room_for.lock() = part;
    }

    /// Completes when a file has found no room `count` times.
    pub(super) async fn refused(&self, count: usize) {
        let mut refused = self.refused.subscribe();
        refused.wait_for(|refused| *refused >= count).await.unwrap();
    }

    fn check(&self, path: &Path) -> io::Result<()> {
        let name = path.to_string_lossy();
        if self.no_room_for.lock().is_some_and(|part| name.contains(part)) {
            self.refused.send_modify(|refused| *refused += 1);
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Disk for SmallDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.check(path)?;
        self.disk.open(path, mode)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }
    fn write_atomic(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        self.check(path)?;
        self.disk.write_atomic(path, contents)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.read_dir(path)
    }
    fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn age(&self, path: &Path) -> io::Result<Duration> {
        self.disk.age(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<DirLock>> {
        self.disk.lock(path)
    }
    fn available_space(&self, path: &Path) -> io::Result<u64> {
        self.disk.available_space(path)
    }
    fn total_space(&self, path: &Path) -> io::Result<u64> {
        self.disk.total_space(path)
    }
    fn syncs(&self) -> u64 {
        self.disk.syncs()
    }
    fn file_system(&self, path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
        self.disk.file_system(path)
    }
}
