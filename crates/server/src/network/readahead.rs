//! Which files a connection reads from one end to the other, and how far ahead of it the disk is asked.
//!
//! A consumer that catches up reads what has long left memory. Its first read misses; from then on the disk is asked for
//! more than is being sent, twice as far each time, so that the following reads miss no more.

use std::sync::{Arc, Weak};

use ottla_env::File;
use ottla_storage::FileSlice;

/// How far the disk is asked ahead at first, in bytes.
const FIRST_WINDOW: u64 = 256 * 1024;
/// And at most: what is sent in one piece. More makes a consumer faster, at the cost of producers (bench/RESULTS.md).
const LAST_WINDOW: u64 = 1 << 20;
/// Files that are followed at once; the one that was read longest ago is forgotten.
const MAX_FILES: usize = 64;

/// The files of one connection that are read in order.
#[derive(Default)]
pub(super) struct Readahead {
    files: Vec<Followed>,
}

struct Followed {
    file: Weak<dyn File>,
    /// Where the next range begins, if reading goes on in order.
    next: u64,
    /// What lies before it was asked for.
    asked: u64,
    window: u64,
}

/// A piece of a file that will be read soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ahead {
    pub(super) position: u64,
    pub(super) len: u64,
}

impl Readahead {
    /// `range` was not in memory: what follows it will be asked for.
    pub(super) fn missed(&mut self, range: &FileSlice) {
        let found = self.take(&range.file);
        let window = found.map_or(FIRST_WINDOW, |followed| followed.window);
        if self.files.len() >= MAX_FILES {
            self.files.remove(0);
        }
        let file = Arc::downgrade(&range.file);
        self.files.push(Followed { file, next: range.position, asked: range.end(), window });
    }

    /// `range` is about to be sent: what to ask for meanwhile.
    pub(super) fn reads(&mut self, range: &FileSlice) -> Option<Ahead> {
        if self.files.is_empty() {
            return None;
        }
        let mut followed = self.take(&range.file)?;
        if followed.next != range.position {
            // Somebody jumped.
            return None;
        }
        followed.next = range.end();
        let position = followed.asked.max(followed.next);
        let due = position - followed.next < followed.window / 2;
        let ahead = due.then(|| {
            let len = followed.next + followed.window - position;
            followed.asked = position + len;
            followed.window = (followed.window * 2).min(LAST_WINDOW);
            Ahead { position, len }
        });
        self.files.push(followed);
        ahead
    }

    fn take(&mut self, file: &Arc<dyn File>) -> Option<Followed> {
        let is_it =
            |followed: &Followed| std::ptr::addr_eq(followed.file.as_ptr(), Arc::as_ptr(file));
        let at = self.files.iter().position(is_it)?;
        Some(self.files.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use ottla_env::{Disk, Env, OpenMode};

    use super::*;

    const STEP: u64 = 64 * 1024;

    async fn file() -> (tempfile::TempDir, Arc<dyn File>) {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Env::os().disk;
        let file = disk.open(&dir.path().join("segment"), OpenMode::Create).unwrap();
        (dir, file)
    }

    fn range(file: &Arc<dyn File>, position: u64) -> FileSlice {
        FileSlice { file: Arc::clone(file), position, len: STEP as usize, is_recent: false }
    }

    #[tokio::test]
    async fn the_window_grows_while_a_file_is_read_in_order() {
        let (_dir, file) = file().await;
        let mut readahead = Readahead::default();
        assert_eq!(readahead.reads(&range(&file, 0)), None, "nothing was missed yet");
        readahead.missed(&range(&file, STEP));
        let mut asked = 2 * STEP;
        let mut windows = Vec::new();
        for read in 1..40 {
            if let Some(ahead) = readahead.reads(&range(&file, read * STEP)) {
                assert_eq!(ahead.position, asked, "without a gap and nothing twice");
                asked = ahead.position + ahead.len;
                windows.push(asked - (read + 1) * STEP);
            }
            assert!(asked > (read + 1) * STEP, "the next range was asked for");
        }
        assert_eq!(windows[..3], [4 * STEP, 8 * STEP, 16 * STEP]);
        assert_eq!(windows.iter().max(), Some(&LAST_WINDOW));
    }

    #[tokio::test]
    async fn a_jump_ends_it_and_so_does_a_crowd_of_files() {
        let (_dir, first) = file().await;
        let mut readahead = Readahead::default();
        readahead.missed(&range(&first, 0));
        assert_eq!(readahead.reads(&range(&first, 7 * STEP)), None);
        assert_eq!(readahead.reads(&range(&first, 8 * STEP)), None);
        readahead.missed(&range(&first, 0));
        for _ in 0..MAX_FILES {
            let (_dir, other) = file().await;
            readahead.missed(&range(&other, 0));
        }
        assert_eq!(readahead.files.len(), MAX_FILES);
        assert_eq!(readahead.reads(&range(&first, 0)), None);
    }
}
