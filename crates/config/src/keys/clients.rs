//! What every client is configured with, and what producers are.

use crate::key::*;

const BUFFER: Valid = Valid::Rule(
    |text| text.parse::<i32>().is_ok_and(|n| n >= -1),
    "-1 or a whole number of 32 bits",
);
const SERVERS: Valid = Valid::Rule(
    |text| list_elements(text).all(|server| is_host_and_port(&server)),
    "a list of host:port separated by commas, for example localhost:9092",
);
const PLAINTEXT: Valid =
    Valid::Rule(|text| text == "PLAINTEXT", "PLAINTEXT; TLS and SASL are not there yet");
const NO_TRANSACTIONS: Valid =
    Valid::Rule(str::is_empty, "left out: transactions are not there yet");
const IN_CODE: Valid = Valid::Rule(
    |text| list_elements(text).next().is_none(),
    "empty: a Java class cannot be loaded here; give interceptors to the builder of the client",
);
const PARTITIONER: Valid = Valid::Rule(
    |text| {
        matches!(
            text,
            "" | "RoundRobinPartitioner"
                | "org.apache.kafka.clients.producer.RoundRobinPartitioner"
        )
    },
    "empty or RoundRobinPartitioner; give another partitioner to the builder of the producer",
);
const ACKS: Valid = Valid::OneOf(&["all", "-1", "0", "1"]);
const COMPRESSION: Valid = Valid::OneOf(&["none", "gzip", "snappy", "lz4", "zstd"]);
const GZIP_LEVEL: Valid = Valid::Rule(
    |text| text.parse::<i32>().is_ok_and(|n| n == -1 || (1..=9).contains(&n)),
    "-1 or a whole number from 1 to 9",
);
const SERIALIZER: Valid = Valid::Rule(
    |text| SERIALIZERS.contains(&text.strip_prefix(SERIALIZATION).unwrap_or(text)),
    "one of Kafka's own: StringSerializer, ByteArraySerializer, ByteBufferSerializer, BytesSerializer, \
     ShortSerializer, IntegerSerializer, LongSerializer, FloatSerializer, DoubleSerializer, BooleanSerializer, \
     UUIDSerializer, VoidSerializer; give another to the producer in code",
);
/// The package of Kafka's own serializers.
const SERIALIZATION: &str = "org.apache.kafka.common.serialization.";
const SERIALIZERS: [&str; 12] = [
    "StringSerializer",
    "ByteArraySerializer",
    "ByteBufferSerializer",
    "BytesSerializer",
    "ShortSerializer",
    "IntegerSerializer",
    "LongSerializer",
    "FloatSerializer",
    "DoubleSerializer",
    "BooleanSerializer",
    "UUIDSerializer",
    "VoidSerializer",
];

