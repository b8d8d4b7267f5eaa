//! The codecs written by hand against two oracles: the wire library, field by field, and
//! `kafka-protocol`, byte by byte; for arbitrary values, over all versions.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};
use ottla_protocol::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchRequest, FetchResponse, FetchTopic,
    FetchableTopicResponse, ForgottenTopic, PartitionData, SnapshotId,
};
use ottla_protocol::messages::{self, OutboundFrameLimits};
use ottla_protocol::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use ottla_protocol::{
    ApiKey, BrokerId, ErrorCode, LeaderEpoch, LeaderIdAndEpoch, NodeEndpoint, Offset, ProducerId,
    Request, RequestHeader, Response, StrBytes, Timestamp, TopicRef, Uuid, decode_response_header,
    message,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const PRODUCE: std::ops::RangeInclusive<i16> = 3..=13;
const FETCH: std::ops::RangeInclusive<i16> = 4..=18;

fn text() -> impl Strategy<Value = StrBytes> {
    "[a-zä€]{0,12}".prop_map(StrBytes::from)
}

fn records() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 100..300)].prop_map(Bytes::from)
}

fn uuid() -> impl Strategy<Value = Uuid> {
    prop_oneof![Just(Uuid::ZERO), any::<[u8; 16]>().prop_map(Uuid::from_bytes)]
}

fn topic(by_id: bool) -> BoxedStrategy<TopicRef> {
    if by_id {
        uuid().prop_map(TopicRef::Id).boxed()
    } else {
        text().prop_map(TopicRef::Name).boxed()
    }
}

fn error_code() -> impl Strategy<Value = ErrorCode> {
    (0..ErrorCode::ALL.len()).prop_map(|index| ErrorCode::ALL[index])
}

fn when<T: std::fmt::Debug + Clone + 'static>(
    possible: bool,
    strategy: impl Strategy<Value = T> + 'static,
    otherwise: T,
) -> BoxedStrategy<T> {
    if possible { strategy.boxed() } else { Just(otherwise).boxed() }
}

/// Never both -1: that is left out, and read as not there.
fn leader() -> impl Strategy<Value = LeaderIdAndEpoch> {
    (0i32.., any::<i32>()).prop_map(|(leader_id, epoch)| LeaderIdAndEpoch {
        leader_id: BrokerId(leader_id),
        leader_epoch: LeaderEpoch(epoch),
    })
}

fn endpoints() -> impl Strategy<Value = Vec<NodeEndpoint>> {
    let endpoint = (any::<i32>(), text(), any::<i32>(), option::of(text()));
    vec(
        endpoint.prop_map(|(node_id, host, port, rack)| NodeEndpoint {
            node_id: BrokerId(node_id),
            host,
            port,
            rack,
        }),
        0..3,
    )
}

fn produce_request(version: i16) -> impl Strategy<Value = ProduceRequest> {
    let partition = (any::<i32>(), option::of(records()))
        .prop_map(|(index, records)| PartitionProduceData { index, records });
    let topic = (topic(version >= 13), vec(partition, 0..4))
        .prop_map(|(topic, partitions)| TopicProduceData { topic, partitions });
    (option::of(text()), any::<i16>(), any::<i32>(), vec(topic, 0..4)).prop_map(
        |(transactional_id, acks, timeout_ms, topics)| ProduceRequest {
            transactional_id,
            acks,
            timeout_ms,
            topics,
        },
    )
}

fn produce_response(version: i16) -> impl Strategy<Value = ProduceResponse> {
    let record_error = (any::<i32>(), option::of(text()))
        .prop_map(|(batch_index, message)| BatchIndexAndErrorMessage { batch_index, message });
    let partition = (
        (any::<i32>(), error_code(), any::<i64>(), any::<i64>()),
        when(version >= 5, any::<i64>(), -1),
        when(version >= 8, vec(record_error, 0..3), Vec::new()),
        when(version >= 8, option::of(text()), None),
        when(version >= 10, option::of(leader()), None),
    )
        .prop_map(
            |((index, error_code, base, time), start, record_errors, error_message, leader)| {
                PartitionProduceResponse {
                    index,
                    error_code,
                    base_offset: Offset(base),
                    log_append_time: Timestamp(time),
                    log_start_offset: Offset(start),
                    record_errors,
                    error_message,
                    current_leader: leader,
                }
            },
        );
    let topic = (topic(version >= 13), vec(partition, 0..4))
        .prop_map(|(topic, partitions)| TopicProduceResponse { topic, partitions });
    (vec(topic, 0..4), any::<i32>(), when(version >= 10, endpoints(), Vec::new())).prop_map(
        |(topics, throttle_time_ms, node_endpoints)| ProduceResponse {
            topics,
            throttle_time_ms,
            node_endpoints,
        },
    )
}

