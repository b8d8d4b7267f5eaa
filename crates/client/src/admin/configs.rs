//! Configurations of topics, brokers, groups and more (KIP-133, KIP-226, KIP-339).

use std::collections::BTreeMap;

use ottla_protocol::messages::alter_configs_request::{
    AlterConfigsResource, AlterableConfig as PlainConfig,
};
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as IncrementalResource, AlterableConfig as IncrementalConfig,
};
use ottla_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
    ListConfigResourcesRequest, RequestResponsePair,
};
use ottla_protocol::{BrokerId, StrBytes, message};

use super::routing::{checked, complete};
use super::topics::not_controller;
use super::{Admin, Answers};
use crate::ClientError;

/// What a configuration belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigResourceType {
    /// A topic.
    Topic,
    /// A broker; with an empty name, all brokers.
    Broker,
    /// The log levels of a broker (KIP-412).
    BrokerLogger,
    /// A subscription to client metrics (KIP-714).
    ClientMetrics,
    /// A group (KIP-848).
    Group,
}

impl ConfigResourceType {
    /// The number on the wire.
    pub const fn code(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::BrokerLogger => 8,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }

    fn from_code(code: i8) -> Option<Self> {
        let all = [Self::Topic, Self::Broker, Self::BrokerLogger, Self::ClientMetrics, Self::Group];
        all.into_iter().find(|it| it.code() == code)
    }
}

/// Something that has a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigResource {
    /// What kind of thing.
    pub kind: ConfigResourceType,
    /// Which; empty for the default of all brokers.
    pub name: String,
}

impl ConfigResource {
    /// The configuration of a thing.
    pub fn new(kind: ConfigResourceType, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    /// The broker that alone can answer for it, if there is one.
    fn broker(&self) -> Option<BrokerId> {
        match self.kind {
            ConfigResourceType::Broker | ConfigResourceType::BrokerLogger => {
                self.name.parse().ok().map(BrokerId)
            }
            ConfigResourceType::Topic
            | ConfigResourceType::ClientMetrics
            | ConfigResourceType::Group => None,
        }
    }

    fn text(&self) -> StrBytes {
        StrBytes::from(self.name.as_str())
    }
}

/// Where a value comes from (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigSource {
    /// Set for the topic.
    Topic,
    /// Set for this broker while it runs.
    DynamicBroker,
    /// Set for all brokers while they run.
    DynamicDefaultBroker,
    /// From the broker's file.
    StaticBroker,
    /// Nobody has set it.
    Default,
    /// Set for the broker's loggers.
    DynamicBrokerLogger,
    /// Set for a subscription to client metrics.
    ClientMetrics,
    /// Set for the group.
    Group,
    /// The broker does not say.
    Unknown,
}

impl ConfigSource {
    const fn from_code(code: i8) -> Self {
        match code {
            1 => Self::Topic,
            2 => Self::DynamicBroker,
            3 => Self::DynamicDefaultBroker,
            4 => Self::StaticBroker,
            5 => Self::Default,
            6 => Self::DynamicBrokerLogger,
            7 => Self::ClientMetrics,
            8 => Self::Group,
            _ => Self::Unknown,
        }
    }

    /// Kafka's name, for example `DYNAMIC_TOPIC_CONFIG`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Topic => "DYNAMIC_TOPIC_CONFIG",
            Self::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
            Self::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            Self::StaticBroker => "STATIC_BROKER_CONFIG",
            Self::Default => "DEFAULT_CONFIG",
            Self::DynamicBrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
            Self::ClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
            Self::Group => "DYNAMIC_GROUP_CONFIG",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What kind of value a key takes (KIP-569).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 16 bits.
    Short,
    /// 64 bits.
    Long,
    /// A number with a fraction.
    Double,
    /// Texts, separated by commas.
    List,
    /// A class name.
    Class,
    /// A text that is never shown.
    Password,
    /// The broker does not say.
    Unknown,
}

