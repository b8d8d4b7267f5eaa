//! AlterConfigs, which replaces a configuration, and IncrementalAlterConfigs, which changes it (KIP-133,
//! KIP-339).

use std::sync::Arc;

use ottla_config::{ConfigKey, broker_key, client_metrics_key, group_key, topic_key};
use ottla_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as ReplacedResource;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use ottla_protocol::{StrBytes, message};

use super::super::{Controller, MAX_RECORDS_PER_REQUEST, Outcome};
use super::{ConfigurationError, MIN_INSYNC_REPLICAS, repeated};
use crate::image::{ConfigResource, ResourceConfig};
use crate::record::{ClearElrRecord, ConfigRecord, MetadataRecord};

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

/// A key, and the value that it is to have; None is the default.
type Change = (Arc<str>, Option<Arc<str>>);

/// The records that a resource asks for, or why it is refused.
type Altered = Result<Vec<MetadataRecord>, ConfigurationError>;

/// Which resources a request names, and how many keys of each.
struct Bounds {
    duplicates: std::collections::BTreeSet<(i8, StrBytes)>,
    left: usize,
}

impl Bounds {
    fn of(resources: impl Iterator<Item = (i8, StrBytes)>) -> Self {
        Self { duplicates: repeated(resources), left: MAX_RECORDS_PER_REQUEST }
    }

    /// What is refused counts too, so that the time that a request takes is bounded.
    fn check(&mut self, resource: (i8, &StrBytes), keys: usize) -> Result<(), ConfigurationError> {
        let fits = self.left.checked_sub(keys);
        self.left = fits.unwrap_or(0);
        if self.duplicates.contains(&(resource.0, resource.1.clone())) {
            return Err(ConfigurationError::DuplicateResource);
        }
        fits.map(drop).ok_or(ConfigurationError::RequestTooLarge)
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
        let named = |it: &AlterConfigsResource| (it.resource_type, it.resource_name.clone());
        let mut bounds = Bounds::of(request.resources.iter().map(named));
        for resource in &request.resources {
            let (kind, name) = (resource.resource_type, &resource.resource_name);
            let altered = bounds
                .check((kind, name), resource.configs.len())
                .and_then(|()| self.alter_resource(resource));
            let (error_code, error_message) =
                verdict(altered, request.validate_only, &mut outcome.records);
            outcome.answer.responses.push(message!(AlterConfigsResourceResponse {
                error_code: error_code,
                error_message: error_message,
                resource_type: kind,
                resource_name: name.clone(),
            }));
        }
        outcome
    }

    /// Gives some resources the configuration that is named, and no other: keys that are not named go
    /// back to their defaults (KIP-133). Of each resource all changes are made or none.
    pub fn alter_configs(&self, request: &AlterConfigsRequest) -> Outcome<AlterConfigsResponse> {
        let mut outcome = Outcome::only(AlterConfigsResponse::default());
        let named = request.resources.iter().map(|it| (it.resource_type, it.resource_name.clone()));
        let mut bounds = Bounds::of(named);
        for resource in &request.resources {
            let (kind, name) = (resource.resource_type, &resource.resource_name);
            let given: Vec<_> =
                resource.configs.iter().map(|it| (&it.name, it.value.as_ref())).collect();
            let altered = bounds
                .check((kind, name), resource.configs.len())
                .and_then(|()| self.replace_config((kind, name), &given));
            let (error_code, error_message) =
                verdict(altered, request.validate_only, &mut outcome.records);
            outcome.answer.responses.push(message!(ReplacedResource {
                error_code: error_code,
                error_message: error_message,
                resource_type: kind,
                resource_name: name.clone(),
            }));
        }
        outcome
    }

    fn replace_config(
        &self,
        (resource_type, name): (i8, &str),
        given: &[(&StrBytes, Option<&StrBytes>)],
    ) -> Altered {
        check_keys_and_values(given.iter().map(|(key, value)| (*key, value.is_none())))?;
        let resource = Self::check_resource_name(resource_type, name)?;
        let current = self.config_of(&resource);
        let set = given.iter().map(|(key, value)| {
            (Arc::from(key.as_str()), value.map(|value| Arc::from(value.as_str())))
        });
        let mut changes: Vec<Change> = set.collect();
        let kept: Vec<&str> = given.iter().map(|(key, _)| key.as_str()).collect();
        let gone = current.keys().filter(|key| !kept.contains(&&***key));
        changes.extend(gone.map(|key| (key.clone(), None)));
        self.change(resource, current, changes)
    }

    fn alter_resource(&self, request: &AlterConfigsResource) -> Altered {
        let is_null = |change: &AlterableConfig| {
            change.value.is_none() && change.config_operation != Operation::Delete as i8
        };
        check_keys_and_values(request.configs.iter().map(|it| (&it.name, is_null(it))))?;
        let resource = Self::check_resource_name(request.resource_type, &request.resource_name)?;
        let current = self.config_of(&resource);
        let mut changes = Vec::new();
        for change in &request.configs {
            let value = self.altered_value(&resource, &current, change)?;
            changes.push((Arc::from(change.name.as_str()), value));
        }
        self.change(resource, current, changes)
    }

