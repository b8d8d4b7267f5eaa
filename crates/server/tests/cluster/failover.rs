//! Replicas: what was acknowledged is there when its leader is not, and who was away comes back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ottla_client::{
    Admin, AutoOffsetReset, Consumer, ConsumerOptions, Env, NewTopic, OffsetQuery, Producer,
    ProducerConfig, ProducerRecord, TopicPartition,
};
use ottla_protocol::BrokerId;

use crate::nodes::{Cluster, in_time, until};

const TOPIC: &str = "orders";

/// A cluster with the topic on all three nodes, of which two suffice.
async fn cluster_and_topic() -> (Cluster, Admin) {
    let cluster = Cluster::start(3, "min.insync.replicas=2\n").await;
    let admin = topic_on(&cluster, &[1, 2, 3]).await;
    (cluster, admin)
}

async fn topic_on(cluster: &Cluster, ids: &[i32]) -> Admin {
    cluster.wait_in_service(ids).await;
    let admin = cluster.admin().await;
    let topic = NewTopic {
        partitions: Some(1),
        replication_factor: Some(ids.len() as i16),
        ..NewTopic::new(TOPIC)
    };
    admin.create_topic(topic).await.unwrap();
    admin
}

async fn leader(admin: &Admin) -> i32 {
    until("a leader", async || {
        let described = admin.describe_topics(&[TOPIC]).await.ok()?;
        let topic = described.get(TOPIC)?.as_ref().ok()?;
        topic.partitions.get(&0)?.leader.map(|leader| leader.0)
    })
    .await
}

async fn end(admin: &Admin) -> i64 {
    let partition = TopicPartition::new(TOPIC, 0);
    let query = BTreeMap::from([(partition.clone(), OffsetQuery::Latest)]);
    let mut answers = admin.list_offsets(&query, false).await.unwrap();
    answers.remove(&partition).unwrap().unwrap().offset.0
}

async fn wait_in_sync(admin: &Admin, ids: &[i32]) {
    until("the ISR", async || {
        let described = admin.describe_topics(&[TOPIC]).await.ok()?;
        let topic = described.get(TOPIC)?.as_ref().ok()?;
        let mut isr = topic.partitions.get(&0)?.isr.clone();
        isr.sort_unstable();
        let wanted: Vec<_> = ids.iter().copied().map(BrokerId).collect();
        (isr == wanted).then_some(())
    })
    .await;
}

/// Sends numbers one after the other, and remembers the longest time without an acknowledgement.
struct Sender {
    producer: Producer,
    acknowledged: u32,
    longest: Duration,
}

impl Sender {
    async fn of(cluster: &Cluster) -> Self {
        let servers: Vec<_> = [1, 2, 3].map(|id| cluster.address(id).to_string()).into();
        let servers = servers.join(",");
        let (config, _) =
            ProducerConfig::from_properties([("bootstrap.servers", servers.as_str())]).unwrap();
        let producer = Producer::connect(&Env::os(), config).await.unwrap();
        Self { producer, acknowledged: 0, longest: Duration::ZERO }
    }

    #[allow(clippy::disallowed_methods, reason = "a test that measures")]
    async fn send(&mut self, count: u32) {
        for _ in 0..count {
            let began = Instant::now();
            let value = self.acknowledged.to_string();
            let record = ProducerRecord::to(TOPIC).partition(0).value(value);
            let delivery = in_time("room", self.producer.send(record)).await.unwrap();
            in_time("an acknowledgement", delivery).await.unwrap();
            self.acknowledged += 1;
            self.longest = self.longest.max(began.elapsed());
        }
    }
}

/// Reads the topic from its start until `count` records are there; their values.
async fn read(cluster: &Cluster, count: u32) -> Vec<String> {
    let options = ConsumerOptions {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerOptions::default()
    };
    let mut consumer = Consumer::new(cluster.client().await, options);
    consumer.assign([TopicPartition::new(TOPIC, 0)]).unwrap();
    let mut values = Vec::new();
    while values.len() < count as usize {
        let record = in_time("a record", consumer.recv()).await.unwrap();
        values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
    }
    values
}

