//! One connection: a request in, an answer out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::{Bytes, BytesMut};
use ottla_protocol::fetch::{
    FetchRecords, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use ottla_protocol::messages::create_topics_response::CreatableTopicResult;
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::{
    ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse,
};
use ottla_protocol::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use ottla_protocol::{
    ErrorCode, Frame, Offset, Part, Request, RequestHeader, Response, StrBytes, Uuid,
    advertised_apis, message,
};

use crate::FetchBy;
use crate::log::{Log, Range, copy};

const MAX_FRAME: usize = 100 << 20;
const RECEIVE_BUFFER: usize = 256 << 10;
/// The one topic, whatever it is called.
const TOPIC_ID: Uuid = Uuid::from_bytes([7; 16]);

pub(crate) struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    log: Arc<Log>,
    fetch: FetchBy,
    /// Memory for requests, of which the first `filled` bytes hold some.
    received: BytesMut,
    filled: usize,
    buffer: Vec<u8>,
}

impl FetchRecords for Range {
    fn len(&self) -> usize {
        self.length
    }
}

impl Connection {
    pub(crate) fn new(
        stream: TcpStream,
        address: SocketAddr,
        log: Arc<Log>,
        fetch: FetchBy,
    ) -> Result<Self> {
        stream.set_nodelay(true)?;
        let (received, buffer) = (BytesMut::zeroed(RECEIVE_BUFFER), Vec::new());
        Ok(Self { stream, address, log, fetch, received, filled: 0, buffer })
    }

    pub(crate) fn serve(mut self) -> Result<()> {
        loop {
            let space = self.received.get_mut(self.filled..).unwrap_or_default();
            let read = self.stream.read(space)?;
            if read == 0 {
                return Ok(());
            }
            self.filled += read;
            let received = std::mem::take(&mut self.received).freeze();
            let mut done = 0;
            let needed = loop {
                let rest = received.slice(done..self.filled);
                let needed = frame_length(&rest)?;
                if rest.len() < needed {
                    break needed;
                }
                self.handle(rest.slice(4..needed))?;
                done += needed;
            };
            // All slices are gone, so the memory comes back without a copy, and already written
            // once: neither allocation nor zeroing is part of the yardstick.
            self.received =
                received.try_into_mut().map_err(|_| anyhow!("bug: a frame is still held"))?;
            self.received.copy_within(done..self.filled, 0);
            self.filled -= done;
            if self.received.len() < needed {
                self.received.resize(needed, 0);
            }
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "nothing else is measured")]
    fn handle(&mut self, frame: Bytes) -> Result<()> {
        let (header, body) = RequestHeader::decode(&frame)?;
        match Request::decode(&header, body)? {
            Request::Produce(request) => self.produce(&header, request),
            Request::Fetch(request) => self.fetch(&header, request),
            Request::ApiVersions(_) => {
                let rows = advertised_apis();
                self.answer(&header, message!(ApiVersionsResponse { api_keys: rows }))
            }
            Request::Metadata(request) => self.answer(&header, self.metadata(request)),
            Request::CreateTopics(request) => self.answer(&header, created(request)),
            Request::ListOffsets(request) => self.answer(&header, self.offsets(request)),
            other => bail!("{} is not part of the yardstick", other.api_key()),
        }
    }

    fn produce(&mut self, header: &RequestHeader, request: ProduceRequest) -> Result<()> {
        let mut topics = Vec::new();
        for topic in request.topics {
            let mut partitions = Vec::new();
            for partition in topic.partitions {
                let base_offset = self.log.append(&partition.records.unwrap_or_default())?;
                partitions.push(PartitionProduceResponse {
                    base_offset,
                    log_start_offset: Offset(0),
                    ..PartitionProduceResponse::failed(partition.index, ErrorCode::None)
                });
            }
            topics.push(TopicProduceResponse { topic: topic.topic, partitions });
        }
        if request.acks == 0 {
            return Ok(());
        }
        self.answer(header, ProduceResponse { topics, ..ProduceResponse::default() })
    }

