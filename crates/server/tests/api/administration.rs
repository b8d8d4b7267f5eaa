//! Topics and configurations: what is made, changed and deleted, and what is refused with which words.

use ottla_client::NewTopic;
use ottla_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use ottla_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, MetadataRequest,
};
use ottla_protocol::{ErrorCode, TopicId, message};

use crate::client::Client;
use crate::node::Node;
use crate::partitions::admin;
use crate::records::batch;
use crate::requests::{text, topic};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

async fn node_and_client() -> (Node, Client) {
    let node = Node::start().await;
    let client = Client::connect(&node).await;
    (node, client)
}

/// Error and words for each topic of a CreateTopics request.
async fn create(client: &mut Client, topics: Vec<CreatableTopic>) -> Vec<(ErrorCode, String)> {
    let request = message!(CreateTopicsRequest { topics: topics, timeout_ms: 10_000 });
    let answer = client.call(7, &request).await;
    let told = answer.topics.into_iter();
    told.map(|it| {
        let words = it.error_message.map(|words| words.as_str().to_owned());
        (ErrorCode::from_wire(it.error_code), words.unwrap_or_default())
    })
    .collect()
}

/// The topic must be refused with `expected` and a reason.
async fn assert_refused(client: &mut Client, topic: CreatableTopic, expected: ErrorCode) {
    let name = topic.name.clone();
    let (error, words) = create(client, vec![topic]).await.remove(0);
    assert_eq!(error, expected, "{name:?}: {words}");
    assert!(!words.is_empty(), "{error} for {name:?} comes without a word");
}

/// Names and errors of the topics in a Metadata answer.
async fn metadata(client: &mut Client, names: Option<&[&str]>, create: bool) -> Vec<(String, i16)> {
    let topics = names.map(|names| {
        let named = names.iter();
        named.map(|name| message!(MetadataRequestTopic { name: Some(text(name)) })).collect()
    });
    let request = message!(MetadataRequest { topics: topics, allow_auto_topic_creation: create });
    let answer = client.call(12, &request).await;
    let topics = answer.topics.into_iter();
    topics.map(|it| (it.name.unwrap_or_default().as_str().to_owned(), it.error_code)).collect()
}

#[tokio::test]
async fn names_that_no_topic_may_have_are_refused_everywhere() {
    let (_node, mut client) = node_and_client().await;
    let long = "n".repeat(250);
    for name in ["", ".", "..", "a b", "a/b", "ä", "a\0b", "a:b", &long] {
        let invalid = ErrorCode::InvalidTopicException;
        assert_refused(&mut client, topic(name, 1, &[]), invalid).await;
        let seen = metadata(&mut client, Some(&[name]), true).await;
        assert_eq!(seen, [(name.to_owned(), invalid.code())]);
        let answer = client.append(name, 0, batch(&["x"])).await;
        let expected = [ErrorCode::UnknownTopicOrPartition, invalid];
        assert!(expected.contains(&answer.error_code), "{name:?}: {}", answer.error_code);
    }
    assert_eq!(metadata(&mut client, None, false).await, []);
    client.create_topic(&"n".repeat(249), 1).await;
}

#[tokio::test]
async fn names_that_differ_only_in_dot_and_underscore_collide() {
    let (_node, mut client) = node_and_client().await;
    client.create_topic("a.b", 1).await;
    assert_refused(&mut client, topic("a_b", 1, &[]), ErrorCode::InvalidTopicException).await;
}

#[tokio::test]
async fn counts_and_factors_that_cannot_be_are_refused() {
    let (_node, mut client) = node_and_client().await;
    for partitions in [0, -2, i32::MIN] {
        assert_refused(&mut client, topic("t", partitions, &[]), ErrorCode::InvalidPartitions)
            .await;
    }
    for factor in [0, -2, 2, i16::MAX] {
        let mut wanted = topic("t", 1, &[]);
        wanted.replication_factor = factor;
        assert_refused(&mut client, wanted, ErrorCode::InvalidReplicationFactor).await;
    }
    let (error, _) = create(&mut client, vec![topic("t", i32::MAX, &[])]).await.remove(0);
    assert_ne!(error, ErrorCode::None);
    // Minus one asks for the defaults (KIP-464).
    let mut defaults = topic("t", -1, &[]);
    defaults.replication_factor = -1;
    assert_eq!(create(&mut client, vec![defaults]).await[0].0, ErrorCode::None);
}