impl ConfigType {
    const fn from_code(code: i8) -> Self {
        match code {
            1 => Self::Boolean,
            2 => Self::String,
            3 => Self::Int,
            4 => Self::Short,
            5 => Self::Long,
            6 => Self::Double,
            7 => Self::List,
            8 => Self::Class,
            9 => Self::Password,
            _ => Self::Unknown,
        }
    }

    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Int => "int",
            Self::Short => "short",
            Self::Long => "long",
            Self::Double => "double",
            Self::List => "list",
            Self::Class => "class",
            Self::Password => "password",
            Self::Unknown => "unknown",
        }
    }
}

/// A value that a key has, or would have if others were not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// Under which key it was set.
    pub name: String,
    /// The value, unless it is sensitive.
    pub value: Option<String>,
    /// Where.
    pub source: ConfigSource,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub name: String,
    /// The value, unless it is sensitive or there is none.
    pub value: Option<String>,
    /// Whether it can be set while the broker runs.
    pub read_only: bool,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether the value is hidden.
    pub is_sensitive: bool,
    /// All values there are, the one that counts first.
    pub synonyms: Vec<ConfigSynonym>,
    /// What kind of value it takes.
    pub kind: ConfigType,
    /// What it does, if that was asked for and the broker says.
    pub documentation: Option<String>,
}

/// A change of one key (KIP-339).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Give it a value.
    Set(String),
    /// Go back to what it would be otherwise.
    Delete,
    /// Add to a list.
    Append(String),
    /// Take from a list.
    Subtract(String),
}

impl ConfigChange {
    fn parts(&self) -> (i8, Option<StrBytes>) {
        let text = |value: &String| Some(StrBytes::from(value.as_str()));
        match self {
            Self::Set(value) => (0, text(value)),
            Self::Delete => (1, None),
            Self::Append(value) => (2, text(value)),
            Self::Subtract(value) => (3, text(value)),
        }
    }
}

/// The key under which things go to one broker, or to whoever answers for all.
type ByBroker<T> = BTreeMap<Option<BrokerId>, Vec<T>>;

impl Admin {
    /// All keys of `resources`, or those named, with where each value comes from.
    pub async fn describe_configs(
        &self,
        resources: &[ConfigResource],
        keys: Option<&[&str]>,
        documentation: bool,
    ) -> Result<Answers<ConfigResource, Vec<ConfigEntry>>, ClientError> {
        let mut rows: ByBroker<DescribeConfigsResource> = ByBroker::new();
        for resource in resources {
            let texts = keys.map(|keys| keys.iter().map(|key| StrBytes::from(*key)).collect());
            rows.entry(resource.broker()).or_default().push(message!(DescribeConfigsResource {
                resource_type: resource.kind.code(),
                resource_name: resource.text(),
                configuration_keys: texts,
            }));
        }
        let mut answers = Answers::new();
        for (broker, resources) in rows {
            let request = message!(DescribeConfigsRequest {
                resources: resources,
                include_synonyms: true,
                include_documentation: documentation,
            });
            let response = self.ask_one_or_any(broker, &request, |_| Ok(())).await?;
            for row in response.results {
                let Some(resource) = resource_of(row.resource_type, &row.resource_name) else {
                    continue;
                };
                let entries = checked(row.error_code, row.error_message)
                    .map(|()| row.configs.into_iter().map(entry).collect());
                answers.insert(resource, entries);
            }
        }
        Ok(complete(answers, resources.iter().cloned()))
    }

    /// Replaces all that was set for `resources`: what is not named goes back to its default.
    /// Prefer [`Admin::incremental_alter_configs`].
    pub async fn alter_configs(
        &self,
        resources: &BTreeMap<ConfigResource, Vec<(String, String)>>,
        validate_only: bool,
    ) -> Result<Answers<ConfigResource>, ClientError> {
        let mut rows: ByBroker<AlterConfigsResource> = ByBroker::new();
        for (resource, configs) in resources {
            let configs = configs.iter().map(|(name, value)| {
                message!(PlainConfig {
                    name: StrBytes::from(name.as_str()),
                    value: Some(StrBytes::from(value.as_str())),
                })
            });
            rows.entry(resource.broker()).or_default().push(message!(AlterConfigsResource {
                resource_type: resource.kind.code(),
                resource_name: resource.text(),
                configs: configs.collect(),
            }));
        }
        let mut answers = Answers::new();
        for (broker, resources) in rows {
            let request = message!(AlterConfigsRequest {
                resources: resources,
                validate_only: validate_only,
            });
            let response = self
                .ask_one_or_any(broker, &request, |it| {
                    not_controller(it.responses.iter().map(|row| row.error_code))
                })
                .await?;
            answers.extend(response.responses.into_iter().filter_map(|row| {
                let resource = resource_of(row.resource_type, &row.resource_name)?;
                Some((resource, checked(row.error_code, row.error_message)))
            }));
        }
        Ok(complete(answers, resources.keys().cloned()))
    }