    fn fetch(&mut self, header: &RequestHeader, request: FetchRequest) -> Result<()> {
        let mut left = usize::try_from(request.max_bytes).unwrap_or(0);
        let mut topics = Vec::new();
        for topic in request.topics {
            let mut partitions = Vec::new();
            for partition in topic.partitions {
                let most = usize::try_from(partition.partition_max_bytes).unwrap_or(0).min(left);
                let range = self.log.range(partition.fetch_offset, most);
                left -= range.length;
                partitions.push(PartitionData {
                    partition_index: partition.partition,
                    error_code: ErrorCode::None,
                    high_watermark: range.end_offset,
                    last_stable_offset: range.end_offset,
                    log_start_offset: Offset(0),
                    diverging_epoch: None,
                    current_leader: None,
                    snapshot_id: None,
                    aborted_transactions: None,
                    preferred_read_replica: ottla_protocol::BrokerId::NONE,
                    records: range,
                });
            }
            topics.push(FetchableTopicResponse { topic: topic.topic, partitions });
        }
        let response = FetchResponse {
            throttle_time_ms: 0,
            error_code: ErrorCode::None,
            session_id: 0,
            topics,
            node_endpoints: Vec::new(),
        };
        let frame = Response::from(response).encode(header.correlation_id, header.api_version)?;
        self.send(frame)
    }

    fn send(&mut self, frame: Frame<Range>) -> Result<()> {
        for part in frame.parts {
            match part {
                Part::Bytes(bytes) => self.stream.write_all(&bytes)?,
                Part::Records(range) if self.fetch == FetchBy::Copy => {
                    copy(self.log.file(), &range, &mut self.buffer, &mut self.stream)?;
                }
                Part::Records(range) => {
                    let mut position = range.position;
                    let end = range.position + range.length as u64;
                    while position < end {
                        let left = usize::try_from(end - position)?;
                        let log = self.log.file();
                        rustix::fs::sendfile(&self.stream, log, Some(&mut position), left)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn answer(&self, header: &RequestHeader, response: impl Into<Response>) -> Result<()> {
        let frame = response.into().encode(header.correlation_id, header.api_version)?;
        (&self.stream).write_all(&frame.into_bytes()).context("cannot answer")
    }

    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let partition = message!(MetadataResponsePartition {
            leader_id: 1,
            leader_epoch: 0,
            replica_nodes: vec![1],
            isr_nodes: vec![1],
        });
        let topic = |name: Option<StrBytes>| {
            message!(MetadataResponseTopic {
                name: name,
                topic_id: TOPIC_ID,
                partitions: vec![partition.clone()],
            })
        };
        let broker = message!(MetadataResponseBroker {
            node_id: 1,
            host: StrBytes::from(self.address.ip().to_string()),
            port: i32::from(self.address.port()),
        });
        message!(MetadataResponse {
            brokers: vec![broker],
            controller_id: 1,
            topics: request
                .topics
                .unwrap_or_default()
                .into_iter()
                .map(|it| topic(it.name))
                .collect(),
        })
    }

    fn offsets(&self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let end = self.log.end_offset();
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                message!(ListOffsetsPartitionResponse {
                    partition_index: partition.partition_index,
                    offset: if partition.timestamp == -2 { 0 } else { end.0 },
                })
            });
            message!(ListOffsetsTopicResponse {
                name: topic.name,
                partitions: partitions.collect(),
            })
        });
        message!(ListOffsetsResponse { topics: topics.collect() })
    }
}

fn created(request: CreateTopicsRequest) -> CreateTopicsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        message!(CreatableTopicResult { name: topic.name, topic_id: TOPIC_ID, num_partitions: 1 })
    });
    message!(CreateTopicsResponse { topics: topics.collect() })
}

/// Length of the frame at the start of `bytes`, its prefix included; that of the prefix if even
/// that is not there.
fn frame_length(bytes: &[u8]) -> Result<usize> {
    let Some(prefix) = bytes.first_chunk() else { return Ok(4) };
    let length = u32::from_be_bytes(*prefix) as usize;
    ensure!(length <= MAX_FRAME, "a frame of {length} bytes");
    Ok(length + 4)
}
