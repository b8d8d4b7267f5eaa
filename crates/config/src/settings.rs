//! The values given for a node's keys, and what they come to.

use std::collections::BTreeMap;

use java_properties::PropertiesIter;

use crate::keys::{broker_key, broker_keys, is_retired, nearest};
use crate::values::Values;
use crate::{ConfigKey, ConfigProblem, ConfigValue, ConfigWarning};

/// The values given for a node's keys; below them lie the defaults of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    given: BTreeMap<&'static str, Given>,
}

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
pub(crate) fn read_properties(text: &str) -> Result<Vec<(String, String)>, ConfigProblem> {
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
        let mut given = BTreeMap::new();
        for (name, text) in pairs {
            let Some(key) = broker_key(&name) else {
                findings.warnings.push(judge_unknown(name));
                continue;
            };
            match key.parse(&text) {
                Ok(value) => {
                    given.insert(key.name, Given { text: text.trim().to_owned(), value });
                }
                Err(accepted) => findings.problems.push(invalid(key, &text, accepted)),
            }
        }
        for (name, given) in &given {
            let key = row(name);
            if !key.used && default_of(key) != given.value {
                findings.warnings.push(ConfigWarning::NotYetUsed { key: (*name).to_owned() });
            }
        }
        Self { given }
    }

    /// The text given for exactly this key.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(|given| given.text.as_str())
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
        let given = candidates().find_map(|(candidate, factor)| {
            self.given.get(candidate.name).map(|given| scaled(given.value.clone(), factor))
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

pub(crate) fn invalid(key: &ConfigKey, text: &str, accepted: String) -> ConfigProblem {
    let value = if key.is_sensitive() { "(hidden)" } else { text.trim() };
    ConfigProblem::InvalidValue { key: key.name.to_owned(), value: value.to_owned(), accepted }
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
