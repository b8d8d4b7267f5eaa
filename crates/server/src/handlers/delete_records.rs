//! DeleteRecords: moves the first offset of partitions (KIP-107).

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use ottla_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use ottla_protocol::topic_name::is_internal;
use ottla_protocol::{ErrorCode, Monotonic, Offset, StrBytes, TopicRef, message};
use ottla_storage::LogDir;
use tracing::warn;

use super::Answer;
use super::produce::missing;
use crate::broker::Broker;
use crate::replica::Partition;

/// What a partition's records are deleted up to, where the client does not say: the high watermark.
const HIGH_WATERMARK: Offset = Offset(-1);

/// A partition without its records before an offset.
type Shortened = (Arc<Partition>, Offset);

/// A topic's name, and for each partition what became of it.
type Deleted<T> = (StrBytes, Vec<(i32, Result<T, ErrorCode>)>);

pub(super) fn handle(broker: &Arc<Broker>, request: &DeleteRecordsRequest) -> Answer {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let deleted = delete(broker, &topic.name, asked.partition_index, Offset(asked.offset));
            (asked.partition_index, deleted)
        });
        (topic.name.clone(), partitions.collect())
    });
    // At once, for whoever reads next; what waits is the promise that it stays so, and on every replica.
    let deleted: Vec<Deleted<Shortened>> = topics.collect();
    let limit = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = broker.env().clock.now() + limit;
    let broker = Arc::clone(broker);
    Answer::later(async move {
        let mut forgetful = Vec::new();
        if deleted.iter().flat_map(|(_, partitions)| partitions).any(|(_, it)| it.is_ok()) {
            let blocking = Arc::clone(&broker);
            let keep = move || blocking.replicas().keep_log_starts();
            forgetful = broker.env().run_blocking(keep).await;
        }
        let mut answered: Vec<Deleted<Offset>> = Vec::with_capacity(deleted.len());
        for (name, partitions) in deleted {
            let mut answers = Vec::with_capacity(partitions.len());
            for (index, deleted) in partitions {
                let answer = match deleted {
                    Ok(shortened) => everywhere(&broker, shortened, &forgetful, deadline).await,
                    Err(error) => Err(error),
                };
                answers.push((index, answer));
            }
            answered.push((name, answers));
        }
        response(answered)
    })
}

/// Waits until the records are gone from every replica whose broker is there, as Kafka's `DelayedDeleteRecords` does, and
/// answers the first offset that is left then. `forgetful` directories failed, or are full: after a power loss the records
/// may be back.
async fn everywhere(
    broker: &Broker,
    (partition, up_to): Shortened,
    forgetful: &[Arc<LogDir>],
    deadline: Monotonic,
) -> Result<Offset, ErrorCode> {
    let dir = Arc::clone(partition.log().log_dir());
    if dir.failure().is_some() || forgetful.iter().any(|other| Arc::ptr_eq(other, &dir)) {
        return Err(ErrorCode::KafkaStorageError);
    }
    let env = broker.env();
    let left = deadline.since(env.clock.now());
    let waited = env.timeout(left, partition.wait_deleted(up_to)).await;
    waited.unwrap_or(Err(ErrorCode::RequestTimedOut))
}

fn delete(
    broker: &Broker,
    topic: &StrBytes,
    index: i32,
    offset: Offset,
) -> Result<Shortened, ErrorCode> {
    let name = TopicRef::Name(topic.clone());
    let partition = broker.replicas().find(&name, index);
    let partition = partition.ok_or_else(|| missing(broker, &name, index))?;
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let up_to = if offset == HIGH_WATERMARK { partition.high_watermark() } else { offset };
    match partition.delete_records(up_to) {
        Ok(()) => Ok((partition, up_to)),
        Err(error) => {
            warn!(partition = %partition.name(), %error, "could not delete records");
            Err(error.error_code())
        }
    }
}

fn response(answered: Vec<Deleted<Offset>>) -> DeleteRecordsResponse {
    let topics = answered.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, left)| {
            message!(DeleteRecordsPartitionResult {
                partition_index: index,
                low_watermark: left.map_or(-1, |offset| offset.0),
                error_code: left.err().unwrap_or(ErrorCode::None).code(),
            })
        });
        message!(DeleteRecordsTopicResult { name: name, partitions: partitions.collect() })
    });
    message!(DeleteRecordsResponse { topics: topics.collect() })
}
