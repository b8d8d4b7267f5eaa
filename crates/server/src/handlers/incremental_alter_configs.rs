//! IncrementalAlterConfigs: some keys of some resources, decided by the controller (KIP-339).

use std::sync::Arc;

use ottla_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use ottla_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::Answer;
use super::alter_configs::Division;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, mut request: IncrementalAlterConfigsRequest) -> Answer {
    let resources = std::mem::take(&mut request.resources);
    let named = |it: &AlterConfigsResource| (it.resource_type, it.resource_name.clone());
    let (division, passed_on) = Division::of(broker, resources, named, refuse);
    request.resources = passed_on;
    let broker = Arc::clone(broker);
    Answer::held(async move {
        let decided = broker
            .controller()
            .decide(|controller, _| controller.incremental_alter_configs(&request));
        let mut response = decided.await.unwrap_or_else(|error| {
            let reason = error.to_string();
            let passed_on = request.resources.iter();
            let refused = passed_on.map(|it| refuse(named(it), error.error_code(), &reason));
            message!(IncrementalAlterConfigsResponse { responses: refused.collect() })
        });
        response.responses = division.put_together(response.responses);
        response
    })
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
