//! What a `read_committed` consumer is told of transactions (KIP-98). No client can write any yet, so they are put into
//! the log of a node that has stopped.

use bytes::Bytes;
use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_protocol::fetch::{AbortedTransaction, FetchRequest, PartitionData};
use ottla_protocol::messages::ListOffsetsRequest;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::record_batch::{ControlRecordType, NewRecord, RecordBatchBuilder};
use ottla_protocol::{
    BrokerId, ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicId,
    TopicPartition, TopicRef, message,
};
use ottla_storage::{AppendOrigin, LeaderAppend, LogManager, LogManagerOptions};

use crate::client::Client;
use crate::deleting_records::delete_records;
use crate::node::Node;
use crate::records::NOON;
use crate::requests::{BY_ID, BY_NAME, fetch, named, text};

const LATEST: i64 = -1;
const MAX_TIMESTAMP: i64 = -3;

fn of(producer: i64, sequence: i32) -> RecordBatchBuilder {
    let (producer, epoch) = (ProducerId(producer), ProducerEpoch(0));
    RecordBatchBuilder::new().transactional().producer(producer, epoch, sequence)
}

fn written_by(producer: i64, time: i64) -> Bytes {
    let mut builder = of(producer, 0);
    let (timestamp, value) = (Timestamp(time), Some(&b"in a transaction"[..]));
    builder.append(&NewRecord { timestamp, value, ..NewRecord::default() });
    builder.build()
}

fn abort(producer: i64) -> Bytes {
    let mut builder = of(producer, -1).control();
    builder.append_control(ControlRecordType::Abort, Timestamp(NOON), &[0; 6]);
    builder.build()
}

/// Offsets 0 and 3 are of a transaction that was aborted at 5, 1 and 4 of one that is open, 2 of none.
async fn write_transactions(node: &Node) {
    let env = Env::os();
    let properties = format!("node.id=1\nlog.dirs={}\n", node.path().display());
    let (config, _) = BrokerConfig::parse(&[&properties], &[]).unwrap();
    let options = LogManagerOptions {
        dirs: vec![node.path().to_owned()],
        node_id: BrokerId(1),
        cluster_id: None,
        config: config.log_manager.clone(),
        max_open_files: 100,
    };
    let logs = LogManager::open(env.clone(), options).await.unwrap();
    let log = logs.log(&TopicPartition::new("orders", 0)).unwrap();
    let mut plain = RecordBatchBuilder::new();
    let (timestamp, value) = (Timestamp(NOON), Some(&b"in none"[..]));
    plain.append(&NewRecord { timestamp, value, ..NewRecord::default() });
    let batches = [
        written_by(7, NOON),
        written_by(8, NOON + 1),
        plain.build(),
        written_by(7, NOON + 2),
        written_by(8, NOON + 3),
        abort(7),
    ];
    for records in batches {
        let (leader_epoch, origin) = (LeaderEpoch(0), AppendOrigin::Coordinator);
        let append = LeaderAppend { leader_epoch, origin, now: Timestamp(NOON) };
        log.append_as_leader(&records, append).unwrap();
    }
    logs.shutdown(-1).await;
}

async fn node_and_client() -> (Node, Client, TopicId) {
    let mut node = Node::start().await;
    let mut client = Client::connect(&node).await;
    let id = client.create_topic("orders", 1).await;
    node.crash().await;
    write_transactions(&node).await;
    let node = Node::start_in(node.dir(), "").await.unwrap();
    let client = Client::connect(&node).await;
    (node, client, id)
}

async fn read(
    client: &mut Client,
    version: i16,
    topic: TopicRef,
    committed: bool,
) -> PartitionData {
    let isolation_level = i8::from(committed);
    let request = FetchRequest { isolation_level, ..fetch(topic, 0, 0) };
    client.fetch(version, &request).await.topics.remove(0).partitions.remove(0)
}

#[tokio::test]
async fn a_fetch_tells_what_was_aborted_to_whom_it_concerns() {
    let (_node, mut client, id) = node_and_client().await;
    for version in 4..=18 {
        let topic = if version >= BY_ID { TopicRef::Id(id) } else { named("orders") };
        let all = read(&mut client, version, topic.clone(), false).await;
        assert_eq!(all.aborted_transactions, None, "version {version}");
        assert_eq!((all.high_watermark.0, all.last_stable_offset.0), (6, 1), "version {version}");
        let committed = read(&mut client, version, topic, true).await;
        let aborted = AbortedTransaction { producer_id: ProducerId(7), first_offset: Offset(0) };
        assert_eq!(committed.aborted_transactions, Some(vec![aborted]), "version {version}");
        assert_eq!(crate::records::read(&committed.records).len(), 1, "version {version}");
        assert!(all.records.len() > committed.records.len(), "version {version}");
    }
}

#[tokio::test]
async fn a_fetch_at_the_last_stable_offset_brings_nothing_and_an_empty_list() {
    let (_node, mut client, _) = node_and_client().await;
    let request = FetchRequest { isolation_level: 1, ..fetch(named("orders"), 0, 1) };
    let data = client.fetch(BY_NAME, &request).await.topics.remove(0).partitions.remove(0);
    assert_eq!((data.error_code, data.records.len()), (ErrorCode::None, 0));
    assert_eq!(data.aborted_transactions, Some(Vec::new()));
}

/// Error and offset.
async fn list(
    client: &mut Client,
    version: i16,
    timestamp: i64,
    isolation: i8,
) -> (ErrorCode, i64) {
    let asked = message!(ListOffsetsPartition { timestamp: timestamp });
    let topic = message!(ListOffsetsTopic { name: text("orders"), partitions: vec![asked] });
    let request = message!(ListOffsetsRequest {
        replica_id: -1,
        isolation_level: isolation,
        topics: vec![topic],
    });
    let found = client.call(version, &request).await.topics.remove(0).partitions.remove(0);
    (ErrorCode::from_wire(found.error_code), found.offset)
}

#[tokio::test]
async fn offsets_for_a_read_committed_consumer_end_at_the_last_stable_offset() {
    let (_node, mut client, _) = node_and_client().await;
    for version in 2..=11 {
        assert_eq!(list(&mut client, version, LATEST, 0).await, (ErrorCode::None, 6));
        assert_eq!(list(&mut client, version, LATEST, 1).await, (ErrorCode::None, 1));
        assert_eq!(list(&mut client, version, NOON + 1, 0).await, (ErrorCode::None, 1));
        assert_eq!(list(&mut client, version, NOON + 1, 1).await, (ErrorCode::None, -1));
        let known = if version >= 7 { ErrorCode::None } else { ErrorCode::UnsupportedVersion };
        let found = if version >= 7 { 4 } else { -1 };
        assert_eq!(list(&mut client, version, MAX_TIMESTAMP, 0).await, (known, found));
        assert_eq!(list(&mut client, version, MAX_TIMESTAMP, 1).await, (known, -1));
    }
}

#[tokio::test]
async fn the_last_stable_offset_does_not_lie_before_the_start_of_the_log() {
    let (_node, mut client, _) = node_and_client().await;
    let deleted = client.call(2, &delete_records("orders", 0, 3)).await;
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, 3);
    assert_eq!(list(&mut client, 11, LATEST, 1).await, (ErrorCode::None, 3));
    let request = FetchRequest { isolation_level: 1, ..fetch(named("orders"), 0, 3) };
    let data = client.fetch(BY_NAME, &request).await.topics.remove(0).partitions.remove(0);
    assert_eq!((data.error_code, data.last_stable_offset.0), (ErrorCode::None, 3));
}
