//! A classic group while it has members: who they are, what they agreed on, where the rebalance stands.
//!
//! It knows nothing of time or of the log; [`Turn`](super::rebalance::Turn) moves it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_wire_core::{DecodeLimits, Decoder};
use ottla_protocol::messages::join_group_response::JoinGroupResponseMember;
use ottla_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use ottla_protocol::{ErrorCode, StrBytes, Timestamp, message};

use super::member::{JoinWaiter, Member, Subscription};
use super::{Effects, Reply, ReplyToken, StoredGroup};
use crate::records::{CoordinatorRecord, GroupMetadataKey, GroupMetadataValue};

/// The protocol type of Kafka's consumers, whose metadata the broker can read.
const CONSUMER: &str = "consumer";

/// Where a group stands.
///
/// ```text
///             first member joins           everyone joined, or time is up
///    ┌───────┐ ──────────────► ┌────────────────────┐ ──────────────► ┌─────────────────────┐
/// ─► │ Empty │                 │ PreparingRebalance │                 │ CompletingRebalance │
///    └───┬───┘ ◄────────────── └────────────────────┘ ◄────────────── └──────────┬──────────┘
///        │       nobody left      ▲                     someone joined,          │ the leader's assignment
///        │                        │ someone joined,     left or failed           │ is written
///        │                        │ left or failed                               ▼
///        │                        └──────────────────────────────────────── ┌────────┐
///        │ deleted, or nothing left to remember                             │ Stable │
///        ▼                                                                  └────────┘
///     (Dead)
/// ```
///
/// A group that does not exist is reported as Dead; no value has that state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl GroupState {
    /// As ListGroups and DescribeGroups print it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct ClassicGroup {
    id: StrBytes,
    state: GroupState,
    previous_state: GroupState,
    state_since: Timestamp,
    generation: i32,
    protocol_type: Option<StrBytes>,
    protocol: Option<StrBytes>,
    leader: Option<StrBytes>,
    members: BTreeMap<StrBytes, Member>,
    /// Member ids by instance id (KIP-345).
    static_members: BTreeMap<StrBytes, StrBytes>,
    /// How many members know each protocol.
    protocol_counts: BTreeMap<StrBytes, usize>,
    awaiting_join: usize,
    /// Ids given out that have not joined yet (KIP-394).
    pending_join: BTreeSet<StrBytes>,
    /// Members of this generation that have not sent SyncGroup.
    pending_sync: BTreeSet<StrBytes>,
    /// Someone joined since the initial delay was last set, so it is worth waiting once more.
    pub(super) new_member_added: bool,
    /// How the running join phase was timed.
    pub(super) initial_delay: Option<InitialDelay>,
}

/// The part of the first rebalance that waits for members which start at the same time (KIP-134).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InitialDelay {
    pub(super) delay_ms: u64,
    pub(super) remaining_ms: u64,
}

impl ClassicGroup {
    /// The group as the log has it; a new one if the log has none.
    pub(super) fn stored(id: StrBytes, stored: &StoredGroup) -> Self {
        let metadata = stored.metadata();
        let protocol = metadata.and_then(|metadata| metadata.protocol.clone());
        let mut group = Self {
            id,
            state: if stored.has_members() { GroupState::Stable } else { GroupState::Empty },
            previous_state: GroupState::Empty,
            state_since: metadata.map_or(Timestamp::NONE, |it| it.current_state_timestamp),
            generation: stored.generation(),
            protocol_type: metadata
                .map(|metadata| metadata.protocol_type.clone())
                .filter(|protocol_type| !protocol_type.is_empty()),
            leader: metadata.and_then(|metadata| metadata.leader.clone()),
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            protocol_counts: BTreeMap::new(),
            awaiting_join: 0,
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            new_member_added: false,
            initial_delay: None,
            protocol,
        };
        for member in metadata.iter().flat_map(|metadata| &metadata.members) {
            group.insert(Member::stored(member, group.protocol.clone().as_ref()));
        }
        group
    }

    /// A group that never existed, or was forgotten.
    pub(super) fn created(id: StrBytes, now: Timestamp) -> Self {
        Self { state_since: now, ..Self::stored(id, &StoredGroup::default()) }
    }

    pub(super) fn id(&self) -> &StrBytes {
        &self.id
    }

    pub(super) fn state(&self) -> GroupState {
        self.state
    }

    pub(super) fn previous_state(&self) -> GroupState {
        self.previous_state
    }

    pub(super) fn state_since(&self) -> Timestamp {
        self.state_since
    }

    pub(super) fn generation(&self) -> i32 {
        self.generation
    }

    pub(super) fn protocol_type(&self) -> Option<&StrBytes> {
        self.protocol_type.as_ref()
    }

