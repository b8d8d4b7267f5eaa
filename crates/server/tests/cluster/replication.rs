//! Replication: what is acknowledged is on every replica in sync, whoever leads; followers come back, move and go.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_client::{
    Connection, ConnectionOptions, ElectionType, NewTopic, Producer, ProducerConfig, ProducerRecord,
};
use ottla_env::Env;
use ottla_protocol::compression::Decompressor;
use ottla_protocol::fetch::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::DeleteRecordsRequest;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use ottla_protocol::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder, RecordError, batches};
use ottla_protocol::{BrokerId, ErrorCode, Offset, TopicId, TopicPartition, TopicRef, message};

use crate::nodes::{Cluster, PATIENCE, until};

pub(crate) const TOPIC: &str = "orders";

/// Partition 0 of a topic, on the brokers `replicas`.
pub(crate) fn on(replicas: &[i32], configs: &[(&str, &str)]) -> NewTopic {
    let replicas = replicas.iter().copied().map(BrokerId).collect();
    NewTopic {
        assignments: BTreeMap::from([(0, replicas)]),
        configs: configs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        ..NewTopic::new(TOPIC)
    }
}

pub(crate) async fn producer(cluster: &Cluster) -> Producer {
    let servers: Vec<_> =
        cluster.running().iter().map(|id| cluster.address(*id).to_string()).collect();
    let (config, _) = ProducerConfig::from_properties([
        ("bootstrap.servers", servers.join(",").as_str()),
        ("linger.ms", "0"),
        ("retry.backoff.ms", "20"),
        ("retry.backoff.max.ms", "50"),
    ])
    .unwrap();
    Producer::connect(&Env::os(), config).await.unwrap()
}

/// Sends values one after the other, each when the one before is acknowledged.
pub(crate) async fn send(producer: &Producer, values: impl Iterator<Item = i32>) {
    for value in values {
        let record = ProducerRecord::to(TOPIC).partition(0).value(format!("{value}"));
        producer.send(record).await.unwrap().await.unwrap();
    }
}

/// What a broker answers to a consumer.
struct Answered {
    error: ErrorCode,
    high_watermark: Offset,
    preferred: BrokerId,
    values: Vec<String>,
}

/// All that the broker `id` shows a consumer, which it asks in the rack `rack`, from `offset` on.
async fn read(cluster: &Cluster, id: i32, topic: TopicId, (offset, rack): (i64, &str)) -> Answered {
    let address = cluster.address(id).to_string();
    let connection =
        Connection::connect(&Env::os(), &address, ConnectionOptions::default()).await.unwrap();
    let partition = FetchPartition {
        fetch_offset: Offset(offset),
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic = TopicRef::Id(topic);
    let request = FetchRequest {
        max_bytes: 1 << 20,
        rack_id: rack.into(),
        topics: vec![FetchTopic { topic, partitions: vec![partition] }],
        ..FetchRequest::default()
    };
    let mut response = connection.fetch(&request).await.unwrap();
    let data = response.topics.remove(0).partitions.remove(0);
    Answered {
        error: data.error_code,
        high_watermark: data.high_watermark,
        preferred: data.preferred_read_replica,
        values: values(&data.records),
    }
}

fn values(records: &Bytes) -> Vec<String> {
    let mut values = Vec::new();
    for batch in batches(records) {
        let decompressor = &mut Decompressor::default();
        let visit = |record: ottla_protocol::record_batch::Record<'_>| {
            values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            Ok::<_, RecordError>(())
        };
        batch.unwrap().visit_records(decompressor, usize::MAX, visit).unwrap();
    }
    values
}

fn numbers(end: i32) -> Vec<String> {
    (0..end).map(|number| number.to_string()).collect()
}

/// The topic's id, the leader of its partition, and its ISR.
async fn described(cluster: &Cluster) -> Option<(TopicId, Option<i32>, Vec<i32>)> {
    let admin = cluster.admin().await;
    let mut topics = admin.describe_topics(&[TOPIC]).await.ok()?;
    let topic = topics.remove(TOPIC)?.ok()?;
    let partition = topic.partitions.get(&0)?;
    let mut isr: Vec<_> = partition.isr.iter().map(|id| id.0).collect();
    isr.sort_unstable();
    Some((topic.topic_id, partition.leader.map(|id| id.0).filter(|id| *id >= 0), isr))
}

pub(crate) async fn wait_for_isr(cluster: &Cluster, wanted: &[i32]) -> (TopicId, i32) {
    until("the ISR", async || {
        let (id, leader, isr) = described(cluster).await?;
        (isr == wanted).then_some(())?;
        Some((id, leader?))
    })
    .await
}

