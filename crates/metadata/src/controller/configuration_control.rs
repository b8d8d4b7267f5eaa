//! Configurations of topics and brokers. Kafka: `ConfigurationControlManager` (KIP-226, KIP-339).

mod alter;
mod check;

use std::collections::BTreeSet;

use ottla_protocol::BrokerId;
use ottla_protocol::ErrorCode;
use ottla_protocol::topic_name::TopicNameError;

use super::MAX_RECORDS_PER_REQUEST;
use crate::image::ConfigResource;

/// How many replicas must be in sync for a record to be committed.
pub(super) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// Why a configuration was not accepted. Words are Kafka's where it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigurationError {
    /// The request names the resource more than once.
    #[error("Each resource must appear at most once.")]
    DuplicateResource,
    /// The request names a key of the resource more than once.
    #[error("Error due to duplicate config keys")]
    DuplicateKey,
    /// A key of a new topic that is given twice.
    #[error("key {0} is given more than once")]
    DuplicateTopicKey(String),
    /// Keys without a value.
    #[error("Null value not supported for : {0}")]
    NullValue(String),
    /// A key of a new topic without a value.
    #[error("Null value not supported for topic configs: {0}")]
    NullTopicValue(String),
    /// Log levels are no part of the metadata (KIP-412).
    #[error("{}", ConfigResource::LOG_LEVELS_ARE_FIXED)]
    LogLevels,
    /// There is nothing of that type to configure.
    #[error("Unknown resource type {0}")]
    UnknownResourceType(i8),
    /// Brokers are named by their id.
    #[error("Node id must be an integer, but it is: {0}")]
    InvalidBrokerName(String),
    /// Topics have no defaults of their own: brokers have them.
    #[error("Default topic resources are not allowed.")]
    NoTopicName,
    /// Nor have groups.
    #[error("Default group resources are not allowed.")]
    NoGroupName,
    /// Nor subscriptions.
    #[error("Subscription name can't be empty")]
    NoSubscriptionName,
    /// No topic has such a name.
    #[error(transparent)]
    InvalidTopicName(#[from] TopicNameError),
    /// No topic has the name.
    #[error("The topic '{0}' does not exist.")]
    UnknownTopic(String),
    /// No broker has the id.
    #[error("No broker with id {0} found.")]
    UnknownBroker(BrokerId),
    /// Neither set, delete, append nor subtract.
    #[error("Unknown operations type {0}")]
    UnknownOperation(i8),
    /// Only lists can be appended to or subtracted from.
    #[error("Can't {operation} to key {key} because its type is not LIST.")]
    NotAList {
        /// What was asked.
        operation: &'static str,
        /// The key.
        key: String,
    },
    /// A value that its key does not accept, a key that is not known, or two that do not go
    /// together.
    #[error("{0}")]
    Invalid(String),
    /// A broker, or a subscription to client metrics, cannot be given this (KAFKA-13609).
    #[error("{0}")]
    Refused(String),
    /// Who is eligible is found with one value for all brokers (KIP-966).
    #[error("Broker-level {MIN_INSYNC_REPLICAS} cannot be altered while ELR is enabled.")]
    MinIsrOfOneBroker,
    /// Without it each broker would have that of its file (KIP-966).
    #[error("Cluster-level {MIN_INSYNC_REPLICAS} cannot be removed while ELR is enabled.")]
    MinIsrRemoved,
    /// More keys than there are, so some are not known; they are not looked at one by one.
    #[error("{0} keys are more than there are")]
    TooManyKeys(usize),
    /// The request as a whole asks for too much.
    #[error("a request may change at most {MAX_RECORDS_PER_REQUEST} keys in all")]
    RequestTooLarge,
}

impl ConfigurationError {
    /// The code to answer with.
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            Self::DuplicateResource
            | Self::DuplicateKey
            | Self::DuplicateTopicKey(_)
            | Self::NullValue(_)
            | Self::LogLevels
            | Self::UnknownResourceType(_)
            | Self::InvalidBrokerName(_)
            | Self::NoTopicName
            | Self::NoGroupName
            | Self::NoSubscriptionName
            | Self::UnknownOperation(_)
            | Self::Refused(_) => ErrorCode::InvalidRequest,
            Self::InvalidTopicName(_) => ErrorCode::InvalidTopicException,
            Self::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownBroker(_) => ErrorCode::BrokerIdNotRegistered,
            Self::NullTopicValue(_)
            | Self::NotAList { .. }
            | Self::Invalid(_)
            | Self::MinIsrOfOneBroker
            | Self::MinIsrRemoved
            | Self::TooManyKeys(_) => ErrorCode::InvalidConfig,
            Self::RequestTooLarge => ErrorCode::PolicyViolation,
        }
    }
}

/// What occurs more than once.
fn repeated<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut once = BTreeSet::new();
    let mut more = BTreeSet::new();
    for item in items {
        match once.take(&item) {
            Some(earlier) => {
                once.insert(earlier);
                more.insert(item);
            }
            None => {
                once.insert(item);
            }
        }
    }
    more
}
