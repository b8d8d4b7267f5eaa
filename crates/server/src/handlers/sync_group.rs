//! SyncGroup: the leader hands out assignments, every member gets its own.

use std::sync::Arc;

use ottla_coordinator::group::Reply;
use ottla_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use ottla_protocol::{ErrorCode, message};

use super::{Answer, RequestContext};
use crate::broker::Broker;

/// From this version on a member says which protocol it believes was chosen (KIP-559).
const FIRST_VERSION_WITH_PROTOCOL: i16 = 5;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: &SyncGroupRequest,
) -> Answer {
    let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if context.version() >= FIRST_VERSION_WITH_PROTOCOL && !says_protocol {
        let error_code = ErrorCode::InconsistentGroupProtocol.code();
        return Answer::now(message!(SyncGroupResponse { error_code: error_code }));
    }
    let asked = broker.groups().ask(
        broker.offsets_partitions(),
        &request.group_id,
        |coordinator, now, token| coordinator.sync_group(now, request, token),
    );
    super::group_reply(
        asked,
        |reply| match reply {
            Reply::Sync(response) => Some(response),
            Reply::Join(_) | Reply::Leave(_) => None,
        },
        |error| message!(SyncGroupResponse { error_code: error.code() }),
    )
}
