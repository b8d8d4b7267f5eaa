//! Being a member of a classic group: a pure state machine. Kafka: `AbstractCoordinator`.
//!
//! ```text
//!            Prepare                    Join                    sync
//! Unjoined ──────────► Preparing ──► Ready ──► Joining ──► Syncing ──► Synced ──► Stable
//!    ▲                   callbacks,    ▲ └── retried ──┘        │      callbacks     │
//!    │                   commits       └── group moved on ──────┘                    │
//!    └── heartbeat or commit refused, subscription changed, poll too late ───────────┘
//! ```
//!
//! It is asked [`turn`](Membership::turn) by the consumer's poll and [`beat`](Membership::beat) by
//! the task that sends heartbeats, and is told what came back. No I/O, no clock.

use std::time::Duration;

use ottla_protocol::{ErrorCode, Monotonic};

use crate::ClientError;

/// What does not change while a consumer lives.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) heartbeat_interval: Duration,
    pub(super) max_poll_interval: Duration,
    pub(super) retry_backoff: Duration,
    pub(super) is_static: bool,
}

/// Who this is to the group: `member_id` is empty and `generation` -1 for nobody yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) member_id: String,
    pub(super) generation: i32,
}

impl Identity {
    pub(super) const NOBODY: Self = Self { member_id: String::new(), generation: -1 };

    /// Whether it has a place in a generation of the group.
    pub(super) fn is_member(&self) -> bool {
        !self.member_id.is_empty() && self.generation >= 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unjoined,
    /// Callbacks and commits before a join.
    Preparing,
    /// To join, from a time on.
    Ready,
    Joining,
    Syncing,
    /// It has a place in the new generation, and a poll is to take over what it was given.
    Synced,
    Stable,
    /// The coordinator's last word.
    Rejected(ErrorCode),
    /// Left in order.
    Left,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing, until something comes back; or until this time.
    Wait(Option<Monotonic>),
    /// Let go of partitions before joining: as the protocol wants, or, if the place in the group
    /// is lost, of all, which others may be reading already.
    Prepare {
        /// Whether they are lost.
        lost: bool,
    },
    /// Send JoinGroup.
    Join(Identity),
    /// The group does not take this member.
    Rejected(ErrorCode),
}

/// What the heartbeat task is to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Send Heartbeat.
    Send(Identity),
    /// Wait until this time.
    Until(Monotonic),
    /// Wait until woken.
    Idle,
    /// Nobody polled for `max.poll.interval.ms`: send LeaveGroup.
    Leave(Identity),
}

/// A place in a group, or none.
#[derive(Debug)]
pub(super) struct Membership {
    settings: Settings,
    phase: Phase,
    identity: Identity,
    rejoin_wanted: bool,
    /// Others may read what it read, and it has not let go of that yet.
    place_lost: bool,
    not_before: Monotonic,
    last_poll: Monotonic,
    next_beat: Monotonic,
    beat_in_flight: bool,
}

impl Membership {
    pub(super) fn new(settings: Settings, now: Monotonic) -> Self {
        Self {
            settings,
            phase: Phase::Unjoined,
            identity: Identity::NOBODY,
            rejoin_wanted: false,
            place_lost: false,
            not_before: now,
            last_poll: now,
            next_beat: now,
            beat_in_flight: false,
        }
    }

    /// As which member offsets are to be committed.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether it reads what the group gave it.
    pub(super) fn is_stable(&self) -> bool {
        self.phase == Phase::Stable && !self.rejoin_wanted
    }

    /// The consumer polls; whether nobody had for so long that no heartbeat was sent any more.
    pub(super) fn polled(&mut self, now: Monotonic) -> bool {
        let was_late = now >= self.last_poll + self.settings.max_poll_interval;
        self.last_poll = now;
        was_late
    }

    /// Why nothing can be committed now. What others may have read on from must not be committed as by nobody, which a group
    /// without members would take; and between two generations it is refused, without another rebalance because of that.
    pub(super) fn refuses_commits(&self) -> Option<ErrorCode> {
        if matches!(self.phase, Phase::Joining | Phase::Syncing | Phase::Synced) {
            return Some(ErrorCode::RebalanceInProgress);
        }
        (!self.identity.is_member()).then_some(ErrorCode::UnknownMemberId)
    }

    /// What it is subscribed to changed, or partitions came: joins again when it is its turn.
    pub(super) fn want_rejoin(&mut self) {
        self.rejoin_wanted = true;
    }

    /// What poll has to do.
    pub(super) fn turn(&mut self, now: Monotonic) -> Turn {
        match self.phase {
            Phase::Stable if !self.rejoin_wanted => Turn::Wait(None),
            Phase::Unjoined | Phase::Ready if now < self.not_before => {
                Turn::Wait(Some(self.not_before))
            }
            Phase::Unjoined | Phase::Stable => {
                self.phase = Phase::Preparing;
                self.place_lost = false;
                Turn::Prepare { lost: !self.identity.is_member() }
            }
            Phase::Ready if self.place_lost => {
                self.phase = Phase::Preparing;
                self.place_lost = false;
                Turn::Prepare { lost: true }
            }
            Phase::Ready => {
                self.phase = Phase::Joining;
                self.rejoin_wanted = false;
                Turn::Join(self.identity.clone())
            }
            Phase::Preparing | Phase::Joining | Phase::Syncing | Phase::Synced | Phase::Left => {
                Turn::Wait(None)
            }
            Phase::Rejected(code) => {
                // Said once; the next poll tries again.
                self.phase = Phase::Unjoined;
                self.identity = Identity::NOBODY;
                self.not_before = now + self.settings.retry_backoff;
                Turn::Rejected(code)
            }
        }
    }

