//! A disk in memory that forgets what was not synced.
//!
//! | Change | Survives a process crash | Survives a power loss |
//! |---|---|---|
//! | a finished write | yes | after `sync_data`; before, whole, torn at a sector, as zeros, or not at all |
//! | a shorter or longer length | yes | after `sync_data`; if lost, so is all that followed |
//! | a new name, a rename, a removal | yes | after `sync_dir`; before, the first few of a directory |
//! | all of the above | yes | after a sync of the whole file system |
//! | the operation in which the node dies | in part | like any other |
//!
//! A rename between two directories survives at once, together with what came before it in both.

mod inode;

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_env::{DirEntry, DirLock, Disk, File, FileSystem, OpenMode};
use parking_lot::Mutex;

pub use self::inode::PowerCut;
use self::inode::{DirNode, FileNode, Inode};
use crate::event_log::EventLog;
use crate::power::{Fate, Power};
use crate::rng::SimRng;

/// What goes wrong on a disk, each with its probability per operation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DiskFaults {
    /// A write fails (`EIO`) after a part of it.
    pub write_error: f64,
    /// A read fails (`EIO`).
    pub read_error: f64,
    /// A sync fails (`EIO`), and what it should have written never becomes durable.
    pub sync_error: f64,
    /// Bytes are not in memory, when they are asked for without waiting.
    pub cold_read: f64,
    /// A read sees one bit flipped.
    pub read_bit_flip: f64,
    /// Bytes that fit; more is `ENOSPC` after what fits.
    pub capacity: Option<u64>,
}

/// The disk of a node; it outlives the node's crashes.
pub(crate) struct DiskDrive {
    node: String,
    root: Arc<Mutex<DirNode>>,
    faults: Mutex<DiskFaults>,
    power: Arc<Power>,
    rng: SimRng,
    log: EventLog,
    syncs: AtomicU64,
    /// The change in whose middle the node died last.
    died_in: Mutex<Option<String>>,
}

impl DiskDrive {
    pub(crate) fn new(node: &str, seed: u64, power: Arc<Power>, log: EventLog) -> Arc<Self> {
        Arc::new(Self {
            node: node.to_owned(),
            root: Arc::default(),
            faults: Mutex::default(),
            power,
            rng: SimRng::new(seed, &format!("disk of {node}")),
            log,
            syncs: AtomicU64::new(0),
            died_in: Mutex::default(),
        })
    }

    pub(crate) fn set_faults(&self, faults: DiskFaults) {
        *self.faults.lock() = faults;
    }

    /// Takes away what a power loss takes away.
    pub(crate) fn cut_power(&self, cut: PowerCut) {
        self.root.lock().lose_power(&self.rng, cut);
    }

    /// The change in whose middle the node died last, if it died in one.
    pub(crate) fn died_in(&self) -> Option<String> {
        self.died_in.lock().clone()
    }

    /// Entries of a directory.
    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = self.dir(path)?;
        let dir = dir.lock();
        let entries = dir.iter().map(|(name, inode)| DirEntry {
            path: path.join(name),
            name: name.clone(),
            is_dir: matches!(inode, Inode::Dir(_)),
            len: match inode {
                Inode::File(file) => file.lock().len(),
                Inode::Dir(_) => 0,
            },
        });
        Ok(entries.collect())
    }

    /// What a file holds.
    pub(crate) fn content(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.file(path)?.lock().content().to_vec())
    }

    /// Takes everything away, for good.
    pub(crate) fn empty(&self) {
        *self.root.lock() = DirNode::default();
    }

    /// Flips the bit `position` of a file at rest.
    pub(crate) fn flip_bit_at(&self, path: &Path, position: u64) -> io::Result<()> {
        self.file(path)?.lock().flip_bit(position);
        Ok(())
    }

    /// Flips one bit of a file at rest.
    pub(crate) fn flip_bit(&self, path: &Path) -> io::Result<()> {
        let file = self.file(path)?;
        let mut file = file.lock();
        let bits = file.len() * 8;
        file.flip_bit(self.rng.below(bits));
        Ok(())
    }

    fn fold(&self, what: std::fmt::Arguments<'_>, bytes: &[u8]) {
        self.log.fold(&self.node, what, bytes);
    }

    fn faults(&self) -> DiskFaults {
        *self.faults.lock()
    }

    fn lookup(&self, path: &Path) -> io::Result<Inode> {
        let mut at = Inode::Dir(self.root.clone());
        for name in names(path)? {
            let Inode::Dir(dir) = &at else { return Err(not_found(path)) };
            let next = dir.lock().get(name);
            at = next.ok_or_else(|| not_found(path))?;
        }
        Ok(at)
    }

    fn dir(&self, path: &Path) -> io::Result<Arc<Mutex<DirNode>>> {
        match self.lookup(path)? {
            Inode::Dir(dir) => Ok(dir),
            Inode::File(_) => Err(error(io::ErrorKind::NotADirectory, path)),
        }
    }

    fn file(&self, path: &Path) -> io::Result<Arc<Mutex<FileNode>>> {
        match self.lookup(path)? {
            Inode::File(file) => Ok(file),
            Inode::Dir(_) => Err(error(io::ErrorKind::IsADirectory, path)),
        }
    }

    /// The directory that holds `path`, and the last component.
    fn parent<'p>(&self, path: &'p Path) -> io::Result<(Arc<Mutex<DirNode>>, &'p str)> {
        let mut names = names(path)?;
        let name = names.pop().ok_or_else(|| error(io::ErrorKind::InvalidInput, path))?;
        let dir = path.parent().unwrap_or(Path::new(""));
        Ok((self.dir(dir)?, name))
    }
}

