//! What bytes mean: frames, headers, every API message, record batches, ids and error codes.
//!
//! Kafka: `org.apache.kafka.common.{protocol, requests, record, compress}`.
//!
//! # Tour
//! A frame comes in: [`RequestHeader::decode`] reads its header and knows from [`ApiKey`] which
//! versions are served; [`Request::decode`] reads the body. Most bodies are [`messages`] that the
//! crate `kafka-wire` generates. The two hot ones are written by hand: [`produce`] borrows the
//! records from the frame, and [`fetch`] answers with records it never sees, so that
//! [`Response::encode`] gives a [`Frame`] in pieces and the server can send a range of a file as
//! one of them. A client goes the other way: [`encode_request`], [`decode_response_header`],
//! [`decode_response`].
//!
//! Records travel and lie on disk in one format: [`record_batch`] reads it in place, and
//! [`compression`] unpacks it through a window.
//!
//! # Invariants
//! - Whatever bytes come in, decoding ends, never panics, and allocates no more than a multiple
//!   of them ([`Request::decode`] says which), or of the limit it was given.
//! - A decoder consumes its input whole or fails.
//! - What one of our own codecs encodes, Kafka's own schemas decode to the same values, and back.
//! - A record is never copied between a frame and the log.
//!
//! # Not here
//! Sockets, files, time and randomness; what a request *does*; which records are valid for a
//! topic.

mod api;
mod clock;
pub mod compression;
pub mod envelope;
mod error_code;
pub mod fetch;
mod ids;
mod leader;
pub mod newcomer;
pub mod produce;
pub mod record_batch;
mod request;
mod response;
pub mod topic_name;
mod topic_ref;
mod uuid;
mod wire;

pub use api::{
    ApiKey, ListenerType, Versions, advertised_apis, controller_apis,
    unsupported_api_versions_response,
};
pub use clock::{Monotonic, Timestamp};
pub use error_code::ErrorCode;
pub use ids::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId, TopicPartition,
};
pub use leader::{LeaderIdAndEpoch, NodeEndpoint};
pub use request::{
    Request, RequestError, RequestHeader, RequestHeaderError, encode_opaque_request, encode_request,
};
pub use response::{
    Response, decode_consumer_assignment, decode_response, decode_response_header,
    encode_opaque_response,
};
pub use topic_ref::TopicRef;
pub use uuid::{METADATA_TOPIC_ID, ParseUuidError, format_uuid, parse_uuid};
pub use wire::{Frame, Part};

/// Every request and response of the protocol, as `kafka-wire` generates them.
///
/// They are `#[non_exhaustive]`; build them with [`message!`](crate::message).
pub mod messages {
    pub use kafka_wire::*;
}
pub use kafka_wire_core::{DecodeError, EncodeError, KafkaDecode, KafkaEncode, StrBytes, Uuid};

/// Builds a generated message: defaults first, then the fields named.
///
/// ```
/// use ottla_protocol::{message, messages::HeartbeatResponse};
/// let response = message!(HeartbeatResponse { error_code: 25 });
/// assert_eq!(response.error_code, 25);
/// ```
#[macro_export]
macro_rules! message {
    ($name:path { $($field:ident : $value:expr),* $(,)? }) => {{
        #[allow(unused_mut)]
        let mut message = <$name>::default();
        $(message.$field = $value;)*
        message
    }};
}
