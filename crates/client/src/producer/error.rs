//! Why a record was not sent, or may not have been stored.

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::TopicPartition;

use crate::ClientError;

/// Why a record was not sent, or may not have been stored.
///
/// [`ProduceError::maybe_stored`] tells whether it may be in the log all the same, and
/// [`ProduceError::is_retriable`] whether sending it again may succeed. The producer has tried
/// again already, so what comes out here is for the program to decide about.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProduceError {
    /// It is larger than a request may be, or than all memory.
    #[error(
        "the record takes {size} bytes, above the limit of {limit}; send less in one record, or \
         raise {key} (and the topic's max.message.bytes)"
    )]
    TooLarge {
        /// Bytes of the record in a batch of its own.
        size: usize,
        /// Bytes allowed.
        limit: usize,
        /// The key that sets the limit.
        key: &'static str,
    },
    /// Too many records wait for brokers.
    #[error(
        "no memory for the record within {waited:?}: {limit} bytes of records wait for brokers; send \
         slower, or raise buffer.memory or max.block.ms"
    )]
    BufferFull {
        /// `max.block.ms`.
        waited: Duration,
        /// `buffer.memory`.
        limit: usize,
    },
    /// Nothing is known of the topic or partition.
    #[error("nothing known of {partition} after {waited:?} (max.block.ms): {error}")]
    NoMetadata {
        /// Where the record was to go; partition -1 if that was not decided.
        partition: TopicPartition,
        /// How long was asked.
        waited: Duration,
        /// The last failure.
        #[source]
        error: Arc<ClientError>,
    },
    /// A serializer or partitioner failed, or named a partition that cannot be.
    #[error("the record cannot be made: {0}")]
    Invalid(String),
    /// The producer was closed.
    #[error("the producer is closed; the record was{} sent", if *.maybe_stored { " perhaps" } else { " not" })]
    Closed {
        /// Whether it was on its way.
        maybe_stored: bool,
    },
    /// `delivery.timeout.ms` is over.
    #[error(
        "{partition}: not acknowledged within {waited:?} (delivery.timeout.ms){}; {}",
        .error.as_ref().map_or(String::new(), |error| format!(", at last because {error}")),
        advice(*.maybe_stored)
    )]
    Expired {
        /// Where it was to go.
        partition: TopicPartition,
        /// `delivery.timeout.ms`.
        waited: Duration,
        /// The last failure, if a try failed.
        error: Option<Arc<ClientError>>,
        /// Whether a try may have stored it.
        maybe_stored: bool,
    },
    /// The cluster refused it for good, or once more than `retries` allows.
    #[error("{partition}: {error}; {}", advice(*.maybe_stored))]
    Refused {
        /// Where it was to go.
        partition: TopicPartition,
        /// The last failure.
        #[source]
        error: Arc<ClientError>,
        /// Whether a try may have stored it.
        maybe_stored: bool,
    },
}

fn advice(maybe_stored: bool) -> &'static str {
    if maybe_stored {
        "it may be stored all the same: look before you send it again, or accept a second copy"
    } else {
        "it is not stored"
    }
}

impl ProduceError {
    /// Whether the record may be in the log all the same. `false` is certain.
    pub fn maybe_stored(&self) -> bool {
        match self {
            Self::TooLarge { .. }
            | Self::BufferFull { .. }
            | Self::NoMetadata { .. }
            | Self::Invalid(_) => false,
            Self::Closed { maybe_stored }
            | Self::Expired { maybe_stored, .. }
            | Self::Refused { maybe_stored, .. } => *maybe_stored,
        }
    }

    /// Whether the same record may succeed if it is sent again later, with nothing changed.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::BufferFull { .. } | Self::Expired { .. } => true,
            Self::NoMetadata { error, .. } | Self::Refused { error, .. } => error.is_retriable(),
            Self::TooLarge { .. } | Self::Invalid(_) | Self::Closed { .. } => false,
        }
    }
}
