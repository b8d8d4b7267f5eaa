//! Writes `corpus/<target>/*`: one well-formed input of every kind, from which fuzzing starts.

#[path = "../../crates/telemetry/tests/telemetry/otlp_bytes.rs"]
mod otlp_bytes;

use std::path::Path;

use bytes::Bytes;
use ottla_protocol::compression::{Compression, Compressor};
use ottla_protocol::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse,
    ForgottenTopic, PartitionData,
};
use ottla_protocol::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData, TopicProduceResponse,
};
use ottla_protocol::record_batch::{ControlRecordType, NewRecord, RecordBatchBuilder};
use ottla_protocol::{
    ApiKey, ErrorCode, Offset, ProducerEpoch, ProducerId, RequestHeader, Response, Timestamp,
    TopicRef, Uuid,
};

fn main() -> std::io::Result<()> {
    write("request_decode", requests())?;
    write("record_batch", batches())?;
    write("telemetry", pushes())
}

fn write(target: &str, seeds: Vec<(String, Bytes)>) -> std::io::Result<()> {
    let folder = Path::new("corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    for (name, seed) in seeds {
        std::fs::write(folder.join(name), seed)?;
    }
    Ok(())
}

/// What clients push, each codec's number before it.
fn pushes() -> Vec<(String, Bytes)> {
    use otlp_bytes::{Data, Metric, metrics_data};
    let metric = |name, data| Metric { name, attributes: vec![("topic", "orders")], data };
    let metrics = [
        metric("producer.record.send.total", Data::Sum(5.0, true, true)),
        metric("producer.record.send.rate", Data::Gauge(0.5)),
        metric("latency", Data::Histogram(4.5, vec![1.0, 2.0], vec![1, 0, 2], true)),
    ];
    let plain = metrics_data(&[("client_rack", "a")], &metrics);
    let seed = |codec: Compression| {
        let mut seed = vec![codec.id()];
        Compressor::new(codec, None).compress(&plain, &mut seed).unwrap();
        (format!("push-{codec}"), seed.into())
    };
    Compression::ALL.map(seed).to_vec()
}

fn topic(by_id: bool) -> TopicRef {
    if by_id { TopicRef::Id(Uuid::from_bytes([7; 16])) } else { TopicRef::Name("orders".into()) }
}

fn builder() -> RecordBatchBuilder {
    let mut builder =
        RecordBatchBuilder::new().producer(ProducerId(9), ProducerEpoch(0), 5).transactional();
    for index in 0..5 {
        builder.append(&NewRecord {
            timestamp: Timestamp(1_700_000_000_000 + index),
            key: (index % 2 == 0).then_some(b"key"),
            value: Some(b"a value with a value with a value"),
            headers: &[("trace", Some(b"0123")), ("null", None)],
        });
    }
    builder
}

fn batches() -> Vec<(String, Bytes)> {
    let mut seeds = Vec::new();
    for codec in Compression::ALL {
        let batch = builder().build_compressed(&mut Compressor::new(codec, None)).unwrap();
        seeds.push((format!("two-batches-{codec}"), [batch.clone(), batch].concat().into()));
        let mut stream = vec![codec.id()];
        Compressor::new(codec, None).compress(&[7; 5000], &mut stream).unwrap();
        seeds.push((format!("stream-{codec}"), stream.into()));
    }
    let mut control = RecordBatchBuilder::new().control();
    control.append_control(ControlRecordType::Commit, Timestamp(1), &[0; 6]);
    seeds.push(("control".to_owned(), control.build()));
    seeds
}

fn requests() -> Vec<(String, Bytes)> {
    let mut seeds = Vec::new();
    for &api_key in ApiKey::ALL {
        let Some(served) = api_key.served_versions() else { continue };
        for api_version in served.min..=served.max {
            let header = RequestHeader {
                api_key,
                api_version,
                correlation_id: 7,
                client_id: Some("me".into()),
            };
            let frame = request(&header);
            seeds.push((format!("{api_key}-{api_version}"), frame));
        }
    }
    for version in [3, 7, 9, 13] {
        let partition = PartitionProduceResponse::failed(1, ErrorCode::NotLeaderOrFollower);
        let topics =
            vec![TopicProduceResponse { topic: topic(version >= 13), partitions: vec![partition] }];
        let response = ProduceResponse { topics, ..ProduceResponse::default() };
        seeds.push((format!("produced-{version}"), body(response.into(), version, 9)));
    }
    for version in [4, 11, 12, 18] {
        let mut partition = PartitionData::failed(1, ErrorCode::None);
        partition.records = builder().build();
        let topics = vec![FetchableTopicResponse {
            topic: topic(version >= 13),
            partitions: vec![partition],
        }];
        let response = FetchResponse {
            throttle_time_ms: 0,
            error_code: ErrorCode::None,
            session_id: 3,
            topics,
            node_endpoints: Vec::new(),
        };
        seeds.push((format!("fetched-{version}"), body(response.into(), version, 12)));
    }
    seeds
}

fn body(response: Response<Bytes>, version: i16, first_flexible: i16) -> Bytes {
    let header = if version >= first_flexible { 9 } else { 8 };
    response.encode(0, version).unwrap().into_bytes().slice(header..)
}

/// A whole frame for Produce and Fetch; for other APIs a header, and zeros to make a body of.
fn request(header: &RequestHeader) -> Bytes {
    let by_id = header.api_version >= 13;
    let produce = ProduceRequest {
        transactional_id: Some("tx".into()),
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![TopicProduceData {
            topic: topic(by_id),
            partitions: vec![PartitionProduceData { index: 1, records: Some(builder().build()) }],
        }],
    };
    let mut fetch = FetchRequest {
        topics: vec![FetchTopic {
            topic: topic(by_id),
            partitions: vec![FetchPartition {
                fetch_offset: Offset(5),
                ..FetchPartition::default()
            }],
        }],
        ..FetchRequest::default()
    };
    if header.api_version >= 7 {
        fetch.forgotten_topics =
            vec![ForgottenTopic { topic: topic(by_id), partitions: vec![1, 2] }];
    }
    if header.api_key == ApiKey::Produce {
        return produce.encode(header).unwrap().into_bytes().slice(4..);
    }
    if header.api_key == ApiKey::Fetch {
        return fetch.encode(header).unwrap().into_bytes().slice(4..);
    }
    let mut frame = Vec::new();
    frame.extend_from_slice(&header.api_key.key().to_be_bytes());
    frame.extend_from_slice(&header.api_version.to_be_bytes());
    frame.extend_from_slice(&header.correlation_id.to_be_bytes());
    frame.extend_from_slice(&[0, 2, b'm', b'e']);
    frame.extend_from_slice(&[0; 40]);
    frame.into()
}
