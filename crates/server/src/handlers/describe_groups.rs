//! DescribeGroups: members, their assignments, and the state of groups.

use std::sync::Arc;

use ottla_protocol::message;
use ottla_protocol::messages::describe_groups_response::DescribedGroup;
use ottla_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

use super::{Answer, RequestContext, authorized_operations};
use crate::broker::Broker;

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
    let partitions = broker.offsets_partitions();
    let groups = request.groups.iter().map(|group_id| {
        let described = broker.groups().look(partitions, group_id, |coordinator, _| {
            coordinator.describe_group(group_id, context.version())
        });
        let mut group = described.unwrap_or_else(|error| {
            message!(DescribedGroup { error_code: error.code(), group_id: group_id.clone() })
        });
        group.authorized_operations = operations;
        group
    });
    Answer::now(message!(DescribeGroupsResponse { groups: groups.collect() }))
}
