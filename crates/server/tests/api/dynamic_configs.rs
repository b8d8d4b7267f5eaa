//! Configuration of brokers that changes while they run, seen from a client (KIP-226).

use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use ottla_protocol::{ErrorCode, message};

use crate::client::Client;
use crate::node::{Node, in_time};
use crate::records::{NOON, batch, keyed};
use crate::requests::text;

const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

async fn node_and_client() -> (Node, Client) {
    let node = Node::start().await;
    let client = Client::connect(&node).await;
    (node, client)
}

/// Sets keys of a resource, or takes those without a value back; the code and the words.
async fn alter(
    client: &mut Client,
    (kind, name): (i8, &str),
    changes: &[(&str, Option<&str>)],
) -> (ErrorCode, String) {
    let configs = changes.iter().map(|(key, value)| {
        message!(AlterableConfig {
            name: text(key),
            config_operation: i8::from(value.is_none()),
            value: value.map(text),
        })
    });
    let resource = message!(AlterConfigsResource {
        resource_type: kind,
        resource_name: text(name),
        configs: configs.collect(),
    });
    let request = message!(IncrementalAlterConfigsRequest { resources: vec![resource] });
    let result = client.call(1, &request).await.responses.remove(0);
    let words = result.error_message.map(|words| words.as_str().to_owned()).unwrap_or_default();
    (ErrorCode::from_wire(result.error_code), words)
}

async fn set(client: &mut Client, broker: &str, key: &str, value: &str) {
    let (error, words) = alter(client, (BROKER, broker), &[(key, Some(value))]).await;
    assert_eq!(error, ErrorCode::None, "{words}");
}

async fn describe(client: &mut Client, kind: i8, name: &str) -> Vec<DescribeConfigsResourceResult> {
    let resource = message!(DescribeConfigsResource {
        resource_type: kind,
        resource_name: text(name),
        configuration_keys: None,
    });
    let request = message!(DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    });
    let result = client.call(4, &request).await.results.remove(0);
    assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    result.configs
}

/// A key of a resource: its value, where that comes from, and whether it may not change.
async fn value(client: &mut Client, (kind, name): (i8, &str), key: &str) -> (String, i8, bool) {
    let rows = describe(client, kind, name).await;
    let row = rows.iter().find(|row| row.name.as_str() == key).unwrap();
    (row.value.as_deref().unwrap_or("null").to_owned(), row.config_source, row.read_only)
}

#[tokio::test]
async fn topics_follow_their_broker_at_once_and_after_a_restart() {
    let (node, mut client) = node_and_client().await;
    client.create_topic("follows", 1).await;
    client.create_topic_with("own", 1, &[("max.message.bytes", "1000000")]).await;
    let large = batch(&[&"x".repeat(500)]);
    client.append_ok("follows", large.clone()).await;
    set(&mut client, "", "message.max.bytes", "100").await;
    let refused = client.append("follows", 0, large.clone()).await;
    assert_eq!(refused.error_code, ErrorCode::MessageTooLarge);
    client.append_ok("own", large.clone()).await;
    // One broker's own value is stronger than that of all.
    set(&mut client, "1", "message.max.bytes", "2000").await;
    client.append_ok("follows", large.clone()).await;
    let (error, words) = alter(&mut client, (BROKER, "1"), &[("message.max.bytes", None)]).await;
    assert_eq!(error, ErrorCode::None, "{words}");
    let node = node.crash_and_restart().await;
    let mut client = Client::connect(&node).await;
    let refused = client.append("follows", 0, large.clone()).await;
    assert_eq!(refused.error_code, ErrorCode::MessageTooLarge);
    client.create_topic("made-later", 1).await;
    let refused = client.append("made-later", 0, large).await;
    assert_eq!(refused.error_code, ErrorCode::MessageTooLarge);
}

