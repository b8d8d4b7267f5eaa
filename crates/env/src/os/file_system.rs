//! A file system as a whole: one system call instead of one per file.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::FileSystem;

/// A directory of it, open since before the writes whose failures it is asked about: the kernel
/// tells each open file of the failures since it was opened or last asked.
#[cfg(target_os = "linux")]
struct OsFileSystem(fs::File);

/// The first kernel whose `syncfs` passes on all failures: those of data since 5.8, those of the
/// file system's own journal since 5.17.
#[cfg(target_os = "linux")]
const FIRST_KERNEL: (u32, u32) = (5, 17);

/// File systems whose `syncfs` was looked at: data, then the journal, then the device's cache. On
/// others it may do nothing (FUSE), hide failures (overlayfs) or cost more than it saves (btrfs).
#[cfg(target_os = "linux")]
const KNOWN: [u64; 2] = [
    0xEF53,      // ext4
    0x5846_5342, // xfs
];

#[cfg(target_os = "linux")]
pub(super) fn of(path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
    let dir = fs::File::open(path)?;
    let kind = rustix::fs::fstatfs(&dir)?.f_type as u64;
    let kernel = kernel_version(&rustix::system::uname().release().to_string_lossy());
    let known = KNOWN.contains(&kind) && kernel.is_some_and(|version| version >= FIRST_KERNEL);
    Ok(known.then(|| Arc::new(OsFileSystem(dir)) as Arc<dyn FileSystem>))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn of(_path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
    Ok(None)
}

#[cfg(target_os = "linux")]
impl FileSystem for OsFileSystem {
    fn sync(&self) -> io::Result<()> {
        super::disk::count_sync();
        rustix::fs::syncfs(&self.0)?;
        // A file system that an error made read-only has nothing to sync, says the kernel.
        let flags = rustix::fs::fstatvfs(&self.0)?.f_flag;
        match flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    }

    fn unwritten(&self) -> io::Result<u64> {
        // Of all file systems together; the kernel keeps no number of one.
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        dirty_bytes(&meminfo).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(target_os = "linux")]
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(target_os = "linux")]
fn dirty_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Dirty:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_told_by_its_first_two_numbers() {
        assert_eq!(kernel_version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(kernel_version("5.4-rc1"), Some((5, 4)));
        assert_eq!(kernel_version("unknown"), None);
    }

    #[test]
    fn what_is_dirty_is_read_from_the_kernels_list() {
        let meminfo = "MemTotal:       24 kB\nDirty:            361828 kB\nWriteback:     0 kB\n";
        assert_eq!(dirty_bytes(meminfo), Some(361_828 * 1024));
        assert_eq!(dirty_bytes("MemTotal: 24 kB\n"), None);
    }

    #[test]
    fn a_file_system_is_synced_whole_or_not_offered() {
        let dir = tempfile::tempdir().unwrap();
        if let Some(file_system) = of(dir.path()).unwrap() {
            file_system.sync().unwrap();
            file_system.unwritten().unwrap();
        }
        let memory = Path::new("/dev/shm");
        assert!(!memory.is_dir() || of(memory).unwrap().is_none(), "tmpfs has nothing to sync");
    }
}
