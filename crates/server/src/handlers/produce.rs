//! Produce: the hot path in.
//!
//! The append happens here and now, in the order in which a connection's requests came. Only an answer that has to wait
//! (for replicas, or for the disk where `flush.messages` asks for it) is given later.

use std::sync::Arc;
use std::time::Duration;

use ottla_env::BoxFuture;
use ottla_protocol::compression::Compression;
use ottla_protocol::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceResponse,
};
use ottla_protocol::record_batch::batches;
use ottla_protocol::topic_name::is_internal;
use ottla_protocol::{ErrorCode, Monotonic, NodeEndpoint, StrBytes, TopicRef};
use ottla_storage::{AppendOrigin, LogAppendInfo};
use tracing::error;

use super::{Answer, RequestContext, endpoints_of};
use crate::broker::Broker;
use crate::replica::{Flushing, Partition, ProduceError};

/// `acks=all`.
const ALL_REPLICAS: i16 = -1;
/// From this version on a client knows zstd (KIP-110).
const FIRST_VERSION_WITH_ZSTD: i16 = 7;
/// `acks=0`: no answer at all.
const NO_ACKS: i16 = 0;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: ProduceRequest,
) -> Answer {
    if !matches!(request.acks, ALL_REPLICAS | NO_ACKS | 1) {
        return Answer::now(refuse(&request, ErrorCode::InvalidRequiredAcks));
    }
    if request.transactional_id.is_some() {
        // Transactions are not served yet, and InitProducerId said so: nobody comes here with a valid id.
        return Answer::now(refuse(&request, ErrorCode::TransactionalIdNotFound));
    }
    let mut unfinished = Vec::new();
    let response = append_all(broker, context, &request, &mut unfinished);
    let wants_answer = request.acks != NO_ACKS;
    if unfinished.is_empty() {
        return match wants_answer {
            true => Answer::now(response),
            false => check_unanswered(&response).map_or_else(Answer::Close, |()| Answer::Nothing),
        };
    }
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = broker.env().clock.now() + timeout;
    let of = (Arc::clone(broker), Arc::clone(&context.connection.listener));
    let finished = finish(of, response, unfinished, deadline);
    match wants_answer {
        true => Answer::later(finished),
        false => Answer::Unanswered(Box::pin(async { check_unanswered(&finished.await) })),
    }
}

/// A producer that expects no answer learns that something is wrong when its connection is closed.
fn check_unanswered(response: &ProduceResponse) -> Result<(), String> {
    let failed = failure(response).map(|error| format!("Produce with acks=0 failed: {error}"));
    failed.map_or(Ok(()), Err)
}

/// An append that is in the log, but not yet as safe as the producer asked for.
struct Unfinished {
    /// Where its answer stands in the response.
    at: (usize, usize),
    partition: Arc<Partition>,
    /// It has to be on the disk first, and is on its way there.
    flushing: Option<Flushing>,
    /// It has to be on all replicas that are in sync.
    committing: Option<BoxFuture<'static, Result<(), ErrorCode>>>,
}

impl Unfinished {
    /// Waits until the append is on the disk, if it has to be, and committed.
    async fn finish(self, broker: &Broker, deadline: Monotonic) -> Result<(), ErrorCode> {
        let Self { partition, flushing, committing, .. } = self;
        if let Some(flushing) = flushing {
            flushing.await.map_err(|reason| {
                error!(partition = %partition.name(), %reason, "could not flush");
                ErrorCode::KafkaStorageError
            })?;
        }
        let Some(committing) = committing else { return Ok(()) };
        let left = deadline.since(broker.env().clock.now());
        broker.env().timeout(left, committing).await.unwrap_or(Err(ErrorCode::RequestTimedOut))
    }
}

fn append_all(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: &ProduceRequest,
    unfinished: &mut Vec<Unfinished>,
) -> ProduceResponse {
    let now = broker.wall();
    let all_replicas = request.acks == ALL_REPLICAS;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for data in &topic.partitions {
            let at = (topics.len(), partitions.len());
            let Some(partition) = broker.replicas().find(&topic.topic, data.index) else {
                let error = missing(broker, &topic.topic, data.index);
                partitions.push(PartitionProduceResponse::failed(data.index, error));
                continue;
            };
            if is_internal(&partition.name().topic) {
                // A record that is none of the coordinator's would keep it from loading its groups.
                let error = ErrorCode::InvalidTopicException;
                partitions.push(PartitionProduceResponse::failed(data.index, error));
                continue;
            }
            let records = data.records.clone().unwrap_or_default();
            if context.version() < FIRST_VERSION_WITH_ZSTD && uses_zstd(&records) {
                let error = ErrorCode::UnsupportedCompressionType;
                partitions.push(PartitionProduceResponse::failed(data.index, error));
                continue;
            }
            match partition.append(&records, AppendOrigin::Client, all_replicas, now) {
                Ok(appended) => {
                    partitions.push(succeeded(data, &appended.info));
                    let end = appended.info.last_offset.next();
                    // At once: only then may anybody read it, even if its producer goes away or waits for nothing.
                    let flush_due = appended.info.flush_due;
                    let flushing = flush_due.then(|| partition.begin_flush(end));
                    let committing = (all_replicas && !appended.committed)
                        .then(|| partition.wait_committed(appended.epoch, end));
                    if flushing.is_some() || committing.is_some() {
                        unfinished.push(Unfinished { at, partition, flushing, committing });
                    }
                }
                Err(error) => partitions.push(failed(data, &partition, &error)),
            }
        }
        topics.push(TopicProduceResponse { topic: topic.topic.clone(), partitions });
    }
    let node_endpoints = endpoints_told(broker, &context.connection.listener, &topics);
    ProduceResponse { topics, throttle_time_ms: 0, node_endpoints }
}

