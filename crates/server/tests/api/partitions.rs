//! Who leads partitions, who has them, who writes to them, and who agrees on all that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use ottla_client::{Admin, Client as OttlaClient, ClientError, ConnectionOptions, ElectionType};
use ottla_env::Env;
use ottla_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use ottla_protocol::messages::describe_producers_request::TopicRequest;
use ottla_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use ottla_protocol::messages::elect_leaders_request::TopicPartitions;
use ottla_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use ottla_protocol::messages::{
    AlterPartitionReassignmentsRequest, DescribeProducersRequest, DescribeQuorumRequest,
    ElectLeadersRequest, ListPartitionReassignmentsRequest,
};
use ottla_protocol::{BrokerId, ErrorCode, ProducerId, TopicPartition, format_uuid, message};

use crate::client::Client;
use crate::node::{Node, PATIENCE};
use crate::records::{batch, sequenced};
use crate::requests::text;

/// The topic whose only partition is the log of the quorum.
pub(crate) const METADATA: &str = "__cluster_metadata";

pub(crate) fn producers(topic: &str, partition: i32) -> DescribeProducersRequest {
    let topic = message!(TopicRequest { name: text(topic), partition_indexes: vec![partition] });
    message!(DescribeProducersRequest { topics: vec![topic] })
}

pub(crate) fn quorum(topic: &str, partition: i32) -> DescribeQuorumRequest {
    let partition = message!(PartitionData { partition_index: partition });
    let topic = message!(TopicData { topic_name: text(topic), partitions: vec![partition] });
    message!(DescribeQuorumRequest { topics: vec![topic] })
}

pub(crate) fn elect(election: i8, partitions: Option<&[(&str, i32)]>) -> ElectLeadersRequest {
    let topics = partitions.map(|partitions| {
        let topics = partitions.iter().map(|(topic, partition)| {
            message!(TopicPartitions { topic: text(topic), partitions: vec![*partition] })
        });
        topics.collect()
    });
    message!(ElectLeadersRequest {
        election_type: election,
        topic_partitions: topics,
        timeout_ms: 1000,
    })
}

pub(crate) fn reassign(
    topic: &str,
    partition: i32,
    replicas: Option<&[i32]>,
) -> AlterPartitionReassignmentsRequest {
    let partition = message!(ReassignablePartition {
        partition_index: partition,
        replicas: replicas.map(<[i32]>::to_vec),
    });
    let topic = message!(ReassignableTopic { name: text(topic), partitions: vec![partition] });
    message!(AlterPartitionReassignmentsRequest { topics: vec![topic], timeout_ms: 1000 })
}

pub(crate) fn reassigning(partition: Option<(&str, i32)>) -> ListPartitionReassignmentsRequest {
    let topics = partition.map(|(topic, partition)| {
        vec![message!(ListPartitionReassignmentsTopics {
            name: text(topic),
            partition_indexes: vec![partition],
        })]
    });
    message!(ListPartitionReassignmentsRequest { topics: topics, timeout_ms: 1000 })
}

pub(crate) async fn admin(node: &Node) -> Admin {
    let servers = vec![node.address().to_string()];
    let client = OttlaClient::connect(&Env::os(), servers, ConnectionOptions::default()).await;
    Admin::new(client.unwrap(), PATIENCE)
}

/// The code that a call was refused with.
fn refusal<T>(answer: &Result<T, ClientError>) -> Option<ErrorCode> {
    answer.as_ref().err().and_then(ClientError::code)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_each_producer_is_told_and_survives_a_crash() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    client.append_ok("orders", batch(&["of nobody"])).await;
    client.append_ok("orders", sequenced((9, 0), 0, &["a", "b"])).await;
    client.append_ok("orders", sequenced((7, 2), 5, &["c"])).await;
    client.append_ok("orders", sequenced((9, 0), 2, &["d"])).await;
    let node = node.crash_and_restart().await;
    let orders = TopicPartition::new("orders", 0);
    let told = admin(&node).await.describe_producers(std::slice::from_ref(&orders)).await.unwrap();
    let told = told[&orders].as_ref().unwrap().iter();
    let told: Vec<_> =
        told.map(|it| (it.producer_id, it.producer_epoch, it.last_sequence)).collect();
    assert_eq!(told, [(ProducerId(7), 2, 5), (ProducerId(9), 0, 2)]);
}