    /// What was to be done before a join is done.
    pub(super) fn prepared(&mut self) {
        if self.phase == Phase::Preparing {
            self.phase = Phase::Ready;
        }
    }

    /// JoinGroup was answered: the generation has begun, and SyncGroup is next.
    pub(super) fn joined(&mut self, identity: Identity) -> bool {
        if self.phase != Phase::Joining {
            return false;
        }
        self.identity = identity;
        self.phase = Phase::Syncing;
        true
    }

    /// KIP-394: the coordinator has given an id to join with. At once.
    pub(super) fn named(&mut self, member_id: String) {
        if self.phase == Phase::Joining {
            self.identity = Identity { member_id, generation: -1 };
            self.phase = Phase::Ready;
        }
    }

    /// SyncGroup was answered.
    pub(super) fn synced(&mut self, now: Monotonic) -> bool {
        if self.phase != Phase::Syncing {
            return false;
        }
        self.phase = Phase::Synced;
        self.next_beat = now + self.settings.heartbeat_interval;
        true
    }

    /// Reads what it was given from now on, unless its place is lost again.
    pub(super) fn took_over(&mut self) -> bool {
        let may = self.phase == Phase::Synced;
        if may {
            self.phase = Phase::Stable;
        }
        may
    }

    /// JoinGroup or SyncGroup failed. What it says is for certain is for poll to tell.
    pub(super) fn join_failed(&mut self, now: Monotonic, error: &ClientError) {
        if !matches!(self.phase, Phase::Joining | Phase::Syncing) {
            return;
        }
        self.phase = Phase::Ready;
        self.not_before = now + self.settings.retry_backoff;
        let ClientError::Refused { code, .. } = error else { return };
        if *code == ErrorCode::UnknownMemberId {
            self.identity = Identity::NOBODY;
            self.place_lost = true;
        } else if *code == ErrorCode::IllegalGeneration {
            self.identity.generation = -1;
            self.place_lost = true;
        } else if *code == ErrorCode::RebalanceInProgress {
            self.not_before = now;
        } else if !code.is_retriable() {
            self.phase = Phase::Rejected(*code);
        }
    }

    /// What the heartbeat task has to do.
    pub(super) fn beat(&mut self, now: Monotonic) -> Beat {
        let has_place =
            matches!(self.phase, Phase::Synced | Phase::Stable | Phase::Preparing | Phase::Ready);
        if !has_place || !self.identity.is_member() || self.beat_in_flight {
            return Beat::Idle;
        }
        if now >= self.last_poll + self.settings.max_poll_interval {
            // A static member's place is kept until its session ends (KIP-345).
            if self.settings.is_static {
                return Beat::Idle;
            }
            let identity = std::mem::replace(&mut self.identity, Identity::NOBODY);
            self.phase = Phase::Unjoined;
            return Beat::Leave(identity);
        }
        if now < self.next_beat {
            return Beat::Until(self.next_beat);
        }
        self.beat_in_flight = true;
        Beat::Send(self.identity.clone())
    }

    /// Heartbeat was answered, or not.
    pub(super) fn beaten(
        &mut self,
        now: Monotonic,
        identity: &Identity,
        answer: &Result<(), ClientError>,
    ) {
        self.beat_in_flight = false;
        let pause = match answer {
            Ok(()) => self.settings.heartbeat_interval,
            Err(ClientError::Refused { code: ErrorCode::RebalanceInProgress, .. }) => {
                if self.identity == *identity {
                    self.want_rejoin();
                }
                self.settings.heartbeat_interval
            }
            Err(ClientError::Refused { code, .. }) => {
                self.refused(*code, identity);
                self.settings.retry_backoff
            }
            Err(_) => self.settings.retry_backoff,
        };
        self.next_beat = now + pause;
    }

    /// A heartbeat or commit of `identity` was refused with `code`.
    pub(super) fn refused(&mut self, code: ErrorCode, identity: &Identity) {
        // What an earlier self is told is no news.
        if self.identity != *identity || !self.identity.is_member() {
            return;
        }
        if code == ErrorCode::RebalanceInProgress {
            return self.want_rejoin();
        }
        if matches!(code, ErrorCode::FencedInstanceId | ErrorCode::GroupAuthorizationFailed) {
            self.phase = Phase::Rejected(code);
            return;
        }
        if code == ErrorCode::UnknownMemberId {
            self.identity = Identity::NOBODY;
        } else if code == ErrorCode::IllegalGeneration {
            self.identity.generation = -1;
        } else {
            return;
        }
        // Preparations that are under way go on; then it lets go of everything, and joins as nobody.
        self.place_lost = true;
        if matches!(self.phase, Phase::Synced | Phase::Stable) {
            self.phase = Phase::Unjoined;
        }
    }

    /// Leaves: who it was, if the group should be told.
    pub(super) fn leave(&mut self) -> Option<Identity> {
        self.phase = Phase::Left;
        self.rejoin_wanted = false;
        let identity = std::mem::replace(&mut self.identity, Identity::NOBODY);
        (!identity.member_id.is_empty()).then_some(identity)
    }

    /// Subscribed again after it had left.
    pub(super) fn enter(&mut self) {
        if self.phase == Phase::Left {
            self.phase = Phase::Unjoined;
        }
        self.rejoin_wanted = true;
    }
}

#[cfg(test)]
mod tests;
