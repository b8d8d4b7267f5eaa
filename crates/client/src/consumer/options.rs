//! How a consumer behaves. Kafka: `ConsumerConfig`.

use std::sync::Arc;
use std::time::Duration;

use ottla_config::{
    CONSUMER_CHAPTERS, ClientSettings, ConfigError, ConfigProblem, ConfigWarning, Values,
    iso_duration,
};

use super::assignor::{Assignor, CooperativeSticky, Range, assignor_named};
use crate::CommonClientConfig;

/// `auto.offset.reset`: where to begin where nothing is committed, or where it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoOffsetReset {
    /// `earliest`: with the first record that is there.
    Earliest,
    /// `latest`: with the next record.
    Latest,
    /// `by_duration:PT1H` and the like: with the first record that is no older (KIP-1106).
    ByDuration(Duration),
    /// `none`: nowhere; [`ConsumerError::NoOffset`](super::ConsumerError::NoOffset) instead.
    None,
}

/// `isolation.level`: which records of transactions are read (KIP-98).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsolationLevel {
    /// All, also those that may be aborted yet.
    #[default]
    ReadUncommitted,
    /// Those that are committed, and those of no transaction; nothing beyond the first open one.
    ReadCommitted,
}

/// How a consumer behaves: each field is a key of Kafka's, with Kafka's default.
#[derive(Clone)]
pub struct ConsumerOptions {
    /// `group.id`; without it nothing can be subscribed to or committed.
    pub group_id: Option<String>,
    /// `group.instance.id`: makes it a static member, whose place is kept while it restarts
    /// (KIP-345).
    pub group_instance_id: Option<String>,
    /// `session.timeout.ms`: after this long without a heartbeat a member counts as gone.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: who does not poll for longer leaves the group (KIP-62).
    pub max_poll_interval: Duration,
    /// `partition.assignment.strategy`, the preferred one first. All members must have one in
    /// common. Rebalances are cooperative only if all of them are (KIP-429).
    pub assignors: Vec<Arc<dyn Assignor>>,
    /// `enable.auto.commit`: what was handed out is committed at the next poll.
    pub auto_commit: bool,
    /// `auto.commit.interval.ms`.
    pub auto_commit_interval: Duration,
    /// `auto.offset.reset`.
    pub auto_offset_reset: AutoOffsetReset,
    /// `isolation.level`.
    pub isolation_level: IsolationLevel,
    /// `fetch.min.bytes`: fewer are waited for.
    pub fetch_min_bytes: i32,
    /// `fetch.max.wait.ms`: how long the broker waits for them.
    pub fetch_max_wait: Duration,
    /// `fetch.max.bytes`, of one response. A larger batch comes all the same (KIP-74).
    pub fetch_max_bytes: i32,
    /// `max.partition.fetch.bytes`, in one response.
    pub max_partition_fetch_bytes: i32,
    /// `max.poll.records`: the most that one poll hands out.
    pub max_poll_records: usize,
    /// `check.crcs`.
    pub check_crcs: bool,
    /// `client.rack`: a replica in the same rack is read from, if the cluster is set up for it
    /// (KIP-392).
    pub client_rack: String,
    /// `metadata.max.age.ms`: after this long, partitions and topics are asked for again.
    pub metadata_max_age: Duration,
    /// `allow.auto.create.topics`: brokers may make topics that are subscribed to.
    pub allow_auto_create_topics: bool,
    /// `exclude.internal.topics`: patterns do not match them.
    pub exclude_internal_topics: bool,
    /// `default.api.timeout.ms`: how long calls take that wait for an answer.
    pub default_api_timeout: Duration,
    /// The most bytes that the records of one compressed batch may have: a few bytes can claim
    /// to be gigabytes.
    pub max_batch_bytes: usize,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            group_id: None,
            group_instance_id: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            assignors: vec![Arc::new(Range), Arc::new(CooperativeSticky)],
            auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            auto_offset_reset: AutoOffsetReset::Latest,
            isolation_level: IsolationLevel::ReadUncommitted,
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            max_poll_records: 500,
            check_crcs: true,
            client_rack: String::new(),
            metadata_max_age: Duration::from_secs(300),
            allow_auto_create_topics: true,
            exclude_internal_topics: true,
            default_api_timeout: Duration::from_secs(60),
            max_batch_bytes: 100 << 20,
        }
    }
}

