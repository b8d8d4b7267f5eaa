//! The table itself, and the page printed from it.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use ottla_config::{
    BrokerConfig, CONSUMER_CHAPTERS, ClientSettings, ConfigError, ConfigWarning, PRODUCER_CHAPTERS,
    TOPIC_KEYS, broker_key, broker_keys, client_reference, iso_duration, reference, topic_key,
    validate_topic_config,
};
use ottla_protocol::BrokerId;

#[test]
fn every_row_is_sound() {
    let mut names = BTreeSet::new();
    for key in broker_keys() {
        assert!(names.insert(key.name), "{} is there twice", key.name);
    }
    let mut names = BTreeSet::new();
    let producer_keys = || PRODUCER_CHAPTERS.iter().flat_map(|chapter| chapter.keys);
    for key in producer_keys() {
        assert!(names.insert(key.name), "{} is there twice", key.name);
    }
    let mut names = BTreeSet::new();
    let consumer_keys = || CONSUMER_CHAPTERS.iter().flat_map(|chapter| chapter.keys);
    for key in consumer_keys() {
        assert!(names.insert(key.name), "{} is there twice", key.name);
    }
    let client_keys = producer_keys().chain(consumer_keys());
    for key in broker_keys().chain(TOPIC_KEYS).chain(client_keys) {
        let name = key.name;
        assert!(key.doc.ends_with('.') && key.doc.len() > 10, "{name} has no sentence");
        if let Some(default) = key.default {
            key.parse(default).unwrap_or_else(|e| panic!("default of {name} must be {e}"));
        }
        for other in key.alternatives {
            assert!(broker_key(other.name).is_some(), "{name} names {}", other.name);
        }
    }
}

#[test]
fn a_topic_key_and_its_twin_agree() {
    for key in TOPIC_KEYS {
        let Some(twin) = key.broker_twin else { continue };
        let twin = broker_key(twin).unwrap_or_else(|| panic!("{} has no twin", key.name));
        assert_eq!(twin.is_list(), key.is_list(), "{}", key.name);
        assert_eq!(twin.accepted(), key.accepted(), "{}", key.name);
        // Without any setting, the twin's default must be the topic's.
        let shown = BrokerConfig::default().describe_topic::<&str, &str>([]);
        let shown = shown.iter().find(|entry| entry.name == key.name).unwrap();
        assert_eq!(shown.value.as_deref(), key.default, "{}", key.name);
    }
}

#[test]
fn every_used_topic_key_reaches_the_log() {
    let config = BrokerConfig::default();
    for key in TOPIC_KEYS.iter().filter(|key| key.used) {
        let values =
            ["true", "17", "7", "0.25", "compact", "gzip", "LogAppendTime", "5000000", "0:1"];
        let other = values
            .into_iter()
            .find(|value| key.parse(value).is_ok())
            .unwrap_or_else(|| panic!("no value for {}", key.name));
        let changed = config.log_config([(key.name, other)]).unwrap();
        assert_ne!(changed, config.log_manager.defaults, "{}={other} changes nothing", key.name);
    }
}

#[test]
fn throttled_replicas_are_all_or_those_that_are_listed() {
    let config = BrokerConfig::default();
    let throttled = |value, partition, broker| {
        let config = config.log_config([("leader.replication.throttled.replicas", value)]).unwrap();
        config.leader_throttled_replicas.contains(partition, BrokerId(broker))
    };
    assert!(throttled("*", 7, 3) && throttled("0:1, 7:3", 7, 3) && !throttled("", 0, 1));
    assert!(!throttled("0:1,7:3", 0, 3) && !throttled("0:1,7:3", 7, 1));
    for wrong in ["0", "0:1:2", "*,0:1", "-1:2", "a:b", "3000000000:1"] {
        assert!(validate_topic_config("leader.replication.throttled.replicas", wrong).is_err());
    }
}

