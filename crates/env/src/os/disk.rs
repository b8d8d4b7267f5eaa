//! Files of the operating system.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{Advice, FallocateFlags, FlockOperation, fadvise, fallocate, flock, statvfs};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev};

use super::file_system;
use crate::{DirEntry, DirLock, Disk, File, FileSystem, OpenMode, PathError};

/// The kernel's files.
pub(crate) struct OsDisk;

/// Syncs asked of the kernel by this process.
static SYNCS: AtomicU64 = AtomicU64::new(0);

pub(super) fn count_sync() {
    SYNCS.fetch_add(1, Ordering::Relaxed);
}

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
        let written = fs::File::create(&sibling).and_then(|file| {
            file.write_all_at(contents, 0)?;
            count_sync();
            file.sync_all()
        });
        let renamed = written.map_err(|error| at(&sibling, error));
        if let Err(error) = renamed.and_then(|()| self.rename(&sibling, path)) {
            let _never_made = fs::remove_file(&sibling);
            return Err(error);
        }
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
        count_sync();
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
            Ok(()) => Ok(Some(DirLock(Box::new(HeldLock(file))))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(at(path, error.into())),
        }
    }

    fn available_space(&self, path: &Path) -> io::Result<u64> {
        let stat = statvfs(path).map_err(|error| at(path, error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn total_space(&self, path: &Path) -> io::Result<u64> {
        let stat = statvfs(path).map_err(|error| at(path, error.into()))?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    fn syncs(&self) -> u64 {
        SYNCS.load(Ordering::Relaxed)
    }

    fn file_system(&self, path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
        file_system::of(path).map_err(|error| at(path, error))
    }
}

/// Names the path in an error.
fn at(path: &Path, error: io::Error) -> io::Error {
    PathError::at(path, error)
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

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let mut rest = [IoSliceMut::new(&mut buffer[filled..])];
            match preadv2(&self.0, &mut rest, offset + filled as u64, ReadWriteFlags::NOWAIT) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                // Not on this file system.
                Err(Errno::OPNOTSUPP) => return self.read_at(buffer, offset),
                Err(error) => return Err(error.into()),
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
        count_sync();
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

/// A locked file. A process that is just being started has its descriptor, too, and so would keep the
/// lock for a moment: it is given up in words.
struct HeldLock(fs::File);

impl Drop for HeldLock {
    fn drop(&mut self) {
        // Closing the file gives it up as well.
        let _given_up = flock(&self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &dyn File, bytes: &[u8], offset: u64) {
        file.write_all_at(&mut [IoSlice::new(bytes)], offset).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        OsDisk.read_dir(dir).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn many_slices_arrive_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsDisk.open(&dir.path().join("log"), OpenMode::Create).unwrap();
        // More slices than one system call takes (IOV_MAX is 1024), some of them empty.
        let pieces: Vec<Vec<u8>> = (0..3000_u32).map(|i| vec![i as u8; i as usize % 7]).collect();
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        file.write_all_at(&mut slices, 5).unwrap();

        let expected: Vec<u8> = [vec![0; 5], pieces.concat()].concat();
        assert_eq!(file.len().unwrap(), expected.len() as u64);
        let mut read = vec![0xff; expected.len() + 10];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), expected.len());
        assert_eq!(read[..expected.len()], expected);
    }

    #[test]
    fn a_lock_ends_when_it_is_dropped_whoever_else_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let file = fs::File::create(&path).unwrap();
        let of_a_child = file.try_clone().unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        let held = HeldLock(file);
        assert!(OsDisk.lock(&path).unwrap().is_none());
        drop(held);
        assert!(OsDisk.lock(&path).unwrap().is_some());
        drop(of_a_child);
    }

    #[test]
    fn bytes_that_have_left_memory_are_not_waited_for() {
        const LEN: usize = 8 << 20;
        // Not in a file system that is memory itself.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let file = OsDisk.open(&dir.path().join("log"), OpenMode::Create).unwrap();
        write(&*file, &vec![7; LEN], 0);
        let mut bytes = vec![0; LEN];
        assert_eq!(file.try_read_at(&mut bytes, 0).unwrap(), LEN, "just written");
        assert_eq!(file.try_read_at(&mut bytes, LEN as u64 - 3).unwrap(), 3, "the end of the file");
        file.sync_data().unwrap();
        // Clean pages leave the cache.
        file.start_writeback(0, LEN as u64);
        let error = file.try_read_at(&mut bytes, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), LEN);
        assert_eq!(file.try_read_at(&mut bytes, 0).unwrap(), LEN, "it is in memory again");
    }

    #[test]
    fn a_write_of_nothing_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsDisk.open(&dir.path().join("log"), OpenMode::Create).unwrap();
        file.write_all_at(&mut [], 9).unwrap();
        file.write_all_at(&mut [IoSlice::new(b"")], 9).unwrap();
        assert!(file.is_empty().unwrap());
    }

    #[test]
    fn open_modes_create_keep_empty_and_refuse() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for mode in [OpenMode::Read, OpenMode::ReadWrite] {
            let missing = OsDisk.open(&path, mode).err().unwrap();
            assert_eq!(missing.kind(), io::ErrorKind::NotFound);
            assert!(missing.to_string().contains("log"), "{missing} names no path");
        }
        write(&*OsDisk.open(&path, OpenMode::Create).unwrap(), b"kept", 0);
        let kept = OsDisk.open(&path, OpenMode::Create).unwrap();
        assert_eq!(OsDisk.read(&path).unwrap(), b"kept");
        kept.set_len(2).unwrap();
        assert_eq!(OsDisk.read(&path).unwrap(), b"ke");
        let read_only = OsDisk.open(&path, OpenMode::Read).unwrap();
        assert!(read_only.write_all_at(&mut [IoSlice::new(b"x")], 0).is_err());
        let emptied = OsDisk.open(&path, OpenMode::Truncate).unwrap();
        assert_eq!(emptied.len().unwrap(), 0);
    }

    #[test]
    fn reserved_space_is_not_visible_as_length() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsDisk.open(&dir.path().join("log"), OpenMode::Create).unwrap();
        file.allocate(1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 0);
        write(&*file, b"a", 0);
        file.start_writeback(0, 1);
        file.will_need(0, 0);
        file.sync_data().unwrap();
        assert_eq!(file.len().unwrap(), 1);
        assert!(OsDisk.available_space(dir.path()).unwrap() > 0);
    }

    #[test]
    fn write_atomic_replaces_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        OsDisk.write_atomic(&path, b"a long first version").unwrap();
        OsDisk.write_atomic(&path, b"second").unwrap();
        assert_eq!(OsDisk.read(&path).unwrap(), b"second");
        assert_eq!(names(dir.path()), ["checkpoint"]);
        // Not even when it fails: a directory is in the way.
        OsDisk.create_dir_all(&dir.path().join("taken/inner")).unwrap();
        OsDisk.write_atomic(&dir.path().join("taken"), b"never").unwrap_err();
        assert_eq!(names(dir.path()), ["checkpoint", "taken"]);
    }

    #[test]
    fn what_the_system_said_is_known_through_the_path_around_it() {
        let code = |error: Errno| io::Error::from(error);
        for error in [Errno::MFILE, Errno::NFILE] {
            assert!(crate::is_out_of_files(&code(error)));
            let named = at(Path::new("/data/log"), code(error));
            assert!(crate::is_out_of_files(&named) && !crate::is_out_of_space(&named), "{named}");
            assert!(named.to_string().starts_with("/data/log: "), "{named}");
        }
        for error in [Errno::NOSPC, Errno::DQUOT] {
            let named = at(Path::new("/data/log"), code(error));
            assert!(crate::is_out_of_space(&named) && !crate::is_out_of_files(&named), "{named}");
        }
        let broken = at(Path::new("/data/log"), code(Errno::IO));
        assert!(!crate::is_out_of_space(&broken) && !crate::is_out_of_files(&broken), "{broken}");
    }

    #[test]
    fn directories_are_listed_by_name_and_vanish_whole() {
        let dir = tempfile::tempdir().unwrap();
        let topic = dir.path().join("b-0");
        OsDisk.create_dir_all(&topic.join("inner")).unwrap();
        write(&*OsDisk.open(&dir.path().join("c"), OpenMode::Create).unwrap(), b"123", 0);
        OsDisk.create_dir_all(&dir.path().join("a-0")).unwrap();
        OsDisk.sync_dir(dir.path()).unwrap();

        let listed = OsDisk.read_dir(dir.path()).unwrap();
        let seen: Vec<_> = listed.iter().map(|e| (e.name.as_str(), e.is_dir, e.len)).collect();
        assert_eq!(seen, [("a-0", true, 0), ("b-0", true, 0), ("c", false, 3)]);

        OsDisk.rename(&topic, &dir.path().join("b-0.gone-delete")).unwrap();
        assert!(!OsDisk.exists(&topic));
        OsDisk.remove_dir_all(&dir.path().join("b-0.gone-delete")).unwrap();
        OsDisk.remove_file(&dir.path().join("c")).unwrap();
        assert_eq!(names(dir.path()), ["a-0"]);
    }

    #[test]
    fn a_lock_has_one_holder_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let held = OsDisk.lock(&path).unwrap();
        assert!(held.is_some());
        assert!(OsDisk.lock(&path).unwrap().is_none());
        drop(held);
        assert!(OsDisk.lock(&path).unwrap().is_some());
    }

    #[test]
    fn age_counts_from_the_last_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        write(&*OsDisk.open(&path, OpenMode::Create).unwrap(), b"1", 0);
        assert!(OsDisk.age(&path).unwrap() < Duration::from_secs(60));
        let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        fs::File::options().write(true).open(&path).unwrap().set_modified(hour_ago).unwrap();
        assert!(OsDisk.age(&path).unwrap() >= Duration::from_secs(3600));
    }
}
