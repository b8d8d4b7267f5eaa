//! Classic consumer groups and the offsets every group commits.
//!
//! # How a host drives a shard
//! ```text
//! lock the shard ─► call ─► append `records` to the partition ─► replay each ─► unlock ─► wait until committed ─► reply
//! ```
//! - Decisions answer an [`Outcome`]: append its records, [`replay`](GroupCoordinator::replay) them, wait until they are
//!   committed, send its answer. If the append fails, drop them and answer [`append_error`] of the reason.
//! - What may wait answers [`Effects`]: send its replies at once; append and replay each [`Append`], in order and under
//!   the same lock; once it is committed, refused or given up on, call
//!   [`append_finished`](GroupCoordinator::append_finished), which answers further effects.
//! - After every call, set one timer to [`next_deadline`](GroupCoordinator::next_deadline) and call
//!   [`tick`](GroupCoordinator::tick) when it is due.
//! - Reads show what was replayed. A host whose log is replicated answers them once the last replayed record is committed.
//! - On election: a new shard, replay the whole partition, [`elected`](GroupCoordinator::elected). On resignation:
//!   [`resigned`](GroupCoordinator::resigned), then drop the shard.

mod classic_group;
mod config;
mod effects;
mod group_admin;
mod heartbeat;
mod join_group;
mod leave_group;
mod member;
mod offset_commit;
mod offset_expiry;
pub mod offset_fetch;
mod rebalance;
mod store;
mod sync_group;
mod timers;

use std::borrow::Cow;
use std::collections::BTreeMap;

use ottla_protocol::{ErrorCode, Monotonic, StrBytes, Timestamp};

use crate::records::CoordinatorRecord;
use classic_group::{ClassicGroup, GroupState};
pub use config::GroupCoordinatorConfig;
pub use effects::{Append, AppendId, Effects, Outcome, Reply, ReplyToken, append_error};
use rebalance::{Appends, Continuation, Turn};
pub use store::{GroupStore, StoredGroup};
use timers::{TimerKey, Timers};

/// The two clocks a decision needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For timeouts.
    pub monotonic: Monotonic,
    /// For what is written into records.
    pub wall: Timestamp,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// `client.id` of the request header; empty if it has none.
    pub client_id: &'a str,
    /// Address of the client as Java prints it: `/127.0.0.1`.
    pub client_host: &'a str,
    /// Version of the request.
    pub api_version: i16,
}

/// The groups of one partition of `__consumer_offsets`.
#[derive(Clone, Debug)]
pub struct GroupCoordinator {
    config: GroupCoordinatorConfig,
    store: GroupStore,
    soft: Soft,
}

/// What a new coordinator does without: it is rebuilt from requests and, for members, by `elected`.
#[derive(Clone, Debug, Default)]
struct Soft {
    /// Groups with members. A group without any is only in the store.
    groups: BTreeMap<StrBytes, ClassicGroup>,
    timers: Timers,
    appends: Appends,
}

impl GroupCoordinator {
    /// A shard that has replayed nothing yet.
    pub fn new(config: GroupCoordinatorConfig) -> Self {
        Self { config, store: GroupStore::default(), soft: Soft::default() }
    }

    /// What the records replayed so far say.
    pub fn store(&self) -> &GroupStore {
        &self.store
    }

    /// Applies a record of the partition: the only way hard state changes.
    pub fn replay(&mut self, record: &CoordinatorRecord) {
        self.store.replay(record);
        if let CoordinatorRecord::GroupMetadata { key, value: None } = record {
            self.group_deleted(&key.group);
        }
    }

    /// Starts serving after the whole partition has been replayed. Members get a full session to show up.
    pub fn elected(&mut self, now: Now) -> Effects {
        let with_members = self.store.groups().filter(|(_, stored)| stored.has_members());
        self.soft.groups = with_members
            .map(|(id, stored)| (id.clone(), ClassicGroup::stored(id.clone(), stored)))
            .collect();
        let Self { config, soft, .. } = self;
        let mut turn = Turn::new(now, config, &mut soft.timers, &mut soft.appends);
        for group in soft.groups.values_mut() {
            turn.group_loaded(group);
        }
        turn.effects
    }

