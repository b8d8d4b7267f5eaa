//! Tiered storage (KIP-405), metrics, telemetry (KIP-714) and plug-ins.

use crate::key::*;

const MAX_LONG: &str = "9223372036854775807";

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    boolean("remote.log.storage.system.enable", "false", Valid::Any, "Whether old segments may move to remote storage.").not_yet(),
    class_or_null("remote.log.storage.manager.class.name", Valid::Any, "The Java class that stores remote segments.").not_yet(),
    string_or_null("remote.log.storage.manager.class.path", Valid::Any, "Where that class is found.").not_yet(),
    string("remote.log.storage.manager.impl.prefix", "rsm.config.", Valid::Any, "How the keys meant for that class begin.").not_yet(),
    class("remote.log.metadata.manager.class.name", "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager", Valid::Any, "The Java class that keeps the list of remote segments.").not_yet(),
    string("remote.log.metadata.manager.impl.prefix", "rlmm.config.", Valid::Any, "How the keys meant for that class begin.").not_yet(),
    string_or_null("remote.log.metadata.manager.listener.name", Valid::Any, "The listener that class connects to.").not_yet(),
    int("remote.log.manager.copier.thread.pool.size", "10", Valid::AtLeast(1), "Segments copied to remote storage at once.").cluster_wide().not_yet(),
    int("remote.log.manager.expiration.thread.pool.size", "10", Valid::AtLeast(1), "Segments expired in remote storage at once.").cluster_wide().not_yet(),
    int("remote.log.reader.threads", "10", Valid::AtLeast(1), "Reads of remote storage at once.").cluster_wide().not_yet(),
    int("remote.log.reader.max.pending.tasks", "100", Valid::AtLeast(1), "Reads of remote storage that may wait.").not_yet(),
    long("remote.log.manager.task.interval.ms", "30000", Valid::AtLeast(1), "Milliseconds between two looks for segments to copy.").low().not_yet(),
    long("remote.log.manager.copy.max.bytes.per.second", MAX_LONG, Valid::AtLeast(1), "Bytes per second copied to remote storage.").cluster_wide().not_yet(),
    long("remote.log.manager.fetch.max.bytes.per.second", MAX_LONG, Valid::AtLeast(1), "Bytes per second read from remote storage.").cluster_wide().not_yet(),
    long("remote.log.index.file.cache.total.size.bytes", "1073741824", Valid::AtLeast(1), "Bytes of remote indexes kept locally.").low().cluster_wide().not_yet(),
    int("remote.log.metadata.custom.metadata.max.bytes", "128", Valid::AtLeast(0), "The largest custom metadata of a remote segment in bytes.").low().not_yet(),
    int("remote.fetch.max.wait.ms", "500", Valid::AtLeast(1), "Milliseconds that a fetch waits for remote storage.").cluster_wide().not_yet(),
    long("remote.list.offsets.request.timeout.ms", "30000", Valid::AtLeast(1), "Milliseconds that a search in remote storage may take.").cluster_wide().not_yet(),
    long("log.local.retention.ms", "-2", Valid::AtLeast(-2), "Milliseconds that tiered records stay local; -2 is as log.retention.ms.").cluster_wide().not_yet(),
    long("log.local.retention.bytes", "-2", Valid::AtLeast(-2), "Bytes of a tiered partition that stay local; -2 is as log.retention.bytes.").cluster_wide().not_yet(),
    int("telemetry.max.bytes", "1048576", Valid::AtLeast(1), "The largest metrics push of a client in bytes, compressed or not, and the most that is kept of what it measures.").low(),
    int("telemetry.max.instances", "16384", Valid::AtLeast(1), "Clients whose telemetry is known at once; the one that was silent for longest makes room.").low().ottla(),
    long("telemetry.max.kept.bytes", "268435456", Valid::AtLeast(0), "The most that is kept of what all clients measure, in bytes; more is not shown.").low().ottla(),
    string("metrics.listener", "", Valid::Any, "host:port where metrics are told over plain HTTP, as Prometheus reads them (GET /metrics), by nodes that are brokers; nowhere when empty.").low().ottla(),
    list("metric.reporters", "", Valid::Any, "Java classes that report metrics.").low().cluster_wide().not_yet(),
    int("metrics.num.samples", "2", Valid::AtLeast(1), "Samples over which metrics are measured.").low().not_yet(),
    long("metrics.sample.window.ms", "30000", Valid::AtLeast(1), "Milliseconds of one sample of metrics.").low().not_yet(),
    string("metrics.recording.level", "INFO", Valid::OneOf(&["INFO", "DEBUG", "TRACE"]), "The finest metrics that are measured.").low().not_yet(),
    list("kafka.metrics.reporters", "", Valid::Any, "Java classes that report Yammer metrics.").low().not_yet(),
    int("kafka.metrics.polling.interval.secs", "10", Valid::AtLeast(1), "Seconds between two reports of Yammer metrics.").low().not_yet(),
    list("config.providers", "", Valid::Any, "Names of providers that fill in values (KIP-297).").low().not_yet(),
];