#[test]
fn a_wrong_topic_value_says_what_is_accepted() {
    let says = |name, value| validate_topic_config(name, value).unwrap_err().to_string();
    assert_eq!(
        says("segment.bytes", "10"),
        "segment.bytes=10: must be a whole number of 32 bits, at least 1048576"
    );
    assert_eq!(
        says("cleanup.policy", "delete,compress"),
        "cleanup.policy=delete,compress: must be a list of delete, compact"
    );
    assert_eq!(
        says("retention.msec", "10"),
        "retention.msec is not a known key; did you mean retention.ms?"
    );
    assert_eq!(validate_topic_config("cleanup.policy", ""), Ok(()), "KIP-1241 allows neither");
    assert!(topic_key("cleanup.policy").unwrap().is_list());
    let config = BrokerConfig::default();
    let lags = [("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "9")];
    let ConfigError { problems } = config.log_config(lags).unwrap_err();
    assert_eq!(problems.len(), 1);
}

#[test]
fn the_page_is_fresh() {
    expect_test::expect_file!["../../../docs/configuration.md"].assert_eq(&reference());
    expect_test::expect_file!["../../../docs/client-configuration.md"]
        .assert_eq(&client_reference());
}

#[test]
fn a_client_hears_of_everything_that_is_wrong() {
    let given = [
        ("bootstrap.servers", "localhost"),
        ("lingr.ms", "5"),
        ("acks", "2"),
        ("transactional.id", "t"),
        ("interceptor.classes", "com.example.Spy"),
        ("key.serializer", "io.confluent.kafka.serializers.KafkaAvroSerializer"),
    ];
    let error = ClientSettings::read(PRODUCER_CHAPTERS, given).unwrap_err();
    expect_test::expect![[r#"
        bootstrap.servers=localhost: must be a list of host:port separated by commas, for example localhost:9092
        lingr.ms is not a known key; did you mean linger.ms?
        acks=2: must be one of all, -1, 0, 1
        transactional.id=t: must be left out: transactions are not there yet
        interceptor.classes=com.example.Spy: must be empty: a Java class cannot be loaded here; give interceptors to the builder of the client
        key.serializer=io.confluent.kafka.serializers.KafkaAvroSerializer: must be one of Kafka's own: StringSerializer, ByteArraySerializer, ByteBufferSerializer, BytesSerializer, ShortSerializer, IntegerSerializer, LongSerializer, FloatSerializer, DoubleSerializer, BooleanSerializer, UUIDSerializer, VoidSerializer; give another to the producer in code"#]]
    .assert_eq(&error.to_string());
    let given = [("metric.reporters", "a.B"), ("bootstrap.servers", "[::1]:9092, kafka:9093")];
    let (settings, warnings) = ClientSettings::read(PRODUCER_CHAPTERS, given).unwrap();
    assert_eq!(warnings, [ConfigWarning::NotYetUsed { key: "metric.reporters".to_owned() }]);
    assert!(settings.is_given("bootstrap.servers") && !settings.is_given("acks"));
}

#[test]
fn durations_are_iso_8601() {
    let seconds = |text: &str| iso_duration(text).map(|it| it.as_secs_f64());
    assert_eq!(seconds("P7D"), Some(604_800.0));
    assert_eq!(seconds("PT1H30M"), Some(5400.0));
    assert_eq!(seconds("P1DT0.5S"), Some(86_400.5));
    for wrong in ["", "P", "PT", "1H", "P1H", "PT1D", "PT-1S", "PTinfS", "PT1S1H", "PT1e3S"] {
        assert_eq!(seconds(wrong), None, "{wrong}");
    }
    let says = |value| {
        let given = [("auto.offset.reset", value)];
        ClientSettings::read(CONSUMER_CHAPTERS, given).unwrap_err().to_string()
    };
    assert!(says("by_duration:soon").contains("by_duration: and a time like PT1H30M or P7D"));
}
