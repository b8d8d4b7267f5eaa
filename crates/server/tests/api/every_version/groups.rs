//! Coordinators, members and committed offsets.

use bytes::Bytes;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::offset_fetch_response::OffsetFetchResponse;
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use ottla_protocol::{ApiKey, ErrorCode, StrBytes, TopicId, message};

use super::{ORDERS, Tour, since};
use crate::requests::text;

/// A group in which one member has joined and got its assignment.
const GROUP: &str = "readers";

pub(super) async fn ask_plainly(tour: &mut Tour) {
    let port = tour_port(tour).await;
    tour.every(
        |version| find(version, GROUP, 0),
        |version, answer| {
            let found = match answer.coordinators.first() {
                Some(it) => (it.error_code, it.node_id, it.port),
                None => (answer.error_code, answer.node_id, answer.port),
            };
            assert_eq!(found, (0, 1, port), "version {version}");
        },
    )
    .await;
    for version in tour.versions(ApiKey::JoinGroup) {
        assert_eq!(join(tour, version, &format!("joined-{version}")).await.1, 1);
    }
    let (member, _) = join(tour, 9, GROUP).await;
    tour.every(
        |version| sync(version, GROUP, &member),
        |version, answer| {
            assert_eq!(answer.error_code, 0, "version {version}");
            assert_eq!(answer.assignment, Bytes::from_static(b"all of it"));
            let protocol = answer.protocol_name.as_deref();
            assert_eq!(protocol, (version >= 5).then_some("range"), "version {version}");
        },
    )
    .await;
    tour.every(
        |_| heartbeat(GROUP, &member),
        |version, answer| assert_eq!(answer.error_code, 0, "version {version}"),
    )
    .await;
    let orders = tour.orders;
    tour.every(
        |version| commit(version, (ORDERS, orders), GROUP, &member),
        |version, answer| {
            assert_eq!(answer.topics[0].partitions[0].error_code, 0, "version {version}");
            let topic = &answer.topics[0];
            assert_eq!(topic.name.as_str(), if version < 10 { ORDERS } else { "" });
            assert_eq!(topic.topic_id, since(version, 10, orders));
        },
    )
    .await;
    tour.every(
        |version| fetch(version, (ORDERS, orders), GROUP),
        |version, answer| assert_eq!(committed(&answer), (0, 2), "version {version}"),
    )
    .await;
    describe_and_list(tour, &member).await;
    tour.every(
        |version| leave(version, GROUP, if version == 0 { &member } else { "gone" }),
        |version, answer| {
            let member = answer.members.first().map_or(answer.error_code, |it| it.error_code);
            let gone = if version == 0 { 0 } else { ErrorCode::UnknownMemberId.code() };
            assert_eq!(member, gone, "version {version}");
        },
    )
    .await;
    delete_and_forget(tour).await;
}

async fn delete_and_forget(tour: &mut Tour) {
    let orders = tour.orders;
    for version in tour.versions(ApiKey::DeleteGroups) {
        let group = format!("deleted-{version}");
        let request = commit(9, (ORDERS, orders), &group, "");
        tour.client.call(9, &request).await;
        let answer = tour.client.call(version, &delete(&group)).await;
        assert_eq!(answer.results[0].error_code, 0, "version {version}");
        let again = tour.client.call(version, &delete(&group)).await.results.remove(0);
        assert_eq!(again.error_code, ErrorCode::GroupIdNotFound.code(), "version {version}");
        assert_eq!(again.error_message.is_some(), version >= 3, "version {version}");
    }
    for version in tour.versions(ApiKey::OffsetDelete) {
        let group = format!("forgets-{version}");
        tour.client.call(9, &commit(9, (ORDERS, orders), &group, "")).await;
        let answer = tour.client.call(version, &forget(&group, ORDERS)).await;
        assert_eq!(answer.error_code, 0, "version {version}");
        assert_eq!(answer.topics[0].partitions[0].error_code, 0, "version {version}");
        let left = tour.client.call(9, &fetch(9, (ORDERS, orders), &group)).await;
        assert_eq!(committed(&left), (0, -1), "version {version}");
    }
}

