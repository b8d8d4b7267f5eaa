//! A server.properties as its author sees it.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use expect_test::{Expect, expect};
use ottla_config::{BrokerConfig, CleanupPolicy, ConfigSource, Sendfile};
use ottla_protocol::BrokerId;

fn parse(text: &str) -> (BrokerConfig, Vec<String>) {
    let (config, warnings) = BrokerConfig::parse(&[text], &[]).unwrap();
    (config, warnings.iter().map(ToString::to_string).collect())
}

fn refused(text: &str, expected: Expect) {
    let error = BrokerConfig::parse(&[text], &[]).unwrap_err();
    expected.assert_eq(&error.to_string());
}

#[test]
fn a_start_without_a_file_is_one_node_for_this_machine() {
    let config = BrokerConfig::default();
    assert_eq!(config.node.node_id, BrokerId(1));
    assert!(config.node.is_broker && config.node.is_controller);
    assert_eq!(config.node.listeners[0].to_string(), "PLAINTEXT://127.0.0.1:9092");
    assert_eq!(config.node.advertised_listeners, config.node.listeners);
    assert_eq!(config.node.log_dirs, [std::path::Path::new("./ottla-data")]);
    assert!(config.quorum.voters.is_empty());
    assert_eq!(config.offsets.topic_replication_factor, 1);
}

#[test]
fn a_combined_node_as_kafka_ships_it_starts_without_a_warning_that_matters() {
    let (config, warnings) = parse(
        "process.roles=broker,controller\n\
         node.id=3\n\
         controller.quorum.voters=3@localhost:9093\n\
         listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
         inter.broker.listener.name=PLAINTEXT\n\
         advertised.listeners=PLAINTEXT://localhost:9092\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL\n\
         num.network.threads=3\n\
         socket.send.buffer.bytes=102400\n\
         log.dirs=/tmp/kraft-combined-logs\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         log.retention.hours=168\n",
    );
    assert_eq!(config.node.node_id, BrokerId(3));
    assert_eq!(config.node.controller_listener_names, ["CONTROLLER"]);
    assert_eq!(config.node.advertised_listeners[0].host, "localhost");
    assert_eq!(config.quorum.voters[0].port, 9093);
    assert_eq!(
        warnings,
        [
            "transaction.state.log.replication.factor is known, but Ottla does not use it yet; it has no effect"
        ]
    );
}

