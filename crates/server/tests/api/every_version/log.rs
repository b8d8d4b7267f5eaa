//! Produce, Fetch, and what is asked about offsets and epochs.

use ottla_protocol::fetch::FetchRequest;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::messages::{
    DeleteRecordsRequest, InitProducerIdRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest,
};
use ottla_protocol::produce::ProduceRequest;
use ottla_protocol::{ApiKey, ErrorCode, LeaderEpoch, TopicId, TopicRef, message};

use super::{ORDERS, Tour, since};
use crate::deleting_records::delete_records;
use crate::records;
use crate::requests::{BY_ID, fetch, named, produce, text};

fn orders(tour: &Tour, version: i16) -> TopicRef {
    if version >= BY_ID { TopicRef::Id(tour.orders) } else { named(ORDERS) }
}

fn missing(version: i16) -> (TopicRef, ErrorCode) {
    if version >= BY_ID {
        let id = TopicId::from_bytes([7; 16]);
        return (TopicRef::Id(id), ErrorCode::UnknownTopicId);
    }
    (named("missing"), ErrorCode::UnknownTopicOrPartition)
}

pub(super) async fn ask_plainly(tour: &mut Tour) {
    for version in tour.versions(ApiKey::Fetch) {
        let request = fetch(orders(tour, version), 0, 0);
        let answer = tour.client.fetch(version, &request).await;
        assert_eq!(answer.topics[0].topic, orders(tour, version), "version {version}");
        let data = &answer.topics[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::None, "version {version}");
        assert_eq!(records::values(&data.records), ["a", "b", "c"], "version {version}");
        assert_eq!((data.high_watermark.0, data.last_stable_offset.0), (3, 3));
    }
    for (version, offset) in tour.versions(ApiKey::Produce).zip(3..) {
        let request = produce(orders(tour, version), 0, records::batch(&["more"]));
        let answer = tour.client.produce(version, &request).await;
        assert_eq!(answer.topics[0].topic, orders(tour, version), "version {version}");
        let appended = &answer.topics[0].partitions[0];
        assert_eq!(appended.error_code, ErrorCode::None, "version {version}");
        assert_eq!(appended.base_offset.0, offset, "version {version}");
        assert_eq!(appended.log_start_offset.0, if version >= 5 { 0 } else { -1 });
    }
    tour.every(
        |version| list_offsets(ORDERS, version, -2),
        |version, answer| {
            let found = &answer.topics[0].partitions[0];
            assert_eq!((found.error_code, found.offset), (0, 0), "version {version}");
            assert_eq!(found.timestamp, -1);
            assert_eq!(found.leader_epoch, if version >= 4 { 0 } else { -1 }, "version {version}");
        },
    )
    .await;
    tour.every(
        |_| end_of_epoch(ORDERS, 0),
        |version, answer| {
            let end = &answer.topics[0].partitions[0];
            assert_eq!((end.error_code, end.leader_epoch), (0, 0), "version {version}");
        },
    )
    .await;
    tour.every(
        |_| delete_records(ORDERS, 0, 2),
        |version, answer| {
            let deleted = &answer.topics[0].partitions[0];
            assert_eq!((deleted.error_code, deleted.low_watermark), (0, 2), "version {version}");
        },
    )
    .await;
    tour.every(
        |_| message!(InitProducerIdRequest { transactional_id: None }),
        |version, answer| {
            assert_eq!((answer.error_code, answer.producer_epoch), (0, 0), "version {version}");
            assert!(answer.producer_id >= 0);
        },
    )
    .await;
}

pub(super) async fn ask_for_nothing(tour: &mut Tour) {
    for version in tour.versions(ApiKey::Fetch) {
        let answer = tour.client.fetch(version, &FetchRequest::default()).await;
        assert_eq!((answer.error_code, answer.topics.len()), (ErrorCode::None, 0));
    }
    for version in tour.versions(ApiKey::Produce) {
        let request = ProduceRequest { acks: 1, ..ProduceRequest::default() };
        assert_eq!(tour.client.produce(version, &request).await.topics.len(), 0);
    }
    tour.every(|_| ListOffsetsRequest::default(), |_, answer| assert!(answer.topics.is_empty()))
        .await;
    tour.every(
        |_| OffsetForLeaderEpochRequest::default(),
        |_, answer| assert!(answer.topics.is_empty()),
    )
    .await;
    tour.every(|_| DeleteRecordsRequest::default(), |_, answer| assert!(answer.topics.is_empty()))
        .await;
    // Its default names a transaction, with an empty id.
    let invalid = ErrorCode::InvalidRequest.code();
    tour.every(
        |_| InitProducerIdRequest::default(),
        |version, answer| assert_eq!(answer.error_code, invalid, "version {version}"),
    )
    .await;
}

