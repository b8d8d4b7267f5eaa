//! DeleteGroups: empty groups and what they committed (KIP-229).

use std::sync::Arc;

use ottla_protocol::messages::delete_groups_response::DeletableGroupResult;
use ottla_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::Answer;
use crate::broker::Broker;
use crate::coordinator_host::Decided;

pub(super) fn handle(broker: &Arc<Broker>, request: &DeleteGroupsRequest) -> Answer {
    let partitions = broker.offsets_partitions();
    let mut results = Vec::new();
    let mut pending = Vec::new();
    for group_id in &request.groups_names {
        let deleted = broker.groups().decide(partitions, group_id, |coordinator, _| {
            coordinator.delete_groups(std::slice::from_ref(group_id))
        });
        match deleted {
            Ok(Decided { answer, committing }) => {
                results.extend(answer.into_iter().map(explained));
                pending.extend(committing);
            }
            Err(error) => results.push(refuse(group_id, error)),
        }
    }
    let response = message!(DeleteGroupsResponse { results: results });
    let groups = request.groups_names.clone();
    super::once_committed(pending, response, move |error| {
        let results = groups.iter().map(|group_id| refuse(group_id, error));
        message!(DeleteGroupsResponse { results: results.collect() })
    })
}

fn refuse(group_id: &StrBytes, error: ErrorCode) -> DeletableGroupResult {
    explained(message!(DeletableGroupResult {
        group_id: group_id.clone(),
        error_code: error.code(),
    }))
}

/// With the words of its error, which clients are told from version 3 on.
fn explained(mut result: DeletableGroupResult) -> DeletableGroupResult {
    let error = ErrorCode::from_wire(result.error_code);
    result.error_message = (!error.is_none()).then(|| StrBytes::from(error.message()));
    result
}