async fn wait_for_leader(cluster: &Cluster) -> (TopicId, i32) {
    until("a leader", async || {
        let (id, leader, _) = described(cluster).await?;
        Some((id, leader?))
    })
    .await
}

/// Waits until the broker `id` shows consumers exactly `wanted`.
async fn wait_for_records(cluster: &Cluster, id: i32, topic: TopicId, wanted: &[String]) {
    until("the records of a replica", async || {
        (read(cluster, id, topic, (0, "")).await.values == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_acknowledged_is_on_every_replica_and_outlives_its_leader() {
    let mut cluster = Cluster::start(3, "").await;
    let admin = cluster.admin().await;
    admin.create_topic(on(&[1, 2, 3], &[("min.insync.replicas", "2")])).await.unwrap();
    let producer = producer(&cluster).await;
    send(&producer, 0..50).await;
    let (topic, leader) = wait_for_isr(&cluster, &[1, 2, 3]).await;
    assert_eq!(leader, 1);
    for id in 1..=3 {
        // Followers serve consumers too, up to what they know to be committed.
        wait_for_records(&cluster, id, topic, &numbers(50)).await;
    }
    cluster.kill(1).await;
    // The same idempotent producer: its sequence goes on at the new leader, which knows it from the records.
    send(&producer, 50..100).await;
    let (_, leader) = wait_for_isr(&cluster, &[2, 3]).await;
    wait_for_records(&cluster, leader, topic, &numbers(100)).await;
    cluster.start_node(1).await;
    wait_for_isr(&cluster, &[1, 2, 3]).await;
    wait_for_records(&cluster, 1, topic, &numbers(100)).await;
    // Once more, with the one that came back among those who are left.
    cluster.kill(leader).await;
    send(&producer, 100..150).await;
    wait_for_records(&cluster, 1, topic, &numbers(150)).await;
    producer.close(PATIENCE).await;
}

#[tokio::test]
async fn too_few_replicas_acknowledge_nothing() {
    let mut cluster = Cluster::start(3, "").await;
    let active = cluster.active_controller().await;
    let [leader, follower] = match active {
        1 => [1, 2],
        2 => [2, 3],
        _ => [3, 1],
    };
    let admin = cluster.admin().await;
    let asked = on(&[leader, follower], &[("min.insync.replicas", "2")]);
    admin.create_topic(asked).await.unwrap();
    let producer = producer(&cluster).await;
    send(&producer, 0..10).await;
    cluster.kill(follower).await;
    let (topic, _) = wait_for_isr(&cluster, &[leader]).await;
    let record = ProducerRecord::to(TOPIC).partition(0).value("10");
    let delivery = producer.send(record).await.unwrap();
    // It is tried again until there are enough.
    cluster.start_node(follower).await;
    delivery.await.unwrap();
    wait_for_records(&cluster, leader, topic, &numbers(11)).await;
    producer.close(PATIENCE).await;
}

#[tokio::test]
async fn a_topic_made_again_under_its_name_is_another_on_every_replica() {
    let cluster = Cluster::start(3, "").await;
    let admin = cluster.admin().await;
    admin.create_topic(on(&[1, 2, 3], &[])).await.unwrap();
    let first = producer(&cluster).await;
    send(&first, 0..20).await;
    let (old, _) = wait_for_isr(&cluster, &[1, 2, 3]).await;
    first.close(PATIENCE).await;
    admin.delete_topic(TOPIC).await.unwrap();
    admin.create_topic(on(&[3, 2, 1], &[])).await.unwrap();
    let second = producer(&cluster).await;
    send(&second, 0..5).await;
    let (new, _) = wait_for_isr(&cluster, &[1, 2, 3]).await;
    assert_ne!(old, new);
    for id in 1..=3 {
        wait_for_records(&cluster, id, new, &numbers(5)).await;
        assert_eq!(read(&cluster, id, old, (0, "")).await.error, ErrorCode::UnknownTopicId);
    }
    second.close(PATIENCE).await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_reassigned_partition_lies_on_its_new_replicas_and_only_there() {
    let cluster = Cluster::start(3, "").await;
    let admin = cluster.admin().await;
    admin.create_topic(on(&[1, 2], &[])).await.unwrap();
    let producer = producer(&cluster).await;
    send(&producer, 0..30).await;
    let target =
        BTreeMap::from([(TopicPartition::new(TOPIC, 0), Some(vec![BrokerId(3), BrokerId(2)]))]);
    let answers = admin.alter_reassignments(&target).await.unwrap();
    answers.into_values().for_each(|answer| answer.unwrap());
    let (topic, _) = wait_for_isr(&cluster, &[2, 3]).await;
    send(&producer, 30..40).await;
    for id in [2, 3] {
        wait_for_records(&cluster, id, topic, &numbers(40)).await;
    }
    until("the log of the old replica to go", async || {
        let error = read(&cluster, 1, topic, (0, "")).await.error;
        (error == ErrorCode::NotLeaderOrFollower).then_some(())
    })
    .await;
    producer.close(PATIENCE).await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn whoever_waits_for_replicas_hears_at_once_who_is_elected_meanwhile() {
    // A follower is answered when there is much for it: until then nothing is acknowledged.
    let held = "replica.fetch.min.bytes=1000000\nreplica.fetch.wait.max.ms=20000\n";
    let cluster = Cluster::start(3, held).await;
    let admin = cluster.admin().await;
    admin.create_topic(on(&[1, 2], &[])).await.unwrap();
    let (id, _) = wait_for_isr(&cluster, &[1, 2]).await;
    let partition = TopicPartition::new(TOPIC, 0);
    let target = BTreeMap::from([(partition.clone(), Some(vec![BrokerId(2), BrokerId(1)]))]);
    let answers = admin.alter_reassignments(&target).await.unwrap();
    answers.into_values().for_each(|answer| answer.unwrap());
    let address = cluster.address(1).to_string();
    let connection =
        Connection::connect(&Env::os(), &address, ConnectionOptions::default()).await.unwrap();
    let mut batch = RecordBatchBuilder::new();
    batch.append(&NewRecord { value: Some(b"v"), ..NewRecord::default() });
    let data = PartitionProduceData { index: 0, records: Some(batch.build()) };
    let topics = vec![TopicProduceData { topic: TopicRef::Id(id), partitions: vec![data] }];
    let mut request = ProduceRequest { acks: -1, timeout_ms: 100, topics, ..Default::default() };
    // A fetcher that has just been told of the partition asks often.
    until("the follower to wait", async || {
        let answer = connection.produce(&request).await.unwrap().unwrap();
        let error = answer.topics[0].partitions[0].error_code;
        (error == ErrorCode::RequestTimedOut).then_some(())
    })
    .await;
    request.timeout_ms = 20_000;
    let moving = async {
        let moved = admin.elect_leaders(ElectionType::Preferred, Some(&[partition])).await.unwrap();
        moved.into_values().for_each(|answer| answer.unwrap());
    };
    let (answer, ()) = tokio::join!(connection.produce(&request), moving);
    let answer = answer.unwrap().unwrap();
    let row = &answer.topics[0].partitions[0];
    assert_eq!(row.error_code, ErrorCode::NotLeaderOrFollower);
    assert_eq!(row.current_leader.map(|leader| leader.leader_id), Some(BrokerId(2)));
    let told: Vec<_> = answer.node_endpoints.iter().map(|it| it.node_id).collect();
    assert_eq!(told, [BrokerId(2)]);
    cluster.stop_all().await;
}

/// Has the records before `offset` deleted: the error, and the first offset that is left.
async fn delete_records(cluster: &Cluster, offset: i64) -> (ErrorCode, i64) {
    let (_, leader) = wait_for_leader(cluster).await;
    let address = cluster.address(leader).to_string();
    let connection =
        Connection::connect(&Env::os(), &address, ConnectionOptions::default()).await.unwrap();
    let partition = message!(DeleteRecordsPartition { partition_index: 0, offset: offset });
    let topic = message!(DeleteRecordsTopic { name: TOPIC.into(), partitions: vec![partition] });
    let request = message!(DeleteRecordsRequest { topics: vec![topic], timeout_ms: 30_000 });
    let mut response = connection.call(&request).await.unwrap();
    let answer = response.topics.remove(0).partitions.remove(0);
    (ErrorCode::from_wire(answer.error_code), answer.low_watermark)
}

#[tokio::test]
async fn records_are_deleted_when_every_replica_that_is_there_has_deleted_them() {
    let mut cluster = Cluster::start(3, "").await;
    let admin = cluster.admin().await;
    admin.create_topic(on(&[1, 2, 3], &[])).await.unwrap();
    let producer = producer(&cluster).await;
    send(&producer, 0..10).await;
    let (topic, _) = wait_for_isr(&cluster, &[1, 2, 3]).await;
    assert_eq!(delete_records(&cluster, 4).await, (ErrorCode::None, 4));
    for id in 1..=3 {
        // At once: whoever was answered relies on it.
        let error = read(&cluster, id, topic, (3, "")).await.error;
        assert_eq!(error, ErrorCode::OffsetOutOfRange, "on {id}");
        assert_eq!(read(&cluster, id, topic, (4, "")).await.error, ErrorCode::None, "on {id}");
    }
    // Until its death is known it is waited for, and then no more.
    cluster.kill(3).await;
    assert_eq!(delete_records(&cluster, 8).await, (ErrorCode::None, 8));
    cluster.start_node(3).await;
    wait_for_isr(&cluster, &[1, 2, 3]).await;
    assert_eq!(delete_records(&cluster, -1).await, (ErrorCode::None, 10));
    for id in 1..=3 {
        let error = read(&cluster, id, topic, (9, "")).await.error;
        assert_eq!(error, ErrorCode::OffsetOutOfRange, "on {id}");
        // A crash of all brings nothing back.
        let kept = cluster.read_file(id, "log-start-offset-checkpoint");
        assert!(kept.contains("orders 0 10\n"), "on {id}: {kept}");
    }
    producer.close(PATIENCE).await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_new_replica_begins_within_a_batch_where_its_leader_does() {
    let mut cluster = Cluster::start(3, "").await;
    let admin = cluster.admin().await;
    admin.create_topic(on(&[1, 2], &[])).await.unwrap();
    let (topic, leader) = wait_for_isr(&cluster, &[1, 2]).await;
    send_together(&cluster, leader, topic, 0..10).await;
    assert_eq!(delete_records(&cluster, 5).await, (ErrorCode::None, 5));
    let partition = TopicPartition::new(TOPIC, 0);
    let target = BTreeMap::from([(partition, Some(vec![BrokerId(1), BrokerId(3)]))]);
    let answers = admin.alter_reassignments(&target).await.unwrap();
    answers.into_values().for_each(|answer| answer.unwrap());
    wait_for_isr(&cluster, &[1, 3]).await;
    cluster.kill(1).await;
    until("the new replica to lead", async || {
        let (_, leader, _) = described(&cluster).await?;
        (leader == Some(3)).then_some(())
    })
    .await;
    assert_eq!(read(&cluster, 3, topic, (4, "")).await.error, ErrorCode::OffsetOutOfRange);
    // A consumer is sent the whole batch, and skips what it did not ask for.
    assert_eq!(read(&cluster, 3, topic, (5, "")).await.values, numbers(10));
    let kept = cluster.read_file(3, "log-start-offset-checkpoint");
    assert!(kept.contains("orders 0 5\n"), "{kept}");
    cluster.stop_all().await;
}

/// Has the broker `leader` append `values` as one batch.
async fn send_together(
    cluster: &Cluster,
    leader: i32,
    topic: TopicId,
    values: std::ops::Range<i32>,
) {
    let address = cluster.address(leader).to_string();
    let connection =
        Connection::connect(&Env::os(), &address, ConnectionOptions::default()).await.unwrap();
    let mut batch = RecordBatchBuilder::new();
    for value in values {
        let value = value.to_string();
        batch.append(&NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() });
    }
    let data = PartitionProduceData { index: 0, records: Some(batch.build()) };
    let topics = vec![TopicProduceData { topic: TopicRef::Id(topic), partitions: vec![data] }];
    let request = ProduceRequest { acks: -1, timeout_ms: 30_000, topics, ..Default::default() };
    let answer = connection.produce(&request).await.unwrap().unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::None);
}

#[tokio::test]
async fn a_consumer_is_sent_to_a_replica_in_its_rack() {
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let cluster =
        Cluster::start_in_racks(&["a", "b", "c"], &format!("replica.selector.class={selector}\n"))
            .await;
    let admin = cluster.admin().await;
    admin.create_topic(on(&[1, 2, 3], &[])).await.unwrap();
    let producer = producer(&cluster).await;
    send(&producer, 0..10).await;
    let (topic, leader) = wait_for_isr(&cluster, &[1, 2, 3]).await;
    assert_eq!(leader, 1);
    let sent = read(&cluster, 1, topic, (0, "b")).await;
    assert_eq!((sent.error, sent.preferred), (ErrorCode::None, BrokerId(2)));
    assert_eq!((sent.values.len(), sent.high_watermark), (0, Offset(10)));
    for (rack, offset) in [("a", 0), ("nowhere", 0), ("", 0)] {
        let answered = read(&cluster, 1, topic, (offset, rack)).await;
        assert_eq!((answered.preferred, answered.values), (BrokerId::NONE, numbers(10)), "{rack}");
    }
    wait_for_records(&cluster, 2, topic, &numbers(10)).await;
    let beyond = read(&cluster, 2, topic, (11, "b")).await;
    assert_eq!(beyond.error, ErrorCode::OffsetOutOfRange);
    producer.close(PATIENCE).await;
    cluster.stop_all().await;
}
