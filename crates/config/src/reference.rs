//! The tables as pages for people: `docs/configuration.md`, `docs/client-configuration.md`.

use std::fmt::Write;

use crate::keys::{
    BROKER_CHAPTERS, CLIENT_METRICS_KEYS, CONSUMER_CHAPTERS, Chapter, GROUP_KEYS,
    PRODUCER_CHAPTERS, TOPIC_KEYS,
};
use crate::{ConfigKey, Valid};

/// `docs/configuration.md`, whole.
pub fn reference() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Printed from the table in `crates/config/src/keys/`; `UPDATE_EXPECT=1 cargo test -p ottla-config`\n\
         writes it anew. Names, defaults and meanings are Kafka's, so a `server.properties` written for Kafka\n\
         starts Ottla, if all its listeners are PLAINTEXT: TLS and SASL are not there yet, and a node with such a\n\
         listener does not start. In a file a key marked *not yet used* is accepted, and warns if it is not set to its\n\
         default; set on a running broker it is refused, of a topic or a group accepted.\n\n\
         *Changes* says how a key is changed while brokers run (KIP-226), with `kafka-configs --alter` or any admin\n\
         client: *per-broker* for one broker, *cluster-wide* for one or for all; a topic's own value is stronger than\n\
         its broker's, that than what is set for all brokers, that than the file, that than the default. It takes effect\n\
         at once and survives restarts. Where it says *at the start*, Kafka changes it while it runs and Ottla does not:\n\
         such a change, and one of a read-only key, is refused. What the controller decides by (`num.partitions`,\n\
         `default.replication.factor`, `delete.topic.enable`, `unclean.leader.election.*`, `auto.leader.rebalance.enable`,\n\
         `leader.imbalance.*`, `cluster.rebalance.*`, `broker.session.timeout.ms`) counts as the active controller has it: set it alike on\n\
         all controllers, or, where it is *cluster-wide*, for all brokers.\n\n\
         `ottla start` without a file is given:\n\n```properties\n",
    );
    page.push_str(crate::BrokerConfig::STANDALONE);
    page.push_str("```\n");
    for chapter in BROKER_CHAPTERS {
        write_chapter(&mut page, chapter, TOPIC_KEYS, broker_changes);
    }
    for (title, keys, changes) in [
        ("Topics", TOPIC_KEYS, "per topic"),
        ("Groups", GROUP_KEYS, "per group"),
        ("Client metrics", CLIENT_METRICS_KEYS, "per subscription"),
    ] {
        write_chapter(&mut page, &Chapter { title, keys }, &[], |_| changes.to_owned());
    }
    page
}

/// `docs/client-configuration.md`, whole.
pub fn client_reference() -> String {
    let mut page = String::from(
        "# Configuration of clients\n\n\
         Printed from the table in `crates/config/src/keys/`; `UPDATE_EXPECT=1 cargo test -p ottla-config`\n\
         writes it anew. Names, defaults and meanings are Kafka's. A key marked *not yet used* is accepted, and warns if it\n\
         is not set to its default; a key that no client has is refused, with the nearest known one.\n",
    );
    let consumer = CONSUMER_CHAPTERS.iter().filter(|it| it.title != PRODUCER_CHAPTERS[0].title);
    for Chapter { title, keys } in PRODUCER_CHAPTERS.iter().chain(consumer) {
        let header = "| Key | Type | Default | Meaning |\n|---|---|---|---|\n";
        let _ = write!(page, "\n## {title}\n\n{header}");
        for key in *keys {
            let (name, kind) = (key.name, key.config_type);
            let _ =
                writeln!(page, "| `{name}` | {kind} | {} | {} |", default(key), meaning(key, &[]));
        }
    }
    page
}

fn broker_changes(key: &ConfigKey) -> String {
    match key.at_start {
        true => format!("{}, at the start", key.scope),
        false => key.scope.to_string(),
    }
}

/// A table of keys; those of `topic_keys` that override one are named beside it.
fn write_chapter(
    page: &mut String,
    Chapter { title, keys }: &Chapter,
    topic_keys: &[ConfigKey],
    changes: impl Fn(&ConfigKey) -> String,
) {
    let header = "| Key | Type | Default | Meaning | Changes |\n|---|---|---|---|---|\n";
    let _ = write!(page, "\n## {title}\n\n{header}");
    for key in *keys {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            key.name,
            key.config_type,
            default(key),
            meaning(key, topic_keys),
            changes(key),
        );
    }
}

fn default(key: &ConfigKey) -> String {
    match key.default {
        None => "null".to_owned(),
        Some("") => "empty".to_owned(),
        Some("9223372036854775807") => "2^63-1".to_owned(),
        Some("2147483647") => "2^31-1".to_owned(),
        Some(text) => format!("`{text}`"),
    }
}

fn meaning(key: &ConfigKey, topic_keys: &[ConfigKey]) -> String {
    let mut text = key.doc.to_owned();
    if !matches!(key.valid, Valid::Any) {
        let _ = write!(text, " Must be {}.", key.accepted());
    }
    if let Some(twin) = key.broker_twin {
        let _ = write!(text, " Default from `{twin}`.");
    }
    for twin in topic_keys.iter().filter(|it| it.broker_twin == Some(key.name)) {
        if twin.name != key.name {
            let _ = write!(text, " A topic overrides it by `{}`.", twin.name);
        }
    }
    if key.own {
        text.push_str(" Ottla's own.");
    }
    if !key.used {
        text.push_str(" *Not yet used.*");
    }
    text.replace('|', "\\|")
}
