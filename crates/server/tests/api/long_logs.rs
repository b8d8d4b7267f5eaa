//! Logs of several segments, and epochs that have passed.

use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::messages::{ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest};
use ottla_protocol::{ErrorCode, LeaderEpoch, message};

use crate::client::Client;
use crate::node::Node;
use crate::records::{NOON, batch, read, timed};
use crate::requests::{BY_NAME, fetch, named, text};

/// Batches of a test; with four to a segment.
const BATCHES: i64 = 14;

/// A topic whose segments hold four of the batches that it holds.
async fn node_with_segments() -> Node {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic_with("orders", 1, &[("segment.bytes", "1048576")]).await;
    let filler = "x".repeat(250_000);
    for number in 0..BATCHES {
        let records = timed(&[(NOON + number * 10, &filler), (NOON + number * 10 + 5, "second")]);
        assert_eq!(client.append_ok("orders", records).await, number * 2);
    }
    node
}

/// Offsets of all records from `offset` on, fetched piece by piece as a consumer does.
async fn offsets_from(client: &mut Client, mut offset: i64) -> Vec<i64> {
    let start = offset;
    let mut offsets = Vec::new();
    loop {
        let data = client.read("orders", offset).await;
        assert_eq!(data.error_code, ErrorCode::None);
        let fetched = read(&data.records);
        let Some((last, _)) = fetched.last() else { return offsets };
        offset = last + 1;
        offsets.extend(fetched.iter().map(|it| it.0).filter(|offset| *offset >= start));
    }
}

async fn offset_at(client: &mut Client, timestamp: i64) -> (i64, i64) {
    let asked = message!(ListOffsetsPartition { timestamp: timestamp });
    let topic = message!(ListOffsetsTopic { name: text("orders"), partitions: vec![asked] });
    let request = message!(ListOffsetsRequest { replica_id: -1, topics: vec![topic] });
    let found = client.call(11, &request).await.topics.remove(0).partitions.remove(0);
    assert_eq!(found.error_code, 0);
    (found.offset, found.timestamp)
}

async fn assert_complete(node: &Node) {
    let mut client = Client::connect(node).await;
    for start in [0, 1, 7, 8, 9, 15, 16, 27] {
        let expected: Vec<_> = (start..BATCHES * 2).collect();
        assert_eq!(offsets_from(&mut client, start).await, expected, "from {start}");
    }
    for number in 0..BATCHES {
        let time = NOON + number * 10;
        assert_eq!(offset_at(&mut client, time).await, (number * 2, time));
        assert_eq!(offset_at(&mut client, time + 1).await, (number * 2 + 1, time + 5));
    }
}

#[tokio::test]
async fn a_log_is_read_across_its_segments_before_and_after_a_stop_and_a_crash() {
    let node = node_with_segments().await;
    assert_complete(&node).await;
    let dir = node.path().join("orders-0");
    let entries = ottla_env::Env::os().disk.read_dir(&dir).unwrap();
    let segments = entries.iter().filter(|it| it.path.extension().is_some_and(|it| it == "log"));
    assert!(segments.count() >= 3, "the log has too few segments for this test");
    let node = node.crash_and_restart().await;
    assert_complete(&node).await;
    let node = node.restart().await;
    assert_complete(&node).await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.append_ok("orders", batch(&["after"])).await, BATCHES * 2);
}

/// The leader epoch of partition 0.
async fn leader_epoch(client: &mut Client) -> i32 {
    let all = message!(MetadataRequest { topics: None });
    client.call(12, &all).await.topics[0].partitions[0].leader_epoch
}

#[tokio::test]
async fn an_epoch_that_has_passed_is_fenced_and_its_end_is_known() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    client.append_ok("orders", batch(&["a", "b"])).await;
    let old = leader_epoch(&mut client).await;
    let node = node.crash_and_restart().await;
    let mut client = Client::connect(&node).await;
    let new = leader_epoch(&mut client).await;
    assert!(new > old, "a restart begins a new epoch: {old}, then {new}");
    client.append_ok("orders", batch(&["c"])).await;
    for (epoch, expected) in [
        (old, ErrorCode::FencedLeaderEpoch),
        (new, ErrorCode::None),
        (new + 1, ErrorCode::UnknownLeaderEpoch),
    ] {
        let mut request = fetch(named("orders"), 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = LeaderEpoch(epoch);
        let answer = client.fetch(BY_NAME, &request).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, expected, "epoch {epoch}");
    }
    let asked = message!(OffsetForLeaderPartition { current_leader_epoch: new, leader_epoch: old });
    let topic = message!(OffsetForLeaderTopic { topic: text("orders"), partitions: vec![asked] });
    let request = message!(OffsetForLeaderEpochRequest { topics: vec![topic] });
    let end = client.call(4, &request).await.topics.remove(0).partitions.remove(0);
    assert_eq!((end.error_code, end.leader_epoch, end.end_offset), (0, old, 2));
    // A reader whose log is longer in the old epoch is told where to cut it (KIP-595).
    let mut request = fetch(named("orders"), 0, 3);
    request.topics[0].partitions[0].last_fetched_epoch = LeaderEpoch(old);
    let answer = client.fetch(BY_NAME, &request).await;
    let diverging = answer.topics[0].partitions[0].diverging_epoch.unwrap();
    assert_eq!((diverging.epoch.0, diverging.end_offset.0), (old, 2));
}
