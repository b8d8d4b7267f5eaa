//! The configuration of one topic's logs: what the broker says, and what the topic overrides.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::BrokerId;

use crate::keys::{TOPIC_KEYS, nearest, topic_key};
use crate::settings::{Settings, default_of};
use crate::values::Values;
use crate::{ConfigError, ConfigKey, ConfigProblem, ConfigValue, Valid};

/// Everything that a log needs to know about its topic. Kafka's `LogConfig`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type`: what the broker stores.
    pub compression: TopicCompression,
    /// `compression.gzip.level`: -1 for the library's default, or 1 to 9.
    pub gzip_level: i32,
    /// `compression.lz4.level`: 1 to 17.
    pub lz4_level: i32,
    /// `compression.zstd.level`: -131072 to 22.
    pub zstd_level: i32,
    /// `max.message.bytes`: the largest record batch, as stored, in bytes.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`.
    pub message_timestamp_type: MessageTimestampType,
    /// `message.timestamp.before.max.ms`: how far a record's time may lie behind the broker's.
    pub message_timestamp_before_max: Duration,
    /// `message.timestamp.after.max.ms`: how far a record's time may lie ahead of the broker's.
    pub message_timestamp_after_max: Duration,
    /// `segment.bytes`: a segment is rolled before it grows beyond this many bytes.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is rolled when its first record is older than this.
    pub segment_ms: Duration,
    /// `segment.jitter.ms`: up to this much is taken off `segment_ms`, at random per segment.
    pub segment_jitter_ms: Duration,
    /// `segment.index.bytes`: the largest offset or time index, in bytes.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`: one index entry per this many bytes of log.
    pub index_interval_bytes: u32,
    /// `preallocate`: reserve a segment's space when it is made.
    pub preallocate: bool,
    /// `retention.bytes` of one partition; `None` is no limit.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`; `None` is for ever.
    pub retention_ms: Option<Duration>,
    /// `file.delete.delay.ms`: how long a removed segment's files stay for readers still at them.
    pub file_delete_delay: Duration,
    /// `flush.messages`: records after which the log is synced to disk; `i64::MAX` is never.
    pub flush_messages: u64,
    /// `flush.ms`: time after which unsynced records are synced to disk; `None` is never.
    pub flush_ms: Option<Duration>,
    /// `delete.retention.ms`: how long compaction keeps a tombstone.
    pub delete_retention_ms: Duration,
    /// `min.cleanable.dirty.ratio`: 0.0 to 1.0, the dirty share of a log that makes it worth compacting.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: a record younger than this is not compacted.
    pub min_compaction_lag: Duration,
    /// `max.compaction.lag.ms`: a record older than this makes its log due; `None` is never.
    pub max_compaction_lag: Option<Duration>,
    /// `min.insync.replicas`: at least 1; fewer in the ISR refuse `acks=all`.
    pub min_insync_replicas: u32,
    /// `unclean.leader.election.enable`: whether a replica outside the ISR may lead.
    pub unclean_leader_election: bool,
    /// `leader.replication.throttled.replicas` (KIP-73).
    pub leader_throttled_replicas: ThrottledReplicas,
    /// `follower.replication.throttled.replicas` (KIP-73).
    pub follower_throttled_replicas: ThrottledReplicas,
}

/// Replicas of a topic that are fetched no faster than their brokers are configured for (KIP-73).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThrottledReplicas {
    /// All of them: `*`.
    All,
    /// These, each by its partition and its broker. Shared by all logs of the topic.
    Listed(Arc<BTreeSet<(i32, BrokerId)>>),
}

impl ThrottledReplicas {
    /// Whether the replica of `partition` on `broker` is one of them.
    pub fn contains(&self, partition: i32, broker: BrokerId) -> bool {
        match self {
            Self::All => true,
            Self::Listed(replicas) => replicas.contains(&(partition, broker)),
        }
    }

    /// Reads `*`, or a list of `partition:broker`, whose elements the table has checked.
    fn of_list(elements: &[String]) -> Self {
        if elements.iter().any(|element| element == "*") {
            return Self::All;
        }
        let replicas = elements.iter().filter_map(|element| {
            let (partition, broker) = element.split_once(':')?;
            Some((partition.parse().ok()?, BrokerId(broker.parse().ok()?)))
        });
        Self::Listed(Arc::new(replicas.collect()))
    }
}

/// `cleanup.policy`: how a log is kept from growing for ever. Neither is allowed (KIP-1241).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted by time and size.
    pub delete: bool,
    /// The newest record per key is kept.
    pub compact: bool,
}

/// `message.timestamp.type` (KIP-32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageTimestampType {
    /// The producer's time is kept.
    CreateTime,
    /// The broker stamps its own time on each batch.
    LogAppendTime,
}

/// `compression.type` of a topic (KIP-110 for zstd).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicCompression {
    /// As the producer sent it.
    Producer,
    /// Not compressed.
    Uncompressed,
    /// gzip.
    Gzip,
    /// snappy.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl fmt::Display for MessageTimestampType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateTime => "CreateTime",
            Self::LogAppendTime => "LogAppendTime",
        })
    }
}

/// `compression.gzip.level`.
pub(crate) const GZIP_LEVEL: Valid = Valid::Rule(
    |text| matches!(text.parse(), Ok(-1 | 1..=9)),
    "a whole number from 1 to 9, or -1 for the default",
);