/// `host:port`, with brackets around an IPv6 address.
fn is_host_and_port(server: &str) -> bool {
    server.rsplit_once(':').is_some_and(|(host, port)| {
        let named = !host.is_empty() && (!host.contains(':') || host.ends_with(']'));
        named && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    list("bootstrap.servers", "", SERVERS, "Brokers to ask first, each as host:port; the others are learned from them.").high(),
    string("client.id", "", Valid::Any, "What the broker's logs and quotas call this client."),
    int("request.timeout.ms", "30000", Valid::AtLeast(0), "Milliseconds that the response to a request may take."),
    long("retry.backoff.ms", "100", Valid::AtLeast(0), "Milliseconds before a failed request is tried again; a producer doubles it with each further failure (KIP-580).").low(),
    long("retry.backoff.max.ms", "1000", Valid::AtLeast(0), "The longest such time of a producer in milliseconds.").low(),
    long("reconnect.backoff.ms", "50", Valid::AtLeast(0), "Milliseconds before a producer tries a broker again that could not be reached; doubled with each further failure. Others wait retry.backoff.ms.").low(),
    long("reconnect.backoff.max.ms", "1000", Valid::AtLeast(0), "The longest such time in milliseconds.").low(),
    long("socket.connection.setup.timeout.ms", "10000", Valid::AtLeast(1), "Milliseconds that opening a connection, and agreeing on versions, may take."),
    long("socket.connection.setup.timeout.max.ms", "30000", Valid::AtLeast(1), "The longest such time in milliseconds, after several failures."),
    long("connections.max.idle.ms", "540000", Valid::Any, "Milliseconds after which an idle connection is closed; a negative number is never."),
    long("metadata.max.age.ms", "300000", Valid::AtLeast(0), "Milliseconds after which brokers and leaders are asked for again even though nothing failed.").low(),
    int("send.buffer.bytes", "-1", BUFFER, "SO_SNDBUF in bytes; -1 lets the system tune it (Kafka's producer: 131072, docs/adr/0006)."),
    int("receive.buffer.bytes", "-1", BUFFER, "SO_RCVBUF in bytes; -1 lets the system tune it (Kafka's producer: 32768, docs/adr/0006)."),
    string("security.protocol", "PLAINTEXT", PLAINTEXT, "How brokers are spoken to."),
    string("client.dns.lookup", "use_all_dns_ips", Valid::OneOf(&["use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"]), "How names are resolved.").not_yet(),
    string("metadata.recovery.strategy", "rebootstrap", Valid::OneOf(&["rebootstrap", "none"]), "What to do if no known broker answers: ask bootstrap.servers again, or not (KIP-899).").low(),
    long("metadata.recovery.rebootstrap.trigger.ms", "300000", Valid::AtLeast(0), "Milliseconds without fresh metadata after which bootstrap.servers are asked again (KIP-1102).").low().not_yet(),
    boolean("enable.metrics.push", "true", Valid::Any, "Whether metrics that the cluster asks for are sent to it (KIP-714).").low().not_yet(),
    list("metric.reporters", "", Valid::Any, "Java classes that report metrics.").low().not_yet(),
    int("metrics.num.samples", "2", Valid::AtLeast(1), "Samples of which rates are made.").low().not_yet(),
    long("metrics.sample.window.ms", "30000", Valid::AtLeast(0), "Milliseconds of one sample.").low().not_yet(),
    string("metrics.recording.level", "INFO", Valid::OneOf(&["INFO", "DEBUG", "TRACE"]), "Which metrics are kept.").low().not_yet(),
];

#[rustfmt::skip]
pub(super) const PRODUCER: &[ConfigKey] = &[
    class("key.serializer", "ByteArraySerializer", SERIALIZER, "How text that is given as a key becomes bytes, for programs that ask TextSerializer::named for it; others give keys as bytes or with a serializer of their own.").high(),
    class("value.serializer", "ByteArraySerializer", SERIALIZER, "How text that is given as a value becomes bytes, for programs that ask TextSerializer::named for it; others give values as bytes or with a serializer of their own.").high(),
    string("acks", "all", ACKS, "What a record must have reached: 0 the socket, 1 the leader's log, all (or -1) the logs of all replicas in sync.").high(),
    boolean("enable.idempotence", "true", Valid::Any, "Whether a batch that is sent again is never stored twice, and order is kept (KIP-98). Needs acks=all, retries > 0 and max.in.flight.requests.per.connection <= 5; where one of those says otherwise and this key is not given, it is off."),
    int("max.in.flight.requests.per.connection", "5", Valid::AtLeast(1), "Requests sent to one broker and not yet answered.").low(),
    int("retries", "2147483647", Valid::AtLeast(0), "How often a batch is sent again; delivery.timeout.ms usually ends it before.").high(),
    int("delivery.timeout.ms", "120000", Valid::AtLeast(0), "Milliseconds from send to success or failure, waiting and all retries included; at least linger.ms + request.timeout.ms (KIP-91)."),
    int("batch.size", "16384", Valid::AtLeast(0), "Bytes at which a batch of one partition is sent without waiting any longer; 0 sends each record by itself."),
    long("linger.ms", "5", Valid::AtLeast(0), "Milliseconds that a batch which is not full waits for more records."),
    long("buffer.memory", "33554432", Valid::AtLeast(0), "Bytes of records that wait or are on their way; above, send waits for at most max.block.ms.").high(),
    long("max.block.ms", "60000", Valid::AtLeast(0), "Milliseconds that send may wait for memory and for metadata of its topic."),
    int("max.request.size", "1048576", Valid::AtLeast(0), "Bytes of the largest request, and so of the largest record."),
    string("compression.type", "none", COMPRESSION, "How batches are compressed."),
    int("compression.gzip.level", "-1", GZIP_LEVEL, "How hard gzip works; -1 is its default (KIP-390)."),
    int("compression.lz4.level", "9", Valid::Between(1, 17), "How hard lz4 works; Ottla's client always takes the fast way (KIP-390).").not_yet(),
    int("compression.zstd.level", "3", Valid::Between(-131_072, 22), "How hard zstd works (KIP-390)."),
    class_or_null("partitioner.class", PARTITIONER, "What chooses partitions; not set, keys are hashed and records without one stick to a partition for batch.size bytes (KIP-794)."),
    boolean("partitioner.ignore.keys", "false", Valid::Any, "Whether the built-in partitioner treats records with keys like those without."),
    boolean("partitioner.adaptive.partitioning.enable", "true", Valid::Any, "Whether faster brokers get more of the records without keys (KIP-794).").low(),
    long("partitioner.availability.timeout.ms", "0", Valid::AtLeast(0), "Milliseconds after which a broker that takes no batch gets no more records without keys; 0 is never (KIP-794).").low(),
    list("interceptor.classes", "", IN_CODE, "Java classes that see each record before and after it is sent.").low(),
    long("metadata.max.idle.ms", "300000", Valid::AtLeast(5000), "Milliseconds after which the partitions of a topic that is not sent to are forgotten.").low().not_yet(),
    string_or_null("transactional.id", NO_TRANSACTIONS, "The name under which transactions survive a restart (KIP-98).").low(),
    int("transaction.timeout.ms", "60000", Valid::AtLeast(1), "Milliseconds after which a transaction is aborted.").low().not_yet(),
    boolean("transaction.two.phase.commit.enable", "false", Valid::Any, "Whether an outer coordinator decides about transactions (KIP-939).").low().not_yet(),
];
