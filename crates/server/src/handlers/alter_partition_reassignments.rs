//! AlterPartitionReassignments: decided by the controller (KIP-455, KIP-860).

use std::sync::Arc;

use ottla_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use ottla_protocol::{StrBytes, message};

use super::Answer;
use crate::controller_host::ControllerHost;

pub(super) fn handle(
    host: &Arc<ControllerHost>,
    request: AlterPartitionReassignmentsRequest,
) -> Answer {
    let host = Arc::clone(host);
    Answer::held(async move {
        let decided =
            host.decide(|controller, _| controller.alter_partition_reassignments(&request));
        decided.await.unwrap_or_else(|error| {
            message!(AlterPartitionReassignmentsResponse {
                allow_replication_factor_change: request.allow_replication_factor_change,
                error_code: error.error_code().code(),
                error_message: Some(StrBytes::from(error.to_string())),
            })
        })
    })
}
