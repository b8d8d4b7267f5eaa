//! Values that are set for a broker, and for all of them, while they run (KIP-226).
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use ottla_config::{
    BrokerConfig, ConfigEntry, ConfigSource, DynamicScope, broker_keys, validate_dynamic_config,
};

const NONE: [(&str, &str); 0] = [];

fn started(text: &str) -> BrokerConfig {
    BrokerConfig::parse(&[text], &[]).unwrap().0
}

fn dynamic<const A: usize, const B: usize>(
    started: &BrokerConfig,
    all: [(&str, &str); A],
    own: [(&str, &str); B],
) -> BrokerConfig {
    let (config, problems) = started.with_dynamic(all.to_vec(), own.to_vec());
    assert_eq!(problems, []);
    config
}

fn entry(entries: &[ConfigEntry], name: &str) -> ConfigEntry {
    entries.iter().find(|entry| entry.name == name).unwrap().clone()
}

fn synonyms(entry: &ConfigEntry) -> Vec<(&str, &str, ConfigSource)> {
    let shown = entry.synonyms.iter();
    shown.map(|it| (it.name, it.value.as_deref().unwrap_or("null"), it.source)).collect()
}

#[test]
fn the_broker_is_stronger_than_all_brokers_than_the_file_than_the_default() {
    let file = started("log.retention.hours=2\n");
    let retention = |config: &BrokerConfig| config.log_manager.defaults.retention_ms.unwrap();
    assert_eq!(retention(&file), Duration::from_secs(7200));
    let all = dynamic(&file, [("log.retention.ms", "3000")], NONE);
    assert_eq!(retention(&all), Duration::from_secs(3));
    let own = dynamic(&all, [("log.retention.ms", "3000")], [("log.retention.ms", "4000")]);
    assert_eq!(retention(&own), Duration::from_secs(4));
    assert_eq!(dynamic(&own, NONE, NONE), file, "what is not set any more is as in the file");
}

#[test]
fn a_dynamic_value_is_stronger_than_a_finer_unit_in_the_file() {
    let file = started("log.roll.ms=5\nlog.roll.hours=7\n");
    assert_eq!(file.log_manager.defaults.segment_ms, Duration::from_millis(5));
    let all = dynamic(&file, [("log.roll.ms", "9")], NONE);
    assert_eq!(all.log_manager.defaults.segment_ms, Duration::from_millis(9));
}

#[test]
fn each_value_tells_where_it_comes_from_and_what_lies_below() {
    let file = started("log.retention.minutes=9\n");
    let config = dynamic(&file, [("log.retention.ms", "3000")], [("log.retention.ms", "4000")]);
    let below = [
        ("log.retention.ms", "4000", ConfigSource::DynamicBroker),
        ("log.retention.ms", "3000", ConfigSource::DynamicDefaultBroker),
        ("log.retention.minutes", "9", ConfigSource::StaticBroker),
        ("log.retention.hours", "168", ConfigSource::Default),
    ];
    let broker = entry(&config.describe_broker(), "log.retention.ms");
    assert_eq!((broker.value.as_deref(), broker.source), (Some("4000"), below[0].2));
    assert_eq!(synonyms(&broker), below);
    let topic = entry(&config.describe_topic([("retention.ms", "5")]), "retention.ms");
    assert_eq!(synonyms(&topic)[0], ("retention.ms", "5", ConfigSource::DynamicTopic));
    assert_eq!(synonyms(&topic)[1..], below);
    let topic = entry(&config.describe_topic(NONE), "retention.ms");
    assert_eq!((topic.value.as_deref(), topic.source), (Some("4000"), below[0].2));
    let [all] = &config.describe_all_brokers()[..] else { panic!("one key is set for all") };
    assert_eq!((all.value.as_deref(), all.source), (Some("3000"), below[1].2));
    assert_eq!(synonyms(all), below[1..2]);
    assert!(file.describe_all_brokers().is_empty());
}

#[test]
fn a_group_falls_back_to_its_broker() {
    let file = started("group.consumer.session.timeout.ms=50000\n");
    let entries = file.describe_group([("consumer.heartbeat.interval.ms", "6000")]);
    let heartbeat = entry(&entries, "consumer.heartbeat.interval.ms");
    assert_eq!((heartbeat.value.as_deref(), heartbeat.source), (Some("6000"), ConfigSource::Group));
    let session = entry(&entries, "consumer.session.timeout.ms");
    assert_eq!(session.value.as_deref(), Some("50000"));
    assert_eq!(session.source, ConfigSource::StaticBroker);
    assert_eq!(entry(&entries, "share.isolation.level").source, ConfigSource::Default);
    assert_eq!(file.check_group_config([("streams.session.timeout.ms", "50000")]), Ok(()));
    let wide = started("group.consumer.max.heartbeat.interval.ms=99000\n");
    let problem = wide.check_group_config([("consumer.heartbeat.interval.ms", "45000")]);
    assert_eq!(
        problem.unwrap_err().to_string(),
        "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms"
    );
}

#[test]
fn only_what_changes_while_the_node_runs_can_be_set() {
    let says =
        |name, value, all| validate_dynamic_config(name, value, all).unwrap_err().to_string();
    assert_eq!(
        says("node.id", "2", false),
        "Cannot update these configs dynamically: Set(node.id); change the broker's properties and restart it"
    );
    assert_eq!(
        says("ssl.keystore.location", "x", true),
        "Cannot update these configs at default cluster level, broker id must be specified: Set(ssl.keystore.location)"
    );
    assert_eq!(
        says("log.segment.byte", "1", true),
        "log.segment.byte is not a known key; did you mean log.segment.bytes?"
    );
    assert_eq!(
        says("max.connections.per.ip.overrides", "localhost:1", true),
        "max.connections.per.ip.overrides=localhost:1: must be a list of address:number, as in 127.0.0.1:100"
    );
    let file = started("");
    let shown = file.describe_broker();
    for key in broker_keys() {
        let may = key.scope != DynamicScope::ReadOnly && key.used && !key.at_start;
        assert_eq!(entry(&shown, key.name).read_only, !may, "{}", key.name);
        let refused = validate_dynamic_config(key.name, key.default.unwrap_or("1"), false);
        assert_eq!(refused.is_ok(), may, "{}: {refused:?}", key.name);
        assert!(!key.at_start || key.scope != DynamicScope::ReadOnly, "{}", key.name);
    }
}

#[test]
fn what_cannot_be_set_is_passed_over_and_told() {
    let file = started("");
    let all = [("log.segment.bytes", "5"), ("log.retention.ms", "7"), ("listeners", "A://:1")];
    let (config, problems) = file.with_dynamic(all, [("nonsense", "1"); 1]);
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!(config, dynamic(&file, [("log.retention.ms", "7")], NONE));
}

#[test]
fn cleaners_are_at_most_doubled_or_halved_at_once() {
    let with = |threads| dynamic(&started(""), [("log.cleaner.threads", threads)], NONE);
    assert_eq!(with("4").check_change(&with("8")), Ok(()));
    assert_eq!(with("4").check_change(&with("2")), Ok(()));
    for refused in ["0", "1", "9"] {
        with("4").check_change(&with(refused)).unwrap_err();
    }
}
