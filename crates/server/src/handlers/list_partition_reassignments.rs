//! ListPartitionReassignments: partitions on their way to other brokers (KIP-455).

use std::sync::Arc;

use ottla_protocol::messages::ListPartitionReassignmentsRequest;

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: &ListPartitionReassignmentsRequest) -> Answer {
    Answer::now(broker.image().partition_reassignments(request))
}
