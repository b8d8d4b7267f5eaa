//! Clients of a broker that stands still, or is cut off: their connections stay, and nothing comes.

use std::time::Duration;

use ottla_client::{OffsetSpec, Producer, ProducerConfig, ProducerRecord};
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::{
    HeartbeatResponse, InitProducerIdResponse, JoinGroupResponse, ListOffsetsResponse,
    SyncGroupResponse,
};
use ottla_protocol::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use ottla_protocol::{LeaderIdAndEpoch, NodeEndpoint};

use super::*;

/// Stores what it is asked to.
fn stored(request: &ProduceRequest, offset: i64) -> Response {
    produced(request, |index| PartitionProduceResponse {
        base_offset: Offset(offset),
        ..PartitionProduceResponse::failed(index, ErrorCode::None)
    })
}

fn produced(request: &ProduceRequest, of: impl Fn(i32) -> PartitionProduceResponse) -> Response {
    let topics = request.topics.iter().map(|topic| TopicProduceResponse {
        topic: topic.topic.clone(),
        partitions: topic.partitions.iter().map(|partition| of(partition.index)).collect(),
    });
    ProduceResponse { topics: topics.collect(), ..ProduceResponse::default() }.into()
}

async fn producer(brokers: &Brokers) -> Producer {
    let (env, options) = (Env::os(), ConnectionOptions::default());
    let client = Client::connect(&env, vec![brokers.address()], options).await.unwrap();
    let config =
        ProducerConfig { idempotence: false, linger: Duration::ZERO, ..ProducerConfig::default() };
    Producer::builder(config).over(client)
}

/// Sends a record, and waits for the offset that it gets.
async fn send(producer: &Producer) -> i64 {
    let record = ProducerRecord::to(TOPIC).value("v").partition(0);
    let delivered = async { producer.send(record).await.unwrap().await.unwrap().offset.0 };
    Env::os().timeout(PATIENCE, delivered).await.unwrap()
}

#[tokio::test]
async fn a_leader_that_is_silent_is_left_for_the_one_that_leads_in_its_place() {
    let brokers = Brokers::start(&[], |asked| {
        let Request::Produce(request) = &asked.request else { return None };
        Some(stored(request, i64::from(asked.node) * 100))
    })
    .await;
    let producer = producer(&brokers).await;
    assert_eq!(send(&producer).await, 100);
    // Nor does the old leader tell of another, and the new one is asked nothing else: what is known of it comes from the old
    // one, on a connection where nothing is owed.
    brokers.owe(1, ApiKey::Produce);
    brokers.owe(2, ApiKey::Metadata);
    let sending = async { send(&producer).await };
    let moving = async {
        Env::os().clock.sleep(Duration::from_millis(20)).await;
        brokers.set_leader(2);
    };
    assert_eq!(tokio::join!(sending, moving).0, 200);
}

#[tokio::test]
async fn whoever_does_not_lead_tells_who_does_and_nobody_else_is_asked() {
    let ports = Arc::new(Mutex::new(Vec::new()));
    let known = Arc::clone(&ports);
    let brokers = Brokers::start(&[], move |asked| {
        let Request::Produce(request) = &asked.request else { return None };
        if asked.node == 2 {
            return Some(stored(request, 200));
        }
        let (leader_id, leader_epoch) = (BrokerId(2), LeaderEpoch(2));
        let Response::Produce(mut refused) = produced(request, |index| PartitionProduceResponse {
            current_leader: Some(LeaderIdAndEpoch { leader_id, leader_epoch }),
            ..PartitionProduceResponse::failed(index, ErrorCode::NotLeaderOrFollower)
        }) else {
            unreachable!("an answer to Produce")
        };
        refused.node_endpoints = vec![NodeEndpoint {
            node_id: leader_id,
            host: StrBytes::from("127.0.0.1"),
            port: i32::from(known.lock().unwrap()[1]),
            rack: None,
        }];
        Some(Response::Produce(refused))
    })
    .await;
    ports.lock().unwrap().extend(brokers.ports());
    let producer = producer(&brokers).await;
    assert_eq!(send(&producer).await, 200);
    assert_eq!(send(&producer).await, 200, "the old leader is not asked again");
}

#[tokio::test]
async fn a_producer_gets_its_id_elsewhere_while_one_broker_is_silent() {
    let brokers = Brokers::start(&[], |asked| {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the rest is as usual")]
        match &asked.request {
            Request::Produce(request) => Some(stored(request, 100)),
            Request::InitProducerId(_) => Some(message!(InitProducerIdResponse {}).into()),
            _ => None,
        }
    })
    .await;
    brokers.owe(1, ApiKey::InitProducerId);
    brokers.set_leader(2);
    let (env, options) = (Env::os(), ConnectionOptions::default());
    let client = Client::connect(&env, vec![brokers.address()], options).await.unwrap();
    let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
    let producer = Producer::builder(config).over(client);
    assert_eq!(send(&producer).await, 100);
}

