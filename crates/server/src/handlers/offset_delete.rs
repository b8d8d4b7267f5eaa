//! OffsetDelete: a group forgets how far it has read in topics it no longer subscribes to (KIP-496).

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_metadata::MetadataImage;
use ottla_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use ottla_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use ottla_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::Answer;
use crate::broker::Broker;
use crate::coordinator_host::Decided;

/// What is answered for the partitions of each topic. A topic appears once in the answer, as clients expect, although some
/// of its partitions may be refused here and others answered by the coordinator.
type ByTopic = BTreeMap<StrBytes, Vec<OffsetDeleteResponsePartition>>;

pub(super) fn handle(broker: &Arc<Broker>, mut request: OffsetDeleteRequest) -> Answer {
    let mut by_topic = ByTopic::new();
    request.topics = sort_out(&broker.image(), request.topics, &mut by_topic);
    if request.topics.is_empty() {
        return Answer::now(answer(by_topic));
    }
    let partitions = broker.offsets_partitions();
    let deleted = broker.groups().decide(partitions, &request.group_id, |coordinator, _| {
        coordinator.delete_offsets(&request)
    });
    match deleted {
        Ok(Decided { answer: decided, .. }) if decided.error_code != ErrorCode::None.code() => {
            Answer::now(decided)
        }
        Ok(Decided { answer: decided, committing }) => {
            for topic in decided.topics {
                by_topic.entry(topic.name).or_default().extend(topic.partitions);
            }
            super::once_committed(committing.into_iter().collect(), answer(by_topic), refuse)
        }
        Err(error) => Answer::now(refuse(error)),
    }
}

/// The partitions that exist; those that do not are refused one by one, and the rest goes on.
fn sort_out(
    image: &MetadataImage,
    asked: Vec<OffsetDeleteRequestTopic>,
    refused: &mut ByTopic,
) -> Vec<OffsetDeleteRequestTopic> {
    let mut known = Vec::with_capacity(asked.len());
    for mut topic in asked {
        let found = image.topic(&topic.name);
        let (there, missing): (Vec<_>, Vec<_>) =
            std::mem::take(&mut topic.partitions).into_iter().partition(|asked| {
                found.is_some_and(|found| found.partition(asked.partition_index).is_some())
            });
        if !missing.is_empty() {
            let missing = missing.into_iter().map(|asked| {
                message!(OffsetDeleteResponsePartition {
                    partition_index: asked.partition_index,
                    error_code: ErrorCode::UnknownTopicOrPartition.code(),
                })
            });
            refused.entry(topic.name.clone()).or_default().extend(missing);
        }
        if !there.is_empty() {
            topic.partitions = there;
            known.push(topic);
        }
    }
    known
}

fn answer(by_topic: ByTopic) -> OffsetDeleteResponse {
    let topics = by_topic.into_iter().map(|(name, partitions)| {
        message!(OffsetDeleteResponseTopic { name: name, partitions: partitions })
    });
    message!(OffsetDeleteResponse { topics: topics.collect() })
}

fn refuse(error: ErrorCode) -> OffsetDeleteResponse {
    message!(OffsetDeleteResponse { error_code: error.code() })
}
