//! Record batches that must not get into a log: what the producer is told, and that the log stays as it was.

use bytes::Bytes;
use ottla_protocol::ErrorCode;
use ottla_protocol::compression::Compression;
use ottla_protocol::produce::ProduceRequest;

use crate::client::Client;
use crate::node::Node;
use crate::records::{self, at, batch, forged};
use crate::requests::{BY_NAME, named, produce};

/// A node with a topic, and a client.
async fn node_and_client() -> (Node, Client) {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    client.append_ok("orders", batch(&["honest"])).await;
    (node, client)
}

/// Appends `records` and expects to be refused; the log must hold what it held.
async fn assert_refused(client: &mut Client, records: Bytes, expected: ErrorCode) {
    let answer = client.append("orders", 0, records).await;
    assert_eq!(answer.error_code, expected, "{:?}", answer.error_message);
    assert_eq!(answer.base_offset.0, -1);
    let reason = answer.error_message.expect("a refusal says why");
    assert!(!reason.is_empty());
    assert_eq!(client.read_values("orders").await, ["honest"]);
}

#[tokio::test]
async fn a_wrong_checksum_is_a_corrupt_message() {
    let (_node, mut client) = node_and_client().await;
    let good = batch(&["a", "b"]);
    for place in [at::CRC, at::ATTRIBUTES, at::COUNT, at::RECORDS, good.len() - 1] {
        let mut bad = good.to_vec();
        bad[place] ^= 0x40;
        assert_refused(&mut client, bad.into(), ErrorCode::CorruptMessage).await;
    }
}

#[tokio::test]
async fn counts_that_lie_are_invalid_records() {
    let (_node, mut client) = node_and_client().await;
    let good = batch(&["a", "b"]);
    for count in [0, 1, 3, -1, i32::MIN, i32::MAX] {
        let bad = forged(&good, at::COUNT, &i32::to_be_bytes(count));
        assert_refused(&mut client, bad, ErrorCode::InvalidRecord).await;
        // The same lie told twice.
        let delta = count.wrapping_sub(1).to_be_bytes();
        let bad =
            forged(&forged(&good, at::COUNT, &count.to_be_bytes()), at::LAST_OFFSET_DELTA, &delta);
        assert_refused(&mut client, bad, ErrorCode::InvalidRecord).await;
    }
    for delta in [0, 2, -1, i32::MAX] {
        let bad = forged(&good, at::LAST_OFFSET_DELTA, &i32::to_be_bytes(delta));
        assert_refused(&mut client, bad, ErrorCode::InvalidRecord).await;
    }
}

#[tokio::test]
async fn lengths_that_lie_are_corrupt_messages() {
    let (_node, mut client) = node_and_client().await;
    let good = batch(&["a", "b"]);
    for length in [-1, 0, 1, i32::MIN, i32::MAX, good.len() as i32, good.len() as i32 - 13] {
        let mut bad = good.to_vec();
        bad[at::LENGTH..at::MAGIC - 4].copy_from_slice(&length.to_be_bytes());
        assert_refused(&mut client, bad.into(), ErrorCode::CorruptMessage).await;
    }
    for cut in [1, 16, 17, 60, 61, good.len() - 1] {
        assert_refused(&mut client, good.slice(..cut), ErrorCode::CorruptMessage).await;
    }
}

#[tokio::test]
async fn records_whose_own_lengths_lie_are_invalid_records() {
    let (_node, mut client) = node_and_client().await;
    let good = batch(&["a", "b"]);
    for first_byte in [0x00, 0x01, 0x02, 0x7f] {
        let bad = forged(&good, at::RECORDS, &[first_byte]);
        assert_refused(&mut client, bad, ErrorCode::InvalidRecord).await;
    }
    let endless = forged(&good, at::RECORDS, &[0xff; 10]);
    assert_refused(&mut client, endless, ErrorCode::InvalidRecord).await;
}

