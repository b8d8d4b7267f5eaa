//! Files that are opened when they are needed and closed when too many are open, so that an idle
//! partition holds no descriptor.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use ottla_env::{Disk, File, OpenMode, is_out_of_files};
use parking_lot::Mutex;

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It may.
    ForDisk,
    /// It fails with [`io::ErrorKind::WouldBlock`] if something is not in memory.
    Never,
}

impl Wait {
    /// Reads at `offset`; fewer bytes than asked only at the end of the file.
    pub(crate) fn read_at(
        self,
        file: &dyn File,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        match self {
            Self::ForDisk => file.read_at(buffer, offset),
            Self::Never => file.try_read_at(buffer, offset),
        }
    }
}

/// The open files of a node: at most `limit`, but for those somebody is using right now.
///
/// Eviction is second chance: a file used since it was last looked at goes to the back once more.
/// A file that nobody uses is closed even if there is room for it ([`OpenFiles::close_idle`]).
pub(crate) struct OpenFiles {
    disk: Arc<dyn Disk>,
    limit: usize,
    queue: Mutex<VecDeque<Weak<CachedFile>>>,
}

/// When the system lets no more files be opened, one in so many is closed.
const CLOSED_AT_ONCE: usize = 8;

/// A file that is opened by [`CachedFile::get`] and may be closed again at any time; who holds
/// what `get` returned goes on reading.
pub(crate) struct CachedFile {
    path: PathBuf,
    files: Arc<OpenFiles>,
    open: ArcSwapOption<OpenFile>,
    used: AtomicBool,
    retired: AtomicBool,
    /// Whether it stands in the queue of [`OpenFiles`].
    queued: AtomicBool,
}

/// `arc-swap` wants a sized type behind its `Arc`.
struct OpenFile(Arc<dyn File>);

impl OpenFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>, limit: usize) -> Arc<Self> {
        Arc::new(Self { disk, limit: limit.max(1), queue: Mutex::default() })
    }

    /// Opens a file that is not kept. Where the system lets no more be opened, others are closed.
    pub(crate) fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        loop {
            match self.disk.open(path, mode) {
                Err(error) if is_out_of_files(&error) && self.close_some() => {}
                opened => return opened,
            }
        }
    }

    fn opened(&self, file: &Arc<CachedFile>) {
        let mut queue = self.queue.lock();
        if !file.queued.swap(true, Ordering::Relaxed) {
            queue.push_back(Arc::downgrade(file));
        }
        let surplus = queue.len().saturating_sub(self.limit);
        let looks = 2 * queue.len();
        close_oldest(&mut queue, surplus, looks);
    }

    /// Makes place where the system lets no more files be opened. `false` if none can be closed.
    pub(crate) fn close_some(&self) -> bool {
        let mut queue = self.queue.lock();
        let (count, looks) = (queue.len().div_ceil(CLOSED_AT_ONCE), 2 * queue.len());
        close_oldest(&mut queue, count, looks) > 0
    }

    /// Closes the files that were not used since this was last called.
    pub(crate) fn close_idle(&self) {
        let mut queue = self.queue.lock();
        let all = queue.len();
        close_oldest(&mut queue, all, all);
    }
}

/// Closes up to `count` files that were not used since they were last looked at, and answers how
/// many. One that was used is spared once, so it may take two looks at each.
fn close_oldest(queue: &mut VecDeque<Weak<CachedFile>>, count: usize, looks: usize) -> usize {
    let mut closed = 0;
    for _ in 0..looks {
        if closed == count {
            break;
        }
        let Some(oldest) = queue.pop_front() else { break };
        let Some(oldest) = oldest.upgrade() else { continue };
        if oldest.used.swap(false, Ordering::Relaxed) {
            queue.push_back(Arc::downgrade(&oldest));
        } else {
            oldest.queued.store(false, Ordering::Relaxed);
            oldest.open.store(None);
            closed += 1;
        }
    }
    closed
}

impl CachedFile {
    pub(crate) fn new(path: PathBuf, files: Arc<OpenFiles>) -> Arc<Self> {
        Arc::new(Self {
            path,
            files,
            open: ArcSwapOption::empty(),
            used: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            queued: AtomicBool::new(false),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, opened for reading and writing if it is closed. It must exist.
    pub(crate) fn get(self: &Arc<Self>) -> io::Result<Arc<dyn File>> {
        if let Some(open) = &*self.open.load() {
            if !self.used.load(Ordering::Relaxed) {
                self.used.store(true, Ordering::Relaxed);
            }
            return Ok(open.0.clone());
        }
        self.open_as(OpenMode::ReadWrite)
    }

    /// Makes the file, empty.
    pub(crate) fn create(self: &Arc<Self>) -> io::Result<Arc<dyn File>> {
        self.open_as(OpenMode::Truncate)
    }

    /// Closes the file; it is opened again when it is next needed.
    pub(crate) fn close(&self) {
        self.open.store(None);
    }

    /// Closes and removes the file, if it is there.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.open.store(None);
        match self.files.disk.remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Closes the file for good, before it is renamed: another file may get its name, and who still
    /// has this one must not take that one for it. Later it is [`io::ErrorKind::NotFound`].
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.open.store(None);
    }

    /// Whether it was [retired](Self::retire).
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    fn open_as(self: &Arc<Self>, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.files.open(&self.path, mode)?;
        // After it was opened: if it was another file by then, this one had been retired before.
        if self.is_retired() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{}: replaced or deleted", self.path.display()),
            ));
        }
        self.used.store(true, Ordering::Relaxed);
        self.open.store(Some(Arc::new(OpenFile(file.clone()))));
        self.files.opened(self);
        Ok(file)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::OnceLock;

    use super::*;

    /// A file of its own for one test, gone when it ends.
    pub(crate) struct Scratch {
        dir: tempfile::TempDir,
        files: Arc<OpenFiles>,
    }

    impl Scratch {
        pub(crate) fn new() -> Self {
            static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
            let _inside = RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap()).enter();
            let files = OpenFiles::new(ottla_env::Env::os().disk, 10);
            Self { dir: tempfile::TempDir::new().unwrap(), files }
        }

        pub(crate) fn file(&self) -> Arc<CachedFile> {
            CachedFile::new(self.dir.path().join("file"), self.files.clone())
        }
    }
}
