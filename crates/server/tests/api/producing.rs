//! What producers rely on: order, acknowledgements, and that a batch sent twice is there once.

use ottla_protocol::compression::Compression;
use ottla_protocol::fetch::FetchRequest;
use ottla_protocol::messages::InitProducerIdRequest;
use ottla_protocol::produce::ProduceRequest;
use ottla_protocol::{ErrorCode, TopicRef, message};

use crate::client::Client;
use crate::node::Node;
use crate::records::{batch, compressed, sequenced, values};
use crate::requests::{BY_ID, BY_NAME, fetch, named, produce};

async fn producer_id(client: &mut Client) -> i64 {
    let answer = client.call(4, &message!(InitProducerIdRequest { transactional_id: None })).await;
    assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
    answer.producer_id
}

/// Error and offset of an append.
async fn append(client: &mut Client, producer: (i64, i16), sequence: i32) -> (ErrorCode, i64) {
    let records = sequenced(producer, sequence, &["x", "y"]);
    let answer = client.append("orders", 0, records).await;
    (answer.error_code, answer.base_offset.0)
}

#[tokio::test]
async fn pipelined_requests_are_appended_and_answered_in_order() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    let mut sent = Vec::new();
    for number in 0..50 {
        let request = produce(named("orders"), 0, batch(&[&number.to_string()]));
        sent.push(client.send_produce(BY_NAME, &request).await);
    }
    for (offset, correlation_id) in sent.into_iter().enumerate() {
        let answer = client.produce_answer(BY_NAME, correlation_id).await;
        assert_eq!(answer.topics[0].partitions[0].base_offset.0, offset as i64);
    }
    let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(client.read_values("orders").await, expected);
}

#[tokio::test]
async fn what_is_flushed_is_committed_whether_or_not_somebody_waits_for_it() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic_with("orders", 1, &[("flush.messages", "1")]).await;
    let mut consumer = Client::connect(&node).await;
    let silent = ProduceRequest { acks: 0, ..produce(named("orders"), 0, batch(&["silent"])) };
    client.send_produce(BY_NAME, &silent).await;
    let from_first = FetchRequest { min_bytes: 1, max_wait_ms: i32::MAX, ..read_from(0) };
    let first = consumer.fetch(BY_NAME, &from_first).await;
    assert_eq!(values(&first.topics[0].partitions[0].records), ["silent"]);
    // A producer that is gone before its answer is there.
    client.send_produce(BY_NAME, &produce(named("orders"), 0, batch(&["gone"]))).await;
    drop(client);
    let from_second = FetchRequest { min_bytes: 1, max_wait_ms: i32::MAX, ..read_from(1) };
    let second = consumer.fetch(BY_NAME, &from_second).await;
    assert_eq!(values(&second.topics[0].partitions[0].records), ["gone"]);
}

fn read_from(offset: i64) -> FetchRequest {
    fetch(named("orders"), 0, offset)
}

#[tokio::test]
async fn nobody_but_the_coordinator_appends_to_internal_topics() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.find_coordinator("billing").await;
    let refused = client.append("__consumer_offsets", 0, batch(&["poison"])).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidTopicException);
}

#[tokio::test]
async fn every_codec_comes_back_as_it_was_sent() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    let long = "long ".repeat(10_000);
    for (number, codec) in Compression::ALL.into_iter().enumerate() {
        let records = compressed(codec, &["short", &long]);
        let offset = client.append_ok("orders", records.clone()).await;
        assert_eq!(offset, 2 * number as i64, "{codec}");
        let read = client.read("orders", offset).await.records;
        assert_eq!(values(&read), ["short", &long], "{codec}");
        // The records themselves are the producer's bytes: only the first 16 of a batch are the leader's.
        assert_eq!(read.slice(17..), records.slice(17..), "{codec}");
    }
}