#[tokio::test]
async fn message_formats_0_and_1_are_unsupported() {
    let (_node, mut client) = node_and_client().await;
    // An old message: offset, size, checksum, magic, attributes, key and value.
    let mut old = vec![0; 12 + 4];
    old.extend([0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, b'x']);
    let size = old.len() as u32 - 12;
    old[8..12].copy_from_slice(&size.to_be_bytes());
    for magic in [0, 1] {
        old[at::MAGIC] = magic;
        // KIP-724: formats 0 and 1 are no more.
        let answer = client.append("orders", 0, old.clone().into()).await;
        let expected = [ErrorCode::UnsupportedForMessageFormat, ErrorCode::InvalidRecord];
        assert!(expected.contains(&answer.error_code), "{}", answer.error_code);
    }
    for magic in [3, 0x7f, 0xff] {
        let bad = forged(&batch(&["a"]), at::MAGIC, &[magic]);
        let answer = client.append("orders", 0, bad).await;
        assert_ne!(answer.error_code, ErrorCode::None);
    }
    assert_eq!(client.read_values("orders").await, ["honest"]);
}

#[tokio::test]
async fn what_a_producer_may_not_send_is_refused() {
    let (_node, mut client) = node_and_client().await;
    let good = batch(&["a"]);
    const CONTROL: u8 = 0x20;
    let control = forged(&good, at::ATTRIBUTES + 1, &[CONTROL]);
    assert_refused(&mut client, control, ErrorCode::InvalidRecord).await;
    let two = [batch(&["a"]), batch(&["b"])].concat();
    assert_refused(&mut client, two.into(), ErrorCode::InvalidRecord).await;
    assert_refused(&mut client, Bytes::new(), ErrorCode::InvalidRecord).await;
    let elsewhere = forged(&good, at::BASE_OFFSET, &7_i64.to_be_bytes());
    assert_refused(&mut client, elsewhere, ErrorCode::InvalidRecord).await;
    let unknown_codec = forged(&good, at::ATTRIBUTES + 1, &[7]);
    let answer = client.append("orders", 0, unknown_codec).await;
    assert_ne!(answer.error_code, ErrorCode::None);
    let sequence_without_number = records::sequenced((5, 0), -1, &["a"]);
    assert_refused(&mut client, sequence_without_number, ErrorCode::InvalidRecord).await;
}

#[tokio::test]
async fn zstd_is_for_clients_that_know_it() {
    let (_node, mut client) = node_and_client().await;
    let zstd = records::compressed(Compression::Zstd, &["a"]);
    for (version, expected) in [(6, ErrorCode::UnsupportedCompressionType), (7, ErrorCode::None)] {
        let request = produce(named("orders"), 0, zstd.clone());
        let answer = client.produce(version, &request).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, expected, "version {version}");
    }
}

#[tokio::test]
async fn records_of_null_are_refused() {
    let (_node, mut client) = node_and_client().await;
    let mut request = produce(named("orders"), 0, Bytes::new());
    request.topics[0].partitions[0].records = None;
    let answer = client.produce(BY_NAME, &request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::InvalidRecord);
}

#[tokio::test]
async fn garbage_that_claims_to_be_compressed_is_refused() {
    let (_node, mut client) = node_and_client().await;
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let bad = forged(&batch(&["not compressed at all"]), at::ATTRIBUTES + 1, &[codec.id()]);
        let answer = client.append("orders", 0, bad).await;
        let expected = [ErrorCode::CorruptMessage, ErrorCode::InvalidRecord];
        assert!(expected.contains(&answer.error_code), "{codec}: {}", answer.error_code);
        // Cut off in the middle, with everything else in order.
        let whole = records::compressed(codec, &["a", "b", "c"]);
        let cut = whole.slice(..whole.len() - 4);
        let length = (cut.len() as i32 - 12).to_be_bytes();
        let answer = client.append("orders", 0, forged(&cut, at::LENGTH, &length)).await;
        assert!(expected.contains(&answer.error_code), "{codec}: {}", answer.error_code);
    }
    assert_eq!(client.read_values("orders").await, ["honest"]);
}

