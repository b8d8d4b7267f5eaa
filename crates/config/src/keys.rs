//! The table of every key, one file per chapter.

mod client_metrics;
mod clients;
mod compaction;
mod consumers;
mod group;
mod groups;
mod log;
mod network;
mod node;
mod replication;
mod security;
mod share_groups;
mod tiering;
mod topic;
mod transactions;

use crate::ConfigKey;

pub use consumers::iso_duration;
pub(crate) use group::{BOUNDS, SESSIONS};
pub(crate) use network::connection_limit;

/// A titled part of the table.
#[derive(Clone, Copy, Debug)]
pub struct Chapter {
    /// Its title in the documentation.
    pub title: &'static str,
    /// Its rows, in the order in which they are shown.
    pub keys: &'static [ConfigKey],
}

/// Every key of a node.
pub const BROKER_CHAPTERS: &[Chapter] = &[
    Chapter { title: "Node and metadata quorum", keys: node::KEYS },
    Chapter { title: "Network", keys: network::KEYS },
    Chapter { title: "Log", keys: log::KEYS },
    Chapter { title: "Compaction", keys: compaction::KEYS },
    Chapter { title: "Replication", keys: replication::KEYS },
    Chapter { title: "Groups and offsets", keys: groups::KEYS },
    Chapter { title: "Share groups", keys: share_groups::KEYS },
    Chapter { title: "Transactions", keys: transactions::KEYS },
    Chapter { title: "Security and quotas", keys: security::KEYS },
    Chapter { title: "Tiered storage, metrics and plug-ins", keys: tiering::KEYS },
];

/// Every key of a producer.
pub const PRODUCER_CHAPTERS: &[Chapter] = &[
    Chapter { title: "Every client", keys: clients::KEYS },
    Chapter { title: "Producer", keys: clients::PRODUCER },
];

/// Every key of a consumer.
pub const CONSUMER_CHAPTERS: &[Chapter] = &[
    Chapter { title: "Every client", keys: clients::KEYS },
    Chapter { title: "Consumer", keys: consumers::KEYS },
];

/// Every key of a client that is neither producer nor consumer.
pub const ADMIN_CHAPTERS: &[Chapter] = &[Chapter { title: "Every client", keys: clients::KEYS }];

/// Every key of a topic.
pub const TOPIC_KEYS: &[ConfigKey] = topic::KEYS;

/// Every key of a consumer, share or streams group.
pub const GROUP_KEYS: &[ConfigKey] = group::KEYS;

/// Every key of a subscription to client metrics (KIP-714).
pub const CLIENT_METRICS_KEYS: &[ConfigKey] = client_metrics::KEYS;

/// Keys that Kafka had before 4.0 and has no more: ZooKeeper, message formats, mixed versions.
const RETIRED: &[&str] = &[
    "zookeeper.connect",
    "zookeeper.connection.timeout.ms",
    "zookeeper.session.timeout.ms",
    "zookeeper.set.acl",
    "zookeeper.max.in.flight.requests",
    "zookeeper.metadata.migration.enable",
    "inter.broker.protocol.version",
    "log.message.format.version",
    "log.message.downconversion.enable",
    "log.message.timestamp.difference.max.ms",
    "control.plane.listener.name",
    "broker.id.generation.enable",
    "reserved.broker.max.id",
    "delegation.token.master.key",
    "password.encoder.secret",
    "password.encoder.old.secret",
    "auto.include.jmx.reporter",
    "advertised.host.name",
    "advertised.port",
    "host.name",
    "port",
];

/// All keys of a node, in the order of the chapters.
pub fn broker_keys() -> impl Iterator<Item = &'static ConfigKey> {
    rows(BROKER_CHAPTERS)
}

/// The tables of all kinds of clients.
pub(crate) fn client_tables() -> impl Iterator<Item = &'static [Chapter]> {
    [PRODUCER_CHAPTERS, CONSUMER_CHAPTERS, ADMIN_CHAPTERS].into_iter()
}

/// The rows of a table, in the order of its chapters.
pub(crate) fn rows(table: &'static [Chapter]) -> impl Iterator<Item = &'static ConfigKey> {
    table.iter().flat_map(|chapter| chapter.keys)
}

/// The row of a broker key.
pub fn broker_key(name: &str) -> Option<&'static ConfigKey> {
    broker_keys().find(|key| key.name == name)
}

/// The row of a topic key.
pub fn topic_key(name: &str) -> Option<&'static ConfigKey> {
    TOPIC_KEYS.iter().find(|key| key.name == name)
}

/// The row of a group's key.
pub fn group_key(name: &str) -> Option<&'static ConfigKey> {
    GROUP_KEYS.iter().find(|key| key.name == name)
}

/// The row of a key of a subscription to client metrics.
pub fn client_metrics_key(name: &str) -> Option<&'static ConfigKey> {
    CLIENT_METRICS_KEYS.iter().find(|key| key.name == name)
}

pub(crate) fn is_retired(name: &str) -> bool {
    RETIRED.contains(&name) || name.starts_with("zookeeper.ssl.")
}

/// The known name that looks most like `name`, if one does.
pub(crate) fn nearest(
    name: &str,
    keys: impl Iterator<Item = &'static ConfigKey>,
) -> Option<&'static str> {
    keys.map(|key| (strsim::damerau_levenshtein(name, key.name), key.name))
        .min()
        .filter(|(distance, _)| *distance <= name.len().div_ceil(4))
        .map(|(_, nearest)| nearest)
}
