//! InitProducerId: an id for an idempotent producer (KIP-98, KIP-360).

use std::sync::Arc;

use ottla_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_protocol::{ErrorCode, message};
use tracing::warn;

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: &InitProducerIdRequest) -> Answer {
    match &request.transactional_id {
        None => {}
        Some(id) if id.is_empty() => return Answer::now(refused(ErrorCode::InvalidRequest)),
        // A code that no client tries again: transactions are not served yet.
        Some(_) => return Answer::now(refused(ErrorCode::UnsupportedVersion)),
    }
    let broker = Arc::clone(broker);
    Answer::later(async move {
        // Whatever id a producer had (KIP-360), without a transactional id it simply gets a new one.
        match broker.next_producer_id().await {
            Ok(id) => message!(InitProducerIdResponse { producer_id: id.0, producer_epoch: 0 }),
            Err(error) => {
                warn!(%error, "could not get producer ids from the controller");
                refused(error)
            }
        }
    })
}

fn refused(error: ErrorCode) -> InitProducerIdResponse {
    message!(InitProducerIdResponse {
        error_code: error.code(),
        producer_id: -1,
        producer_epoch: -1,
    })
}