fn fetch_request(version: i16) -> impl Strategy<Value = FetchRequest> {
    let partition = (
        (any::<i32>(), any::<i64>(), any::<i32>()),
        when(version >= 9, any::<i32>(), -1),
        when(version >= 12, any::<i32>(), -1),
        when(version >= 5, any::<i64>(), -1),
        when(version >= 17, uuid(), Uuid::ZERO),
        when(version >= 18, prop_oneof![any::<i64>(), Just(i64::MAX)], i64::MAX),
    )
        .prop_map(|((partition, offset, max), epoch, last, start, directory, watermark)| {
            FetchPartition {
                partition,
                current_leader_epoch: LeaderEpoch(epoch),
                fetch_offset: Offset(offset),
                last_fetched_epoch: LeaderEpoch(last),
                log_start_offset: Offset(start),
                partition_max_bytes: max,
                replica_directory_id: directory,
                high_watermark: Offset(watermark),
            }
        });
    let wanted = (topic(version >= 13), vec(partition, 0..4))
        .prop_map(|(topic, partitions)| FetchTopic { topic, partitions });
    let forgotten = (topic(version >= 13), vec(any::<i32>(), 0..4))
        .prop_map(|(topic, partitions)| ForgottenTopic { topic, partitions });
    (
        when(version >= 12, option::of(text()), None),
        (any::<i32>(), when(version >= 15, any::<i64>(), -1)),
        (any::<i32>(), any::<i32>(), any::<i32>(), any::<i8>()),
        when(version >= 7, (any::<i32>(), any::<i32>()), (0, -1)),
        vec(wanted, 0..4),
        when(version >= 7, vec(forgotten, 0..3), Vec::new()),
        when(version >= 11, text(), StrBytes::default()),
    )
        .prop_map(
            |(cluster_id, replica, limits, session, topics, forgotten_topics, rack_id)| {
                FetchRequest {
                    cluster_id,
                    replica_id: BrokerId(replica.0),
                    replica_epoch: replica.1,
                    max_wait_ms: limits.0,
                    min_bytes: limits.1,
                    max_bytes: limits.2,
                    isolation_level: limits.3,
                    session_id: session.0,
                    session_epoch: session.1,
                    topics,
                    forgotten_topics,
                    rack_id,
                }
            },
        )
}

fn fetch_response(version: i16) -> impl Strategy<Value = FetchResponse> {
    let aborted =
        (any::<i64>(), any::<i64>()).prop_map(|(producer_id, first_offset)| AbortedTransaction {
            producer_id: ProducerId(producer_id),
            first_offset: Offset(first_offset),
        });
    let diverging = (0i32.., any::<i64>()).prop_map(|(epoch, end)| EpochEndOffset {
        epoch: LeaderEpoch(epoch),
        end_offset: Offset(end),
    });
    let snapshot = (0i64.., any::<i32>())
        .prop_map(|(end, epoch)| SnapshotId { end_offset: Offset(end), epoch: LeaderEpoch(epoch) });
    let partition = (
        (any::<i32>(), error_code(), any::<i64>(), any::<i64>()),
        when(version >= 5, any::<i64>(), -1),
        when(
            version >= 12,
            (option::of(diverging), option::of(leader()), option::of(snapshot)),
            (None, None, None),
        ),
        option::of(vec(aborted, 0..3)),
        when(version >= 11, any::<i32>(), -1),
        records(),
    )
        .prop_map(
            |((index, error_code, watermark, stable), start, tags, aborted, replica, records)| {
                PartitionData {
                    partition_index: index,
                    error_code,
                    high_watermark: Offset(watermark),
                    last_stable_offset: Offset(stable),
                    log_start_offset: Offset(start),
                    diverging_epoch: tags.0,
                    current_leader: tags.1,
                    snapshot_id: tags.2,
                    aborted_transactions: aborted,
                    preferred_read_replica: BrokerId(replica),
                    records,
                }
            },
        );
    let topic = (topic(version >= 13), vec(partition, 0..4))
        .prop_map(|(topic, partitions)| FetchableTopicResponse { topic, partitions });
    (
        any::<i32>(),
        when(version >= 7, (error_code(), any::<i32>()), (ErrorCode::None, 0)),
        vec(topic, 0..4),
        when(version >= 16, endpoints(), Vec::new()),
    )
        .prop_map(|(throttle_time_ms, (error_code, session_id), topics, node_endpoints)| {
            FetchResponse { throttle_time_ms, error_code, session_id, topics, node_endpoints }
        })
}

