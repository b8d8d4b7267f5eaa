//! The answer: records by reference, so that they can go from file to socket.

use bytes::Bytes;
use kafka_wire_core::{DecodeError, EncodeError};

use super::FIRST_VERSION_BY_ID;
use crate::leader::{LeaderIdAndEpoch, NodeEndpoint};
use crate::topic_ref::TopicRef;
use crate::wire::{FrameWriter, Reader, Writer};
use crate::{ApiKey, BrokerId, ErrorCode, LeaderEpoch, Offset, ProducerId};

/// Record batches of one partition, wherever they are: in memory, or in ranges of files.
///
/// The encoder needs to know nothing of them but how long they are.
pub trait FetchRecords {
    /// Their size in bytes.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FetchRecords for Bytes {
    fn len(&self) -> usize {
        self.as_ref().len()
    }
}

/// Records of the partitions that have any to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResponse<R = Bytes> {
    /// How long the client was, or is to be, throttled, in milliseconds (KIP-219).
    pub throttle_time_ms: i32,
    /// What is wrong with the request as a whole. Sent from version 7 on.
    pub error_code: ErrorCode,
    /// The fetch session, or 0 for none (KIP-227). Sent from version 7 on.
    pub session_id: i32,
    /// The topics.
    pub topics: Vec<FetchableTopicResponse<R>>,
    /// Where the leaders named in the response are. Sent from version 16 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The part of a [`FetchResponse`] for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchableTopicResponse<R = Bytes> {
    /// The topic, named as the request named it.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<PartitionData<R>>,
}

/// The part of a [`FetchResponse`] for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionData<R = Bytes> {
    /// Number of the partition.
    pub partition_index: i32,
    /// Why there are no records; or `NONE`.
    pub error_code: ErrorCode,
    /// The high watermark, or -1 after an error.
    pub high_watermark: Offset,
    /// The last stable offset, or -1 (KIP-98).
    pub last_stable_offset: Offset,
    /// The first offset the partition holds, or -1. Sent from version 5 on.
    pub log_start_offset: Offset,
    /// Where the sender's log leaves the leader's (KIP-595). Sent from version 12 on.
    pub diverging_epoch: Option<EpochEndOffset>,
    /// The leader, if the sender knows an older one. Sent from version 12 on.
    pub current_leader: Option<LeaderIdAndEpoch>,
    /// The snapshot to fetch instead. Raft only; sent from version 12 on.
    pub snapshot_id: Option<SnapshotId>,
    /// Transactions in the records that were aborted; `None` unless reading committed.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// A replica that is nearer to the consumer, or -1 (KIP-392). Sent from version 11 on.
    pub preferred_read_replica: BrokerId,
    /// Record batches. The last may be cut off; consumers ignore a partial batch.
    pub records: R,
}

impl<R: Default> PartitionData<R> {
    /// The answer for a partition whose records cannot be sent.
    pub fn failed(partition_index: i32, error_code: ErrorCode) -> Self {
        Self {
            partition_index,
            error_code,
            high_watermark: Offset::NONE,
            last_stable_offset: Offset::NONE,
            log_start_offset: Offset::NONE,
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            aborted_transactions: None,
            preferred_read_replica: BrokerId::NONE,
            records: R::default(),
        }
    }
}

/// The last epoch that sender and leader share, and where it ends on the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The epoch, or -1.
    pub epoch: LeaderEpoch,
    /// The offset after its last record, or -1.
    pub end_offset: Offset,
}

/// A snapshot of the metadata log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId {
    /// The offset after the last record it contains.
    pub end_offset: Offset,
    /// The epoch of that record.
    pub epoch: LeaderEpoch,
}

/// A transaction whose records the consumer must skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: ProducerId,
    /// The first offset it wrote.
    pub first_offset: Offset,
}

impl<R: FetchRecords> FetchResponse<R> {
    /// Encodes the body behind a header already in `frame`; records keep their place in it.
    ///
    /// What `version` cannot carry is left out; a topic it cannot name is an error.
    pub(crate) fn write(self, frame: &mut FrameWriter<R>, version: i16) -> Result<(), EncodeError> {
        frame.writer.i32(self.throttle_time_ms);
        if version >= 7 {
            frame.writer.i16(self.error_code.code());
            frame.writer.i32(self.session_id);
        }
        frame.writer.array_length(self.topics.len())?;
        for topic in self.topics {
            let by_id = version >= FIRST_VERSION_BY_ID;
            topic.topic.write(&mut frame.writer, "FetchResponse", (version, by_id))?;
            frame.writer.array_length(topic.partitions.len())?;
            for partition in topic.partitions {
                partition.write(frame, version)?;
            }
            frame.writer.no_tagged_fields();
        }
        if version >= 16 && !self.node_endpoints.is_empty() {
            let endpoints = NodeEndpoint::to_tagged_field(&self.node_endpoints)?;
            frame.writer.tagged_fields(&[(0, endpoints)])
        } else {
            frame.writer.no_tagged_fields();
            Ok(())
        }
    }

    /// About how many bytes the encoded response takes without its records.
    pub(crate) fn size_hint(&self) -> usize {
        let partitions: usize = self.topics.iter().map(|topic| topic.partitions.len()).sum();
        64 + 64 * self.topics.len() + 64 * partitions
    }
}

