//! Bytes that are no request: the connection that sent them ends, and no other notices.

use bytes::Bytes;
use ottla_env::Env;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::{
    DescribeConfigsRequest, JoinGroupRequest, MetadataRequest, OffsetFetchRequest,
};
use ottla_protocol::{ApiKey, ErrorCode, encode_request, message};

use crate::client::Client;
use crate::node::{Node, resident_bytes};
use crate::records;
use crate::requests::{BY_NAME, fetch, named, produce, text};

/// What a node may use for the sake of those who only pretend, when they pretend to need many times more. The process
/// runs other tests as well, so this is no narrow bound.
const AT_EASE: u64 = 1 << 30;

/// A node, and a client that looks on while others misbehave.
async fn node_and_witness() -> (Node, Client) {
    let node = Node::start().await;
    let mut witness = Client::connect(&node).await;
    witness.assert_served().await;
    (node, witness)
}

/// A request header of version 1 without a client id.
fn header(api_key: i16, version: i16) -> Vec<u8> {
    let correlation_id = 7i32;
    let mut header = [api_key.to_be_bytes(), version.to_be_bytes()].concat();
    header.extend(correlation_id.to_be_bytes());
    header.extend((-1i16).to_be_bytes());
    header
}

/// Fewer than `limit` bytes of anything.
fn random_bytes(limit: u64) -> Vec<u8> {
    let rng = Env::os().rng;
    (0..rng.next_u64() % limit).map(|_| rng.next_u64() as u8).collect()
}

/// A whole Produce request, length and all.
async fn produce_frame(client: &mut Client) -> Bytes {
    let request = produce(named("orders"), 0, records::batch(&["a", "b"]));
    request.encode(&client.header(ApiKey::Produce, BY_NAME)).unwrap().into_bytes()
}

#[tokio::test]
async fn a_frame_cut_short_at_any_place_ends_its_connection_alone() {
    let (node, mut witness) = node_and_witness().await;
    witness.create_topic("orders", 1).await;
    let frame = produce_frame(&mut witness).await;
    for cut in 1..frame.len() {
        let mut client = Client::connect(&node).await;
        client.send_bytes(&frame[..cut]).await;
        client.finish_sending().await;
        client.assert_closed().await;
    }
    assert_eq!(witness.read_values("orders").await, [""; 0]);
    witness.assert_served().await;
}

#[tokio::test]
async fn a_body_that_ends_too_early_ends_its_connection_alone() {
    let (node, mut witness) = node_and_witness().await;
    witness.create_topic("orders", 1).await;
    let frame = produce_frame(&mut witness).await;
    let header = 10 + "api-test".len() + 1;
    for cut in header..frame.len() - 4 {
        let mut client = Client::connect(&node).await;
        client.send_frame(&frame[4..4 + cut]).await;
        client.assert_closed().await;
    }
    assert_eq!(witness.read_values("orders").await, [""; 0]);
    witness.assert_served().await;
}

#[tokio::test]
async fn bytes_behind_a_request_are_ignored_as_kafka_does() {
    let (node, mut witness) = node_and_witness().await;
    witness.create_topic("orders", 1).await;
    let mut client = Client::connect(&node).await;
    let frame = produce_frame(&mut client).await;
    client.send_frame(&[&frame[4..], &[1, 2, 3]].concat()).await;
    let appended = client.produce_answer(BY_NAME, 1).await;
    assert_eq!(appended.topics[0].partitions[0].error_code, ErrorCode::None);
    client.assert_served().await;
}

#[tokio::test]
async fn a_length_that_no_request_has_ends_the_connection_at_once() {
    let (node, mut witness) = node_and_witness().await;
    for length in [-1, i32::MIN, i32::MAX, (100 << 20) + 1] {
        let mut client = Client::connect(&node).await;
        client.send_bytes(&length.to_be_bytes()).await;
        client.assert_closed().await;
    }
    for too_short_for_a_header in 0..8 {
        let mut client = Client::connect(&node).await;
        client.send_frame(&vec![0; too_short_for_a_header]).await;
        client.assert_closed().await;
    }
    witness.assert_served().await;
}

#[tokio::test]
async fn a_length_alone_costs_no_memory() {
    let (node, mut witness) = node_and_witness().await;
    let before = resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = Client::connect(&node).await;
        client.send_bytes(&(100i32 << 20).to_be_bytes()).await;
        client.send_bytes(b"and no more").await;
        clients.push(client);
    }
    witness.assert_served().await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < AT_EASE, "50 announcements of 100 MiB cost {grown} bytes");
}

#[tokio::test]
async fn random_frames_end_their_connections_alone() {
    let (node, mut witness) = node_and_witness().await;
    for _ in 0..200 {
        let mut client = Client::connect(&node).await;
        client.send_frame(&random_bytes(300)).await;
        client.finish_sending().await;
        // By chance the bytes may be a request; then there is an answer first.
        while client.receive().await.is_some() {}
    }
    witness.assert_served().await;
}

#[tokio::test]
async fn random_bodies_behind_every_header_end_their_connections_alone() {
    let (node, mut witness) = node_and_witness().await;
    for &api in ApiKey::ALL {
        let Some(served) = api.served_versions() else { continue };
        for version in served.min..=served.max {
            let mut client = Client::connect(&node).await;
            let body = random_bytes(200);
            client.send_frame(&[header(api.key(), version), vec![0], body].concat()).await;
            client.finish_sending().await;
            while client.receive().await.is_some() {}
        }
    }
    witness.assert_served().await;
}

