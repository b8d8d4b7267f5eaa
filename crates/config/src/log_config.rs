//! The configuration of one topic's logs: what the broker says, and what the topic overrides.

use std::fmt;
use std::time::Duration;

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

impl Default for LogConfig {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            cleanup_policy: CleanupPolicy { delete: true, compact: false },
            compression: TopicCompression::Producer,
            gzip_level: -1,
            lz4_level: 9,
            zstd_level: 3,
            max_message_bytes: 1_048_588,
            message_timestamp_type: MessageTimestampType::CreateTime,
            message_timestamp_before_max: Duration::from_millis(i64::MAX as u64),
            message_timestamp_after_max: Duration::from_secs(3600),
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY,
            segment_jitter_ms: Duration::ZERO,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            preallocate: false,
            retention_bytes: None,
            retention_ms: Some(7 * DAY),
            file_delete_delay: Duration::from_secs(60),
            flush_messages: i64::MAX as u64,
            flush_ms: None,
            delete_retention_ms: DAY,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag: Duration::ZERO,
            max_compaction_lag: None,
            min_insync_replicas: 1,
            unclean_leader_election: false,
        }
    }
}
