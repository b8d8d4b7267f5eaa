//! DescribeCluster: the brokers, for administrators (KIP-700, KIP-919).

use std::sync::Arc;

use ottla_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use ottla_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::{Answer, RequestContext, authorized_operations, endpoint};
use crate::broker::Broker;

/// `endpoint_type`: brokers. Controllers (2) answer on their own listeners, and those are not served yet.
const BROKERS: i8 = 1;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: &DescribeClusterRequest,
) -> Answer {
    if request.endpoint_type != BROKERS {
        return Answer::now(message!(DescribeClusterResponse {
            error_code: ErrorCode::MismatchedEndpointType.code(),
            error_message: Some(StrBytes::from(
                "this listener serves brokers: ask with endpoint type 1",
            )),
        }));
    }
    let image = broker.image();
    let shown = image.brokers().filter(|node| !node.fenced || request.include_fenced_brokers);
    let brokers = shown.filter_map(|node| {
        let address = endpoint(node, &context.connection.listener)?;
        Some(message!(DescribeClusterBroker {
            broker_id: node.id.0,
            host: address.host,
            port: address.port,
            rack: address.rack,
            is_fenced: node.fenced,
        }))
    });
    let operations = if request.include_cluster_authorized_operations {
        authorized_operations::CLUSTER
    } else {
        authorized_operations::NOT_ASKED
    };
    Answer::now(message!(DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: StrBytes::from(broker.cluster_id()),
        controller_id: broker.controller_id(),
        brokers: brokers.collect(),
        cluster_authorized_operations: operations,
    }))
}
