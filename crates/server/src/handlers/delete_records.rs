//! DeleteRecords: moves the first offset of partitions (KIP-107).

use std::sync::Arc;

use ottla_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use ottla_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use ottla_protocol::topic_name::is_internal;
use ottla_protocol::{ErrorCode, Offset, StrBytes, TopicRef, message};
use ottla_storage::LogDir;
use tracing::warn;

use super::Answer;
use super::produce::missing;
use crate::broker::Broker;
use crate::replica::Partition;

/// What a partition's records are deleted up to, where the client does not say: the high watermark.
const HIGH_WATERMARK: Offset = Offset(-1);

/// A topic's name, and for each partition what became of it.
type Deleted = (StrBytes, Vec<(i32, Result<Arc<Partition>, ErrorCode>)>);

pub(super) fn handle(broker: &Arc<Broker>, request: &DeleteRecordsRequest) -> Answer {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let deleted = delete(broker, &topic.name, asked.partition_index, Offset(asked.offset));
            (asked.partition_index, deleted)
        });
        (topic.name.clone(), partitions.collect())
    });
    // At once, for whoever reads next; what waits for the disk is the promise that it stays so.
    let deleted: Vec<Deleted> = topics.collect();
    if deleted.iter().flat_map(|(_, partitions)| partitions).all(|(_, deleted)| deleted.is_err()) {
        return Answer::now(response(deleted, &[]));
    }
    let (blocking, env) = (Arc::clone(broker), broker.env().clone());
    Answer::later(async move {
        let forgetful = env.run_blocking(move || blocking.replicas().keep_log_starts()).await;
        response(deleted, &forgetful)
    })
}

fn delete(
    broker: &Broker,
    topic: &StrBytes,
    index: i32,
    offset: Offset,
) -> Result<Arc<Partition>, ErrorCode> {
    let name = TopicRef::Name(topic.clone());
    let partition = broker.replicas().find(&name, index);
    let partition = partition.ok_or_else(|| missing(broker, &name, index))?;
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let up_to = if offset == HIGH_WATERMARK { partition.high_watermark() } else { offset };
    match partition.delete_records(up_to) {
        Ok(()) => Ok(partition),
        Err(error) => {
            warn!(partition = %partition.name(), %error, "could not delete records");
            Err(error.error_code())
        }
    }
}

/// `forgetful` directories failed, or are full: after a power loss the records may be back.
fn response(deleted: Vec<Deleted>, forgetful: &[Arc<LogDir>]) -> DeleteRecordsResponse {
    let topics = deleted.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, deleted)| {
            let kept = deleted.and_then(|partition| {
                let log = partition.log();
                let dir = log.log_dir();
                let forgets = forgetful.iter().any(|other| Arc::ptr_eq(other, dir));
                match forgets || dir.failure().is_some() {
                    false => Ok(log.log_start_offset()),
                    true => Err(ErrorCode::KafkaStorageError),
                }
            });
            message!(DeleteRecordsPartitionResult {
                partition_index: index,
                low_watermark: kept.map_or(-1, |offset| offset.0),
                error_code: kept.err().unwrap_or(ErrorCode::None).code(),
            })
        });
        message!(DeleteRecordsTopicResult { name: name, partitions: partitions.collect() })
    });
    message!(DeleteRecordsResponse { topics: topics.collect() })
}
