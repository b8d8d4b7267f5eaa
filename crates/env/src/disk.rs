//! Files.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist and is only read.
    Read,
    /// It must exist; read and written.
    ReadWrite,
    /// Read and written; made if missing, kept as it is if there.
    Create,
    /// Read and written; made if missing, emptied if there.
    Truncate,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its full path.
    pub path: PathBuf,
    /// Its last component.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes, for files.
    pub len: u64,
}

/// A file system. Calls block; they are short unless they sync or read cold data.
pub trait Disk: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Whole contents of a small file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Replaces `path` by `contents` so that a crash leaves the old or the new, never a mixture:
    /// writes a sibling, syncs it, renames it over and syncs the directory. On an error before the
    /// rename the sibling is removed again: on a full disk it would keep what little is left.
    fn write_atomic(&self, path: &Path, contents: &[u8]) -> io::Result<()>;
    /// Makes a directory and its parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Entries of a directory, sorted by name.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Whether something is there.
    fn exists(&self, path: &Path) -> bool;
    /// Renames a file or directory; durable only after [`Disk::sync_dir`] of the parent.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and what it holds.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes new names in a directory survive a power loss.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Time since the file was last written, by the file system's clock.
    fn age(&self, path: &Path) -> io::Result<Duration>;
    /// Takes the exclusive lock file `path`; `None` if another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<DirLock>>;
    /// Bytes free for this process on the file system that holds `path`.
    fn available_space(&self, path: &Path) -> io::Result<u64>;
    /// Size in bytes of the file system that holds `path`.
    fn total_space(&self, path: &Path) -> io::Result<u64>;
    /// How often anything was synced through it so far: files, directories and file systems.
    fn syncs(&self) -> u64;
    /// The file system that holds the directory `path`, if it can be synced as a whole and says
    /// of every failure since this call. `None`: its files have to be synced one by one.
    fn file_system(&self, path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>>;
}

/// A file system as a whole.
pub trait FileSystem: Send + Sync {
    /// Every write, length, name and removal that finished before the call survives a power loss
    /// after it, whoever made it. Fails if any write failed since the last call, whosever it was.
    fn sync(&self) -> io::Result<()>;
    /// Bytes in memory that a sync may have to write first: at least those of this file system.
    fn unwritten(&self) -> io::Result<u64>;
}

/// An error of a disk with the path it is about, which the system does not name. Its
/// [`source`](std::error::Error::source) is what the system said.
#[derive(Debug)]
pub struct PathError {
    path: PathBuf,
    error: io::Error,
}

impl PathError {
    /// `error` about `path`, of the same kind.
    pub fn at(path: &Path, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Self { path: path.to_owned(), error })
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for PathError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Whether there was no room for what should have been written: `ENOSPC`, or `EDQUOT`.
pub fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether a file could not be opened because too many are, in this process (`EMFILE`) or in the
/// system (`ENFILE`).
pub fn is_out_of_files(error: &io::Error) -> bool {
    let named = error.get_ref().and_then(|inner| inner.downcast_ref::<PathError>());
    let code = named.map_or(error, |named| &named.error).raw_os_error();
    code == Some(Errno::MFILE.raw_os_error()) || code == Some(Errno::NFILE.raw_os_error())
}

/// Holds a lock file until dropped.
pub struct DirLock(#[allow(dead_code, reason = "held for its drop")] pub Box<dyn Send + Sync>);

/// An open file.
pub trait File: Send + Sync {
    /// Reads at `offset`; fewer bytes than asked only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// As [`File::read_at`], but never waits for the disk: [`io::ErrorKind::WouldBlock`] if some of
    /// the bytes are not in memory. A file system that cannot tell reads, and may wait.
    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `slices` at `offset`, in one system call where it can.
    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends to `len`.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves disk space for `len` bytes without changing the length that is visible.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Data, and the length, survive a power loss after this.
    fn sync_data(&self) -> io::Result<()>;
    /// Starts writing a range back without waiting. A hint: errors show at the next sync.
    fn start_writeback(&self, offset: u64, len: u64);
    /// Tells the system that a range will be read soon. A hint.
    fn will_need(&self, offset: u64, len: u64);
    /// The descriptor, where there is one, for `sendfile`.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;
}
