//! The Rust client's producer at a whole node.

use std::sync::Arc;
use std::time::Duration;

use ottla_client::{
    Admin, Client, ConnectionOptions, NewTopic, ProduceError, Producer, ProducerConfig,
    ProducerInterceptor, ProducerRecord, RecordMetadata, partition_for_key,
};
use ottla_env::Env;
use ottla_protocol::{ErrorCode, Offset, TopicPartition};
use parking_lot::Mutex;

use crate::node::{Node, PATIENCE, in_time};

async fn client_with_topic(node: &Node, configs: &[(&str, &str)], partitions: i32) -> Client {
    client_with(ConnectionOptions::default(), node, configs, partitions).await
}

async fn client_with(
    options: ConnectionOptions,
    node: &Node,
    configs: &[(&str, &str)],
    partitions: i32,
) -> Client {
    let servers = vec![node.address().to_string()];
    let client = Client::connect(&Env::os(), servers, options).await.unwrap();
    let configs = configs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let topic = NewTopic { partitions: Some(partitions), configs, ..NewTopic::new("t") };
    Admin::new(client.clone(), PATIENCE).create_topic(topic).await.unwrap();
    client
}

fn producer(client: &Client, given: &[(&str, &str)]) -> Producer {
    let (config, _) = ProducerConfig::from_properties(given.iter().copied()).unwrap();
    Producer::builder(config).over(client.clone())
}

/// Sends `count` records of `size` bytes and answers their offsets.
async fn offsets(producer: &Producer, count: usize, size: usize) -> Vec<i64> {
    let mut deliveries = Vec::new();
    for number in 0..count {
        let record = ProducerRecord::to("t").value(vec![number as u8; size]);
        deliveries.push(producer.send(record).await.unwrap());
    }
    let mut offsets = Vec::new();
    for delivery in deliveries {
        offsets.push(delivery.await.unwrap().offset.0);
    }
    offsets
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_stored_in_order_with_every_codec() {
    let node = Node::start().await;
    let client = client_with_topic(&node, &[], 1).await;
    let mut first = 0;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let producer = producer(&client, &[("compression.type", codec), ("batch.size", "2000")]);
        let expected: Vec<_> = (first..first + 300).collect();
        assert_eq!(offsets(&producer, 300, 100).await, expected, "{codec}");
        first += 300;
        let metrics = producer.metrics();
        assert_eq!((metrics.record_send_total, metrics.record_error_total), (300, 0));
        assert!(metrics.request_total < 40, "{} requests", metrics.request_total);
        assert_eq!(metrics.buffer_available_bytes, metrics.buffer_total_bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_topic_does_not_take_is_sent_in_halves() {
    let node = Node::start().await;
    let client = client_with_topic(&node, &[("max.message.bytes", "1000")], 1).await;
    let producer = producer(&client, &[("linger.ms", "50")]);
    assert_eq!(offsets(&producer, 100, 100).await, (0..100).collect::<Vec<_>>());
    assert!(producer.metrics().batch_split_total > 3);
    // One record cannot be split.
    let too_large = producer.send(ProducerRecord::to("t").value(vec![0; 2000])).await.unwrap();
    let error = too_large.await.unwrap_err();
    assert!(!error.maybe_stored() && !error.is_retriable(), "{error}");
    assert!(error.to_string().contains("MESSAGE_TOO_LARGE"), "{error}");
    // And what comes behind goes on under another epoch.
    assert_eq!(offsets(&producer, 2, 10).await, [100, 101]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_choose_partitions_and_metadata_tells_what_was_sent() {
    let node = Node::start().await;
    let client = client_with_topic(&node, &[], 5).await;
    let producer = producer(&client, &[("linger.ms", "0")]);
    for key in ["a", "b", "customer-7"] {
        let record = ProducerRecord::to("t").key(key).value(7_i32).header("h", "v");
        let stored = producer.send(record).await.unwrap().await.unwrap();
        assert_eq!(stored.partition.partition, partition_for_key(key.as_bytes(), 5));
        assert_eq!((stored.key_size, stored.value_size), (Some(key.len()), Some(4)));
        assert!(stored.timestamp.0 > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_says_why_and_that_it_is_not_stored() {
    let node = Node::start().await;
    let client = client_with_topic(&node, &[], 1).await;
    let producer = producer(&client, &[("max.block.ms", "300"), ("max.request.size", "1000")]);
    let large = producer.send(ProducerRecord::to("t").value(vec![0; 1000])).await.unwrap_err();
    assert!(matches!(large, ProduceError::TooLarge { key: "max.request.size", .. }), "{large}");
    let nowhere = producer.send(ProducerRecord::to("t").partition(3)).await.unwrap_err();
    let ProduceError::NoMetadata { error, .. } = &nowhere else { panic!("{nowhere}") };
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    let illegal = producer.send(ProducerRecord::to("no/topic")).await.unwrap_err();
    assert!(illegal.to_string().contains("INVALID_TOPIC_EXCEPTION"), "{illegal}");
    assert!(!illegal.is_retriable());
    producer.close(Duration::from_secs(5)).await;
    let closed = producer.send(ProducerRecord::to("t")).await.unwrap_err();
    assert!(matches!(closed, ProduceError::Closed { maybe_stored: false }), "{closed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_faster_than_the_node_waits_for_memory() {
    let node = Node::start().await;
    let client = client_with_topic(&node, &[], 2).await;
    let given = [
        ("buffer.memory", "20000"),
        ("batch.size", "1000"),
        ("linger.ms", "100000"),
        ("delivery.timeout.ms", "130000"),
    ];
    let producer = producer(&client, &given);
    for _ in 0..2000 {
        let record = ProducerRecord::to("t").value(&[7; 100]);
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await;
    let metrics = producer.metrics();
    assert_eq!(metrics.record_send_total, 2000);
    assert!(metrics.buffer_exhausted_total > 0);
}

#[derive(Default)]
struct Spy(Mutex<Vec<(i32, i64)>>);

impl ProducerInterceptor for Spy {
    fn on_send(&self, record: &mut ProducerRecord<'_>) {
        record.headers.push(("seen".into(), None));
    }

    fn on_acknowledgement(&self, result: Result<&RecordMetadata, &ProduceError>) {
        let stored = result.unwrap();
        self.0.lock().push((stored.partition.partition, stored.offset.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interceptors_see_each_record_go_and_come_back() {
    let node = Node::start().await;
    let client = client_with_topic(&node, &[], 1).await;
    let spy = Arc::new(Spy::default());
    let builder = Producer::builder(ProducerConfig::default()).interceptor(spy.clone());
    let producer = builder.over(client);
    assert_eq!(offsets(&producer, 3, 1).await, [0, 1, 2]);
    producer.close(PATIENCE).await;
    assert_eq!(*spy.0.lock(), [(0, 0), (0, 1), (0, 2)]);
    assert_ne!(Offset(0), Offset::NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_closed_for_idleness_costs_no_record() {
    let node = Node::start().await;
    let options = ConnectionOptions {
        max_idle: Some(Duration::from_millis(50)),
        ..ConnectionOptions::default()
    };
    let client = client_with(options, &node, &[], 1).await;
    // Without retries a batch that found the connection closed would be lost.
    let producer = producer(&client, &[("retries", "0")]);
    for round in 0..3 {
        assert_eq!(offsets(&producer, 1, 10).await, [round]);
        let leader = client.leader(&TopicPartition::new("t", 0)).await.unwrap();
        in_time("the end of an idle connection", async {
            while !leader.connection.is_closed() {
                Env::os().clock.sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    assert_eq!(producer.metrics().record_error_total, 0);
}
