use std::sync::Arc;

use ottla_config::{broker_key, topic_key};
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use ottla_protocol::topic_name::check_topic_name;
use ottla_protocol::{StrBytes, message};

use super::super::{Controller, MAX_RECORDS_PER_REQUEST, Outcome};
use super::{ConfigurationError, repeated};
use crate::image::{ConfigResource, ResourceConfig};
use crate::record::{ConfigRecord, MetadataRecord};

/// What is done to a key. Kafka's `AlterConfigOp.OpType`.
#[derive(Clone, Copy)]
enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl Operation {
    fn from_wire(operation: i8) -> Result<Self, ConfigurationError> {
        match operation {
            0 => Ok(Self::Set),
            1 => Ok(Self::Delete),
            2 => Ok(Self::Append),
            3 => Ok(Self::Subtract),
            unknown => Err(ConfigurationError::UnknownOperation(unknown)),
        }
    }
}

impl Controller {
    /// Changes some keys of some resources; the keys that are not named stay (KIP-339). Of each
    /// resource all changes are made or none.
    pub fn incremental_alter_configs(
        &self,
        request: &IncrementalAlterConfigsRequest,
    ) -> Outcome<IncrementalAlterConfigsResponse> {
        let mut outcome = Outcome::only(IncrementalAlterConfigsResponse::default());
        let named = |resource: &AlterConfigsResource| {
            (resource.resource_type, resource.resource_name.clone())
        };
        let duplicates = repeated(request.resources.iter().map(named));
        // What is refused counts too, so that the time that a request takes is bounded.
        let mut left = MAX_RECORDS_PER_REQUEST;
        for resource in &request.resources {
            let fits = left.checked_sub(resource.configs.len());
            left = fits.unwrap_or(0);
            let altered = match (duplicates.contains(&named(resource)), fits) {
                (true, _) => Err(ConfigurationError::DuplicateResource),
                (false, None) => Err(ConfigurationError::RequestTooLarge),
                (false, Some(_)) => self.alter_resource(resource),
            };
            let mut response = message!(AlterConfigsResourceResponse {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                error_message: None,
            });
            match altered {
                Ok(records) if request.validate_only => drop(records),
                Ok(records) => outcome.records.extend(records),
                Err(error) => {
                    response.error_code = error.error_code().code();
                    response.error_message = Some(StrBytes::from(error.to_string()));
                }
            }
            outcome.answer.responses.push(response);
        }
        outcome
    }

    fn alter_resource(
        &self,
        request: &AlterConfigsResource,
    ) -> Result<Vec<MetadataRecord>, ConfigurationError> {
        let resource = self.check_resource(request)?;
        if let Some(key) = repeated(request.configs.iter().map(|change| &change.name)).first() {
            return Err(ConfigurationError::DuplicateKey(key.to_string()));
        }
        let mut config = self
            .image
            .config(&resource)
            .map_or_else(Default::default, |config| ResourceConfig::clone(config));
        let mut changes: Vec<(Arc<str>, Option<Arc<str>>)> = Vec::new();
        for change in &request.configs {
            let key: Arc<str> = Arc::from(change.name.as_str());
            let value = self.altered_value(&resource, &config, change)?;
            let before = match &value {
                Some(value) => config.insert(key.clone(), value.clone()),
                None => config.remove(&key),
            };
            // A broker reads a key again when it is set to what it was: the file that it names may
            // have changed (KAFKA-14136).
            if before != value || matches!(resource, ConfigResource::Broker(_)) {
                changes.push((key, value));
            }
        }
        match &resource {
            ConfigResource::Topic(_) => self.check_topic_config(&config)?,
            ConfigResource::Broker(id) => {
                let set =
                    changes.iter().filter_map(|(key, value)| Some((&**key, value.as_deref()?)));
                self.check_broker_config(id.is_none(), set)?;
            }
        }
        let record = |(name, value)| {
            MetadataRecord::Config(ConfigRecord {
                resource_type: resource.resource_type(),
                resource_name: resource.resource_name(),
                name,
                value,
            })
        };
        Ok(changes.into_iter().map(record).collect())
    }

    /// The resource that is meant, if it exists.
    fn check_resource(
        &self,
        request: &AlterConfigsResource,
    ) -> Result<ConfigResource, ConfigurationError> {
        let name = &request.resource_name;
        match ConfigResource::from_wire(request.resource_type, name) {
            Some(ConfigResource::Topic(topic)) => {
                check_topic_name(&topic)?;
                match self.image.topic(&topic) {
                    Some(_) => Ok(ConfigResource::Topic(topic)),
                    None => Err(ConfigurationError::UnknownTopic(topic.to_string())),
                }
            }
            Some(ConfigResource::Broker(Some(id))) if self.image.broker(id).is_none() => {
                Err(ConfigurationError::UnknownBroker(id))
            }
            Some(resource @ ConfigResource::Broker(_)) => Ok(resource),
            None if ConfigResource::is_broker_type(request.resource_type) => {
                Err(ConfigurationError::InvalidBrokerName(name.to_string()))
            }
            None => Err(ConfigurationError::UnknownResourceType(request.resource_type)),
        }
    }

    /// The value of one key after the change; None is the default.
    fn altered_value(
        &self,
        resource: &ConfigResource,
        config: &ResourceConfig,
        change: &AlterableConfig,
    ) -> Result<Option<Arc<str>>, ConfigurationError> {
        let operation = Operation::from_wire(change.config_operation)?;
        let value = match (&change.value, operation) {
            (_, Operation::Delete) => return Ok(None),
            (Some(value), _) => value.as_str(),
            (None, _) => return Err(ConfigurationError::NullValue(change.name.to_string())),
        };
        if let Operation::Set = operation {
            return Ok(Some(Arc::from(value)));
        }
        let key = match resource {
            ConfigResource::Topic(_) => topic_key(&change.name),
            ConfigResource::Broker(_) => broker_key(&change.name),
        };
        if !key.is_some_and(|key| key.is_list()) {
            return Err(ConfigurationError::NotAList(change.name.to_string()));
        }
        let current = match config.get(change.name.as_str()) {
            Some(current) => Some(current.to_string()),
            None => self.inherited_value(resource, &change.name),
        };
        let mut elements: Vec<&str> = elements(current.as_deref().unwrap_or_default()).collect();
        for element in self::elements(value) {
            match operation {
                Operation::Append if !elements.contains(&element) => elements.push(element),
                Operation::Subtract => elements.retain(|kept| *kept != element),
                Operation::Append | Operation::Set | Operation::Delete => {}
            }
        }
        Ok(Some(Arc::from(elements.join(","))))
    }

    /// The value that a key has as long as nobody sets it for the resource.
    fn inherited_value(&self, resource: &ConfigResource, key: &str) -> Option<String> {
        let entries = match resource {
            ConfigResource::Topic(_) => self.config.broker.describe_topic([("", ""); 0]),
            ConfigResource::Broker(_) => self.config.broker.describe_broker(),
        };
        entries.into_iter().find(|entry| entry.name == key)?.value
    }
}

fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|element| !element.is_empty())
}
