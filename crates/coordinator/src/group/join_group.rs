//! JoinGroup: entering a rebalance, or being told that none is needed.

use std::collections::BTreeSet;

use bytes::Bytes;
use ottla_protocol::messages::JoinGroupRequest;
use ottla_protocol::{ErrorCode, StrBytes};

use super::classic_group::{ClassicGroup, GroupState, join_error};
use super::member::{JoinWaiter, Member, Subscription};
use super::rebalance::{Continuation, Turn, millis};
use super::{
    Effects, GroupCoordinator, GroupCoordinatorConfig, Now, ReplyToken, RequestContext, detached,
};

/// From this version on a new member first gets an id, and joins with it (KIP-394).
const FIRST_VERSION_WITH_KNOWN_MEMBER_ID: i16 = 4;
/// From this version on a leader can be told not to compute an assignment (KIP-814).
const FIRST_VERSION_WITH_SKIP_ASSIGNMENT: i16 = 9;
/// Characters of "-" and a UUID behind a client id or an instance id.
const MEMBER_ID_SUFFIX: usize = 37;
/// Strings of the record format have 16 bit lengths.
const MAX_STRING: usize = i16::MAX as usize;

/// A JoinGroup on its way through the group.
struct Joiner<'a> {
    context: &'a RequestContext<'a>,
    request: &'a JoinGroupRequest,
    subscription: Subscription,
    protocol_type: StrBytes,
    instance: Option<StrBytes>,
    waiter: JoinWaiter,
}

/// A static member that came back under a new id, until that is written (KIP-345).
#[derive(Clone, Debug)]
pub(super) struct StaticMemberReplaced {
    pub(super) group: StrBytes,
    old_id: StrBytes,
    new_id: StrBytes,
    old_subscription: Option<Subscription>,
    old_leader: Option<StrBytes>,
    api_version: i16,
}

impl GroupCoordinator {
    /// A member joins: new, with the id it was given, or again.
    ///
    /// `member_uuid` are random bits for the id of a new member. The reply comes at once, or when the rebalance has
    /// all its members.
    pub fn join_group(
        &mut self,
        now: Now,
        context: &RequestContext<'_>,
        request: &JoinGroupRequest,
        member_uuid: u128,
        token: ReplyToken,
    ) -> Effects {
        let waiter = JoinWaiter { token, api_version: context.api_version };
        let exists = self.soft.groups.contains_key(&request.group_id)
            || self.store.get(&request.group_id).is_some();
        if let Err((error, member_id)) = check_join(&self.config, context, request, exists) {
            let mut effects = Effects::default();
            effects.reply_join(waiter, join_error(error, member_id));
            return effects;
        }
        let group_id = detached(&request.group_id);
        let Self { config, store, soft } = self;
        let group =
            soft.groups.entry(group_id.clone()).or_insert_with(|| match store.get(&group_id) {
                Some(stored) => ClassicGroup::stored(group_id.clone(), stored),
                None => ClassicGroup::created(group_id.clone(), now.wall),
            });
        let mut turn = Turn::new(now, config, &mut soft.timers, &mut soft.appends);
        let joiner = Joiner {
            context,
            request,
            subscription: subscription(request),
            protocol_type: detached(&request.protocol_type),
            instance: request.group_instance_id.as_ref().map(detached),
            waiter,
        };
        turn.join(group, joiner, member_uuid);
        if !exists && group.members().len() + group.pending_members().len() > 0 {
            let joiner = group.members().next().map(|member| member.id.clone());
            let then = Continuation::GroupCreated { group: group_id.clone(), joiner };
            turn.append(ClassicGroup::created(group_id.clone(), now.wall).record(None), then);
        }
        let effects = turn.effects;
        self.release_if_stored(&group_id);
        effects
    }
}

/// What can be refused without looking at the group. Answers the error and the member id to send with it.
fn check_join(
    config: &GroupCoordinatorConfig,
    context: &RequestContext<'_>,
    request: &JoinGroupRequest,
    exists: bool,
) -> Result<(), (ErrorCode, StrBytes)> {
    let refuse = |error| Err((error, request.member_id.clone()));
    if request.group_id.is_empty() || request.group_id.len() > MAX_STRING {
        return refuse(ErrorCode::InvalidGroupId);
    }
    let session_timeout = millis(request.session_timeout_ms);
    if !(config.min_session_timeout..=config.max_session_timeout).contains(&session_timeout) {
        return refuse(ErrorCode::InvalidSessionTimeout);
    }
    let instance = request.group_instance_id.as_ref().map_or(0, |instance| instance.len());
    let longest_id = context.client_id.len().max(instance) + MEMBER_ID_SUFFIX;
    let longest_name = request.protocols.iter().map(|protocol| protocol.name.len()).max();
    let lengths = [longest_id, longest_name.unwrap_or(0), request.protocol_type.len()];
    if lengths.iter().any(|length| *length > MAX_STRING) {
        return refuse(ErrorCode::InvalidRequest);
    }
    if !exists && !request.member_id.is_empty() {
        return refuse(ErrorCode::UnknownMemberId);
    }
    Ok(())
}

