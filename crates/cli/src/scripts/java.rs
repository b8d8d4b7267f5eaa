//! What shows through in the output of Kafka's scripts of the language they are written in: the order
//! of hash tables, the names and words of exceptions, the shape of numbers.

use ottla_client::ClientError;
use ottla_protocol::{ErrorCode, TopicPartition};

/// `String.hashCode`.
pub(super) fn hash_of(text: &str) -> i32 {
    text.encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// `new String(bytes, UTF_8)`: as in Rust, but for half of a surrogate pair, which takes three bytes
/// and is replaced as one.
pub(super) fn string(bytes: &[u8]) -> String {
    let mut whole = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        rest = match rest {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, rest @ ..] | [0xed, 0xa0..=0xbf, rest @ ..] => {
                whole.extend("\u{fffd}".bytes());
                rest
            }
            [byte, rest @ ..] => {
                whole.push(*byte);
                rest
            }
            [] => return String::from_utf8_lossy(&whole).into_owned(),
        };
    }
}

/// `TopicPartition.hashCode`.
pub(super) fn hash_of_partition(partition: &TopicPartition) -> i32 {
    31_i32
        .wrapping_add(partition.partition)
        .wrapping_mul(31)
        .wrapping_add(hash_of(&partition.topic))
}

/// What a `HashMap` is made for if nobody says.
pub(super) const CAPACITY: usize = 16;

/// Puts things into the order in which a `HashMap` goes through them that was made for `capacity`
/// of them, and that they were put into one after the other. Kafka's scripts print many lists so,
/// and programs compare what they print.
pub(super) fn order_by_hash<T>(things: &mut [T], capacity: usize, hash: impl Fn(&T) -> i32) {
    let mut buckets = capacity.max(1).next_power_of_two();
    // It is at most three quarters full.
    while things.len() * 4 > buckets * 3 {
        buckets *= 2;
    }
    let mask = u32::try_from(buckets - 1).unwrap_or(u32::MAX);
    things.sort_by_key(|thing| {
        let hash = hash(thing).cast_unsigned();
        (hash ^ (hash >> 16)) & mask
    });
}

/// A JSON object as a `HashMap` is written; the values are JSON already.
pub(super) fn object(mut fields: Vec<(&str, String)>) -> String {
    order_by_hash(&mut fields, CAPACITY, |(name, _)| hash_of(name));
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// `Double.toString`, of numbers as quotas are.
pub(super) fn double(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, power)) if !digits.contains('.') => format!("{digits}.0E{power}"),
        _ => text,
    }
}

/// What `getMessage` says of an error that a call ended with.
pub(super) fn message(error: &ClientError) -> String {
    match error {
        ClientError::Refused { message: Some(message), .. } => message.clone(),
        ClientError::Refused { code, message: None } => words(*code).to_owned(),
        ClientError::TimedOut { .. } | ClientError::Connect { .. } | ClientError::Closed { .. } => {
            format!("Timed out waiting for a node assignment: {error}")
        }
        ClientError::NoCommonVersion { api, .. } => {
            format!("The node does not support {}", super::api_name(*api))
        }
        ClientError::Encode(_) | ClientError::Decode(_) | ClientError::Nonsense(_) => {
            error.to_string()
        }
    }
}

/// What `Class.getName` says of the exception of an error.
pub(super) fn class(error: &ClientError) -> String {
    exception(error).split(": ").next().unwrap_or_default().to_owned()
}

/// What `toString` says of an error: the name of its exception, and its message.
pub(super) fn exception(error: &ClientError) -> String {
    let name = match error {
        ClientError::Refused { code, .. } => name(*code),
        ClientError::TimedOut { .. } | ClientError::Connect { .. } | ClientError::Closed { .. } => {
            "Timeout".to_owned()
        }
        ClientError::NoCommonVersion { .. } => "UnsupportedVersion".to_owned(),
        ClientError::Encode(_) | ClientError::Decode(_) | ClientError::Nonsense(_) => {
            "UnknownServer".to_owned()
        }
    };
    format!("org.apache.kafka.common.errors.{name}Exception: {}", message(error))
}

