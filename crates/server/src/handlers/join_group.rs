//! JoinGroup: a member joins or rejoins; the answer waits until the group is complete.

use std::sync::Arc;

use ottla_coordinator::group::Reply;
use ottla_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::{Answer, RequestContext};
use crate::broker::Broker;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: &JoinGroupRequest,
) -> Answer {
    let member_uuid = broker.env().rng.next_u128();
    let host = context.client_host();
    let asked = broker.groups().ask(
        broker.offsets_partitions(),
        &request.group_id,
        |coordinator, now, token| {
            coordinator.join_group(now, &context.of_group(&host), request, member_uuid, token)
        },
    );
    let member_id = request.member_id.clone();
    super::group_reply(
        asked,
        |reply| match reply {
            Reply::Join(response) => Some(response),
            Reply::Sync(_) | Reply::Leave(_) => None,
        },
        move |error| refused(error, member_id),
    )
}

fn refused(error: ErrorCode, member_id: StrBytes) -> JoinGroupResponse {
    message!(JoinGroupResponse {
        error_code: error.code(),
        generation_id: -1,
        protocol_name: Some(StrBytes::default()),
        member_id: member_id,
    })
}
