//! Sends records to leaders. Kafka's `KafkaProducer`, without batching over time.

mod config;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::compression::{Compression, Compressor};
use ottla_protocol::messages::InitProducerIdRequest;
use ottla_protocol::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder, increment_sequence};
use ottla_protocol::{
    ApiKey, ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition, message,
};
use parking_lot::Mutex;

use crate::client::RETRY_BACKOFF;
use crate::{Client, ClientError};

pub use self::config::{Acks, BuiltInPartitioner, ProducerConfig};

/// How a producer behaves.
#[derive(Clone, Copy, Debug)]
pub struct ProducerOptions {
    /// `acks`.
    pub acks: Acks,
    /// `compression.type`.
    pub compression: Compression,
    /// `enable.idempotence`: a batch that is sent again is not stored again (KIP-98). Needs
    /// [`Acks::All`]; sends to one partition then wait for each other.
    pub idempotent: bool,
    /// `request.timeout.ms`: how long a broker may wait for its replicas.
    pub request_timeout: Duration,
    /// `delivery.timeout.ms`: how long a send is tried again; zero tries once.
    pub delivery_timeout: Duration,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            idempotent: true,
            request_timeout: Duration::from_secs(30),
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// Where records were stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The offset of the first record; -1 if the broker was not asked, or no longer knows.
    pub base_offset: Offset,
    /// The broker's time, if the topic uses `LogAppendTime`; otherwise -1.
    pub log_append_time: Timestamp,
}

/// Why records may not have been stored.
#[derive(Debug, thiserror::Error)]
#[error("{partition}: {error}")]
pub struct ProduceError {
    /// Where they were to go.
    pub partition: TopicPartition,
    /// The last failure.
    #[source]
    pub error: ClientError,
    /// Whether some attempt may have stored them all the same. `false` is certain.
    pub maybe_stored: bool,
}

/// Sends records.
pub struct Producer {
    client: Client,
    options: ProducerOptions,
    identities: Mutex<BTreeMap<TopicPartition, Arc<tokio::sync::Mutex<Identity>>>>,
}

/// Who sends to a partition. Each has its own, so that a send that fails for good disturbs no other.
#[derive(Default)]
struct Identity {
    producer: Option<(ProducerId, ProducerEpoch)>,
    next_sequence: i32,
}

impl Producer {
    /// Sends to the cluster of `client`.
    pub fn new(client: Client, options: ProducerOptions) -> Self {
        Self { client, options, identities: Mutex::default() }
    }

