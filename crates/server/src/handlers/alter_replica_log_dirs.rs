//! AlterReplicaLogDirs: replicas of this broker move to other directories of `log.dirs` (KIP-113).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ottla_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use ottla_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};
use ottla_protocol::{ErrorCode, StrBytes, TopicPartition, TopicRef, message};
use tracing::warn;

use super::Answer;
use super::produce::missing;
use crate::broker::Broker;
use crate::log_moves;

pub(super) fn handle(broker: &Arc<Broker>, request: AlterReplicaLogDirsRequest) -> Answer {
    let broker = Arc::clone(broker);
    // The copies are made, as far as their first files.
    Answer::held(async move {
        let env = broker.env().clone();
        env.run_blocking(move || alter(&broker, &request)).await
    })
}

fn alter(
    broker: &Arc<Broker>,
    request: &AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let mut by_topic: BTreeMap<&StrBytes, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for dir in &request.dirs {
        for topic in &dir.topics {
            let results = by_topic.entry(&topic.name).or_default();
            results.extend(topic.partitions.iter().map(|index| {
                let moved = move_to(broker, &dir.path, &topic.name, *index);
                message!(AlterReplicaLogDirPartitionResult {
                    partition_index: *index,
                    error_code: moved.err().unwrap_or(ErrorCode::None).code(),
                })
            }));
        }
    }
    let results = by_topic.into_iter().map(|(name, partitions)| {
        message!(AlterReplicaLogDirTopicResult { topic_name: name.clone(), partitions: partitions })
    });
    message!(AlterReplicaLogDirsResponse { results: results.collect() })
}

fn move_to(
    broker: &Arc<Broker>,
    path: &StrBytes,
    topic: &StrBytes,
    index: i32,
) -> Result<(), ErrorCode> {
    let dir = broker.logs().dirs().find(|dir| dir.path() == Path::new(path.as_str()));
    let dir = dir.ok_or(ErrorCode::LogDirNotFound)?;
    if dir.failure().is_some() {
        return Err(ErrorCode::KafkaStorageError);
    }
    let name = TopicRef::Name(topic.clone());
    let Some(partition) = broker.replicas().find(&name, index) else {
        let error = missing(broker, &name, index);
        if error == ErrorCode::KafkaStorageError {
            return Err(error);
        }
        // Where it comes to this broker later, it is made there.
        broker.logs().wish_for_dir(&TopicPartition::new(topic.as_str(), index), dir);
        let is_elsewhere = error == ErrorCode::NotLeaderOrFollower;
        return Err(if is_elsewhere { ErrorCode::ReplicaNotAvailable } else { error });
    };
    log_moves::begin(broker, &partition, dir).map_err(|error| {
        warn!(partition = %partition.name(), dir = %dir.path().display(), %error, "the log cannot move");
        ErrorCode::KafkaStorageError
    })
}
