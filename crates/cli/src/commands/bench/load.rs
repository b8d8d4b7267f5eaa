//! What a load consists of: a topic with leaders, and batches built before the clock starts.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::ValueEnum;
use ottla_client::{Acks, Admin, Client, ClientError, NewTopic};
use ottla_protocol::compression::{Compression, Compressor};
use ottla_protocol::record_batch::{HEADER_LENGTH, NewRecord, RecordBatchBuilder};
use ottla_protocol::{ErrorCode, Timestamp, TopicPartition};

use super::Bench;

/// How long a new topic may take to get its leaders.
const LEADER_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum AcksOption {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

impl From<AcksOption> for Acks {
    fn from(option: AcksOption) -> Self {
        match option {
            AcksOption::None => Self::None,
            AcksOption::Leader => Self::Leader,
            AcksOption::All => Self::All,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum CompressionOption {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<CompressionOption> for Compression {
    fn from(option: CompressionOption) -> Self {
        match option {
            CompressionOption::None => Self::None,
            CompressionOption::Gzip => Self::Gzip,
            CompressionOption::Snappy => Self::Snappy,
            CompressionOption::Lz4 => Self::Lz4,
            CompressionOption::Zstd => Self::Zstd,
        }
    }
}

/// A batch that is sent again and again.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) bytes: Bytes,
    pub(super) records: u64,
}

impl Batch {
    /// As many records of `record_size` value bytes as fit into `batch_bytes`, at least one.
    pub(super) fn build(
        now: Timestamp,
        record_size: usize,
        batch_bytes: usize,
        compression: Compression,
    ) -> Result<Self> {
        let value = text_of(record_size);
        let record = NewRecord { timestamp: now, value: Some(&value), ..NewRecord::default() };
        let mut builder = RecordBatchBuilder::new();
        if builder.size_with(&record) > i32::MAX as usize / 2 {
            bail!("--record-size is too large for a batch");
        }
        while builder.is_empty() || builder.size_with(&record) <= batch_bytes.max(HEADER_LENGTH) {
            builder.append(&record);
        }
        let records = builder.len() as u64;
        let bytes = if compression == Compression::None {
            builder.build()
        } else {
            builder.build_compressed(&mut Compressor::new(compression, None))?
        };
        Ok(Self { bytes, records })
    }
}

/// Text that compresses about as well as log lines do, not as zeros would.
fn text_of(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut text = Vec::with_capacity(size + 16);
    while text.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.extend_from_slice(format!("{{\"k\":{:04}}},", state % 10_000).as_bytes());
    }
    text.truncate(size);
    text
}

/// Makes the topic unless it is there, waits for its leaders, and answers its partitions.
pub(super) async fn prepare_topic(
    bench: &Bench,
    topic: &str,
    partitions: i32,
) -> Result<Vec<TopicPartition>> {
    let client = bench.client(1).await?;
    let admin = Admin::new(client.clone(), LEADER_TIMEOUT);
    let new_topic = NewTopic { partitions: Some(partitions), ..NewTopic::new(topic) };
    match admin.create_topic(new_topic).await {
        Ok(()) | Err(ClientError::Refused { code: ErrorCode::TopicAlreadyExists, .. }) => {}
        Err(error) => return Err(error).with_context(|| format!("cannot make the topic {topic}")),
    }
    existing_partitions(bench, &client, topic).await
}

/// The partitions of a topic, once all of them have leaders.
pub(super) async fn existing_partitions(
    bench: &Bench,
    client: &Client,
    topic: &str,
) -> Result<Vec<TopicPartition>> {
    let deadline = bench.env.clock.now() + LEADER_TIMEOUT;
    loop {
        let metadata = client.refresh_metadata(&[topic]).await?;
        let found = metadata.topics.get(topic).filter(|topic| {
            let led = topic.partitions.values().all(|partition| partition.leader.is_some());
            topic.error_code.is_none() && led && !topic.partitions.is_empty()
        });
        if let Some(found) = found {
            let partitions = found.partitions.keys();
            return Ok(partitions.map(|index| TopicPartition::new(topic, *index)).collect());
        }
        if bench.env.clock.now() > deadline {
            bail!("the topic {topic} has no leaders after {LEADER_TIMEOUT:?}");
        }
        bench.env.clock.sleep(RETRY).await;
    }
}

/// The partitions that worker `worker` of `workers` is to use: its share, or one of another's.
pub(super) fn share(
    partitions: &[TopicPartition],
    worker: usize,
    workers: usize,
) -> Vec<TopicPartition> {
    let own: Vec<_> = partitions.iter().skip(worker).step_by(workers.max(1)).cloned().collect();
    if own.is_empty() {
        partitions.iter().cycle().nth(worker).cloned().into_iter().collect()
    } else {
        own
    }
}
