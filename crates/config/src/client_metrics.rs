//! Subscriptions to client metrics (KIP-714). Kafka's `ClientMetricsConfigs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::Regex;

use crate::key::list_elements;
use crate::keys::client_metrics_key;
use crate::{ConfigProblem, ConfigValue};

/// `interval.ms` of a client to which no subscription applies.
pub const DEFAULT_PUSH_INTERVAL: Duration = Duration::from_secs(300);

/// What a pattern of `match` may be about.
const MATCHED: &[&str] = &[
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Why a subscription to client metrics is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientMetricsProblem {
    /// A key that subscriptions do not have.
    #[error("Unknown client metrics configuration: {0}")]
    UnknownKey(String),
    /// `interval.ms` out of its range.
    #[error("Invalid value {0} for interval.ms, interval must be between 100 and 3600000 (1 hour)")]
    Interval(i32),
    /// An element of `match` that is no pattern.
    #[error("Illegal client matching pattern: {0}")]
    Pattern(String),
    /// A value that is not of its key's type.
    #[error(transparent)]
    Invalid(#[from] ConfigProblem),
}

/// Checks a subscription to client metrics as a whole.
pub fn validate_client_metrics<K: AsRef<str>, V: AsRef<str>>(
    set: impl IntoIterator<Item = (K, V)>,
) -> Result<(), ClientMetricsProblem> {
    for (name, text) in set {
        let (name, text) = (name.as_ref(), text.as_ref());
        let Some(key) = client_metrics_key(name) else {
            return Err(ClientMetricsProblem::UnknownKey(name.to_owned()));
        };
        if let Err(accepted) = key.parse(text) {
            return Err(match text.trim().parse() {
                Ok(interval) => ClientMetricsProblem::Interval(interval),
                Err(_) => key.invalid(text, accepted).into(),
            });
        }
        if name == "match"
            && let Some(illegal) = list_elements(text).find(|element| pattern(element).is_none())
        {
            return Err(ClientMetricsProblem::Pattern(illegal));
        }
    }
    Ok(())
}

/// What one element of `match` is about, and what must match there.
pub(crate) fn pattern(element: &str) -> Option<(&'static str, Regex)> {
    let (about, expression) = element.split_once('=')?;
    let about = MATCHED.iter().find(|known| **known == about.trim())?;
    let expression = expression.trim();
    if expression.is_empty() || expression.contains('=') {
        return None;
    }
    // Kafka matches the whole of the value.
    Some((about, Regex::new(&format!("^(?:{expression})$")).ok()?))
}

/// One subscription: which metrics which clients push, and how often. Kafka's `SubscriptionInfo`.
#[derive(Clone, Debug)]
pub struct ClientMetricsConfig {
    /// `metrics`: beginnings of names; `*` is all of them.
    pub metrics: BTreeSet<String>,
    /// `interval.ms`: the time between two pushes.
    pub interval: Duration,
    /// `match`: what the client must be, by what the expression is about. All must match; of two about the same, the last.
    pub patterns: BTreeMap<&'static str, Regex>,
}

impl ClientMetricsConfig {
    /// The subscription for which `set` was accepted; what is not valid all the same counts as not set.
    pub fn of<K: AsRef<str>, V: AsRef<str>>(set: impl IntoIterator<Item = (K, V)>) -> Self {
        let (metrics, patterns) = (BTreeSet::new(), BTreeMap::new());
        let mut config = Self { metrics, interval: DEFAULT_PUSH_INTERVAL, patterns };
        for (name, text) in set {
            let (name, text) = (name.as_ref(), text.as_ref());
            match (name, client_metrics_key(name).and_then(|key| key.parse(text).ok())) {
                ("metrics", Some(ConfigValue::List(metrics))) => {
                    config.metrics = metrics.into_iter().collect();
                }
                ("interval.ms", Some(ConfigValue::Number(millis))) => {
                    config.interval = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
                }
                ("match", Some(ConfigValue::List(elements))) => {
                    config.patterns = elements.iter().filter_map(|it| pattern(it)).collect();
                }
                _ => {}
            }
        }
        config
    }
}