impl FetchResponse<Bytes> {
    /// Decodes a response body, all of it; records are slices of `body`.
    pub fn decode(body: &Bytes, version: i16) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body, ApiKey::Fetch.is_flexible(version));
        let throttle_time_ms = reader.i32()?;
        let mut error_code = ErrorCode::None;
        let mut session_id = 0;
        if version >= 7 {
            error_code = ErrorCode::from_wire(reader.i16()?);
            session_id = reader.i32()?;
        }
        let topics = reader.array(FetchableTopicResponse::MIN_SIZE, |reader| {
            let topic = TopicRef::read(reader, version >= FIRST_VERSION_BY_ID)?;
            let partitions = reader
                .array(PartitionData::MIN_SIZE, |reader| PartitionData::read(reader, version))?;
            reader.skip_tagged_fields()?;
            Ok(FetchableTopicResponse { topic, partitions })
        })?;
        let mut node_endpoints = Vec::new();
        reader.tagged_fields(|tag, field| match tag {
            0 if version >= 16 => {
                node_endpoints = NodeEndpoint::read_all(field)?;
                Ok(true)
            }
            _ => Ok(false),
        })?;
        reader.finish()?;
        Ok(Self { throttle_time_ms, error_code, session_id, topics, node_endpoints })
    }
}

impl FetchableTopicResponse {
    /// A name or an id, an array.
    const MIN_SIZE: usize = 2;
}

impl<R: FetchRecords> PartitionData<R> {
    fn write(self, frame: &mut FrameWriter<R>, version: i16) -> Result<(), EncodeError> {
        let writer = &mut frame.writer;
        writer.i32(self.partition_index);
        writer.i16(self.error_code.code());
        writer.i64(self.high_watermark.0);
        writer.i64(self.last_stable_offset.0);
        if version >= 5 {
            writer.i64(self.log_start_offset.0);
        }
        let aborted = self.aborted_transactions.as_deref();
        writer.length("array", aborted.map(<[AbortedTransaction]>::len))?;
        for transaction in aborted.unwrap_or_default() {
            writer.i64(transaction.producer_id.0);
            writer.i64(transaction.first_offset.0);
            writer.no_tagged_fields();
        }
        if version >= 11 {
            writer.i32(self.preferred_read_replica.0);
        }
        let tagged = self.tagged_fields();
        frame.records(self.records)?;
        frame.writer.tagged_fields(&tagged)
    }

    fn tagged_fields(&self) -> Vec<(u32, Bytes)> {
        let mut tagged = Vec::new();
        if let Some(diverging) = self.diverging_epoch {
            tagged.push((
                0,
                epoch_field(|writer| {
                    writer.i32(diverging.epoch.0);
                    writer.i64(diverging.end_offset.0);
                }),
            ));
        }
        if let Some(leader) = self.current_leader {
            tagged.push((1, leader.to_tagged_field()));
        }
        if let Some(snapshot) = self.snapshot_id {
            tagged.push((
                2,
                epoch_field(|writer| {
                    writer.i64(snapshot.end_offset.0);
                    writer.i32(snapshot.epoch.0);
                }),
            ));
        }
        tagged
    }
}

fn epoch_field(write: impl FnOnce(&mut Writer)) -> Bytes {
    let mut writer = Writer::new(16, true);
    write(&mut writer);
    writer.no_tagged_fields();
    writer.into_bytes()
}

impl PartitionData<Bytes> {
    /// A number, an error, two offsets, two lengths.
    const MIN_SIZE: usize = 4 + 2 + 8 + 8 + 1 + 1;

    fn read(reader: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let index = reader.i32()?;
        let mut this = Self::failed(index, ErrorCode::from_wire(reader.i16()?));
        this.high_watermark = Offset(reader.i64()?);
        this.last_stable_offset = Offset(reader.i64()?);
        if version >= 5 {
            this.log_start_offset = Offset(reader.i64()?);
        }
        this.aborted_transactions = reader.nullable_array(16, |reader| {
            let producer_id = ProducerId(reader.i64()?);
            let first_offset = Offset(reader.i64()?);
            reader.skip_tagged_fields()?;
            Ok(AbortedTransaction { producer_id, first_offset })
        })?;
        if version >= 11 {
            this.preferred_read_replica = BrokerId(reader.i32()?);
        }
        this.records = reader.nullable_bytes()?.unwrap_or_default();
        reader.tagged_fields(|tag, field| {
            match tag {
                0 => {
                    let epoch = LeaderEpoch(field.i32()?);
                    let end_offset = Offset(field.i64()?);
                    field.skip_tagged_fields()?;
                    this.diverging_epoch = Some(EpochEndOffset { epoch, end_offset });
                }
                1 => this.current_leader = Some(LeaderIdAndEpoch::read(field)?),
                2 => {
                    let end_offset = Offset(field.i64()?);
                    let epoch = LeaderEpoch(field.i32()?);
                    field.skip_tagged_fields()?;
                    this.snapshot_id = Some(SnapshotId { end_offset, epoch });
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(this)
    }
}
