//! Consumer groups as their members see them.

use bytes::Bytes;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::join_group_response::JoinGroupResponse;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    DeleteGroupsRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use ottla_protocol::{ErrorCode, message};

use crate::client::Client;
use crate::node::{Node, in_time};
use crate::requests::text;

/// The version of JoinGroup that these members speak.
const JOIN: i16 = 9;

async fn node_and_client() -> (Node, Client) {
    let node = Node::start().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 2).await;
    client.find_coordinator("readers").await;
    (node, client)
}

fn join(member: &str) -> JoinGroupRequest {
    let protocol = message!(JoinGroupRequestProtocol {
        name: text("range"),
        metadata: Bytes::from_static(b"subscription"),
    });
    message!(JoinGroupRequest {
        group_id: text("readers"),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: text(member),
        protocol_type: text("consumer"),
        protocols: vec![protocol],
    })
}

/// Has the coordinator give a new member its id.
async fn member_id(client: &mut Client) -> String {
    let answer = client.call(JOIN, &join("")).await;
    assert_eq!(answer.error_code, ErrorCode::MemberIdRequired.code());
    answer.member_id.as_str().to_owned()
}

/// What the leader hands out: to each member its own name.
fn sync(member: &str, generation: i32, members: &[&str]) -> SyncGroupRequest {
    let assignments = members.iter().map(|member| {
        message!(SyncGroupRequestAssignment {
            member_id: text(member),
            assignment: Bytes::copy_from_slice(member.as_bytes()),
        })
    });
    message!(SyncGroupRequest {
        group_id: text("readers"),
        generation_id: generation,
        member_id: text(member),
        protocol_type: Some(text("consumer")),
        protocol_name: Some(text("range")),
        assignments: assignments.collect(),
    })
}

async fn heartbeat(client: &mut Client, member: &str, generation: i32) -> ErrorCode {
    let request = message!(HeartbeatRequest {
        group_id: text("readers"),
        generation_id: generation,
        member_id: text(member),
    });
    ErrorCode::from_wire(client.call(4, &request).await.error_code)
}

async fn commit(client: &mut Client, member: (&str, i32), committed: (&str, i64)) -> ErrorCode {
    commit_with(client, member, committed, "note").await
}

async fn commit_with(
    client: &mut Client,
    (member, generation): (&str, i32),
    (topic, offset): (&str, i64),
    metadata: &str,
) -> ErrorCode {
    let partition = message!(OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_metadata: Some(text(metadata)),
    });
    let topic =
        message!(OffsetCommitRequestTopic { name: text(topic), partitions: vec![partition] });
    let request = message!(OffsetCommitRequest {
        group_id: text("readers"),
        generation_id_or_member_epoch: generation,
        member_id: text(member),
        topics: vec![topic],
    });
    let answer = client.call(9, &request).await;
    ErrorCode::from_wire(answer.topics[0].partitions[0].error_code)
}

/// What is committed for partition 0 of a topic; -1 for nothing. Asks again while the group loads, as clients do.
async fn committed(client: &mut Client, topic: &str) -> i64 {
    let topic =
        message!(OffsetFetchRequestTopics { name: text(topic), partition_indexes: vec![0] });
    let group =
        message!(OffsetFetchRequestGroup { group_id: text("readers"), topics: Some(vec![topic]) });
    let request = message!(OffsetFetchRequest { groups: vec![group] });
    loop {
        let mut answer = client.call(9, &request).await;
        let group = answer.groups.remove(0);
        let Err(error) = ErrorCode::from_wire(group.error_code).ok() else {
            let partition = &group.topics[0].partitions[0];
            assert_eq!(partition.error_code, 0);
            return partition.committed_offset;
        };
        assert_eq!(error, ErrorCode::CoordinatorLoadInProgress);
    }
}

/// A group of one member in generation 1; its id.
async fn group_of_one(client: &mut Client) -> String {
    let member = member_id(client).await;
    let joined = client.call(JOIN, &join(&member)).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(client.call(5, &sync(&member, 1, &[&member])).await.error_code, 0);
    member
}