fn versioned<T: std::fmt::Debug, S: Strategy<Value = T> + 'static>(
    versions: std::ops::RangeInclusive<i16>,
    strategy: fn(i16) -> S,
) -> impl Strategy<Value = (i16, T)> {
    versions.prop_flat_map(move |version| (Just(version), strategy(version)))
}

mod theirs {
    //! Our values as the wire library's.

    use super::*;

    fn name(topic: &TopicRef) -> StrBytes {
        match topic {
            TopicRef::Name(name) => name.clone(),
            TopicRef::Id(_) => StrBytes::default(),
        }
    }

    fn id(topic: &TopicRef) -> Uuid {
        match topic {
            TopicRef::Name(_) => Uuid::ZERO,
            TopicRef::Id(id) => *id,
        }
    }

    pub(super) fn produce_request(ours: &ProduceRequest) -> messages::ProduceRequest {
        use messages::produce_request::{PartitionProduceData, TopicProduceData};
        let topic = |topic: &super::TopicProduceData| {
            message!(TopicProduceData {
                name: name(&topic.topic),
                topic_id: id(&topic.topic),
                partition_data: topic
                    .partitions
                    .iter()
                    .map(|partition| message!(PartitionProduceData {
                        index: partition.index,
                        records: partition.records.clone(),
                    }))
                    .collect(),
            })
        };
        message!(messages::ProduceRequest {
            transactional_id: ours.transactional_id.clone(),
            acks: ours.acks,
            timeout_ms: ours.timeout_ms,
            topic_data: ours.topics.iter().map(topic).collect(),
        })
    }

    pub(super) fn produce_response(ours: &ProduceResponse) -> messages::ProduceResponse {
        use messages::produce_response as wire;
        let record_error = |record: &BatchIndexAndErrorMessage| {
            message!(wire::BatchIndexAndErrorMessage {
                batch_index: record.batch_index,
                batch_index_error_message: record.message.clone(),
            })
        };
        let partition = |partition: &PartitionProduceResponse| {
            let mut leader = wire::LeaderIdAndEpoch::default();
            if let Some(ours) = partition.current_leader {
                leader.leader_id = ours.leader_id.0;
                leader.leader_epoch = ours.leader_epoch.0;
            }
            message!(wire::PartitionProduceResponse {
                index: partition.index,
                error_code: partition.error_code.code(),
                base_offset: partition.base_offset.0,
                log_append_time_ms: partition.log_append_time.0,
                log_start_offset: partition.log_start_offset.0,
                record_errors: partition.record_errors.iter().map(record_error).collect(),
                error_message: partition.error_message.clone(),
                current_leader: leader,
            })
        };
        let topic = |topic: &TopicProduceResponse| {
            message!(wire::TopicProduceResponse {
                name: name(&topic.topic),
                topic_id: id(&topic.topic),
                partition_responses: topic.partitions.iter().map(partition).collect(),
            })
        };
        let endpoint = |endpoint: &NodeEndpoint| {
            message!(wire::NodeEndpoint {
                node_id: endpoint.node_id.0,
                host: endpoint.host.clone(),
                port: endpoint.port,
                rack: endpoint.rack.clone(),
            })
        };
        message!(messages::ProduceResponse {
            responses: ours.topics.iter().map(topic).collect(),
            throttle_time_ms: ours.throttle_time_ms,
            node_endpoints: ours.node_endpoints.iter().map(endpoint).collect(),
        })
    }

