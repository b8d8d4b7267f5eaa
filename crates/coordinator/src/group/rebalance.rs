//! How a group gets from one generation to the next.
//!
//! A join phase collects JoinGroups until every member has joined or time is up; then the leader learns the members and
//! computes an assignment; a sync phase collects SyncGroups until the leader's arrives, is written, and is handed out.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::{ErrorCode, StrBytes};

use super::classic_group::{ClassicGroup, GroupState, InitialDelay, join_error};
use super::join_group::StaticMemberReplaced;
use super::timers::{TimerKey, Timers};
use super::{Append, AppendId, Effects, GroupCoordinatorConfig, Now};
use crate::records::CoordinatorRecord;

/// The shortest time after which a group of absent static members is looked at again.
const ABSENT_MEMBERS_RETRY: Duration = Duration::from_secs(1);

/// What goes on once records are written.
#[derive(Clone, Debug)]
pub(super) enum Continuation {
    /// The first record of a new group, before its first member is in any generation.
    GroupCreated { group: StrBytes, joiner: Option<StrBytes> },
    /// The last member left.
    GroupEmptied { group: StrBytes },
    /// The leader's assignment.
    Assigned { group: StrBytes, generation: i32, assignment: BTreeMap<StrBytes, Bytes> },
    /// A static member came back under a new id without disturbing the others.
    StaticMemberReplaced(Box<StaticMemberReplaced>),
}

impl Continuation {
    pub(super) fn group_id(&self) -> &StrBytes {
        match self {
            Self::GroupCreated { group, .. }
            | Self::GroupEmptied { group }
            | Self::Assigned { group, .. } => group,
            Self::StaticMemberReplaced(replaced) => &replaced.group,
        }
    }
}

/// Appends under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Appends {
    waiting: BTreeMap<AppendId, Continuation>,
    last: u64,
}

impl Appends {
    pub(super) fn take(&mut self, id: AppendId) -> Option<Continuation> {
        self.waiting.remove(&id)
    }
}

/// One call: what it may touch beside the group, and what it leads to.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    pub(super) config: &'a GroupCoordinatorConfig,
    timers: &'a mut Timers,
    appends: &'a mut Appends,
    pub(super) effects: Effects,
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        now: Now,
        config: &'a GroupCoordinatorConfig,
        timers: &'a mut Timers,
        appends: &'a mut Appends,
    ) -> Self {
        Self { now, config, timers, appends, effects: Effects::default() }
    }

    pub(super) fn append(&mut self, record: CoordinatorRecord, then: Continuation) {
        self.appends.last += 1;
        let id = AppendId(self.appends.last);
        self.appends.waiting.insert(id, then);
        self.effects.appends.push(Append { id, records: vec![record] });
    }

    pub(super) fn pop_due(&mut self) -> Option<TimerKey> {
        self.timers.pop_due(self.now.monotonic)
    }

    fn schedule(&mut self, key: TimerKey, after: Duration) {
        self.timers.schedule(key, self.now.monotonic + after);
    }

    /// Lets a session run from now on.
    pub(super) fn schedule_session(&mut self, group: &StrBytes, member: &StrBytes, for_: Duration) {
        let key = TimerKey::Session { group: group.clone(), member: member.clone() };
        self.schedule(key, for_);
    }

    /// A member showed that it lives. One that has not been in a generation keeps its longer time to join.
    pub(super) fn heard_from(&mut self, group: &ClassicGroup, member: &StrBytes) {
        if let Some(member) = group.member(member).filter(|member| !member.is_new) {
            let timeout = millis(member.subscription.session_timeout_ms);
            self.schedule_session(group.id(), &member.id, timeout);
        }
    }

    pub(super) fn cancel_session(&mut self, group: &StrBytes, member: &StrBytes) {
        self.timers.cancel(&TimerKey::Session { group: group.clone(), member: member.clone() });
    }

    /// Takes a member, or a pending one, out of the group, and its session with it.
    pub(super) fn remove_member(&mut self, group: &mut ClassicGroup, member: &StrBytes) {
        group.reply_join(member, ErrorCode::UnknownMemberId, &mut self.effects);
        group.reply_sync(member, ErrorCode::UnknownMemberId, &mut self.effects);
        self.cancel_session(group.id(), member);
        group.remove(member);
    }
}

