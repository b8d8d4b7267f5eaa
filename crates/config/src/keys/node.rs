//! Who the node is, and the metadata quorum.

use crate::key::*;

const ROLES: &[&str] = &["broker", "controller"];

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    list("process.roles", "broker,controller", Valid::EachOf(ROLES), "What this node does: broker, controller or both.").high(),
    int("node.id", "1", Valid::AtLeast(0), "The number of this node, unique in the cluster.")
        .high()
        .else_by(&[Alternative { name: "broker.id", factor: 1 }]),
    int_or_null("broker.id", Valid::AtLeast(0), "The older name of node.id.").high(),
    string_or_null("broker.rack", Valid::Any, "The rack or zone of this broker, over which replicas are spread."),
    list("controller.listener.names", "", Valid::Any, "The names of the listeners that controllers use, in order of preference.").high(),
    list("controller.quorum.voters", "", Valid::Any, "The controllers that vote, each as id@host:port; empty with one node that is its own quorum.").high(),
    list("controller.quorum.bootstrap.servers", "", Valid::Any, "Controllers to ask for the quorum, each as host:port, in place of controller.quorum.voters: voters may come and go then (KIP-853). New ones that are all there are, and list each other, form a quorum.").high(),
    boolean("controller.quorum.auto.join.enable", "false", Valid::Any, "Whether a controller that has no vote gives itself one (KIP-1186).").low(),
    int("controller.quorum.election.timeout.ms", "1000", Valid::AtLeast(1), "Milliseconds without an answer from a majority after which a candidate starts another election.").high(),
    int("controller.quorum.fetch.timeout.ms", "2000", Valid::AtLeast(1), "Milliseconds without a word from the leader after which a voter stands for election; a leader without an answer from a majority gives up after half as much again.").high(),
    int("controller.quorum.election.backoff.max.ms", "1000", Valid::AtLeast(0), "The longest random wait in milliseconds before another election. Ottla draws it from controller.quorum.election.timeout.ms.").high().not_yet(),
    int("controller.quorum.append.linger.ms", "25", Valid::AtLeast(0), "Milliseconds that the leader gathers writes before it appends them.").not_yet(),
    int("controller.quorum.request.timeout.ms", "2000", Valid::AtLeast(1), "Milliseconds that a request of the quorum may take."),
    int("controller.quorum.retry.backoff.ms", "20", Valid::AtLeast(0), "Milliseconds before a broker that is no controller asks the quorum again; up to eight times as many after several failures.").low(),
    int("broker.heartbeat.interval.ms", "2000", Valid::AtLeast(1), "Milliseconds between two heartbeats of a broker to the controller."),
    int("broker.session.timeout.ms", "9000", Valid::AtLeast(1), "Milliseconds without a heartbeat until others lead what a broker led: it is fenced a little earlier (docs/adr/0012). On brokers no more than on controllers."),
    int("initial.broker.registration.timeout.ms", "60000", Valid::AtLeast(1), "Milliseconds that a starting broker tries to register before it stops."),
    string_or_null("metadata.log.dir", Valid::Any, "The directory of the metadata log; the first of log.dirs if not set.").high(),
    int("metadata.log.segment.bytes", "1073741824", Valid::AtLeast(8 << 20), "The largest segment of the metadata log in bytes; Ottla makes none larger than 20 MiB, so that a snapshot frees those before it.").high(),
    long("metadata.log.segment.ms", "604800000", Valid::AtLeast(1), "Milliseconds that the first and the last record of a segment of the metadata log lie apart at most.").high(),
    long("metadata.log.max.record.bytes.between.snapshots", "20971520", Valid::AtLeast(1), "Bytes of new metadata records after which a snapshot is taken.").high(),
    long("metadata.log.max.snapshot.interval.ms", "3600000", Valid::AtLeast(0), "Milliseconds after which a snapshot is taken if there are new records; 0 is never.").high(),
    long("metadata.max.retention.bytes", "104857600", Valid::AtLeast(-1), "Bytes of snapshots of the metadata and of its log that are kept, but for the newest snapshot and the log after it, which always are; -1 is no limit.").high(),
    long("metadata.max.retention.ms", "604800000", Valid::AtLeast(-1), "Milliseconds that a snapshot of the metadata is kept, and the log before it, once there is a newer one; -1 is for ever.").high(),
    int("metadata.max.idle.interval.ms", "500", Valid::AtLeast(0), "Milliseconds after which an idle controller appends a record that does nothing; 0 is never.").low().not_yet(),
    boolean("controlled.shutdown.enable", "true", Valid::Any, "Whether a broker that stops gives up its leaderships first."),
    boolean("delete.topic.enable", "true", Valid::Any, "Whether topics may be deleted.").high(),
    list_or_null("early.start.listeners", Valid::Any, "Listeners opened before the broker is ready; those of the controller if not set.").not_yet(),
    long("server.max.startup.time.ms", "9223372036854775807", Valid::AtLeast(0), "Milliseconds that the start may take."),
    int("controller.performance.sample.period.ms", "60000", Valid::AtLeast(100), "Milliseconds between two reports of slow controller events.").low().not_yet(),
    long("controller.performance.always.log.threshold.ms", "2000", Valid::AtLeast(0), "Milliseconds above which a controller event is logged as slow.").low().not_yet(),
    boolean("unstable.api.versions.enable", "false", Valid::Any, "Whether versions of APIs that are still in the making are offered.").high().not_yet(),
    boolean("unstable.feature.versions.enable", "false", Valid::Any, "Whether features that are still in the making are offered.").high().not_yet(),
];
