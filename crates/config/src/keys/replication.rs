//! Replication between brokers, and who leads.

use crate::key::*;

const MAX_LONG: &str = "9223372036854775807";

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    int("num.replica.fetchers", "1", Valid::AtLeast(1), "Connections with which a broker fetches from each leader.").high().cluster_wide().not_yet(),
    long("replica.lag.time.max.ms", "30000", Valid::AtLeast(1), "Milliseconds that a follower may be behind before it leaves the ISR.").high().not_yet(),
    int("replica.fetch.max.bytes", "1048576", Valid::AtLeast(0), "Bytes that a follower asks per partition.").not_yet(),
    int("replica.fetch.response.max.bytes", "10485760", Valid::AtLeast(0), "Bytes that a follower asks per response.").not_yet(),
    int("replica.fetch.min.bytes", "1", Valid::AtLeast(0), "Bytes for which a follower's fetch waits.").high().not_yet(),
    int("replica.fetch.wait.max.ms", "500", Valid::AtLeast(0), "The longest in milliseconds that a follower's fetch waits; at most replica.lag.time.max.ms.").high().not_yet(),
    int("replica.fetch.backoff.ms", "1000", Valid::AtLeast(0), "Milliseconds that a follower waits after a failed fetch.").not_yet(),
    int("replica.socket.timeout.ms", "30000", Valid::AtLeast(1), "Milliseconds that a follower's request may take; at least replica.fetch.wait.max.ms.").high().not_yet(),
    int("replica.socket.receive.buffer.bytes", "65536", Valid::Rule(|text| text.parse::<i32>().is_ok_and(|n| n == -1 || n > 0), "-1 or a whole number of 32 bits, at least 1"), "SO_RCVBUF of a follower's connection in bytes; -1 keeps the system's default.").high().not_yet(),
    long("replica.high.watermark.checkpoint.interval.ms", "5000", Valid::AtLeast(1), "Milliseconds between two checkpoints of the high watermarks.").high(),
    class_or_null("replica.selector.class", Valid::Any, "How a replica is chosen for a consumer that tells its rack (KIP-392).").not_yet(),
    boolean("unclean.leader.election.enable", "false", Valid::Any, "Whether a replica outside the ISR may lead, which can lose records.").high().cluster_wide(),
    long("unclean.leader.election.interval.ms", "300000", Valid::AtLeast(1), "Milliseconds between two looks for partitions in need of an unclean leader.").low().not_yet(),
    boolean("auto.leader.rebalance.enable", "true", Valid::Any, "Whether leadership goes back to the preferred replica by itself.").high().not_yet(),
    long("leader.imbalance.check.interval.seconds", "300", Valid::AtLeast(1), "Seconds between two looks for partitions not led by their preferred replica.").high().not_yet(),
    int("fetch.purgatory.purge.interval.requests", "1000", Valid::Any, "How often Kafka cleans its waiting fetches; Ottla has nothing to clean.").not_yet(),
    int("producer.purgatory.purge.interval.requests", "1000", Valid::Any, "How often Kafka cleans its waiting produces; Ottla has nothing to clean.").not_yet(),
    int("delete.records.purgatory.purge.interval.requests", "1", Valid::Any, "How often Kafka cleans its waiting deletions; Ottla has nothing to clean.").not_yet(),
    long("leader.replication.throttled.rate", MAX_LONG, Valid::AtLeast(0), "Bytes per second that leaders send for throttled replicas.").cluster_wide().not_yet(),
    long("follower.replication.throttled.rate", MAX_LONG, Valid::AtLeast(0), "Bytes per second that followers fetch for throttled replicas.").cluster_wide().not_yet(),
    long("replica.alter.log.dirs.io.max.bytes.per.second", MAX_LONG, Valid::AtLeast(0), "Bytes per second at which each replica moves between directories.").cluster_wide(),
    int_or_null("num.replica.alter.log.dirs.threads", Valid::AtLeast(1), "Replicas that move between directories at once; as many as there are directories if not set."),
    int("controller.socket.timeout.ms", "30000", Valid::AtLeast(1), "Milliseconds that a request to the controller may take.").not_yet(),
];