    /// Sends `records` as one batch and waits until it is stored as `acks` wants.
    ///
    /// Failures that may pass are tried again until `delivery_timeout`. If that is dropped, or
    /// fails with `maybe_stored`, nobody knows whether the records are there.
    pub async fn send(
        &self,
        partition: &TopicPartition,
        records: &[NewRecord<'_>],
    ) -> Result<RecordMetadata, ProduceError> {
        let failed =
            |error| ProduceError { partition: partition.clone(), error, maybe_stored: false };
        if !self.options.idempotent {
            let batch = self.build(RecordBatchBuilder::new(), records).map_err(failed)?;
            return self.deliver(partition, batch).await;
        }
        let identity = self.identities.lock().entry(partition.clone()).or_default().clone();
        let mut identity = identity.lock().await;
        let (id, epoch) = self.identify(&mut identity).await.map_err(failed)?;
        let builder = RecordBatchBuilder::new().producer(id, epoch, identity.next_sequence);
        let batch = self.build(builder, records).map_err(failed)?;
        // Until the answer is known this identity must not be used again: its next sequence
        // number depends on it. A send that is dropped or fails leaves none behind.
        let sequence = std::mem::take(&mut *identity).next_sequence;
        let stored = self.deliver(partition, batch).await?;
        let count = i32::try_from(records.len()).unwrap_or(i32::MAX);
        let next_sequence = increment_sequence(sequence, count);
        *identity = Identity { producer: Some((id, epoch)), next_sequence };
        Ok(stored)
    }

    /// Sends a batch that is built already, to be appended as it is.
    pub async fn send_batch(
        &self,
        partition: &TopicPartition,
        batch: Bytes,
    ) -> Result<RecordMetadata, ProduceError> {
        self.deliver(partition, batch).await
    }

    fn build(
        &self,
        mut builder: RecordBatchBuilder,
        records: &[NewRecord<'_>],
    ) -> Result<Bytes, ClientError> {
        records.iter().for_each(|record| builder.append(record));
        let codec = self.options.compression;
        if codec == Compression::None {
            return Ok(builder.build());
        }
        builder
            .build_compressed(&mut Compressor::new(codec, None))
            .map_err(|error| ClientError::Nonsense(error.to_string()))
    }

    async fn identify(
        &self,
        identity: &mut Identity,
    ) -> Result<(ProducerId, ProducerEpoch), ClientError> {
        if let Some(producer) = identity.producer {
            return Ok(producer);
        }
        let request = message!(InitProducerIdRequest {
            // The default is an empty one, which is a transactional producer all the same.
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: ProducerId::NONE.0,
            producer_epoch: ProducerEpoch::NONE.0,
        });
        let response = self
            .retry(None, || async {
                let response = self.client.any_broker().await?.call(&request).await?;
                ClientError::check(ErrorCode::from_wire(response.error_code), None)?;
                Ok(response)
            })
            .await
            .map_err(|(error, _)| error)?;
        let producer = (ProducerId(response.producer_id), ProducerEpoch(response.producer_epoch));
        *identity = Identity { producer: Some(producer), next_sequence: 0 };
        Ok(producer)
    }

    async fn deliver(
        &self,
        partition: &TopicPartition,
        batch: Bytes,
    ) -> Result<RecordMetadata, ProduceError> {
        self.retry(Some(partition), || self.attempt(partition, batch.clone())).await.map_err(
            |(error, maybe_stored)| ProduceError {
                partition: partition.clone(),
                error,
                maybe_stored,
            },
        )
    }

    /// Tries until success, a failure for good, or the end of `delivery_timeout`. Says with the
    /// failure whether some attempt may have been carried out.
    async fn retry<T, A: Future<Output = Result<T, ClientError>>>(
        &self,
        partition: Option<&TopicPartition>,
        mut attempt: impl FnMut() -> A,
    ) -> Result<T, (ClientError, bool)> {
        let clock = &self.client.env().clock;
        let deadline = clock.now() + self.options.delivery_timeout;
        let mut indeterminate = false;
        loop {
            let error = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            indeterminate |= error.is_indeterminate();
            if !error.is_retriable() || clock.now() + RETRY_BACKOFF >= deadline {
                return Err((error, indeterminate));
            }
            if let Some(partition) = partition {
                self.client.forget_topic(&partition.topic);
            }
            clock.sleep(RETRY_BACKOFF).await;
        }
    }

    async fn attempt(
        &self,
        partition: &TopicPartition,
        batch: Bytes,
    ) -> Result<RecordMetadata, ClientError> {
        let leader = self.client.leader(partition).await?;
        let data = PartitionProduceData { index: partition.partition, records: Some(batch) };
        let topic = leader.topic_ref(ApiKey::Produce, &partition.topic)?;
        let timeout_ms =
            i32::try_from(self.options.request_timeout.as_millis()).unwrap_or(i32::MAX);
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.options.acks.code(),
            timeout_ms,
            topics: vec![TopicProduceData { topic, partitions: vec![data] }],
        };
        let Some(response) = leader.connection.produce(&request).await? else {
            return Ok(RecordMetadata {
                base_offset: Offset(-1),
                log_append_time: Timestamp::NONE,
            });
        };
        let answers = response.topics.into_iter().flat_map(|topic| topic.partitions);
        match answers.into_iter().next() {
            Some(answer) if answer.index == partition.partition => outcome(answer),
            _ => Err(ClientError::Nonsense(format!("nothing about {partition}"))),
        }
    }
}

fn outcome(answer: PartitionProduceResponse) -> Result<RecordMetadata, ClientError> {
    // A duplicate: an earlier attempt stored the batch, and its answer was lost.
    if answer.error_code != ErrorCode::DuplicateSequenceNumber {
        ClientError::check(answer.error_code, answer.error_message)?;
    }
    Ok(RecordMetadata { base_offset: answer.base_offset, log_append_time: answer.log_append_time })
}
