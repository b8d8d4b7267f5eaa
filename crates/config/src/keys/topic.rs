//! The keys of a topic.

use super::log::COMPRESSION_TYPES;
use crate::key::*;
use crate::log_config::GZIP_LEVEL;

const MAX_LONG: &str = "9223372036854775807";
const THROTTLED: Valid = Valid::Rule(
    |text| {
        let number = |text: &str| text.parse::<i32>().is_ok_and(|number| number >= 0);
        let pair = |element: &str| {
            element
                .split_once(':')
                .is_some_and(|(partition, broker)| number(partition) && number(broker))
        };
        text.is_empty() || text == "*" || text.split(',').all(|element| pair(element.trim()))
    },
    "* or a list of partition:broker",
);

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    list("cleanup.policy", "delete", Valid::EachOf(&["delete", "compact"]), "How the log is kept small: delete, compact, both, or neither when empty (KIP-1241).").twin("log.cleanup.policy"),
    string("compression.type", "producer", Valid::OneOf(COMPRESSION_TYPES), "What the broker stores: a codec, uncompressed, or what the producer sent.").twin("compression.type"),
    int("compression.gzip.level", "-1", GZIP_LEVEL, "The level of gzip, 1 to 9; -1 is its default.").twin("compression.gzip.level"),
    int("compression.lz4.level", "9", Valid::Between(1, 17), "The level of LZ4.").twin("compression.lz4.level"),
    int("compression.zstd.level", "3", Valid::Between(-131_072, 22), "The level of zstd.").twin("compression.zstd.level"),
    long("delete.retention.ms", "86400000", Valid::AtLeast(0), "Milliseconds that compaction keeps a tombstone.").twin("log.cleaner.delete.retention.ms"),
    long("file.delete.delay.ms", "60000", Valid::AtLeast(0), "Milliseconds that the files of a removed segment stay for readers.").twin("log.segment.delete.delay.ms"),
    long("flush.messages", MAX_LONG, Valid::AtLeast(1), "Records after which the log is synced to disk.").twin("log.flush.interval.messages"),
    long("flush.ms", MAX_LONG, Valid::AtLeast(0), "Milliseconds after which the log is synced to disk.").twin("log.flush.interval.ms"),
    list("follower.replication.throttled.replicas", "", THROTTLED, "The replicas whose fetching is throttled, each as partition:broker; * is all (KIP-73)."),
    int("index.interval.bytes", "4096", Valid::AtLeast(0), "Bytes of log per index entry.").twin("log.index.interval.bytes"),
    list("leader.replication.throttled.replicas", "", THROTTLED, "The replicas that are throttled while they lead, each as partition:broker; * is all (KIP-73)."),
    long("local.retention.bytes", "-2", Valid::AtLeast(-2), "Bytes of a tiered partition that stay local; -2 is as retention.bytes.").twin("log.local.retention.bytes").not_yet(),
    long("local.retention.ms", "-2", Valid::AtLeast(-2), "Milliseconds that tiered records stay local; -2 is as retention.ms.").twin("log.local.retention.ms").not_yet(),
    long("max.compaction.lag.ms", MAX_LONG, Valid::AtLeast(1), "Milliseconds after which a record makes its log due for compaction.").twin("log.cleaner.max.compaction.lag.ms"),
    int("max.message.bytes", "1048588", Valid::AtLeast(0), "The largest record batch in bytes, as stored.").twin("message.max.bytes"),
    long("message.timestamp.after.max.ms", "3600000", Valid::AtLeast(0), "Milliseconds that a record's time may lie ahead of the broker's (KIP-937).").twin("log.message.timestamp.after.max.ms"),
    long("message.timestamp.before.max.ms", MAX_LONG, Valid::AtLeast(0), "Milliseconds that a record's time may lie behind the broker's (KIP-937).").twin("log.message.timestamp.before.max.ms"),
    string("message.timestamp.type", "CreateTime", Valid::OneOf(&["CreateTime", "LogAppendTime"]), "Whose time a record carries: the producer's or the broker's (KIP-32).").twin("log.message.timestamp.type"),
    double("min.cleanable.dirty.ratio", "0.5", Valid::Fraction(0.0, 1.0), "The dirty share of the log, 0 to 1, that makes it worth compacting.").twin("log.cleaner.min.cleanable.ratio"),
    long("min.compaction.lag.ms", "0", Valid::AtLeast(0), "Milliseconds for which a record is not compacted.").twin("log.cleaner.min.compaction.lag.ms"),
    int("min.insync.replicas", "1", Valid::AtLeast(1), "Replicas that must be in sync for acks=all to succeed.").twin("min.insync.replicas"),
    boolean("preallocate", "false", Valid::Any, "Whether the space of a segment is reserved when it is made.").twin("log.preallocate"),
    boolean("remote.log.copy.disable", "false", Valid::Any, "Whether copying to remote storage is paused (KIP-950).").not_yet(),
    boolean("remote.log.delete.on.disable", "false", Valid::Any, "Whether remote segments are deleted when tiering is turned off (KIP-950).").not_yet(),
    boolean("remote.storage.enable", "false", Valid::Any, "Whether old segments move to remote storage (KIP-405).").not_yet(),
    long("retention.bytes", "-1", Valid::AtLeast(-1), "Bytes of a partition that are kept; -1 is no limit.").twin("log.retention.bytes"),
    long("retention.ms", "604800000", Valid::AtLeast(-1), "Milliseconds that records are kept; -1 is for ever.").twin("log.retention.ms"),
    int("segment.bytes", "1073741824", Valid::AtLeast(1 << 20), "The largest segment in bytes.").twin("log.segment.bytes"),
    int("segment.index.bytes", "10485760", Valid::AtLeast(4), "The largest offset index in bytes.").twin("log.index.size.max.bytes"),
    long("segment.jitter.ms", "0", Valid::AtLeast(0), "The most in milliseconds taken off segment.ms at random.").twin("log.roll.jitter.ms"),
    long("segment.ms", "604800000", Valid::AtLeast(1), "Milliseconds after which a segment is rolled.").twin("log.roll.ms"),
    boolean("unclean.leader.election.enable", "false", Valid::Any, "Whether a replica outside the ISR may lead, which can lose records.").twin("unclean.leader.election.enable"),
    boolean("errors.deadletterqueue.group.enable", "false", Valid::Any, "Whether share groups may use this topic for dead letters.").not_yet(),
];
