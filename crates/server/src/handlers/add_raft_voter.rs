//! AddRaftVoter: a controller that follows the metadata log gets a vote (KIP-853).

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::messages::{AddRaftVoterRequest, AddRaftVoterResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::Answer;
use crate::controller_host::ControllerHost;
use crate::quorum::Voter;

pub(super) fn handle(host: &Arc<ControllerHost>, request: AddRaftVoterRequest) -> Answer {
    if !host.is_cluster(request.cluster_id.as_deref()) {
        return Answer::now(refused(ErrorCode::InconsistentClusterId, None));
    }
    let Some(voter) = voter_of(&request) else {
        let reason = "a voter is reached at one listener, with a port";
        return Answer::now(refused(ErrorCode::InvalidRequest, Some(reason.to_owned())));
    };
    let host = Arc::clone(host);
    let limit = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    Answer::held(async move {
        match host.quorum().add_voter(voter, request.voter_directory_id, limit).await {
            Ok(()) => refused(ErrorCode::None, None),
            Err(reason) => refused(reason.error_code(), Some(reason.to_string())),
        }
    })
}

/// Where the voter is; of several listeners the first, as controllers listen in order of preference.
fn voter_of(request: &AddRaftVoterRequest) -> Option<Voter> {
    let listener = request.listeners.first().filter(|listener| listener.port > 0)?;
    let (host, port) = (listener.host.to_string(), listener.port);
    Some(Voter { node_id: request.voter_id, host, port })
}

fn refused(error: ErrorCode, reason: Option<String>) -> AddRaftVoterResponse {
    let error_message = reason.map(StrBytes::from);
    message!(AddRaftVoterResponse { error_code: error.code(), error_message: error_message })
}
