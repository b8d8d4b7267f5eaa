//! SyncGroup: the leader hands out assignments, every member gets its own.

use std::sync::Arc;

use ottla_coordinator::group::Reply;
use ottla_protocol::message;
use ottla_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: &SyncGroupRequest) -> Answer {
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
