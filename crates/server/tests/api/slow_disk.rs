//! A disk that takes its time: files whose contents are not in memory, and nobody knows for how long.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_env::{DirEntry, DirLock, Disk, Env, File, FileSystem, OpenMode};
use parking_lot::{Condvar, Mutex};

use crate::node::PATIENCE;

/// The files of one directory, of which a part is not in memory while the gate is shut: who reads it waits.
pub(crate) struct SlowDisk {
    disk: Arc<dyn Disk>,
    /// The directory that is slow, by a part of its path.
    directory: &'static str,
    gate: Arc<Gate>,
}

#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Bytes from here on are not in memory.
    shut_from: Option<u64>,
    waiting: usize,
}

impl SlowDisk {
    /// The disk, and the gate of all segments below `directory`. It is open.
    pub(crate) fn of(directory: &'static str) -> (Arc<Self>, Arc<Gate>) {
        let gate = Arc::new(Gate::default());
        let disk = Self { disk: Env::os().disk, directory, gate: Arc::clone(&gate) };
        (Arc::new(disk), gate)
    }
}

impl Gate {
    /// From now on no byte from `position` on is in memory.
    pub(crate) fn shut_from(&self, position: u64) {
        self.state.lock().shut_from = Some(position);
    }

    /// The disk delivers, and all is in memory.
    pub(crate) fn open(&self) {
        self.state.lock().shut_from = None;
        self.changed.notify_all();
    }

    /// Waits, on a thread of its own, until `count` reads wait for the disk.
    pub(crate) async fn wait_for_readers(self: &Arc<Self>, count: usize) {
        let gate = Arc::clone(self);
        let waited = Env::os().run_blocking(move || {
            let mut state = gate.state.lock();
            let enough = |state: &mut State| state.waiting < count;
            !gate.changed.wait_while_for(&mut state, enough, PATIENCE).timed_out()
        });
        assert!(waited.await, "fewer than {count} reads wait for the disk");
    }

    /// How many reads wait for the disk.
    pub(crate) fn readers(&self) -> usize {
        self.state.lock().waiting
    }

    fn is_shut(&self, buffer: &[u8], offset: u64) -> bool {
        let end = offset + buffer.len() as u64;
        self.state.lock().shut_from.is_some_and(|from| end > from)
    }

    fn pass(&self, buffer: &[u8], offset: u64) {
        let end = offset + buffer.len() as u64;
        let mut state = self.state.lock();
        state.waiting += 1;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.shut_from.is_some_and(|from| end > from));
        state.waiting -= 1;
    }
}

struct SlowFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl Disk for SlowDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, mode)?;
        let is_slow = path.to_str().is_some_and(|path| path.contains(self.directory))
            && path.extension().is_some_and(|extension| extension == "log");
        Ok(if is_slow { Arc::new(SlowFile { file, gate: Arc::clone(&self.gate) }) } else { file })
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }
    fn write_atomic(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
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

impl File for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.gate.pass(buffer, offset);
        self.file.read_at(buffer, offset)
    }
    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.gate.is_shut(buffer, offset) {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.file.try_read_at(buffer, offset),
        }
    }
    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_all_at(slices, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn start_writeback(&self, offset: u64, len: u64) {
        self.file.start_writeback(offset, len);
    }
    fn will_need(&self, offset: u64, len: u64) {
        self.file.will_need(offset, len);
    }
    /// None: the kernel would not know of the gate.
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
