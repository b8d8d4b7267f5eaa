//! LeaveGroup: members go, by id or by instance (KIP-345).

use std::sync::Arc;

use ottla_coordinator::group::Reply;
use ottla_protocol::message;
use ottla_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::{Answer, RequestContext};
use crate::broker::Broker;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: &LeaveGroupRequest,
) -> Answer {
    let asked = broker.groups().ask(
        broker.offsets_partitions(),
        &request.group_id,
        |coordinator, now, token| coordinator.leave_group(now, context.version(), request, token),
    );
    super::group_reply(
        asked,
        |reply| match reply {
            Reply::Leave(response) => Some(response),
            Reply::Join(_) | Reply::Sync(_) => None,
        },
        |error| message!(LeaveGroupResponse { error_code: error.code() }),
    )
}
