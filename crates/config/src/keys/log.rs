//! Logs: where they lie, how they are cut, kept and flushed, and what a new topic gets.

use crate::key::*;
use crate::log_config::GZIP_LEVEL;

const MAX_LONG: &str = "9223372036854775807";
const HOUR_MS: i64 = 3_600_000;

pub(super) const COMPRESSION_TYPES: &[&str] =
    &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    list_or_null("log.dirs", Valid::Any, "The directories of the logs; log.dir if not set.").high()
        .else_by(&[Alternative { name: "log.dir", factor: 1 }]),
    list("log.dir", "/tmp/kafka-logs", Valid::Any, "The directory of the logs when log.dirs is not set.").high(),
    int("num.partitions", "1", Valid::AtLeast(1), "Partitions of a topic that is made without a number."),
    int("default.replication.factor", "1", Valid::Between(1, 32767), "Replicas of a partition of a topic that is made without a number."),
    boolean("auto.create.topics.enable", "true", Valid::Any, "Whether asking for a missing topic makes it.").high(),
    int("min.insync.replicas", "1", Valid::AtLeast(1), "Replicas that must be in sync for acks=all to succeed.").high().cluster_wide(),
    int("message.max.bytes", "1048588", Valid::AtLeast(0), "The largest record batch in bytes, as stored.").high().cluster_wide(),
    int("log.segment.bytes", "1073741824", Valid::AtLeast(1 << 20), "The largest segment in bytes.").high().cluster_wide(),
    long_or_null("log.roll.ms", Valid::AtLeast(1), "Milliseconds after which a segment is rolled; log.roll.hours if not set.").high().cluster_wide()
        .else_by(&[Alternative { name: "log.roll.hours", factor: HOUR_MS }]),
    int("log.roll.hours", "168", Valid::AtLeast(1), "Hours after which a segment is rolled.").high(),
    long_or_null("log.roll.jitter.ms", Valid::AtLeast(0), "The most in milliseconds taken off log.roll.ms at random; log.roll.jitter.hours if not set.").high().cluster_wide()
        .else_by(&[Alternative { name: "log.roll.jitter.hours", factor: HOUR_MS }]),
    int("log.roll.jitter.hours", "0", Valid::AtLeast(0), "The most in hours taken off log.roll.hours at random.").high(),
    int("log.index.size.max.bytes", "10485760", Valid::AtLeast(4), "The largest offset index in bytes.").cluster_wide(),
    int("log.index.interval.bytes", "4096", Valid::AtLeast(0), "Bytes of log per index entry.").cluster_wide(),
    long_or_null("log.retention.ms", Valid::AtLeast(-1), "Milliseconds that records are kept; -1 is for ever; log.retention.minutes if not set.").high().cluster_wide()
        .else_by(&[Alternative { name: "log.retention.minutes", factor: 60_000 }, Alternative { name: "log.retention.hours", factor: HOUR_MS }]),
    int_or_null("log.retention.minutes", Valid::AtLeast(-1), "Minutes that records are kept; -1 is for ever; log.retention.hours if not set.").high(),
    int("log.retention.hours", "168", Valid::AtLeast(-1), "Hours that records are kept; -1 is for ever.").high(),
    long("log.retention.bytes", "-1", Valid::AtLeast(-1), "Bytes of a partition that are kept; -1 is no limit.").high().cluster_wide(),
    long("log.retention.check.interval.ms", "300000", Valid::AtLeast(1), "Milliseconds between two looks for segments to delete."),
    list("log.cleanup.policy", "delete", Valid::EachOf(&["delete", "compact"]), "How logs are kept small: delete, compact, both, or neither when empty (KIP-1241).").cluster_wide(),
    long("log.segment.delete.delay.ms", "60000", Valid::AtLeast(0), "Milliseconds that the files of a removed segment stay for readers.").high().cluster_wide(),
    long("log.flush.interval.messages", MAX_LONG, Valid::AtLeast(1), "Records after which a log is synced to disk.").high().cluster_wide(),
    long_or_null("log.flush.interval.ms", Valid::AtLeast(0), "Milliseconds after which a log is synced to disk; log.flush.scheduler.interval.ms if not set.").high().cluster_wide()
        .else_by(&[Alternative { name: "log.flush.scheduler.interval.ms", factor: 1 }]),
    long("log.flush.scheduler.interval.ms", MAX_LONG, Valid::AtLeast(1), "What log.flush.interval.ms is if it is not set; the look for logs that are due to be synced comes each second.").high(),
    int("log.flush.offset.checkpoint.interval.ms", "60000", Valid::AtLeast(0), "Milliseconds between two checkpoints of the offsets from which recovery starts.").high(),
    int("log.flush.start.offset.checkpoint.interval.ms", "60000", Valid::AtLeast(0), "Milliseconds between two checkpoints of the log start offsets.").high(),
    // Ottla's own: Kafka syncs every log by itself.
    long("log.dir.checkpoint.bytes", "2147483648", Valid::AtLeast(1), "Bytes written to a directory after which its logs are synced and their indexes and producers noted, so that a crash leaves no more than that to read; every log.flush.offset.checkpoint.interval.ms in any case. Kafka has no such key."),
    long("log.dir.sync.max.bytes", "268435456", Valid::AtLeast(0), "Logs of a directory that wait for the disk at once share one sync of its file system, unless that would have to write more than so many bytes; 0 syncs each log by itself. Kafka has no such key."),
    boolean("log.preallocate", "false", Valid::Any, "Whether the space of a segment is reserved when it is made.").cluster_wide(),
    string("log.message.timestamp.type", "CreateTime", Valid::OneOf(&["CreateTime", "LogAppendTime"]), "Whose time a record carries: the producer's or the broker's (KIP-32).").cluster_wide(),
    long("log.message.timestamp.before.max.ms", MAX_LONG, Valid::AtLeast(0), "Milliseconds that a record's time may lie behind the broker's (KIP-937).").cluster_wide(),
    long("log.message.timestamp.after.max.ms", "3600000", Valid::AtLeast(0), "Milliseconds that a record's time may lie ahead of the broker's (KIP-937).").cluster_wide(),
    string("compression.type", "producer", Valid::OneOf(COMPRESSION_TYPES), "What the broker stores: a codec, uncompressed, or what the producer sent.").high().cluster_wide(),
    int("compression.gzip.level", "-1", GZIP_LEVEL, "The level of gzip, 1 to 9; -1 is its default.").cluster_wide(),
    int("compression.lz4.level", "9", Valid::Between(1, 17), "The level of LZ4.").cluster_wide(),
    int("compression.zstd.level", "3", Valid::Between(-131_072, 22), "The level of zstd.").cluster_wide(),
    int("num.recovery.threads.per.data.dir", "2", Valid::AtLeast(1), "Logs of one directory recovered at once.").high().cluster_wide().at_start(),
    long("log.dir.failure.timeout.ms", "30000", Valid::AtLeast(1), "Milliseconds without reaching the controller after which a broker with a failed directory stops.").low().not_yet(),
    long("log.dir.reserved.bytes", "67108864", Valid::AtLeast(0), "Bytes of each directory's file system that producers may not take: they are refused while less is free, so that there is always room to delete.").ottla(),
    int("log.max.open.files", "4096", Valid::AtLeast(1), "Segment and index files kept open at once; others are opened when they are needed. Connections take files as well: ulimit -n bounds both together, and where it is too low no more than half of it is used.").ottla(),
    list("cordoned.log.dirs", "", Valid::Any, "Directories that get no new partitions; * is all (KIP-1066).").per_broker().not_yet(),
    long("log.initial.task.delay.ms", "30000", Valid::AtLeast(0), "Milliseconds after the start before retention and flushing begin.").low().not_yet(),
    class_or_null("create.topic.policy.class.name", Valid::Any, "A Java class that judges new topics.").low().not_yet(),
    class_or_null("alter.config.policy.class.name", Valid::Any, "A Java class that judges changes of configuration.").low().not_yet(),
];
