//! The values given for a node's keys, and what they come to.

use std::collections::BTreeMap;
use std::time::Duration;

use java_properties::PropertiesIter;

use crate::keys::{broker_key, broker_keys, is_retired, nearest};
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

/// Named values that were checked against the table: a wrong name or type here is a bug.
pub(crate) trait Values {
    /// What the key comes to, whoever gave it.
    fn effective(&self, name: &str) -> ConfigValue;

    /// A number that fits its field: the table's range sees to it.
    fn number<N: TryFrom<i64>>(&self, name: &str) -> N {
        let ConfigValue::Number(number) = self.effective(name) else {
            panic!("bug: {name} is not a number");
        };
        N::try_from(number).unwrap_or_else(|_| panic!("bug: the field of {name} is too narrow"))
    }

    /// A limit; a negative number is none.
    fn limit<N: TryFrom<i64>>(&self, name: &str) -> Option<N> {
        (self.number::<i64>(name) >= 0).then(|| self.number(name))
    }

    /// A time; never negative.
    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name))
    }

    /// A time; a negative number and the largest one mean never.
    fn millis_or_never(&self, name: &str) -> Option<Duration> {
        let number: i64 = self.number(name);
        u64::try_from(number).ok().filter(|_| number != i64::MAX).map(Duration::from_millis)
    }

    fn boolean(&self, name: &str) -> bool {
        let ConfigValue::Boolean(value) = self.effective(name) else {
            panic!("bug: {name} is not a boolean");
        };
        value
    }

    fn double(&self, name: &str) -> f64 {
        let ConfigValue::Double(value) = self.effective(name) else {
            panic!("bug: {name} is not a double");
        };
        value
    }

    /// A text; null and blank are none.
    fn text(&self, name: &str) -> Option<String> {
        let text = match self.effective(name) {
            ConfigValue::Null => None,
            ConfigValue::Text(text) => Some(text),
            ConfigValue::Boolean(_)
            | ConfigValue::Number(_)
            | ConfigValue::Double(_)
            | ConfigValue::List(_) => panic!("bug: {name} is not a text"),
        };
        text.filter(|text| !text.is_empty())
    }

    /// A list; null is the empty list.
    fn list(&self, name: &str) -> Vec<String> {
        match self.effective(name) {
            ConfigValue::Null => Vec::new(),
            ConfigValue::List(list) => list,
            ConfigValue::Boolean(_)
            | ConfigValue::Number(_)
            | ConfigValue::Double(_)
            | ConfigValue::Text(_) => panic!("bug: {name} is not a list"),
        }
    }
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
