//! OffsetForLeaderEpoch: where an epoch ended, for clients that find out whether their log was cut (KIP-101, KIP-320).

use std::sync::Arc;

use ottla_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use ottla_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use ottla_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use ottla_protocol::{ErrorCode, LeaderEpoch, TopicRef, message};

use super::Answer;
use super::produce::missing;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: &OffsetForLeaderEpochRequest) -> Answer {
    let topics = request.topics.iter().map(|topic| {
        let name = TopicRef::Name(topic.topic.clone());
        let partitions = topic.partitions.iter().map(|asked| {
            let end = end_offset(broker, &name, asked);
            let (error, end) = match end {
                Ok(end) => (ErrorCode::None, end),
                Err(error) => (error, None),
            };
            message!(EpochEndOffset {
                error_code: error.code(),
                partition: asked.partition,
                leader_epoch: end.map_or(-1, |end| end.epoch.0),
                end_offset: end.map_or(-1, |end| end.end_offset.0),
            })
        });
        message!(OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: partitions.collect(),
        })
    });
    Answer::now(message!(OffsetForLeaderEpochResponse { topics: topics.collect() }))
}

fn end_offset(
    broker: &Broker,
    topic: &TopicRef,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<ottla_storage::EpochEndOffset>, ErrorCode> {
    let partition = broker
        .replicas()
        .find(topic, asked.partition)
        .ok_or_else(|| missing(broker, topic, asked.partition))?;
    partition.check_reader(LeaderEpoch(asked.current_leader_epoch))?;
    Ok(partition.end_offset_for_epoch(LeaderEpoch(asked.leader_epoch)))
}