#[tokio::test]
async fn two_members_share_what_the_leader_hands_out() {
    let (node, mut one) = node_and_client().await;
    let mut other = Client::connect(&node).await;
    let first = group_of_one(&mut one).await;
    let second = member_id(&mut other).await;
    // The newcomer waits until the group is complete again; the other learns of it by its heartbeat.
    let waits = other.send(JOIN, &join(&second)).await;
    while heartbeat(&mut one, &first, 1).await != ErrorCode::RebalanceInProgress {}
    let rejoined = one.call(JOIN, &join(&first)).await;
    let joined = other.answer::<JoinGroupRequest>(JOIN, waits).await;
    assert_eq!((rejoined.error_code, joined.error_code), (0, 0));
    assert_eq!((rejoined.generation_id, joined.generation_id), (2, 2));
    let (leader, led) = if rejoined.leader == rejoined.member_id {
        (&rejoined, &joined)
    } else {
        (&joined, &rejoined)
    };
    assert_eq!((leader.members.len(), led.members.len()), (2, 0));
    let waits = send_sync(&mut one, &mut other, leader, (&first, &second)).await;
    assert_eq!(waits, (first.clone(), second.clone()));
    assert_eq!(heartbeat(&mut one, &first, 2).await, ErrorCode::None);
    assert_eq!(heartbeat(&mut other, &second, 2).await, ErrorCode::None);
    assert_eq!(heartbeat(&mut other, &second, 1).await, ErrorCode::IllegalGeneration);
}

/// Both members sync, the leader last; what each was assigned.
async fn send_sync(
    one: &mut Client,
    other: &mut Client,
    leader: &JoinGroupResponse,
    (first, second): (&str, &str),
) -> (String, String) {
    let all = [first, second];
    let (one_leads, none) = (leader.member_id.as_str() == first, &all[..0]);
    let handed_out = |leads| if leads { &all[..] } else { none };
    let (mine, theirs) = (handed_out(one_leads), handed_out(!one_leads));
    let one_waits = one.send(5, &sync(first, 2, mine)).await;
    let other_waits = other.send(5, &sync(second, 2, theirs)).await;
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let mine = one.answer::<SyncGroupRequest>(5, one_waits).await;
    let theirs = other.answer::<SyncGroupRequest>(5, other_waits).await;
    (text(mine.assignment), text(theirs.assignment))
}

#[tokio::test]
async fn commits_of_strangers_and_of_the_past_are_refused() {
    let (_node, mut client) = node_and_client().await;
    let member = group_of_one(&mut client).await;
    assert_eq!(commit(&mut client, (&member, 1), ("orders", 5)).await, ErrorCode::None);
    for (who, expected) in [
        (("stranger", 1), ErrorCode::UnknownMemberId),
        ((member.as_str(), 0), ErrorCode::IllegalGeneration),
        ((member.as_str(), 2), ErrorCode::IllegalGeneration),
        // One who is no member at all may not commit while there are members.
        (("", -1), ErrorCode::UnknownMemberId),
    ] {
        assert_eq!(commit(&mut client, who, ("orders", 99)).await, expected, "{who:?}");
    }
    assert_eq!(committed(&mut client, "orders").await, 5);
    let missing = commit(&mut client, (&member, 1), ("missing", 1)).await;
    assert_eq!(missing, ErrorCode::UnknownTopicOrPartition);
}

#[tokio::test]
async fn metadata_beyond_its_limit_is_refused() {
    let (_node, mut client) = node_and_client().await;
    let partition = message!(OffsetCommitRequestPartition {
        committed_offset: 1,
        committed_metadata: Some(text(&"m".repeat(5000))),
    });
    let topic =
        message!(OffsetCommitRequestTopic { name: text("orders"), partitions: vec![partition] });
    let request = message!(OffsetCommitRequest {
        group_id: text("readers"),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
    });
    let answer = client.call(9, &request).await;
    let told = answer.topics[0].partitions[0].error_code;
    assert_eq!(told, ErrorCode::OffsetMetadataTooLarge.code());
    assert_eq!(committed(&mut client, "orders").await, -1);
}

#[tokio::test]
async fn members_and_offsets_survive_a_stop_and_a_crash() {
    let (mut node, mut client) = node_and_client().await;
    let member = group_of_one(&mut client).await;
    for offset in 1..=4 {
        let told = commit(&mut client, (&member, 1), ("orders", offset)).await;
        assert_eq!(told, ErrorCode::None);
        node = if offset % 2 == 0 { node.restart().await } else { node.crash_and_restart().await };
        client = Client::connect(&node).await;
        // Never -1, however early one asks: a consumer would read everything again.
        assert_eq!(committed(&mut client, "orders").await, offset);
        assert_eq!(heartbeat(&mut client, &member, 1).await, ErrorCode::None);
    }
}

