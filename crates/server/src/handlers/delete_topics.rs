//! DeleteTopics: decided by the controller.

use std::sync::Arc;

use ottla_protocol::messages::delete_topics_response::DeletableTopicResult;
use ottla_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_protocol::{StrBytes, TopicId, message};

use super::{Answer, RequestContext};
use crate::controller_host::ControllerHost;
use crate::quotas::milliseconds_of;

/// The first version in which a client is told that it is over its quota (KIP-599).
const FIRST_VERSION_WITH_QUOTA: i16 = 5;

pub(super) fn handle(
    host: &Arc<ControllerHost>,
    context: &RequestContext,
    request: DeleteTopicsRequest,
) -> Answer {
    let host = Arc::clone(host);
    let mut quota = context.mutation_quota(&host, FIRST_VERSION_WITH_QUOTA);
    Answer::held(async move {
        let decided = host.decide(|controller, _| {
            controller.delete_topics(&request, &mut |partitions| quota.take(partitions))
        });
        let decided = decided.await;
        let mut response = decided.unwrap_or_else(|error| {
            let by_name =
                request.topic_names.iter().map(|name| (Some(name.clone()), TopicId::ZERO));
            let by_either = request.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id));
            let refused = by_name.chain(by_either).map(|(name, topic_id)| {
                message!(DeletableTopicResult {
                    name: name,
                    topic_id: topic_id,
                    error_code: error.error_code().code(),
                    error_message: Some(StrBytes::from(error.to_string())),
                })
            });
            message!(DeleteTopicsResponse { responses: refused.collect() })
        });
        response.throttle_time_ms = milliseconds_of(quota.throttle());
        response
    })
}
