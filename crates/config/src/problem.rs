//! What can be wrong with a configuration, said so that a person can repair it.

use std::fmt;

/// Everything that is wrong with a configuration, at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<ConfigProblem>,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// The text is not a properties file.
    #[error("line {line} is not `key=value`: {reason}")]
    Syntax {
        /// Counted from 1; 0 if not known.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// A value that its key does not accept.
    #[error("{key}={value}: must be {accepted}")]
    InvalidValue {
        /// The key.
        key: String,
        /// The value as given; hidden for passwords.
        value: String,
        /// What would have been accepted.
        accepted: String,
    },
    /// A key that this resource does not have.
    #[error("{key} is not a known key{}", did_you_mean(.nearest))]
    UnknownKey {
        /// The key.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A key that brokers read at their start (KIP-226).
    #[error(
        "Cannot update these configs dynamically: Set({key}); change the broker's properties and restart it"
    )]
    ReadOnly {
        /// The key.
        key: String,
    },
    /// A key that each broker has for itself (KIP-226).
    #[error(
        "Cannot update these configs at default cluster level, broker id must be specified: Set({key})"
    )]
    PerBrokerOnly {
        /// The key.
        key: String,
    },
    /// A key that Kafka changes while brokers run, and Ottla does not.
    #[error("{key} is read at the start: change the broker's properties and restart it")]
    ReadAtStart {
        /// The key.
        key: String,
    },
    /// A key of Kafka's that would change nothing.
    #[error("{key} is known, but Ottla does not use it yet")]
    NotYetUsed {
        /// The key.
        key: String,
    },
    /// Keys that do not go together.
    #[error("{0}")]
    Conflict(String),
}

/// Something that does not stop the start, but that the person who wrote it should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigWarning {
    /// Nobody knows this key.
    #[error("{key} is not a known key and has no effect{}", did_you_mean(.nearest))]
    UnknownKey {
        /// The key.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
    },
    /// Kafka knows this key; Ottla does not act on it yet.
    #[error("{key} is known, but Ottla does not use it yet; it has no effect")]
    NotYetUsed {
        /// The key.
        key: String,
    },
    /// A key of a producer given to a consumer, or the other way round.
    #[error("{key} is a key of another kind of client and has no effect here")]
    OtherClient {
        /// The key.
        key: String,
    },
    /// Kafka 4.0 removed this key.
    #[error("{key} was removed in Kafka 4.0 and has no effect; delete the line")]
    Retired {
        /// The key.
        key: String,
    },
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl From<ConfigProblem> for ConfigError {
    fn from(problem: ConfigProblem) -> Self {
        Self { problems: vec![problem] }
    }
}
