//! IncrementalAlterConfigs: of topics, decided by the controller (KIP-339).

use std::sync::Arc;

use ottla_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use ottla_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::Answer;
use crate::broker::Broker;

/// The wire's number for a broker.
const BROKER: i8 = 4;

pub(super) fn handle(broker: &Arc<Broker>, mut request: IncrementalAlterConfigsRequest) -> Answer {
    let (brokers, others): (Vec<_>, Vec<_>) =
        request.resources.drain(..).partition(|resource| resource.resource_type == BROKER);
    request.resources = others;
    // A change that nothing acts on before the next start would be a promise not kept.
    let reason = "the configuration of a broker cannot be changed while it runs: \
                  change its properties and restart it";
    let refused: Vec<_> =
        brokers.iter().map(|it| refuse(it, ErrorCode::InvalidRequest, reason)).collect();
    if request.resources.is_empty() {
        return Answer::now(message!(IncrementalAlterConfigsResponse { responses: refused }));
    }
    let broker = Arc::clone(broker);
    Answer::held(async move {
        let decided = broker
            .controller()
            .decide(|controller, _| controller.incremental_alter_configs(&request));
        let mut response = decided.await.unwrap_or_else(|error| {
            let reason = error.to_string();
            let topics = request.resources.iter();
            let refused = topics.map(|topic| refuse(topic, error.error_code(), &reason));
            message!(IncrementalAlterConfigsResponse { responses: refused.collect() })
        });
        response.responses.extend(refused);
        response
    })
}

fn refuse(
    resource: &AlterConfigsResource,
    error: ErrorCode,
    reason: &str,
) -> AlterConfigsResourceResponse {
    message!(AlterConfigsResourceResponse {
        error_code: error.code(),
        error_message: Some(StrBytes::from(reason)),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
    })
}