impl ConsumerOptions {
    /// The defaults, in the group `group_id`.
    pub fn in_group(group_id: impl Into<String>) -> Self {
        Self { group_id: Some(group_id.into()), ..Self::default() }
    }
}

/// What a consumer is configured with, under Kafka's names.
///
/// ```
/// use ottla_client::{AutoOffsetReset, ConsumerConfig};
/// let given = [("bootstrap.servers", "localhost:9092"), ("group.id", "g"), ("auto.offset.reset", "earliest")];
/// let (config, _warnings) = ConsumerConfig::from_properties(given).unwrap();
/// assert_eq!(config.options.auto_offset_reset, AutoOffsetReset::Earliest);
///
/// let error = ConsumerConfig::from_properties([("fetch.max.byte", "1")]).err().unwrap();
/// assert_eq!(error.to_string(), "fetch.max.byte is not a known key; did you mean fetch.max.bytes?");
/// ```
#[derive(Clone)]
pub struct ConsumerConfig {
    /// What every client has.
    pub common: CommonClientConfig,
    /// What consumers have.
    pub options: ConsumerOptions,
}

impl ConsumerConfig {
    /// Reads a consumer's keys. The warnings are of keys that have no effect.
    pub fn from_properties(
        pairs: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        let (settings, warnings) = ClientSettings::read(CONSUMER_CHAPTERS, pairs)?;
        let common = CommonClientConfig::read(&settings);
        let options = ConsumerOptions::read(&settings);
        if options.heartbeat_interval >= options.session_timeout {
            let text = "heartbeat.interval.ms must be below session.timeout.ms".to_owned();
            return Err(ConfigProblem::Conflict(text).into());
        }
        Ok((Self { common, options }, warnings))
    }
}

impl ConsumerOptions {
    fn read(settings: &ClientSettings) -> Self {
        let assignors = settings.list("partition.assignment.strategy");
        Self {
            group_id: settings.text("group.id"),
            group_instance_id: settings.text("group.instance.id"),
            session_timeout: settings.millis("session.timeout.ms"),
            heartbeat_interval: settings.millis("heartbeat.interval.ms"),
            max_poll_interval: settings.millis("max.poll.interval.ms"),
            assignors: assignors.iter().filter_map(|name| assignor_named(name)).collect(),
            auto_commit: settings.boolean("enable.auto.commit"),
            auto_commit_interval: settings.millis("auto.commit.interval.ms"),
            auto_offset_reset: reset_policy(
                &settings.text("auto.offset.reset").unwrap_or_default(),
            ),
            isolation_level: match settings.text("isolation.level").as_deref() {
                Some("read_committed") => IsolationLevel::ReadCommitted,
                _ => IsolationLevel::ReadUncommitted,
            },
            fetch_min_bytes: settings.number("fetch.min.bytes"),
            fetch_max_wait: settings.millis("fetch.max.wait.ms"),
            fetch_max_bytes: settings.number("fetch.max.bytes"),
            max_partition_fetch_bytes: settings.number("max.partition.fetch.bytes"),
            max_poll_records: settings.number("max.poll.records"),
            check_crcs: settings.boolean("check.crcs"),
            client_rack: settings.text("client.rack").unwrap_or_default(),
            metadata_max_age: settings.millis("metadata.max.age.ms"),
            allow_auto_create_topics: settings.boolean("allow.auto.create.topics"),
            exclude_internal_topics: settings.boolean("exclude.internal.topics"),
            default_api_timeout: settings.millis("default.api.timeout.ms"),
            ..Self::default()
        }
    }
}

/// What the table lets through.
fn reset_policy(text: &str) -> AutoOffsetReset {
    match text.strip_prefix("by_duration:").and_then(iso_duration) {
        Some(age) => AutoOffsetReset::ByDuration(age),
        None => match text {
            "earliest" => AutoOffsetReset::Earliest,
            "none" => AutoOffsetReset::None,
            _ => AutoOffsetReset::Latest,
        },
    }
}
