//! Throttles between nodes: a replica that is added comes no faster than it may, and whoever is in sync is not held (KIP-73);
//! a client is held to what he asked for by way of another node.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_client::{
    Admin, ConfigChange, ConfigResource, ConfigResourceType, Connection, ConnectionOptions,
    Producer, ProducerRecord,
};
use ottla_env::Env;
use ottla_protocol::messages::create_topics_request::CreatableTopic;
use ottla_protocol::messages::{CreateTopicsRequest, MetadataRequest};
use ottla_protocol::{BrokerId, TopicPartition, message};

use crate::nodes::{Cluster, PATIENCE, until};
use crate::replication::{TOPIC, on, producer, send, wait_for_isr};

/// Bytes of one record.
const RECORD: usize = 100_000;
const RECORDS: usize = 40;
/// Bytes per second; the records take two seconds at least, even if the first million comes at once, and the second soon.
const RATE: &str = "1000000";
const AT_LEAST: Duration = Duration::from_secs(2);

async fn fill(producer: &Producer) {
    for _ in 0..RECORDS {
        let record = ProducerRecord::to(TOPIC).partition(0).value(vec![7; RECORD]);
        producer.send(record).await.unwrap().await.unwrap();
    }
}

async fn set(admin: &Admin, kind: ConfigResourceType, name: &str, key: &str, value: &str) {
    let change = vec![(key.to_owned(), ConfigChange::Set(value.to_owned()))];
    let changes = BTreeMap::from([(ConfigResource::new(kind, name), change)]);
    for answer in admin.incremental_alter_configs(&changes, false).await.unwrap().into_values() {
        answer.unwrap();
    }
}

/// Adds a replica; completes when it is there, and says how long that took.
async fn add_replica(admin: &Admin, replicas: &[i32]) -> Duration {
    let clock = Env::os().clock;
    let begun = clock.now();
    let replicas = replicas.iter().copied().map(BrokerId).collect();
    let target = BTreeMap::from([(TopicPartition::new(TOPIC, 0), Some(replicas))]);
    for answer in admin.alter_reassignments(&target).await.unwrap().into_values() {
        answer.unwrap();
    }
    until("the end of the reassignment", async || {
        admin.list_reassignments(None).await.ok()?.is_empty().then_some(())
    })
    .await;
    clock.now().since(begun)
}

#[tokio::test]
async fn a_leader_keeps_the_rate_of_a_new_replica_and_producers_go_on() {
    let cluster = Cluster::start(3, "").await;
    let admin = cluster.admin().await;
    admin.create_topic(on(&[1, 2], &[("min.insync.replicas", "2")])).await.unwrap();
    let producer = producer(&cluster).await;
    fill(&producer).await;
    wait_for_isr(&cluster, &[1, 2]).await;
    set(&admin, ConfigResourceType::Topic, TOPIC, "leader.replication.throttled.replicas", "0:1")
        .await;
    set(&admin, ConfigResourceType::Broker, "1", "leader.replication.throttled.rate", RATE).await;
    let added = add_replica(&admin, &[1, 2, 3]);
    tokio::pin!(added);
    let mut acknowledged = 0;
    let took = loop {
        tokio::select! {
            biased;
            took = &mut added => break took,
            () = send(&producer, 0..1) => acknowledged += 1,
        }
    };
    assert!(took >= AT_LEAST, "{took:?}");
    // Of whoever is held, two in a second.
    assert!(acknowledged > 50, "{acknowledged} in {took:?}");
    wait_for_isr(&cluster, &[1, 2, 3]).await;
    producer.close(PATIENCE).await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_follower_that_a_reassignment_adds_keeps_the_rate_that_nobody_had_to_set() {
    let cluster = Cluster::start(3, &format!("cluster.rebalance.throttled.rate={RATE}\n")).await;
    let admin = cluster.admin().await;
    // So it is the follower who keeps it.
    set(&admin, ConfigResourceType::Broker, "", "leader.replication.throttled.rate", "1000000000")
        .await;
    admin.create_topic(on(&[1], &[])).await.unwrap();
    let producer = producer(&cluster).await;
    fill(&producer).await;
    let took = add_replica(&admin, &[1, 3]).await;
    assert!(took >= AT_LEAST, "{took:?}");
    wait_for_isr(&cluster, &[1, 3]).await;
    producer.close(PATIENCE).await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_client_pays_for_what_his_broker_passes_on() {
    let cluster = Cluster::start(3, "quota.window.num=1\n").await;
    let active = cluster.active_controller().await;
    let other = (1..=3).find(|id| *id != active).unwrap();
    let admin = cluster.admin().await;
    let spender = BTreeMap::from([("client-id".to_owned(), Some("spender".to_owned()))]);
    let quota = BTreeMap::from([("request_percentage".to_owned(), Some(0.001))]);
    let altered = admin.alter_client_quotas(&BTreeMap::from([(spender, quota)]), false).await;
    altered.unwrap().into_values().for_each(|answer| answer.unwrap());
    let options = ConnectionOptions { client_id: "spender".to_owned(), ..Default::default() };
    let address = cluster.address(other).to_string();
    let topic =
        message!(CreatableTopic { name: "later".into(), num_partitions: 1, replication_factor: 1 });
    let request = message!(CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000 });
    let connection = Connection::connect(&Env::os(), &address, options).await.unwrap();
    let silent = connection.call(&request).await.unwrap().throttle_time_ms;
    assert!(silent > 0, "nothing was charged");
    let clock = Env::os().clock;
    let told = clock.now();
    connection.call(&MetadataRequest::default()).await.unwrap();
    let waited = clock.now().since(told);
    assert!(waited.as_millis() + 100 >= silent.unsigned_abs().into(), "{waited:?} of {silent} ms");
    cluster.stop_all().await;
}
