//! What members and the leader of a group tell each other through the coordinator, which does
//! not look into it. Kafka: `ConsumerProtocol`, version 3.
//!
//! ```text
//! subscription  version: int16, topics: [string], user data: nullable bytes,
//!               since 1 owned: [name: string, partitions: [int32]]      (KIP-429)
//!               since 2 generation: int32                               (KIP-792)
//!               since 3 rack: nullable string                           (KIP-881)
//! assignment    version: int16, assigned: [name: string, partitions: [int32]], user data: nullable bytes
//! ```
//!
//! A newer version has more behind that, which is not looked at.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_protocol::TopicPartition;

use super::assignor::GroupMember;
use super::by_topic;

/// `protocol_type` of groups of consumers.
pub(super) const PROTOCOL_TYPE: &str = "consumer";

const VERSION: i16 = 3;
const NO_GENERATION: i32 = -1;

/// What a member says when it joins: `member` without its id.
pub(super) fn encode_subscription(member: &GroupMember) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(VERSION);
    put_length(&mut bytes, member.topics.len());
    member.topics.iter().for_each(|topic| put_string(&mut bytes, topic));
    put_user_data(&mut bytes, &member.user_data);
    put_partitions(&mut bytes, &member.owned);
    bytes.put_i32(member.generation.unwrap_or(NO_GENERATION));
    match &member.rack {
        Some(rack) => put_string(&mut bytes, rack),
        None => bytes.put_i16(-1),
    }
    bytes.freeze()
}

/// What a member said; `None` if it makes no sense.
pub(super) fn decode_subscription(mut bytes: Bytes) -> Option<GroupMember> {
    let bytes = &mut bytes;
    let version = bytes.try_get_i16().ok().filter(|version| *version >= 0)?;
    let mut member = GroupMember::default();
    for _ in 0..bytes.try_get_i32().ok()? {
        member.topics.push(get_string(bytes)??);
    }
    member.user_data = get_user_data(bytes)?;
    if version >= 1 {
        member.owned = get_partitions(bytes)?;
    }
    if version >= 2 {
        member.generation = Some(bytes.try_get_i32().ok()?).filter(|it| *it >= 0);
    }
    if version >= 3 {
        member.rack = get_string(bytes)?;
    }
    Some(member)
}

/// What the leader gives a member.
pub(super) fn encode_assignment(assigned: &[TopicPartition]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(VERSION);
    put_partitions(&mut bytes, assigned);
    put_user_data(&mut bytes, &Bytes::new());
    bytes.freeze()
}

/// What the leader gave; nothing if there is no payload. `None` if it makes no sense.
pub(super) fn decode_assignment(mut bytes: Bytes) -> Option<Vec<TopicPartition>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let _version = bytes.try_get_i16().ok().filter(|version| *version >= 0)?;
    get_partitions(&mut bytes)
}

fn put_length(bytes: &mut BytesMut, length: usize) {
    bytes.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
}

/// Names of topics have at most 249 bytes; a longer text is cut, and matches nothing.
fn put_string(bytes: &mut BytesMut, text: &str) {
    let text = text.as_bytes();
    let length = text.len().min(i16::MAX as usize);
    bytes.put_i16(i16::try_from(length).unwrap_or(i16::MAX));
    bytes.put_slice(&text[..length]);
}

fn put_user_data(bytes: &mut BytesMut, user_data: &Bytes) {
    if user_data.is_empty() {
        bytes.put_i32(-1);
    } else {
        put_length(bytes, user_data.len());
        bytes.put_slice(user_data);
    }
}

pub(super) fn put_partitions(bytes: &mut BytesMut, partitions: &[TopicPartition]) {
    let topics = by_topic(partitions);
    put_length(bytes, topics.len());
    for (topic, numbers) in topics {
        put_string(bytes, topic);
        put_length(bytes, numbers.len());
        numbers.into_iter().for_each(|number| bytes.put_i32(number));
    }
}

/// A text, or `Some(None)` for null.
fn get_string(bytes: &mut Bytes) -> Option<Option<String>> {
    let Ok(length) = usize::try_from(bytes.try_get_i16().ok()?) else { return Some(None) };
    let text = (bytes.len() >= length).then(|| bytes.split_to(length))?;
    String::from_utf8(text.to_vec()).ok().map(Some)
}

fn get_user_data(bytes: &mut Bytes) -> Option<Bytes> {
    let Ok(length) = usize::try_from(bytes.try_get_i32().ok()?) else { return Some(Bytes::new()) };
    (bytes.len() >= length).then(|| bytes.split_to(length))
}

pub(super) fn get_partitions(bytes: &mut Bytes) -> Option<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for _ in 0..bytes.try_get_i32().ok()? {
        let topic: Arc<str> = get_string(bytes)??.into();
        for _ in 0..bytes.try_get_i32().ok()? {
            partitions.push(TopicPartition::new(Arc::clone(&topic), bytes.try_get_i32().ok()?));
        }
    }
    Some(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> GroupMember {
        GroupMember {
            topics: vec!["t".to_owned(), "u".to_owned()],
            owned: vec![TopicPartition::new("t", 0), TopicPartition::new("u", 3)],
            generation: Some(5),
            rack: Some("r".to_owned()),
            user_data: Bytes::from_static(b"x"),
            ..GroupMember::default()
        }
    }

    #[test]
    fn a_subscription_survives_and_is_kafkas_to_the_byte() {
        let bytes = encode_subscription(&member());
        let expected: &[u8] = &[
            0, 3, 0, 0, 0, 2, 0, 1, b't', 0, 1, b'u', 0, 0, 0, 1, b'x', 0, 0, 0, 2, 0, 1, b't', 0,
            0, 0, 1, 0, 0, 0, 0, 0, 1, b'u', 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 5, 0, 1, b'r',
        ];
        assert_eq!(bytes[..], *expected);
        assert_eq!(decode_subscription(bytes), Some(member()));
    }

    #[test]
    fn older_and_newer_members_are_understood() {
        let of_version = |version: u8, length: usize| {
            let mut bytes = encode_subscription(&member()).to_vec();
            bytes[1] = version;
            bytes.truncate(length);
            decode_subscription(Bytes::from(bytes)).unwrap()
        };
        assert_eq!(of_version(0, 17).owned, []);
        assert_eq!(of_version(1, 43).owned, member().owned);
        assert_eq!(of_version(2, 47).generation, Some(5));
        let mut newer = encode_subscription(&member()).to_vec();
        newer[1] = 9;
        newer.extend([1, 2, 3]);
        assert_eq!(decode_subscription(Bytes::from(newer)), Some(member()));
    }

    #[test]
    fn cut_and_hostile_payloads_are_nothing() {
        let whole = encode_subscription(&member());
        for length in 0..whole.len() {
            assert_eq!(decode_subscription(whole.slice(..length)), None, "{length}");
        }
        assert_eq!(decode_assignment(Bytes::from_static(&[0, 3, 127, 0, 0, 0])), None);
    }

    #[test]
    fn an_assignment_survives() {
        let assigned = member().owned;
        assert_eq!(decode_assignment(encode_assignment(&assigned)), Some(assigned));
        assert_eq!(decode_assignment(Bytes::new()), Some(Vec::new()));
    }
}
