//! What a log remembers of its compaction, and what keeps a pass out of the way of others.

use std::sync::atomic::{AtomicBool, Ordering};

use ottla_protocol::Offset;
use parking_lot::{Mutex, MutexGuard};

/// Part of every log. Kafka's `LogCleaningState` and the partition's line in
/// `cleaner-offset-checkpoint`.
#[derive(Default)]
pub(crate) struct CleaningState {
    /// Held while a pass works on the log's files. Taken before all other locks of the log.
    step: Mutex<()>,
    /// The log was closed or deleted: no pass may touch its files any more.
    stopped: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    first_dirty: Option<Offset>,
    in_progress: bool,
    uncleanable: bool,
    /// The log is copied into another directory.
    paused: bool,
    /// How often the log's end was cut off, or a pass sent away.
    truncations: u64,
}

/// A log as it was when somebody looked what there is to clean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    truncations: u64,
}

impl CleaningState {
    /// What a checkpoint says of a log with these bounds. One beyond its end is of what was cut off when
    /// a crash came, or damaged: nothing counts as clean, as in Kafka, since what is appended up to there
    /// never would be looked at.
    pub(crate) fn new(checkpoint: Option<Offset>, (start, end): (Offset, Offset)) -> Self {
        let first_dirty = checkpoint.map(|first| if first > end { start } else { first });
        let inner = Inner { first_dirty, ..Inner::default() };
        Self { inner: Mutex::new(inner), ..Self::default() }
    }

    /// Where the section begins that was never cleaned; `None` if none was.
    pub(crate) fn first_dirty(&self) -> Option<Offset> {
        self.inner.lock().first_dirty
    }

    /// Nothing is cleaned from now on. Waits for the step that is under way.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        drop(self.step.lock());
    }

    /// The log ends at `log_end` now: what comes after it is new.
    pub(crate) fn truncated(&self, log_end: Offset) {
        let mut inner = self.inner.lock();
        inner.truncations += 1;
        inner.first_dirty = inner.first_dirty.map(|first| first.min(log_end));
    }

    /// How often the log's end was cut off, or a pass sent away.
    pub(crate) fn truncations(&self) -> u64 {
        self.inner.lock().truncations
    }

    /// No pass begins before [`resume`](Self::resume), and the one under way ends. Waits for the step
    /// that is under way, and answers how often the log was cut.
    pub(crate) fn pause(&self) -> u64 {
        let truncations = {
            let mut inner = self.inner.lock();
            inner.paused = true;
            inner.truncations += 1;
            inner.truncations
        };
        drop(self.step.lock());
        truncations
    }

    /// Passes may begin again.
    pub(crate) fn resume(&self) {
        self.inner.lock().paused = false;
    }

    /// Whether a pass may begin.
    pub(super) fn is_free(&self) -> bool {
        let inner = self.inner.lock();
        !inner.in_progress && !inner.uncleanable && !inner.paused && !self.is_stopped()
    }

    /// The log as it is now.
    pub(super) fn look(&self) -> Seen {
        Seen { truncations: self.truncations() }
    }

    /// Begins a pass; `false` if there is one.
    pub(super) fn begin(&self) -> bool {
        let mut inner = self.inner.lock();
        let may_begin = !(inner.in_progress || inner.paused || self.is_stopped());
        inner.in_progress |= may_begin;
        may_begin
    }

    /// Whether a pass is about a log that is not there any more: it was closed, or cut off, and
    /// what came after that may have the offsets of what was seen.
    pub(super) fn is_outdated(&self, seen: Seen) -> bool {
        self.is_stopped() || self.inner.lock().truncations != seen.truncations
    }

    /// The pass is over, whatever came of it.
    pub(super) fn end(&self) {
        self.inner.lock().in_progress = false;
    }

    /// Everything before `first_dirty` is clean, unless it was cut off meanwhile.
    pub(super) fn cleaned(&self, seen: Seen, first_dirty: Offset) {
        let mut inner = self.inner.lock();
        if inner.truncations == seen.truncations {
            inner.first_dirty = Some(first_dirty);
        }
    }

    /// What was known makes no sense.
    pub(super) fn reset(&self, first_dirty: Offset) {
        self.inner.lock().first_dirty = Some(first_dirty);
    }

    /// No pass can get through this log; `false` if that was known.
    pub(super) fn mark_uncleanable(&self) -> bool {
        !std::mem::replace(&mut self.inner.lock().uncleanable, true)
    }

    /// Whether the log was closed or deleted.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Keeps the log from being closed or deleted while a step works on its files.
    pub(super) fn step(&self) -> MutexGuard<'_, ()> {
        self.step.lock()
    }
}
