//! The keys of one group (KIP-848, KIP-932, KIP-1071, KIP-1191). What a group does not say, its broker does.

use super::consumers::iso_duration;
use crate::key::*;

const OFFSET_RESET: Valid = Valid::Rule(
    |text| {
        matches!(text, "earliest" | "latest")
            || text.strip_prefix("by_duration:").is_some_and(|age| iso_duration(age).is_some())
    },
    "earliest, latest, or by_duration: and a time like PT1H30M or P7D",
);

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    int("consumer.session.timeout.ms", "45000", Valid::AtLeast(1), "Milliseconds without a heartbeat after which a member leaves.").twin("group.consumer.session.timeout.ms").not_yet(),
    int("consumer.heartbeat.interval.ms", "5000", Valid::AtLeast(1), "Milliseconds between two heartbeats of a member.").twin("group.consumer.heartbeat.interval.ms").not_yet(),
    int("share.session.timeout.ms", "45000", Valid::AtLeast(1), "Milliseconds without a heartbeat after which a share member leaves.").twin("group.share.session.timeout.ms").not_yet(),
    int("share.heartbeat.interval.ms", "5000", Valid::AtLeast(1), "Milliseconds between two heartbeats of a share member.").twin("group.share.heartbeat.interval.ms").not_yet(),
    int("share.record.lock.duration.ms", "30000", Valid::AtLeast(1000), "Milliseconds for which a delivered record is locked.").twin("group.share.record.lock.duration.ms").not_yet(),
    string("share.auto.offset.reset", "latest", OFFSET_RESET, "Where a share group begins a partition that is new to it.").not_yet(),
    string("share.isolation.level", "read_uncommitted", Valid::OneOf(&["read_uncommitted", "read_committed"]), "Whether records of open and aborted transactions are delivered.").not_yet(),
    boolean("share.renew.acknowledge.enable", "true", Valid::Any, "Whether members may renew the lock of a record.").not_yet(),
    int("streams.session.timeout.ms", "45000", Valid::AtLeast(1), "Milliseconds without a heartbeat after which a streams member leaves.").twin("group.streams.session.timeout.ms").not_yet(),
    int("streams.heartbeat.interval.ms", "5000", Valid::AtLeast(1), "Milliseconds between two heartbeats of a streams member.").twin("group.streams.heartbeat.interval.ms").not_yet(),
    int("streams.num.standby.replicas", "0", Valid::AtLeast(0), "Standby tasks per stateful task.").twin("group.streams.num.standby.replicas").not_yet(),
    string("errors.deadletterqueue.topic.name", "", Valid::Any, "Where records go that were given up; empty drops them.").not_yet(),
    boolean("errors.deadletterqueue.copy.record.enable", "false", Valid::Any, "Whether such a record is copied whole.").not_yet(),
];

/// A key, and the broker's keys between whose values it must lie.
pub(crate) const BOUNDS: &[(&str, Option<&str>, &str)] = &[
    (
        "consumer.heartbeat.interval.ms",
        Some("group.consumer.min.heartbeat.interval.ms"),
        "group.consumer.max.heartbeat.interval.ms",
    ),
    (
        "consumer.session.timeout.ms",
        Some("group.consumer.min.session.timeout.ms"),
        "group.consumer.max.session.timeout.ms",
    ),
    (
        "share.heartbeat.interval.ms",
        Some("group.share.min.heartbeat.interval.ms"),
        "group.share.max.heartbeat.interval.ms",
    ),
    (
        "share.session.timeout.ms",
        Some("group.share.min.session.timeout.ms"),
        "group.share.max.session.timeout.ms",
    ),
    (
        "share.record.lock.duration.ms",
        Some("group.share.min.record.lock.duration.ms"),
        "group.share.max.record.lock.duration.ms",
    ),
    (
        "streams.heartbeat.interval.ms",
        Some("group.streams.min.heartbeat.interval.ms"),
        "group.streams.max.heartbeat.interval.ms",
    ),
    (
        "streams.session.timeout.ms",
        Some("group.streams.min.session.timeout.ms"),
        "group.streams.max.session.timeout.ms",
    ),
    ("streams.num.standby.replicas", None, "group.streams.max.standby.replicas"),
];

/// A session, and the heartbeat that it must be longer than.
pub(crate) const SESSIONS: &[(&str, &str)] = &[
    ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"),
    ("share.session.timeout.ms", "share.heartbeat.interval.ms"),
    ("streams.session.timeout.ms", "streams.heartbeat.interval.ms"),
];
