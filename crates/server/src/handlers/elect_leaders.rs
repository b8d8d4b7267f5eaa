//! ElectLeaders: decided by the controller (KIP-183, KIP-460).

use std::sync::Arc;

use ottla_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use ottla_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use ottla_protocol::{StrBytes, message};

use super::Answer;
use crate::controller_host::{ControllerError, ControllerHost};

pub(super) fn handle(host: &Arc<ControllerHost>, request: ElectLeadersRequest) -> Answer {
    let host = Arc::clone(host);
    Answer::held(async move {
        let decided = host.decide(|controller, _| controller.elect_leaders(&request));
        decided.await.unwrap_or_else(|error| refuse(&request, &error))
    })
}

/// Version 0 has no place for an error of the whole, so each partition has it.
fn refuse(request: &ElectLeadersRequest, error: &ControllerError) -> ElectLeadersResponse {
    let (code, words) = (error.error_code().code(), StrBytes::from(error.to_string()));
    let topics = request.topic_partitions.iter().flatten().map(|topic| {
        let refused = topic.partitions.iter().map(|partition| {
            message!(PartitionResult {
                partition_id: *partition,
                error_code: code,
                error_message: Some(words.clone()),
            })
        });
        message!(ReplicaElectionResult {
            topic: topic.topic.clone(),
            partition_result: refused.collect(),
        })
    });
    message!(ElectLeadersResponse { error_code: code, replica_election_results: topics.collect() })
}
