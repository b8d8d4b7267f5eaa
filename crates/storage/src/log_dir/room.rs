//! How much producers may still write to a directory: what is free, less what is kept for deletes.
//!
//! Asking the file system at each append would cost a system call. So one look grants a budget,
//! which appends use up; the next look comes with the housekeeping, or when the budget is gone.
//! The directories of a node may share a file system, so each is granted its share alone: together
//! they cannot use what is free twice.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// The room of one directory.
pub(crate) struct Room {
    /// `log.dir.reserved.bytes`; `None` if nothing is counted here.
    reserved: Option<u64>,
    /// Directories that may lie on the same file system, this one among them.
    shares: u64,
    /// Bytes that may be written before the next look. Below 0 when more was asked for.
    budget: AtomicI64,
    /// Whether the last word was that there is no room.
    full: AtomicBool,
}

impl Room {
    /// Room that is not counted: the disk says when there is none.
    pub(super) fn uncounted() -> Self {
        Self { budget: AtomicI64::new(i64::MAX), ..Self::keeping(None, 1) }
    }

    /// Room that keeps `reserved` bytes free, for one of `shares` directories. The first append
    /// looks.
    pub(super) fn keeping(reserved: Option<u64>, shares: usize) -> Self {
        Self {
            reserved,
            shares: shares.max(1) as u64,
            budget: AtomicI64::new(0),
            full: AtomicBool::new(false),
        }
    }

    /// `log.dir.reserved.bytes`, if it counts.
    pub(super) fn reserved(&self) -> Option<u64> {
        self.reserved
    }

    /// Takes `bytes` of the budget; `false` if it is used up.
    pub(super) fn take(&self, bytes: i64) -> bool {
        self.reserved.is_none() || self.budget.fetch_sub(bytes, Ordering::Relaxed) >= bytes
    }

    /// Grants a new budget when `available` bytes are free, and takes `bytes` of it at once.
    /// `false` if it has not so many.
    pub(super) fn grant(&self, available: u64, bytes: i64) -> bool {
        let Some(reserved) = self.reserved else { return true };
        let share = available.saturating_sub(reserved) / self.shares;
        let left = i64::try_from(share).unwrap_or(i64::MAX).saturating_sub(bytes);
        // What does not fit is not taken: a smaller batch may fit.
        self.budget
            .store(if left < 0 { left.saturating_add(bytes) } else { left }, Ordering::Relaxed);
        left >= 0
    }

    /// Notes that there is room, or none; answers whether that is news.
    pub(super) fn set_full(&self, full: bool) -> bool {
        self.full.swap(full, Ordering::Relaxed) != full
    }

    /// Whether the last word was that there is no room.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_used_up_and_granted_anew() {
        let room = Room::keeping(Some(100), 2);
        assert!(!room.take(1), "nobody has looked yet");
        assert!(room.grant(1100, 200));
        assert!(room.take(300));
        assert!(!room.take(1), "the other half is another directory's");
        assert!(!room.grant(700, 301));
        assert!(room.take(300), "what did not fit was not taken");
        assert!(!room.grant(100, 1), "the reserve is not granted");
        assert!(!room.grant(0, 1));
    }

    #[test]
    fn room_that_is_not_counted_is_never_used_up() {
        let room = Room::uncounted();
        assert!(room.take(i64::MAX) && room.take(i64::MAX));
        assert!(room.grant(0, 1));
    }
}
