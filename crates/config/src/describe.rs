//! What DescribeConfigs shows (KIP-226, KIP-569): each value, where it comes from, and its synonyms.

use std::collections::BTreeMap;

use crate::keys::{GROUP_KEYS, TOPIC_KEYS, broker_key, broker_keys, client_metrics_key};
use crate::settings::{Settings, default_of};
use crate::values::Values;
use crate::{BrokerConfig, ConfigKey, ConfigType, ConfigValue};

/// Where a value comes from; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    DynamicTopic = 1,
    /// Set on the broker while it runs.
    DynamicBroker = 2,
    /// Set on all brokers while they run.
    DynamicDefaultBroker = 3,
    /// Given to the broker at its start.
    StaticBroker = 4,
    /// The default of the table.
    Default = 5,
    /// Set on the subscription to client metrics (KIP-714).
    ClientMetrics = 7,
    /// Set on the group (KIP-848).
    Group = 8,
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
            entry(key, value, synonyms, !key.is_dynamic())
        };
        broker_keys().map(entry).collect()
    }

    /// What is set for all brokers while they run.
    pub fn describe_all_brokers(&self) -> Vec<ConfigEntry> {
        let entry = |key: &'static ConfigKey| {
            let mut synonyms = broker_synonyms(&self.settings, key);
            synonyms.retain(|synonym| synonym.source == ConfigSource::DynamicDefaultBroker);
            let value = synonyms.first().and_then(|synonym| synonym.value.clone());
            entry(key, value, synonyms, !key.is_dynamic())
        };
        self.settings.set_for_all().map(entry).collect()
    }

    /// Every key of a topic with these overrides, in alphabetical order as Kafka's tools show them.
    pub fn describe_topic<K: AsRef<str>, V: AsRef<str>>(
        &self,
        overrides: impl IntoIterator<Item = (K, V)>,
    ) -> Vec<ConfigEntry> {
        self.describe_resource(TOPIC_KEYS, overrides, ConfigSource::DynamicTopic)
    }

    /// Every key of a group with these overrides, in alphabetical order (KIP-848, KIP-932).
    pub fn describe_group<K: AsRef<str>, V: AsRef<str>>(
        &self,
        overrides: impl IntoIterator<Item = (K, V)>,
    ) -> Vec<ConfigEntry> {
        self.describe_resource(GROUP_KEYS, overrides, ConfigSource::Group)
    }

    fn describe_resource<K: AsRef<str>, V: AsRef<str>>(
        &self,
        keys: &'static [ConfigKey],
        overrides: impl IntoIterator<Item = (K, V)>,
        source: ConfigSource,
    ) -> Vec<ConfigEntry> {
        let overrides: BTreeMap<String, String> = overrides
            .into_iter()
            .map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned()))
            .collect();
        let entry = |key: &'static ConfigKey| {
            let own = overrides.get(key.name).map(|text| (text.as_str(), source));
            self.resource_entry(key, own)
        };
        let mut entries: Vec<_> = keys.iter().map(entry).collect();
        entries.sort_by_key(|entry| entry.name);
        entries
    }

    /// A key of a topic or a group: its own value, else what the broker says.
    fn resource_entry(
        &self,
        key: &'static ConfigKey,
        own: Option<(&str, ConfigSource)>,
    ) -> ConfigEntry {
        let twin = key.broker_twin.and_then(broker_key);
        let inherited = twin.map_or_else(
            || default_synonym(key).into_iter().collect(),
            |twin| broker_synonyms(&self.settings, twin),
        );
        let value = match (own, twin) {
            (Some((text, _)), _) => Some(text.to_owned()),
            (None, Some(twin)) => render(&self.settings.effective(twin.name)),
            (None, None) => key.default.map(str::to_owned),
        };
        let own = own.map(|(text, source)| ConfigSynonym {
            name: key.name,
            value: Some(text.to_owned()),
            source,
        });
        entry(key, value, own.into_iter().chain(inherited).collect(), false)
    }
}

/// What is set on a subscription to client metrics, and nothing else, as Kafka shows it (KIP-714).
pub fn describe_client_metrics<K: AsRef<str>, V: AsRef<str>>(
    set: impl IntoIterator<Item = (K, V)>,
) -> Vec<ConfigEntry> {
    let entry = |(name, value): (K, V)| {
        let key = client_metrics_key(name.as_ref())?;
        let (value, source) = (Some(value.as_ref().to_owned()), ConfigSource::ClientMetrics);
        let synonym = ConfigSynonym { name: key.name, value: value.clone(), source };
        Some(entry(key, value, vec![synonym], false))
    };
    set.into_iter().filter_map(entry).collect()
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
    let given = settings.all_given(&names).map(|(key, text, source)| {
        let value = Some(text.to_owned()).filter(|_| !key.is_sensitive());
        ConfigSynonym { name: key.name, value, source }
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
