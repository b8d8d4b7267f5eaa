//! ListGroups: the groups that this broker coordinates (KIP-518, KIP-848).

use std::sync::Arc;

use ottla_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use ottla_protocol::{ErrorCode, message};

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: &ListGroupsRequest) -> Answer {
    let listed = broker.groups().look_at_all(|coordinator| coordinator.list_groups(request));
    let refuse = |error: ErrorCode| message!(ListGroupsResponse { error_code: error.code() });
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) => return Answer::now(refuse(error)),
    };
    let mut pending = Vec::new();
    let groups = listed.into_iter().flat_map(|shard| {
        pending.extend(shard.committing);
        shard.answer
    });
    let response = message!(ListGroupsResponse { groups: groups.collect() });
    super::once_committed(pending, response, refuse)
}
