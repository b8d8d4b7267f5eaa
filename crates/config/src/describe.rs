//! What DescribeConfigs shows (KIP-226, KIP-569): each value, where it comes from, and its synonyms.

use std::collections::BTreeMap;

use crate::keys::{TOPIC_KEYS, broker_key, broker_keys};
use crate::settings::{Settings, default_of};
use crate::values::Values;
use crate::{BrokerConfig, ConfigKey, ConfigType, ConfigValue, DynamicScope};

/// Where a value comes from; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    DynamicTopic = 1,
    /// Given to the broker at its start.
    StaticBroker = 4,
    /// The default of the table.
    Default = 5,
}

/// One row of DescribeConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub name: &'static str,
    /// Its value; `None` is null, and stands for every password.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it may only change by a restart.
    pub read_only: bool,
    /// Whether it is never shown.
    pub sensitive: bool,
    /// All values that were given for it, the strongest first.
    pub synonyms: Vec<ConfigSynonym>,
    /// The type of the value.
    pub config_type: ConfigType,
    /// One sentence.
    pub documentation: &'static str,
}

/// A value that was given for a key, or for another that speaks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// The key that it was given for.
    pub name: &'static str,
    /// The value as it was given; `None` stands for a password.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
}

impl BrokerConfig {
    /// Every key of this node, in the order of the table.
    pub fn describe_broker(&self) -> Vec<ConfigEntry> {
        let entry = |key: &'static ConfigKey| {
            let synonyms = broker_synonyms(&self.settings, key);
            let value = render(&self.settings.effective(key.name));
            entry(key, value, synonyms, key.scope == DynamicScope::ReadOnly)
        };
        broker_keys().map(entry).collect()
    }

    /// Every key of a topic with these overrides, in alphabetical order as Kafka's tools show them.
    pub fn describe_topic<K: AsRef<str>, V: AsRef<str>>(
        &self,
        overrides: impl IntoIterator<Item = (K, V)>,
    ) -> Vec<ConfigEntry> {
        let overrides: BTreeMap<String, String> = overrides
            .into_iter()
            .map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned()))
            .collect();
        let mut entries: Vec<_> =
            TOPIC_KEYS.iter().map(|key| self.topic_entry(key, overrides.get(key.name))).collect();
        entries.sort_by_key(|entry| entry.name);
        entries
    }

    fn topic_entry(&self, key: &'static ConfigKey, given: Option<&String>) -> ConfigEntry {
        let twin = key.broker_twin.and_then(broker_key);
        let inherited = twin.map_or_else(
            || default_synonym(key).into_iter().collect(),
            |twin| broker_synonyms(&self.settings, twin),
        );
        let own = given.map(|text| ConfigSynonym {
            name: key.name,
            value: Some(text.clone()),
            source: ConfigSource::DynamicTopic,
        });
        let value = match (given, twin) {
            (Some(text), _) => Some(text.clone()),
            (None, Some(twin)) => render(&self.settings.effective(twin.name)),
            (None, None) => key.default.map(str::to_owned),
        };
        entry(key, value, own.into_iter().chain(inherited).collect(), false)
    }
}

fn entry(
    key: &'static ConfigKey,
    value: Option<String>,
    synonyms: Vec<ConfigSynonym>,
    read_only: bool,
) -> ConfigEntry {
    ConfigEntry {
        name: key.name,
        value: value.filter(|_| !key.is_sensitive()),
        source: synonyms.first().map_or(ConfigSource::Default, |synonym| synonym.source),
        read_only,
        sensitive: key.is_sensitive(),
        synonyms,
        config_type: key.config_type,
        documentation: key.doc,
    }
}

/// Given values and defaults of a key and of those that speak for it: by source, then by key.
fn broker_synonyms(settings: &Settings, key: &'static ConfigKey) -> Vec<ConfigSynonym> {
    let names: Vec<&'static ConfigKey> = std::iter::once(key)
        .chain(key.alternatives.iter().filter_map(|other| broker_key(other.name)))
        .collect();
    let given = names.iter().filter_map(|key| {
        let text = settings.given(key.name)?;
        let value = Some(text.to_owned()).filter(|_| !key.is_sensitive());
        Some(ConfigSynonym { name: key.name, value, source: ConfigSource::StaticBroker })
    });
    let defaults = names.iter().filter_map(|key| default_synonym(key));
    given.chain(defaults).collect()
}

fn default_synonym(key: &'static ConfigKey) -> Option<ConfigSynonym> {
    let value = render(&default_of(key))?;
    Some(ConfigSynonym { name: key.name, value: Some(value), source: ConfigSource::Default })
}

/// A value as Kafka's tools print it.
fn render(value: &ConfigValue) -> Option<String> {
    match value {
        ConfigValue::Null => None,
        ConfigValue::Boolean(value) => Some(value.to_string()),
        ConfigValue::Number(value) => Some(value.to_string()),
        // Java prints 0.9 as 0.9 and 1 as 1.0, and large ones with an exponent.
        ConfigValue::Double(value) if value.abs() >= 1e7 => Some(format!("{value:E}")),
        ConfigValue::Double(value) => Some(format!("{value:?}")),
        ConfigValue::Text(value) => Some(value.clone()),
        ConfigValue::List(value) => Some(value.join(",")),
    }
}