async fn describe_and_list(tour: &mut Tour, member: &str) {
    tour.every(
        |version| {
            message!(DescribeGroupsRequest {
                groups: vec![text(GROUP)],
                include_authorized_operations: version >= 3,
            })
        },
        |version, answer| {
            let group = &answer.groups[0];
            assert_eq!((group.error_code, group.group_state.as_str()), (0, "Stable"));
            assert_eq!(group.protocol_data.as_str(), "range");
            assert_eq!(group.members[0].member_id.as_str(), member, "version {version}");
            assert_eq!(group.members[0].client_host.as_str(), "/127.0.0.1");
        },
    )
    .await;
    tour.every(
        |version| {
            message!(ListGroupsRequest {
                states_filter: since(version, 4, vec![text("stable")]),
                types_filter: since(version, 5, vec![text("classic")]),
            })
        },
        |version, answer| {
            let group = answer.groups.iter().find(|it| it.group_id.as_str() == GROUP).unwrap();
            assert_eq!(group.group_state.as_str(), if version >= 4 { "Stable" } else { "" });
            let joined = answer.groups.iter().any(|it| it.group_id.starts_with("joined"));
            assert_eq!(joined, version < 4, "version {version} does not filter by state");
        },
    )
    .await;
}

pub(super) async fn ask_for_nothing(tour: &mut Tour) {
    tour.every(
        |_| FindCoordinatorRequest::default(),
        |version, answer| {
            // Before version 4 the empty key is a key; Kafka does not care what a group is called here.
            assert_eq!((answer.error_code, answer.coordinators.len()), (0, 0), "{version}");
        },
    )
    .await;
    tour.client.find_coordinator("").await;
    let invalid = ErrorCode::InvalidGroupId.code();
    tour.every(
        |_| JoinGroupRequest::default(),
        |version, answer| assert_eq!(answer.error_code, invalid, "version {version}"),
    )
    .await;
    tour.every(
        |_| SyncGroupRequest::default(),
        |version, answer| {
            let expected =
                if version < 5 { invalid } else { ErrorCode::InconsistentGroupProtocol.code() };
            assert_eq!(answer.error_code, expected, "version {version}");
        },
    )
    .await;
    tour.every(
        |_| HeartbeatRequest::default(),
        |version, answer| assert_eq!(answer.error_code, invalid, "version {version}"),
    )
    .await;
    tour.every(
        |_| LeaveGroupRequest::default(),
        |version, answer| assert_eq!(answer.error_code, invalid, "version {version}"),
    )
    .await;
    tour.every(|_| OffsetCommitRequest::default(), |_, answer| assert!(answer.topics.is_empty()))
        .await;
    tour.every(
        |_| message!(OffsetFetchRequest { topics: Some(Vec::new()) }),
        |_, answer| assert!(answer.topics.is_empty() && answer.groups.is_empty()),
    )
    .await;
    tour.every(|_| DescribeGroupsRequest::default(), |_, answer| assert!(answer.groups.is_empty()))
        .await;
    tour.every(|_| ListGroupsRequest::default(), |_, answer| assert_eq!(answer.error_code, 0))
        .await;
    tour.every(|_| DeleteGroupsRequest::default(), |_, answer| assert!(answer.results.is_empty()))
        .await;
    tour.every(
        |_| OffsetDeleteRequest::default(),
        |_, answer| assert_eq!((answer.error_code, answer.topics.len()), (0, 0)),
    )
    .await;
}