    /// Changes single keys, and leaves the others (KIP-339).
    pub async fn incremental_alter_configs(
        &self,
        resources: &BTreeMap<ConfigResource, Vec<(String, ConfigChange)>>,
        validate_only: bool,
    ) -> Result<Answers<ConfigResource>, ClientError> {
        let mut rows: ByBroker<IncrementalResource> = ByBroker::new();
        for (resource, changes) in resources {
            let configs = changes.iter().map(|(name, change)| {
                let (operation, value) = change.parts();
                message!(IncrementalConfig {
                    name: StrBytes::from(name.as_str()),
                    config_operation: operation,
                    value: value,
                })
            });
            rows.entry(resource.broker()).or_default().push(message!(IncrementalResource {
                resource_type: resource.kind.code(),
                resource_name: resource.text(),
                configs: configs.collect(),
            }));
        }
        let mut answers = Answers::new();
        for (broker, resources) in rows {
            let request = message!(IncrementalAlterConfigsRequest {
                resources: resources,
                validate_only: validate_only,
            });
            let response = self
                .ask_one_or_any(broker, &request, |it| {
                    not_controller(it.responses.iter().map(|row| row.error_code))
                })
                .await?;
            answers.extend(response.responses.into_iter().filter_map(|row| {
                let resource = resource_of(row.resource_type, &row.resource_name)?;
                Some((resource, checked(row.error_code, row.error_message)))
            }));
        }
        Ok(complete(answers, resources.keys().cloned()))
    }

    /// What has a configuration of its own, of these kinds or of all (KIP-1142).
    pub async fn list_config_resources(
        &self,
        kinds: &[ConfigResourceType],
    ) -> Result<Vec<ConfigResource>, ClientError> {
        let request = message!(ListConfigResourcesRequest {
            resource_types: kinds.iter().map(|kind| kind.code()).collect(),
        });
        let response = self.ask_any(&request, |it| checked(it.error_code, None)).await?;
        let rows = response.config_resources.iter();
        Ok(rows.filter_map(|row| resource_of(row.resource_type, &row.resource_name)).collect())
    }

    async fn ask_one_or_any<R: RequestResponsePair>(
        &self,
        broker: Option<BrokerId>,
        request: &R,
        check: impl Fn(&R::Response) -> Result<(), ClientError>,
    ) -> Result<R::Response, ClientError> {
        match broker {
            Some(id) => self.ask_broker(id, request, check).await,
            None => self.ask_controller(request, check).await,
        }
    }
}

fn resource_of(code: i8, name: &StrBytes) -> Option<ConfigResource> {
    Some(ConfigResource::new(ConfigResourceType::from_code(code)?, name.as_str()))
}

fn entry(row: DescribeConfigsResourceResult) -> ConfigEntry {
    let text = |text: Option<StrBytes>| text.map(StrBytes::into_string);
    let synonyms = row.synonyms.into_iter().map(|row| ConfigSynonym {
        name: row.name.into_string(),
        value: text(row.value),
        source: ConfigSource::from_code(row.source),
    });
    ConfigEntry {
        name: row.name.into_string(),
        value: text(row.value),
        read_only: row.read_only,
        source: ConfigSource::from_code(row.config_source),
        is_sensitive: row.is_sensitive,
        synonyms: synonyms.collect(),
        kind: ConfigType::from_code(row.config_type),
        documentation: text(row.documentation),
    }
}
