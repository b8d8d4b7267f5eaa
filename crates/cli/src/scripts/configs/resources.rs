//! Configurations of topics, brokers, groups and client metrics.

use std::collections::{BTreeMap, BTreeSet};

use ottla_client::{
    Admin, ConfigChange, ConfigEntry, ConfigResource, ConfigResourceType, ConfigSource,
};
use ottla_protocol::ApiKey;
use ottla_protocol::topic_name::check_topic_name;

use super::Changes;
use super::entities::Entities;
use crate::scripts::{Outcome, Stop, java, say, target};

/// Which resources a type stands for, and the source of what is set for one of them.
fn kind_of(kind: &str, name: &str) -> (ConfigResourceType, Option<ConfigSource>) {
    match kind {
        "topics" => (ConfigResourceType::Topic, Some(ConfigSource::Topic)),
        "brokers" if name.is_empty() => {
            (ConfigResourceType::Broker, Some(ConfigSource::DynamicDefaultBroker))
        }
        "brokers" => (ConfigResourceType::Broker, Some(ConfigSource::DynamicBroker)),
        "broker-loggers" => (ConfigResourceType::BrokerLogger, None),
        "client-metrics" => (ConfigResourceType::ClientMetrics, Some(ConfigSource::ClientMetrics)),
        _ => (ConfigResourceType::Group, Some(ConfigSource::Group)),
    }
}

pub(super) async fn describe(admin: &Admin, entities: &Entities, all: bool) -> Outcome {
    let kind = entities.kind();
    let names = match entities.names.first() {
        Some(name) => {
            if !all && !is_there(admin, kind, name).await? {
                let one = entities.one();
                return say(format!(
                    "The {one} '{name}' doesn't exist and doesn't have dynamic config."
                ));
            }
            vec![name.clone()]
        }
        None => every(admin, kind).await?,
    };
    for name in names {
        if name.is_empty() {
            say(format!("Default configs for {kind} in the cluster are:"))?;
        } else {
            let which = if all { "All" } else { "Dynamic" };
            say(format!("{which} configs for {} {name} are:", entities.one()))?;
        }
        for entry in entries(admin, kind, &name, all).await? {
            let text = |value: &Option<String>| value.clone().unwrap_or("null".to_owned());
            let synonyms: Vec<String> = entry
                .synonyms
                .iter()
                .map(|it| format!("{}:{}={}", it.source.name(), it.name, text(&it.value)))
                .collect();
            say(format!(
                "  {}={} sensitive={} synonyms={{{}}}",
                entry.name,
                text(&entry.value),
                entry.is_sensitive,
                synonyms.join(", ")
            ))?;
        }
    }
    Ok(())
}

/// Whether there is such a thing, or something is set for it.
async fn is_there(admin: &Admin, kind: &str, name: &str) -> Outcome<bool> {
    match kind {
        "topics" => {
            check_topic_name(name).map_err(|error| Stop::failed(error.to_string()))?;
            Ok(admin.list_topics().await?.contains_key(name))
        }
        "brokers" | "broker-loggers" => {
            let brokers = admin.describe_cluster(false).await?.brokers;
            Ok(name.is_empty() || brokers.iter().any(|broker| broker.id.0.to_string() == name))
        }
        kind => Ok(every(admin, kind).await?.iter().any(|it| it == name)),
    }
}

/// All there are of a type; of brokers the default, too, at the end.
async fn every(admin: &Admin, kind: &str) -> Outcome<Vec<String>> {
    let mut names: Vec<String> = match kind {
        "topics" => admin.list_topics().await?.into_keys().collect(),
        "brokers" | "broker-loggers" => {
            let brokers = admin.describe_cluster(false).await?.brokers;
            let names = brokers.iter().map(|broker| broker.id.0.to_string());
            return Ok(names.chain([String::new()]).collect());
        }
        kind => {
            let resource = kind_of(kind, "").0;
            let mut names = BTreeSet::new();
            if kind == "groups" {
                names.extend(admin.list_groups(&[], &[]).await?.into_keys());
            }
            if admin.check_served(ApiKey::ListConfigResources).await.is_ok() {
                let listed = admin.list_config_resources(&[resource]).await?;
                names.extend(listed.into_iter().map(|it| it.name));
            }
            names.into_iter().collect()
        }
    };
    java::order_by_hash(&mut names, java::CAPACITY, |name| java::hash_of(name));
    Ok(names)
}

async fn entries(admin: &Admin, kind: &str, name: &str, all: bool) -> Outcome<Vec<ConfigEntry>> {
    let (resource, own) = kind_of(kind, name);
    let resource = ConfigResource::new(resource, name);
    let answers = admin.describe_configs(std::slice::from_ref(&resource), None, false).await?;
    let mut entries = Vec::new();
    for answer in answers.into_values() {
        entries.extend(answer?);
    }
    entries.retain(|entry| all || own.is_none_or(|own| entry.source == own));
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

pub(super) async fn alter(admin: &Admin, entities: &Entities, changes: Changes) -> Outcome {
    let name = entities.names.first().map_or("", String::as_str);
    if entities.kind() == "broker-loggers" {
        let known = entries(admin, entities.kind(), name, false).await?;
        let keys = changes.iter().map(|(key, _)| key.as_str());
        let unknown: Vec<&str> =
            keys.filter(|key| !known.iter().any(|it| it.name == *key)).collect();
        if !unknown.is_empty() {
            return Err(Stop::failed(format!("Invalid broker logger(s): {}", unknown.join(","))));
        }
    }
    let resource = ConfigResource::new(kind_of(entities.kind(), name).0, name);
    let changes = changes
        .into_iter()
        .map(|(key, value)| (key, value.map_or(ConfigChange::Delete, ConfigChange::Set)));
    let changes = BTreeMap::from([(resource, changes.collect())]);
    Ok(target::all_done(admin.incremental_alter_configs(&changes, false).await?)?)
}
