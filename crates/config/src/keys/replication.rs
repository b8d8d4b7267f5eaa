//! Replication between brokers, and who leads.

use crate::key::*;

/// What `replica.selector.class` may name: Kafka's own classes, which are built in here.
const SELECTORS: &[&str] = &[
    "org.apache.kafka.common.replica.LeaderSelector",
    "org.apache.kafka.common.replica.RackAwareReplicaSelector",
];

const MAX_LONG: &str = "9223372036854775807";

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    int("num.replica.fetchers", "1", Valid::AtLeast(1), "Connections with which a broker fetches from each leader.").high().cluster_wide().at_start(),
    long("replica.lag.time.max.ms", "30000", Valid::AtLeast(1), "Milliseconds that a follower may be behind before it leaves the ISR.").high(),
    int("replica.fetch.max.bytes", "1048576", Valid::AtLeast(0), "Bytes that a follower asks per partition."),
    int("replica.fetch.response.max.bytes", "10485760", Valid::AtLeast(0), "Bytes that a follower asks per response."),
    int("replica.fetch.min.bytes", "1", Valid::AtLeast(0), "Bytes for which a follower's fetch waits.").high(),
    int("replica.fetch.wait.max.ms", "500", Valid::AtLeast(0), "The longest in milliseconds that a follower's fetch waits; at most replica.lag.time.max.ms.").high(),
    int("replica.fetch.backoff.ms", "1000", Valid::AtLeast(0), "The longest in milliseconds that a follower waits after a failed fetch; the first waits are shorter."),
    int("replica.socket.timeout.ms", "30000", Valid::AtLeast(1), "Milliseconds that a follower's request may take; at least replica.fetch.wait.max.ms.").high(),
    int("replica.socket.receive.buffer.bytes", "65536", Valid::Rule(|text| text.parse::<i32>().is_ok_and(|n| n == -1 || n > 0), "-1 or a whole number of 32 bits, at least 1"), "SO_RCVBUF of a follower's connection in bytes; -1 keeps the system's default.").high(),
    long("replica.high.watermark.checkpoint.interval.ms", "5000", Valid::AtLeast(1), "Milliseconds between two checkpoints of the high watermarks.").high(),
    class_or_null("replica.selector.class", Valid::OneOf(SELECTORS), "How a replica is chosen for a consumer that tells its rack (KIP-392); the leader if not set."),
    boolean("unclean.leader.election.enable", "false", Valid::Any, "Whether a replica outside the ISR may lead, which can lose records.").high().cluster_wide(),
    long("unclean.leader.election.interval.ms", "300000", Valid::AtLeast(1), "Milliseconds between two looks for partitions in need of an unclean leader.").low(),
    boolean("auto.leader.rebalance.enable", "true", Valid::Any, "Whether leadership goes back to the preferred replica by itself.").high(),
    long("leader.imbalance.check.interval.seconds", "300", Valid::AtLeast(1), "Seconds between two looks for partitions not led by their preferred replica.").high(),
    boolean("cluster.rebalance.enable", "true", Valid::Any, "Whether the controller moves replicas by itself, so that a new broker gets its share and one with cluster.rebalance.weight 0 is emptied; it tells each move and why in its log. It waits while a registered broker is away.").cluster_wide().ottla(),
    long("cluster.rebalance.interval.seconds", "300", Valid::AtLeast(1), "Seconds between two looks whether brokers have their shares.").low().cluster_wide().ottla(),
    int("cluster.rebalance.max.moves", "5", Valid::AtLeast(1), "Partitions on their way at once, by whoever they are moved; no more are begun by the controller.").cluster_wide().ottla(),
    int("cluster.rebalance.tolerance.percent", "10", Valid::Between(0, 1000), "By how many percent of its share, and at least one, a broker may have more or less replicas or leaders before something moves.").low().cluster_wide().ottla(),
    int("cluster.rebalance.weight", "100", Valid::Between(0, 10_000), "The share of replicas and leaders that a broker should have, relative to the others; 0 is none: it is emptied (ottla broker drain). It counts as it is set in the cluster, not in a broker's file.").per_broker().ottla(),
    long("cluster.rebalance.throttled.rate", "52428800", Valid::AtLeast(0), "Bytes per second that a broker sends, and as many that it fetches, for replicas that a reassignment adds, whoever asked for it; leader.replication.throttled.rate and follower.replication.throttled.rate count instead where they are set.").cluster_wide().ottla(),
    int("fetch.purgatory.purge.interval.requests", "1000", Valid::Any, "How often Kafka cleans its waiting fetches; Ottla has nothing to clean.").not_yet(),
    int("producer.purgatory.purge.interval.requests", "1000", Valid::Any, "How often Kafka cleans its waiting produces; Ottla has nothing to clean.").not_yet(),
    int("delete.records.purgatory.purge.interval.requests", "1", Valid::Any, "How often Kafka cleans its waiting deletions; Ottla has nothing to clean.").not_yet(),
    long("leader.replication.throttled.rate", MAX_LONG, Valid::AtLeast(0), "Bytes per second that a broker sends, as the leader, to the replicas that leader.replication.throttled.replicas names and that are not in sync (KIP-73).").cluster_wide(),
    long("follower.replication.throttled.rate", MAX_LONG, Valid::AtLeast(0), "Bytes per second that a broker fetches for its own replicas that follower.replication.throttled.replicas names and that are not in sync (KIP-73).").cluster_wide(),
    long("replica.alter.log.dirs.io.max.bytes.per.second", MAX_LONG, Valid::AtLeast(0), "Bytes per second at which each replica moves between directories.").cluster_wide(),
    int_or_null("num.replica.alter.log.dirs.threads", Valid::AtLeast(1), "Replicas that move between directories at once; as many as there are directories if not set."),
    int("controller.socket.timeout.ms", "30000", Valid::AtLeast(1), "Milliseconds that a request to the controller may take."),
];
