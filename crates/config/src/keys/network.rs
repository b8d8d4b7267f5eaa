//! Listeners, connections and the memory of requests.

use std::net::IpAddr;

use crate::key::*;

const UNBOUNDED: &str = "2147483647";
const BUFFER: Valid = Valid::Rule(
    |text| text.parse::<i32>().is_ok_and(|n| n == -1 || n > 0),
    "-1 or a whole number of 32 bits, at least 1",
);
const OVERRIDES: Valid = Valid::Rule(
    |text| list_elements(text).all(|element| connection_limit(&element).is_some()),
    "a list of address:number, as in 127.0.0.1:100",
);

/// One element of `max.connections.per.ip.overrides`.
pub(crate) fn connection_limit(text: &str) -> Option<(IpAddr, usize)> {
    let (host, limit) = text.rsplit_once(':')?;
    Some((host.trim().parse().ok()?, limit.trim().parse().ok()?))
}

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    list("listeners", "PLAINTEXT://:9092", Valid::Any, "Where this node listens, each as NAME://host:port; an empty host is every interface.").high().per_broker().at_start(),
    list_or_null("advertised.listeners", Valid::Any, "What clients and brokers are told to connect to, each as NAME://host:port; listeners if not set.").high().per_broker().at_start(),
    list("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL", Valid::Any, "The security protocol of each listener name, each as NAME:PROTOCOL.").low().per_broker().at_start(),
    string_or_null("inter.broker.listener.name", Valid::Any, "The listener on which brokers reach each other; by security.inter.broker.protocol if not set."),
    string("security.inter.broker.protocol", "PLAINTEXT", Valid::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]), "The protocol between brokers when inter.broker.listener.name is not set."),
    int("num.network.threads", "3", Valid::AtLeast(1), "Threads that read requests and write responses; Ottla's runtime has one per core.").high().cluster_wide().not_yet(),
    int("num.io.threads", "8", Valid::AtLeast(1), "Threads that handle requests; Ottla's runtime has one per core.").high().cluster_wide().not_yet(),
    int("background.threads", "10", Valid::AtLeast(1), "Threads for background work; Ottla's runtime has one per core.").high().cluster_wide().not_yet(),
    int("queued.max.requests", "500", Valid::AtLeast(1), "Requests of a connection that are not answered yet; above, it is not read (Kafka: of all connections, docs/adr/0004).").high(),
    long("queued.max.request.bytes", "-1", Valid::AtLeast(-1), "Bytes of requests of all connections that are read or handled at once; -1 is no limit."),
    int("request.timeout.ms", "30000", Valid::AtLeast(1), "Milliseconds for which a broker goes on asking for the active controller's answer, and for which a stop waits until others lead what it led.").high(),
    int("socket.send.buffer.bytes", "-1", BUFFER, "SO_SNDBUF of a connection in bytes; -1 lets the system tune it (Kafka: 102400, docs/adr/0006).").high(),
    int("socket.receive.buffer.bytes", "-1", BUFFER, "SO_RCVBUF of a connection in bytes; -1 lets the system tune it (Kafka: 102400, docs/adr/0006).").high(),
    int("socket.request.max.bytes", "104857600", Valid::AtLeast(1), "The largest request in bytes.").high(),
    int("socket.listen.backlog.size", "50", Valid::AtLeast(1), "Connections that may wait to be accepted."),
    long("connections.max.idle.ms", "600000", Valid::Any, "Milliseconds after which an idle connection is closed; a negative number is never."),
    int("max.connections", UNBOUNDED, Valid::AtLeast(0), "Connections of the listeners for clients at once; those of the controller's are counted apart, and keep what the file says.").cluster_wide(),
    int("max.connections.per.ip", UNBOUNDED, Valid::AtLeast(0), "Connections of one address at once.").cluster_wide(),
    string("max.connections.per.ip.overrides", "", OVERRIDES, "Other limits for some IP addresses, each as address:number, separated by commas.").cluster_wide(),
    int("max.connection.creation.rate", UNBOUNDED, Valid::AtLeast(0), "New connections of this node per second.").cluster_wide().not_yet(),
    int("connection.failed.authentication.delay.ms", "100", Valid::AtLeast(0), "Milliseconds before a connection that failed to authenticate is closed.").low().not_yet(),
    int("fetch.max.bytes", "57671680", Valid::AtLeast(1024), "The largest answer to a fetch in bytes, whatever the client asks."),
    string("fetch.sendfile", "auto", Valid::OneOf(&["auto", "on", "off"]), "How stored records of more than 64 KiB in a row reach a plaintext socket: by sendfile (on), by read and write (off), or by sendfile where it is not encrypted (auto).").low().ottla(),
    int("fetch.cold.read.threads", "16", Valid::AtLeast(1), "Fetches that may wait at once, on threads of their own, for records that are not in memory.").low().cluster_wide().ottla(),
    int("max.incremental.fetch.session.cache.slots", "1000", Valid::AtLeast(0), "Incremental fetch sessions kept at once (KIP-227)."),
    int("max.request.partition.size.limit", "2000", Valid::AtLeast(1), "Partitions in one answer to DescribeTopicPartitions."),
    long("socket.connection.setup.timeout.ms", "10000", Valid::AtLeast(1), "Milliseconds that a connection between nodes may take to open.").not_yet(),
    long("socket.connection.setup.timeout.max.ms", "30000", Valid::AtLeast(1), "The longest such time in milliseconds after several failures.").not_yet(),
];
