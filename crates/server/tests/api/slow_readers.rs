//! Consumers that take long, for their own reasons or for the disk's, and what others notice of it: nothing.

use std::sync::Arc;

use ottla_env::{Env, OpenMode};
use ottla_protocol::fetch::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::ListOffsetsRequest;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::{ErrorCode, Offset, message};

use crate::client::Client;
use crate::node::{Node, resident_bytes};
use crate::records::{NOON, batch, values};
use crate::requests::{BY_NAME, fetch, named, produce, text};
use crate::slow_disk::{Gate, SlowDisk};

/// More consumers than the node of these tests has threads for its connections.
const CONSUMERS: usize = 4;
const MIB: usize = 1 << 20;
const SMALL: usize = 30_000;
const LARGE: usize = 300_000;

/// A topic on a disk that can be made to wait: a batch that is sent by copying, one that is too large for that, and so much
/// after them that they do not count as written a moment ago.
async fn node_with_history(properties: &str) -> (Node, Arc<Gate>) {
    let (disk, gate) = SlowDisk::of("history-0");
    let node = Node::start_on(disk, properties).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("history", 1).await;
    client.create_topic("orders", 1).await;
    client.append_ok("history", batch(&[&"x".repeat(SMALL)])).await;
    client.append_ok("history", batch(&[&"x".repeat(LARGE)])).await;
    fill(&mut client, "history").await;
    (node, gate)
}

async fn assert_served(node: &Node) {
    let mut client = Client::connect(node).await;
    let offset = client.append_ok("orders", batch(&["now"])).await;
    let read = client.read("orders", offset).await;
    assert_eq!(values(&read.records), ["now"]);
}

#[tokio::test]
async fn consumers_that_wait_for_the_disk_keep_nobody_else_waiting() {
    let (node, gate) = node_with_history("").await;
    // Nothing is in memory; of a small batch only the header is; and of a large one.
    for (cold_from, offset) in [(0, 0), (8_000, 0), (40_000, 1)] {
        gate.shut_from(cold_from);
        let mut request = fetch(named("history"), 0, offset);
        request.topics[0].partitions[0].partition_max_bytes = 1;
        let mut consumers = Vec::new();
        for _ in 0..CONSUMERS {
            let mut consumer = Client::connect(&node).await;
            let sent = consumer.send_fetch(BY_NAME, &request).await;
            consumers.push((consumer, sent));
        }
        gate.wait_for_readers(1).await;
        assert_served(&node).await;
        gate.wait_for_readers(CONSUMERS).await;
        gate.open();
        for (mut consumer, sent) in consumers {
            let answer = consumer.fetch_answer(BY_NAME, sent).await;
            let read = values(&answer.topics[0].partitions[0].records);
            assert_eq!((read.len(), read[0].len()), (1, [SMALL, LARGE][offset as usize]));
        }
    }
}

#[tokio::test]
async fn a_search_by_time_that_waits_for_the_disk_keeps_nobody_else_waiting() {
    let (node, gate) = node_with_history("").await;
    gate.shut_from(0);
    let partition = message!(ListOffsetsPartition { partition_index: 0, timestamp: NOON });
    let topic = message!(ListOffsetsTopic { name: text("history"), partitions: vec![partition] });
    let request = message!(ListOffsetsRequest { replica_id: -1, topics: vec![topic] });
    let mut clients = Vec::new();
    for _ in 0..CONSUMERS {
        let mut client = Client::connect(&node).await;
        let sent = client.send(9, &request).await;
        clients.push((client, sent));
    }
    gate.wait_for_readers(1).await;
    assert_served(&node).await;
    gate.open();
    for (mut client, sent) in clients {
        let answer = client.answer::<ListOffsetsRequest>(9, sent).await;
        assert_eq!(answer.topics[0].partitions[0].offset, 0);
    }
}

#[tokio::test]
async fn no_more_reads_wait_for_the_disk_than_there_are_threads_for() {
    let (node, gate) = node_with_history("fetch.cold.read.threads=2\n").await;
    gate.shut_from(0);
    let mut consumers = Vec::new();
    for _ in 0..CONSUMERS {
        let mut consumer = Client::connect(&node).await;
        let sent = consumer.send_fetch(BY_NAME, &fetch(named("history"), 0, 0)).await;
        consumers.push((consumer, sent));
    }
    gate.wait_for_readers(2).await;
    // All four have been read off their sockets when a later request has.
    assert_served(&node).await;
    assert_eq!(gate.readers(), 2);
    gate.open();
    for (mut consumer, sent) in consumers {
        consumer.fetch_answer(BY_NAME, sent).await;
    }
}

/// A Fetch request for all of partition 0.
fn fetch_all(topic: &str) -> FetchRequest {
    let mut request = fetch(named(topic), 0, 0);
    request.max_bytes = i32::MAX;
    request.topics[0].partitions[0].partition_max_bytes = i32::MAX;
    request
}

