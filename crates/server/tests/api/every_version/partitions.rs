//! Leaders, replicas and writers of partitions, and the quorum.

use ottla_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest, DescribeProducersRequest,
    DescribeQuorumRequest, ElectLeadersRequest, ListPartitionReassignmentsRequest,
};
use ottla_protocol::{ErrorCode, message};

use super::{ORDERS, Tour};
use crate::log_moves::move_to;
use crate::partitions::{METADATA, elect, producers, quorum, reassign, reassigning};
use crate::records;

pub(super) async fn ask_plainly(tour: &mut Tour) {
    let sequenced = records::sequenced((7000, 3), 0, &["x", "y"]);
    tour.client.append_ok(ORDERS, sequenced).await;
    tour.every(
        |_| producers(ORDERS, 0),
        |_, answer| {
            let partition = &answer.topics[0].partitions[0];
            assert_eq!((partition.error_code, &partition.error_message), (0, &None));
            let [producer] = &partition.active_producers[..] else { panic!("{answer:?}") };
            assert_eq!((producer.producer_id, producer.producer_epoch), (7000, 3));
            assert_eq!((producer.last_sequence, producer.last_timestamp), (1, records::NOON));
            let transaction = (producer.coordinator_epoch, producer.current_txn_start_offset);
            assert_eq!(transaction, (-1, -1));
        },
    )
    .await;
    tour.every(
        |_| quorum(METADATA, 0),
        |version, answer| {
            let log = &answer.topics[0].partitions[0];
            assert_eq!((answer.error_code, log.error_code), (0, 0), "version {version}");
            assert_eq!((log.leader_id, log.leader_epoch > 0), (1, true));
            let [voter] = &log.current_voters[..] else { panic!("{answer:?}") };
            assert_eq!((voter.replica_id, &log.observers[..]), (1, &[][..]));
            assert!(log.high_watermark > 0 && voter.log_end_offset >= log.high_watermark);
            assert_eq!(voter.last_fetch_timestamp > 0, version >= 1, "version {version}");
            assert_eq!(voter.last_caught_up_timestamp > 0, version >= 1, "version {version}");
            assert_eq!(voter.replica_directory_id.is_zero(), version < 2, "version {version}");
            let nodes: Vec<_> = answer.nodes.iter().map(|node| node.node_id).collect();
            assert_eq!(nodes, if version < 2 { vec![] } else { vec![1] }, "version {version}");
        },
    )
    .await;
    let here = tour.data_dir.clone();
    tour.every(
        |_| move_to(&here, ORDERS, 0),
        |version, answer| {
            let stays = &answer.results[0];
            assert_eq!(stays.topic_name.as_str(), ORDERS, "version {version}");
            assert_eq!(stays.partitions[0].error_code, 0, "version {version}");
        },
    )
    .await;
    let not_needed = ErrorCode::ElectionNotNeeded.code();
    tour.every(
        |version| elect(if version == 0 { 0 } else { 1 }, Some(&[(ORDERS, 0)])),
        |version, answer| {
            let elected = &answer.replica_election_results[0].partition_result[0];
            assert_eq!((answer.error_code, elected.error_code), (0, not_needed), "{version}");
        },
    )
    .await;
    tour.every(
        |_| reassign(ORDERS, 0, Some(&[1])),
        |version, answer| {
            let moved = &answer.responses[0].partitions[0];
            assert_eq!((answer.error_code, moved.error_code), (0, 0), "version {version}");
            assert_eq!((&answer.error_message, &moved.error_message), (&None, &None));
            assert!(answer.allow_replication_factor_change);
        },
    )
    .await;
    tour.every(
        |_| reassigning(Some((ORDERS, 0))),
        |_, answer| assert_eq!((answer.error_code, answer.topics.len()), (0, 0)),
    )
    .await;
}

pub(super) async fn ask_for_nothing(tour: &mut Tour) {
    tour.every(
        |_| DescribeProducersRequest::default(),
        |_, answer| assert!(answer.topics.is_empty()),
    )
    .await;
    tour.every(
        |_| AlterReplicaLogDirsRequest::default(),
        |_, answer| assert_eq!(answer.results, []),
    )
    .await;
    tour.every(
        |_| DescribeQuorumRequest::default(),
        |_, answer| assert_eq!((answer.error_code, answer.topics.len()), (0, 0)),
    )
    .await;
    tour.every(
        // All partitions, none of which needs an election.
        |_| message!(ElectLeadersRequest { topic_partitions: None }),
        |_, answer| assert_eq!(answer.replica_election_results, []),
    )
    .await;
    tour.every(
        |_| AlterPartitionReassignmentsRequest::default(),
        |_, answer| assert_eq!((answer.error_code, answer.responses.len()), (0, 0)),
    )
    .await;
    tour.every(
        |_| message!(ListPartitionReassignmentsRequest { topics: None }),
        |_, answer| assert_eq!((answer.error_code, answer.topics.len()), (0, 0)),
    )
    .await;
}

pub(super) async fn ask_for_the_missing(tour: &mut Tour) {
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    tour.every(
        |_| producers("missing", 0),
        |_, answer| {
            let refused = &answer.topics[0].partitions[0];
            assert_eq!((refused.error_code, refused.error_message.is_some()), (unknown, true));
        },
    )
    .await;
    let here = tour.data_dir.clone();
    let not_found = ErrorCode::LogDirNotFound.code();
    for (dir, expected) in [(here.as_str(), unknown), ("/nowhere", not_found)] {
        tour.every(
            |_| move_to(dir, "missing", 0),
            |_, answer| assert_eq!(answer.results[0].partitions[0].error_code, expected),
        )
        .await;
    }
    tour.every(
        |_| quorum("missing", 0),
        |version, answer| {
            let refused = &answer.topics[0].partitions[0];
            assert_eq!((answer.error_code, refused.error_code), (0, unknown), "{version}");
            assert_eq!(
                refused.error_message.as_ref().is_some_and(|it| !it.is_empty()),
                version >= 2
            );
        },
    )
    .await;
    tour.every(
        |_| elect(0, Some(&[("missing", 0)])),
        |version, answer| {
            let refused = &answer.replica_election_results[0].partition_result[0];
            assert_eq!((answer.error_code, refused.error_code), (0, unknown), "{version}");
            assert_eq!(refused.error_message.as_deref(), Some("No such topic as missing"));
        },
    )
    .await;
    tour.every(
        |_| reassign("missing", 0, Some(&[1])),
        |_, answer| assert_eq!(answer.responses[0].partitions[0].error_code, unknown),
    )
    .await;
    tour.every(|_| reassigning(Some(("missing", 0))), |_, answer| assert_eq!(answer.topics, []))
        .await;
}