    pub(super) fn fetch_request(ours: &FetchRequest, version: i16) -> messages::FetchRequest {
        use messages::fetch_request as wire;
        let partition = |partition: &FetchPartition| {
            message!(wire::FetchPartition {
                partition: partition.partition,
                current_leader_epoch: partition.current_leader_epoch.0,
                fetch_offset: partition.fetch_offset.0,
                last_fetched_epoch: partition.last_fetched_epoch.0,
                log_start_offset: partition.log_start_offset.0,
                partition_max_bytes: partition.partition_max_bytes,
                replica_directory_id: partition.replica_directory_id,
                high_watermark: partition.high_watermark.0,
            })
        };
        let topic = |topic: &FetchTopic| {
            message!(wire::FetchTopic {
                topic: name(&topic.topic),
                topic_id: id(&topic.topic),
                partitions: topic.partitions.iter().map(partition).collect(),
            })
        };
        let forgotten = |topic: &ForgottenTopic| {
            message!(wire::ForgottenTopic {
                topic: name(&topic.topic),
                topic_id: id(&topic.topic),
                partitions: topic.partitions.clone(),
            })
        };
        let mut theirs = message!(messages::FetchRequest {
            cluster_id: ours.cluster_id.clone(),
            max_wait_ms: ours.max_wait_ms,
            min_bytes: ours.min_bytes,
            max_bytes: ours.max_bytes,
            isolation_level: ours.isolation_level,
            session_id: ours.session_id,
            session_epoch: ours.session_epoch,
            topics: ours.topics.iter().map(topic).collect(),
            forgotten_topics_data: ours.forgotten_topics.iter().map(forgotten).collect(),
            rack_id: ours.rack_id.clone(),
        });
        if version < 15 {
            theirs.replica_id = ours.replica_id.0;
        } else {
            theirs.replica_state = message!(wire::ReplicaState {
                replica_id: ours.replica_id.0,
                replica_epoch: ours.replica_epoch,
            });
        }
        theirs
    }

    pub(super) fn fetch_response(ours: &FetchResponse) -> messages::FetchResponse {
        use messages::fetch_response as wire;
        let aborted = |transaction: &AbortedTransaction| {
            message!(wire::AbortedTransaction {
                producer_id: transaction.producer_id.0,
                first_offset: transaction.first_offset.0,
            })
        };
        let partition = |ours: &PartitionData| {
            let mut theirs = message!(wire::PartitionData {
                partition_index: ours.partition_index,
                error_code: ours.error_code.code(),
                high_watermark: ours.high_watermark.0,
                last_stable_offset: ours.last_stable_offset.0,
                log_start_offset: ours.log_start_offset.0,
                aborted_transactions: ours
                    .aborted_transactions
                    .as_ref()
                    .map(|transactions| transactions.iter().map(aborted).collect()),
                preferred_read_replica: ours.preferred_read_replica.0,
                records: Some(ours.records.clone()),
            });
            if let Some(diverging) = ours.diverging_epoch {
                theirs.diverging_epoch = message!(wire::EpochEndOffset {
                    epoch: diverging.epoch.0,
                    end_offset: diverging.end_offset.0,
                });
            }
            if let Some(leader) = ours.current_leader {
                theirs.current_leader = message!(wire::LeaderIdAndEpoch {
                    leader_id: leader.leader_id.0,
                    leader_epoch: leader.leader_epoch.0,
                });
            }
            if let Some(snapshot) = ours.snapshot_id {
                theirs.snapshot_id = message!(wire::SnapshotId {
                    end_offset: snapshot.end_offset.0,
                    epoch: snapshot.epoch.0,
                });
            }
            theirs
        };
        let topic = |topic: &FetchableTopicResponse| {
            message!(wire::FetchableTopicResponse {
                topic: name(&topic.topic),
                topic_id: id(&topic.topic),
                partitions: topic.partitions.iter().map(partition).collect(),
            })
        };
        let endpoint = |endpoint: &NodeEndpoint| {
            message!(wire::NodeEndpoint {
                node_id: endpoint.node_id.0,
                host: endpoint.host.clone(),
                port: endpoint.port,
                rack: endpoint.rack.clone(),
            })
        };
        message!(messages::FetchResponse {
            throttle_time_ms: ours.throttle_time_ms,
            error_code: ours.error_code.code(),
            session_id: ours.session_id,
            responses: ours.topics.iter().map(topic).collect(),
            node_endpoints: ours.node_endpoints.iter().map(endpoint).collect(),
        })
    }
}

fn header(api_key: ApiKey, api_version: i16) -> RequestHeader {
    RequestHeader { api_key, api_version, correlation_id: 77, client_id: Some("tést".into()) }
}

