//! Heartbeat: a member lives, and learns whether it must rejoin.

use ottla_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use ottla_protocol::{ErrorCode, message};

use super::classic_group::{ClassicGroup, GroupState};
use super::rebalance::Turn;
use super::{GroupCoordinator, Now};

impl GroupCoordinator {
    /// Prolongs a member's session.
    pub fn heartbeat(&mut self, now: Now, request: &HeartbeatRequest) -> HeartbeatResponse {
        let Self { config, soft, .. } = self;
        let error = if request.group_id.is_empty() {
            ErrorCode::InvalidGroupId
        } else {
            match soft.groups.get(&request.group_id) {
                None => ErrorCode::UnknownMemberId,
                Some(group) => match check_heartbeat(group, request) {
                    Err(error) => error,
                    Ok(()) => {
                        Turn::new(now, config, &mut soft.timers, &mut soft.appends)
                            .heard_from(group, &request.member_id);
                        answer(group.state())
                    }
                },
            }
        };
        message!(HeartbeatResponse { error_code: error.code() })
    }
}

fn check_heartbeat(group: &ClassicGroup, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
    group.check_member(&request.member_id, request.group_instance_id.as_ref())?;
    if request.generation_id == group.generation() {
        Ok(())
    } else {
        Err(ErrorCode::IllegalGeneration)
    }
}

fn answer(state: GroupState) -> ErrorCode {
    match state {
        GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
        GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::None,
        GroupState::Empty => ErrorCode::UnknownMemberId,
    }
}