#[tokio::test]
async fn a_duplicate_is_told_its_first_offset() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    let producer = (producer_id(&mut client).await, 0);
    for batch in 0..6 {
        let expected = (ErrorCode::None, i64::from(batch) * 2);
        assert_eq!(append(&mut client, producer, batch * 2).await, expected);
    }
    for batch in 1..6 {
        let expected = (ErrorCode::None, i64::from(batch) * 2);
        assert_eq!(append(&mut client, producer, batch * 2).await, expected, "batch {batch}");
    }
    // Five batches are remembered; what lies before them cannot be told from a gap.
    let (error, _) = append(&mut client, producer, 0).await;
    let expected = [ErrorCode::DuplicateSequenceNumber, ErrorCode::OutOfOrderSequenceNumber];
    assert!(expected.contains(&error), "{error}");
    assert_eq!(client.read_values("orders").await.len(), 12);
}

#[tokio::test]
async fn a_gap_in_the_sequence_is_out_of_order() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    let producer = (producer_id(&mut client).await, 0);
    assert_eq!(append(&mut client, producer, 0).await, (ErrorCode::None, 0));
    for sequence in [1, 3, 4, 100] {
        let (error, offset) = append(&mut client, producer, sequence).await;
        assert_eq!((error, offset), (ErrorCode::OutOfOrderSequenceNumber, -1), "{sequence}");
    }
    assert_eq!(append(&mut client, producer, 2).await, (ErrorCode::None, 2));
}

#[tokio::test]
async fn a_new_epoch_starts_at_0_and_fences_the_old() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    let id = producer_id(&mut client).await;
    assert_eq!(append(&mut client, (id, 0), 0).await, (ErrorCode::None, 0));
    let (error, _) = append(&mut client, (id, 1), 5).await;
    assert_eq!(error, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(append(&mut client, (id, 1), 0).await, (ErrorCode::None, 2));
    let (error, _) = append(&mut client, (id, 0), 2).await;
    assert_eq!(error, ErrorCode::InvalidProducerEpoch);
}

#[tokio::test]
async fn sequences_wrap_and_survive_a_restart_and_a_crash() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    let producer = (producer_id(&mut client).await, 0);
    // A producer that is not known here may begin anywhere.
    assert_eq!(append(&mut client, producer, i32::MAX).await, (ErrorCode::None, 0));
    assert_eq!(append(&mut client, producer, 1).await, (ErrorCode::None, 2));
    let node = node.restart().await;
    let mut client = Client::connect(&node).await;
    assert_eq!(append(&mut client, producer, 1).await, (ErrorCode::None, 2));
    assert_eq!(append(&mut client, producer, 3).await, (ErrorCode::None, 4));
    let node = node.crash_and_restart().await;
    let mut client = Client::connect(&node).await;
    assert_eq!(append(&mut client, producer, 3).await, (ErrorCode::None, 4));
    let (error, _) = append(&mut client, producer, 9).await;
    assert_eq!(error, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(append(&mut client, producer, 5).await, (ErrorCode::None, 6));
}

#[tokio::test]
async fn producer_ids_are_never_given_twice() {
    let mut node = Node::start().await;
    let mut given = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(&node).await;
        for _ in 0..5 {
            given.push(producer_id(&mut client).await);
        }
        node = node.crash_and_restart().await;
    }
    let distinct: std::collections::BTreeSet<_> = given.iter().collect();
    assert_eq!(distinct.len(), given.len(), "{given:?}");
}

#[tokio::test]
async fn a_topic_deleted_and_made_again_is_another_topic() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    let old = client.create_topic("orders", 1).await;
    client.append_ok("orders", batch(&["old"])).await;
    client.delete_topic("orders").await;
    let gone = client.append("orders", 0, batch(&["lost"])).await;
    assert_eq!(gone.error_code, ErrorCode::UnknownTopicOrPartition);
    let new = client.create_topic("orders", 1).await;
    assert_ne!(old, new);
    assert_eq!(client.read_values("orders").await, [""; 0]);
    let request = produce(TopicRef::Id(old), 0, batch(&["late"]));
    let answer = client.produce(BY_ID, &request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::UnknownTopicId);
    let request = produce(TopicRef::Id(new), 0, batch(&["new"]));
    let answer = client.produce(BY_ID, &request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::None);
    let node = node.crash_and_restart().await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.read_values("orders").await, ["new"]);
}