fn subscription(request: &JoinGroupRequest) -> Subscription {
    // A second one of the same name could never be chosen.
    let mut names = BTreeSet::new();
    let protocols = request.protocols.iter().filter(|protocol| names.insert(&protocol.name));
    Subscription {
        protocols: protocols
            .map(|it| (detached(&it.name), Bytes::copy_from_slice(&it.metadata)))
            .collect(),
        // Version 0 has no rebalance timeout.
        rebalance_timeout_ms: if request.rebalance_timeout_ms < 0 {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms
        },
        session_timeout_ms: request.session_timeout_ms,
    }
}

impl Turn<'_> {
    fn join(&mut self, group: &mut ClassicGroup, joiner: Joiner<'_>, member_uuid: u128) {
        let id = &joiner.request.member_id;
        let waiter = joiner.waiter;
        if !self.has_room(group, id) {
            let response = join_error(ErrorCode::GroupMaxSizeReached, StrBytes::default());
            self.effects.reply_join(waiter, response);
            self.remove_member(group, id);
            self.complete_join_if_ready(group);
        } else if !group.supports(&joiner.protocol_type, &joiner.subscription.protocols) {
            let response = join_error(ErrorCode::InconsistentGroupProtocol, id.clone());
            self.effects.reply_join(waiter, response);
        } else if id.is_empty() {
            let prefix = joiner.instance.as_deref().unwrap_or(joiner.context.client_id);
            let id = member_id(prefix, member_uuid);
            self.join_new(group, joiner, id);
        } else if group.is_pending(id) && joiner.instance.is_none() {
            let id = detached(id);
            self.add_member(group, joiner, id);
        } else if let Err(error) = group.check_member(id, joiner.instance.as_ref()) {
            self.effects.reply_join(waiter, join_error(error, id.clone()));
        } else {
            self.join_again(group, joiner);
        }
    }

    /// `group.max.size` (KIP-389). Whoever takes part in a rebalance keeps the place.
    fn has_room(&self, group: &ClassicGroup, id: &StrBytes) -> bool {
        let max = self.config.max_size;
        let member = group.member(id);
        match group.state() {
            GroupState::Empty => true,
            GroupState::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || group.awaiting_join() < max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                member.is_some() || group.members().len() < max
            }
        }
    }

    fn join_new(&mut self, group: &mut ClassicGroup, joiner: Joiner<'_>, id: StrBytes) {
        let current = joiner.instance.as_ref().and_then(|it| group.static_member_id(it)).cloned();
        if let Some(current) = current {
            self.replace_static_member(group, joiner, current, id);
        } else if joiner.instance.is_none()
            && joiner.waiter.api_version >= FIRST_VERSION_WITH_KNOWN_MEMBER_ID
        {
            if group.pending_members().len() >= self.config.max_size {
                // Ids that nobody comes back for must not fill the memory.
                let response = join_error(ErrorCode::GroupMaxSizeReached, StrBytes::default());
                return self.effects.reply_join(joiner.waiter, response);
            }
            group.add_pending(id.clone());
            let timeout = millis(joiner.subscription.session_timeout_ms);
            self.schedule_session(group.id(), &id, timeout);
            let response = join_error(ErrorCode::MemberIdRequired, id);
            self.effects.reply_join(joiner.waiter, response);
        } else {
            self.add_member(group, joiner, id);
        }
    }

    fn add_member(&mut self, group: &mut ClassicGroup, joiner: Joiner<'_>, id: StrBytes) {
        let first_rebalance = group.state() == GroupState::PreparingRebalance
            && group.previous_state() == GroupState::Empty;
        group.new_member_added |= first_rebalance;
        let member = Member {
            id: id.clone(),
            instance_id: joiner.instance,
            client_id: StrBytes::from(joiner.context.client_id),
            client_host: StrBytes::from(joiner.context.client_host),
            subscription: joiner.subscription,
            assignment: Bytes::new(),
            is_new: true,
            awaiting_join: Some(joiner.waiter),
            awaiting_sync: None,
        };
        group.add(member, &joiner.protocol_type);
        self.schedule_session(group.id(), &id, GroupCoordinatorConfig::NEW_MEMBER_JOIN_TIMEOUT);
        self.rebalance(group);
    }

    /// A member joins that is one already. Unless that changes something it is told the generation it is in.
    fn join_again(&mut self, group: &mut ClassicGroup, joiner: Joiner<'_>) {
        let id = &joiner.request.member_id;
        let Some(member) = group.member(id) else { return };
        let unchanged = member.subscription.protocols == joiner.subscription.protocols;
        let told = match group.state() {
            GroupState::PreparingRebalance => false,
            GroupState::CompletingRebalance => unchanged,
            // A leader that rejoins wants a rebalance: its metadata may not show why.
            GroupState::Stable => unchanged && !group.is_leader(id),
            // Without members nobody gets here.
            GroupState::Empty => true,
        };
        if told {
            let response = group.join_response(id);
            self.effects.reply_join(joiner.waiter, response);
        } else {
            let id = id.clone();
            group.update_subscription(&id, joiner.subscription);
            group.await_join(&id, joiner.waiter, &mut self.effects);
            self.rebalance(group);
        }
    }
}

