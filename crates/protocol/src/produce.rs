//! Produce, the hot path in: decoded without copying a record, versions 3 to 13.
//! Kafka: `ProduceRequest`, `ProduceResponse`.

use bytes::Bytes;
use kafka_wire_core::{DecodeError, EncodeError, StrBytes};

use crate::leader::{LeaderIdAndEpoch, NodeEndpoint};
use crate::topic_ref::TopicRef;
use crate::wire::{FrameWriter, Reader, Writer};
use crate::{ApiKey, ErrorCode, Offset, Timestamp};

/// From this version on topics are named by id (KIP-516).
const FIRST_VERSION_BY_ID: i16 = 13;

/// Records to append, partition by partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceRequest {
    /// The transactional id, if the producer is transactional.
    pub transactional_id: Option<StrBytes>,
    /// 0: send no response; 1: answer when the leader has the records; -1: when all in-sync
    /// replicas have. Any other value is to be refused with `INVALID_REQUIRED_ACKS`.
    pub acks: i16,
    /// How long to wait for the replicas, in milliseconds.
    pub timeout_ms: i32,
    /// The topics, in the order of the request.
    pub topics: Vec<TopicProduceData>,
}

/// The part of a [`ProduceRequest`] for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicProduceData {
    /// The topic.
    pub topic: TopicRef,
    /// Its partitions, in the order of the request.
    pub partitions: Vec<PartitionProduceData>,
}

/// The part of a [`ProduceRequest`] for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionProduceData {
    /// Number of the partition.
    pub index: i32,
    /// Record batches, not yet looked at: a slice of the request's frame. `None` if null.
    pub records: Option<Bytes>,
}

impl TopicProduceData {
    /// A name or an id, an array.
    const MIN_SIZE: usize = 2;
}

impl PartitionProduceData {
    /// A number and a length.
    const MIN_SIZE: usize = 5;
}

impl ProduceRequest {
    /// Decodes a request body.
    ///
    /// `version` must be one that is served; see [`ApiKey::served_versions`].
    pub fn decode(body: &Bytes, version: i16) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body, ApiKey::Produce.is_flexible(version));
        let transactional_id = reader.nullable_string()?;
        let acks = reader.i16()?;
        let timeout_ms = reader.i32()?;
        let topics = reader
            .array(TopicProduceData::MIN_SIZE, |reader| TopicProduceData::read(reader, version))?;
        reader.skip_tagged_fields()?;
        Ok(Self { transactional_id, acks, timeout_ms, topics })
    }

    /// Encodes the body behind a header already in `frame`; records are not copied.
    pub(crate) fn write(
        &self,
        frame: &mut FrameWriter<Bytes>,
        version: i16,
    ) -> Result<(), EncodeError> {
        frame.writer.nullable_string(self.transactional_id.as_ref())?;
        frame.writer.i16(self.acks);
        frame.writer.i32(self.timeout_ms);
        frame.writer.array_length(self.topics.len())?;
        for topic in &self.topics {
            let by_id = version >= FIRST_VERSION_BY_ID;
            topic.topic.write(&mut frame.writer, "ProduceRequest", (version, by_id))?;
            frame.writer.array_length(topic.partitions.len())?;
            for partition in &topic.partitions {
                frame.writer.i32(partition.index);
                match &partition.records {
                    Some(records) => frame.records(records.clone())?,
                    None => frame.writer.length("records", None)?,
                }
                frame.writer.no_tagged_fields();
            }
            frame.writer.no_tagged_fields();
        }
        frame.writer.no_tagged_fields();
        Ok(())
    }
}

impl TopicProduceData {
    fn read(reader: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let topic = TopicRef::read(reader, version >= FIRST_VERSION_BY_ID)?;
        let partitions = reader.array(PartitionProduceData::MIN_SIZE, |reader| {
            let index = reader.i32()?;
            let records = reader.nullable_bytes()?;
            reader.skip_tagged_fields()?;
            Ok(PartitionProduceData { index, records })
        })?;
        reader.skip_tagged_fields()?;
        Ok(Self { topic, partitions })
    }
}

/// What became of each partition of a [`ProduceRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// The topics, in the order of the request.
    pub topics: Vec<TopicProduceResponse>,
    /// How long the client was, or is to be, throttled, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// Where the leaders named in the response are. Sent from version 10 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The part of a [`ProduceResponse`] for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicProduceResponse {
    /// The topic, named as the request named it.
    pub topic: TopicRef,
    /// Its partitions, in the order of the request.
    pub partitions: Vec<PartitionProduceResponse>,
}

/// The part of a [`ProduceResponse`] for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionProduceResponse {
    /// Number of the partition.
    pub index: i32,
    /// Whether the records were appended, and why not.
    pub error_code: ErrorCode,
    /// Offset of the first record, or -1 after an error.
    pub base_offset: Offset,
    /// When the broker appended the records, if the topic uses `LogAppendTime`; otherwise -1.
    pub log_append_time: Timestamp,
    /// The first offset the partition holds, or -1 after an error. Sent from version 5 on.
    pub log_start_offset: Offset,
    /// The records that made the batch fail (KIP-467). Sent from version 8 on.
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    /// Why the batch failed, in words. Sent from version 8 on.
    pub error_message: Option<StrBytes>,
    /// The leader, with `NOT_LEADER_OR_FOLLOWER` (KIP-951). Sent from version 10 on.
    pub current_leader: Option<LeaderIdAndEpoch>,
}

