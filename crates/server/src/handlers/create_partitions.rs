//! CreatePartitions: decided by the controller (KIP-195).

use std::sync::Arc;

use ottla_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use ottla_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use ottla_protocol::{StrBytes, message};

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: CreatePartitionsRequest) -> Answer {
    let broker = Arc::clone(broker);
    Answer::held(async move {
        let decided =
            broker.decide_logs(|controller, random| controller.create_partitions(&request, random));
        decided.await.unwrap_or_else(|error| {
            let refused = request.topics.iter().map(|topic| {
                message!(CreatePartitionsTopicResult {
                    name: topic.name.clone(),
                    error_code: error.error_code().code(),
                    error_message: Some(StrBytes::from(error.to_string())),
                })
            });
            message!(CreatePartitionsResponse { results: refused.collect() })
        })
    })
}