/// Static members that come back (KIP-345).
impl Turn<'_> {
    fn replace_static_member(
        &mut self,
        group: &mut ClassicGroup,
        joiner: Joiner<'_>,
        old_id: StrBytes,
        new_id: StrBytes,
    ) {
        let old_leader = group.leader().cloned();
        group.replace_static_member(&old_id, &new_id, &mut self.effects);
        self.cancel_session(group.id(), &old_id);
        self.heard_from(group, &new_id);
        let old_subscription = group.update_subscription(&new_id, joiner.subscription);
        group.await_join(&new_id, joiner.waiter, &mut self.effects);
        match group.state() {
            GroupState::Stable if group.select_protocol().as_ref() == group.protocol() => {
                let then = Continuation::StaticMemberReplaced(Box::new(StaticMemberReplaced {
                    group: group.id().clone(),
                    old_id,
                    new_id,
                    old_subscription,
                    old_leader,
                    api_version: joiner.waiter.api_version,
                }));
                self.append(group.record(None), then);
            }
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(group),
            GroupState::PreparingRebalance | GroupState::Empty => {
                self.complete_join_if_ready(group)
            }
        }
    }

    /// The new id is in the log, or could not be put there: then the old one holds again.
    pub(super) fn static_member_written(
        &mut self,
        group: &mut ClassicGroup,
        replaced: StaticMemberReplaced,
        error: Option<ErrorCode>,
    ) {
        let StaticMemberReplaced { old_id, new_id, old_subscription, old_leader, .. } = replaced;
        let waits = |member: &Member| member.awaiting_join.is_some();
        if group.state() != GroupState::Stable || !group.member(&new_id).is_some_and(waits) {
            // A rebalance began meanwhile: it answers.
            return;
        }
        let mut response = group.join_response(&new_id);
        if let Some(error) = error {
            response.error_code = error.code();
            response.member_id = StrBytes::default();
            response.members = Vec::new();
            response.leader = old_leader.unwrap_or_default();
            group.reply_join_with(&new_id, response, &mut self.effects);
            if let Some(old) = old_subscription {
                group.update_subscription(&new_id, old);
            }
            group.replace_static_member(&new_id, &old_id, &mut self.effects);
            self.cancel_session(group.id(), &new_id);
            self.heard_from(group, &old_id);
            return;
        }
        if replaced.api_version >= FIRST_VERSION_WITH_SKIP_ASSIGNMENT {
            // KIP-814: it leads, but the assignment stands.
            response.skip_assignment = group.is_leader(&new_id);
        } else {
            // An older client would compute an assignment if it found itself leader.
            response.members = Vec::new();
            response.leader = old_leader.unwrap_or_default();
        }
        group.reply_join_with(&new_id, response, &mut self.effects);
        self.heard_from(group, &new_id);
    }
}

/// `prefix-uuid`, the uuid a random one (RFC 9562 version 4) as Java prints it.
fn member_id(prefix: &str, random: u128) -> StrBytes {
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let parts: Vec<&str> = [0..8, 8..12, 12..16, 16..20, 20..32]
        .into_iter()
        .filter_map(|range| hex.get(range))
        .collect();
    StrBytes::from(format!("{prefix}-{}", parts.join("-")))
}
