//! What a topic may be called. Kafka: `org.apache.kafka.common.internals.Topic`.

/// The topic of committed offsets and group metadata.
pub const GROUP_METADATA_TOPIC: &str = "__consumer_offsets";
/// The topic of transaction metadata.
pub const TRANSACTION_STATE_TOPIC: &str = "__transaction_state";
/// The log of the metadata quorum.
pub const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// The most characters a topic name may have, so that `<topic>-<partition>` with a suffix fits
/// into a file name.
pub const MAX_LENGTH: usize = 249;

/// Why a name is not a topic name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// Nothing.
    #[error("a topic name must not be empty")]
    Empty,
    /// `.` or `..`, which are directories.
    #[error("a topic name must not be \".\" or \"..\"")]
    Dots,
    /// More than [`MAX_LENGTH`] characters.
    #[error("a topic name must not be longer than {MAX_LENGTH} characters, and this one has {0}")]
    TooLong(usize),
    /// A character outside `[a-zA-Z0-9._-]`.
    #[error("{0:?} may not be part of a topic name: only ASCII letters, digits, '.', '_' and '-'")]
    Character(char),
}

/// Checks that `name` may be the name of a topic.
pub fn check_topic_name(name: &str) -> Result<(), TopicNameError> {
    if name.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if name == "." || name == ".." {
        return Err(TopicNameError::Dots);
    }
    if name.len() > MAX_LENGTH {
        return Err(TopicNameError::TooLong(name.chars().count()));
    }
    match name.chars().find(|&letter| !is_topic_character(letter)) {
        Some(letter) => Err(TopicNameError::Character(letter)),
        None => Ok(()),
    }
}

/// Whether two different names would name the same metric, in which `.` becomes `_`.
pub fn has_collision(name: &str, other: &str) -> bool {
    name.len() == other.len()
        && name.bytes().map(unify_separator).eq(other.bytes().map(unify_separator))
}

/// Whether `name` contains `.` or `_`, and so may collide with another name.
pub fn has_collision_characters(name: &str) -> bool {
    name.contains(['.', '_'])
}

/// Whether the topic is kept by the broker itself; clients may read but not write it.
pub fn is_internal(name: &str) -> bool {
    name == GROUP_METADATA_TOPIC || name == TRANSACTION_STATE_TOPIC
}

fn is_topic_character(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')
}

fn unify_separator(letter: u8) -> u8 {
    if letter == b'.' { b'_' } else { letter }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_allowed() {
        for name in ["a", "...", "._-", "__consumer_offsets", "Orders.2026-11"] {
            assert_eq!(check_topic_name(name), Ok(()), "{name}");
        }
        assert_eq!(check_topic_name(&"x".repeat(249)), Ok(()));
    }

    #[test]
    fn names_that_are_not() {
        assert_eq!(check_topic_name(""), Err(TopicNameError::Empty));
        assert_eq!(check_topic_name("."), Err(TopicNameError::Dots));
        assert_eq!(check_topic_name(".."), Err(TopicNameError::Dots));
        assert_eq!(check_topic_name(&"x".repeat(250)), Err(TopicNameError::TooLong(250)));
        assert_eq!(check_topic_name("a/b"), Err(TopicNameError::Character('/')));
        assert_eq!(check_topic_name("a b"), Err(TopicNameError::Character(' ')));
        assert_eq!(check_topic_name("käse"), Err(TopicNameError::Character('ä')));
        assert_eq!(check_topic_name("a\0"), Err(TopicNameError::Character('\0')));
    }

    #[test]
    fn dots_and_underscores_collide() {
        assert!(has_collision("a.b", "a_b"));
        assert!(has_collision("a.b", "a.b"));
        assert!(!has_collision("a.b", "a-b"));
        assert!(!has_collision("a.b", "a.bc"));
        assert!(has_collision_characters("a_b"));
        assert!(!has_collision_characters("a-b"));
    }
}
