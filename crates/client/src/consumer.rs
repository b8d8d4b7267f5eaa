//! Reads records of assigned partitions. Kafka's `KafkaConsumer` with `assign`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use ottla_protocol::compression::Decompressor;
use ottla_protocol::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use ottla_protocol::messages::ListOffsetsRequest;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::record_batch::{RecordBatch, RecordBatchError, RecordError, batches};
use ottla_protocol::{
    ApiKey, BrokerId, ErrorCode, LeaderEpoch, Offset, StrBytes, Timestamp, TopicPartition,
    TopicRef, message,
};

use crate::client::RETRY_BACKOFF;
use crate::{Client, ClientError, Leader};

/// How a consumer behaves.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerOptions {
    /// `fetch.max.wait.ms`: how long a broker may wait for `min_bytes`.
    pub max_wait: Duration,
    /// `fetch.min.bytes`.
    pub min_bytes: i32,
    /// `fetch.max.bytes` of one response.
    pub max_bytes: i32,
    /// `max.partition.fetch.bytes`.
    pub max_partition_bytes: i32,
    /// The most bytes that the records of one compressed batch may have.
    pub max_batch_bytes: usize,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 50 << 20,
            max_partition_bytes: 1 << 20,
            max_batch_bytes: 100 << 20,
        }
    }
}

/// A point in a partition, by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first offset that is still there.
    Earliest,
    /// The offset that the next record will get, as far as consumers may see.
    Latest,
    /// The first record with this time or a later one.
    At(Timestamp),
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Where it stands.
    pub partition: TopicPartition,
    /// At which offset.
    pub offset: Offset,
    /// The producer's or the broker's time.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// What one fetch brought of one partition, as it is stored.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// Which.
    pub partition: TopicPartition,
    /// The offset from which it was asked; the first batch may begin before it.
    pub from: Offset,
    /// The partition's high watermark.
    pub high_watermark: Offset,
    /// Whole batches, and perhaps a piece of another.
    pub records: Bytes,
}

/// Reads records, from each partition in order.
pub struct Consumer {
    client: Client,
    options: ConsumerOptions,
    positions: BTreeMap<TopicPartition, Offset>,
    decompressor: Decompressor,
}

impl Consumer {
    /// Reads from the cluster of `client`, which nobody else should use: a fetch that waits for
    /// records holds up what comes behind it on the same connection.
    pub fn new(client: Client, options: ConsumerOptions) -> Self {
        Self { client, options, positions: BTreeMap::new(), decompressor: Decompressor::new() }
    }

    /// Reads `partition` from `offset` on; moves there if it was already read.
    pub fn assign(&mut self, partition: TopicPartition, offset: Offset) {
        self.positions.insert(partition, offset);
    }

    /// Reads `partition` no longer.
    pub fn unassign(&mut self, partition: &TopicPartition) {
        self.positions.remove(partition);
    }