/// The join phase.
impl Turn<'_> {
    /// Something changed that all members must hear of: starts a rebalance, or lets the running one go on.
    pub(super) fn rebalance(&mut self, group: &mut ClassicGroup) {
        if group.state() == GroupState::PreparingRebalance {
            self.complete_join_if_ready(group);
        } else {
            self.prepare_rebalance(group);
        }
    }

    pub(super) fn prepare_rebalance(&mut self, group: &mut ClassicGroup) {
        if group.state() == GroupState::CompletingRebalance {
            self.reset_assignment(group, ErrorCode::RebalanceInProgress);
        }
        group.clear_pending_syncs();
        self.timers.cancel(&TimerKey::Sync { group: group.id().clone() });
        let first = group.state() == GroupState::Empty;
        group.transition_to(GroupState::PreparingRebalance, self.now.wall);
        if first {
            self.begin_initial_delay(group);
        } else if group.all_members_joined() {
            self.complete_join(group);
        } else {
            self.schedule_join(group, Duration::from_millis(group.rebalance_timeout_ms()));
        }
    }

    /// KIP-134: members of a new application start at about the same time; wait a little for all of them.
    fn begin_initial_delay(&mut self, group: &mut ClassicGroup) {
        let delay_ms = as_millis(self.config.initial_rebalance_delay);
        group.initial_delay = Some(InitialDelay {
            delay_ms,
            remaining_ms: group.rebalance_timeout_ms().saturating_sub(delay_ms),
        });
        self.schedule_join(group, Duration::from_millis(delay_ms));
    }

    fn schedule_join(&mut self, group: &ClassicGroup, after: Duration) {
        self.schedule(TimerKey::Join { group: group.id().clone() }, after);
    }

    /// Time to join is up: extends the initial delay if members still come, else goes on with those there are.
    pub(super) fn join_phase_expired(&mut self, group: &mut ClassicGroup) {
        if group.state() != GroupState::PreparingRebalance {
            return;
        }
        match group.initial_delay.take() {
            Some(initial) if group.new_member_added && initial.remaining_ms > 0 => {
                group.new_member_added = false;
                let delay_ms =
                    as_millis(self.config.initial_rebalance_delay).min(initial.remaining_ms);
                group.initial_delay = Some(InitialDelay {
                    delay_ms,
                    remaining_ms: initial.remaining_ms.saturating_sub(initial.delay_ms),
                });
                self.schedule_join(group, Duration::from_millis(delay_ms));
            }
            Some(_) | None => self.complete_join(group),
        }
    }

    /// Ends the join phase if everyone is there. The first one always lasts its whole delay.
    pub(super) fn complete_join_if_ready(&mut self, group: &mut ClassicGroup) {
        if group.state() == GroupState::PreparingRebalance
            && group.previous_state() != GroupState::Empty
            && group.all_members_joined()
        {
            self.complete_join(group);
        }
    }

    /// Begins the next generation with those who joined, and with static members that are merely away (KIP-345).
    pub(super) fn complete_join(&mut self, group: &mut ClassicGroup) {
        self.timers.cancel(&TimerKey::Join { group: group.id().clone() });
        group.initial_delay = None;
        group.new_member_added = false;
        for member in group.late_dynamic_members() {
            self.remove_member(group, &member);
        }
        if !group.elect_joined_leader() && group.members().len() > 0 {
            // Only static members, all away. Their sessions end this; a timeout of 0 must not make it spin.
            let timeout = Duration::from_millis(group.rebalance_timeout_ms());
            self.schedule_join(group, timeout.max(ABSENT_MEMBERS_RETRY));
            return;
        }
        group.next_generation(self.now.wall);
        if group.state() == GroupState::Empty {
            let then = Continuation::GroupEmptied { group: group.id().clone() };
            self.append(group.record(None), then);
            return;
        }
        let ids: Vec<_> = group.members().map(|member| member.id.clone()).collect();
        for id in &ids {
            group.reply_join(id, ErrorCode::None, &mut self.effects);
            group.mark_known(id);
            self.heard_from(group, id);
        }
        group.await_syncs();
        let timeout = Duration::from_millis(group.rebalance_timeout_ms());
        self.schedule(TimerKey::Sync { group: group.id().clone() }, timeout);
    }
}

