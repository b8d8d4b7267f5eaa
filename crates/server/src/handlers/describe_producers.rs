//! DescribeProducers: who writes to partitions, and where transactions that hang began (KIP-664).

use std::sync::Arc;

use ottla_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use ottla_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};
use ottla_protocol::topic_name::check_topic_name;
use ottla_protocol::{ErrorCode, StrBytes, TopicRef, message};
use ottla_storage::inspect::SnapshotEntry;

use super::Answer;
use super::produce::missing;
use crate::broker::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: &DescribeProducersRequest) -> Answer {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let described = describe(broker, &topic.name, *index);
            let (error, words, producers) = match described {
                Ok(producers) => (ErrorCode::None, None, producers),
                Err((error, words)) => (error, Some(StrBytes::from(words)), Vec::new()),
            };
            message!(PartitionResponse {
                partition_index: *index,
                error_code: error.code(),
                error_message: words,
                active_producers: producers,
            })
        });
        message!(TopicResponse { name: topic.name.clone(), partitions: partitions.collect() })
    });
    Answer::now(message!(DescribeProducersResponse { topics: topics.collect() }))
}

/// Any replica may be asked, not only the leader.
fn describe(
    broker: &Broker,
    topic: &StrBytes,
    index: i32,
) -> Result<Vec<ProducerState>, (ErrorCode, String)> {
    check_topic_name(topic)
        .map_err(|reason| (ErrorCode::InvalidTopicException, reason.to_string()))?;
    let name = TopicRef::Name(topic.clone());
    let partition = broker.replicas().find(&name, index).ok_or_else(|| {
        let error = missing(broker, &name, index);
        (error, error.message().to_owned())
    })?;
    Ok(partition.log().producers().iter().map(producer).collect())
}

fn producer(entry: &SnapshotEntry) -> ProducerState {
    message!(ProducerState {
        producer_id: entry.producer_id.0,
        producer_epoch: i32::from(entry.epoch.0),
        last_sequence: entry.last_sequence,
        last_timestamp: entry.last_timestamp.0,
        coordinator_epoch: entry.coordinator_epoch,
        current_txn_start_offset: entry.current_txn_first_offset.map_or(-1, |first| first.0),
    })
}
