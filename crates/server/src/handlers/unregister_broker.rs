//! UnregisterBroker: a broker that will not come back is forgotten, decided by the controller (KIP-631).

use std::sync::Arc;

use ottla_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use ottla_protocol::{BrokerId, ErrorCode, StrBytes, message};

use super::Answer;
use crate::controller_host::ControllerHost;

pub(super) fn handle(host: &Arc<ControllerHost>, request: &UnregisterBrokerRequest) -> Answer {
    let (host, id) = (Arc::clone(host), BrokerId(request.broker_id));
    Answer::held(async move {
        let decided = host.decide(|controller, _| controller.unregister_broker(id)).await;
        let (code, reason) = match decided {
            Ok(Ok(())) => (ErrorCode::None, None),
            Ok(Err(code)) => (code, Some(code.message().to_owned())),
            Err(error) => (error.error_code(), Some(error.to_string())),
        };
        message!(UnregisterBrokerResponse {
            error_code: code.code(),
            error_message: reason.map(StrBytes::from),
        })
    })
}