    pub(super) fn protocol(&self) -> Option<&StrBytes> {
        self.protocol.as_ref()
    }

    pub(super) fn leader(&self) -> Option<&StrBytes> {
        self.leader.as_ref()
    }

    pub(super) fn is_leader(&self, member: &StrBytes) -> bool {
        self.leader.as_ref() == Some(member)
    }

    pub(super) fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    pub(super) fn member(&self, id: &StrBytes) -> Option<&Member> {
        self.members.get(id)
    }

    pub(super) fn static_member_id(&self, instance: &StrBytes) -> Option<&StrBytes> {
        self.static_members.get(instance)
    }

    pub(super) fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_ref().is_some_and(|protocol_type| &**protocol_type == CONSUMER)
    }

    /// The longest rebalance timeout of a member, in milliseconds.
    pub(super) fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self.members.values().map(|it| it.subscription.rebalance_timeout_ms).max();
        longest.and_then(|timeout| u64::try_from(timeout).ok()).unwrap_or(0)
    }

    pub(super) fn all_members_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending_join.is_empty()
    }

    /// Moves to `state`. Only the transitions drawn above exist.
    pub(super) fn transition_to(&mut self, state: GroupState, now: Timestamp) {
        use GroupState::{CompletingRebalance, Empty, PreparingRebalance, Stable};
        let allowed = match state {
            Empty | CompletingRebalance => self.state == PreparingRebalance,
            PreparingRebalance => self.state != PreparingRebalance,
            Stable => self.state == CompletingRebalance,
        };
        assert!(allowed, "group {} went from {:?} to {state:?}", self.id, self.state);
        self.previous_state = self.state;
        self.state = state;
        self.state_since = now;
    }

    /// Begins the next generation with the members there are: the protocol is voted on anew.
    pub(super) fn next_generation(&mut self, now: Timestamp) {
        // After 2^31 generations the count begins again at 1: 0 is "never had a member".
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = self.select_protocol();
        self.pending_sync.clear();
        let state = if self.members.is_empty() {
            GroupState::Empty
        } else {
            GroupState::CompletingRebalance
        };
        self.transition_to(state, now);
    }

    /// Checks that a request speaks for a member of the group, and is not fenced (KIP-345).
    pub(super) fn check_member(
        &self,
        member: &StrBytes,
        instance: Option<&StrBytes>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != member => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }
}