#[tokio::test]
async fn assignments_that_cannot_be_are_refused() {
    let (_node, mut client) = node_and_client().await;
    let assigned = |replicas: &[(i32, &[i32])]| {
        let assignments = replicas.iter().map(|(partition, brokers)| {
            message!(CreatableReplicaAssignment {
                partition_index: *partition,
                broker_ids: brokers.to_vec(),
            })
        });
        message!(CreatableTopic {
            name: text("t"),
            num_partitions: -1,
            replication_factor: -1,
            assignments: assignments.collect(),
        })
    };
    let cases: [&[(i32, &[i32])]; 6] = [
        &[(0, &[])],
        &[(0, &[2])],
        &[(0, &[1, 1])],
        &[(1, &[1])],
        &[(0, &[1]), (0, &[1])],
        &[(-1, &[1])],
    ];
    for replicas in cases {
        let wrong = assigned(replicas);
        assert_refused(&mut client, wrong, ErrorCode::InvalidReplicaAssignment).await;
    }
    let mut both = assigned(&[(0, &[1])]);
    both.num_partitions = 1;
    assert_refused(&mut client, both, ErrorCode::InvalidRequest).await;
    let good = assigned(&[(1, &[1]), (0, &[1])]);
    assert_eq!(create(&mut client, vec![good]).await[0].0, ErrorCode::None);
}

#[tokio::test]
async fn configs_that_cannot_be_are_refused_by_name() {
    let (_node, mut client) = node_and_client().await;
    for (key, value) in [
        ("no.such.key", "1"),
        ("retention.ms", "long"),
        ("cleanup.policy", "burn"),
        ("max.message.bytes", "-1"),
        ("segment.bytes", ""),
        ("min.insync.replicas", "0"),
    ] {
        let wrong = topic("t", 1, &[(key, value)]);
        let (error, words) = create(&mut client, vec![wrong]).await.remove(0);
        assert_eq!(error, ErrorCode::InvalidConfig, "{key}={value}");
        assert!(words.contains(key), "{words}");
    }
}

#[tokio::test]
async fn a_topic_named_twice_is_refused_and_its_neighbours_are_made() {
    let (_node, mut client) = node_and_client().await;
    let topics = vec![topic("twice", 1, &[]), topic("once", 1, &[]), topic("twice", 1, &[])];
    let told = create(&mut client, topics).await;
    assert!(told.iter().any(|(error, _)| *error == ErrorCode::InvalidRequest), "{told:?}");
    assert_eq!(metadata(&mut client, None, false).await, [("once".to_owned(), 0)]);
}

#[tokio::test]
async fn a_topic_that_is_only_validated_is_not_made() {
    let (_node, mut client) = node_and_client().await;
    let request = message!(CreateTopicsRequest {
        topics: vec![topic("t", 3, &[])],
        timeout_ms: 10_000,
        validate_only: true,
    });
    let answer = client.call(7, &request).await;
    assert_eq!((answer.topics[0].error_code, answer.topics[0].num_partitions), (0, 3));
    assert_eq!(metadata(&mut client, None, false).await, []);
}

#[tokio::test]
async fn a_topic_is_there_for_requests_pipelined_behind_its_creation() {
    let (_node, mut client) = node_and_client().await;
    let request =
        message!(CreateTopicsRequest { topics: vec![topic("t", 1, &[])], timeout_ms: 10_000 });
    let created = client.send(7, &request).await;
    let wanted = message!(MetadataRequestTopic { name: Some(text("t")) });
    let request =
        message!(MetadataRequest { topics: Some(vec![wanted]), allow_auto_topic_creation: false });
    let described = client.send(12, &request).await;
    let answer = client.answer::<CreateTopicsRequest>(7, created).await;
    assert_eq!(answer.topics[0].error_code, 0);
    let answer = client.answer::<MetadataRequest>(12, described).await;
    assert_eq!(answer.topics[0].error_code, 0);
    client.append_ok("t", batch(&["x"])).await;
}

