//! LeaveGroup: members go, or an operator takes static members out by instance id (KIP-345).

use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::leave_group_response::MemberResponse;
use ottla_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::classic_group::{ClassicGroup, GroupState};
use super::rebalance::Turn;
use super::{Effects, GroupCoordinator, Now, Reply, ReplyToken};

/// From this version on a request names several members, and each has its own answer.
const FIRST_VERSION_WITH_MEMBERS: i16 = 3;

impl GroupCoordinator {
    /// Takes members out of a group. The reply is among the effects.
    pub fn leave_group(
        &mut self,
        now: Now,
        api_version: i16,
        request: &LeaveGroupRequest,
        token: ReplyToken,
    ) -> Effects {
        let identities = if api_version < FIRST_VERSION_WITH_MEMBERS {
            vec![message!(MemberIdentity { member_id: request.member_id.clone() })]
        } else {
            request.members.clone()
        };
        let Self { config, soft, .. } = self;
        let mut turn = Turn::new(now, config, &mut soft.timers, &mut soft.appends);
        let response = if request.group_id.is_empty() {
            message!(LeaveGroupResponse { error_code: ErrorCode::InvalidGroupId.code() })
        } else {
            let members = match soft.groups.get_mut(&request.group_id) {
                Some(group) => turn.leave(group, &identities),
                None => {
                    identities.iter().map(|it| answer(it, ErrorCode::UnknownMemberId)).collect()
                }
            };
            message!(LeaveGroupResponse { members: members })
        };
        let response = for_version(response, api_version);
        turn.effects.replies.push((token, Reply::Leave(response)));
        let effects = turn.effects;
        self.release_if_stored(&request.group_id);
        effects
    }
}

/// Before version 3 the one member's error is the response's.
fn for_version(response: LeaveGroupResponse, api_version: i16) -> LeaveGroupResponse {
    if api_version >= FIRST_VERSION_WITH_MEMBERS {
        return response;
    }
    let member_error = response.members.first().map_or(0, |member| member.error_code);
    let error_code = if response.error_code == 0 { member_error } else { response.error_code };
    message!(LeaveGroupResponse { error_code: error_code })
}

fn answer(identity: &MemberIdentity, error: ErrorCode) -> MemberResponse {
    message!(MemberResponse {
        member_id: identity.member_id.clone(),
        group_instance_id: identity.group_instance_id.clone(),
        error_code: error.code(),
    })
}

/// The member that an identity means, if it may leave.
fn leaving_member(group: &ClassicGroup, identity: &MemberIdentity) -> Result<StrBytes, ErrorCode> {
    let instance = identity.group_instance_id.as_ref();
    if identity.member_id.is_empty() {
        let current = instance.and_then(|instance| group.static_member_id(instance));
        return current.cloned().ok_or(ErrorCode::UnknownMemberId);
    }
    if !group.is_pending(&identity.member_id) {
        group.check_member(&identity.member_id, instance)?;
    }
    Ok(identity.member_id.clone())
}

impl Turn<'_> {
    fn leave(
        &mut self,
        group: &mut ClassicGroup,
        identities: &[MemberIdentity],
    ) -> Vec<MemberResponse> {
        let mut member_left = false;
        let mut answers = Vec::with_capacity(identities.len());
        for identity in identities {
            let error = match leaving_member(group, identity) {
                Err(error) => error,
                Ok(member) => {
                    member_left |= group.member(&member).is_some();
                    self.remove_member(group, &member);
                    ErrorCode::None
                }
            };
            answers.push(answer(identity, error));
        }
        match group.state() {
            // That a pending member will not come changes nothing for the others.
            GroupState::Stable | GroupState::CompletingRebalance if member_left => {
                self.rebalance(group);
            }
            GroupState::PreparingRebalance => self.complete_join_if_ready(group),
            GroupState::Stable | GroupState::CompletingRebalance | GroupState::Empty => {}
        }
        answers
    }
}