/// The components of a path; all paths start at the root, whether they say so or not.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    path.components()
        .filter(|component| !matches!(component, Component::RootDir | Component::CurDir))
        .map(|component| match component {
            Component::Normal(name) => name.to_str(),
            Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(|| error(io::ErrorKind::InvalidInput, path))
}

fn error(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {kind}", path.display()))
}

fn not_found(path: &Path) -> io::Error {
    error(io::ErrorKind::NotFound, path)
}

fn off() -> io::Error {
    io::Error::other("the node is off")
}

/// A disk as one life of a node has it.
#[derive(Clone)]
pub(crate) struct SimDisk {
    drive: Arc<DiskDrive>,
    life: u64,
}

impl SimDisk {
    pub(crate) fn new(drive: Arc<DiskDrive>, life: u64) -> Self {
        Self { drive, life }
    }

    /// Before anything that only looks.
    fn look(&self, path: &Path) -> io::Result<()> {
        if !self.drive.power.is_alive(self.life) {
            return Err(off());
        }
        if self.drive.rng.chance(self.drive.faults().read_error) {
            return Err(error(io::ErrorKind::Other, path));
        }
        Ok(())
    }

    /// Before and after a change that happens whole or not at all.
    fn change<R>(
        &self,
        what: std::fmt::Arguments<'_>,
        act: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        match self.drive.power.change(self.life) {
            Fate::Done => act(),
            Fate::Refused => Err(off()),
            Fate::Last => {
                *self.drive.died_in.lock() = Some(what.to_string());
                if self.drive.rng.below(2) == 0 {
                    let _nobody_learns = act();
                }
                Err(off())
            }
        }
    }

    fn open_file(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        let (parent, name) = self.drive.parent(path)?;
        let found = parent.lock().get(name);
        let inode = match found {
            Some(Inode::Dir(_)) => return Err(error(io::ErrorKind::IsADirectory, path)),
            Some(Inode::File(file)) => {
                self.look(path)?;
                if mode == OpenMode::Truncate {
                    self.change(format_args!("empty {}", path.display()), || {
                        file.lock().set_len(0);
                        Ok(())
                    })?;
                }
                file
            }
            None if matches!(mode, OpenMode::Read | OpenMode::ReadWrite) => {
                return Err(not_found(path));
            }
            None => self.change(format_args!("create {}", path.display()), || {
                let mut node = FileNode::default();
                node.modified = turmoil::sim_elapsed().unwrap_or_default();
                let file = Arc::new(Mutex::new(node));
                parent.lock().set(vec![(name.to_owned(), Some(Inode::File(file.clone())))]);
                Ok(file)
            })?,
        };
        Ok(SimFile {
            disk: self.clone(),
            path: path.to_owned(),
            inode,
            writable: mode != OpenMode::Read,
        })
    }

    fn fold(&self, what: std::fmt::Arguments<'_>, bytes: &[u8]) {
        self.drive.fold(what, bytes);
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let opened = self.open_file(path, mode);
        self.fold(format_args!("open {} {mode:?} {}", path.display(), opened.is_ok()), &[]);
        Ok(Arc::new(opened?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.look(path)?;
        let bytes = self.drive.file(path)?.lock().content().to_vec();
        self.fold(format_args!("read-all {}", path.display()), &bytes);
        Ok(bytes)
    }

    fn write_atomic(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let mut sibling = path.as_os_str().to_owned();
        sibling.push(".tmp");
        let sibling = PathBuf::from(sibling);
        let written = self.open(&sibling, OpenMode::Truncate).and_then(|file| {
            file.write_all_at(&mut [IoSlice::new(contents)], 0)?;
            file.sync_data()
        });
        if let Err(error) = written.and_then(|()| self.rename(&sibling, path)) {
            let _never_made = self.remove_file(&sibling);
            return Err(error);
        }
        self.sync_dir(path.parent().unwrap_or(Path::new("")))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.fold(format_args!("mkdir {}", path.display()), &[]);
        let mut at = self.drive.root.clone();
        for name in names(path)? {
            let found = at.lock().get(name);
            let next = match found {
                Some(Inode::Dir(dir)) => dir,
                Some(Inode::File(_)) => return Err(error(io::ErrorKind::AlreadyExists, path)),
                None => self.change(format_args!("mkdir {}", path.display()), || {
                    let made = Arc::new(Mutex::new(DirNode::default()));
                    at.lock().set(vec![(name.to_owned(), Some(Inode::Dir(made.clone())))]);
                    Ok(made)
                })?,
            };
            at = next;
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.look(path)?;
        self.drive.list(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.drive.power.is_alive(self.life) && self.drive.lookup(path).is_ok()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fold(format_args!("rename {} {}", from.display(), to.display()), &[]);
        let inode = self.drive.lookup(from)?;
        let (source, old_name) = self.drive.parent(from)?;
        let (target, new_name) = self.drive.parent(to)?;
        let replaced = target.lock().get(new_name);
        if let Some(Inode::Dir(replaced)) = replaced
            && !replaced.lock().is_empty()
        {
            return Err(error(io::ErrorKind::DirectoryNotEmpty, to));
        }
        let what = format_args!("rename {} {}", from.display(), to.display());
        self.change(what, || {
            let gone = (old_name.to_owned(), None);
            let came = (new_name.to_owned(), Some(inode));
            if Arc::ptr_eq(&source, &target) {
                source.lock().set(vec![gone, came]);
            } else {
                source.lock().set(vec![gone]);
                source.lock().sync();
                target.lock().set(vec![came]);
                target.lock().sync();
            }
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.fold(format_args!("remove {}", path.display()), &[]);
        self.drive.file(path)?;
        let (parent, name) = self.drive.parent(path)?;
        self.change(format_args!("remove {}", path.display()), || {
            parent.lock().set(vec![(name.to_owned(), None)]);
            Ok(())
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        for entry in self.read_dir(path)? {
            if entry.is_dir {
                self.remove_dir_all(&entry.path)?;
            } else {
                self.remove_file(&entry.path)?;
            }
        }
        self.fold(format_args!("rmdir {}", path.display()), &[]);
        let (parent, name) = self.drive.parent(path)?;
        self.change(format_args!("rmdir {}", path.display()), || {
            parent.lock().set(vec![(name.to_owned(), None)]);
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.drive.syncs.fetch_add(1, Ordering::Relaxed);
        self.fold(format_args!("sync-dir {}", path.display()), &[]);
        let dir = self.drive.dir(path)?;
        self.change(format_args!("sync-dir {}", path.display()), || {
            dir.lock().sync();
            Ok(())
        })
    }

    fn age(&self, path: &Path) -> io::Result<Duration> {
        self.look(path)?;
        let modified = self.drive.file(path)?.lock().modified;
        Ok(turmoil::sim_elapsed().unwrap_or_default().saturating_sub(modified))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DirLock>> {
        let file = self.open_file(path, OpenMode::Create)?;
        let mut inode = file.inode.lock();
        if inode.locked_by.is_some_and(|holder| self.drive.power.is_alive(holder)) {
            return Ok(None);
        }
        inode.locked_by = Some(self.life);
        drop(inode);
        Ok(Some(DirLock(Box::new(HeldLock(file)))))
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        self.look(path)?;
        let capacity = self.drive.faults().capacity.unwrap_or(1 << 40);
        Ok(capacity.saturating_sub(self.drive.root.lock().used()))
    }

    fn total_space(&self, path: &Path) -> io::Result<u64> {
        self.look(path)?;
        Ok(self.drive.faults().capacity.unwrap_or(1 << 40))
    }

    fn syncs(&self) -> u64 {
        self.drive.syncs.load(Ordering::Relaxed)
    }

    fn file_system(&self, path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
        self.look(path)?;
        Ok(Some(Arc::new(self.clone())))
    }
}

/// The whole drive is one file system.
impl FileSystem for SimDisk {
    fn sync(&self) -> io::Result<()> {
        self.drive.syncs.fetch_add(1, Ordering::Relaxed);
        self.fold(format_args!("sync-all"), &[]);
        let mut root = self.drive.root.lock();
        if self.drive.rng.chance(self.drive.faults().sync_error) {
            root.fail_sync_all();
            return Err(error(io::ErrorKind::Other, Path::new("/")));
        }
        self.change(format_args!("sync-all"), || {
            root.sync_all();
            Ok(())
        })
    }

    fn unwritten(&self) -> io::Result<u64> {
        self.look(Path::new("/"))?;
        Ok(self.drive.root.lock().unwritten())
    }
}

struct HeldLock(SimFile);

impl Drop for HeldLock {
    fn drop(&mut self) {
        let mut inode = self.0.inode.lock();
        if inode.locked_by == Some(self.0.disk.life) {
            inode.locked_by = None;
        }
    }
}

/// An open file of one life of a node.
struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    inode: Arc<Mutex<FileNode>>,
    writable: bool,
}

impl SimFile {
    /// How much of a write of `bytes` at `offset` happens, and whether it then fails.
    fn fate_of_write(&self, len: u64, offset: u64) -> (u64, io::Result<()>) {
        let drive = &self.disk.drive;
        match drive.power.change(self.disk.life) {
            Fate::Refused => return (0, Err(off())),
            Fate::Last => {
                *drive.died_in.lock() =
                    Some(format!("write {} {offset}+{len}", self.path.display()));
                return (drive.rng.below(len + 1), Err(off()));
            }
            Fate::Done => {}
        }
        let faults = drive.faults();
        if drive.rng.chance(faults.write_error) {
            return (drive.rng.below(len + 1), Err(error(io::ErrorKind::Other, &self.path)));
        }
        if let Some(capacity) = faults.capacity {
            let room = capacity.saturating_sub(drive.root.lock().used());
            let growth = (offset + len).saturating_sub(self.inode.lock().len());
            if growth > room {
                let fits = len.saturating_sub(growth - room);
                return (fits, Err(error(io::ErrorKind::StorageFull, &self.path)));
            }
        }
        (len, Ok(()))
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.look(&self.path)?;
        let count = self.inode.lock().read(buffer, offset);
        let drive = &self.disk.drive;
        if count > 0 && drive.rng.chance(drive.faults().read_bit_flip) {
            let bit = drive.rng.below(count as u64 * 8);
            buffer[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        let what = format_args!("read {} {offset}+{count}", self.path.display());
        drive.fold(what, &buffer[..count]);
        Ok(count)
    }

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.disk.drive.rng.chance(self.disk.drive.faults().cold_read) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.read_at(buffer, offset)
    }

    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        if !self.writable {
            return Err(error(io::ErrorKind::PermissionDenied, &self.path));
        }
        let mut bytes = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum());
        slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        let (happens, outcome) = self.fate_of_write(bytes.len() as u64, offset);
        bytes.truncate(happens as usize);
        let what = format_args!("write {} {offset}+{happens}", self.path.display());
        self.disk.fold(what, &bytes);
        self.inode.lock().write(offset, bytes);
        outcome
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.look(&self.path)?;
        Ok(self.inode.lock().len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.fold(format_args!("set-len {} {len}", self.path.display()), &[]);
        self.disk.change(format_args!("set-len {} {len}", self.path.display()), || {
            self.inode.lock().set_len(len);
            Ok(())
        })
    }

    fn allocate(&self, _len: u64) -> io::Result<()> {
        if self.disk.drive.power.is_alive(self.disk.life) { Ok(()) } else { Err(off()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let drive = &self.disk.drive;
        drive.syncs.fetch_add(1, Ordering::Relaxed);
        self.disk.fold(format_args!("sync {}", self.path.display()), &[]);
        if drive.rng.chance(drive.faults().sync_error) {
            self.inode.lock().fail_sync();
            return Err(error(io::ErrorKind::Other, &self.path));
        }
        self.disk.change(format_args!("sync {}", self.path.display()), || {
            self.inode.lock().sync();
            Ok(())
        })
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}

    fn will_need(&self, _offset: u64, _len: u64) {}

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