/// The sync phase.
impl Turn<'_> {
    /// A member synced: stops the phase's timer with the last one.
    pub(super) fn sync_received(&mut self, group: &mut ClassicGroup, member: &StrBytes) {
        group.sync_received(member);
        if group.pending_syncs().is_empty() {
            self.timers.cancel(&TimerKey::Sync { group: group.id().clone() });
        }
    }

    /// The leader's assignment is in the log, or could not be put there.
    pub(super) fn assignment_written(
        &mut self,
        group: &mut ClassicGroup,
        generation: i32,
        assignment: BTreeMap<StrBytes, Bytes>,
        error: Option<ErrorCode>,
    ) {
        if group.state() != GroupState::CompletingRebalance || group.generation() != generation {
            return;
        }
        match error {
            Some(error) => {
                self.reset_assignment(group, error);
                self.rebalance(group);
            }
            None => {
                group.assign(assignment);
                self.propagate_assignment(group, ErrorCode::None);
                group.transition_to(GroupState::Stable, self.now.wall);
            }
        }
    }

    fn reset_assignment(&mut self, group: &mut ClassicGroup, error: ErrorCode) {
        group.assign(BTreeMap::new());
        self.propagate_assignment(group, error);
    }

    fn propagate_assignment(&mut self, group: &mut ClassicGroup, error: ErrorCode) {
        let ids: Vec<_> = group.members().map(|member| member.id.clone()).collect();
        for id in &ids {
            if group.reply_sync(id, error, &mut self.effects) {
                self.heard_from(group, id);
            }
        }
    }

    /// Time to sync is up: those who did not are taken out.
    pub(super) fn sync_phase_expired(&mut self, group: &mut ClassicGroup) {
        let in_sync = matches!(group.state(), GroupState::CompletingRebalance | GroupState::Stable);
        let late = group.pending_syncs().clone();
        if in_sync && !late.is_empty() {
            for member in &late {
                self.remove_member(group, member);
            }
            self.prepare_rebalance(group);
        }
    }
}

/// Members that fail, and groups that are loaded.
impl Turn<'_> {
    /// Nothing was heard of a member, or of a pending one, for its session timeout.
    pub(super) fn session_expired(&mut self, group: &mut ClassicGroup, member: &StrBytes) {
        if group.is_pending(member) {
            group.remove(member);
            if group.state() == GroupState::PreparingRebalance && group.all_members_joined() {
                self.complete_join(group);
            }
        } else if group.member(member).is_some_and(|member| !member.waits()) {
            self.remove_member(group, member);
            match group.state() {
                GroupState::Stable | GroupState::CompletingRebalance => self.rebalance(group),
                GroupState::PreparingRebalance if group.all_members_joined() => {
                    self.complete_join(group);
                }
                GroupState::PreparingRebalance | GroupState::Empty => {}
            }
        }
    }

    /// The group comes from the log: its members' sessions begin anew.
    pub(super) fn group_loaded(&mut self, group: &mut ClassicGroup) {
        let ids: Vec<_> = group.members().map(|member| member.id.clone()).collect();
        for id in &ids {
            self.heard_from(group, id);
        }
        if ids.len() > self.config.max_size {
            // `group.max.size` was lowered: rejoining sorts out who may stay (KIP-389).
            self.prepare_rebalance(group);
        }
    }

    /// The first record of a group was written, or was not: then its first member must try again, if it still waits.
    pub(super) fn group_created(
        &mut self,
        group: &mut ClassicGroup,
        joiner: Option<StrBytes>,
        error: Option<ErrorCode>,
    ) {
        let Some((id, error)) = joiner.zip(error) else { return };
        if group.member(&id).is_some_and(|member| member.is_new) {
            let response = join_error(error, StrBytes::default());
            group.reply_join_with(&id, response, &mut self.effects);
            self.remove_member(group, &id);
            if group.members().len() == 0 {
                self.complete_join(group);
            }
        }
    }
}

/// A timeout of the protocol, whose negative values mean nothing.
pub(super) fn millis(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
