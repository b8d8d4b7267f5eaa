//! PushTelemetry: what a client has measured (KIP-714).

use std::sync::Arc;

use ottla_protocol::message;
use ottla_protocol::messages::{PushTelemetryRequest, PushTelemetryResponse};
use ottla_telemetry::{TelemetryError, decode_push};
use tracing::debug;

use super::{Answer, RequestContext};
use crate::broker::Broker;
use crate::network::ConnectionContext;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: PushTelemetryRequest,
) -> Answer {
    let telemetry = Arc::clone(broker.telemetry());
    let client = (&*context.connection, context.client_id());
    let compression = match telemetry.check_push(&request, client, broker.env()) {
        Ok(compression) => compression,
        Err(reason) => return Answer::now(refused(&context.connection, &reason)),
    };
    let (env, connection) = (broker.env().clone(), Arc::clone(&context.connection));
    let max = broker.config().telemetry.max_bytes as usize;
    // To decompress and decode a megabyte takes milliseconds, for which others would wait.
    Answer::later(async move {
        let decoding = move || {
            let decode = || decode_push(compression, &request.metrics, max);
            let decoded = (!request.metrics.is_empty()).then(decode).transpose();
            telemetry.pushed(request.client_instance_id, decoded)
        };
        match env.run_blocking(decoding).await {
            Ok(()) => PushTelemetryResponse::default(),
            Err(reason) => refused(&connection, &reason),
        }
    })
}

fn refused(connection: &ConnectionContext, reason: &TelemetryError) -> PushTelemetryResponse {
    debug!(peer = %connection.peer, %reason, "a push of telemetry is refused");
    message!(PushTelemetryResponse { error_code: reason.code().code() })
}
