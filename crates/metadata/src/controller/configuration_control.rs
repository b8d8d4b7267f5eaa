//! Configurations of topics and brokers. Kafka: `ConfigurationControlManager` (KIP-226, KIP-339).

mod alter;

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_config::{DynamicScope, TOPIC_KEYS, broker_key};
use ottla_protocol::messages::create_topics_request::CreatableTopicConfig;
use ottla_protocol::messages::create_topics_response::CreatableTopicConfigs;
use ottla_protocol::topic_name::TopicNameError;
use ottla_protocol::{BrokerId, ErrorCode, StrBytes, message};

use super::{Controller, MAX_RECORDS_PER_REQUEST};
use crate::image::ResourceConfig;

/// The table looks for the known key that is most like an unknown one. Longer ones are like none.
const LONGEST_KEY: usize = 128;

/// Why a configuration was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigurationError {
    /// The request names the resource more than once.
    #[error("Each resource must appear at most once.")]
    DuplicateResource,
    /// The request names a key of the resource more than once.
    #[error("key {0} is given more than once")]
    DuplicateKey(String),
    /// A key without a value.
    #[error("Null value not supported for : {0}")]
    NullValue(String),
    /// A key of a new topic without a value.
    #[error("Null value not supported for topic configs: {0}")]
    NullTopicValue(String),
    /// There is nothing of that type to configure.
    #[error("resources of type {0} cannot be configured, only topics (2) and brokers (4)")]
    UnknownResourceType(i8),
    /// Brokers are named by their id.
    #[error("'{0}' is no broker id")]
    InvalidBrokerName(String),
    /// No topic has such a name.
    #[error(transparent)]
    InvalidTopicName(#[from] TopicNameError),
    /// No topic has the name.
    #[error("The topic '{0}' does not exist.")]
    UnknownTopic(String),
    /// No broker has the id.
    #[error("broker {0} is not registered")]
    UnknownBroker(BrokerId),
    /// Neither set, delete, append nor subtract.
    #[error("configuration operation {0} is not known")]
    UnknownOperation(i8),
    /// Only lists can be appended to or subtracted from.
    #[error("key {0} holds no list: it can be set or deleted, not appended to or subtracted from")]
    NotAList(String),
    /// A value that its key does not accept, a key that is not known, or two that do not go
    /// together.
    #[error("{0}")]
    Invalid(String),
    /// More keys than there are, so some are not known; they are not looked at one by one.
    #[error("{0} keys are more than there are")]
    TooManyKeys(usize),
    /// A key that a broker reads at its start.
    #[error("{0} cannot be changed while the broker runs")]
    NotDynamic(String),
    /// A key that each broker has for itself.
    #[error("{0} can be changed for one broker, not for all at once")]
    PerBrokerOnly(String),
    /// A key of Kafka's that would change nothing.
    #[error("{0} is known, but Ottla does not use it yet")]
    NotUsed(String),
    /// The request as a whole asks for too much.
    #[error("a request may change at most {MAX_RECORDS_PER_REQUEST} keys in all")]
    RequestTooLarge,
}

impl ConfigurationError {
    /// The code to answer with.
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            Self::DuplicateResource
            | Self::DuplicateKey(_)
            | Self::NullValue(_)
            | Self::UnknownResourceType(_)
            | Self::InvalidBrokerName(_)
            | Self::UnknownOperation(_)
            | Self::NotDynamic(_)
            | Self::PerBrokerOnly(_)
            | Self::NotUsed(_) => ErrorCode::InvalidRequest,
            Self::InvalidTopicName(_) => ErrorCode::InvalidTopicException,
            Self::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownBroker(_) => ErrorCode::BrokerIdNotRegistered,
            Self::NullTopicValue(_)
            | Self::NotAList(_)
            | Self::Invalid(_)
            | Self::TooManyKeys(_) => ErrorCode::InvalidConfig,
            Self::RequestTooLarge => ErrorCode::PolicyViolation,
        }
    }
}

impl Controller {
    pub(super) fn check_new_topic_config(
        &self,
        given: &[CreatableTopicConfig],
    ) -> Result<ResourceConfig, ConfigurationError> {
        let mut config = ResourceConfig::new();
        for entry in given {
            let Some(value) = &entry.value else {
                return Err(ConfigurationError::NullTopicValue(entry.name.to_string()));
            };
            let key = Arc::from(entry.name.as_str());
            if config.insert(key, Arc::from(value.as_str())).is_some() {
                return Err(ConfigurationError::DuplicateKey(entry.name.to_string()));
            }
        }
        self.check_topic_config(&config)?;
        Ok(config)
    }

    /// Checks a topic's configuration as a whole: each key, and what one says of another.
    fn check_topic_config(&self, config: &ResourceConfig) -> Result<(), ConfigurationError> {
        if config.len() > TOPIC_KEYS.len() {
            return Err(ConfigurationError::TooManyKeys(config.len()));
        }
        if let Some(long) = config.keys().find(|key| key.len() > LONGEST_KEY) {
            return Err(ConfigurationError::Invalid(format!("{long} is not a known key")));
        }
        let checked = self.config.broker.log_config(config);
        checked.map(drop).map_err(|error| {
            let problems: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
            ConfigurationError::Invalid(problems.join("; "))
        })
    }

    /// Checks keys that were set for one broker, or for all of them.
    fn check_broker_config<'a>(
        &self,
        all_brokers: bool,
        set: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), ConfigurationError> {
        for (name, value) in set {
            let Some(key) = broker_key(name) else {
                return Err(ConfigurationError::Invalid(format!("{name} is not a known key")));
            };
            match key.scope {
                DynamicScope::ReadOnly => return Err(ConfigurationError::NotDynamic(name.into())),
                DynamicScope::PerBroker if all_brokers => {
                    return Err(ConfigurationError::PerBrokerOnly(name.into()));
                }
                DynamicScope::PerBroker | DynamicScope::ClusterWide => {}
            }
            if !key.used {
                return Err(ConfigurationError::NotUsed(name.into()));
            }
            key.parse(value).map_err(|accepted| {
                ConfigurationError::Invalid(format!("{name}={value}: must be {accepted}"))
            })?;
        }
        Ok(())
    }

    /// A topic's configuration as clients are told of it: what was set, and the defaults for the
    /// rest (KIP-525).
    pub(super) fn effective_topic_config(
        &self,
        config: &ResourceConfig,
    ) -> Vec<CreatableTopicConfigs> {
        let entries = self.config.broker.describe_topic(config).into_iter();
        entries
            .map(|entry| {
                message!(CreatableTopicConfigs {
                    name: StrBytes::from(entry.name),
                    value: entry.value.map(StrBytes::from),
                    read_only: entry.read_only,
                    config_source: entry.source as i8,
                    is_sensitive: entry.sensitive,
                })
            })
            .collect()
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
