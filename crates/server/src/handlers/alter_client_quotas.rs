//! AlterClientQuotas: decided by the controller (KIP-546).

use std::sync::Arc;

use ottla_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use ottla_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use ottla_protocol::{StrBytes, message};

use super::Answer;
use crate::controller_host::ControllerHost;

pub(super) fn handle(host: &Arc<ControllerHost>, request: AlterClientQuotasRequest) -> Answer {
    let host = Arc::clone(host);
    Answer::held(async move {
        let decided = host.decide(|controller, _| controller.alter_client_quotas(&request));
        decided.await.unwrap_or_else(|error| {
            let refused = request.entries.iter().map(|entry| {
                let parts = entry.entity.iter().map(|part| {
                    message!(EntityData {
                        entity_type: part.entity_type.clone(),
                        entity_name: part.entity_name.clone(),
                    })
                });
                message!(EntryData {
                    error_code: error.error_code().code(),
                    error_message: Some(StrBytes::from(error.to_string())),
                    entity: parts.collect(),
                })
            });
            message!(AlterClientQuotasResponse { entries: refused.collect() })
        })
    })
}