/// The frame of the wire library for a request of its own type.
macro_rules! their_request_frame {
    ($request:expr, $version:expr) => {{
        let mut frame = BytesMut::new();
        let version = messages_version($version);
        let limits = OutboundFrameLimits::new(1 << 20);
        let client = Some(StrBytes::from("tést"));
        messages::encode_request(&mut frame, 77, client, &$request, version, limits).unwrap();
        frame.freeze()
    }};
}

fn messages_version(version: i16) -> kafka_wire_core::ApiVersion {
    kafka_wire_core::ApiVersion::new(version)
}

fn our_body(frame: &Bytes) -> (RequestHeader, Bytes) {
    RequestHeader::decode(&frame.slice(4..)).unwrap()
}

/// What `kafka-protocol` makes of `body`, encoded again.
fn through_kafka_protocol<M: Decodable + Encodable>(body: &Bytes, version: i16) -> Bytes {
    let mut unread = body.clone();
    let message = M::decode(&mut unread, version).unwrap();
    assert!(unread.is_empty());
    let mut again = BytesMut::new();
    message.encode(&mut again, version).unwrap();
    again.freeze()
}

fn assert_length_prefix(frame: &Bytes) {
    let length = i32::from_be_bytes(*frame.first_chunk().unwrap());
    assert_eq!(length as usize, frame.len() - 4);
}

proptest! {
    #[test]
    fn produce_requests((version, request) in versioned(PRODUCE, produce_request)) {
        let header = header(ApiKey::Produce, version);
        let frame = request.encode(&header).unwrap().into_bytes();
        assert_length_prefix(&frame);
        prop_assert_eq!(&frame, &their_request_frame!(theirs::produce_request(&request), version));
        let (decoded_header, body) = our_body(&frame);
        prop_assert_eq!(&decoded_header, &header);
        let again =
            through_kafka_protocol::<kafka_protocol::messages::ProduceRequest>(&body, version);
        prop_assert_eq!(&body, &again);
        prop_assert_eq!(Request::decode(&header, body).unwrap(), Request::Produce(request));
    }

    #[test]
    fn produce_responses((version, response) in versioned(PRODUCE, produce_response)) {
        let ours = Response::<Bytes>::from(response.clone());
        let frame = ours.encode(77, version).unwrap().into_bytes();
        assert_length_prefix(&frame);
        let (correlation_id, body) =
            decode_response_header(&frame.slice(4..), ApiKey::Produce, version).unwrap();
        prop_assert_eq!(correlation_id, 77);
        let expected = kafka_wire_core::KafkaEncode::encode_to_bytes(
            &theirs::produce_response(&response),
            messages_version(version),
        )
        .unwrap();
        prop_assert_eq!(&body, &expected);
        let again =
            through_kafka_protocol::<kafka_protocol::messages::ProduceResponse>(&body, version);
        prop_assert_eq!(&body, &again);
        prop_assert_eq!(ProduceResponse::decode(&body, version).unwrap(), response);
    }

    #[test]
    fn fetch_requests((version, request) in versioned(FETCH, fetch_request)) {
        let header = header(ApiKey::Fetch, version);
        let frame = request.encode(&header).unwrap().into_bytes();
        assert_length_prefix(&frame);
        let theirs = theirs::fetch_request(&request, version);
        prop_assert_eq!(&frame, &their_request_frame!(theirs, version));
        let (decoded_header, body) = our_body(&frame);
        prop_assert_eq!(&decoded_header, &header);
        let again =
            through_kafka_protocol::<kafka_protocol::messages::FetchRequest>(&body, version);
        prop_assert_eq!(&body, &again);
        prop_assert_eq!(Request::decode(&header, body).unwrap(), Request::Fetch(request));
    }

    #[test]
    fn fetch_responses((version, response) in versioned(FETCH, fetch_response)) {
        let ours = Response::from(response.clone());
        let frame = ours.encode(77, version).unwrap();
        let length = frame.len();
        let frame = frame.into_bytes();
        prop_assert_eq!(length, frame.len());
        assert_length_prefix(&frame);
        let (correlation_id, body) =
            decode_response_header(&frame.slice(4..), ApiKey::Fetch, version).unwrap();
        prop_assert_eq!(correlation_id, 77);
        let expected = kafka_wire_core::KafkaEncode::encode_to_bytes(
            &theirs::fetch_response(&response),
            messages_version(version),
        )
        .unwrap();
        prop_assert_eq!(&body, &expected);
        let again =
            through_kafka_protocol::<kafka_protocol::messages::FetchResponse>(&body, version);
        prop_assert_eq!(&body, &again);
        prop_assert_eq!(FetchResponse::decode(&body, version).unwrap(), response);
    }

    #[test]
    fn every_truncation_is_an_error(
        (version, produce) in versioned(PRODUCE, produce_request),
        (fetch_version, fetch) in versioned(FETCH, fetch_request),
        (response_version, response) in versioned(FETCH, fetch_response),
        (ack_version, ack) in versioned(PRODUCE, produce_response),
    ) {
        let produce_header = header(ApiKey::Produce, version);
        let frame = produce.encode(&produce_header).unwrap().into_bytes();
        let (_, body) = our_body(&frame);
        for end in 0..body.len() {
            prop_assert!(Request::decode(&produce_header, body.slice(..end)).is_err());
        }
        let fetch_header = header(ApiKey::Fetch, fetch_version);
        let frame = fetch.encode(&fetch_header).unwrap().into_bytes();
        let (_, body) = our_body(&frame);
        for end in 0..body.len() {
            prop_assert!(Request::decode(&fetch_header, body.slice(..end)).is_err());
        }
        let frame = Response::from(response).encode(1, response_version).unwrap().into_bytes();
        let (_, body) =
            decode_response_header(&frame.slice(4..), ApiKey::Fetch, response_version).unwrap();
        for end in 0..body.len() {
            prop_assert!(FetchResponse::decode(&body.slice(..end), response_version).is_err());
        }
        let frame = Response::<Bytes>::from(ack).encode(1, ack_version).unwrap().into_bytes();
        let (_, body) =
            decode_response_header(&frame.slice(4..), ApiKey::Produce, ack_version).unwrap();
        for end in 0..body.len() {
            prop_assert!(ProduceResponse::decode(&body.slice(..end), ack_version).is_err());
        }
    }

    #[test]
    fn bytes_behind_a_request_are_ignored((version, request) in versioned(PRODUCE, produce_request)) {
        let header = header(ApiKey::Produce, version);
        let frame = request.encode(&header).unwrap().into_bytes();
        let (_, body) = our_body(&frame);
        let longer = Bytes::from([body.as_ref(), &[0]].concat());
        prop_assert_eq!(Request::decode(&header, longer), Request::decode(&header, body));
    }
}