#[tokio::test]
async fn groups_are_loaded_through_a_buffer_smaller_than_any_record() {
    let node = Node::start_with("offsets.load.buffer.size=1").await;
    let mut client = Client::connect(&node).await;
    client.create_topic("orders", 1).await;
    client.find_coordinator("readers").await;
    for offset in [7, 8] {
        assert_eq!(commit(&mut client, ("", -1), ("orders", offset)).await, ErrorCode::None);
    }
    let node = node.restart().await;
    let mut client = Client::connect(&node).await;
    assert_eq!(committed(&mut client, "orders").await, 8);
}

/// Bytes of the log of `__consumer_offsets-0`.
fn offsets_log_bytes(node: &Node) -> u64 {
    let dir = node.path().join("__consumer_offsets-0");
    let entries = ottla_env::Env::os().disk.read_dir(&dir).unwrap();
    entries.iter().filter(|it| it.name.ends_with(".log")).map(|it| it.len).sum()
}

#[tokio::test]
async fn the_offsets_topic_stays_small_and_loses_nothing_that_counts() {
    let node = Node::start_with(
        "offsets.topic.num.partitions=1\n\
         offsets.topic.segment.bytes=1048576\n\
         log.cleaner.backoff.ms=10\n",
    )
    .await;
    let mut client = Client::connect(&node).await;
    for topic in ["orders", "kept", "deleted"] {
        client.create_topic(topic, 1).await;
    }
    client.find_coordinator("readers").await;
    for topic in ["kept", "deleted"] {
        assert_eq!(commit(&mut client, ("", -1), (topic, 7)).await, ErrorCode::None);
    }
    client.delete_topic("deleted").await;
    let metadata = "m".repeat(4000);
    let committing = async |client: &mut Client, offsets: std::ops::Range<i64>| {
        for offset in offsets {
            let told = commit_with(client, ("", -1), ("orders", offset), &metadata).await;
            assert_eq!(told, ErrorCode::None);
        }
    };
    committing(&mut client, 0..800).await;
    // 3.2 MB were written: the active segment stays, and what is not dirty enough.
    in_time("compaction", async {
        while offsets_log_bytes(&node) > 1_100_000 {
            ottla_env::Env::os().clock.sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let node = node.crash_and_restart().await;
    let mut client = Client::connect(&node).await;
    client.create_topic("deleted", 1).await;
    for (topic, offset) in [("orders", 799), ("kept", 7), ("deleted", -1)] {
        assert_eq!(committed(&mut client, topic).await, offset, "{topic}");
    }
    committing(&mut client, 800..810).await;
    let node = node.restart().await;
    let mut client = Client::connect(&node).await;
    for (topic, offset) in [("orders", 809), ("kept", 7), ("deleted", -1)] {
        assert_eq!(committed(&mut client, topic).await, offset, "{topic}");
    }
}

#[tokio::test]
async fn a_topic_takes_what_was_committed_for_it_along() {
    let (node, mut client) = node_and_client().await;
    client.create_topic("kept", 1).await;
    for topic in ["orders", "kept"] {
        assert_eq!(commit(&mut client, ("", -1), (topic, 7)).await, ErrorCode::None);
    }
    client.delete_topic("orders").await;
    client.create_topic("orders", 1).await;
    assert_eq!(committed(&mut client, "orders").await, -1);
    assert_eq!(committed(&mut client, "kept").await, 7);
    let node = node.crash_and_restart().await;
    let mut client = Client::connect(&node).await;
    assert_eq!(committed(&mut client, "orders").await, -1);
    assert_eq!(committed(&mut client, "kept").await, 7);
}

#[tokio::test]
async fn a_member_that_leaves_is_gone_and_the_group_can_be_deleted() {
    let (_node, mut client) = node_and_client().await;
    let member = group_of_one(&mut client).await;
    assert_eq!(commit(&mut client, (&member, 1), ("orders", 5)).await, ErrorCode::None);
    let delete = message!(DeleteGroupsRequest { groups_names: vec![text("readers")] });
    let told = client.call(2, &delete).await.results[0].error_code;
    assert_eq!(told, ErrorCode::NonEmptyGroup.code());
    let leave = message!(LeaveGroupRequest {
        group_id: text("readers"),
        members: vec![message!(MemberIdentity { member_id: text(&member) })],
    });
    let answer = client.call(5, &leave).await;
    assert_eq!((answer.error_code, answer.members[0].error_code), (0, 0));
    assert_eq!(heartbeat(&mut client, &member, 1).await, ErrorCode::UnknownMemberId);
    assert_eq!(committed(&mut client, "orders").await, 5);
    assert_eq!(client.call(2, &delete).await.results[0].error_code, 0);
    assert_eq!(committed(&mut client, "orders").await, -1);
}

#[tokio::test]
async fn what_a_group_forgets_is_forgotten_for_good_and_partitions_that_do_not_exist_stop_nobody() {
    let (node, mut client) = node_and_client().await;
    client.create_topic("kept", 1).await;
    for (topic, offset) in [("orders", 5), ("kept", 7)] {
        assert_eq!(commit(&mut client, ("", -1), (topic, offset)).await, ErrorCode::None);
    }
    let topics = [("orders", vec![-1, 0, 1, 2]), ("missing", vec![0])].map(|(name, indexes)| {
        let partitions = indexes
            .into_iter()
            .map(|index| message!(OffsetDeleteRequestPartition { partition_index: index }));
        message!(OffsetDeleteRequestTopic { name: text(name), partitions: partitions.collect() })
    });
    let forget =
        message!(OffsetDeleteRequest { group_id: text("readers"), topics: topics.to_vec() });
    let answer = client.call(0, &forget).await;
    assert_eq!(answer.error_code, 0);
    let told: Vec<_> = answer
        .topics
        .iter()
        .flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|it| (topic.name.as_str(), it.partition_index, it.error_code))
        })
        .collect();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let expected = [
        ("missing", 0, unknown),
        ("orders", -1, unknown),
        ("orders", 2, unknown),
        ("orders", 0, 0),
        ("orders", 1, 0),
    ];
    assert_eq!((told, answer.topics.len()), (expected.to_vec(), 2));
    let node = node.crash_and_restart().await;
    let mut client = Client::connect(&node).await;
    assert_eq!(committed(&mut client, "orders").await, -1);
    assert_eq!(committed(&mut client, "kept").await, 7);
}