#[tokio::test]
async fn each_value_tells_where_it_comes_from() {
    let (_node, mut client) = node_and_client().await;
    client.create_topic("t", 1).await;
    let (broker, key) = ((BROKER, "1"), "log.retention.ms");
    assert_eq!(value(&mut client, broker, key).await, ("604800000".into(), 5, false));
    let set_for_all = describe(&mut client, BROKER, "").await;
    let set_for_all: Vec<_> = set_for_all.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(
        set_for_all,
        ["min.insync.replicas"],
        "the controller keeps it (KIP-966), and nothing else"
    );
    set(&mut client, "", key, "9000").await;
    assert_eq!(value(&mut client, broker, key).await, ("9000".into(), 3, false));
    assert_eq!(value(&mut client, (BROKER, ""), key).await, ("9000".into(), 3, false));
    assert_eq!(value(&mut client, (2, "t"), "retention.ms").await, ("9000".into(), 3, false));
    set(&mut client, "1", key, "8000").await;
    assert_eq!(value(&mut client, broker, key).await, ("8000".into(), 2, false));
    assert_eq!(value(&mut client, (BROKER, ""), key).await, ("9000".into(), 3, false));
    assert_eq!(value(&mut client, broker, "node.id").await, ("1".into(), 4, true));
    assert_eq!(value(&mut client, broker, "num.io.threads").await, ("8".into(), 5, true));
    let rows = describe(&mut client, BROKER, "1").await;
    let row = rows.iter().find(|row| row.name.as_str() == key).unwrap();
    let sources: Vec<_> = row.synonyms.iter().map(|synonym| synonym.source).collect();
    assert_eq!(sources, [2, 3, 5]);
    assert!(row.documentation.as_ref().is_some_and(|words| !words.is_empty()));
    let row = rows.iter().find(|row| row.name.as_str() == "ssl.key.password").unwrap();
    assert!(row.is_sensitive && row.value.is_none());
}

#[tokio::test]
async fn what_a_broker_cannot_be_changed_to_is_refused_and_changes_nothing() {
    let (_node, mut client) = node_and_client().await;
    for (name, key, given, expected) in [
        ("1", "log.dirs", "/tmp", "Cannot update these configs dynamically: Set(log.dirs)"),
        ("", "listeners", "A://:1", "Cannot update these configs at default cluster level"),
        ("1", "listeners", "A://:1", "listeners is read at the start"),
        ("1", "num.io.threads", "4", "num.io.threads is known, but Ottla does not use it yet"),
        ("", "log.retention.ms", "long", "log.retention.ms=long: must be"),
        ("", "log.cleaner.threads", "9", "Log cleaner threads cannot be increased"),
        ("7", "log.retention.ms", "1", "Unexpected broker id, expected 1, but received 7"),
        ("x", "log.retention.ms", "1", "Node id must be an integer, but it is: x"),
    ] {
        let changes = [("log.retention.bytes", Some("5")), (key, Some(given))];
        let (error, words) = alter(&mut client, (BROKER, name), &changes).await;
        assert_eq!(error, ErrorCode::InvalidRequest, "{key}: {words}");
        assert!(words.starts_with(expected), "{key}: {words}");
    }
    let bytes = value(&mut client, (BROKER, "1"), "log.retention.bytes").await;
    assert_eq!(bytes, ("-1".into(), 5, false));
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_resources() {
    let (_node, mut client) = node_and_client().await;
    client.create_topic("t", 1).await;
    let named = [(BROKER, "7"), (2, "t"), (BROKER, "7"), (2, "t"), (BROKER, "1"), (99, "x")];
    let resources = named.iter().map(|(kind, name)| {
        message!(AlterConfigsResource { resource_type: *kind, resource_name: text(name) })
    });
    let request = message!(IncrementalAlterConfigsRequest { resources: resources.collect() });
    let answers = client.call(1, &request).await.responses;
    let told: Vec<_> =
        answers.iter().map(|it| (it.resource_type, it.resource_name.as_str())).collect();
    assert_eq!(told, named);
    let ok: Vec<_> = answers.iter().map(|answer| answer.error_code == 0).collect();
    assert_eq!(ok, [false, false, false, false, true, false]);
}

#[tokio::test]
async fn limits_of_connections_change_while_the_node_runs() {
    let (node, mut client) = node_and_client().await;
    set(&mut client, "", "max.connections", "2").await;
    let mut second = Client::connect(&node).await;
    second.assert_served().await;
    let mut third = Client::connect(&node).await;
    third.assert_closed().await;
    set(&mut client, "1", "max.connections.per.ip.overrides", "127.0.0.1:1").await;
    set(&mut client, "", "max.connections", "9").await;
    Client::connect(&node).await.assert_closed().await;
    let (error, words) =
        alter(&mut client, (BROKER, "1"), &[("max.connections.per.ip.overrides", None)]).await;
    assert_eq!(error, ErrorCode::None, "{words}");
    Client::connect(&node).await.assert_served().await;
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "a test looks at the node's files")]
async fn compaction_begins_when_all_brokers_are_told_to_look_more_often() {
    let node = Node::start_with(
        "log.cleaner.backoff.ms=3600000\nlog.cleaner.min.cleanable.ratio=0.01\nlog.roll.ms=1\n",
    )
    .await;
    let mut client = Client::connect(&node).await;
    client.create_topic_with("t", 1, &[("cleanup.policy", "compact")]).await;
    // Each record is a segment, for its time is another.
    for n in 0..4 {
        client.append_ok("t", keyed(NOON + 10 * n, "k")).await;
    }
    set(&mut client, "", "log.cleaner.backoff.ms", "1").await;
    let checkpoint = node.path().join("cleaner-offset-checkpoint");
    let cleaned = async {
        while !std::fs::read_to_string(&checkpoint).is_ok_and(|text| text.contains("t 0 ")) {
            client.assert_served().await;
        }
    };
    in_time("a cleaning", cleaned).await;
}

