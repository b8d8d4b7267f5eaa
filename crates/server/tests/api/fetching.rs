//! What consumers rely on: how long a fetch waits, how much it brings, and sessions.

use std::time::Duration;

use ottla_protocol::fetch::{FetchRequest, ForgottenTopic};
use ottla_protocol::{ErrorCode, LeaderEpoch, TopicId, TopicRef};

use crate::client::Client;
use crate::node::{Node, PATIENCE};
use crate::records::{batch, read, values};
use crate::requests::{BY_ID, BY_NAME, fetch, named, produce};
use crate::stopped_clock::StoppedClock;

/// Twice as long as a test is patient: a fetch that comes back was not timed out.
const LONG: i32 = 2 * PATIENCE.as_millis() as i32;

async fn node_and_client() -> (Node, Client) {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 2).await;
    (node, client)
}

fn waiting(offset: i64, min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
    FetchRequest { min_bytes, max_wait_ms, ..fetch(named("orders"), 0, offset) }
}

#[tokio::test]
async fn a_waiting_fetch_is_woken_by_a_produce() {
    let (node, mut client) = node_and_client().await;
    let mut consumer = Client::connect(&node).await;
    let sent = consumer.send_fetch(BY_NAME, &waiting(0, 1, LONG)).await;
    // Both orders must do: the fetch may come before or after the produce.
    consumer.assert_nothing_came().await;
    client.append_ok("orders", batch(&["woken"])).await;
    let answer = consumer.fetch_answer(BY_NAME, sent).await;
    assert_eq!(values(&answer.topics[0].partitions[0].records), ["woken"]);
}

#[tokio::test]
async fn a_fetch_that_waits_in_vain_is_answered_empty_at_max_wait() {
    let clock = StoppedClock::going();
    let node = Node::start_by(&clock, "").await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    let sent = client.send_fetch(BY_NAME, &waiting(0, 1, 300)).await;
    clock.wait_for_sleeper(Duration::from_millis(300)).await;
    clock.set_forward(Duration::from_millis(299));
    client.assert_nothing_came().await;
    clock.set_forward(Duration::from_millis(1));
    let answer = client.fetch_answer(BY_NAME, sent).await;
    let data = &answer.topics[0].partitions[0];
    assert_eq!((data.error_code, data.records.len()), (ErrorCode::None, 0));
    assert_eq!(data.high_watermark.0, 0);
}

#[tokio::test]
async fn min_bytes_are_waited_for() {
    let (node, mut client) = node_and_client().await;
    let one = batch(&["x"]);
    let mut consumer = Client::connect(&node).await;
    let wanted = one.len() as i32 * 2;
    let sent = consumer.send_fetch(BY_NAME, &waiting(0, wanted, LONG)).await;
    client.append_ok("orders", one.clone()).await;
    consumer.assert_nothing_came().await;
    client.append_ok("orders", one).await;
    let answer = consumer.fetch_answer(BY_NAME, sent).await;
    assert_eq!(values(&answer.topics[0].partitions[0].records).len(), 2);
}

#[tokio::test]
async fn more_than_the_limits_allow_is_not_waited_for() {
    let (_node, mut client) = node_and_client().await;
    let one = batch(&[&"x".repeat(1000)]);
    for _ in 0..3 {
        client.append_ok("orders", one.clone()).await;
    }
    let size = one.len() as i32;
    // Between whole batches: the limits are never filled to the last byte.
    for (partition_max, max) in [(size * 3 / 2, size * 9), (size * 9, size * 3 / 2)] {
        let mut request = waiting(0, size * 3 / 2, LONG);
        request.topics[0].partitions[0].partition_max_bytes = partition_max;
        request.max_bytes = max;
        let answer = client.fetch(BY_NAME, &request).await;
        assert_eq!(values(&answer.topics[0].partitions[0].records).len(), 1);
    }
    let request = FetchRequest { max_bytes: size * 2, ..waiting(0, size * 9, LONG) };
    let answer = client.fetch(BY_NAME, &request).await;
    assert_eq!(values(&answer.topics[0].partitions[0].records).len(), 2);
}

#[tokio::test]
async fn an_error_is_told_at_once() {
    let (_node, mut client) = node_and_client().await;
    let answer = client.fetch(BY_NAME, &waiting(7, 1, LONG)).await;
    let data = &answer.topics[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::OffsetOutOfRange);
    let answer = client.fetch(BY_NAME, &waiting(-5, 1, LONG)).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::OffsetOutOfRange);
}

