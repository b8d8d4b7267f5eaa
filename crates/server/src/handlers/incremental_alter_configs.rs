//! IncrementalAlterConfigs: some keys of some resources, decided by the controller (KIP-339).

use std::sync::Arc;

use ottla_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use ottla_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::alter_configs::Division;
use super::{Answer, RequestContext};
use crate::broker::Broker;
use crate::controller_host::ControllerHost;

/// Answers what this broker can refuse by itself, and has the controller decide on the rest.
pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    mut request: IncrementalAlterConfigsRequest,
) -> Answer {
    let resources = std::mem::take(&mut request.resources);
    let named = |it: &AlterConfigsResource| (it.resource_type, it.resource_name.clone());
    let (division, passed_on) = Division::of(broker, resources, named, refuse);
    request.resources = passed_on;
    let (broker, context) = (Arc::clone(broker), context.clone());
    Answer::held(async move {
        let decided = broker.ask_controller(&context, &request).await;
        let mut response = decided
            .unwrap_or_else(|error| refuse_all(&request, error.error_code(), &error.to_string()));
        response.responses = division.put_together(response.responses);
        response
    })
}

/// Decides.
pub(super) fn decide(
    host: &Arc<ControllerHost>,
    request: IncrementalAlterConfigsRequest,
) -> Answer {
    let host = Arc::clone(host);
    Answer::held(async move {
        let decided =
            host.decide(|controller, _| controller.incremental_alter_configs(&request)).await;
        decided.unwrap_or_else(|error| refuse_all(&request, error.error_code(), &error.to_string()))
    })
}

fn refuse_all(
    request: &IncrementalAlterConfigsRequest,
    error: ErrorCode,
    reason: &str,
) -> IncrementalAlterConfigsResponse {
    let named = |it: &AlterConfigsResource| (it.resource_type, it.resource_name.clone());
    let refused = request.resources.iter().map(|it| refuse(named(it), error, reason));
    message!(IncrementalAlterConfigsResponse { responses: refused.collect() })
}

fn refuse(
    (resource_type, name): (i8, StrBytes),
    error: ErrorCode,
    reason: &str,
) -> AlterConfigsResourceResponse {
    message!(AlterConfigsResourceResponse {
        error_code: error.code(),
        error_message: Some(StrBytes::from(reason)),
        resource_type: resource_type,
        resource_name: name,
    })
}
