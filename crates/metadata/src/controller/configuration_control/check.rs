//! What each kind of resource may be configured to.

use std::sync::Arc;

use ottla_config::{
    ClientMetricsProblem, ConfigProblem, TOPIC_KEYS, broker_keys, validate_client_metrics,
    validate_dynamic_config,
};
use ottla_protocol::messages::create_topics_request::CreatableTopicConfig;
use ottla_protocol::messages::create_topics_response::CreatableTopicConfigs;
use ottla_protocol::topic_name::check_topic_name;
use ottla_protocol::{BrokerId, StrBytes, message};

use super::super::Controller;
use super::ConfigurationError;
use crate::image::{ConfigResource, ResourceConfig};

/// The table looks for the known key that is most like an unknown one. Longer ones are like none.
const LONGEST_KEY: usize = 128;

impl Controller {
    pub(in super::super) fn check_new_topic_config(
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
                return Err(ConfigurationError::DuplicateTopicKey(entry.name.to_string()));
            }
        }
        self.check_topic_config(&config)?;
        Ok(config)
    }

    /// The resource that is meant, if its name can be one.
    pub(super) fn check_resource_name(
        resource_type: i8,
        name: &str,
    ) -> Result<ConfigResource, ConfigurationError> {
        match ConfigResource::from_wire(resource_type, name) {
            Some(ConfigResource::Topic(name)) if name.is_empty() => {
                Err(ConfigurationError::NoTopicName)
            }
            Some(ConfigResource::Group(name)) if name.is_empty() => {
                Err(ConfigurationError::NoGroupName)
            }
            Some(ConfigResource::ClientMetrics(name)) if name.is_empty() => {
                Err(ConfigurationError::NoSubscriptionName)
            }
            Some(resource) => {
                if let ConfigResource::Topic(name) = &resource {
                    check_topic_name(name)?;
                }
                Ok(resource)
            }
            None if resource_type == ConfigResource::BROKER => {
                Err(ConfigurationError::InvalidBrokerName(name.to_owned()))
            }
            None if resource_type == ConfigResource::BROKER_LOGGER => {
                Err(ConfigurationError::LogLevels)
            }
            None => Err(ConfigurationError::UnknownResourceType(resource_type)),
        }
    }

    /// Topics and brokers are there before they are configured; groups and subscriptions need not.
    pub(super) fn check_exists(&self, resource: &ConfigResource) -> Result<(), ConfigurationError> {
        match resource {
            ConfigResource::Topic(topic) if self.image.topic(topic).is_none() => {
                Err(ConfigurationError::UnknownTopic(topic.to_string()))
            }
            ConfigResource::Broker(Some(id)) if self.image.broker(*id).is_none() => {
                Err(ConfigurationError::UnknownBroker(*id))
            }
            ConfigResource::Topic(_)
            | ConfigResource::Broker(_)
            | ConfigResource::ClientMetrics(_)
            | ConfigResource::Group(_) => Ok(()),
        }
    }

    /// Checks the configuration that a resource would have as a whole: each key, and what one says
    /// of another.
    pub(super) fn check_config(
        &self,
        resource: &ConfigResource,
        config: &ResourceConfig,
        changed: &[Arc<str>],
    ) -> Result<(), ConfigurationError> {
        match resource {
            ConfigResource::Topic(_) => self.check_topic_config(config),
            ConfigResource::Broker(id) => self.check_broker_config(*id, config, changed),
            ConfigResource::ClientMetrics(_) => check_client_metrics(config),
            ConfigResource::Group(_) => {
                let checked = self.broker_config().check_group_config(config);
                checked.map_err(|problem| ConfigurationError::Invalid(problem.to_string()))
            }
        }
    }

    fn check_topic_config(&self, config: &ResourceConfig) -> Result<(), ConfigurationError> {
        check_keys(config, TOPIC_KEYS.len())?;
        let checked = self.broker_config().log_config(config);
        checked.map(drop).map_err(|error| {
            let problems: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
            ConfigurationError::Invalid(problems.join("; "))
        })
    }

    /// What an older release let in, and is not changed, is passed over.
    fn check_broker_config(
        &self,
        id: Option<BrokerId>,
        config: &ResourceConfig,
        changed: &[Arc<str>],
    ) -> Result<(), ConfigurationError> {
        check_keys(config, broker_keys().count())?;
        let refused = |problem: ConfigProblem| ConfigurationError::Refused(problem.to_string());
        for (name, value) in changed.iter().filter_map(|name| config.get_key_value(name)) {
            validate_dynamic_config(name, value, id.is_none()).map_err(refused)?;
        }
        let own = self.config.broker.node.node_id;
        let none = ResourceConfig::new();
        let set = |id| self.image.config(&ConfigResource::Broker(id)).map_or(&none, |set| &**set);
        let (of_all, of_own) = match id {
            None => (config, set(Some(own))),
            Some(id) if id == own => (set(None), config),
            // What goes together there, only that broker can tell.
            Some(_) => return Ok(()),
        };
        let (next, _passed_over) = self.config.broker.with_dynamic(of_all, of_own);
        self.broker_config().check_change(&next).map_err(refused)
    }

    /// A topic's configuration as clients are told of it: what was set, and the defaults for the
    /// rest (KIP-525).
    pub(in super::super) fn effective_topic_config(
        &self,
        config: &ResourceConfig,
    ) -> Vec<CreatableTopicConfigs> {
        let entries = self.broker_config().describe_topic(config).into_iter();
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

fn check_client_metrics(config: &ResourceConfig) -> Result<(), ConfigurationError> {
    validate_client_metrics(config).map_err(|problem| match problem {
        ClientMetricsProblem::UnknownKey(_) | ClientMetricsProblem::Interval(_) => {
            ConfigurationError::Refused(problem.to_string())
        }
        ClientMetricsProblem::Pattern(_) | ClientMetricsProblem::Invalid(_) => {
            ConfigurationError::Invalid(problem.to_string())
        }
    })
}

/// Bounds the time that looking at the keys takes.
fn check_keys(config: &ResourceConfig, known: usize) -> Result<(), ConfigurationError> {
    if config.len() > known {
        return Err(ConfigurationError::TooManyKeys(config.len()));
    }
    match config.keys().find(|key| key.len() > LONGEST_KEY) {
        Some(long) => Err(ConfigurationError::Invalid(format!("{long} is not a known key"))),
        None => Ok(()),
    }
}