pub(super) async fn ask_for_the_missing(tour: &mut Tour) {
    tour.client.find_coordinator(GROUP).await;
    let unknown_member = ErrorCode::UnknownMemberId.code();
    for kind in [1, 5] {
        let expected =
            if kind == 1 { ErrorCode::UnsupportedVersion } else { ErrorCode::InvalidRequest };
        for version in tour.versions(ApiKey::FindCoordinator).skip(1) {
            let answer = tour.client.call(version, &find(version, "id", kind)).await;
            let error = answer.coordinators.first().map_or(answer.error_code, |it| it.error_code);
            assert_eq!(error, expected.code(), "version {version}");
        }
    }
    tour.every(
        |version| join_request(version, GROUP, "stranger"),
        |version, answer| {
            assert_eq!(answer.error_code, unknown_member, "version {version}");
            assert_eq!((answer.generation_id, answer.member_id.as_str()), (-1, "stranger"));
        },
    )
    .await;
    tour.every(
        |version| sync(version, GROUP, "stranger"),
        |version, answer| assert_eq!(answer.error_code, unknown_member, "version {version}"),
    )
    .await;
    tour.every(
        |_| heartbeat(GROUP, "stranger"),
        |version, answer| assert_eq!(answer.error_code, unknown_member, "version {version}"),
    )
    .await;
    ask_for_missing_offsets(tour).await;
    tour.every(
        |_| message!(DescribeGroupsRequest { groups: vec![text("missing")] }),
        |version, answer| {
            // KIP-1043: version 6 says that the group does not exist, older ones show a dead one.
            let group = &answer.groups[0];
            let expected = if version < 6 { 0 } else { ErrorCode::GroupIdNotFound.code() };
            assert_eq!((group.error_code, group.group_state.as_str()), (expected, "Dead"));
        },
    )
    .await;
    tour.every(
        |_| delete("missing"),
        |version, answer| {
            let expected = ErrorCode::GroupIdNotFound.code();
            assert_eq!(answer.results[0].error_code, expected, "version {version}");
        },
    )
    .await;
    tour.every(
        |_| forget("missing", ORDERS),
        |version, answer| {
            let expected = ErrorCode::GroupIdNotFound.code();
            assert_eq!((answer.error_code, answer.topics.len()), (expected, 0), "{version}");
        },
    )
    .await;
    tour.every(
        |_| forget("missing", "missing"),
        |version, answer| {
            let expected = ErrorCode::UnknownTopicOrPartition.code();
            assert_eq!(answer.error_code, 0, "version {version}");
            assert_eq!(answer.topics[0].partitions[0].error_code, expected, "version {version}");
        },
    )
    .await;
}

async fn ask_for_missing_offsets(tour: &mut Tour) {
    let missing = TopicId::from_bytes([7; 16]);
    tour.every(
        |version| commit(version, ("missing", missing), GROUP, ""),
        |version, answer| {
            let error = match version {
                10.. => ErrorCode::UnknownTopicId,
                _ => ErrorCode::UnknownTopicOrPartition,
            };
            let told = answer.topics[0].partitions[0].error_code;
            assert_eq!(told, error.code(), "version {version}");
        },
    )
    .await;
    let orders = tour.orders;
    tour.every(
        |version| commit(version, (ORDERS, orders), GROUP, "stranger"),
        |version, answer| {
            let error = match version {
                9.. => ErrorCode::GroupIdNotFound,
                _ => ErrorCode::IllegalGeneration,
            };
            let told = answer.topics[0].partitions[0].error_code;
            assert_eq!(told, error.code(), "version {version}");
        },
    )
    .await;
    tour.every(
        |version| fetch(version, ("missing", missing), GROUP),
        |version, answer| {
            let expected = if version < 10 { 0 } else { ErrorCode::UnknownTopicId.code() };
            assert_eq!(committed(&answer), (expected, -1), "version {version}");
        },
    )
    .await;
}

async fn tour_port(tour: &mut Tour) -> i32 {
    let request = ottla_protocol::messages::DescribeClusterRequest::default();
    tour.client.call(0, &request).await.brokers[0].port
}

fn find(version: i16, key: &str, kind: i8) -> FindCoordinatorRequest {
    message!(FindCoordinatorRequest {
        key: if version < 4 { text(key) } else { StrBytes::default() },
        key_type: since(version, 1, kind),
        coordinator_keys: since(version, 4, vec![text(key)]),
    })
}

fn join_request(version: i16, group: &str, member: &str) -> JoinGroupRequest {
    let protocol = message!(JoinGroupRequestProtocol {
        name: text("range"),
        metadata: Bytes::from_static(b"subscription"),
    });
    message!(JoinGroupRequest {
        group_id: text(group),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: if version >= 1 { 30_000 } else { -1 },
        member_id: text(member),
        protocol_type: text("consumer"),
        protocols: vec![protocol],
        reason: if version >= 8 { Some(text("to read")) } else { None },
    })
}

