//! What bytes mean: frames, headers, every API message, record batches, ids and error codes.

mod clock;
mod error_code;
mod ids;

pub use clock::{Monotonic, Timestamp};
pub use error_code::ErrorCode;
pub use ids::{BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId, TopicPartition};

/// Every request and response of the protocol, as `kafka-wire` generates them.
///
/// They are `#[non_exhaustive]`; build them with [`message!`](crate::message).
pub mod messages {
    pub use kafka_wire::*;
}
pub use kafka_wire_core::{StrBytes, Uuid};

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