/// Where the leaders are that an answer names (KIP-951).
fn endpoints_told(
    broker: &Arc<Broker>,
    listener: &str,
    topics: &[TopicProduceResponse],
) -> Vec<NodeEndpoint> {
    let leaders = topics.iter().flat_map(|topic| &topic.partitions);
    let leaders = leaders.filter_map(|partition| Some(partition.current_leader?.leader_id));
    endpoints_of(broker, listener, leaders)
}

/// Waits until every append is as safe as was asked for, or `deadline` has passed.
async fn finish(
    (broker, listener): (Arc<Broker>, Arc<str>),
    mut response: ProduceResponse,
    unfinished: Vec<Unfinished>,
    deadline: Monotonic,
) -> ProduceResponse {
    let mut others_lead = false;
    for append in unfinished {
        let ((topic, index), partition) = (append.at, Arc::clone(&append.partition));
        let answer =
            response.topics.get_mut(topic).and_then(|topic| topic.partitions.get_mut(index));
        if let (Some(answer), Err(error)) = (answer, append.finish(&broker, deadline).await) {
            *answer = PartitionProduceResponse::failed(answer.index, error);
            if error == ErrorCode::NotLeaderOrFollower {
                // Another leads since it was appended.
                answer.current_leader = Some(partition.current_leader());
                others_lead = true;
            }
        }
    }
    if others_lead {
        response.node_endpoints = endpoints_told(&broker, &listener, &response.topics);
    }
    response
}

fn uses_zstd(records: &[u8]) -> bool {
    let mut readable = batches(records).map_while(Result::ok);
    readable.any(|batch| matches!(batch.compression(), Ok(Compression::Zstd)))
}

fn succeeded(data: &PartitionProduceData, info: &LogAppendInfo) -> PartitionProduceResponse {
    PartitionProduceResponse {
        base_offset: info.first_offset,
        log_append_time: info.log_append_time,
        log_start_offset: info.log_start_offset,
        ..PartitionProduceResponse::failed(data.index, ErrorCode::None)
    }
}

fn failed(
    data: &PartitionProduceData,
    partition: &Partition,
    error: &ProduceError,
) -> PartitionProduceResponse {
    let mut answer = PartitionProduceResponse::failed(data.index, error.error_code());
    match error {
        ProduceError::Leadership(_) => answer.current_leader = Some(partition.current_leader()),
        ProduceError::Append(error) => {
            let told = error.record_errors().iter().map(|record| BatchIndexAndErrorMessage {
                batch_index: record.batch_index,
                message: Some(StrBytes::from(record.message.as_str())),
            });
            answer.record_errors = told.collect();
        }
    }
    answer.error_message = Some(StrBytes::from(error.to_string()));
    answer
}

/// What is wrong with a partition that is not here.
pub(super) fn missing(broker: &Broker, topic: &TopicRef, partition: i32) -> ErrorCode {
    let image = broker.image();
    let has_topic = broker.replicas().has_topic(topic);
    let (topic, unknown) = match topic {
        TopicRef::Name(name) => (image.topic(name), ErrorCode::UnknownTopicOrPartition),
        TopicRef::Id(id) => (image.topic_by_id(*id), ErrorCode::UnknownTopicId),
    };
    let Some(topic) = topic else { return unknown };
    match topic.partition(partition) {
        None => ErrorCode::UnknownTopicOrPartition,
        Some(there) if there.replicas.contains(&broker.id()) => {
            // A topic that is deleted leaves the replicas before it leaves the image.
            if has_topic { ErrorCode::KafkaStorageError } else { unknown }
        }
        Some(_) => ErrorCode::NotLeaderOrFollower,
    }
}

fn refuse(request: &ProduceRequest, error: ErrorCode) -> ProduceResponse {
    let topics = request.topics.iter().map(|topic| TopicProduceResponse {
        topic: topic.topic.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|data| PartitionProduceResponse::failed(data.index, error))
            .collect(),
    });
    ProduceResponse { topics: topics.collect(), ..ProduceResponse::default() }
}

fn failure(response: &ProduceResponse) -> Option<ErrorCode> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).find(|error| *error != ErrorCode::None)
}
