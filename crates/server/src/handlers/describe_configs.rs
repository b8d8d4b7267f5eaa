//! DescribeConfigs: every key with its value, where it comes from, and what it means (KIP-133, KIP-226, KIP-569).

use std::sync::Arc;

use ottla_config::{ConfigEntry, ConfigSynonym, describe_client_metrics};
use ottla_metadata::ConfigResource;
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use ottla_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use ottla_protocol::topic_name::check_topic_name;
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::Answer;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: &DescribeConfigsRequest) -> Answer {
    let results = request.resources.iter().map(|resource| {
        let mut result = message!(DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
        });
        match describe(broker, resource) {
            Ok(entries) => {
                let asked = |entry: &ConfigEntry| match &resource.configuration_keys {
                    Some(keys) if !keys.is_empty() => keys.iter().any(|key| **key == *entry.name),
                    Some(_) | None => true,
                };
                let entries = entries.into_iter().filter(asked);
                result.configs = entries.map(|entry| row(entry, request)).collect();
            }
            Err((error, reason)) => {
                result.error_code = error.code();
                result.error_message = Some(StrBytes::from(reason));
            }
        }
        result
    });
    Answer::now(message!(DescribeConfigsResponse { results: results.collect() }))
}

fn describe(
    broker: &Broker,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, (ErrorCode, String)> {
    let invalid = |reason: &str| (ErrorCode::InvalidRequest, reason.to_owned());
    let name = resource.resource_name.as_str();
    let (image, config) = (broker.image(), broker.dynamic_config().current());
    let Some(kind) = ConfigResource::from_wire(resource.resource_type, name) else {
        return Err(invalid(&match resource.resource_type {
            ConfigResource::BROKER => format!("Broker id must be an integer, but it is: {name}"),
            ConfigResource::BROKER_LOGGER => ConfigResource::LOG_LEVELS_ARE_FIXED.to_owned(),
            other => format!("Unsupported resource type: {other}"),
        }));
    };
    let none = Arc::default();
    let set = image.config(&kind).unwrap_or(&none);
    match kind {
        ConfigResource::Topic(_) => {
            if let Err(error) = check_topic_name(name) {
                return Err((ErrorCode::InvalidTopicException, error.to_string()));
            }
            if image.topic(name).is_none() {
                let reason = format!("topic {name} does not exist");
                return Err((ErrorCode::UnknownTopicOrPartition, reason));
            }
            Ok(config.describe_topic(set.iter()))
        }
        ConfigResource::Broker(None) => Ok(config.describe_all_brokers()),
        ConfigResource::Broker(Some(id)) if id == broker.id() => Ok(config.describe_broker()),
        ConfigResource::Broker(Some(_)) => Err(invalid(&format!(
            "Unexpected broker id, expected {} or empty string, but received {name}",
            broker.id()
        ))),
        ConfigResource::ClientMetrics(_) if name.is_empty() => {
            Err(invalid("Client metrics subscription name must not be empty"))
        }
        ConfigResource::ClientMetrics(_) => Ok(describe_client_metrics(set.iter())),
        ConfigResource::Group(_) if name.is_empty() => Err(invalid("Group name must not be empty")),
        ConfigResource::Group(_) => Ok(config.describe_group(set.iter())),
    }
}

fn row(entry: ConfigEntry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = if request.include_synonyms { entry.synonyms } else { Vec::new() };
    message!(DescribeConfigsResourceResult {
        name: StrBytes::from(entry.name),
        value: entry.value.map(StrBytes::from),
        read_only: entry.read_only,
        config_source: entry.source as i8,
        is_sensitive: entry.sensitive,
        synonyms: synonyms.into_iter().map(synonym).collect(),
        config_type: entry.config_type as i8,
        documentation: request.include_documentation.then(|| StrBytes::from(entry.documentation)),
    })
}

fn synonym(synonym: ConfigSynonym) -> DescribeConfigsSynonym {
    message!(DescribeConfigsSynonym {
        name: StrBytes::from(synonym.name),
        value: synonym.value.map(StrBytes::from),
        source: synonym.source as i8,
    })
}