/// The exception of a code, without `Exception` at its end.
#[allow(clippy::wildcard_enum_match_arm, reason = "most exceptions are called as their codes are")]
fn name(code: ErrorCode) -> String {
    match code {
        ErrorCode::NonEmptyGroup => "GroupNotEmpty".to_owned(),
        ErrorCode::TopicAlreadyExists => "TopicExists".to_owned(),
        ErrorCode::InvalidConfig => "InvalidConfiguration".to_owned(),
        ErrorCode::RequestTimedOut => "Timeout".to_owned(),
        ErrorCode::CorruptMessage => "CorruptRecord".to_owned(),
        ErrorCode::MessageTooLarge => "RecordTooLarge".to_owned(),
        ErrorCode::UnknownServerError => "UnknownServer".to_owned(),
        ErrorCode::KafkaStorageError => "KafkaStorage".to_owned(),
        code => {
            let name = format!("{code:?}");
            name.strip_suffix("Exception").map(ToOwned::to_owned).unwrap_or(name)
        }
    }
}

/// What Kafka's clients say of a code when the broker adds no words.
#[allow(clippy::wildcard_enum_match_arm, reason = "the others do not reach the output of a script")]
pub(super) fn words(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::OffsetOutOfRange => {
            "The requested offset is not within the range of offsets maintained by the server."
        }
        ErrorCode::UnknownTopicOrPartition => "This server does not host this topic-partition.",
        ErrorCode::UnknownTopicId => "This server does not host this topic ID.",
        ErrorCode::RequestTimedOut => "The request timed out.",
        ErrorCode::CoordinatorNotAvailable => "The coordinator is not available.",
        ErrorCode::NotCoordinator => "This is not the correct coordinator.",
        ErrorCode::InvalidTopicException => {
            "The request attempted to perform an operation on an invalid topic."
        }
        ErrorCode::InvalidGroupId => "The group id is invalid.",
        ErrorCode::TopicAlreadyExists => "Topic with this name already exists.",
        ErrorCode::InvalidPartitions => "Number of partitions is below 1.",
        ErrorCode::InvalidReplicationFactor => {
            "Replication factor is below 1 or larger than the number of available brokers."
        }
        ErrorCode::InvalidReplicaAssignment => "Replica assignment is invalid.",
        ErrorCode::InvalidConfig => "Configuration is invalid.",
        ErrorCode::NonEmptyGroup => "The group is not empty.",
        ErrorCode::GroupIdNotFound => "The group id does not exist.",
        ErrorCode::UnknownMemberId => "The coordinator is not aware of this member.",
        ErrorCode::GroupSubscribedToTopic => {
            "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it."
        }
        ErrorCode::ElectionNotNeeded => "Leader election not needed for topic partition.",
        ErrorCode::PreferredLeaderNotAvailable => "The preferred leader was not available.",
        ErrorCode::EligibleLeadersNotAvailable => {
            "Eligible topic partition leaders are not available."
        }
        ErrorCode::NoReassignmentInProgress => "No partition reassignment is in progress.",
        ErrorCode::LogDirNotFound => {
            "The user-specified log directory is not found in the broker config."
        }
        code => code.message(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_java() {
        assert_eq!(hash_of(""), 0);
        assert_eq!(hash_of("cleanup.policy"), -537_988_164);
        assert_eq!(hash_of("retention.ms"), -1_339_220_362);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_as_in_java() {
        assert_eq!(string("größe".as_bytes()), "größe");
        assert_eq!(string(b"a\xed\xa0\x80b"), "a\u{fffd}b");
        assert_eq!(string(b"\xed\xbfA\xed\xa0"), "\u{fffd}A\u{fffd}");
        assert_eq!(string(b"\xe0\x80\xff"), "\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(string(b"\xf0\x90\x80A"), "\u{fffd}A");
    }

    #[test]
    fn numbers_look_as_in_java() {
        assert_eq!(double(1024.0), "1024.0");
        assert_eq!(double(1e7), "1.0E7");
        assert_eq!(double(12_345_678.0), "1.2345678E7");
        assert_eq!(double(0.5), "0.5");
    }
}
