//! IncrementalAlterConfigs: decided by the controller (KIP-339).

use std::sync::Arc;

use ottla_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use ottla_protocol::{StrBytes, message};

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: IncrementalAlterConfigsRequest) -> Answer {
    let broker = Arc::clone(broker);
    Answer::held(async move {
        let decided = broker
            .controller()
            .decide(|controller, _| controller.incremental_alter_configs(&request));
        decided.await.unwrap_or_else(|error| {
            let refused = request.resources.iter().map(|resource| {
                message!(AlterConfigsResourceResponse {
                    error_code: error.error_code().code(),
                    error_message: Some(StrBytes::from(error.to_string())),
                    resource_type: resource.resource_type,
                    resource_name: resource.resource_name.clone(),
                })
            });
            message!(IncrementalAlterConfigsResponse { responses: refused.collect() })
        })
    })
}
