//! OffsetCommit: how far a group has read. Version 10 names topics by id (KIP-848).

use std::sync::Arc;

use ottla_metadata::MetadataImage;
use ottla_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::{Answer, RequestContext};
use crate::broker::Broker;
use crate::coordinator_host::Decided;

/// From this version on topics are named by id.
const FIRST_VERSION_BY_ID: i16 = 10;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    mut request: OffsetCommitRequest,
) -> Answer {
    let by_id = context.version() >= FIRST_VERSION_BY_ID;
    let asked = std::mem::take(&mut request.topics);
    let (known, refused) = sort_out(&broker.image(), &asked, by_id);
    request.topics = known;
    if request.topics.is_empty() && !refused.is_empty() {
        return Answer::now(message!(OffsetCommitResponse { topics: refused }));
    }
    let committed = broker.groups().decide(
        broker.offsets_partitions(),
        &request.group_id,
        |coordinator, now| coordinator.commit_offsets(now, context.version(), &request),
    );
    let asked = request.topics;
    let refuse_all = move |error, refused| {
        let topics = asked.iter().map(|topic| refuse(topic, error)).chain(refused);
        message!(OffsetCommitResponse { topics: topics.collect() })
    };
    match committed {
        Ok(Decided { answer: mut response, committing }) => {
            response.topics.extend(refused.iter().cloned());
            let pending = committing.into_iter().collect();
            super::once_committed(pending, response, move |error| refuse_all(error, refused))
        }
        Err(error) => Answer::now(refuse_all(error, refused)),
    }
}

/// Names the topics that are given by id, and answers the partitions that do not exist: nothing is committed for them.
fn sort_out(
    image: &MetadataImage,
    asked: &[OffsetCommitRequestTopic],
    by_id: bool,
) -> (Vec<OffsetCommitRequestTopic>, Vec<OffsetCommitResponseTopic>) {
    let (mut known, mut refused) = (Vec::new(), Vec::new());
    for topic in asked {
        let found =
            if by_id { image.topic_by_id(topic.topic_id) } else { image.topic(&topic.name) };
        let Some(found) = found else {
            let error =
                if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
            refused.push(refuse(topic, error));
            continue;
        };
        let mut there = topic.clone();
        there.name = StrBytes::from(&*found.name);
        let mut missing = there.clone();
        there.partitions.retain(|asked| found.partition(asked.partition_index).is_some());
        missing.partitions.retain(|asked| found.partition(asked.partition_index).is_none());
        if !missing.partitions.is_empty() {
            refused.push(refuse(&missing, ErrorCode::UnknownTopicOrPartition));
        }
        if !there.partitions.is_empty() {
            known.push(there);
        }
    }
    (known, refused)
}

fn refuse(topic: &OffsetCommitRequestTopic, error: ErrorCode) -> OffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        message!(OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: error.code(),
        })
    });
    message!(OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    })
}
