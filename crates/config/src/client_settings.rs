//! The values given to a client, checked against the table of its kind.

use std::collections::BTreeMap;

use crate::keys::{Chapter, client_tables, nearest, rows};
use crate::settings::default_of;
use crate::values::Values;
use crate::{ConfigError, ConfigKey, ConfigProblem, ConfigValue, ConfigWarning};

/// The values given to a client; below them lie the defaults of its table.
///
/// ```
/// use ottla_config::{ClientSettings, PRODUCER_CHAPTERS, Values};
/// let (settings, _) = ClientSettings::read(PRODUCER_CHAPTERS, [("linger.ms", "20")]).unwrap();
/// assert_eq!(settings.millis("linger.ms").as_millis(), 20);
/// assert_eq!(settings.number::<usize>("batch.size"), 16_384);
/// let error = ClientSettings::read(PRODUCER_CHAPTERS, [("linger.msec", "20")]).unwrap_err();
/// assert_eq!(error.to_string(), "linger.msec is not a known key; did you mean linger.ms?");
/// ```
#[derive(Clone, Debug)]
pub struct ClientSettings {
    table: &'static [Chapter],
    given: BTreeMap<&'static str, ConfigValue>,
}

impl ClientSettings {
    /// Reads `pairs` through `table`; a later pair replaces an earlier one.
    ///
    /// Every value that is out of range and every key that no client has is a problem, all of them
    /// told at once. A key of another kind of client, or one that is not acted on, is a warning.
    pub fn read(
        table: &'static [Chapter],
        pairs: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        let mut given = BTreeMap::new();
        let mut problems = Vec::new();
        let mut warnings = Vec::new();
        for (name, text) in pairs {
            let (name, text) = (name.as_ref().trim(), text.as_ref());
            let Some(key) = rows(table).find(|key| key.name == name) else {
                let key = name.to_owned();
                if client_tables().any(|table| rows(table).any(|key| key.name == name)) {
                    warnings.push(ConfigWarning::OtherClient { key });
                } else {
                    problems.push(ConfigProblem::UnknownKey {
                        nearest: nearest(name, rows(table)),
                        key,
                    });
                }
                continue;
            };
            match key.parse(text) {
                Ok(value) => {
                    if !key.used && default_of(key) != value {
                        warnings.push(ConfigWarning::NotYetUsed { key: name.to_owned() });
                    }
                    given.insert(key.name, value);
                }
                Err(accepted) => problems.push(key.invalid(text, accepted)),
            }
        }
        if problems.is_empty() {
            Ok((Self { table, given }, warnings))
        } else {
            Err(ConfigError { problems })
        }
    }

    /// Whether someone gave a value to this key.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    fn row(&self, name: &str) -> &'static ConfigKey {
        rows(self.table)
            .find(|key| key.name == name)
            .unwrap_or_else(|| panic!("bug: {name} is not in the table"))
    }
}

impl Values for ClientSettings {
    fn effective(&self, name: &str) -> ConfigValue {
        self.given.get(name).cloned().unwrap_or_else(|| default_of(self.row(name)))
    }
}
