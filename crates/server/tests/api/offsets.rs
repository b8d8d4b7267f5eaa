//! ListOffsets and OffsetForLeaderEpoch.

use ottla_protocol::compression::Compression;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::messages::offset_for_leader_epoch_response::EpochEndOffset;
use ottla_protocol::messages::{ListOffsetsRequest, OffsetForLeaderEpochRequest};
use ottla_protocol::{ErrorCode, message};

use crate::client::Client;
use crate::node::Node;
use crate::records::{NOON, batch, compressed, timed};
use crate::requests::text;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// Error, offset and timestamp.
type Found = (ErrorCode, i64, i64);

async fn list(client: &mut Client, timestamp: i64, leader_epoch: i32) -> Found {
    let asked =
        message!(ListOffsetsPartition { timestamp: timestamp, current_leader_epoch: leader_epoch });
    let topic = message!(ListOffsetsTopic { name: text("orders"), partitions: vec![asked] });
    let request = message!(ListOffsetsRequest { replica_id: -1, topics: vec![topic] });
    let mut answer = client.call(11, &request).await;
    let found = answer.topics.remove(0).partitions.remove(0);
    (ErrorCode::from_wire(found.error_code), found.offset, found.timestamp)
}

async fn offset_at(client: &mut Client, timestamp: i64) -> (i64, i64) {
    let (error, offset, time) = list(client, timestamp, -1).await;
    assert_eq!(error, ErrorCode::None, "time {timestamp}");
    (offset, time)
}

async fn node_and_client() -> (Node, Client) {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    (node, client)
}

#[tokio::test]
async fn special_timestamps_of_an_empty_log() {
    let (_node, mut client) = node_and_client().await;
    for (timestamp, offset) in
        [(LATEST, 0), (EARLIEST, 0), (EARLIEST_LOCAL, 0), (MAX_TIMESTAMP, -1), (LATEST_TIERED, -1)]
    {
        assert_eq!(offset_at(&mut client, timestamp).await, (offset, -1), "time {timestamp}");
    }
    assert_eq!(offset_at(&mut client, 0).await, (-1, -1));
}

#[tokio::test]
async fn special_timestamps_of_a_log() {
    let (_node, mut client) = node_and_client().await;
    client.append_ok("orders", timed(&[(NOON, "a"), (NOON + 9, "b")])).await;
    client.append_ok("orders", timed(&[(NOON + 5, "c"), (NOON + 7, "d")])).await;
    for (timestamp, found) in [
        (LATEST, (4, -1)),
        (EARLIEST, (0, -1)),
        (EARLIEST_LOCAL, (0, -1)),
        (LATEST_TIERED, (-1, -1)),
        // KIP-734: the record itself and its time.
        (MAX_TIMESTAMP, (1, NOON + 9)),
    ] {
        assert_eq!(offset_at(&mut client, timestamp).await, found, "time {timestamp}");
    }
}

#[tokio::test]
async fn a_time_finds_the_first_record_that_is_not_older() {
    let (_node, mut client) = node_and_client().await;
    client.append_ok("orders", timed(&[(NOON, "a"), (NOON + 10, "b"), (NOON + 20, "c")])).await;
    client.append_ok("orders", timed(&[(NOON + 5, "late"), (NOON + 30, "d")])).await;
    for (time, found) in [
        (0, (0, NOON)),
        (NOON, (0, NOON)),
        (NOON + 1, (1, NOON + 10)),
        (NOON + 10, (1, NOON + 10)),
        (NOON + 11, (2, NOON + 20)),
        (NOON + 21, (4, NOON + 30)),
        (NOON + 31, (-1, -1)),
        (i64::MAX, (-1, -1)),
    ] {
        assert_eq!(offset_at(&mut client, time).await, found, "NOON + {}", time.wrapping_sub(NOON));
    }
}

#[tokio::test]
async fn a_time_is_found_in_compressed_batches_and_after_a_restart() {
    let (node, mut client) = node_and_client().await;
    client.append_ok("orders", timed(&[(NOON - 10, "old")])).await;
    for codec in Compression::ALL {
        client.append_ok("orders", compressed(codec, &["a", "b"])).await;
    }
    client.append_ok("orders", timed(&[(NOON + 10, "new")])).await;
    for found in [(NOON, 1), (NOON + 1, 11)] {
        assert_eq!(offset_at(&mut client, found.0).await.0, found.1);
    }
    let node = node.restart().await;
    let mut client = Client::connect(&node).await;
    assert_eq!(offset_at(&mut client, NOON + 1).await, (11, NOON + 10));
    assert_eq!(offset_at(&mut client, MAX_TIMESTAMP).await, (11, NOON + 10));
}

#[tokio::test]
async fn leader_epochs_are_fenced() {
    let (_node, mut client) = node_and_client().await;
    assert_eq!(list(&mut client, LATEST, 0).await.0, ErrorCode::None);
    assert_eq!(list(&mut client, LATEST, 1).await.0, ErrorCode::UnknownLeaderEpoch);
}

async fn end_of_epoch(client: &mut Client, current: i32, epoch: i32) -> EpochEndOffset {
    let asked =
        message!(OffsetForLeaderPartition { current_leader_epoch: current, leader_epoch: epoch });
    let topic = message!(OffsetForLeaderTopic { topic: text("orders"), partitions: vec![asked] });
    let request = message!(OffsetForLeaderEpochRequest { topics: vec![topic] });
    client.call(4, &request).await.topics.remove(0).partitions.remove(0)
}

#[tokio::test]
async fn epochs_end_where_their_records_do() {
    let (_node, mut client) = node_and_client().await;
    client.append_ok("orders", batch(&["a", "b"])).await;
    let now = end_of_epoch(&mut client, -1, 0).await;
    assert_eq!((now.error_code, now.leader_epoch, now.end_offset), (0, 0, 2));
    let never = end_of_epoch(&mut client, -1, 5).await;
    assert_eq!((never.error_code, never.leader_epoch, never.end_offset), (0, -1, -1));
    let unknown = end_of_epoch(&mut client, 3, 0).await;
    assert_eq!(unknown.error_code, ErrorCode::UnknownLeaderEpoch.code());
}
