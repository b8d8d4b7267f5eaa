//! DescribeGroups: members, their assignments, and the state of groups.

use std::sync::Arc;

use ottla_protocol::messages::describe_groups_response::DescribedGroup;
use ottla_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::{Answer, RequestContext, authorized_operations};
use crate::broker::Broker;
use crate::coordinator_host::Decided;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: &DescribeGroupsRequest,
) -> Answer {
    let operations = if request.include_authorized_operations {
        authorized_operations::GROUP
    } else {
        authorized_operations::NOT_ASKED
    };
    let mut pending = Vec::new();
    let groups = request.groups.iter().map(|group_id| {
        let described = broker.read_group(group_id, |coordinator| {
            coordinator.describe_group(group_id, context.version())
        });
        let mut group = match described {
            Ok(Decided { answer, committing }) => {
                pending.extend(committing);
                answer
            }
            Err(error) => refuse(group_id, error),
        };
        group.authorized_operations = operations;
        group
    });
    let response = message!(DescribeGroupsResponse { groups: groups.collect() });
    let asked = request.groups.clone();
    super::once_committed(pending, response, move |error| {
        let groups = asked.iter().map(|group_id| refuse(group_id, error));
        message!(DescribeGroupsResponse { groups: groups.collect() })
    })
}

fn refuse(group_id: &StrBytes, error: ErrorCode) -> DescribedGroup {
    message!(DescribedGroup { error_code: error.code(), group_id: group_id.clone() })
}