#[test]
fn all_errors_are_told_at_once() {
    refused(
        "num.partitions=0\nlog.retention.hours=a week\nauto.create.topics.enable=yes\nfetch.sendfile=maybe\n",
        expect![[r#"
            num.partitions=0: must be a whole number of 32 bits, at least 1
            log.retention.hours=a week: must be a whole number of 32 bits, at least -1
            auto.create.topics.enable=yes: must be true or false
            fetch.sendfile=maybe: must be one of auto, on, off"#]],
    );
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    refused(
        "node.id=1\nbroker.id=2\nreplica.fetch.wait.max.ms=31000\n",
        expect![[r#"
        node.id=1 and broker.id=2: set one, or both the same
        replica.fetch.wait.max.ms=31000 must not be above replica.lag.time.max.ms=30000
        replica.fetch.wait.max.ms=31000 must not be above replica.socket.timeout.ms=30000"#]],
    );
    refused(
        "process.roles=broker\ncontroller.quorum.voters=1@a:9093,x@b:1\nnode.id=1\ncontroller.listener.names=C\n",
        expect![[r#"
            controller.quorum.voters=x@b:1: must be a list of id@host:port
            node 1 is among controller.quorum.voters but process.roles has no controller"#]],
    );
    refused(
        "process.roles=broker\n",
        expect![
            "process.roles=broker needs controller.quorum.voters or controller.quorum.bootstrap.servers to find its controllers"
        ],
    );
    refused(
        "node.id=1\ncontroller.quorum.voters=1@a:9093\ncontroller.listener.names=C\n",
        expect!["listeners must have one that controller.listener.names names"],
    );
}

#[test]
fn a_quorum_that_may_change_is_found_by_servers() {
    let servers = "node.id=2\nprocess.roles=broker,controller\ncontroller.listener.names=CONTROLLER\n\
                   controller.quorum.bootstrap.servers=a:9093,[::1]:9094\n";
    let listeners = "listeners=PLAINTEXT://b:9092,CONTROLLER://:9093\n";
    let (config, warnings) = parse(&format!(
        "{servers}{listeners}advertised.listeners=PLAINTEXT://b:9092,CONTROLLER://c:9099\n\
         controller.quorum.auto.join.enable=true\n"
    ));
    assert_eq!(warnings, [] as [String; 0]);
    let found: Vec<_> = config.quorum.bootstrap_servers.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["a:9093", "[::1]:9094"]);
    assert_eq!(config.node.controller_listener().unwrap().to_string(), "CONTROLLER://c:9099");
    refused(
        &format!("{servers}{listeners}controller.quorum.voters=2@b:9093\n"),
        expect![[r#"
            controller.quorum.voters and controller.quorum.bootstrap.servers are both set: keep the first where the voters stay as they are for ever, the second where they may change
            CONTROLLER://:9093 does not tell other controllers where this one is: name a host in listeners, or add CONTROLLER://<host name>:9093 to advertised.listeners"#]],
    );
    refused(
        "controller.quorum.auto.join.enable=true\n",
        expect![
            "controller.quorum.auto.join.enable is for controllers that find the quorum by controller.quorum.bootstrap.servers: set that, or remove it"
        ],
    );
    refused(
        "process.roles=broker\nnode.id=3\ncontroller.listener.names=C\ncontroller.quorum.bootstrap.servers=a,:9093\n",
        expect![[r#"
            controller.quorum.bootstrap.servers=a: must be a list of host:port
            controller.quorum.bootstrap.servers=:9093: must be a list of host:port
            process.roles=broker needs controller.quorum.voters or controller.quorum.bootstrap.servers to find its controllers"#]],
    );
}

#[test]
fn listeners_that_cannot_be_served_are_refused() {
    refused(
        "listeners=SSL://:9093\nsecurity.inter.broker.protocol=SSL\n",
        expect![
            "listeners: SSL://:9093 speaks SSL, but Ottla serves only PLAINTEXT listeners so far"
        ],
    );
    refused(
        "listeners=PLAINTEXT://0.0.0.0:9092\n",
        expect![
            "PLAINTEXT://0.0.0.0:9092 cannot be advertised: no client can connect to that host; set advertised.listeners=PLAINTEXT://<host name>:9092"
        ],
    );
    refused(
        "listeners=PLAINTEXT://:9092,PLAINTEXT://:9093\n",
        expect!["listeners names PLAINTEXT twice"],
    );
    refused(
        "listeners=CLIENTS://:9092\n",
        expect![
            "listeners=CLIENTS://:9092: must be a listener whose protocol is known; add CLIENTS:PLAINTEXT to listener.security.protocol.map"
        ],
    );
    refused(
        "listeners=PLAINTEXT://host:99999\n",
        expect![
            "listeners=PLAINTEXT://host:99999: must be NAME://host:port with a port from 0 to 65535"
        ],
    );
    refused("listeners=\n", expect!["listeners must name a listener"]);
    let text = "listeners=CLIENTS://[::1]:0\nlistener.security.protocol.map=CLIENTS:PLAINTEXT\ninter.broker.listener.name=CLIENTS\n";
    let listener = &parse(text).0.node.listeners[0];
    assert_eq!(listener.socket_address(), "[::1]:0");
}

#[test]
fn unknown_keys_warn_and_name_the_nearest() {
    let (_, warnings) = parse(
        "log.retention.hour=1\nzookeeper.connect=localhost:2181\ncom.example.my.key=1\n\
         listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=x\nnum.io.threads=8\nnum.network.threads=9\n",
    );
    expect![[r#"
        [
            "log.retention.hour is not a known key and has no effect; did you mean log.retention.hours?",
            "zookeeper.connect was removed in Kafka 4.0 and has no effect; delete the line",
            "com.example.my.key is not a known key and has no effect",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config is known, but Ottla does not use it yet; it has no effect",
            "num.network.threads is known, but Ottla does not use it yet; it has no effect",
        ]
    "#]].assert_debug_eq(&warnings);
}

#[test]
fn a_finer_unit_wins_over_a_coarser_one() {
    let retention = |text: &str| parse(text).0.log_manager.defaults.retention_ms;
    let hours = |n: u64| Some(Duration::from_secs(3600 * n));
    assert_eq!(retention(""), hours(168));
    assert_eq!(retention("log.retention.hours=2"), hours(2));
    assert_eq!(retention("log.retention.minutes=60\nlog.retention.hours=2"), hours(1));
    assert_eq!(retention("log.retention.ms=7200000\nlog.retention.minutes=60"), hours(2));
    assert_eq!(retention("log.retention.hours=-1"), None);
    assert_eq!(parse("log.dir=/a\n").0.node.log_dirs.len(), 1);
    assert_eq!(parse("log.dir=/a\nlog.dirs=/b, /c\n").0.node.log_dirs.len(), 2);
    assert_eq!(parse("broker.id=7\n").0.node.node_id, BrokerId(7));
    let flush = parse("log.flush.scheduler.interval.ms=1000\n").0.log_manager.defaults.flush_ms;
    assert_eq!(flush, Some(Duration::from_secs(1)));
}

#[test]
fn overrides_win_over_later_files_over_earlier_ones() {
    let texts = ["num.partitions=2\nfetch.sendfile=off\n", "num.partitions=3\n"];
    let (config, _) = BrokerConfig::parse(&texts, &[]).unwrap();
    assert_eq!(config.topic_defaults.num_partitions, 3);
    assert_eq!(config.fetch.sendfile, Sendfile::Off);
    let (config, _) = BrokerConfig::parse(&texts, &[("num.partitions", "4")]).unwrap();
    assert_eq!(config.topic_defaults.num_partitions, 4);
}

#[test]
fn letters_beyond_ascii_and_broken_escapes_are_read_as_java_does() {
    assert_eq!(parse("broker.rack=Zürich Ж").0.node.rack.as_deref(), Some("Zürich Ж"));
    assert_eq!(parse("broker.rack : Z\\u00fcrich").0.node.rack.as_deref(), Some("Zürich"));
    refused(
        "num.partitions=2\nbroker.rack=\\u00zz\n",
        expect![[
            r#"line 2 is not `key=value`: Malformed \uxxxx encoding: not hex. (line_number = 2)"#
        ]],
    );
}

#[test]
fn describing_tells_where_a_value_comes_from() {
    let (config, _) =
        parse("log.retention.hours=2\nssl.key.password=secret\nlog.cleanup.policy=compact\n");
    let overrides = [("retention.ms", "5"), ("segment.bytes", "2000000")];
    let topic = config.describe_topic(overrides);
    let entry = |name: &str| topic.iter().find(|entry| entry.name == name).unwrap();

    let retention = entry("retention.ms");
    assert_eq!(
        (retention.value.as_deref(), retention.source),
        (Some("5"), ConfigSource::DynamicTopic)
    );
    let synonyms: Vec<_> = retention
        .synonyms
        .iter()
        .map(|s| (s.name, s.value.as_deref().unwrap_or("null"), s.source))
        .collect();
    assert_eq!(
        synonyms,
        [
            ("retention.ms", "5", ConfigSource::DynamicTopic),
            ("log.retention.hours", "2", ConfigSource::StaticBroker),
            ("log.retention.hours", "168", ConfigSource::Default),
        ]
    );
    assert_eq!(entry("cleanup.policy").source, ConfigSource::StaticBroker);
    assert_eq!(entry("cleanup.policy").value.as_deref(), Some("compact"));
    assert_eq!(entry("preallocate").source, ConfigSource::Default);
    let log = config.log_config(overrides).unwrap();
    assert_eq!(log.cleanup_policy, CleanupPolicy { delete: false, compact: true });
    assert_eq!(log.segment_bytes, 2_000_000);

    let broker = config.describe_broker();
    let entry = |name: &str| broker.iter().find(|entry| entry.name == name).unwrap();
    assert_eq!(entry("log.retention.ms").value.as_deref(), Some("7200000"));
    assert!(entry("ssl.key.password").sensitive);
    assert_eq!(entry("ssl.key.password").value, None);
    assert_eq!(entry("ssl.key.password").synonyms[0].value, None);
    assert!(entry("node.id").read_only && !entry("log.segment.bytes").read_only);
}
