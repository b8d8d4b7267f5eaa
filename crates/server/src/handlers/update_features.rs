//! UpdateFeatures: levels that the whole cluster runs with, decided by the controller (KIP-584, KIP-778).

use std::sync::Arc;

use ottla_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use ottla_protocol::{StrBytes, message};

use super::{Answer, RequestContext};
use crate::controller_host::ControllerHost;

pub(super) fn handle(
    host: &Arc<ControllerHost>,
    context: &RequestContext,
    request: UpdateFeaturesRequest,
) -> Answer {
    let (host, version) = (Arc::clone(host), context.version());
    Answer::held(async move {
        let decided = host.decide(|controller, _| controller.update_features(&request, version));
        decided.await.unwrap_or_else(|error| {
            message!(UpdateFeaturesResponse {
                error_code: error.error_code().code(),
                error_message: Some(StrBytes::from(error.to_string())),
            })
        })
    })
}