/// They are decompressed up to a hundredfold of `max.message.bytes`, and no further. Snappy is not among them: it makes of
/// nothing more than a 22nd.
#[tokio::test]
async fn decompression_bombs_are_refused_before_they_have_gone_off() {
    let (_node, mut client) = node_and_client().await;
    client.create_topic_with("small", 1, &[("max.message.bytes", "10000")]).await;
    let huge = "0".repeat(2 << 20);
    for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let bomb = records::compressed(codec, &[&huge]);
        assert!(bomb.len() <= 10_000, "{codec}: {} bytes", bomb.len());
        let answer = client.append("small", 0, bomb).await;
        assert_eq!(answer.error_code, ErrorCode::MessageTooLarge, "{codec}");
        let told = answer.error_message.unwrap();
        assert!(told.contains("larger than 1000000 bytes"), "{codec}: {told}");
    }
    assert_eq!(client.read_values("small").await, [""; 0]);
}

#[tokio::test]
async fn a_batch_over_max_message_bytes_is_too_large() {
    let (_node, mut client) = node_and_client().await;
    let large = "x".repeat(1 << 20);
    assert_refused(&mut client, batch(&[&large]), ErrorCode::MessageTooLarge).await;
    client.create_topic_with("tight", 1, &[("max.message.bytes", "100")]).await;
    let (fits, over) = (batch(&[&"x".repeat(32)]), batch(&[&"x".repeat(33)]));
    assert_eq!((fits.len(), over.len()), (100, 101));
    assert_eq!(client.append("tight", 0, fits).await.error_code, ErrorCode::None);
    assert_eq!(client.append("tight", 0, over).await.error_code, ErrorCode::MessageTooLarge);
    // What compresses well enough is not too large.
    let packed = records::compressed(Compression::Zstd, &[&"x".repeat(2000)]);
    assert_eq!(client.append("tight", 0, packed).await.error_code, ErrorCode::None);
}

#[tokio::test]
async fn acks_other_than_minus_1_0_and_1_are_invalid() {
    let (_node, mut client) = node_and_client().await;
    for acks in [2, -2, i16::MAX, i16::MIN] {
        let request = ProduceRequest { acks, ..produce(named("orders"), 0, batch(&["x"])) };
        let answer = client.produce(BY_NAME, &request).await;
        let told = answer.topics[0].partitions[0].error_code;
        assert_eq!(told, ErrorCode::InvalidRequiredAcks);
    }
    assert_eq!(client.read_values("orders").await, ["honest"]);
}

#[tokio::test]
async fn acks_0_is_not_answered_and_an_error_closes_the_connection() {
    let (node, mut client) = node_and_client().await;
    let silent = ProduceRequest { acks: 0, ..produce(named("orders"), 0, batch(&["silent"])) };
    client.send_produce(BY_NAME, &silent).await;
    // The next answer is that of the next request.
    assert_eq!(client.read_values("orders").await, ["honest", "silent"]);
    let missing = ProduceRequest { acks: 0, ..produce(named("missing"), 0, batch(&["lost"])) };
    client.send_produce(BY_NAME, &missing).await;
    client.assert_closed().await;
    let mut other = Client::connect(&node).await;
    assert_eq!(other.read_values("orders").await, ["honest", "silent"]);
}

#[tokio::test]
async fn one_bad_partition_does_not_hurt_its_neighbours() {
    let (_node, mut client) = node_and_client().await;
    let mut request = produce(named("orders"), 0, batch(&["good"]));
    let mut bad = request.topics[0].clone();
    bad.topic = named("missing");
    request.topics.push(bad);
    let mut corrupt = request.topics[0].partitions[0].clone();
    corrupt.index = 1;
    request.topics[0].partitions.push(corrupt);
    let answer = client.produce(BY_NAME, &request).await;
    let told: Vec<_> =
        answer.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(told, [ErrorCode::None, unknown, unknown]);
    assert_eq!(client.read_values("orders").await, ["honest", "good"]);
}
