//! Configuration that changes while brokers run (KIP-226). Kafka's `DynamicBrokerConfig`.

use crate::settings::read_dynamic_value;
use crate::{BrokerConfig, ConfigProblem};

/// Checks a value that is to be set for one broker, or for all of them, while they run.
pub fn validate_dynamic_config(
    name: &str,
    value: &str,
    all_brokers: bool,
) -> Result<(), ConfigProblem> {
    read_dynamic_value(name, value, all_brokers).map(|_| ())
}

impl BrokerConfig {
    /// The configuration of a node that was started with this one, while these values are set for
    /// all brokers and for this one. Whatever dynamic values this one has are left behind.
    ///
    /// What cannot be set is passed over, as Kafka does, and told.
    pub fn with_dynamic<K: AsRef<str>, V: AsRef<str>>(
        &self,
        all_brokers: impl IntoIterator<Item = (K, V)>,
        this_broker: impl IntoIterator<Item = (K, V)>,
    ) -> (Self, Vec<ConfigProblem>) {
        let mut problems = Vec::new();
        let settings = self.settings.with_dynamic(all_brokers, this_broker, &mut problems);
        let config = Self::of(settings, &mut problems);
        (config, problems)
    }

    /// Whether a running node that has this configuration may go on with `next`: threads are not
    /// changed to less than half or more than double their number at once (KIP-226).
    pub fn check_change(&self, next: &Self) -> Result<(), ConfigProblem> {
        let (now, then) = (self.log_cleaner.threads, next.log_cleaner.threads);
        let refusal = if then == now {
            return Ok(());
        } else if then < 1 {
            "Log cleaner threads should be at least 1".to_owned()
        } else if then < now / 2 {
            format!(
                "Log cleaner threads cannot be reduced to less than half the current value {now}"
            )
        } else if then > now.saturating_mul(2) {
            format!(
                "Log cleaner threads cannot be increased to more than double the current value {now}"
            )
        } else {
            return Ok(());
        };
        Err(ConfigProblem::Conflict(refusal))
    }
}