#[test]
fn records_leave_the_decoder_as_slices_of_the_frame() {
    let request = ProduceRequest {
        topics: vec![TopicProduceData {
            topic: TopicRef::Name("t".into()),
            partitions: vec![PartitionProduceData {
                index: 0,
                records: Some(Bytes::from(vec![7; 1000])),
            }],
        }],
        ..ProduceRequest::default()
    };
    let header = header(ApiKey::Produce, 9);
    let frame = request.encode(&header).unwrap();
    // Length, header and body up to the records; the records; what follows them.
    assert_eq!(frame.parts.len(), 3);
    let frame = frame.into_bytes();
    let (_, body) = our_body(&frame);
    let decoded = ProduceRequest::decode(&body, 9).unwrap();
    let records = decoded.topics[0].partitions[0].records.as_ref().unwrap();
    let frame_range = frame.as_ptr() as usize..frame.as_ptr() as usize + frame.len();
    assert!(frame_range.contains(&(records.as_ptr() as usize)), "copied");
}

#[test]
fn a_topic_must_be_named_as_the_version_names_it() {
    let topics = |topic| vec![TopicProduceResponse { topic, partitions: Vec::new() }];
    let by_name = || ProduceResponse {
        topics: topics(TopicRef::Name("t".into())),
        ..ProduceResponse::default()
    };
    let by_id = || ProduceResponse {
        topics: topics(TopicRef::Id(Uuid::ZERO)),
        ..ProduceResponse::default()
    };
    assert!(Response::<Bytes>::from(by_name()).encode(1, 12).is_ok());
    assert!(Response::<Bytes>::from(by_name()).encode(1, 13).is_err());
    assert!(Response::<Bytes>::from(by_id()).encode(1, 12).is_err());
    assert!(Response::<Bytes>::from(by_id()).encode(1, 13).is_ok());
}