#[tokio::test]
async fn topics_are_created_on_first_use_if_they_may() {
    let (_node, mut client) = node_and_client().await;
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let seen = metadata(&mut client, Some(&["t"]), false).await;
    assert_eq!(seen, [("t".to_owned(), unknown)]);
    assert_eq!(metadata(&mut client, Some(&["t"]), true).await[0].0, "t");
    let seen = metadata(&mut client, Some(&["t"]), false).await;
    assert_eq!(seen, [("t".to_owned(), 0)]);
    // Named twice it is created once.
    assert_eq!(metadata(&mut client, Some(&["u", "u"]), true).await.len(), 2);
    let seen = metadata(&mut client, Some(&["u"]), false).await;
    assert_eq!(seen, [("u".to_owned(), 0)]);
    let strict = Node::start_with("auto.create.topics.enable=false\n").await;
    let mut client = Client::connect(&strict).await;
    for _ in 0..2 {
        let seen = metadata(&mut client, Some(&["t"]), true).await;
        assert_eq!(seen, [("t".to_owned(), unknown)]);
    }
}

#[tokio::test]
async fn deletions_of_what_is_not_there_are_refused() {
    let (_node, mut client) = node_and_client().await;
    let id = client.create_topic("t", 1).await;
    let by_id = |topic_id| message!(DeleteTopicState { name: None, topic_id: topic_id });
    let by_name = |name| message!(DeleteTopicState { name: Some(text(name)) });
    let states = vec![by_name("missing"), by_id(TopicId::from_bytes([7; 16])), by_id(id)];
    let request = message!(DeleteTopicsRequest { topics: states, timeout_ms: 10_000 });
    let answer = client.call(6, &request).await;
    let mut told: Vec<_> =
        answer.responses.iter().map(|it| ErrorCode::from_wire(it.error_code)).collect();
    told.sort_by_key(|error| error.code());
    let expected = [ErrorCode::None, ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId];
    assert_eq!(told, expected);
    assert_eq!(metadata(&mut client, None, false).await, []);
}

#[tokio::test]
async fn a_topic_that_was_made_again_under_its_name_is_not_deleted_by_its_predecessors_id() {
    let node = Node::start().await;
    let admin = admin(&node).await;
    let make = async || {
        admin.create_topic(NewTopic { partitions: Some(2), ..NewTopic::new("t") }).await.unwrap();
        admin.list_topics().await.unwrap()["t"].topic_id
    };
    let first = make().await;
    let deleted = admin.delete_topics_by_id(&[first]).await.unwrap();
    assert!(matches!(deleted.get(&first), Some(Ok(()))), "{deleted:?}");
    assert!(admin.list_topics().await.unwrap().is_empty());
    let second = make().await;
    // A request that is late, or came twice.
    let mut again = admin.delete_topics_by_id(&[first]).await.unwrap();
    let refused = again.remove(&first).unwrap().unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::UnknownTopicId), "{refused}");
    assert_eq!(admin.list_topics().await.unwrap()["t"].topic_id, second);
    let mut both = admin.delete_topics_by_id(&[first, second]).await.unwrap();
    assert!(both.remove(&second).unwrap().is_ok() && both.remove(&first).unwrap().is_err());
}

/// Error and words of a CreatePartitions request.
async fn grow(client: &mut Client, wanted: CreatePartitionsTopic) -> (ErrorCode, String) {
    let request = message!(CreatePartitionsRequest { topics: vec![wanted], timeout_ms: 10_000 });
    let result = client.call(3, &request).await.results.remove(0);
    let words = result.error_message.map(|words| words.as_str().to_owned()).unwrap_or_default();
    (ErrorCode::from_wire(result.error_code), words)
}

/// Wants `count` partitions, wherever they are placed.
fn more_partitions(name: &str, count: i32) -> CreatePartitionsTopic {
    message!(CreatePartitionsTopic { name: text(name), count: count, assignments: None })
}

