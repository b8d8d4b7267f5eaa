//! FindCoordinator: which broker coordinates a group (KIP-699: several at once).

use std::sync::Arc;

use ottla_coordinator::records::partition_for;
use ottla_protocol::messages::find_coordinator_response::Coordinator;
use ottla_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use ottla_protocol::topic_name::GROUP_METADATA_TOPIC;
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::{Answer, RequestContext, endpoint};
use crate::broker::Broker;

/// From this version on a request names several keys.
const FIRST_VERSION_WITH_KEYS: i16 = 4;
/// `key_type`: a consumer group.
const GROUP: i8 = 0;
/// `key_type`: a transactional id.
const TRANSACTION: i8 = 1;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> Answer {
    let exists = broker.image().topic(GROUP_METADATA_TOPIC).is_some();
    if exists || request.key_type != GROUP {
        return Answer::now(answer(broker, context, &request));
    }
    let (broker, context) = (Arc::clone(broker), context.clone());
    Answer::held(async move {
        let offsets = vec![StrBytes::from(GROUP_METADATA_TOPIC)];
        broker.auto_create_topics(offsets).await;
        answer(&broker, &context, &request)
    })
}

fn answer(
    broker: &Broker,
    context: &RequestContext,
    request: &FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let listener = &context.connection.listener;
    if context.version() >= FIRST_VERSION_WITH_KEYS {
        let keys = request.coordinator_keys.iter();
        let found = keys.map(|key| find(broker, listener, request.key_type, key));
        return message!(FindCoordinatorResponse { coordinators: found.collect() });
    }
    let found = find(broker, listener, request.key_type, &request.key);
    message!(FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
    })
}

fn find(broker: &Broker, listener: &str, key_type: i8, key: &StrBytes) -> Coordinator {
    let refused = |error: ErrorCode, reason: &str| {
        message!(Coordinator {
            key: key.clone(),
            node_id: -1,
            port: -1,
            error_code: error.code(),
            error_message: Some(StrBytes::from(reason)),
        })
    };
    match key_type {
        GROUP => {}
        // A code that no client tries again: there is nothing to wait for.
        TRANSACTION => {
            return refused(ErrorCode::UnsupportedVersion, "transactions are not served yet");
        }
        _ => return refused(ErrorCode::InvalidRequest, "the key type is not known"),
    }
    let image = broker.image();
    let partition = partition_for(key, broker.offsets_partitions());
    let leader = image.partition(GROUP_METADATA_TOPIC, partition).and_then(|it| it.leader);
    let node = leader.and_then(|id| endpoint(image.broker(id)?, listener));
    match node {
        Some(node) => message!(Coordinator {
            key: key.clone(),
            node_id: node.node_id.0,
            host: node.host,
            port: node.port,
        }),
        None => refused(
            ErrorCode::CoordinatorNotAvailable,
            "the partition of __consumer_offsets has no leader",
        ),
    }
}
