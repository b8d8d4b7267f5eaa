//! One table of every configuration key, and the typed configuration that is read through it.
//!
//! Kafka's `KafkaConfig`, `LogConfig` and the `ConfigDef` below them.
//!
//! [`BROKER_CHAPTERS`] and [`TOPIC_KEYS`] are the table: name, type, default, range, documentation,
//! importance and dynamic scope of each key. [`BrokerConfig::parse`] reads a `server.properties`
//! through it into one plain struct per component; [`BrokerConfig::log_config`] lays a topic's
//! overrides over that. [`BrokerConfig::with_dynamic`] lays under it what was set for this broker, and for
//! all, while they run (KIP-226). DescribeConfigs ([`BrokerConfig::describe_topic`]) and
//! `docs/configuration.md` ([`reference`]) are printed from the same rows. [`ClientSettings`] reads what a client is given
//! through a table of the same kind.
//!
//! # Invariants
//! - A typed config exists only if every value in it was accepted by its row.
//! - A key that Ottla does not act on says so when it is set; none is silently ignored.
//!
//! # Not here
//! Reading files (the command line does), and keeping what is set while the node runs (the metadata
//! image does).

mod broker_config;
mod client_metrics;
mod client_settings;
mod describe;
mod dynamic;
mod group_config;
mod key;
mod keys;
mod listener;
mod log_config;
mod problem;
mod reference;
mod settings;
mod values;

pub use broker_config::{
    BrokerConfig, FetchSettings, GroupCoordinatorSettings, LogCleanerConfig, LogManagerConfig,
    NodeConfig, OffsetsSettings, QuorumConfig, QuorumVoter, QuotaSettings, QuotaWindow,
    RebalanceConfig, ReplicaManagerConfig, ReplicationThrottle, Sendfile, ServerAddress,
    SocketServerConfig, TelemetrySettings, TopicDefaults,
};
pub use client_metrics::{
    ClientMetricsConfig, ClientMetricsProblem, DEFAULT_PUSH_INTERVAL, validate_client_metrics,
};
pub use client_settings::ClientSettings;
pub use describe::{ConfigEntry, ConfigSource, ConfigSynonym, describe_client_metrics};
pub use dynamic::validate_dynamic_config;
pub use key::{Alternative, ConfigKey, ConfigType, ConfigValue, DynamicScope, Importance, Valid};
pub use keys::{
    ADMIN_CHAPTERS, BROKER_CHAPTERS, CLIENT_METRICS_KEYS, CONSUMER_CHAPTERS, Chapter, GROUP_KEYS,
    PRODUCER_CHAPTERS, TOPIC_KEYS, broker_key, broker_keys, client_metrics_key, group_key,
    iso_duration, topic_key,
};
pub use listener::{ListenerAddress, SecurityProtocol};
pub use log_config::{
    CleanupPolicy, LogConfig, MessageTimestampType, ThrottledReplicas, TopicCompression,
    validate_topic_config,
};
pub use problem::{ConfigError, ConfigProblem, ConfigWarning};
pub use reference::{client_reference, reference};
pub use settings::read_properties;
pub use values::Values;
