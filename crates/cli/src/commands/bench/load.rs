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
pub(super) const LEADER_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const RETRY: Duration = Duration::from_millis(20);

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
        let mut text = Text::default();
        let mut builder = RecordBatchBuilder::new();
        loop {
            let value = text.next(record_size);
            let record = NewRecord { timestamp: now, value: Some(&value), ..NewRecord::default() };
            let size = builder.size_with(&record);
            if size > i32::MAX as usize / 2 {
                bail!("--record-size is too large for a batch");
            }
            if !builder.is_empty() && size > batch_bytes.max(HEADER_LENGTH) {
                break;
            }
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
struct Text {
    state: u64,
}

impl Default for Text {
    fn default() -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15 }
    }
}

impl Text {
    fn next(&mut self, size: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(size + 16);
        while text.len() < size {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            text.extend_from_slice(format!("{{\"k\":{:04}}},", self.state % 10_000).as_bytes());
        }
        text.truncate(size);
        text
    }
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

#[cfg(test)]
mod tests {
    use ottla_protocol::record_batch::RecordBatch;

    use super::*;

    #[test]
    fn a_batch_is_as_large_as_asked_and_its_crc_is_right() {
        let batch = Batch::build(Timestamp(1), 100, 16_384, Compression::None).unwrap();
        let parsed = RecordBatch::parse(&batch.bytes).unwrap();
        assert!(parsed.crc_is_valid());
        assert_eq!(parsed.records_count() as u64, batch.records);
        assert!((16_384 - 120..=16_384).contains(&batch.bytes.len()), "{}", batch.bytes.len());
        let single = Batch::build(Timestamp(1), 50_000, 16_384, Compression::Lz4).unwrap();
        assert_eq!(single.records, 1);
    }

    #[test]
    fn every_partition_has_a_worker_and_every_worker_a_partition() {
        let partitions: Vec<_> = (0..3).map(|index| TopicPartition::new("t", index)).collect();
        for workers in 1..8 {
            let shares: Vec<_> = (0..workers).map(|it| share(&partitions, it, workers)).collect();
            assert!(shares.iter().all(|share| !share.is_empty()));
            for partition in &partitions {
                assert!(shares.iter().flatten().any(|shared| shared == partition));
            }
        }
    }
}
