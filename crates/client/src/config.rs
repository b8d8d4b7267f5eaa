//! What every client is configured with. Kafka's `CommonClientConfigs`.

use std::time::Duration;

use ottla_config::{ADMIN_CHAPTERS, ClientSettings, ConfigError, ConfigWarning, Values};

use crate::ConnectionOptions;

/// What producers, consumers and admins have in common, under Kafka's names.
///
/// ```
/// use ottla_client::CommonClientConfig;
/// let given = [("bootstrap.servers", "localhost:9092"), ("request.timeout.ms", "5000")];
/// let (config, _warnings) = CommonClientConfig::from_properties(given).unwrap();
/// assert_eq!(config.request_timeout.as_secs(), 5);
/// assert_eq!(config.retry_backoff.as_millis(), 100);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonClientConfig {
    /// `bootstrap.servers`, each `host:port`.
    pub bootstrap_servers: Vec<String>,
    /// `client.id`.
    pub client_id: String,
    /// `request.timeout.ms`.
    pub request_timeout: Duration,
    /// `retry.backoff.ms`: before a failed request is tried again, doubled each time (KIP-580).
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`.
    pub retry_backoff_max: Duration,
    /// `reconnect.backoff.ms`.
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`.
    pub reconnect_backoff_max: Duration,
    /// `socket.connection.setup.timeout.ms`.
    pub connection_setup_timeout: Duration,
    /// `socket.connection.setup.timeout.max.ms` (KIP-601).
    pub connection_setup_timeout_max: Duration,
    /// `connections.max.idle.ms`; `None` is never.
    pub connections_max_idle: Option<Duration>,
    /// `metadata.max.age.ms`.
    pub metadata_max_age: Duration,
    /// `metadata.recovery.strategy`: whether `bootstrap.servers` are asked again when no known broker
    /// answers (KIP-899).
    pub rebootstrap: bool,
    /// `send.buffer.bytes`; `None` lets the system tune it.
    pub send_buffer_bytes: Option<usize>,
    /// `receive.buffer.bytes`; `None` lets the system tune it.
    pub receive_buffer_bytes: Option<usize>,
}

impl CommonClientConfig {
    /// Reads keys that every client has.
    pub fn from_properties(
        pairs: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        let (settings, warnings) = ClientSettings::read(ADMIN_CHAPTERS, pairs)?;
        Ok((Self::read(&settings), warnings))
    }

    /// The common part of what a client of any kind was given.
    pub(crate) fn read(settings: &ClientSettings) -> Self {
        // Zero keeps the system's default too, as in Kafka.
        let buffer = |key| settings.limit(key).filter(|bytes: &usize| *bytes > 0);
        Self {
            bootstrap_servers: settings.list("bootstrap.servers"),
            client_id: settings.text("client.id").unwrap_or_default(),
            request_timeout: settings.millis("request.timeout.ms"),
            retry_backoff: settings.millis("retry.backoff.ms"),
            retry_backoff_max: settings.millis("retry.backoff.max.ms"),
            reconnect_backoff: settings.millis("reconnect.backoff.ms"),
            reconnect_backoff_max: settings.millis("reconnect.backoff.max.ms"),
            connection_setup_timeout: settings.millis("socket.connection.setup.timeout.ms"),
            connection_setup_timeout_max: settings.millis("socket.connection.setup.timeout.max.ms"),
            connections_max_idle: settings.millis_or_never("connections.max.idle.ms"),
            metadata_max_age: settings.millis("metadata.max.age.ms"),
            rebootstrap: settings.text("metadata.recovery.strategy").as_deref() != Some("none"),
            send_buffer_bytes: buffer("send.buffer.bytes"),
            receive_buffer_bytes: buffer("receive.buffer.bytes"),
        }
    }

    /// The wait before the try after `failures` failures (KIP-580): `retry.backoff.ms`, doubled each
    /// time up to `retry.backoff.max.ms`. `spread` from 0 to 1 moves it by up to a fifth either way.
    pub fn retry_backoff_after(&self, failures: u32, spread: f64) -> Duration {
        let doubled = self.retry_backoff.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(self.retry_backoff_max.max(self.retry_backoff)).mul_f64(0.8 + 0.4 * spread)
    }

    /// How connections of such a client behave.
    pub fn connection_options(&self) -> ConnectionOptions {
        ConnectionOptions {
            client_id: self.client_id.clone(),
            connect_timeout: self.connection_setup_timeout,
            connect_timeout_max: self.connection_setup_timeout_max,
            request_timeout: self.request_timeout,
            retry_backoff: self.retry_backoff,
            max_idle: self.connections_max_idle,
            rebootstrap: self.rebootstrap,
            send_buffer_bytes: self.send_buffer_bytes,
            receive_buffer_bytes: self.receive_buffer_bytes,
            ..ConnectionOptions::default()
        }
    }
}

impl Default for CommonClientConfig {
    fn default() -> Self {
        let empty: [(&str, &str); 0] = [];
        Self::from_properties(empty).unwrap_or_else(|error| panic!("bug: {error}")).0
    }
}
