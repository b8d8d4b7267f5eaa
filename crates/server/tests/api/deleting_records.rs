//! DeleteRecords (KIP-107).

use ottla_protocol::messages::DeleteRecordsRequest;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use ottla_protocol::{ErrorCode, message};

use crate::client::Client;
use crate::disks::small_disk;
use crate::node::Node;
use crate::records::batch;
use crate::requests::text;

/// Stands for the high watermark.
const ALL: i64 = -1;

/// A node with a topic of four records.
async fn node_and_client() -> (Node, Client) {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    for value in ["a", "b", "c", "d"] {
        client.append_ok("orders", batch(&[value])).await;
    }
    (node, client)
}

pub(crate) fn delete_records(topic: &str, partition: i32, offset: i64) -> DeleteRecordsRequest {
    let asked = message!(DeleteRecordsPartition { partition_index: partition, offset: offset });
    let topic = message!(DeleteRecordsTopic { name: text(topic), partitions: vec![asked] });
    message!(DeleteRecordsRequest { topics: vec![topic], timeout_ms: 10_000 })
}

/// The error, and the first offset that is left.
async fn delete(client: &mut Client, topic: &str, partition: i32, offset: i64) -> (ErrorCode, i64) {
    let mut answer = client.call(2, &delete_records(topic, partition, offset)).await;
    let deleted = answer.topics.remove(0).partitions.remove(0);
    (ErrorCode::from_wire(deleted.error_code), deleted.low_watermark)
}

#[tokio::test]
async fn what_was_deleted_cannot_be_read_any_more() {
    let (_node, mut client) = node_and_client().await;
    assert_eq!(delete(&mut client, "orders", 0, 2).await, (ErrorCode::None, 2));
    assert_eq!(client.read("orders", 1).await.error_code, ErrorCode::OffsetOutOfRange);
    let left = client.read("orders", 2).await;
    assert_eq!((left.error_code, left.log_start_offset.0), (ErrorCode::None, 2));
    // Less than what is deleted already is done already.
    assert_eq!(delete(&mut client, "orders", 0, 1).await, (ErrorCode::None, 2));
    assert_eq!(delete(&mut client, "orders", 0, ALL).await, (ErrorCode::None, 4));
    assert_eq!(client.append_ok("orders", batch(&["e"])).await, 4, "offsets go on");
}

#[tokio::test]
async fn what_was_deleted_stays_deleted_when_the_node_dies() {
    let (node, mut client) = node_and_client().await;
    assert_eq!(delete(&mut client, "orders", 0, 3).await, (ErrorCode::None, 3));
    let node = node.crash_and_restart().await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.read("orders", 2).await.error_code, ErrorCode::OffsetOutOfRange);
    assert_eq!(client.read("orders", 3).await.error_code, ErrorCode::None);
    let node = node.restart().await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.read("orders", 2).await.error_code, ErrorCode::OffsetOutOfRange);
}

#[tokio::test]
async fn what_cannot_be_deleted_is_told() {
    let (_node, mut client) = node_and_client().await;
    let compacted = [("cleanup.policy", "compact")];
    client.create_topic_with("compacted", 1, &compacted).await;
    client.find_coordinator("group").await;
    for (topic, partition, offset, error) in [
        ("orders", 0, 5, ErrorCode::OffsetOutOfRange),
        ("orders", 0, -2, ErrorCode::OffsetOutOfRange),
        ("orders", 0, i64::MAX, ErrorCode::OffsetOutOfRange),
        ("orders", 1, 0, ErrorCode::UnknownTopicOrPartition),
        ("missing", 0, 0, ErrorCode::UnknownTopicOrPartition),
        ("compacted", 0, 0, ErrorCode::PolicyViolation),
        ("__consumer_offsets", 0, 0, ErrorCode::InvalidTopicException),
    ] {
        let told = delete(&mut client, topic, partition, offset).await;
        assert_eq!(told, (error, -1), "{topic} {partition} {offset}");
    }
    let both = [("cleanup.policy", "compact,delete")];
    client.create_topic_with("both", 1, &both).await;
    assert_eq!(delete(&mut client, "both", 0, ALL).await, (ErrorCode::None, 0));
    assert_eq!(client.read_values("orders").await.len(), 4, "nothing was deleted");
}

#[tokio::test]
async fn a_deletion_that_the_disk_has_no_room_to_note_is_not_acknowledged() {
    let (node, faults) = small_disk().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    for value in ["a", "b"] {
        client.append_ok("orders", batch(&[value])).await;
    }
    // Producers are refused, but what makes room is done.
    faults.leave_free(node.path(), Some(3 << 20));
    assert_eq!(delete(&mut client, "orders", 0, 1).await, (ErrorCode::None, 1));
    faults.leave_free(node.path(), Some(0));
    let refused = delete(&mut client, "orders", 0, 2).await;
    assert_eq!(refused, (ErrorCode::KafkaStorageError, -1));
    faults.leave_free(node.path(), None);
    assert_eq!(delete(&mut client, "orders", 0, 2).await, (ErrorCode::None, 2));
}
