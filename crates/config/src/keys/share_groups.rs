//! Share groups (KIP-932).

use crate::key::*;

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    int("group.share.max.size", "200", Valid::Between(1, 1000), "Members of one share group.").not_yet(),
    int("group.share.session.timeout.ms", "45000", Valid::AtLeast(1), "Milliseconds without a heartbeat after which a share member leaves.").not_yet(),
    int("group.share.min.session.timeout.ms", "45000", Valid::AtLeast(1), "The shortest session of a share member in milliseconds.").not_yet(),
    int("group.share.max.session.timeout.ms", "60000", Valid::AtLeast(1), "The longest session of a share member in milliseconds.").not_yet(),
    int("group.share.heartbeat.interval.ms", "5000", Valid::AtLeast(1), "Milliseconds between two heartbeats of a share member.").not_yet(),
    int("group.share.min.heartbeat.interval.ms", "5000", Valid::AtLeast(1), "The shortest such interval in milliseconds.").not_yet(),
    int("group.share.max.heartbeat.interval.ms", "15000", Valid::AtLeast(1), "The longest such interval in milliseconds.").not_yet(),
    int("group.share.record.lock.duration.ms", "30000", Valid::Between(1000, 3_600_000), "Milliseconds for which a delivered record is locked.").not_yet(),
    int("group.share.min.record.lock.duration.ms", "15000", Valid::Between(1000, 30_000), "The shortest such lock in milliseconds.").not_yet(),
    int("group.share.max.record.lock.duration.ms", "60000", Valid::Between(30_000, 3_600_000), "The longest such lock in milliseconds.").not_yet(),
    int("group.share.delivery.count.limit", "5", Valid::Between(2, 10), "Deliveries of one record before it is given up.").not_yet(),
    int("group.share.partition.max.record.locks", "2000", Valid::Between(100, 10_000), "Records of one partition that are locked at once.").not_yet(),
    int("group.share.max.share.sessions", "2000", Valid::AtLeast(1), "Share sessions of this broker at once.").not_yet(),
    list("group.share.assignors", "simple", Valid::Any, "The assignors of share groups.").not_yet(),
    int("share.fetch.purgatory.purge.interval.requests", "1000", Valid::Any, "How often Kafka cleans its waiting share fetches; Ottla has nothing to clean.").not_yet(),
    int("share.coordinator.state.topic.num.partitions", "50", Valid::AtLeast(1), "Partitions of __share_group_state.").not_yet(),
    short("share.coordinator.state.topic.replication.factor", "3", Valid::AtLeast(1), "Replicas of __share_group_state.").not_yet(),
    short("share.coordinator.state.topic.min.isr", "2", Valid::AtLeast(1), "Replicas of __share_group_state that must be in sync.").not_yet(),
    int("share.coordinator.state.topic.segment.bytes", "104857600", Valid::AtLeast(1), "The largest segment of __share_group_state in bytes.").not_yet(),
    int("share.coordinator.state.topic.compression.codec", "0", Valid::Between(0, 4), "How __share_group_state is compressed: 0 none, 1 gzip, 2 snappy, 3 LZ4, 4 zstd.").not_yet(),
    int("share.coordinator.snapshot.update.records.per.snapshot", "500", Valid::Between(0, 500), "Updates of one share partition between two snapshots.").not_yet(),
    int("share.coordinator.load.buffer.size", "5242880", Valid::AtLeast(1), "Bytes read at once when a share coordinator loads its state.").not_yet(),
    int("share.coordinator.threads", "1", Valid::AtLeast(1), "Threads of the share coordinator.").not_yet(),
    int("share.coordinator.append.linger.ms", "5", Valid::AtLeast(-1), "Milliseconds that a share coordinator gathers writes.").not_yet(),
    int("share.coordinator.write.timeout.ms", "5000", Valid::AtLeast(1), "Milliseconds that a write of share state waits for its replicas.").not_yet(),
    string("errors.deadletterqueue.topic.name.prefix", "dlq.", Valid::Any, "How the names of dead letter topics must begin.").not_yet(),
    boolean("errors.deadletterqueue.auto.create.topics.enable", "false", Valid::Any, "Whether dead letter topics are made by themselves.").not_yet(),
];