pub(super) async fn ask_for_the_missing(tour: &mut Tour) {
    for version in tour.versions(ApiKey::Fetch) {
        let (topic, error) = missing(version);
        let answer = tour.client.fetch(version, &fetch(topic, 0, 0)).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, error, "version {version}");
        // A partition, an offset and an epoch that are not there.
        let answer = tour.client.fetch(version, &fetch(orders(tour, version), 9, 0)).await;
        let error = ErrorCode::UnknownTopicOrPartition;
        assert_eq!(answer.topics[0].partitions[0].error_code, error, "version {version}");
        let answer = tour.client.fetch(version, &fetch(orders(tour, version), 0, 4)).await;
        let error = ErrorCode::OffsetOutOfRange;
        assert_eq!(answer.topics[0].partitions[0].error_code, error, "version {version}");
        let mut request = fetch(orders(tour, version), 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = LeaderEpoch(9);
        let answer = tour.client.fetch(version, &request).await;
        let error = if version >= 9 { ErrorCode::UnknownLeaderEpoch } else { ErrorCode::None };
        assert_eq!(answer.topics[0].partitions[0].error_code, error, "version {version}");
    }
    for version in tour.versions(ApiKey::Produce) {
        let (topic, error) = missing(version);
        let answer = tour.client.produce(version, &produce(topic, 0, records::batch(&["x"]))).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, error, "version {version}");
        // An error with words, a list of records at fault, and no offset.
        let refused = produce(orders(tour, version), 0, records::timed(&[(i64::MAX, "late")]));
        let answer = tour.client.produce(version, &refused).await;
        let refused = &answer.topics[0].partitions[0];
        assert_eq!(refused.error_code, ErrorCode::InvalidTimestamp, "version {version}");
        assert_eq!(refused.error_message.is_some(), version >= 8, "version {version}");
        assert_eq!(refused.record_errors.len(), usize::from(version >= 8), "version {version}");
        assert_eq!(refused.base_offset.0, -1);
    }
    ask_for_missing_offsets(tour).await;
}

async fn ask_for_missing_offsets(tour: &mut Tour) {
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    tour.every(
        |version| list_offsets("missing", version, -1),
        |version, answer| {
            let found = &answer.topics[0].partitions[0];
            assert_eq!((found.error_code, found.offset), (unknown, -1), "version {version}");
        },
    )
    .await;
    // A time after the last record: no error, no offset.
    tour.every(
        |version| list_offsets(ORDERS, version, records::NOON + 1),
        |version, answer| {
            let found = &answer.topics[0].partitions[0];
            assert_eq!((found.error_code, found.offset), (0, -1), "version {version}");
        },
    )
    .await;
    tour.every(
        |_| end_of_epoch("missing", 0),
        |version, answer| {
            let end = &answer.topics[0].partitions[0];
            assert_eq!((end.error_code, end.end_offset), (unknown, -1), "version {version}");
        },
    )
    .await;
    tour.every(
        |_| delete_records("missing", 0, 0),
        |version, answer| {
            let refused = &answer.topics[0].partitions[0];
            let expected = (unknown, -1);
            assert_eq!((refused.error_code, refused.low_watermark), expected, "{version}");
        },
    )
    .await;
    tour.every(
        |_| message!(InitProducerIdRequest { transactional_id: Some(text("transactions")) }),
        |version, answer| {
            let refused = (answer.error_code, answer.producer_id, answer.producer_epoch);
            assert_eq!(refused, (ErrorCode::UnsupportedVersion.code(), -1, -1), "{version}");
        },
    )
    .await;
}

fn list_offsets(topic: &str, version: i16, timestamp: i64) -> ListOffsetsRequest {
    let asked = message!(ListOffsetsPartition {
        timestamp: timestamp,
        current_leader_epoch: if version >= 4 { 0 } else { -1 },
    });
    let topic = message!(ListOffsetsTopic { name: text(topic), partitions: vec![asked] });
    message!(ListOffsetsRequest {
        replica_id: -1,
        isolation_level: since(version, 2, 1),
        topics: vec![topic],
        timeout_ms: since(version, 10, 1000),
    })
}

fn end_of_epoch(topic: &str, leader_epoch: i32) -> OffsetForLeaderEpochRequest {
    let asked = message!(OffsetForLeaderPartition { leader_epoch: leader_epoch });
    let topic = message!(OffsetForLeaderTopic { topic: text(topic), partitions: vec![asked] });
    message!(OffsetForLeaderEpochRequest { topics: vec![topic] })
}