/// Members come, change and go.
impl ClassicGroup {
    /// Whether a member that knows these protocols could be part of the group.
    pub(super) fn supports(&self, protocol_type: &StrBytes, names: &[(StrBytes, Bytes)]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !names.is_empty();
        }
        self.protocol_type.as_ref() == Some(protocol_type)
            && names.iter().any(|(name, _)| {
                self.protocol_counts.get(name).copied().unwrap_or(0) == self.members.len()
            })
    }

    /// Adds a member, which waits for the rebalance.
    pub(super) fn add(&mut self, member: Member, protocol_type: &StrBytes) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.pending_join.remove(&member.id);
        self.insert(member);
    }

    fn insert(&mut self, member: Member) {
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), member.id.clone());
        }
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.count_protocols(&member.subscription);
        self.members.insert(member.id.clone(), member);
    }

    /// Removes a member or a pending one. Another member becomes leader if it led.
    pub(super) fn remove(&mut self, id: &StrBytes) -> Option<Member> {
        self.pending_join.remove(id);
        self.pending_sync.remove(id);
        let member = self.members.remove(id)?;
        self.awaiting_join -= usize::from(member.awaiting_join.is_some());
        self.discount_protocols(&member.subscription);
        if let Some(instance) = &member.instance_id {
            self.static_members.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Gives a static member a new id (KIP-345). What its old id waited for is fenced.
    pub(super) fn replace_static_member(
        &mut self,
        old: &StrBytes,
        new: &StrBytes,
        effects: &mut Effects,
    ) {
        self.reply_join(old, ErrorCode::FencedInstanceId, effects);
        self.reply_sync(old, ErrorCode::FencedInstanceId, effects);
        let led = self.is_leader(old);
        let Some(mut member) = self.remove(old) else { return };
        member.id = new.clone();
        member.is_new = false;
        self.insert(member);
        if led {
            self.leader = Some(new.clone());
        }
    }

    /// Takes over what a member's newest JoinGroup says; answers what it said before.
    pub(super) fn update_subscription(
        &mut self,
        id: &StrBytes,
        subscription: Subscription,
    ) -> Option<Subscription> {
        let member = self.members.get_mut(id)?;
        let old = std::mem::replace(&mut member.subscription, subscription.clone());
        self.discount_protocols(&old);
        self.count_protocols(&subscription);
        Some(old)
    }

    fn count_protocols(&mut self, subscription: &Subscription) {
        for (name, _) in &subscription.protocols {
            *self.protocol_counts.entry(name.clone()).or_default() += 1;
        }
    }

    fn discount_protocols(&mut self, subscription: &Subscription) {
        for (name, _) in &subscription.protocols {
            if let Some(count) = self.protocol_counts.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.protocol_counts.remove(name);
                }
            }
        }
    }

    /// The protocol that most members like best among those all of them know.
    pub(super) fn select_protocol(&self) -> Option<StrBytes> {
        let candidates: BTreeSet<_> = self
            .protocol_counts
            .iter()
            .filter(|(_, count)| **count == self.members.len())
            .map(|(name, _)| name)
            .collect();
        let mut votes: BTreeMap<&StrBytes, usize> = BTreeMap::new();
        for vote in self.members.values().filter_map(|member| member.vote(&candidates)) {
            *votes.entry(vote).or_default() += 1;
        }
        // Of equals the first by name, so that the choice can be repeated.
        votes.into_iter().rev().max_by_key(|(_, count)| *count).map(|(name, _)| name.clone())
    }

    /// Makes a member leader that takes part in the rebalance. False if no such member exists.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &Member| member.awaiting_join.is_some();
        if self.leader.as_ref().and_then(|id| self.members.get(id)).is_some_and(joined) {
            return true;
        }
        match self.members.values().find(|member| joined(member)) {
            Some(member) => {
                self.leader = Some(member.id.clone());
                true
            }
            None => false,
        }
    }

    pub(super) fn pending_members(&self) -> impl ExactSizeIterator<Item = &StrBytes> {
        self.pending_join.iter()
    }

    pub(super) fn is_pending(&self, id: &StrBytes) -> bool {
        self.pending_join.contains(id)
    }

    pub(super) fn add_pending(&mut self, id: StrBytes) {
        self.pending_join.insert(id);
    }

    pub(super) fn await_syncs(&mut self) {
        self.pending_sync = self.members.keys().cloned().collect();
    }

    pub(super) fn sync_received(&mut self, id: &StrBytes) {
        self.pending_sync.remove(id);
    }

    pub(super) fn pending_syncs(&self) -> &BTreeSet<StrBytes> {
        &self.pending_sync
    }

    pub(super) fn clear_pending_syncs(&mut self) {
        self.pending_sync.clear();
    }

    /// Members that have not joined the running rebalance and may be dropped for it: not static ones.
    pub(super) fn late_dynamic_members(&self) -> Vec<StrBytes> {
        let late = |it: &&Member| it.awaiting_join.is_none() && it.instance_id.is_none();
        self.members.values().filter(late).map(|member| member.id.clone()).collect()
    }

    pub(super) fn mark_known(&mut self, id: &StrBytes) {
        if let Some(member) = self.members.get_mut(id) {
            member.is_new = false;
        }
    }

    /// Sets every member's assignment; members that `assignment` does not name get none.
    pub(super) fn assign(&mut self, mut assignment: BTreeMap<StrBytes, Bytes>) {
        for (id, member) in &mut self.members {
            member.assignment = assignment.remove(id).unwrap_or_default();
        }
    }

    /// Topics that members subscribe to; `None` if that cannot be known (KIP-496).
    pub(super) fn subscribed_topics(&self) -> Option<BTreeSet<StrBytes>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.subscription.metadata(self.protocol.as_ref()?);
            topics.extend(decode_topics(metadata)?);
        }
        Some(topics)
    }
}

/// Replies to members, and the record of the group.
impl ClassicGroup {
    /// Makes a member's JoinGroup wait. An older one of the same member is sent away to retry.
    pub(super) fn await_join(&mut self, id: &StrBytes, waiter: JoinWaiter, effects: &mut Effects) {
        self.reply_join(id, ErrorCode::RebalanceInProgress, effects);
        if let Some(member) = self.members.get_mut(id) {
            member.awaiting_join = Some(waiter);
            self.awaiting_join += 1;
        }
    }

    /// Makes a member's SyncGroup wait. An older one of the same member is sent away to retry.
    pub(super) fn await_sync(&mut self, id: &StrBytes, token: ReplyToken, effects: &mut Effects) {
        self.reply_sync(id, ErrorCode::RebalanceInProgress, effects);
        if let Some(member) = self.members.get_mut(id) {
            member.awaiting_sync = Some(token);
        }
    }

    fn take_join_waiter(&mut self, id: &StrBytes) -> Option<JoinWaiter> {
        let waiter = self.members.get_mut(id)?.awaiting_join.take()?;
        self.awaiting_join -= 1;
        Some(waiter)
    }

