//! What sticky assignors tell each other. Kafka: `StickyAssignor`'s and
//! `CooperativeStickyAssignor`'s user data.
//!
//! ```text
//! sticky               topics: [name: string, partitions: [int32]], generation: int32 (since 2.3)
//! cooperative-sticky   generation: int32
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_protocol::TopicPartition;

use crate::consumer::group_protocol::{get_partitions, put_partitions};

/// The generation of who never had one.
const NO_GENERATION: i32 = -1;

/// What `sticky` says: all that a member read, and since when.
pub(super) fn encode_sticky(owned: &[TopicPartition], generation: Option<i32>) -> Bytes {
    let mut bytes = BytesMut::new();
    put_partitions(&mut bytes, owned);
    bytes.put_i32(generation.unwrap_or(NO_GENERATION));
    bytes.freeze()
}

/// What a member of `sticky` said; `None` if it makes no sense, which is as if it said nothing.
pub(super) fn decode_sticky(mut bytes: Bytes) -> Option<(Vec<TopicPartition>, Option<i32>)> {
    let owned = get_partitions(&mut bytes)?;
    // Members older than 2.3 end here.
    let generation = bytes.try_get_i32().ok().filter(|generation| *generation >= 0);
    Some((owned, generation))
}

/// What `cooperative-sticky` says; what a member owns stands in its subscription.
pub(super) fn encode_generation(generation: Option<i32>) -> Bytes {
    Bytes::copy_from_slice(&generation.unwrap_or(NO_GENERATION).to_be_bytes())
}

/// The generation that a member of `cooperative-sticky` said.
pub(super) fn decode_generation(bytes: &[u8]) -> Option<i32> {
    let generation = i32::from_be_bytes(bytes.try_into().ok()?);
    (generation >= 0).then_some(generation)
}
