//! GetTelemetrySubscriptions: which metrics a client is to push, and how often (KIP-714).

use std::sync::Arc;

use ottla_protocol::compression::Compression;
use ottla_protocol::messages::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};
use ottla_protocol::{StrBytes, message};
use tracing::debug;

use super::{Answer, RequestContext};
use crate::broker::Broker;

/// What a push may be compressed with, the dearest to the broker first, as in Kafka. Not at all is always allowed.
const ACCEPTED: [Compression; 4] =
    [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: &GetTelemetrySubscriptionsRequest,
) -> Answer {
    let asked = request.client_instance_id;
    let client = (&*context.connection, context.client_id());
    let told = broker.telemetry().subscriptions(asked, client, broker.env());
    Answer::now(match told {
        Ok((client_instance_id, subscribed)) => message!(GetTelemetrySubscriptionsResponse {
            client_instance_id: client_instance_id,
            subscription_id: subscribed.id,
            accepted_compression_types: ACCEPTED.map(|codec| codec.id().cast_signed()).to_vec(),
            push_interval_ms: i32::try_from(subscribed.interval.as_millis()).unwrap_or(i32::MAX),
            telemetry_max_bytes: i32::try_from(broker.config().telemetry.max_bytes)
                .unwrap_or(i32::MAX),
            // What brokers are told adds up over all of them, whichever a client pushes to.
            delta_temporality: true,
            requested_metrics: subscribed.metrics.into_iter().map(StrBytes::from).collect(),
        }),
        Err(reason) => {
            debug!(peer = %context.connection.peer, %reason, "telemetry subscriptions are not told");
            message!(GetTelemetrySubscriptionsResponse { error_code: reason.code().code() })
        }
    })
}