/// Brokers that have a record for each offset, and keep what is committed.
async fn brokers_with_records() -> Brokers {
    Brokers::start(&[], |asked| {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the rest is as usual")]
        match &asked.request {
            Request::Fetch(_) => {
                let offset = fetch_offset(asked)?;
                Some(fetched(asked.version, records(asked.node, offset..offset + 1)))
            }
            Request::ListOffsets(_) => {
                let row = message!(ListOffsetsPartitionResponse { offset: 7, leader_epoch: -1 });
                let topic = message!(ListOffsetsTopicResponse {
                    name: StrBytes::from(TOPIC),
                    partitions: vec![row],
                });
                Some(message!(ListOffsetsResponse { topics: vec![topic] }).into())
            }
            Request::OffsetForLeaderEpoch(_) => Some(end_of_epoch_1(i64::MAX)),
            Request::OffsetFetch(_) => Some(message!(OffsetFetchResponse {}).into()),
            Request::OffsetCommit(_) => Some(message!(OffsetCommitResponse {}).into()),
            Request::JoinGroup(_) => {
                let member = StrBytes::from("m");
                Some(
                    message!(JoinGroupResponse { generation_id: asked.node, member_id: member })
                        .into(),
                )
            }
            Request::SyncGroup(_) => Some(message!(SyncGroupResponse {}).into()),
            Request::Heartbeat(_) => Some(message!(HeartbeatResponse {}).into()),
            _ => None,
        }
    })
    .await
}

/// A consumer that reads the only partition, and has read its first record.
async fn reading(brokers: &Brokers) -> Consumer {
    let options = ConsumerOptions {
        fetch_max_wait: Duration::from_millis(20),
        auto_commit: false,
        ..ConsumerOptions::in_group("g")
    };
    let mut consumer = consumer(brokers, options).await;
    consumer.assign([t0()]).unwrap();
    consumer.seek(&t0(), Offset(0)).unwrap();
    assert_eq!(next_offset(&mut consumer).await, 0);
    consumer
}

#[tokio::test]
async fn a_leader_that_is_silent_is_not_waited_for_by_consumers_once_another_leads() {
    let brokers = brokers_with_records().await;
    let mut consumer = reading(&brokers).await;
    brokers.owe(1, ApiKey::Fetch);
    brokers.owe(1, ApiKey::Metadata);
    brokers.set_leader(2);
    let mut offset = 0;
    // Of what was fetched ahead some is left.
    while offset < 20 {
        offset = next_offset(&mut consumer).await;
    }
}

#[tokio::test]
async fn where_a_partition_begins_is_asked_of_the_next_leader_while_one_is_silent() {
    let brokers = brokers_with_records().await;
    let mut consumer = reading(&brokers).await;
    brokers.owe(1, ApiKey::ListOffsets);
    consumer.seek_to(&t0(), OffsetSpec::Earliest).unwrap();
    let (found, ()) = tokio::join!(next_offset(&mut consumer), async { brokers.set_leader(2) });
    assert_eq!(found, 7);
}

#[tokio::test]
async fn a_coordinator_that_is_silent_is_left_for_the_one_in_its_place() {
    let brokers = brokers_with_records().await;
    let mut consumer = reading(&brokers).await;
    consumer.commit().await.unwrap();
    brokers.owe(1, ApiKey::OffsetCommit);
    brokers.owe(1, ApiKey::FindCoordinator);
    brokers.set_coordinator(2);
    Env::os().timeout(PATIENCE, consumer.commit()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_member_joins_at_the_next_coordinator_while_one_is_silent() {
    let brokers = brokers_with_records().await;
    brokers.owe(1, ApiKey::JoinGroup);
    let mut consumer = consumer(&brokers, ConsumerOptions::in_group("g")).await;
    consumer.subscribe([TOPIC]).unwrap();
    let joined = async {
        while consumer.group_metadata().unwrap().generation != 2 {
            consumer.poll(Duration::from_millis(10)).await.unwrap();
        }
    };
    let moving = async {
        while !brokers.owes(1, ApiKey::JoinGroup) {
            Env::os().clock.sleep(Duration::from_millis(5)).await;
        }
        brokers.set_coordinator(2);
    };
    Env::os().timeout(PATIENCE, async { tokio::join!(joined, moving) }).await.unwrap();
}

#[tokio::test]
async fn whoever_only_tries_to_send_has_the_topic_asked_for() {
    let brokers = Brokers::start(&[], |asked| {
        let Request::Produce(request) = &asked.request else { return None };
        Some(stored(request, 5))
    })
    .await;
    let producer = producer(&brokers).await;
    let delivered = async {
        loop {
            let record = ProducerRecord::to(TOPIC).value("v").partition(0);
            match producer.try_send(record).unwrap() {
                Some(delivery) => return delivery.await.unwrap().offset.0,
                None => Env::os().clock.sleep(Duration::from_millis(5)).await,
            }
        }
    };
    assert_eq!(Env::os().timeout(PATIENCE, delivered).await.unwrap(), 5);
}
