//! Configurations of topics and brokers. Kafka: `ConfigurationControlManager` (KIP-226, KIP-339).

use std::sync::Arc;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_topics_request::CreatableTopicConfig;
use ottla_protocol::messages::create_topics_response::CreatableTopicConfigs;
use ottla_protocol::{StrBytes, message};

use super::Controller;
use crate::image::ResourceConfig;

/// Why a configuration was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A key without a value.
    #[error("Null value not supported for topic configs: {0}")]
    NullValue(String),
    /// A key twice in one request.
    #[error("key {0} is given more than once")]
    DuplicateKey(String),
}

impl ConfigError {
    /// The code to answer with.
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            Self::NullValue(_) => ErrorCode::InvalidConfig,
            Self::DuplicateKey(_) => ErrorCode::InvalidRequest,
        }
    }
}

impl Controller {
    pub(super) fn check_new_topic_config(
        &self,
        given: &[CreatableTopicConfig],
    ) -> Result<ResourceConfig, ConfigError> {
        let mut config = ResourceConfig::new();
        for entry in given {
            let Some(value) = &entry.value else {
                return Err(ConfigError::NullValue(entry.name.to_string()));
            };
            let key = Arc::from(entry.name.as_str());
            if config.insert(key, Arc::from(value.as_str())).is_some() {
                return Err(ConfigError::DuplicateKey(entry.name.to_string()));
            }
        }
        Ok(config)
    }

    /// A topic's configuration as clients are told of it: what was set, and the defaults for the rest.
    pub(super) fn effective_topic_config(
        &self,
        config: &ResourceConfig,
    ) -> Vec<CreatableTopicConfigs> {
        /// Kafka's `DYNAMIC_TOPIC_CONFIG`.
        const SET_FOR_TOPIC: i8 = 1;
        let set = config.iter();
        set.map(|(name, value)| {
            message!(CreatableTopicConfigs {
                name: StrBytes::from(&**name),
                value: Some(StrBytes::from(&**value)),
                config_source: SET_FOR_TOPIC,
            })
        })
        .collect()
    }
}