#[tokio::test]
async fn limits_are_kept_but_the_first_batch_always_comes() {
    let (_node, mut client) = node_and_client().await;
    let one = batch(&[&"x".repeat(1000)]);
    for _ in 0..4 {
        client.append_ok("orders", one.clone()).await;
    }
    let size = one.len() as i32;
    let limited = |partition_max, max| {
        let mut request = fetch(named("orders"), 0, 0);
        request.topics[0].partitions[0].partition_max_bytes = partition_max;
        FetchRequest { max_bytes: max, ..request }
    };
    for (partition_max, max, expected) in [
        (size * 2, size * 9, 2),
        (size * 9, size * 3, 3),
        (size * 9, size * 9, 4),
        (size - 1, size * 9, 1),
        (size * 9, size - 1, 1),
        (1, 1, 1),
        (0, 0, 1),
        (-1, -1, 1),
    ] {
        let answer = client.fetch(BY_NAME, &limited(partition_max, max)).await;
        let records = &answer.topics[0].partitions[0].records;
        let limit = partition_max.min(max).max(size) as usize;
        assert!(records.len() <= limit, "{} of {limit} bytes", records.len());
        assert_eq!(values(records).len(), expected, "limits {partition_max} and {max}");
    }
}

#[tokio::test]
async fn the_second_partition_gets_what_the_first_leaves() {
    let (_node, mut client) = node_and_client().await;
    let one = batch(&[&"x".repeat(1000)]);
    for partition in [0, 1] {
        for _ in 0..3 {
            let appended = client.append("orders", partition, one.clone()).await;
            assert_eq!(appended.error_code, ErrorCode::None);
        }
    }
    let mut request = fetch(named("orders"), 0, 0);
    let mut second = request.topics[0].partitions[0].clone();
    second.partition = 1;
    request.topics[0].partitions.push(second);
    request.max_bytes = one.len() as i32 * 4;
    let answer = client.fetch(BY_NAME, &request).await;
    let got = answer.topics[0].partitions.iter().map(|it| values(&it.records).len());
    assert_eq!(got.collect::<Vec<_>>(), [3, 1]);
    // The first batch always comes, but only the first of all.
    request.max_bytes = 1;
    let answer = client.fetch(BY_NAME, &request).await;
    let got = answer.topics[0].partitions.iter().map(|it| values(&it.records).len());
    assert_eq!(got.collect::<Vec<_>>(), [1, 0]);
}

#[tokio::test]
async fn a_fetch_from_within_a_batch_brings_the_batch() {
    let (_node, mut client) = node_and_client().await;
    client.append_ok("orders", batch(&["a", "b", "c"])).await;
    client.append_ok("orders", batch(&["d"])).await;
    let data = client.read("orders", 2).await;
    assert_eq!(read(&data.records).last(), Some(&(3, "d".to_owned())));
    assert!(read(&data.records).contains(&(2, "c".to_owned())));
    assert_eq!(client.read("orders", 4).await.records.len(), 0);
}

#[tokio::test]
async fn leader_epochs_are_fenced() {
    let (_node, mut client) = node_and_client().await;
    client.append_ok("orders", batch(&["a"])).await;
    for (epoch, expected) in
        [(0, ErrorCode::None), (-1, ErrorCode::None), (1, ErrorCode::UnknownLeaderEpoch)]
    {
        let mut request = fetch(named("orders"), 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = LeaderEpoch(epoch);
        let answer = client.fetch(BY_NAME, &request).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, expected, "epoch {epoch}");
    }
}

#[tokio::test]
async fn a_session_tells_only_what_is_new() {
    let (_node, mut client) = node_and_client().await;
    client.append_ok("orders", batch(&["a"])).await;
    let mut request = fetch(named("orders"), 0, 0);
    let mut second = request.topics[0].partitions[0].clone();
    second.partition = 1;
    request.topics[0].partitions.push(second);
    request.session_epoch = 0;
    let opened = client.fetch(BY_NAME, &request).await;
    assert_ne!(opened.session_id, 0);
    assert_eq!(opened.topics[0].partitions.len(), 2);
    let session = opened.session_id;
    let mut read_on = request.topics.clone();
    read_on[0].partitions.truncate(1);
    read_on[0].partitions[0].fetch_offset.0 = 1;
    let step = |epoch, topics| FetchRequest {
        session_id: session,
        session_epoch: epoch,
        topics,
        ..request.clone()
    };
    let answer = client.fetch(BY_NAME, &step(1, read_on)).await;
    assert_eq!((answer.session_id, answer.topics.len()), (session, 0));
    let appended = client.append("orders", 1, batch(&["b"])).await;
    assert_eq!(appended.error_code, ErrorCode::None);
    let answer = client.fetch(BY_NAME, &step(2, Vec::new())).await;
    assert_eq!(answer.topics[0].partitions.len(), 1);
    assert_eq!(answer.topics[0].partitions[0].partition_index, 1);
    assert_eq!(values(&answer.topics[0].partitions[0].records), ["b"]);
    // What is forgotten is not told of any more.
    let mut forget = step(3, Vec::new());
    forget.forgotten_topics = vec![ForgottenTopic { topic: named("orders"), partitions: vec![1] }];
    assert_eq!(client.fetch(BY_NAME, &forget).await.topics.len(), 0);
}