    /// Answers a waiting JoinGroup: with the generation, or with `error`.
    pub(super) fn reply_join(&mut self, id: &StrBytes, error: ErrorCode, effects: &mut Effects) {
        let Some(waiter) = self.take_join_waiter(id) else { return };
        let response = if error == ErrorCode::None {
            self.join_response(id)
        } else {
            let forget_id = error == ErrorCode::UnknownMemberId;
            join_error(error, if forget_id { StrBytes::default() } else { id.clone() })
        };
        effects.reply_join(waiter, response);
    }

    /// Answers a waiting JoinGroup with `response`.
    pub(super) fn reply_join_with(
        &mut self,
        id: &StrBytes,
        response: JoinGroupResponse,
        effects: &mut Effects,
    ) {
        if let Some(waiter) = self.take_join_waiter(id) {
            effects.reply_join(waiter, response);
        }
    }

    /// Answers a waiting SyncGroup: with the member's assignment, or with `error`. True if one waited.
    pub(super) fn reply_sync(
        &mut self,
        id: &StrBytes,
        error: ErrorCode,
        effects: &mut Effects,
    ) -> bool {
        let Some(member) = self.members.get_mut(id) else { return false };
        let Some(token) = member.awaiting_sync.take() else { return false };
        let response = if error == ErrorCode::None {
            self.sync_response(id)
        } else {
            message!(SyncGroupResponse { error_code: error.code() })
        };
        effects.replies.push((token, Reply::Sync(response)));
        true
    }

    /// Answers everyone who waits with `error`.
    pub(super) fn fail_waiting(&mut self, error: ErrorCode, effects: &mut Effects) {
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            self.reply_join(&id, error, effects);
            self.reply_sync(&id, error, effects);
        }
    }

    /// What a member learns of this generation; only the leader learns who else is in it.
    pub(super) fn join_response(&self, id: &StrBytes) -> JoinGroupResponse {
        message!(JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.clone(),
            members: if self.is_leader(id) { self.subscriptions() } else { Vec::new() },
        })
    }

    fn subscriptions(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.clone().unwrap_or_default();
        let member = |member: &Member| {
            message!(JoinGroupResponseMember {
                member_id: member.id.clone(),
                group_instance_id: member.instance_id.clone(),
                metadata: member.subscription.metadata(&protocol),
            })
        };
        self.members.values().map(member).collect()
    }

    pub(super) fn sync_response(&self, id: &StrBytes) -> SyncGroupResponse {
        message!(SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: self.members.get(id).map(|it| it.assignment.clone()).unwrap_or_default(),
        })
    }

    /// The group's record, with these assignments; with those the members have if `None`.
    pub(super) fn record(
        &self,
        assignment: Option<&BTreeMap<StrBytes, Bytes>>,
    ) -> CoordinatorRecord {
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = self.members.values().map(|member| {
            let assignment = match assignment {
                Some(assignment) => assignment.get(&member.id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            };
            member.metadata(&protocol, assignment)
        });
        CoordinatorRecord::GroupMetadata {
            key: GroupMetadataKey { group: self.id.clone() },
            value: Some(GroupMetadataValue {
                protocol_type: self.protocol_type.clone().unwrap_or_default(),
                generation: self.generation,
                protocol: self.protocol.clone(),
                leader: self.leader.clone(),
                current_state_timestamp: self.state_since,
                members: members.collect(),
            }),
        }
    }
}

/// A JoinGroup answer that only says what is wrong.
pub(super) fn join_error(error: ErrorCode, member_id: StrBytes) -> JoinGroupResponse {
    message!(JoinGroupResponse {
        error_code: error.code(),
        protocol_name: None,
        member_id: member_id,
    })
}

impl Effects {
    /// Answers a JoinGroup. Before version 7 the protocol name could not be null (KIP-559).
    pub(super) fn reply_join(&mut self, waiter: JoinWaiter, mut response: JoinGroupResponse) {
        if waiter.api_version < 7 {
            response.protocol_name.get_or_insert_with(StrBytes::default);
        }
        self.replies.push((waiter.token, Reply::Join(response)));
    }
}

/// The topics of a ConsumerProtocolSubscription, whose first field they are in every version.
fn decode_topics(metadata: Bytes) -> Option<Vec<StrBytes>> {
    let mut input = Decoder::new(metadata, DecodeLimits::default()).ok()?;
    let version = input.read_i16().ok()?;
    let count = input.read_array_len().ok()?;
    let topics = input.read_vec(count, Decoder::read_string).ok()?;
    (version >= 0).then_some(topics)
}