/// Joins as a new member; its id and the generation.
async fn join(tour: &mut Tour, version: i16, group: &str) -> (String, i32) {
    tour.client.find_coordinator(group).await;
    let mut answer = tour.client.call(version, &join_request(version, group, "")).await;
    if version >= 4 {
        // KIP-394: a member first gets its id.
        assert_eq!(answer.error_code, ErrorCode::MemberIdRequired.code(), "version {version}");
        let request = join_request(version, group, &answer.member_id);
        answer = tour.client.call(version, &request).await;
    }
    assert_eq!(answer.error_code, 0, "version {version}");
    assert_eq!((&answer.leader, answer.members.len()), (&answer.member_id, 1));
    assert_eq!(answer.protocol_name.as_deref(), Some("range"));
    assert_eq!(answer.protocol_type.as_deref(), (version >= 7).then_some("consumer"));
    (answer.member_id.as_str().to_owned(), answer.generation_id)
}

fn sync(version: i16, group: &str, member: &str) -> SyncGroupRequest {
    let assignment = message!(SyncGroupRequestAssignment {
        member_id: text(member),
        assignment: Bytes::from_static(b"all of it"),
    });
    message!(SyncGroupRequest {
        group_id: text(group),
        generation_id: 1,
        member_id: text(member),
        protocol_type: if version >= 5 { Some(text("consumer")) } else { None },
        protocol_name: if version >= 5 { Some(text("range")) } else { None },
        assignments: vec![assignment],
    })
}

fn heartbeat(group: &str, member: &str) -> HeartbeatRequest {
    message!(HeartbeatRequest { group_id: text(group), generation_id: 1, member_id: text(member) })
}

fn leave(version: i16, group: &str, member: &str) -> LeaveGroupRequest {
    let identity = message!(MemberIdentity {
        member_id: text(member),
        reason: if version >= 5 { Some(text("enough read")) } else { None },
    });
    message!(LeaveGroupRequest {
        group_id: text(group),
        member_id: if version < 3 { text(member) } else { StrBytes::default() },
        members: since(version, 3, vec![identity]),
    })
}

/// Commits offset 2 of partition 0, as a member of generation 1 or, without a `member`, as nobody.
fn commit(version: i16, topic: (&str, TopicId), group: &str, member: &str) -> OffsetCommitRequest {
    let partition = message!(OffsetCommitRequestPartition {
        committed_offset: 2,
        committed_leader_epoch: if version >= 6 { 0 } else { -1 },
        committed_metadata: Some(text("checkpoint")),
    });
    let topic = message!(OffsetCommitRequestTopic {
        name: if version < 10 { text(topic.0) } else { StrBytes::default() },
        topic_id: since(version, 10, topic.1),
        partitions: vec![partition],
    });
    message!(OffsetCommitRequest {
        group_id: text(group),
        generation_id_or_member_epoch: if member.is_empty() { -1 } else { 1 },
        member_id: text(member),
        topics: vec![topic],
    })
}

fn fetch(version: i16, topic: (&str, TopicId), group: &str) -> OffsetFetchRequest {
    if version < 8 {
        let topic =
            message!(OffsetFetchRequestTopic { name: text(topic.0), partition_indexes: vec![0] });
        return message!(OffsetFetchRequest {
            group_id: text(group),
            topics: Some(vec![topic]),
            require_stable: version >= 7,
        });
    }
    let topic = message!(OffsetFetchRequestTopics {
        name: if version < 10 { text(topic.0) } else { StrBytes::default() },
        topic_id: since(version, 10, topic.1),
        partition_indexes: vec![0],
    });
    let group =
        message!(OffsetFetchRequestGroup { group_id: text(group), topics: Some(vec![topic]) });
    message!(OffsetFetchRequest { groups: vec![group], require_stable: true })
}

/// Error and offset of the only partition of an answer.
fn committed(answer: &OffsetFetchResponse) -> (i16, i64) {
    match answer.groups.first() {
        Some(group) => {
            let partition = &group.topics[0].partitions[0];
            (partition.error_code, partition.committed_offset)
        }
        None => {
            let partition = &answer.topics[0].partitions[0];
            (partition.error_code, partition.committed_offset)
        }
    }
}

fn delete(group: &str) -> DeleteGroupsRequest {
    message!(DeleteGroupsRequest { groups_names: vec![text(group)] })
}

/// Forgets what `group` has committed for partition 0 of a topic.
fn forget(group: &str, topic: &str) -> OffsetDeleteRequest {
    let topic = message!(OffsetDeleteRequestTopic {
        name: text(topic),
        partitions: vec![message!(OffsetDeleteRequestPartition { partition_index: 0 })],
    });
    message!(OffsetDeleteRequest { group_id: text(group), topics: vec![topic] })
}
