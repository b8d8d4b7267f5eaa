//! OffsetFetch: what a group committed.
//!
//! Version 8 made the request one of several groups. [`groups`] and [`response`] turn the older shape into the newer
//! and back, so that the host asks each group's shard in one way.

use std::collections::BTreeMap;

use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use ottla_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::{GroupCoordinator, StoredGroup};
use crate::records::OffsetCommitValue;

const FIRST_VERSION_WITH_GROUPS: i16 = 8;
const FIRST_VERSION_WITH_ERROR_CODE: i16 = 2;
/// "Nothing committed."
const INVALID_OFFSET: i64 = -1;

impl GroupCoordinator {
    /// Committed offsets of one group: of the topics named, or of all if `topics` is null.
    ///
    /// A partition without a committed offset, and every partition of an unknown group, is answered with offset -1.
    /// `require_stable` makes no difference here while no transaction can hold an offset back. Member id and epoch
    /// (version 9) mean something to KIP-848 groups only. In version 10 the host fills in topic names beforehand, and
    /// topic ids afterwards if all topics were asked for; both are echoed.
    pub fn fetch_offsets(&self, request: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
        let group = self.store.get(&request.group_id);
        let topics = match &request.topics {
            Some(topics) => topics.iter().map(|topic| requested_topic(group, topic)).collect(),
            None => group.iter().flat_map(|group| group.offsets()).map(committed_topic).collect(),
        };
        message!(OffsetFetchResponseGroup { group_id: request.group_id.clone(), topics: topics })
    }
}

fn requested_topic(
    group: Option<&StoredGroup>,
    topic: &OffsetFetchRequestTopics,
) -> OffsetFetchResponseTopics {
    let partitions = topic
        .partition_indexes
        .iter()
        .map(|index| partition(*index, group.and_then(|group| group.offset(&topic.name, *index))));
    message!(OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    })
}

fn committed_topic(
    (name, offsets): (&StrBytes, &BTreeMap<i32, OffsetCommitValue>),
) -> OffsetFetchResponseTopics {
    let partitions = offsets.iter().map(|(index, offset)| partition(*index, Some(offset)));
    message!(OffsetFetchResponseTopics { name: name.clone(), partitions: partitions.collect() })
}

fn partition(index: i32, committed: Option<&OffsetCommitValue>) -> OffsetFetchResponsePartitions {
    message!(OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: committed.map_or(INVALID_OFFSET, |it| it.offset.0),
        committed_leader_epoch: committed.map_or(-1, |it| it.leader_epoch.0),
        metadata: Some(committed.map(|it| it.metadata.clone()).unwrap_or_default()),
    })
}

/// The groups a request of any version asks for.
pub fn groups(request: &OffsetFetchRequest, api_version: i16) -> Vec<OffsetFetchRequestGroup> {
    if api_version >= FIRST_VERSION_WITH_GROUPS {
        return request.groups.clone();
    }
    let topics = request.topics.as_ref().map(|topics| {
        let topic =
            |topic: &ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
                message!(OffsetFetchRequestTopics {
                    name: topic.name.clone(),
                    partition_indexes: topic.partition_indexes.clone(),
                })
            };
        topics.iter().map(topic).collect()
    });
    vec![message!(OffsetFetchRequestGroup { group_id: request.group_id.clone(), topics: topics })]
}

/// The answer for one group that cannot be asked, for example `NOT_COORDINATOR`.
pub fn refuse(request: &OffsetFetchRequestGroup, error: ErrorCode) -> OffsetFetchResponseGroup {
    // The topics are kept: before version 2 only a partition can carry an error.
    let topics = request.topics.iter().flatten().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| partition(*index, None));
        message!(OffsetFetchResponseTopics {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        })
    });
    message!(OffsetFetchResponseGroup {
        group_id: request.group_id.clone(),
        topics: topics.collect(),
        error_code: error.code(),
    })
}

/// The response of any version from the groups' answers.
pub fn response(groups: Vec<OffsetFetchResponseGroup>, api_version: i16) -> OffsetFetchResponse {
    if api_version >= FIRST_VERSION_WITH_GROUPS {
        let groups = groups.into_iter().map(without_refused_topics);
        return message!(OffsetFetchResponse { groups: groups.collect() });
    }
    let Some(group) = groups.into_iter().next() else { return OffsetFetchResponse::default() };
    let per_partition = api_version < FIRST_VERSION_WITH_ERROR_CODE;
    let group_error = group.error_code;
    let keep_topics = per_partition || group_error == 0;
    let topics = group.topics.into_iter().filter(|_| keep_topics).map(|topic| {
        let partitions = topic.partitions.into_iter().map(|it| {
            message!(OffsetFetchResponsePartition {
                partition_index: it.partition_index,
                committed_offset: it.committed_offset,
                committed_leader_epoch: it.committed_leader_epoch,
                metadata: it.metadata,
                error_code: if group_error == 0 { it.error_code } else { group_error },
            })
        });
        message!(OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() })
    });
    message!(OffsetFetchResponse {
        topics: topics.collect(),
        error_code: if per_partition { 0 } else { group_error },
    })
}

fn without_refused_topics(mut group: OffsetFetchResponseGroup) -> OffsetFetchResponseGroup {
    if group.error_code != 0 {
        group.topics = Vec::new();
    }
    group
}