#[tokio::test]
async fn groups_and_subscriptions_are_configured_before_they_are_there() {
    let (node, mut client) = node_and_client().await;
    let subscription = (CLIENT_METRICS, "slow-clients");
    assert!(describe(&mut client, subscription.0, subscription.1).await.is_empty());
    let changes = [("interval.ms", Some("5000")), ("match", Some("client_id=app-.*"))];
    assert_eq!(alter(&mut client, subscription, &changes).await.0, ErrorCode::None);
    let group = (GROUP, "orders");
    let changes = [("consumer.session.timeout.ms", Some("50000"))];
    assert_eq!(alter(&mut client, group, &changes).await.0, ErrorCode::None);
    for (resource, key, given, expected) in [
        (subscription, "interval.ms", "99", ErrorCode::InvalidRequest),
        (subscription, "nonsense", "1", ErrorCode::InvalidRequest),
        (subscription, "match", "client_id=(", ErrorCode::InvalidConfig),
        (group, "consumer.session.timeout.ms", "5", ErrorCode::InvalidConfig),
        (group, "nonsense", "1", ErrorCode::InvalidConfig),
        ((GROUP, ""), "consumer.session.timeout.ms", "50000", ErrorCode::InvalidRequest),
    ] {
        let (error, words) = alter(&mut client, resource, &[(key, Some(given))]).await;
        assert_eq!(error, expected, "{key}={given}: {words}");
    }
    let node = node.crash_and_restart().await;
    let mut client = Client::connect(&node).await;
    assert_eq!(value(&mut client, subscription, "interval.ms").await, ("5000".into(), 7, false));
    let session = value(&mut client, group, "consumer.session.timeout.ms").await;
    assert_eq!(session, ("50000".into(), 8, false));
    let heartbeat = value(&mut client, group, "consumer.heartbeat.interval.ms").await;
    assert_eq!(heartbeat, ("5000".into(), 5, false));
}

#[tokio::test]
async fn log_levels_are_those_that_the_node_started_with() {
    let (_node, mut client) = node_and_client().await;
    const BROKER_LOGGER: i8 = 8;
    let resource = message!(DescribeConfigsResource {
        resource_type: BROKER_LOGGER,
        resource_name: text("1"),
        configuration_keys: None,
    });
    let request = message!(DescribeConfigsRequest { resources: vec![resource] });
    let described = client.call(4, &request).await.results.remove(0);
    let words = described.error_message.map(|words| words.as_str().to_owned());
    let expected = (ErrorCode::InvalidRequest, words.unwrap_or_default());
    assert_eq!(described.error_code, ErrorCode::InvalidRequest.code());
    assert!(expected.1.contains("OTTLA_LOG"), "{expected:?}");
    let altered = alter(&mut client, (BROKER_LOGGER, "1"), &[("root", Some("DEBUG"))]).await;
    assert_eq!(altered, expected);
}