#[tokio::test]
async fn new_partitions_take_records_at_once() {
    let (node, mut client) = node_and_client().await;
    client.create_topic("t", 1).await;
    let missing = client.append("t", 2, batch(&["x"])).await;
    assert_eq!(missing.error_code, ErrorCode::UnknownTopicOrPartition);
    let wanted = more_partitions("t", 3);
    assert_eq!(grow(&mut client, wanted).await.0, ErrorCode::None);
    let appended = client.append("t", 2, batch(&["x"])).await;
    assert_eq!((appended.error_code, appended.base_offset.0), (ErrorCode::None, 0));
    let node = node.crash_and_restart().await;
    let mut client = Client::connect(&node).await;
    let appended = client.append("t", 2, batch(&["y"])).await;
    assert_eq!((appended.error_code, appended.base_offset.0), (ErrorCode::None, 1));
}

#[tokio::test]
async fn partitions_cannot_become_fewer_or_be_placed_nowhere() {
    let (_node, mut client) = node_and_client().await;
    client.create_topic("t", 2).await;
    for count in [2, 1, 0, -1, i32::MIN] {
        let wanted = more_partitions("t", count);
        let (error, words) = grow(&mut client, wanted).await;
        assert_eq!(error, ErrorCode::InvalidPartitions, "{count}: {words}");
        assert!(!words.is_empty());
    }
    for brokers in [vec![], vec![9], vec![1, 1]] {
        let assignment = message!(CreatePartitionsAssignment { broker_ids: brokers });
        let wanted = message!(CreatePartitionsTopic {
            name: text("t"),
            count: 3,
            assignments: Some(vec![assignment]),
        });
        let (error, words) = grow(&mut client, wanted).await;
        assert_eq!(error, ErrorCode::InvalidReplicaAssignment, "{words}");
    }
}

/// Error and words of one change to a topic's configuration.
async fn alter(
    client: &mut Client,
    topic: &str,
    (operation, key, value): (i8, &str, Option<&str>),
) -> (ErrorCode, String) {
    let config = message!(AlterableConfig {
        name: text(key),
        config_operation: operation,
        value: value.map(text),
    });
    let resource = message!(AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: text(topic),
        configs: vec![config],
    });
    let request = message!(IncrementalAlterConfigsRequest { resources: vec![resource] });
    let result = client.call(1, &request).await.responses.remove(0);
    let words = result.error_message.map(|words| words.as_str().to_owned()).unwrap_or_default();
    (ErrorCode::from_wire(result.error_code), words)
}

/// All rows of a resource's configuration.
async fn describe(client: &mut Client, kind: i8, name: &str) -> Vec<DescribeConfigsResourceResult> {
    let resource = message!(DescribeConfigsResource {
        resource_type: kind,
        resource_name: text(name),
        configuration_keys: None,
    });
    let request =
        message!(DescribeConfigsRequest { resources: vec![resource], include_synonyms: true });
    let result = client.call(4, &request).await.results.remove(0);
    assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    result.configs
}

/// Value and source of one key of a topic.
async fn config(client: &mut Client, topic: &str, key: &str) -> (String, i8) {
    let rows = describe(client, TOPIC, topic).await;
    let row = rows.iter().find(|row| row.name.as_str() == key).unwrap();
    (row.value.as_ref().unwrap().as_str().to_owned(), row.config_source)
}

/// Where a value comes from, as DescribeConfigs numbers it.
mod source {
    pub(super) const TOPIC: i8 = 1;
    pub(super) const STATIC_BROKER: i8 = 4;
    pub(super) const DEFAULT: i8 = 5;
}

#[tokio::test]
async fn a_change_takes_effect_at_once_and_survives() {
    let (node, mut client) = node_and_client().await;
    client.create_topic("t", 1).await;
    let large = batch(&[&"x".repeat(500)]);
    client.append_ok("t", large.clone()).await;
    let set = (SET, "max.message.bytes", Some("100"));
    assert_eq!(alter(&mut client, "t", set).await.0, ErrorCode::None);
    let refused = client.append("t", 0, large.clone()).await;
    assert_eq!(refused.error_code, ErrorCode::MessageTooLarge);
    let node = node.crash_and_restart().await;
    let mut client = Client::connect(&node).await;
    let refused = client.append("t", 0, large.clone()).await;
    assert_eq!(refused.error_code, ErrorCode::MessageTooLarge);
    let delete = (DELETE, "max.message.bytes", None);
    assert_eq!(alter(&mut client, "t", delete).await.0, ErrorCode::None);
    assert_eq!(client.append("t", 0, large).await.error_code, ErrorCode::None);
}