#[tokio::test]
async fn an_incremental_fetch_waits_and_is_woken() {
    let (node, mut client) = node_and_client().await;
    let mut consumer = Client::connect(&node).await;
    let mut request = FetchRequest { session_epoch: 0, ..waiting(0, 1, 0) };
    let session = consumer.fetch(BY_NAME, &request).await.session_id;
    request = FetchRequest {
        session_id: session,
        session_epoch: 1,
        topics: Vec::new(),
        ..waiting(0, 1, LONG)
    };
    let sent = consumer.send_fetch(BY_NAME, &request).await;
    consumer.assert_nothing_came().await;
    client.append_ok("orders", batch(&["woken"])).await;
    let answer = consumer.fetch_answer(BY_NAME, sent).await;
    assert_eq!(values(&answer.topics[0].partitions[0].records), ["woken"]);
}

#[tokio::test]
async fn sessions_that_are_not_known_or_not_in_step_are_refused() {
    let (_node, mut client) = node_and_client().await;
    let request = FetchRequest { session_epoch: 0, ..fetch(named("orders"), 0, 0) };
    let session = client.fetch(BY_NAME, &request).await.session_id;
    let step = |id, epoch| FetchRequest { session_id: id, session_epoch: epoch, ..request.clone() };
    let answer = client.fetch(BY_NAME, &step(session.wrapping_add(1), 1)).await;
    assert_eq!(answer.error_code, ErrorCode::FetchSessionIdNotFound);
    for epoch in [2, 9, i32::MAX] {
        let answer = client.fetch(BY_NAME, &step(session, epoch)).await;
        assert_eq!(answer.error_code, ErrorCode::InvalidFetchSessionEpoch, "epoch {epoch}");
    }
    assert_eq!(client.fetch(BY_NAME, &step(session, 1)).await.error_code, ErrorCode::None);
    // A final fetch ends the session.
    assert_eq!(client.fetch(BY_NAME, &step(session, -1)).await.session_id, 0);
    let answer = client.fetch(BY_NAME, &step(session, 2)).await;
    assert_eq!(answer.error_code, ErrorCode::FetchSessionIdNotFound);
}

#[tokio::test]
async fn a_session_does_not_change_from_names_to_ids() {
    let (_node, mut client) = node_and_client().await;
    let request = FetchRequest { session_epoch: 0, ..fetch(named("orders"), 0, 0) };
    let session = client.fetch(BY_NAME, &request).await.session_id;
    let by_id = fetch(TopicRef::Id(TopicId::from_bytes([7; 16])), 0, 0);
    let by_id = FetchRequest { session_id: session, session_epoch: 1, ..by_id };
    let answer = client.fetch(BY_ID, &by_id).await;
    assert_eq!(answer.error_code, ErrorCode::FetchSessionTopicIdError);
}

#[tokio::test]
async fn a_topic_deleted_under_a_waiting_fetch_is_told_at_once() {
    let (node, mut client) = node_and_client().await;
    let mut consumer = Client::connect(&node).await;
    let sent = consumer.send_fetch(BY_NAME, &waiting(0, 1, LONG)).await;
    consumer.assert_nothing_came().await;
    client.delete_topic("orders").await;
    let answer = consumer.fetch_answer(BY_NAME, sent).await;
    let told = answer.topics[0].partitions[0].error_code;
    assert_eq!(told, ErrorCode::UnknownTopicOrPartition);
}

#[tokio::test]
async fn a_fetch_waits_while_requests_behind_it_are_done() {
    let (_node, mut client) = node_and_client().await;
    let waits = client.send_fetch(BY_NAME, &waiting(0, 1, LONG)).await;
    // The produce behind it on the same connection is what wakes it; its answer comes second.
    let request = produce(named("orders"), 0, batch(&["mine"]));
    let produced = client.send_produce(BY_NAME, &request).await;
    let answer = client.fetch_answer(BY_NAME, waits).await;
    assert_eq!(values(&answer.topics[0].partitions[0].records), ["mine"]);
    let answer = client.produce_answer(BY_NAME, produced).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::None);
}