#[tokio::test]
async fn a_member_that_falls_silent_is_put_out() {
    let node = Node::start_with("group.min.session.timeout.ms=100\n").await;
    let (mut one, mut other) = (Client::connect(&node).await, Client::connect(&node).await);
    one.find_coordinator("readers").await;
    let silent = member_id(&mut one).await;
    let brief = message_with_session(&silent, 200);
    assert_eq!(one.call(JOIN, &brief).await.error_code, 0);
    let newcomer = member_id(&mut other).await;
    // The newcomer's join is answered as soon as the silent member is out.
    let joined = other.call(JOIN, &join(&newcomer)).await;
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
    assert_eq!(heartbeat(&mut one, &silent, 1).await, ErrorCode::UnknownMemberId);
}

fn message_with_session(member: &str, session_timeout_ms: i32) -> JoinGroupRequest {
    let mut request = join(member);
    request.session_timeout_ms = session_timeout_ms;
    request.rebalance_timeout_ms = session_timeout_ms;
    request
}

#[tokio::test]
async fn joins_that_cannot_be_are_refused() {
    let (_node, mut client) = node_and_client().await;
    let member = group_of_one(&mut client).await;
    for session in [0, -1, 1000, i32::MAX] {
        let told = client.call(JOIN, &message_with_session("", session)).await.error_code;
        assert_eq!(told, ErrorCode::InvalidSessionTimeout.code(), "session {session}");
    }
    let mut other_kind = join(&member);
    other_kind.protocol_type = text("connect");
    let told = client.call(JOIN, &other_kind).await.error_code;
    assert_eq!(told, ErrorCode::InconsistentGroupProtocol.code());
    let mut no_protocols = join(&member);
    no_protocols.protocols.clear();
    let told = client.call(JOIN, &no_protocols).await.error_code;
    assert_eq!(told, ErrorCode::InconsistentGroupProtocol.code());
    assert_eq!(heartbeat(&mut client, &member, 1).await, ErrorCode::None);
}
