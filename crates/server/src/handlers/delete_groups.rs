//! DeleteGroups: empty groups and what they committed (KIP-229).

use std::sync::Arc;

use ottla_protocol::message;
use ottla_protocol::messages::delete_groups_response::DeletableGroupResult;
use ottla_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: &DeleteGroupsRequest) -> Answer {
    let partitions = broker.offsets_partitions();
    let results = request.groups_names.iter().flat_map(|group_id| {
        let deleted = broker.groups().decide(partitions, group_id, |coordinator, _| {
            coordinator.delete_groups(std::slice::from_ref(group_id))
        });
        deleted.unwrap_or_else(|error| {
            vec![message!(DeletableGroupResult {
                group_id: group_id.clone(),
                error_code: error.code(),
            })]
        })
    });
    Answer::now(message!(DeleteGroupsResponse { results: results.collect() }))
}
