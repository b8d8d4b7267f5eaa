//! DeleteTopics: decided by the controller.

use std::sync::Arc;

use ottla_protocol::messages::delete_topics_response::DeletableTopicResult;
use ottla_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_protocol::{StrBytes, TopicId, message};

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: DeleteTopicsRequest) -> Answer {
    let broker = Arc::clone(broker);
    Answer::held(async move {
        let decided =
            broker.controller().decide(|controller, _| controller.delete_topics(&request));
        decided.await.unwrap_or_else(|error| {
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
        })
    })
}
