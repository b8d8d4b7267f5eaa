//! CreateTopics: decided by the controller (KIP-4).

use std::sync::Arc;

use ottla_protocol::messages::create_topics_response::CreatableTopicResult;
use ottla_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use ottla_protocol::{StrBytes, message};

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: CreateTopicsRequest) -> Answer {
    let broker = Arc::clone(broker);
    Answer::held(async move {
        let decided =
            broker.decide_logs(|controller, random| controller.create_topics(&request, random));
        decided.await.unwrap_or_else(|error| {
            let refused = request.topics.iter().map(|topic| {
                message!(CreatableTopicResult {
                    name: topic.name.clone(),
                    error_code: error.error_code().code(),
                    error_message: Some(StrBytes::from(error.to_string())),
                })
            });
            message!(CreateTopicsResponse { topics: refused.collect() })
        })
    })
}
