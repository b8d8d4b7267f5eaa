//! The values given for a node's keys, and what they come to.

use std::collections::BTreeMap;

use java_properties::PropertiesIter;

use crate::keys::{broker_key, broker_keys, is_retired, nearest};
use crate::values::Values;
use crate::{ConfigKey, ConfigProblem, ConfigSource, ConfigValue, ConfigWarning};

/// The values given for a node's keys, in layers; below them lie the defaults of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    /// The strongest first: [`Settings::SOURCES`].
    layers: [Layer; 3],
}

type Layer = BTreeMap<&'static str, Given>;

/// A value as it was written, and as it was read.
#[derive(Clone, Debug, PartialEq)]
struct Given {
    text: String,
    value: ConfigValue,
}

/// What came up while a layer was read.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) problems: Vec<ConfigProblem>,
    pub(crate) warnings: Vec<ConfigWarning>,
}

/// The keys and values of a properties text, in order.
pub fn read_properties(text: &str) -> Result<Vec<(String, String)>, ConfigProblem> {
    let mut pairs = Vec::new();
    PropertiesIter::new(escape_non_ascii(text).as_bytes())
        .read_into(|key, value| pairs.push((key, value)))
        .map_err(|error| ConfigProblem::Syntax {
            line: error.line_number().unwrap_or(0),
            reason: error.to_string(),
        })?;
    Ok(pairs)
}

/// Properties files are Latin-1, where other letters are written as `\uXXXX`.
fn escape_non_ascii(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii() {
            escaped.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

impl Settings {
    /// Reads `pairs`; a later pair replaces an earlier one.
    pub(crate) fn read(
        pairs: impl IntoIterator<Item = (String, String)>,
        findings: &mut Findings,
    ) -> Self {
        let mut given = Layer::new();
        for (name, text) in pairs {
            let Some(key) = broker_key(&name) else {
                findings.warnings.push(judge_unknown(name));
                continue;
            };
            match key.parse(&text) {
                Ok(value) => {
                    given.insert(key.name, Given { text: text.trim().to_owned(), value });
                }
                Err(accepted) => findings.problems.push(key.invalid(&text, accepted)),
            }
        }
        for (name, given) in &given {
            let key = row(name);
            if !key.used && default_of(key) != given.value {
                findings.warnings.push(ConfigWarning::NotYetUsed { key: (*name).to_owned() });
            }
        }
        Self { layers: [Layer::new(), Layer::new(), given] }
    }

    /// Whose values the layers hold (KIP-226).
    const SOURCES: [ConfigSource; 3] = [
        ConfigSource::DynamicBroker,
        ConfigSource::DynamicDefaultBroker,
        ConfigSource::StaticBroker,
    ];

    /// The same start, with these values set for all brokers and for this one while it runs. What
    /// cannot be is left out, and told.
    pub(crate) fn with_dynamic<K: AsRef<str>, V: AsRef<str>>(
        &self,
        all_brokers: impl IntoIterator<Item = (K, V)>,
        this_broker: impl IntoIterator<Item = (K, V)>,
        problems: &mut Vec<ConfigProblem>,
    ) -> Self {
        let all_brokers = read_dynamic(all_brokers, true, problems);
        let this_broker = read_dynamic(this_broker, false, problems);
        Self { layers: [this_broker, all_brokers, self.layers[2].clone()] }
    }

    /// The text given at the start for exactly this key.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.layers[2].get(name).map(|given| given.text.as_str())
    }

    /// The texts given for any of these keys: by layer, then by key.
    pub(crate) fn all_given<'a>(
        &'a self,
        keys: &'a [&'static ConfigKey],
    ) -> impl Iterator<Item = (&'static ConfigKey, &'a str, ConfigSource)> {
        let layers = self.layers.iter().zip(Self::SOURCES);
        layers.flat_map(|(layer, source)| {
            keys.iter().filter_map(move |key| {
                layer.get(key.name).map(|given| (*key, given.text.as_str(), source))
            })
        })
    }

    /// The keys that were set for all brokers.
    pub(crate) fn set_for_all(&self) -> impl Iterator<Item = &'static ConfigKey> {
        self.layers[1].keys().map(|name| row(name))
    }
}

