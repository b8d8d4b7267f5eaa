//! A disk that fails: the directory goes offline, answers say so, and nothing panics.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_env::{DirEntry, DirLock, Disk, Env, File, FileSystem, OpenMode};
use ottla_protocol::{ErrorCode, LeaderEpoch, Offset, TopicPartition};
use ottla_storage::{AppendError, AppendOrigin, LeaderAppend, Log, LogDir, LogOpenOptions, Wanted};
use parking_lot::Mutex;

use crate::batches;
use crate::single_log::{NOW, env};

/// What fails from now on.
#[derive(Default)]
pub(crate) struct Faults {
    write: AtomicBool,
    pub(crate) sync: AtomicBool,
    read: AtomicBool,
    /// Nothing is in memory.
    cold: AtomicBool,
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
}

impl Faults {
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
        check(&self.sync)
    }
}

pub(crate) struct FaultyDisk {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) faults: Arc<Faults>,
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
    file: Arc<dyn File>,
    faults: Arc<Faults>,
}

fn check(fault: &AtomicBool) -> io::Result<()> {
    match fault.load(Ordering::Relaxed) {
        true => Err(io::Error::other("the disk is broken")),
        false => Ok(()),
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        match mode {
            OpenMode::Read | OpenMode::ReadWrite => {}
            OpenMode::Create | OpenMode::Truncate => self.faults.change()?,
        }
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(FaultyFile { file, faults: self.faults.clone() }))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }
    fn write_atomic(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        check(&self.faults.write)?;
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
        self.faults.change()?;
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.faults.change()?;
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.sync()?;
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
    fn file_system(&self, _path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
        Ok(Some(Arc::new(FaultyFileSystem(self.faults.clone()))))
    }
    fn syncs(&self) -> u64 {
        self.faults.syncs.load(Ordering::Relaxed)
    }
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        check(&self.faults.read)?;
        self.file.read_at(buffer, offset)
    }
    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        check(&self.faults.read)?;
        match self.faults.cold.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.file.try_read_at(buffer, offset),
        }
    }
    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        check(&self.faults.write)?;
        self.faults.change()?;
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

struct Fixture {
    _root: tempfile::TempDir,
    faults: Arc<Faults>,
    log: Log,
    neighbour: Log,
}

/// Two logs of one directory, with a record each.
fn fixture() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let real = env();
    let disk = Arc::new(FaultyDisk { disk: real.disk.clone(), faults: faults.clone() });
    let env = Env { disk, ..real };
    let dir = LogDir::new(&env, root.path().to_owned(), 10);
    let open = |partition| {
        let options = LogOpenOptions::new(LogConfig::default(), Duration::from_secs(60));
        let log = Log::open(dir.clone(), TopicPartition::new("t", partition), options).unwrap();
        append(&log).unwrap();
        log
    };
    Fixture { log: open(0), neighbour: open(1), _root: root, faults }
}

fn append(log: &Log) -> Result<(), AppendError> {
    let append =
        LeaderAppend { leader_epoch: LeaderEpoch(0), origin: AppendOrigin::Client, now: NOW };
    log.append_as_leader(&batches::builder(NOW.0, &["a"]).build(), append).map(|_| ())
}

#[test]
fn a_failed_write_takes_the_whole_directory_offline() {
    let Fixture { log, neighbour, faults, .. } = fixture();
    faults.write.store(true, Ordering::Relaxed);
    let error = append(&log).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
    assert!(error.to_string().contains("the disk is broken"), "{error}");
    assert_eq!(log.log_end_offset(), Offset(1), "nobody sees what may not be there");
    // The disk works again, but nobody knows what is on it.
    faults.write.store(false, Ordering::Relaxed);
    for log in [&log, &neighbour] {
        assert_eq!(append(log).unwrap_err().error_code(), ErrorCode::KafkaStorageError);
        let error = log.read(Offset(0), 10, true, Offset(1)).err().unwrap();
        assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
    }
    assert!(log.log_dir().failure().is_some());
}

#[test]
fn a_failed_sync_is_never_retried() {
    let Fixture { log, faults, .. } = fixture();
    faults.sync.store(true, Ordering::Relaxed);
    assert!(log.flush(Offset(1)).is_err());
    faults.sync.store(false, Ordering::Relaxed);
    assert!(log.flush(Offset(1)).is_err(), "the kernel may have dropped the pages");
    assert_eq!(log.recovery_point(), Offset(0));
    assert!(log.close().is_err(), "so there is no mark of a clean shutdown");
}

#[test]
fn a_failed_read_is_a_fault_and_no_end_of_the_log() {
    let Fixture { log, faults, .. } = fixture();
    faults.read.store(true, Ordering::Relaxed);
    let error = log.read(Offset(0), 10, true, Offset(1)).err().unwrap();
    assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
}

#[test]
fn who_will_not_wait_for_the_disk_is_told_that_he_would_have_to() {
    let Fixture { log, faults, .. } = fixture();
    let (from, upper_bound) = (Offset(0), Offset(1));
    let wanted =
        Wanted { from, upper_bound, max_bytes: 10, min_one_message: true, aborted_txns: false };
    let slices = log.try_fetch(&wanted).unwrap().unwrap().slices;
    assert!(slices[0].try_read().unwrap().is_some());
    faults.cold.store(true, Ordering::Relaxed);
    assert!(log.try_fetch(&wanted).unwrap().is_none());
    assert!(slices[0].try_read().unwrap().is_none());
    assert_eq!(log.fetch(&wanted).unwrap().len(), slices[0].len);
    assert!(log.log_dir().failure().is_none(), "that is no fault of the disk");
    // A fault is one, however it was met.
    faults.read.store(true, Ordering::Relaxed);
    let error = log.try_fetch(&wanted).err().unwrap();
    assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
}

#[test]
fn a_truncation_is_on_the_disk_before_it_is_done() {
    let Fixture { log, faults, .. } = fixture();
    append(&log).unwrap();
    faults.sync.store(true, Ordering::Relaxed);
    assert!(log.truncate_to(Offset(1)).is_err());
}
