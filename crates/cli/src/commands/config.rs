//! `ottla config`.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Subcommand;
use ottla_client::{ConfigChange, ConfigEntry, ConfigResource, ConfigResourceType, ConfigSource};
use ottla_protocol::ErrorCode;
use serde_json::{Value, json};

use super::key_and_value;
use super::output::Format;
use super::session::{self, Session, explain, explained, nearest, refusal};
use crate::failure::Failure;

pub(crate) type Options = session::Options<Task>;

/// What has a configuration, as people name it.
const RESOURCES: &str =
    "topic/NAME, broker/ID, brokers (the default of all), group/NAME or client-metrics/NAME";

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Print the value of a key.
    Get {
        /// topic/NAME, broker/ID, brokers (the default of all), group/NAME or client-metrics/NAME.
        #[arg(value_parser = resource)]
        target: ConfigResource,
        /// The key.
        key: String,
    },
    /// Give keys a value.
    Set {
        /// topic/NAME, broker/ID, brokers (the default of all), group/NAME or client-metrics/NAME.
        #[arg(value_parser = resource)]
        target: ConfigResource,
        /// Keys and values.
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
        values: Vec<(String, String)>,
    },
    /// Have keys go back to what they would be otherwise.
    Unset {
        /// topic/NAME, broker/ID, brokers (the default of all), group/NAME or client-metrics/NAME.
        #[arg(value_parser = resource)]
        target: ConfigResource,
        /// The keys.
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Show keys, their values, and where each value comes from.
    Describe {
        /// topic/NAME, broker/ID, brokers (the default of all), group/NAME or client-metrics/NAME.
        #[arg(value_parser = resource)]
        target: ConfigResource,
        /// Only keys with this in their name or documentation.
        #[arg(long, short)]
        search: Option<String>,
        /// All keys, not only those that somebody has set.
        #[arg(long, short)]
        all: bool,
        /// What each key does.
        #[arg(long, short)]
        docs: bool,
    },
}

fn resource(text: &str) -> Result<ConfigResource, String> {
    let (kind, name) = text.split_once('/').unwrap_or((text, ""));
    let kind = match (kind, name.is_empty()) {
        ("topic" | "topics", false) => ConfigResourceType::Topic,
        ("broker", false) if name.parse::<i32>().is_err() => {
            return Err(format!("{name:?} is not the id of a broker, which is a number"));
        }
        ("broker", false) | ("brokers", true) => ConfigResourceType::Broker,
        ("group" | "groups", false) => ConfigResourceType::Group,
        ("client-metrics", false) => ConfigResourceType::ClientMetrics,
        _ => return Err(format!("give {RESOURCES}")),
    };
    Ok(ConfigResource::new(kind, name))
}

fn name_of(resource: &ConfigResource) -> String {
    match (resource.kind, resource.name.as_str()) {
        (ConfigResourceType::Topic, name) => format!("topic/{name}"),
        (ConfigResourceType::Broker, "") => "brokers".to_owned(),
        (ConfigResourceType::Broker, name) => format!("broker/{name}"),
        (ConfigResourceType::BrokerLogger, name) => format!("broker-logger/{name}"),
        (ConfigResourceType::ClientMetrics, name) => format!("client-metrics/{name}"),
        (ConfigResourceType::Group, name) => format!("group/{name}"),
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    session::with(&options.target, async |session| {
        let format = options.format;
        match &options.task {
            Task::Get { target, key } => get(&session, format, target, key).await,
            Task::Set { target, values } => {
                let set = |(key, value): &(String, String)| {
                    (key.clone(), ConfigChange::Set(value.clone()))
                };
                apply(&session, format, target, values.iter().map(set).collect()).await
            }
            Task::Unset { target, keys } => {
                let unset = |key: &String| (key.clone(), ConfigChange::Delete);
                apply(&session, format, target, keys.iter().map(unset).collect()).await
            }
            Task::Describe { target, search, all, docs } => {
                let wanted = Wanted { search: search.as_deref(), all: *all, docs: *docs };
                describe(&session, format, target, wanted).await
            }
        }
    })
}

/// All keys of a resource.
async fn entries(
    session: &Session,
    resource: &ConfigResource,
    docs: bool,
) -> Result<Vec<ConfigEntry>> {
    let resources = [resource.clone()];
    let answers =
        session.admin.describe_configs(&resources, None, docs).await.map_err(explained)?;
    match answers.into_values().next() {
        Some(Ok(entries)) => Ok(entries),
        Some(Err(error)) if refusal(&error) == Some(ErrorCode::UnknownTopicOrPartition) => {
            Err(session.no_such_topic(&resource.name).await)
        }
        Some(Err(error)) => Err(explain(&name_of(resource), &error)),
        None => Ok(Vec::new()),
    }
}

fn no_such_key(resource: &ConfigResource, key: &str, entries: &[ConfigEntry]) -> anyhow::Error {
    let name = name_of(resource);
    let nearest = nearest(key, entries.iter().map(|entry| entry.name.as_str()));
    let why = nearest.map_or_else(
        || "no key has a name like it".to_owned(),
        |nearest| format!("did you mean {nearest}?"),
    );
    let next = format!("ottla config describe {name} --all --search WORD");
    Failure { what: format!("{name} has no key {key}"), why, next }.into()
}

async fn get(
    session: &Session,
    format: Format,
    resource: &ConfigResource,
    key: &str,
) -> Result<()> {
    let entries = entries(session, resource, false).await?;
    let entry = entries.iter().find(|entry| entry.name == key);
    let entry = entry.ok_or_else(|| no_such_key(resource, key, &entries))?;
    format.object(&row(resource, entry), entry.value.as_deref().unwrap_or_default())
}

/// Makes changes and says what the values are then.
pub(super) async fn apply(
    session: &Session,
    format: Format,
    resource: &ConfigResource,
    changes: Vec<(String, ConfigChange)>,
) -> Result<()> {
    let known = entries(session, resource, false).await?;
    // What belongs to a broker is not always known to it by name (listeners' keys, for example).
    if resource.kind == ConfigResourceType::Topic {
        let unknown = |key: &String| !known.iter().any(|entry| entry.name == *key);
        if let Some((key, _)) = changes.iter().find(|(key, _)| unknown(key)) {
            return Err(no_such_key(resource, key, &known));
        }
    }
    let keys: Vec<String> = changes.iter().map(|(key, _)| key.clone()).collect();
    let changes = BTreeMap::from([(resource.clone(), changes)]);
    let answers =
        session.admin.incremental_alter_configs(&changes, false).await.map_err(explained)?;
    for answer in answers.into_values() {
        answer.map_err(|error| explain(&format!("{} is as it was", name_of(resource)), &error))?;
    }
    let entries = entries(session, resource, false).await?;
    for key in keys {
        let entry = entries.iter().find(|entry| entry.name == key);
        let value = entry.and_then(|entry| entry.value.as_deref());
        let text = match (entry, value) {
            (Some(entry), Some(value)) => format!("{key}={value}  ({})", origin(entry.source)),
            (Some(entry), None) if entry.is_sensitive => format!("{key} is set and hidden"),
            _ => format!("{key} is not set"),
        };
        let object = entry.map_or_else(
            || json!({ "resource": name_of(resource), "key": key, "value": null }),
            |entry| row(resource, entry),
        );
        format.object(&object, &text)?;
    }
    Ok(())
}

struct Wanted<'a> {
    search: Option<&'a str>,
    all: bool,
    docs: bool,
}