/// More in partition 0 of a topic than two sockets hold, in batches of nearly 1 MiB.
async fn fill(client: &mut Client, topic: &str) -> Vec<String> {
    let values: Vec<String> =
        (0..16_u8).map(|i| char::from(b'a' + i).to_string().repeat(MIB - 1000)).collect();
    for value in &values {
        client.append_ok(topic, batch(&[value])).await;
    }
    values
}

#[tokio::test]
async fn who_does_not_take_what_was_read_for_him_holds_no_thread() {
    let (disk, gate) = SlowDisk::of("history-0");
    let properties = "fetch.cold.read.threads=1\nsocket.send.buffer.bytes=65536\n";
    let node = Node::start_on(disk, properties).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("history", 1).await;
    let written = fill(&mut client, "history").await;
    // The records are not in memory, and the first piece of them is more than the sockets hold.
    gate.shut_from(8_000);
    let mut lazy = Client::connect(&node).await;
    let unread = lazy.send_fetch(BY_NAME, &fetch_all("history")).await;
    gate.wait_for_readers(1).await;
    gate.open();
    lazy.wait_for_bytes().await;
    gate.shut_from(0);
    let mut eager = Client::connect(&node).await;
    let sent = eager.send_fetch(BY_NAME, &fetch(named("history"), 0, 0)).await;
    gate.wait_for_readers(1).await;
    gate.open();
    let answer = eager.fetch_answer(BY_NAME, sent).await;
    assert_eq!(values(&answer.topics[0].partitions[0].records), written[..1]);
    let answer = lazy.fetch_answer(BY_NAME, unread).await;
    assert_eq!(values(&answer.topics[0].partitions[0].records), written);
}

#[tokio::test]
async fn a_slow_consumer_finishes_a_topic_that_was_deleted_meanwhile() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    let configs = [("segment.bytes", "3000000"), ("file.delete.delay.ms", "0")];
    client.create_topic_with("orders", 1, &configs).await;
    let written = fill(&mut client, "orders").await;
    let mut slow = Client::connect(&node).await;
    let sent = slow.send_fetch(BY_NAME, &fetch_all("orders")).await;
    slow.wait_for_bytes().await;
    client.delete_topic("orders").await;
    let disk = Env::os().disk;
    let is_left = || {
        let entries = disk.read_dir(node.path()).unwrap();
        entries.into_iter().any(|entry| entry.name.starts_with("orders"))
    };
    while is_left() {
        client.assert_served().await;
    }
    let answer = slow.fetch_answer(BY_NAME, sent).await;
    assert_eq!(values(&answer.topics[0].partitions[0].records), written);
}

#[tokio::test]
async fn a_segment_cut_off_under_a_consumer_ends_its_connection() {
    for sendfile in ["on", "off"] {
        let node = Node::start_with(&format!("fetch.sendfile={sendfile}\n")).await;
        let mut client = Client::connect(&node).await;
        client.create_topic("orders", 1).await;
        fill(&mut client, "orders").await;
        let mut slow = Client::connect(&node).await;
        slow.send_fetch(BY_NAME, &fetch_all("orders")).await;
        slow.wait_for_bytes().await;
        let segment = node.path().join("orders-0/00000000000000000000.log");
        let file = Env::os().disk.open(&segment, OpenMode::ReadWrite).unwrap();
        file.set_len(100_000).unwrap();
        slow.assert_cut_short().await;
        client.assert_served().await;
    }
}

/// What is read for one system call is bounded, however many partitions an answer has.
#[tokio::test]
async fn slow_consumers_of_many_partitions_hold_little_memory() {
    const PARTITIONS: i32 = 128;
    const SLOW: usize = 32;
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("wide", PARTITIONS).await;
    let records = batch(&[&"x".repeat(60_000)]);
    for partition in 0..PARTITIONS {
        let answer =
            client.produce(BY_NAME, &produce(named("wide"), partition, records.clone())).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::None);
    }
    let wanted = |partition| FetchPartition {
        partition,
        fetch_offset: Offset(0),
        partition_max_bytes: i32::MAX,
        ..FetchPartition::default()
    };
    let partitions: Vec<_> = (0..PARTITIONS).map(wanted).collect();
    let all = records.len() * partitions.len() * SLOW;
    let topics = vec![FetchTopic { topic: named("wide"), partitions }];
    let request = FetchRequest { max_bytes: i32::MAX, topics, ..FetchRequest::default() };
    let before = resident_bytes();
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut consumer = Client::connect(&node).await;
        consumer.send_fetch(BY_NAME, &request).await;
        consumer.wait_for_bytes().await;
        slow.push(consumer);
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < all as u64 / 3, "{SLOW} slow consumers hold {} MiB", grown / MIB as u64);
}