#[tokio::test]
async fn apis_and_versions_that_are_not_served_end_the_connection() {
    let (node, mut witness) = node_and_witness().await;
    let mut refused: Vec<(i16, i16)> = vec![(-1, 0), (4, 0), (95, 0), (i16::MAX, 0), (i16::MIN, 3)];
    for &api in ApiKey::ALL {
        match api.served_versions() {
            None => refused.push((api.key(), 0)),
            Some(_) if api == ApiKey::ApiVersions => {}
            Some(served) => refused.extend(
                [-1, served.min - 1, served.max + 1, i16::MAX].map(|version| (api.key(), version)),
            ),
        }
    }
    for (api_key, version) in refused {
        let mut client = Client::connect(&node).await;
        client.send_frame(&header(api_key, version)).await;
        client.assert_closed().await;
    }
    witness.assert_served().await;
}

#[tokio::test]
async fn counts_and_lengths_beyond_the_frame_are_refused_before_they_cost_anything() {
    let (node, mut witness) = node_and_witness().await;
    let before = resident_bytes();
    let large = i32::MAX.to_be_bytes();
    let varint = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let frames = [
        // Metadata 1: topics.
        [header(3, 1), large.to_vec()].concat(),
        // Metadata 1: one topic whose name is longer than the frame.
        [header(3, 1), vec![0, 0, 0, 1, 0x7f, 0xff]].concat(),
        // Metadata 1: a count below the null's.
        [header(3, 1), (-2i32).to_be_bytes().to_vec()].concat(),
        // Metadata 12: topics, compact.
        [header(3, 12), vec![0], varint.to_vec()].concat(),
        // Metadata 12: tagged fields of the header.
        [header(3, 12), varint.to_vec()].concat(),
        // Metadata 12: a varint without an end.
        [header(3, 12), vec![0xff; 20]].concat(),
        // Produce 3: topics.
        [header(0, 3), vec![0xff, 0xff, 0, 1, 0, 0, 0, 0], large.to_vec()].concat(),
        // Produce 9: topics, compact.
        [header(0, 9), vec![0, 0, 0, 1, 0, 0, 0, 0], varint.to_vec()].concat(),
        // Fetch 4: topics.
        [header(1, 4), vec![0xff; 4], vec![0; 13], large.to_vec()].concat(),
        // JoinGroup 0: a group whose name has a negative length.
        [header(11, 0), (-2i16).to_be_bytes().to_vec()].concat(),
    ];
    for (number, frame) in frames.iter().enumerate() {
        let mut client = Client::connect(&node).await;
        client.send_frame(frame).await;
        assert_eq!(client.receive().await, None, "frame {number}");
    }
    witness.assert_served().await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < AT_EASE, "absurd counts cost {grown} bytes");
}

#[tokio::test]
async fn honest_requests_arrive_whole_however_they_are_cut() {
    let (node, mut witness) = node_and_witness().await;
    witness.create_topic("orders", 1).await;
    let mut client = Client::connect(&node).await;
    let frame = produce_frame(&mut client).await;
    for byte in &frame {
        client.send_bytes(&[*byte]).await;
    }
    let appended = client.produce_answer(BY_NAME, 1).await;
    assert_eq!(appended.topics[0].partitions[0].base_offset.0, 0);
    // Two requests and a half in one write, then the rest.
    let frames = [produce_frame(&mut client).await, produce_frame(&mut client).await].concat();
    let third = produce_frame(&mut client).await;
    client.send_bytes(&[&frames, &third[..third.len() / 2]].concat()).await;
    for (correlation_id, offset) in [(2, 2), (3, 4)] {
        let appended = client.produce_answer(BY_NAME, correlation_id).await;
        assert_eq!(appended.topics[0].partitions[0].base_offset.0, offset);
    }
    client.send_bytes(&third[third.len() / 2..]).await;
    client.produce_answer(BY_NAME, 4).await;
    assert_eq!(witness.read_values("orders").await.len(), 8);
}

#[tokio::test]
async fn many_connections_with_half_a_request_leave_the_node_at_ease() {
    let (node, mut witness) = node_and_witness().await;
    let header = witness.header(ApiKey::Metadata, 9);
    let frame = encode_request(&header, &MetadataRequest::default()).unwrap().into_bytes();
    let mut clients = Vec::new();
    for _ in 0..300 {
        let mut client = Client::connect(&node).await;
        client.send_bytes(&frame[..frame.len() - 1]).await;
        clients.push(client);
    }
    witness.assert_served().await;
    node.stop().await;
    for client in &mut clients {
        client.assert_closed().await;
    }
}

#[tokio::test]
async fn a_large_honest_request_is_answered() {
    let (node, _witness) = node_and_witness().await;
    let mut client = Client::connect(&node).await;
    client.find_coordinator("group").await;
    let protocols = (0..60_000).map(|number| {
        message!(JoinGroupRequestProtocol { name: text(&format!("protocol-{number}")) })
    });
    let request = message!(JoinGroupRequest {
        group_id: text("group"),
        session_timeout_ms: 30_000,
        protocol_type: text("consumer"),
        protocols: protocols.collect(),
    });
    assert_eq!(client.call(0, &request).await.error_code, 0);
    let nothing = message!(OffsetFetchRequest { topics: Some(Vec::new()) });
    client.call(5, &nothing).await;
    client.call(4, &DescribeConfigsRequest::default()).await;
    let answer = client.fetch(BY_NAME, &fetch(named(&"n".repeat(30_000)), 0, 0)).await;
    assert_ne!(answer.topics[0].partitions[0].error_code.code(), 0);
}
