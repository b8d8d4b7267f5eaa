//! OffsetFetch: what groups committed (KIP-709: several groups at once; KIP-848: topics by id).

use std::sync::Arc;

use ottla_coordinator::group::offset_fetch::{groups, refuse, response};
use ottla_metadata::MetadataImage;
use ottla_protocol::messages::OffsetFetchRequest;
use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::{Answer, RequestContext};
use crate::broker::Broker;
use crate::coordinator_host::{Committing, Decided};

/// From this version on topics are named by id.
const FIRST_VERSION_BY_ID: i16 = 10;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: OffsetFetchRequest,
) -> Answer {
    let image = broker.image();
    let by_id = context.version() >= FIRST_VERSION_BY_ID;
    let version = context.version();
    let asked = groups(&request, version);
    let mut pending = Vec::new();
    let fetched = asked.iter().map(|group| match by_id {
        true => fetch_by_id(broker, &image, group.clone(), &mut pending),
        false => fetch(broker, group, &mut pending),
    });
    let fetched = response(fetched.collect(), version);
    super::once_committed(pending, fetched, move |error| {
        let error = as_consumers_know_it(error);
        response(asked.iter().map(|group| refuse(group, error)).collect(), version)
    })
}

/// Consumers before Kafka 3.9 take it for fatal that the coordinator is not available, and ask again, and elsewhere, where it
/// has merely moved: so that is what they are told when what they ask for cannot be committed in time, as Kafka does.
fn as_consumers_know_it(error: ErrorCode) -> ErrorCode {
    if error == ErrorCode::CoordinatorNotAvailable { ErrorCode::NotCoordinator } else { error }
}

fn fetch(
    broker: &Broker,
    group: &OffsetFetchRequestGroup,
    pending: &mut Vec<Committing>,
) -> OffsetFetchResponseGroup {
    let fetched =
        broker.read_group(&group.group_id, |coordinator| coordinator.fetch_offsets(group));
    match fetched {
        Ok(Decided { answer, committing }) => {
            pending.extend(committing);
            answer
        }
        Err(error) => refuse(group, as_consumers_know_it(error)),
    }
}

/// Puts names to ids on the way in, and ids to names on the way out where all topics were asked for.
fn fetch_by_id(
    broker: &Broker,
    image: &MetadataImage,
    mut group: OffsetFetchRequestGroup,
    pending: &mut Vec<Committing>,
) -> OffsetFetchResponseGroup {
    let mut unknown = Vec::new();
    if let Some(topics) = &mut group.topics {
        topics.retain_mut(|topic| match image.topic_by_id(topic.topic_id) {
            Some(found) => {
                topic.name = StrBytes::from(&*found.name);
                true
            }
            None => {
                unknown.push(topic.clone());
                false
            }
        });
    }
    let mut fetched = fetch(broker, &group, pending);
    // Offsets of a topic that is gone are no answer: its id would be another topic's.
    fetched.topics.retain_mut(|topic| match image.topic(&topic.name) {
        Some(found) => {
            topic.topic_id = found.id;
            true
        }
        None => false,
    });
    fetched.topics.extend(unknown.iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            message!(OffsetFetchResponsePartitions {
                partition_index: *index,
                committed_offset: -1,
                committed_leader_epoch: -1,
                error_code: ErrorCode::UnknownTopicId.code(),
            })
        });
        message!(OffsetFetchResponseTopics {
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        })
    }));
    fetched
}