    /// The offset from which the next record of `partition` will come.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.positions.get(partition).copied()
    }

    /// The offset that `spec` means; for a time after all records, the end.
    pub async fn offset(
        &self,
        partition: &TopicPartition,
        spec: OffsetSpec,
    ) -> Result<Offset, ClientError> {
        let found = self.list_offset(partition, spec).await?;
        match (found, spec) {
            (Offset(-1), OffsetSpec::At(_)) => {
                self.list_offset(partition, OffsetSpec::Latest).await
            }
            (offset, _) => Ok(offset),
        }
    }

    async fn list_offset(
        &self,
        partition: &TopicPartition,
        spec: OffsetSpec,
    ) -> Result<Offset, ClientError> {
        let timestamp = match spec {
            OffsetSpec::Earliest => -2,
            OffsetSpec::Latest => -1,
            OffsetSpec::At(Timestamp(millis)) => millis,
        };
        let leader = self.client.leader(partition).await?;
        let row = message!(ListOffsetsPartition {
            partition_index: partition.partition,
            current_leader_epoch: leader.epoch.0,
            timestamp: timestamp,
        });
        let topic = message!(ListOffsetsTopic {
            name: StrBytes::from(&*partition.topic),
            partitions: vec![row],
        });
        let request = message!(ListOffsetsRequest { replica_id: -1, topics: vec![topic] });
        let response = leader.connection.call(&request).await?;
        let rows = response.topics.into_iter().flat_map(|topic| topic.partitions);
        let row = rows.into_iter().find(|row| row.partition_index == partition.partition);
        let row = row.ok_or_else(|| ClientError::Nonsense(format!("nothing about {partition}")))?;
        let code = ErrorCode::from_wire(row.error_code);
        if code.is_retriable() {
            self.client.forget_topic(&partition.topic);
        }
        ClientError::check(code, None).map(|()| Offset(row.offset))
    }

    /// The next records of all assigned partitions; none if there were none for `max_wait`.
    ///
    /// Failures that may pass are left for the next call. `OFFSET_OUT_OF_RANGE` is not one:
    /// the caller must [`Consumer::assign`] another offset.
    pub async fn poll(&mut self) -> Result<Vec<ConsumerRecord>, ClientError> {
        let fetched = self.poll_batches().await?;
        let mut records = Vec::new();
        for partition in fetched {
            self.read(&partition, &mut records)?;
        }
        Ok(records)
    }

    /// [`Consumer::poll`] without looking into the batches.
    pub async fn poll_batches(&mut self) -> Result<Vec<FetchedPartition>, ClientError> {
        let mut by_leader: BTreeMap<BrokerId, (Leader, FetchRequest)> = BTreeMap::new();
        let mut failed = false;
        for (partition, offset) in &self.positions {
            match self.client.leader(partition).await {
                Ok(leader) => {
                    let topic = leader.topic_ref(ApiKey::Fetch, &partition.topic)?;
                    let row = self.fetch_partition(partition, *offset, &leader);
                    let entry = by_leader.entry(leader.broker);
                    let (_, request) = entry.or_insert_with(|| (leader, self.request()));
                    match request.topics.iter_mut().find(|asked| asked.topic == topic) {
                        Some(asked) => asked.partitions.push(row),
                        None => request.topics.push(FetchTopic { topic, partitions: vec![row] }),
                    }
                }
                Err(error) if error.is_retriable() => failed = true,
                Err(error) => return Err(error),
            }
        }
        let fetches = by_leader.values().map(|(leader, request)| leader.connection.fetch(request));
        let mut fetched = Vec::new();
        for ((_, request), response) in by_leader.values().zip(join_all(fetches).await) {
            failed |= self.take_response(request, response, &mut fetched)?;
        }
        for partition in &fetched {
            if let Some(next) = next_offset(&partition.records)? {
                self.positions.insert(partition.partition.clone(), next);
            }
        }
        if failed && fetched.is_empty() {
            self.client.env().clock.sleep(RETRY_BACKOFF).await;
        }
        Ok(fetched)
    }

    fn request(&self) -> FetchRequest {
        FetchRequest {
            max_wait_ms: i32::try_from(self.options.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.options.min_bytes,
            max_bytes: self.options.max_bytes,
            ..FetchRequest::default()
        }
    }

    fn fetch_partition(
        &self,
        partition: &TopicPartition,
        fetch_offset: Offset,
        leader: &Leader,
    ) -> FetchPartition {
        FetchPartition {
            partition: partition.partition,
            current_leader_epoch: leader.epoch,
            fetch_offset,
            last_fetched_epoch: LeaderEpoch::NONE,
            partition_max_bytes: self.options.max_partition_bytes,
            ..FetchPartition::default()
        }
    }

    /// Takes what a leader answered. Whether something failed that may pass.
    fn take_response(
        &self,
        request: &FetchRequest,
        response: Result<FetchResponse, ClientError>,
        fetched: &mut Vec<FetchedPartition>,
    ) -> Result<bool, ClientError> {
        let response = match response {
            Ok(response) => response,
            Err(error) if error.is_retriable() => {
                self.positions.keys().for_each(|it| self.client.forget_topic(&it.topic));
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        if !response.error_code.is_none() {
            return Err(ClientError::refused(response.error_code));
        }
        let mut failed = false;
        for topic in response.topics {
            for data in topic.partitions {
                // The response names topics as the request did, and that was made of positions.
                let asked = self.positions.iter().find(|(partition, _)| {
                    partition.partition == data.partition_index
                        && self.is_named(partition, &topic.topic, request)
                });
                let Some((partition, from)) = asked else { continue };
                failed |= self.take_partition(partition, *from, data, fetched)?;
            }
        }
        Ok(failed)
    }

    fn is_named(
        &self,
        partition: &TopicPartition,
        topic: &TopicRef,
        request: &FetchRequest,
    ) -> bool {
        let asked = request.topics.iter().any(|asked| asked.topic == *topic);
        asked
            && match topic {
                TopicRef::Name(name) => name.as_str() == &*partition.topic,
                TopicRef::Id(id) => {
                    let metadata = self.client.metadata();
                    metadata.topics.get(&*partition.topic).is_some_and(|it| it.topic_id == *id)
                }
            }
    }

    fn take_partition(
        &self,
        partition: &TopicPartition,
        from: Offset,
        data: PartitionData,
        fetched: &mut Vec<FetchedPartition>,
    ) -> Result<bool, ClientError> {
        let code = data.error_code;
        if code.is_retriable() && code != ErrorCode::OffsetOutOfRange {
            self.client.forget_topic(&partition.topic);
            return Ok(true);
        }
        ClientError::check(code, None)?;
        if !data.records.is_empty() {
            fetched.push(FetchedPartition {
                partition: partition.clone(),
                from,
                high_watermark: data.high_watermark,
                records: data.records,
            });
        }
        Ok(false)
    }

    fn read(
        &mut self,
        fetched: &FetchedPartition,
        records: &mut Vec<ConsumerRecord>,
    ) -> Result<(), ClientError> {
        for batch in whole_batches(&fetched.records) {
            let batch = batch?;
            if !batch.crc_is_valid() {
                return Err(ClientError::refused(ErrorCode::CorruptMessage));
            }
            if batch.is_control() {
                continue;
            }
            let limit = self.options.max_batch_bytes;
            batch
                .visit_records(&mut self.decompressor, limit, |record| {
                    let offset = batch.offset_of(&record);
                    if offset >= fetched.from {
                        let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
                        let headers = record.headers.iter();
                        records.push(ConsumerRecord {
                            partition: fetched.partition.clone(),
                            offset,
                            timestamp: batch.timestamp_of(&record),
                            key: record.key.map(copy),
                            value: record.value.map(copy),
                            headers: headers.map(|it| (copy(it.key), it.value.map(copy))).collect(),
                        });
                    }
                    Ok::<(), RecordError>(())
                })
                .map_err(|error| ClientError::Nonsense(error.to_string()))?;
        }
        Ok(())
    }
}

/// The batches of a response; the piece of one at its end is left out.
fn whole_batches(records: &Bytes) -> impl Iterator<Item = Result<RecordBatch<'_>, ClientError>> {
    batches(records)
        .take_while(|batch| !matches!(batch, Err(RecordBatchError::Truncated { .. })))
        .map(|batch| batch.map_err(|error| ClientError::Nonsense(error.to_string())))
}

/// The offset after the last whole batch.
fn next_offset(records: &Bytes) -> Result<Option<Offset>, ClientError> {
    whole_batches(records).last().map(|batch| Ok(batch?.next_offset())).transpose()
}
