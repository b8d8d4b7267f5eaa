//! DescribeConfigs: every key with its value, where it comes from, and what it means (KIP-133, KIP-226, KIP-569).

use std::sync::Arc;

use ottla_config::{ConfigEntry, ConfigSynonym};
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
    let invalid = |reason: String| (ErrorCode::InvalidRequest, reason);
    let name = resource.resource_name.as_str();
    match ConfigResource::from_wire(resource.resource_type, name) {
        Some(ConfigResource::Topic(topic)) => {
            let image = broker.image();
            if let Err(error) = check_topic_name(name) {
                return Err((ErrorCode::InvalidTopicException, error.to_string()));
            }
            if image.topic(name).is_none() {
                let reason = format!("topic {name} does not exist");
                return Err((ErrorCode::UnknownTopicOrPartition, reason));
            }
            let none = Arc::default();
            let overrides = image.topic_config(&topic).unwrap_or(&none);
            Ok(broker.config().describe_topic(overrides.iter()))
        }
        Some(ConfigResource::Broker(Some(id))) if id == broker.id() => {
            let mut entries = broker.config().describe_broker();
            // None can be changed while the node runs: see IncrementalAlterConfigs.
            entries.iter_mut().for_each(|entry| entry.read_only = true);
            Ok(entries)
        }
        Some(ConfigResource::Broker(Some(id))) => {
            Err(invalid(format!("this is broker {}: ask broker {id} for its own", broker.id())))
        }
        // The cluster-wide defaults: none is set, for none can be changed while brokers run so far.
        Some(ConfigResource::Broker(None)) => Ok(Vec::new()),
        None => Err(invalid(format!(
            "resource type {} with name {name:?} has no configuration here: ask for a topic (2) or a broker (4)",
            resource.resource_type
        ))),
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
