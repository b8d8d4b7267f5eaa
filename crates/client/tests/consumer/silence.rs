//! A producer whose leader stands still, or is cut off: its connection stays, and nothing comes.

use std::time::Duration;

use ottla_client::{Producer, ProducerConfig, ProducerRecord};
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
