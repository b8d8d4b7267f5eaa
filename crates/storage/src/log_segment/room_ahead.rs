//! Room that the disk sets aside for what is appended next.
//!
//! A file system that has to find a place for each block as it is written spends time on that: with
//! ext4 a third of a write of 1 MiB (bench/RESULTS.md). So a segment asks
//! for as much again as it holds, up to `log.preallocate.ahead.bytes`: small logs take little, and
//! none more than twice what it needs. All segments of a directory together ask for an eighth of
//! what is free at most; what is not used is given back when the segment is sealed or closed. (A
//! killed process leaves it with the file, until the segment is sealed.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ottla_env::File;

use crate::log_dir::LogDir;

/// Smaller segments are not worth a system call.
const FROM: u64 = 1 << 20;

/// The writer's alone, but for its drop.
pub(super) struct RoomAhead {
    /// Where it ends in the file; `u64::MAX` if the disk gives no more.
    end: AtomicU64,
    /// Bytes counted for this segment.
    counted: AtomicU64,
    /// Bytes counted for all segments of the directory.
    all: Arc<AtomicU64>,
}

impl RoomAhead {
    pub(super) fn new(dir: &LogDir) -> Self {
        let (end, counted) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { end, counted, all: dir.room_ahead().clone() }
    }

    /// Notes that all the room up to `end` is there already.
    pub(super) fn is_there_up_to(&self, end: u64) {
        self.end.store(end, Ordering::Relaxed);
    }

    /// Whether what ends at byte `end` of the file has no room yet, and is worth asking for some.
    #[inline]
    pub(super) fn is_short_of(&self, end: u64) -> bool {
        end > self.end.load(Ordering::Relaxed) && end >= FROM
    }

    /// Whether there is room behind byte `size` that nothing was written to.
    pub(super) fn is_unused(&self, size: u64) -> bool {
        self.end.load(Ordering::Relaxed) > size
    }

    /// Asks for room for the bytes from `size` to `end`, and for as much again as that is.
    #[cold]
    pub(super) fn extend(&self, dir: &LogDir, file: &dyn File, size: u64, end: u64) {
        let counted = self.counted.load(Ordering::Relaxed);
        let Some(ahead) = dir.take_room_ahead(counted, end) else { return };
        self.counted.store(ahead, Ordering::Relaxed);
        match file.allocate(size, end + ahead - size) {
            Ok(()) => self.is_there_up_to(end + ahead),
            Err(error) => {
                // What there is no room for, the append itself will say.
                tracing::debug!(dir = %dir.path().display(), %error, "no room is set aside");
                self.is_there_up_to(u64::MAX);
            }
        }
    }

    /// Notes that what was set aside is none any more.
    pub(super) fn give_back(&self) {
        self.end.store(0, Ordering::Relaxed);
        self.all.fetch_sub(self.counted.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for RoomAhead {
    fn drop(&mut self) {
        self.give_back();
    }
}
