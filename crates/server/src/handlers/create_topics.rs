//! CreateTopics: decided by the controller (KIP-4).

use std::sync::Arc;

use ottla_protocol::messages::create_topics_response::CreatableTopicResult;
use ottla_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use ottla_protocol::{StrBytes, message};

use super::{Answer, RequestContext};
use crate::controller_host::ControllerHost;
use crate::quotas::milliseconds_of;

/// The first version in which a client is told that it is over its quota (KIP-599).
const FIRST_VERSION_WITH_QUOTA: i16 = 6;

pub(super) fn handle(
    host: &Arc<ControllerHost>,
    context: &RequestContext,
    request: CreateTopicsRequest,
) -> Answer {
    let host = Arc::clone(host);
    let mut quota = context.mutation_quota(&host, FIRST_VERSION_WITH_QUOTA);
    Answer::held(async move {
        let decided = host.decide_logs(|controller, random| {
            controller.create_topics(&request, random, &mut |partitions| quota.take(partitions))
        });
        let decided = decided.await;
        let mut response = decided.unwrap_or_else(|error| {
            let refused = request.topics.iter().map(|topic| {
                message!(CreatableTopicResult {
                    name: topic.name.clone(),
                    error_code: error.error_code().code(),
                    error_message: Some(StrBytes::from(error.to_string())),
                })
            });
            message!(CreateTopicsResponse { topics: refused.collect() })
        });
        response.throttle_time_ms = milliseconds_of(quota.throttle());
        response
    })
}