impl LogConfig {
    /// What a topic of a node with these `settings` gets that overrides nothing.
    pub(crate) fn of_broker(settings: &Settings) -> Self {
        Self::of(&TopicValues { settings, overrides: BTreeMap::new() })
    }

    /// What a topic gets with these overrides. Every problem is reported: unknown keys, values out
    /// of range, keys that contradict each other.
    pub(crate) fn of_topic<K: AsRef<str>, V: AsRef<str>>(
        settings: &Settings,
        given: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError> {
        let mut overrides = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, value) in given {
            match read_topic_value(name.as_ref(), value.as_ref()) {
                Ok((key, value)) => drop(overrides.insert(key.name, value)),
                Err(problem) => problems.push(problem),
            }
        }
        let config = Self::of(&TopicValues { settings, overrides });
        if config.max_compaction_lag.is_some_and(|max| config.min_compaction_lag > max) {
            problems.push(ConfigProblem::Conflict(
                "min.compaction.lag.ms must not be above max.compaction.lag.ms".to_owned(),
            ));
        }
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }

    /// How long a segment may stay active: `segment.ms`, or `max.compaction.lag.ms` if that is less
    /// and the log is compacted, which the active segment never is (KIP-354).
    pub fn max_segment_ms(&self) -> Duration {
        match self.max_compaction_lag.filter(|_| self.cleanup_policy.compact) {
            Some(lag) => lag.min(self.segment_ms),
            None => self.segment_ms,
        }
    }

    fn of(values: &TopicValues<'_>) -> Self {
        let policies = values.list("cleanup.policy");
        let cleaned_by = |policy: &str| policies.iter().any(|given| given == policy);
        let timestamp_type = values.text("message.timestamp.type").unwrap_or_default();
        Self {
            cleanup_policy: CleanupPolicy {
                delete: cleaned_by("delete"),
                compact: cleaned_by("compact"),
            },
            compression: TopicCompression::of_name(
                &values.text("compression.type").unwrap_or_default(),
            ),
            gzip_level: values.number("compression.gzip.level"),
            lz4_level: values.number("compression.lz4.level"),
            zstd_level: values.number("compression.zstd.level"),
            max_message_bytes: values.number("max.message.bytes"),
            message_timestamp_type: MessageTimestampType::of_name(&timestamp_type),
            message_timestamp_before_max: values.millis("message.timestamp.before.max.ms"),
            message_timestamp_after_max: values.millis("message.timestamp.after.max.ms"),
            segment_bytes: values.number("segment.bytes"),
            segment_ms: values.millis("segment.ms"),
            segment_jitter_ms: values.millis("segment.jitter.ms"),
            segment_index_bytes: values.number("segment.index.bytes"),
            index_interval_bytes: values.number("index.interval.bytes"),
            preallocate: values.boolean("preallocate"),
            retention_bytes: values.limit("retention.bytes"),
            retention_ms: values.millis_or_never("retention.ms"),
            file_delete_delay: values.millis("file.delete.delay.ms"),
            flush_messages: values.number("flush.messages"),
            flush_ms: values.millis_or_never("flush.ms"),
            delete_retention_ms: values.millis("delete.retention.ms"),
            min_cleanable_dirty_ratio: values.double("min.cleanable.dirty.ratio"),
            min_compaction_lag: values.millis("min.compaction.lag.ms"),
            max_compaction_lag: values.millis_or_never("max.compaction.lag.ms"),
            min_insync_replicas: values.number("min.insync.replicas"),
            unclean_leader_election: values.boolean("unclean.leader.election.enable"),
            leader_throttled_replicas: ThrottledReplicas::of_list(
                &values.list("leader.replication.throttled.replicas"),
            ),
            follower_throttled_replicas: ThrottledReplicas::of_list(
                &values.list("follower.replication.throttled.replicas"),
            ),
        }
    }
}

/// A topic's overrides over its broker's settings.
struct TopicValues<'a> {
    settings: &'a Settings,
    overrides: BTreeMap<&'static str, ConfigValue>,
}

impl Values for TopicValues<'_> {
    fn effective(&self, name: &str) -> ConfigValue {
        if let Some(value) = self.overrides.get(name) {
            return value.clone();
        }
        let key = topic_key(name).unwrap_or_else(|| panic!("bug: {name} is not in the table"));
        key.broker_twin.map_or_else(|| default_of(key), |twin| self.settings.effective(twin))
    }
}

/// Checks one override of a topic. The message says what is wrong and what would be accepted.
pub fn validate_topic_config(name: &str, value: &str) -> Result<(), ConfigProblem> {
    read_topic_value(name, value).map(|_| ())
}

fn read_topic_value(
    name: &str,
    text: &str,
) -> Result<(&'static ConfigKey, ConfigValue), ConfigProblem> {
    let Some(key) = topic_key(name) else {
        let nearest = nearest(name, TOPIC_KEYS.iter());
        return Err(ConfigProblem::UnknownKey { key: name.to_owned(), nearest });
    };
    let value = key.parse(text).map_err(|accepted| key.invalid(text, accepted))?;
    Ok((key, value))
}

impl MessageTimestampType {
    fn of_name(name: &str) -> Self {
        if name == "LogAppendTime" { Self::LogAppendTime } else { Self::CreateTime }
    }
}

impl TopicCompression {
    fn of_name(name: &str) -> Self {
        match name {
            "uncompressed" => Self::Uncompressed,
            "gzip" => Self::Gzip,
            "snappy" => Self::Snappy,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => Self::Producer,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self::of_broker(&Settings::default())
    }
}