impl Values for Settings {
    /// What the key comes to: its own value, else that of a key that speaks for it, else a default.
    fn effective(&self, name: &str) -> ConfigValue {
        let key = row(name);
        let candidates = || {
            let own = (key, 1);
            let others = key.alternatives.iter().map(|other| (row(other.name), other.factor));
            std::iter::once(own).chain(others)
        };
        // A stronger layer wins whatever the unit: a dynamic log.retention.ms over static hours.
        let given = self.layers.iter().find_map(|layer| {
            candidates().find_map(|(candidate, factor)| {
                layer.get(candidate.name).map(|given| scaled(given.value.clone(), factor))
            })
        });
        let default = || {
            candidates()
                .map(|(candidate, factor)| scaled(default_of(candidate), factor))
                .find(|value| *value != ConfigValue::Null)
        };
        given.or_else(default).unwrap_or(ConfigValue::Null)
    }
}

fn row(name: &str) -> &'static ConfigKey {
    broker_key(name).unwrap_or_else(|| panic!("bug: {name} is not in the table"))
}

/// The default of a row, read as its values are.
pub(crate) fn default_of(key: &ConfigKey) -> ConfigValue {
    key.default.map_or(ConfigValue::Null, |text| {
        key.parse(text).unwrap_or_else(|_| panic!("bug: the default of {} is not valid", key.name))
    })
}

/// A coarser unit in the finer one; a negative number stays "no limit".
fn scaled(value: ConfigValue, factor: i64) -> ConfigValue {
    match value {
        ConfigValue::Number(number) if number < 0 => ConfigValue::Number(number),
        ConfigValue::Number(number) => ConfigValue::Number(number.saturating_mul(factor)),
        other @ (ConfigValue::Null
        | ConfigValue::Boolean(_)
        | ConfigValue::Double(_)
        | ConfigValue::Text(_)
        | ConfigValue::List(_)) => other,
    }
}

fn read_dynamic<K: AsRef<str>, V: AsRef<str>>(
    pairs: impl IntoIterator<Item = (K, V)>,
    all_brokers: bool,
    problems: &mut Vec<ConfigProblem>,
) -> Layer {
    let mut layer = Layer::new();
    for (name, text) in pairs {
        match read_dynamic_value(name.as_ref(), text.as_ref(), all_brokers) {
            Ok((key, value)) => {
                layer.insert(key.name, Given { text: text.as_ref().trim().to_owned(), value });
            }
            Err(problem) => problems.push(problem),
        }
    }
    layer
}

pub(crate) fn read_dynamic_value(
    name: &str,
    text: &str,
    all_brokers: bool,
) -> Result<(&'static ConfigKey, ConfigValue), ConfigProblem> {
    let Some(key) = broker_key(name) else {
        let nearest = nearest(name, broker_keys());
        return Err(ConfigProblem::UnknownKey { key: name.to_owned(), nearest });
    };
    Ok((key, key.parse_dynamic(text, all_brokers)?))
}

fn judge_unknown(name: String) -> ConfigWarning {
    // KIP-103: `listener.name.<listener>.<key>` gives a key for one listener.
    let of_listener = name
        .strip_prefix("listener.name.")
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(_, rest)| broker_keys().any(|key| rest.ends_with(key.name)));
    if of_listener {
        ConfigWarning::NotYetUsed { key: name }
    } else if is_retired(&name) {
        ConfigWarning::Retired { key: name }
    } else {
        let nearest = nearest(&name, broker_keys());
        ConfigWarning::UnknownKey { key: name, nearest }
    }
}
