//! SyncGroup: the leader brings the assignment, everyone takes their part of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::classic_group::{ClassicGroup, GroupState};
use super::rebalance::{Continuation, Turn};
use super::{Effects, GroupCoordinator, Now, Reply, ReplyToken};

impl GroupCoordinator {
    /// A member asks for its assignment; the leader brings everyone's. The reply comes once it is written.
    pub fn sync_group(
        &mut self,
        now: Now,
        request: &SyncGroupRequest,
        token: ReplyToken,
    ) -> Effects {
        let Self { config, soft, .. } = self;
        let mut turn = Turn::new(now, config, &mut soft.timers, &mut soft.appends);
        let error = if request.group_id.is_empty() {
            ErrorCode::InvalidGroupId
        } else {
            match soft.groups.get_mut(&request.group_id) {
                None => ErrorCode::UnknownMemberId,
                Some(group) => match check_sync(group, request) {
                    Ok(()) => {
                        turn.sync(group, request, token);
                        return turn.effects;
                    }
                    Err(error) => error,
                },
            }
        };
        let response = message!(SyncGroupResponse { error_code: error.code() });
        turn.effects.replies.push((token, Reply::Sync(response)));
        turn.effects
    }
}

fn check_sync(group: &ClassicGroup, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
    // KIP-559: what the client believes the group agreed on, if it says so.
    let differs = |claimed: &Option<StrBytes>, agreed: Option<&StrBytes>| {
        claimed.as_ref().zip(agreed).is_some_and(|(claimed, agreed)| claimed != agreed)
    };
    group.check_member(&request.member_id, request.group_instance_id.as_ref())?;
    if request.generation_id != group.generation() {
        Err(ErrorCode::IllegalGeneration)
    } else if differs(&request.protocol_type, group.protocol_type())
        || differs(&request.protocol_name, group.protocol())
    {
        Err(ErrorCode::InconsistentGroupProtocol)
    } else if group.state() == GroupState::PreparingRebalance {
        Err(ErrorCode::RebalanceInProgress)
    } else {
        Ok(())
    }
}

impl Turn<'_> {
    /// For a member of the current generation, in CompletingRebalance or Stable.
    fn sync(&mut self, group: &mut ClassicGroup, request: &SyncGroupRequest, token: ReplyToken) {
        let id = &request.member_id;
        self.sync_received(group, id);
        if group.state() == GroupState::Stable {
            let response = group.sync_response(id);
            self.effects.replies.push((token, Reply::Sync(response)));
            return;
        }
        group.await_sync(id, token, &mut self.effects);
        if group.is_leader(id) {
            let assignment: BTreeMap<StrBytes, Bytes> = request
                .assignments
                .iter()
                .filter(|given| group.member(&given.member_id).is_some())
                .map(|given| (given.member_id.clone(), Bytes::copy_from_slice(&given.assignment)))
                .collect();
            let record = group.record(Some(&assignment));
            let then = Continuation::Assigned {
                group: group.id().clone(),
                generation: group.generation(),
                assignment,
            };
            self.append(record, then);
        }
    }
}
