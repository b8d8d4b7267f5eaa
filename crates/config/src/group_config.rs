//! Configuration of one group: what the broker says, and what the group overrides. Kafka's `GroupConfig`.

use std::collections::BTreeMap;

use crate::keys::{BOUNDS, SESSIONS, group_key};
use crate::settings::default_of;
use crate::values::Values;
use crate::{BrokerConfig, ConfigProblem, ConfigValue};

impl BrokerConfig {
    /// Checks the overrides of one group as a whole: names, values, and the broker's bounds for
    /// those that are overridden (KIP-848, KIP-932, KIP-1071).
    pub fn check_group_config<K: AsRef<str>, V: AsRef<str>>(
        &self,
        overrides: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), ConfigProblem> {
        let mut given = BTreeMap::new();
        for (name, text) in overrides {
            let (name, text) = (name.as_ref(), text.as_ref());
            let Some(key) = group_key(name) else {
                return Err(ConfigProblem::Conflict(format!("Unknown group config name: {name}")));
            };
            let value = key.parse(text).map_err(|accepted| key.invalid(text, accepted))?;
            given.insert(key.name, value);
        }
        self.check_bounds(&given)?;
        for (session, heartbeat) in SESSIONS {
            let overridden = given.contains_key(session) || given.contains_key(heartbeat);
            if overridden
                && self.group_number(&given, session) <= self.group_number(&given, heartbeat)
            {
                return conflict(format!("{session} must be greater than {heartbeat}"));
            }
        }
        Ok(())
    }

    fn check_bounds(&self, given: &BTreeMap<&str, ConfigValue>) -> Result<(), ConfigProblem> {
        for (key, low, high) in BOUNDS {
            let Some(ConfigValue::Number(value)) = given.get(key) else { continue };
            if let Some(low) = low.filter(|low| *value < self.settings.number::<i64>(low)) {
                return conflict(format!("{key} must be greater than or equal to {low}"));
            }
            if *value > self.settings.number::<i64>(high) {
                return conflict(format!("{key} must be less than or equal to {high}"));
            }
        }
        Ok(())
    }

    fn group_number(&self, given: &BTreeMap<&str, ConfigValue>, name: &str) -> Option<i64> {
        let inherited = || {
            let key = group_key(name)?;
            Some(
                key.broker_twin
                    .map_or_else(|| default_of(key), |twin| self.settings.effective(twin)),
            )
        };
        match given.get(name).cloned().or_else(inherited)? {
            ConfigValue::Number(number) => Some(number),
            ConfigValue::Null
            | ConfigValue::Boolean(_)
            | ConfigValue::Double(_)
            | ConfigValue::Text(_)
            | ConfigValue::List(_) => None,
        }
    }
}

fn conflict<T>(text: String) -> Result<T, ConfigProblem> {
    Err(ConfigProblem::Conflict(text))
}