impl Wanted<'_> {
    fn matches(&self, entry: &ConfigEntry) -> bool {
        let is_set = !matches!(entry.source, ConfigSource::Default | ConfigSource::StaticBroker);
        let word = self.search.map(str::to_lowercase);
        let found = |word: &String| {
            let docs = entry.documentation.as_deref().unwrap_or_default().to_lowercase();
            entry.name.contains(word) || docs.contains(word)
        };
        word.as_ref().map_or(self.all || is_set, found)
    }
}

async fn describe(
    session: &Session,
    format: Format,
    resource: &ConfigResource,
    wanted: Wanted<'_>,
) -> Result<()> {
    let docs = wanted.docs || wanted.search.is_some();
    let mut entries = entries(session, resource, docs).await?;
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let shown: Vec<&ConfigEntry> = entries.iter().filter(|entry| wanted.matches(entry)).collect();
    let rows: Vec<Value> = shown.iter().map(|entry| row(resource, entry)).collect();
    if format == Format::Text && rows.is_empty() {
        let name = name_of(resource);
        return format.remark(&match wanted.search {
            Some(word) => format!("no key of {name} has {word:?} in its name or documentation"),
            None => format!("nothing is set for {name}; --all shows the defaults"),
        });
    }
    if format == Format::Text && wanted.docs {
        for entry in shown {
            let value = entry.value.as_deref().unwrap_or("(hidden or none)");
            format.remark(&format!("{}={value}  ({})", entry.name, origin(entry.source)))?;
            if let Some(docs) = &entry.documentation {
                format.remark(&format!("    {docs}"))?;
            }
        }
        return Ok(());
    }
    let columns = [("KEY", "key"), ("VALUE", "value"), ("TYPE", "type"), ("FROM", "from")];
    format.rows(&columns, &rows)
}

fn row(resource: &ConfigResource, entry: &ConfigEntry) -> Value {
    let synonyms = entry
        .synonyms
        .iter()
        .map(|it| json!({ "key": it.name, "value": it.value, "source": it.source.name() }));
    json!({
        "resource": name_of(resource), "key": entry.name, "value": entry.value,
        "type": entry.kind.name(), "source": entry.source.name(), "from": origin(entry.source),
        "read_only": entry.read_only, "sensitive": entry.is_sensitive,
        "synonyms": synonyms.collect::<Vec<_>>(), "documentation": entry.documentation,
    })
}

/// Where a value comes from, in a word or two.
fn origin(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Topic => "topic",
        ConfigSource::DynamicBroker => "broker",
        ConfigSource::DynamicDefaultBroker => "brokers",
        ConfigSource::StaticBroker => "file",
        ConfigSource::Default => "default",
        ConfigSource::DynamicBrokerLogger => "broker logger",
        ConfigSource::ClientMetrics => "client metrics",
        ConfigSource::Group => "group",
        ConfigSource::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_by_kind_and_name() {
        for text in ["topic/orders", "broker/1", "brokers", "group/billing"] {
            assert_eq!(name_of(&resource(text).unwrap()), text);
        }
        for text in ["orders", "topic/", "broker/one", "brokers/1", ""] {
            assert!(resource(text).is_err(), "{text}");
        }
    }
}
