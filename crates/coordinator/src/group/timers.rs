//! Deadlines of one shard: one queue, so that the host needs one timer.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::{Monotonic, StrBytes};

/// What a deadline is about. Each key has at most one deadline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerKey {
    /// A member's session, or the time a pending member has to come back.
    Session { group: StrBytes, member: StrBytes },
    /// The time members have to join.
    Join { group: StrBytes },
    /// The time members have to sync.
    Sync { group: StrBytes },
}

impl TimerKey {
    pub(super) fn group_id(&self) -> &StrBytes {
        match self {
            Self::Session { group, .. } | Self::Join { group } | Self::Sync { group } => group,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    deadlines: BTreeMap<TimerKey, Monotonic>,
    queue: BTreeSet<(Monotonic, TimerKey)>,
}

impl Timers {
    /// Sets the deadline of `key`, in place of the one it had.
    pub(super) fn schedule(&mut self, key: TimerKey, at: Monotonic) {
        self.cancel(&key);
        self.deadlines.insert(key.clone(), at);
        self.queue.insert((at, key));
    }

    pub(super) fn cancel(&mut self, key: &TimerKey) {
        if let Some((key, at)) = self.deadlines.remove_entry(key) {
            self.queue.remove(&(at, key));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Removes and answers the earliest of what is due. What it leads to may cancel the next one.
    pub(super) fn pop_due(&mut self, now: Monotonic) -> Option<TimerKey> {
        let (at, _) = self.queue.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.queue.pop_first()?;
        self.deadlines.remove(&key);
        Some(key)
    }
}