#[tokio::test]
async fn producers_of_what_is_not_there_are_refused() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let cases = [
        ("orders", 1, unknown),
        ("orders", -1, unknown),
        ("missing", 0, unknown),
        ("no name", 0, ErrorCode::InvalidTopicException),
        ("", 0, ErrorCode::InvalidTopicException),
    ];
    for (topic, partition, expected) in cases {
        let answer = client.call(0, &producers(topic, partition)).await;
        let refused = &answer.topics[0].partitions[0];
        assert_eq!(ErrorCode::from_wire(refused.error_code), expected, "{topic}-{partition}");
        assert!(refused.error_message.as_ref().is_some_and(|words| !words.is_empty()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quorum_is_told_with_its_directory_and_address() {
    let node = Node::start().await;
    let admin = admin(&node).await;
    let before = admin.describe_quorum().await.unwrap();
    assert_eq!((before.leader, before.voters.len(), before.observers.len()), (BrokerId(1), 1, 0));
    let port = node.address().port();
    let listener = ("PLAINTEXT".to_owned(), "127.0.0.1".to_owned(), port);
    assert_eq!(before.nodes, BTreeMap::from([(BrokerId(1), vec![listener])]));
    assert!(!before.voters[0].directory_id.is_zero());
    Client::connect(&node).await.create_topic("orders", 1).await;
    let after = admin.describe_quorum().await.unwrap();
    assert!(after.high_watermark > before.high_watermark, "what was decided is in the log");
    assert_eq!(after.leader_epoch, before.leader_epoch);
    let node = node.restart().await;
    let restarted = self::admin(&node).await.describe_quorum().await.unwrap();
    assert!(restarted.leader_epoch > before.leader_epoch);
    assert_eq!(restarted.voters[0].directory_id, before.voters[0].directory_id);
}

#[tokio::test]
async fn a_directory_of_the_metadata_log_alone_has_an_id_and_one_owner() {
    let apart = tempfile::tempdir().unwrap();
    let properties = format!("metadata.log.dir={}\n", apart.path().display());
    let node = Node::start_with(&properties).await;
    Client::connect(&node).await.create_topic("orders", 1).await;
    let voter = admin(&node).await.describe_quorum().await.unwrap().voters.remove(0);
    let id = directory_id(apart.path());
    assert_eq!(format_uuid(voter.directory_id), id);
    assert_ne!(id, directory_id(node.path()));
    let disk = Env::os().disk;
    let names = disk.read_dir(apart.path()).unwrap().into_iter().map(|it| it.name);
    let named: BTreeSet<_> = names.collect();
    let due = [".lock", "__cluster_metadata-0", "meta.properties"].map(str::to_owned);
    assert_eq!(named, BTreeSet::from(due), "no partition lies there");

    let refused = async |more: &str| {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let started = Node::start_in(dir, &format!("{properties}{more}")).await;
        started.err().unwrap().to_string()
    };
    assert!(refused("").await.contains("in use by another process"));
    node.stop().await;
    assert!(refused("node.id=2\n").await.contains("belongs to node 1, not to 2"));

    // What lies in `log.dirs` is lost: the cluster and the voter are known all the same.
    let node = Node::start_with(&properties).await;
    let voter = admin(&node).await.describe_quorum().await.unwrap().voters.remove(0);
    assert_eq!(format_uuid(voter.directory_id), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_not_begun_anew_where_only_its_metadata_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let [apart, aside] = ["apart", "aside"].map(|name| root.path().join(name));
    let properties = format!("metadata.log.dir={}\n", apart.display());
    let node = Node::start_with(&properties).await;
    Client::connect(&node).await.create_topic("orders", 1).await;
    let dir = node.dir();
    node.stop().await;
    let disk = Env::os().disk;
    disk.rename(&apart, &aside).unwrap();
    let named = "process.roles=broker,controller\n\
                 listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0\n\
                 controller.listener.names=CONTROLLER\n\
                 controller.quorum.voters=1@127.0.0.1:9093\n";
    for more in ["", named] {
        let started = Node::start_in(Arc::clone(&dir), &format!("{properties}{more}")).await;
        let why = started.err().unwrap().to_string();
        assert!(why.contains("Put the directory back"), "{why}");
        let is_formatted = disk.exists(&apart.join("meta.properties"));
        assert!(!is_formatted, "the next start would take it for the old one");
    }
    let _made = disk.remove_dir_all(&apart);
    disk.rename(&aside, &apart).unwrap();
    let node = Node::start_in(dir, &properties).await.unwrap();
    let topics = admin(&node).await.list_topics().await.unwrap();
    assert_eq!(topics.len(), 1);
}

/// What `meta.properties` says.
fn directory_id(dir: &Path) -> String {
    let text = Env::os().disk.read(&dir.join("meta.properties")).unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    text.lines().find_map(|line| line.strip_prefix("directory.id=")).unwrap().to_owned()
}

#[tokio::test]
async fn nothing_but_the_quorum_is_described_as_one() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    let mut twice = quorum(METADATA, 0);
    twice.topics.extend(quorum("orders", 0).topics);
    for request in [quorum(METADATA, 1), quorum("orders", 0), twice] {
        let answer = client.call(2, &request).await;
        let told = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let told: Vec<_> = told.map(|it| ErrorCode::from_wire(it.error_code)).collect();
        assert_eq!(told, vec![ErrorCode::UnknownTopicOrPartition; request.topics.len()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_lead_need_no_election() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 2).await;
    let admin = admin(&node).await;
    let asked = [("orders", 0), ("orders", 7), ("missing", 0)];
    let asked: Vec<_> = asked.map(|(topic, index)| TopicPartition::new(topic, index)).to_vec();
    for election in [ElectionType::Preferred, ElectionType::Unclean] {
        let told = admin.elect_leaders(election, Some(&asked)).await.unwrap();
        let told: Vec<_> = asked.iter().map(|it| refusal(&told[it]).unwrap()).collect();
        let unknown = ErrorCode::UnknownTopicOrPartition;
        assert_eq!(told, [ErrorCode::ElectionNotNeeded, unknown, unknown]);
        assert_eq!(admin.elect_leaders(election, None).await.unwrap().len(), 0);
    }
    let answer = client.call(2, &elect(2, Some(&[("orders", 0)]))).await;
    let refused = &answer.replica_election_results[0].partition_result[0];
    let invalid = ErrorCode::InvalidRequest.code();
    assert_eq!((answer.error_code, refused.error_code), (invalid, invalid));
    assert_eq!(refused.error_message.as_deref(), Some("Unknown election type 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_stays_on_the_only_broker_there_is() {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    let admin = admin(&node).await;
    let orders = TopicPartition::new("orders", 0);
    let to = |ids: Option<&[i32]>| {
        let ids = ids.map(|ids| ids.iter().copied().map(BrokerId).collect());
        BTreeMap::from([(orders.clone(), ids)])
    };
    let invalid = ErrorCode::InvalidReplicaAssignment;
    let cases: [(Option<&[i32]>, Option<ErrorCode>); 6] = [
        (Some(&[1]), None),
        (None, Some(ErrorCode::NoReassignmentInProgress)),
        (Some(&[]), Some(invalid)),
        (Some(&[1, 1]), Some(invalid)),
        (Some(&[1, 2]), Some(invalid)),
        (Some(&[-1]), Some(invalid)),
    ];
    for (replicas, expected) in cases {
        let told = admin.alter_reassignments(&to(replicas)).await.unwrap();
        assert_eq!(refusal(&told[&orders]), expected, "{replicas:?}");
        assert!(admin.list_reassignments(None).await.unwrap().is_empty());
    }
    client.append_ok("orders", batch(&["still here"])).await;
}