/// A record that made its batch fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchIndexAndErrorMessage {
    /// Position of the record in its batch, counted from 0.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: Option<StrBytes>,
}

impl PartitionProduceResponse {
    /// The answer for a partition to which nothing was appended.
    pub fn failed(index: i32, error_code: ErrorCode) -> Self {
        Self {
            index,
            error_code,
            base_offset: Offset::NONE,
            log_append_time: Timestamp::NONE,
            log_start_offset: Offset::NONE,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }

    /// A number, an error, two offsets or times.
    const MIN_SIZE: usize = 4 + 2 + 8 + 8;

    fn read(reader: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let index = reader.i32()?;
        let error_code = ErrorCode::from_wire(reader.i16()?);
        let base_offset = Offset(reader.i64()?);
        let log_append_time = Timestamp(reader.i64()?);
        let log_start_offset = if version >= 5 { Offset(reader.i64()?) } else { Offset::NONE };
        let mut record_errors = Vec::new();
        let mut error_message = None;
        if version >= 8 {
            record_errors = reader.array(BatchIndexAndErrorMessage::MIN_SIZE, |reader| {
                let batch_index = reader.i32()?;
                let message = reader.nullable_string()?;
                reader.skip_tagged_fields()?;
                Ok(BatchIndexAndErrorMessage { batch_index, message })
            })?;
            error_message = reader.nullable_string()?;
        }
        let mut current_leader = None;
        reader.tagged_fields(|tag, field| match tag {
            0 if version >= 10 => {
                current_leader = Some(LeaderIdAndEpoch::read(field)?);
                Ok(true)
            }
            _ => Ok(false),
        })?;
        Ok(Self {
            index,
            error_code,
            base_offset,
            log_append_time,
            log_start_offset,
            record_errors,
            error_message,
            current_leader,
        })
    }

    fn write(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        writer.i32(self.index);
        writer.i16(self.error_code.code());
        writer.i64(self.base_offset.0);
        writer.i64(self.log_append_time.0);
        if version >= 5 {
            writer.i64(self.log_start_offset.0);
        }
        if version >= 8 {
            writer.array_length(self.record_errors.len())?;
            for record in &self.record_errors {
                writer.i32(record.batch_index);
                writer.nullable_string(record.message.as_ref())?;
                writer.no_tagged_fields();
            }
            writer.nullable_string(self.error_message.as_ref())?;
        }
        match self.current_leader {
            Some(leader) if version >= 10 => {
                writer.tagged_fields(&[(0, leader.to_tagged_field())])?;
            }
            _ => writer.no_tagged_fields(),
        }
        Ok(())
    }
}

impl BatchIndexAndErrorMessage {
    /// A number and a length.
    const MIN_SIZE: usize = 5;
}

impl TopicProduceResponse {
    /// A name or an id, an array.
    const MIN_SIZE: usize = 2;
}

impl ProduceResponse {
    /// Decodes a response body, all of it.
    pub fn decode(body: &Bytes, version: i16) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body, ApiKey::Produce.is_flexible(version));
        let topics = reader.array(TopicProduceResponse::MIN_SIZE, |reader| {
            let topic = TopicRef::read(reader, version >= FIRST_VERSION_BY_ID)?;
            let partitions = reader.array(PartitionProduceResponse::MIN_SIZE, |reader| {
                PartitionProduceResponse::read(reader, version)
            })?;
            reader.skip_tagged_fields()?;
            Ok(TopicProduceResponse { topic, partitions })
        })?;
        let throttle_time_ms = reader.i32()?;
        let mut node_endpoints = Vec::new();
        reader.tagged_fields(|tag, field| match tag {
            0 if version >= 10 => {
                node_endpoints = NodeEndpoint::read_all(field)?;
                Ok(true)
            }
            _ => Ok(false),
        })?;
        reader.finish()?;
        Ok(Self { topics, throttle_time_ms, node_endpoints })
    }

    /// Encodes the body behind a header already in `writer`.
    ///
    /// What `version` cannot carry is left out; a topic it cannot name is an error.
    pub(crate) fn write(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        writer.array_length(self.topics.len())?;
        for topic in &self.topics {
            let by_id = version >= FIRST_VERSION_BY_ID;
            topic.topic.write(writer, "ProduceResponse", (version, by_id))?;
            writer.array_length(topic.partitions.len())?;
            for partition in &topic.partitions {
                partition.write(writer, version)?;
            }
            writer.no_tagged_fields();
        }
        writer.i32(self.throttle_time_ms);
        if version >= 10 && !self.node_endpoints.is_empty() {
            let endpoints = NodeEndpoint::to_tagged_field(&self.node_endpoints)?;
            writer.tagged_fields(&[(0, endpoints)])
        } else {
            writer.no_tagged_fields();
            Ok(())
        }
    }
}