#[tokio::test]
async fn lists_are_appended_to_and_subtracted_from() {
    let (_node, mut client) = node_and_client().await;
    client.create_topic("t", 1).await;
    let key = "cleanup.policy";
    for (operation, value, expected) in [
        (APPEND, "compact", "delete,compact"),
        (APPEND, "compact", "delete,compact"),
        (SUBTRACT, "delete", "compact"),
        (SET, "delete", "delete"),
    ] {
        let told = alter(&mut client, "t", (operation, key, Some(value))).await;
        assert_eq!(told.0, ErrorCode::None, "{}", told.1);
        assert_eq!(config(&mut client, "t", key).await, (expected.to_owned(), source::TOPIC));
    }
    let (error, words) = alter(&mut client, "t", (APPEND, "retention.ms", Some("1"))).await;
    assert_eq!(error, ErrorCode::InvalidConfig, "{words}");
}

#[tokio::test]
async fn changes_that_cannot_be_are_refused() {
    let (_node, mut client) = node_and_client().await;
    client.create_topic("t", 1).await;
    for (change, expected) in [
        ((SET, "no.such.key", Some("1")), ErrorCode::InvalidConfig),
        ((SET, "retention.ms", Some("long")), ErrorCode::InvalidConfig),
        ((SET, "retention.ms", None), ErrorCode::InvalidRequest),
        ((9, "retention.ms", Some("1")), ErrorCode::InvalidRequest),
        ((-1, "retention.ms", Some("1")), ErrorCode::InvalidRequest),
    ] {
        let (error, words) = alter(&mut client, "t", change).await;
        assert_eq!(error, expected, "{change:?}: {words}");
        assert!(!words.is_empty(), "{change:?}");
    }
    assert_eq!(config(&mut client, "t", "retention.ms").await.1, source::DEFAULT);
}

#[tokio::test]
async fn a_value_tells_where_it_comes_from() {
    let node = Node::start_with("log.retention.ms=5000\n").await;
    let mut client = Client::connect(&node).await;
    client.create_topic_with("t", 1, &[("segment.bytes", "2000000")]).await;
    let segment = ("2000000".to_owned(), source::TOPIC);
    assert_eq!(config(&mut client, "t", "segment.bytes").await, segment);
    let retention = ("5000".to_owned(), source::STATIC_BROKER);
    assert_eq!(config(&mut client, "t", "retention.ms").await, retention);
    let rows = describe(&mut client, TOPIC, "t").await;
    let row = rows.iter().find(|row| row.name.as_str() == "retention.ms").unwrap();
    let synonyms: Vec<_> = row.synonyms.iter().map(|it| (it.name.as_str(), it.source)).collect();
    assert_eq!(synonyms[0], ("log.retention.ms", source::STATIC_BROKER));
    assert_eq!(config(&mut client, "t", "index.interval.bytes").await.1, source::DEFAULT);
    let rows = describe(&mut client, BROKER, "1").await;
    let row = rows.iter().find(|row| row.name.as_str() == "log.retention.ms").unwrap();
    assert_eq!(row.value.as_deref(), Some("5000"));
}

#[tokio::test]
async fn configurations_of_what_is_not_there_are_refused_with_words() {
    let (_node, mut client) = node_and_client().await;
    for (kind, name, expected) in [
        (TOPIC, "missing", ErrorCode::UnknownTopicOrPartition),
        (TOPIC, "a b", ErrorCode::InvalidTopicException),
        (BROKER, "7", ErrorCode::InvalidRequest),
        (BROKER, "seven", ErrorCode::InvalidRequest),
        (99, "1", ErrorCode::InvalidRequest),
    ] {
        let resource =
            message!(DescribeConfigsResource { resource_type: kind, resource_name: text(name) });
        let request = message!(DescribeConfigsRequest { resources: vec![resource] });
        let result = client.call(4, &request).await.results.remove(0);
        assert_eq!(result.error_code, expected.code(), "{kind} {name}");
        assert!(result.error_message.is_some_and(|words| !words.is_empty()), "{kind} {name}");
    }
}
