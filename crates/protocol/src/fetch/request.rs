//! The request for records, by consumers and by followers.

use bytes::Bytes;
use kafka_wire_core::{DecodeError, EncodeError, StrBytes, Uuid};

use super::FIRST_VERSION_BY_ID;
use crate::topic_ref::TopicRef;
use crate::wire::{Reader, Writer};
use crate::{ApiKey, BrokerId, LeaderEpoch, Offset};

/// Asks for records of many partitions, within a fetch session or without (KIP-227).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// The cluster the sender believes to talk to. Raft only; sent from version 12 on.
    pub cluster_id: Option<StrBytes>,
    /// The follower that asks; -1 is a consumer.
    pub replica_id: BrokerId,
    /// The follower's broker epoch (KIP-903), or -1. Sent from version 15 on.
    pub replica_epoch: i64,
    /// How long to wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// Fewest bytes to answer with before `max_wait_ms` is over.
    pub min_bytes: i32,
    /// Most bytes to answer with; the first batch is sent even if it is larger.
    pub max_bytes: i32,
    /// 0: read up to the high watermark; 1: up to the last stable offset (KIP-98).
    pub isolation_level: i8,
    /// The fetch session, or 0 for none. Sent from version 7 on.
    pub session_id: i32,
    /// The epoch of the session: -1 no session, 0 a new one. Sent from version 7 on.
    pub session_epoch: i32,
    /// What to fetch; within a session, what to add to it or change in it.
    pub topics: Vec<FetchTopic>,
    /// What to take out of the session. Sent from version 7 on.
    pub forgotten_topics: Vec<ForgottenTopic>,
    /// The consumer's rack, empty if none (KIP-392). Sent from version 11 on.
    pub rack_id: StrBytes,
}

impl Default for FetchRequest {
    fn default() -> Self {
        Self {
            cluster_id: None,
            replica_id: BrokerId::NONE,
            replica_epoch: -1,
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: i32::MAX,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: Vec::new(),
            forgotten_topics: Vec::new(),
            rack_id: StrBytes::default(),
        }
    }
}

impl FetchRequest {
    /// Asks for a partition too. Those of a topic are to be added one after the other.
    pub fn add(&mut self, topic: TopicRef, partition: FetchPartition) {
        match self.topics.last_mut().filter(|last| last.topic == topic) {
            Some(last) => last.partitions.push(partition),
            None => self.topics.push(FetchTopic { topic, partitions: vec![partition] }),
        }
    }

    /// Takes a partition out of the session. Those of a topic are to be named one after the other.
    pub fn forget(&mut self, topic: TopicRef, partition: i32) {
        match self.forgotten_topics.last_mut().filter(|last| last.topic == topic) {
            Some(last) => last.partitions.push(partition),
            None => {
                self.forgotten_topics.push(ForgottenTopic { topic, partitions: vec![partition] });
            }
        }
    }
}

/// The part of a [`FetchRequest`] for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    /// The topic.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<FetchPartition>,
}

/// The part of a [`FetchRequest`] for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Number of the partition.
    pub partition: i32,
    /// The leader epoch the sender knows, or -1 (KIP-320). Sent from version 9 on.
    pub current_leader_epoch: LeaderEpoch,
    /// The first offset wanted.
    pub fetch_offset: Offset,
    /// The epoch of the last record the sender has, or -1 (KIP-595). Sent from version 12 on.
    pub last_fetched_epoch: LeaderEpoch,
    /// The first offset a follower holds; -1 from consumers. Sent from version 5 on.
    pub log_start_offset: Offset,
    /// Most bytes to send of this partition.
    pub partition_max_bytes: i32,
    /// The follower's log directory (KIP-853), or zero. Sent from version 17 on.
    pub replica_directory_id: Uuid,
    /// The high watermark the follower knows, -1 if none; `i64::MAX` if it does not take part
    /// (KIP-1166). Sent from version 18 on.
    pub high_watermark: Offset,
}

impl Default for FetchPartition {
    fn default() -> Self {
        Self {
            partition: 0,
            current_leader_epoch: LeaderEpoch::NONE,
            fetch_offset: Offset(0),
            last_fetched_epoch: LeaderEpoch::NONE,
            log_start_offset: Offset::NONE,
            partition_max_bytes: 0,
            replica_directory_id: Uuid::ZERO,
            high_watermark: Self::NO_HIGH_WATERMARK,
        }
    }
}

/// Partitions to take out of a fetch session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// The topic.
    pub topic: TopicRef,
    /// The numbers of the partitions.
    pub partitions: Vec<i32>,
}

impl FetchTopic {
    /// A name or an id, an array.
    const MIN_SIZE: usize = 2;

    fn read(reader: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let topic = TopicRef::read(reader, version >= FIRST_VERSION_BY_ID)?;
        let partitions = reader
            .array(FetchPartition::MIN_SIZE, |reader| FetchPartition::read(reader, version))?;
        reader.skip_tagged_fields()?;
        Ok(Self { topic, partitions })
    }
}

impl FetchPartition {
    /// The sender's high watermark is not part of the request.
    pub const NO_HIGH_WATERMARK: Offset = Offset(i64::MAX);

    /// A number, an offset, a size.
    const MIN_SIZE: usize = 4 + 8 + 4;

