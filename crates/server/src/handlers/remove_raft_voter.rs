//! RemoveRaftVoter: a controller loses its vote (KIP-853).

use std::sync::Arc;

use ottla_protocol::messages::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::Answer;
use crate::controller_host::ControllerHost;

pub(super) fn handle(host: &Arc<ControllerHost>, request: RemoveRaftVoterRequest) -> Answer {
    let answer = |error: ErrorCode, reason: Option<String>| {
        let error_message = reason.map(StrBytes::from);
        message!(RemoveRaftVoterResponse { error_code: error.code(), error_message: error_message })
    };
    if !host.is_cluster(request.cluster_id.as_deref()) {
        return Answer::now(answer(ErrorCode::InconsistentClusterId, None));
    }
    let host = Arc::clone(host);
    Answer::held(async move {
        let quorum = host.quorum();
        match quorum.remove_voter(request.voter_id, request.voter_directory_id).await {
            Ok(()) => answer(ErrorCode::None, None),
            Err(reason) => answer(reason.error_code(), Some(reason.to_string())),
        }
    })
}