fn numbers(count: u32) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_death_of_its_leader() {
    let (mut cluster, admin) = cluster_and_topic().await;
    let mut sender = Sender::of(&cluster).await;
    sender.send(100).await;
    sender.longest = Duration::ZERO;
    let dead = leader(&admin).await;
    cluster.kill(dead).await;
    assert_eq!(end(&admin).await, 100, "the next leader answers for the dead one");
    sender.send(100).await;
    println!("longest time without an acknowledgement: {:?}", sender.longest);
    assert_eq!(read(&cluster, 200).await, numbers(200));
    // It comes back, catches up, and may lead again.
    cluster.start_node(dead).await;
    let admin = cluster.admin().await;
    wait_in_sync(&admin, &[1, 2, 3]).await;
    sender.send(50).await;
    assert_eq!(read(&cluster, 250).await, numbers(250));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_node_whose_disk_was_replaced_fetches_what_it_held() {
    let mut cluster = Cluster::start_with_voters(3, 4).await;
    let admin = topic_on(&cluster, &[1, 2, 3, 4]).await;
    let mut sender = Sender::of(&cluster).await;
    sender.send(100).await;
    cluster.kill(4).await;
    wait_in_sync(&admin, &[1, 2, 3]).await;
    cluster.replace_disk(4);
    cluster.start_node(4).await;
    wait_in_sync(&admin, &[1, 2, 3, 4]).await;
    assert_eq!(read(&cluster, 100).await, numbers(100));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_topic_that_is_deleted_while_a_node_is_dead_is_deleted_there_when_it_returns() {
    let mut cluster = Cluster::start_with_voters(3, 4).await;
    let admin = topic_on(&cluster, &[1, 2, 3, 4]).await;
    let brief =
        NewTopic { partitions: Some(1), replication_factor: Some(4), ..NewTopic::new("brief") };
    admin.create_topic(brief).await.unwrap();
    // One that votes, and one that only follows and keeps nothing of the metadata.
    for id in [3, 4] {
        until("a checkpoint of the log", async || {
            let names = cluster.try_read_file(id, "replication-offset-checkpoint")?;
            names.contains("brief 0").then_some(())
        })
        .await;
        cluster.kill(id).await;
    }
    wait_in_sync(&admin, &[1, 2]).await;
    admin.delete_topic("brief").await.unwrap();
    for id in [3, 4] {
        cluster.start_node(id).await;
        let left = cluster.files(id, "brief-0");
        assert!(matches!(&left[..], [one] if one.ends_with("-delete")), "{id}: {left:?}");
    }
    wait_in_sync(&admin, &[1, 2, 3, 4]).await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn nodes_are_restarted_one_after_the_other_and_nobody_notices() {
    let (mut cluster, _) = cluster_and_topic().await;
    let mut sender = Sender::of(&cluster).await;
    sender.send(50).await;
    sender.longest = Duration::ZERO;
    for id in 1..=3 {
        let (stopped, ()) = tokio::join!(cluster.stop(id), sender.send(200));
        let () = stopped;
        cluster.start_node(id).await;
        let admin = cluster.admin().await;
        wait_in_sync(&admin, &[1, 2, 3]).await;
        sender.send(20).await;
    }
    println!("longest time without an acknowledgement: {:?}", sender.longest);
    assert_eq!(read(&cluster, sender.acknowledged).await, numbers(sender.acknowledged));
    cluster.stop_all().await;
}

#[tokio::test]
async fn too_few_replicas_refuse_what_wants_all() {
    let (mut cluster, admin) = cluster_and_topic().await;
    let mut sender = Sender::of(&cluster).await;
    sender.send(10).await;
    let leading = leader(&admin).await;
    let others: Vec<_> = (1..=3).filter(|id| *id != leading).collect();
    cluster.kill(others[0]).await;
    sender.send(10).await;
    // Without a majority of voters nothing is decided any more; nor is anything acknowledged.
    cluster.kill(others[1]).await;
    let record = ProducerRecord::to(TOPIC).partition(0).value("20");
    let delivery = in_time("room", sender.producer.send(record)).await.unwrap();
    let waited = Env::os().timeout(Duration::from_secs(3), delivery).await;
    assert!(waited.is_err(), "{waited:?}");
    cluster.start_all().await;
    let admin = cluster.admin().await;
    wait_in_sync(&admin, &[1, 2, 3]).await;
    assert_eq!(read(&cluster, 21).await, numbers(21));
}