    fn read(reader: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut this = Self { partition: reader.i32()?, ..Self::default() };
        if version >= 9 {
            this.current_leader_epoch = LeaderEpoch(reader.i32()?);
        }
        this.fetch_offset = Offset(reader.i64()?);
        if version >= 12 {
            this.last_fetched_epoch = LeaderEpoch(reader.i32()?);
        }
        if version >= 5 {
            this.log_start_offset = Offset(reader.i64()?);
        }
        this.partition_max_bytes = reader.i32()?;
        reader.tagged_fields(|tag, field| {
            match tag {
                0 if version >= 17 => this.replica_directory_id = field.uuid()?,
                1 if version >= 18 => this.high_watermark = Offset(field.i64()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(this)
    }

    fn write(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        writer.i32(self.partition);
        if version >= 9 {
            writer.i32(self.current_leader_epoch.0);
        }
        writer.i64(self.fetch_offset.0);
        if version >= 12 {
            writer.i32(self.last_fetched_epoch.0);
        }
        if version >= 5 {
            writer.i64(self.log_start_offset.0);
        }
        writer.i32(self.partition_max_bytes);
        let mut tagged = Vec::new();
        if version >= 17 && !self.replica_directory_id.is_zero() {
            let id = self.replica_directory_id.to_bytes();
            tagged.push((0, Bytes::copy_from_slice(&id)));
        }
        if version >= 18 && self.high_watermark != Self::NO_HIGH_WATERMARK {
            let offset = self.high_watermark.0.to_be_bytes();
            tagged.push((1, Bytes::copy_from_slice(&offset)));
        }
        writer.tagged_fields(&tagged)
    }
}

impl ForgottenTopic {
    /// A name or an id, an array.
    const MIN_SIZE: usize = 2;

    fn read(reader: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let topic = TopicRef::read(reader, version >= FIRST_VERSION_BY_ID)?;
        let partitions = reader.array(4, Reader::i32)?;
        reader.skip_tagged_fields()?;
        Ok(Self { topic, partitions })
    }
}

impl FetchRequest {
    /// Decodes a request body.
    ///
    /// `version` must be one that is served; see [`ApiKey::served_versions`].
    pub fn decode(body: &Bytes, version: i16) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body, ApiKey::Fetch.is_flexible(version));
        let mut this = Self::default();
        if version < 15 {
            this.replica_id = BrokerId(reader.i32()?);
        }
        this.max_wait_ms = reader.i32()?;
        this.min_bytes = reader.i32()?;
        this.max_bytes = reader.i32()?;
        this.isolation_level = reader.i8()?;
        if version >= 7 {
            this.session_id = reader.i32()?;
            this.session_epoch = reader.i32()?;
        }
        this.topics =
            reader.array(FetchTopic::MIN_SIZE, |reader| FetchTopic::read(reader, version))?;
        if version >= 7 {
            this.forgotten_topics = reader
                .array(ForgottenTopic::MIN_SIZE, |reader| ForgottenTopic::read(reader, version))?;
        }
        if version >= 11 {
            this.rack_id = reader.string()?;
        }
        reader.tagged_fields(|tag, field| {
            match tag {
                0 => this.cluster_id = field.nullable_string()?,
                1 if version >= 15 => {
                    this.replica_id = BrokerId(field.i32()?);
                    this.replica_epoch = field.i64()?;
                    field.skip_tagged_fields()?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(this)
    }

    /// Encodes the body behind a header already in `writer`.
    ///
    /// What `version` cannot carry is left out; a topic it cannot name is an error.
    pub(crate) fn write(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let by_id = version >= FIRST_VERSION_BY_ID;
        if version < 15 {
            writer.i32(self.replica_id.0);
        }
        writer.i32(self.max_wait_ms);
        writer.i32(self.min_bytes);
        writer.i32(self.max_bytes);
        writer.i8(self.isolation_level);
        if version >= 7 {
            writer.i32(self.session_id);
            writer.i32(self.session_epoch);
        }
        writer.array_length(self.topics.len())?;
        for topic in &self.topics {
            topic.topic.write(writer, "FetchRequest", (version, by_id))?;
            writer.array_length(topic.partitions.len())?;
            for partition in &topic.partitions {
                partition.write(writer, version)?;
            }
            writer.no_tagged_fields();
        }
        if version >= 7 {
            writer.array_length(self.forgotten_topics.len())?;
            for topic in &self.forgotten_topics {
                topic.topic.write(writer, "FetchRequest", (version, by_id))?;
                writer.array_length(topic.partitions.len())?;
                for &partition in &topic.partitions {
                    writer.i32(partition);
                }
                writer.no_tagged_fields();
            }
        }
        if version >= 11 {
            writer.string(&self.rack_id)?;
        }
        self.write_tagged_fields(writer, version)
    }

    fn write_tagged_fields(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let mut tagged = Vec::new();
        if self.cluster_id.is_some() {
            let mut field = Writer::new(32, true);
            field.nullable_string(self.cluster_id.as_ref())?;
            tagged.push((0, field.into_bytes()));
        }
        if version >= 15 && (self.replica_id, self.replica_epoch) != (BrokerId::NONE, -1) {
            let mut field = Writer::new(16, true);
            field.i32(self.replica_id.0);
            field.i64(self.replica_epoch);
            field.no_tagged_fields();
            tagged.push((1, field.into_bytes()));
        }
        writer.tagged_fields(&tagged)
    }
}