    /// Stops serving: everyone who waits is told `NOT_COORDINATOR`, and soft state is dropped.
    pub fn resigned(&mut self) -> Effects {
        let mut effects = Effects::default();
        for group in self.soft.groups.values_mut() {
            group.fail_waiting(ErrorCode::NotCoordinator, &mut effects);
        }
        self.soft = Soft::default();
        effects
    }

    /// When to call [`tick`](Self::tick) next; `None` if nothing is waited for.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.soft.timers.next_deadline()
    }

    /// Does what was due by `now`: ends sessions, rebalances and the wait for late members.
    pub fn tick(&mut self, now: Now) -> Effects {
        let Self { config, soft, .. } = self;
        let mut turn = Turn::new(now, config, &mut soft.timers, &mut soft.appends);
        let mut touched = Vec::new();
        while let Some(key) = turn.pop_due() {
            let Some(group) = soft.groups.get_mut(key.group_id()) else { continue };
            match &key {
                TimerKey::Session { member, .. } => turn.session_expired(group, member),
                TimerKey::Join { .. } => turn.join_phase_expired(group),
                TimerKey::Sync { .. } => turn.sync_phase_expired(group),
            }
            touched.push(key.group_id().clone());
        }
        let effects = turn.effects;
        touched.iter().for_each(|group_id| self.release_if_stored(group_id));
        effects
    }

    /// Goes on after an [`Append`]: its records were appended, replayed and committed; or the append failed, or is not
    /// known to be committed.
    pub fn append_finished(
        &mut self,
        now: Now,
        id: AppendId,
        result: Result<(), ErrorCode>,
    ) -> Effects {
        // An id of a shard that resigned meanwhile is unknown here, and nobody waits for it.
        let Some(continuation) = self.soft.appends.take(id) else { return Effects::default() };
        let group_id = continuation.group_id().clone();
        let Self { config, soft, .. } = self;
        let Some(group) = soft.groups.get_mut(&group_id) else { return Effects::default() };
        let mut turn = Turn::new(now, config, &mut soft.timers, &mut soft.appends);
        let error = result.err().map(append_error);
        match continuation {
            // What was written is what a reader of the log would assume anyway.
            Continuation::GroupEmptied { .. } => {}
            Continuation::GroupCreated { joiner, .. } => {
                turn.group_created(group, joiner, error);
            }
            Continuation::Assigned { generation, assignment, .. } => {
                turn.assignment_written(group, generation, assignment, error);
            }
            Continuation::StaticMemberReplaced(replaced) => {
                turn.static_member_written(group, *replaced, error);
            }
        }
        let effects = turn.effects;
        self.release_if_stored(&group_id);
        effects
    }

    /// A group as it is now: live, or as stored.
    fn group(&self, group_id: &StrBytes) -> Option<Cow<'_, ClassicGroup>> {
        match self.soft.groups.get(group_id) {
            Some(live) => Some(Cow::Borrowed(live)),
            None => {
                let stored = self.store.get(group_id)?;
                Some(Cow::Owned(ClassicGroup::stored(group_id.clone(), stored)))
            }
        }
    }

    /// Drops a group without members from soft state once the store says the same of it.
    fn release_if_stored(&mut self, group_id: &StrBytes) {
        let Some(group) = self.soft.groups.get(group_id) else { return };
        let written = match self.store.get(group_id) {
            Some(stored) => !stored.has_members() && stored.generation() == group.generation(),
            None => group.generation() == 0,
        };
        if written && group.state() == GroupState::Empty && group.pending_members().len() == 0 {
            self.soft.groups.remove(group_id);
        }
    }

    /// Drops what is left of a group that was deleted while empty; ids it gave out are unknown from now on (KIP-394).
    fn group_deleted(&mut self, group_id: &StrBytes) {
        let Some(group) = self.soft.groups.get(group_id) else { return };
        if group.state() == GroupState::Empty {
            for member in group.pending_members() {
                let group = group_id.clone();
                self.soft.timers.cancel(&TimerKey::Session { group, member: member.clone() });
            }
            self.soft.groups.remove(group_id);
        }
    }
}

/// A copy that does not keep the request's buffer, or a batch of the log, alive.
fn detached(text: &StrBytes) -> StrBytes {
    StrBytes::from(text.as_str())
}
