//! ListGroups: the groups that this broker coordinates (KIP-518, KIP-848).

use std::sync::Arc;

use ottla_protocol::message;
use ottla_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: &ListGroupsRequest) -> Answer {
    let listed = broker.groups().look_at_all(|coordinator| coordinator.list_groups(request));
    Answer::now(match listed {
        Ok(groups) => {
            message!(ListGroupsResponse { groups: groups.into_iter().flatten().collect() })
        }
        Err(error) => message!(ListGroupsResponse { error_code: error.code() }),
    })
}
