//! Why telemetry is refused.

use ottla_protocol::{ErrorCode, Uuid, format_uuid};

/// Why a request is refused. A client goes on by the code alone: the responses carry no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// The id is one that no client instance has.
    #[error("{} is no client instance: an id is given by GetTelemetrySubscriptions", format_uuid(*.0))]
    NoInstance(Uuid),
    /// The client has said its last word.
    #[error("the client instance has pushed with Terminating before, and nothing may follow that")]
    Terminated,
    /// The time between two requests is not over.
    #[error("the request came before the push interval of {interval_ms} ms was over")]
    TooEarly {
        /// The interval that the client was told, in milliseconds.
        interval_ms: i32,
    },
    /// The client pushes by a subscription that is not its current one.
    #[error("the subscription is {current} by now, not {given}: it has to be asked for anew")]
    UnknownSubscription {
        /// By what it pushes.
        given: i32,
        /// What it should know.
        current: i32,
    },
    /// Kafka has no codec of this number.
    #[error("there is no compression type {0}")]
    UnsupportedCompression(i8),
    /// More than `telemetry.max.bytes`, as it was sent or decompressed.
    #[error("the metrics have more than telemetry.max.bytes={max}")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// The bytes do not decompress, or are no OTLP metrics.
    #[error("the metrics cannot be read: {0}")]
    Malformed(String),
}

impl TelemetryError {
    /// What the client is told. After INVALID_REQUEST and INVALID_RECORD a client pushes no more, after
    /// UNKNOWN_SUBSCRIPTION_ID and UNSUPPORTED_COMPRESSION_TYPE it asks anew at once, else after its interval.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NoInstance(_) | Self::Terminated => ErrorCode::InvalidRequest,
            Self::TooEarly { .. } => ErrorCode::ThrottlingQuotaExceeded,
            Self::UnknownSubscription { .. } => ErrorCode::UnknownSubscriptionId,
            Self::UnsupportedCompression(_) => ErrorCode::UnsupportedCompressionType,
            Self::TooLarge { .. } => ErrorCode::TelemetryTooLarge,
            Self::Malformed(_) => ErrorCode::InvalidRecord,
        }
    }
}