    /// What was set for a resource so far.
    fn config_of(&self, resource: &ConfigResource) -> ResourceConfig {
        self.image.config(resource).map_or_else(ResourceConfig::new, |it| ResourceConfig::clone(it))
    }

    /// The records of these changes, if the resource may have the configuration that they lead to.
    fn change(
        &self,
        resource: ConfigResource,
        mut config: ResourceConfig,
        changes: Vec<Change>,
    ) -> Altered {
        let mut made: Vec<Change> = Vec::new();
        for (key, value) in changes {
            let before = match &value {
                Some(value) => config.insert(key.clone(), value.clone()),
                None => config.remove(&key),
            };
            // A broker reads a key again when it is set to what it was: the file that it names may
            // have changed (KAFKA-14136).
            if before != value || matches!(resource, ConfigResource::Broker(_)) {
                made.push((key, value));
            }
        }
        let changed: Vec<_> = made.iter().map(|(key, _)| key.clone()).collect();
        self.check_config(&resource, &config, &changed)?;
        self.check_exists(&resource)?;
        let cleared = self.check_min_isr(&resource, &made)?;
        let record = |(name, value)| {
            MetadataRecord::Config(ConfigRecord {
                resource_type: resource.resource_type(),
                resource_name: resource.resource_name(),
                name,
                value,
            })
        };
        Ok(made.into_iter().map(record).chain(cleared.map(MetadataRecord::ClearElr)).collect())
    }

    /// Who is eligible to lead was found with the old `min.insync.replicas`: it is forgotten when there
    /// is a new one, which has to be one for all brokers (KIP-966).
    fn check_min_isr(
        &self,
        resource: &ConfigResource,
        made: &[Change],
    ) -> Result<Option<ClearElrRecord>, ConfigurationError> {
        let change = made.iter().find(|(key, _)| &**key == MIN_INSYNC_REPLICAS);
        let Some((_, value)) = change.filter(|_| self.keeps_eligible_replicas()) else {
            return Ok(None);
        };
        match resource {
            ConfigResource::Topic(topic) => {
                Ok(Some(ClearElrRecord { topic_name: Arc::clone(topic) }))
            }
            ConfigResource::Broker(Some(_)) => Err(ConfigurationError::MinIsrOfOneBroker),
            ConfigResource::Broker(None) if value.is_none() => {
                Err(ConfigurationError::MinIsrRemoved)
            }
            ConfigResource::Broker(None) => Ok(Some(ClearElrRecord { topic_name: Arc::from("") })),
            ConfigResource::ClientMetrics(_) | ConfigResource::Group(_) => Ok(None),
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
        let value = change.value.as_deref().unwrap_or_default();
        let name = match operation {
            Operation::Set => return Ok(Some(Arc::from(value))),
            Operation::Delete => return Ok(None),
            Operation::Append => "APPEND",
            Operation::Subtract => "SUBTRACT",
        };
        let key = match resource {
            ConfigResource::Topic(_) => topic_key(&change.name),
            ConfigResource::Broker(_) => broker_key(&change.name),
            ConfigResource::ClientMetrics(_) => client_metrics_key(&change.name),
            ConfigResource::Group(_) => group_key(&change.name),
        };
        if !key.is_some_and(ConfigKey::is_list) {
            let key = change.name.to_string();
            return Err(ConfigurationError::NotAList { operation: name, key });
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
        let broker = self.broker_config();
        let entries = match resource {
            ConfigResource::Topic(_) => broker.describe_topic([("", ""); 0]),
            ConfigResource::Broker(_) => broker.describe_broker(),
            ConfigResource::ClientMetrics(_) | ConfigResource::Group(_) => return None,
        };
        entries.into_iter().find(|entry| entry.name == key)?.value
    }
}

/// What both kinds of request are refused for, whatever the resource.
fn check_keys_and_values<'a>(
    keys: impl Iterator<Item = (&'a StrBytes, bool)> + Clone,
) -> Result<(), ConfigurationError> {
    if !repeated(keys.clone().map(|(key, _)| key)).is_empty() {
        return Err(ConfigurationError::DuplicateKey);
    }
    let null: Vec<&str> =
        keys.filter(|(_, is_null)| *is_null).map(|(key, _)| key.as_str()).collect();
    match null.is_empty() {
        true => Ok(()),
        false => Err(ConfigurationError::NullValue(null.join(", "))),
    }
}

/// Adds what is to be done to `records`, unless it was only a question; the code and the words of the
/// answer.
fn verdict(
    altered: Altered,
    validate_only: bool,
    records: &mut Vec<MetadataRecord>,
) -> (i16, Option<StrBytes>) {
    match altered {
        Ok(altered) => {
            if !validate_only {
                records.extend(altered);
            }
            (0, None)
        }
        Err(error) => (error.error_code().code(), Some(StrBytes::from(error.to_string()))),
    }
}

fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|element| !element.is_empty())
}
