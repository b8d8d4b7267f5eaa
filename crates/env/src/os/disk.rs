//! Files of the operating system.

use std::fs;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Advice, FallocateFlags, FlockOperation, fadvise, fallocate, flock, statvfs};
use rustix::io::{Errno, pwritev};

use crate::{DirEntry, DirLock, Disk, File, OpenMode};

/// The kernel's files.
pub(crate) struct OsDisk;

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true);
            }
            OpenMode::Truncate => {
                options.write(true).create(true).truncate(true);
            }
        }
        let file = options.open(path).map_err(|error| at(path, error))?;
        Ok(Arc::new(OsFile(file)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path).map_err(|error| at(path, error))
    }

    fn write_atomic(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let mut sibling = path.as_os_str().to_owned();
        sibling.push(".tmp");
        let sibling = PathBuf::from(sibling);
        let file = fs::File::create(&sibling).map_err(|error| at(&sibling, error))?;
        file.write_all_at(contents, 0)?;
        file.sync_all()?;
        self.rename(&sibling, path)?;
        self.sync_dir(path.parent().unwrap_or(Path::new("/")))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path).map_err(|error| at(path, error))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(|error| at(path, error))? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed by another thread since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(at(&entry.path(), error)),
            };
            entries.push(DirEntry {
                path: entry.path(),
                name: entry.file_name().to_string_lossy().into_owned(),
                is_dir: metadata.is_dir(),
                len: if metadata.is_dir() { 0 } else { metadata.len() },
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(|error| at(from, error))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(|error| at(path, error))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path).map_err(|error| at(path, error))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // The parent of a bare file name is the empty path.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        fs::File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| at(path, error))
    }

    fn age(&self, path: &Path) -> io::Result<Duration> {
        let modified = fs::metadata(path).map_err(|error| at(path, error))?.modified()?;
        // Written in the future: the clock was set back since.
        Ok(modified.elapsed().unwrap_or(Duration::ZERO))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DirLock>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| at(path, error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(DirLock(Box::new(file)))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(at(path, error.into())),
        }
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        let stat = statvfs(path).map_err(|error| at(path, error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Names the path in an error, which the system does not.
fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

struct OsFile(fs::File);

impl File for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut rest = slices;
        let mut position = offset;
        // Skips empty slices, so that a write of nothing is never asked for.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match pwritev(&self.0, rest, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    position += count as u64;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match fallocate(&self.0, FallocateFlags::KEEP_SIZE, 0, len) {
            // Some file systems cannot reserve: then space is found as it is written.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        // For dirty pages Linux takes this as "write them now, without waiting"; `sync_file_range`
        // would say just that, but has no safe binding. Pages that are clean already leave the
        // cache, so it is called once for a range, soon after it was written.
        let Some(len) = NonZeroU64::new(len) else { return };
        let _hint = fadvise(&self.0, offset, Some(len), Advice::DontNeed);
    }

    fn will_need(&self, offset: u64, len: u64) {
        let Some(len) = NonZeroU64::new(len) else { return };
        let _hint = fadvise(&self.0, offset, Some(len), Advice::WillNeed);
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}
