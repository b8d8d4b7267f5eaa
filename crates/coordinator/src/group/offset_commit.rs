//! OffsetCommit and OffsetDelete: what a group remembers of the partitions it consumes.

use ottla_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use ottla_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
};
use ottla_protocol::{ErrorCode, LeaderEpoch, Offset, StrBytes, Timestamp, message};

use super::classic_group::{ClassicGroup, GroupState};
use super::rebalance::Turn;
use super::{GroupCoordinator, Now, Outcome};
use crate::records::{CoordinatorRecord, OffsetCommitKey, OffsetCommitValue};

/// From this version on a client is told that the group is gone (KIP-848).
const FIRST_VERSION_WITH_GROUP_ID_NOT_FOUND: i16 = 9;
/// Strings of the record format have 16 bit lengths.
const MAX_STRING: usize = i16::MAX as usize;

impl GroupCoordinator {
    /// A group commits offsets. Only a member's session is prolonged at once.
    ///
    /// The host keeps partitions that do not exist to itself (`UNKNOWN_TOPIC_OR_PARTITION`), so that what a client
    /// can make the broker remember is bounded.
    /// Version 10 names topics by id: the host fills in `name`, and keeps topics it does not know to itself
    /// (`UNKNOWN_TOPIC_ID`). Answers carry both.
    pub fn commit_offsets(
        &mut self,
        now: Now,
        api_version: i16,
        request: &OffsetCommitRequest,
    ) -> Outcome<OffsetCommitResponse> {
        if let Err(error) = self.check_commit(api_version, request) {
            return Outcome::answer(refuse_commit(request, error));
        }
        let Self { config, soft, .. } = self;
        if let Some(group) = soft.groups.get(&request.group_id) {
            Turn::new(now, config, &mut soft.timers, &mut soft.appends)
                .heard_from(group, &request.member_id);
        }
        self.decide_commit(now.wall, request)
    }

    fn check_commit(
        &self,
        api_version: i16,
        request: &OffsetCommitRequest,
    ) -> Result<(), ErrorCode> {
        if request.group_id.len() > MAX_STRING {
            return Err(ErrorCode::InvalidGroupId);
        }
        match self.group(&request.group_id) {
            Some(group) => check_committer(&group, request),
            // A consumer that assigns itself partitions needs no group.
            None if request.generation_id_or_member_epoch < 0 => Ok(()),
            None if api_version >= FIRST_VERSION_WITH_GROUP_ID_NOT_FOUND => {
                Err(ErrorCode::GroupIdNotFound)
            }
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    fn decide_commit(
        &self,
        now: Timestamp,
        request: &OffsetCommitRequest,
    ) -> Outcome<OffsetCommitResponse> {
        // -1 leaves it to `offsets.retention.minutes`; only versions 2 to 4 can say otherwise.
        let retention = Some(request.retention_time_ms).filter(|retention| *retention != -1);
        let expire_timestamp = retention.map(|it| Timestamp(now.0.saturating_add(it)));
        let mut records = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let fits = self.metadata_fits(partition.committed_metadata.as_ref());
                let error = if topic.name.len() > MAX_STRING {
                    ErrorCode::InvalidTopicException
                } else if fits {
                    ErrorCode::None
                } else {
                    ErrorCode::OffsetMetadataTooLarge
                };
                partitions.push(commit_answer(partition, error));
                if error == ErrorCode::None {
                    records.push(CoordinatorRecord::OffsetCommit {
                        key: OffsetCommitKey {
                            group: request.group_id.clone(),
                            topic: topic.name.clone(),
                            partition: partition.partition_index,
                        },
                        value: Some(OffsetCommitValue {
                            offset: Offset(partition.committed_offset),
                            leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
                            metadata: partition.committed_metadata.clone().unwrap_or_default(),
                            commit_timestamp: now,
                            expire_timestamp,
                        }),
                    });
                }
            }
            topics.push(message!(OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: partitions,
            }));
        }
        Outcome { records, answer: message!(OffsetCommitResponse { topics: topics }) }
    }

    fn metadata_fits(&self, metadata: Option<&StrBytes>) -> bool {
        metadata.is_none_or(|metadata| {
            metadata.len() <= MAX_STRING
                && metadata.encode_utf16().count() <= self.config.offset_metadata_max_bytes
        })
    }

    /// Removes committed offsets that no member subscribes to (KIP-496).
    pub fn delete_offsets(&self, request: &OffsetDeleteRequest) -> Outcome<OffsetDeleteResponse> {
        let group = match self.check_delete_offsets(&request.group_id) {
            Ok(group) => group,
            Err(error) => {
                return Outcome::answer(message!(OffsetDeleteResponse {
                    error_code: error.code()
                }));
            }
        };
        let mut records = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        let subscribed = Subscribed::of(&group);
        for topic in &request.topics {
            let error = if subscribed.contains(&topic.name) {
                ErrorCode::GroupSubscribedToTopic
            } else {
                ErrorCode::None
            };
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let stored = self.store.get(&request.group_id);
                let committed = stored.is_some_and(|it| it.offset(&topic.name, index).is_some());
                if error == ErrorCode::None && committed {
                    records.push(offset_tombstone(&request.group_id, &topic.name, index));
                }
                partitions.push(message!(OffsetDeleteResponsePartition {
                    partition_index: index,
                    error_code: error.code(),
                }));
            }
            topics.push(message!(OffsetDeleteResponseTopic {
                name: topic.name.clone(),
                partitions: partitions,
            }));
        }
        Outcome { records, answer: message!(OffsetDeleteResponse { topics: topics }) }
    }

    fn check_delete_offsets(
        &self,
        group_id: &StrBytes,
    ) -> Result<std::borrow::Cow<'_, ClassicGroup>, ErrorCode> {
        if group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let group = self.group(group_id).ok_or(ErrorCode::GroupIdNotFound)?;
        if group.state() != GroupState::Empty && !group.uses_consumer_protocol() {
            return Err(ErrorCode::NonEmptyGroup);
        }
        Ok(group)
    }
}

/// Which topics a group is known, or must be presumed, to consume.
pub(super) struct Subscribed {
    topics: Option<std::collections::BTreeSet<StrBytes>>,
    presumed: bool,
}

impl Subscribed {
    pub(super) fn of(group: &ClassicGroup) -> Self {
        // What a consumer group's members subscribe to and we cannot read may be any topic.
        Self { topics: group.subscribed_topics(), presumed: group.uses_consumer_protocol() }
    }

    pub(super) fn contains(&self, topic: &StrBytes) -> bool {
        self.topics.as_ref().map_or(self.presumed, |topics| topics.contains(topic))
    }

    /// Whether the topics could be read.
    pub(super) fn is_known(&self) -> bool {
        self.topics.is_some()
    }
}

/// Whether who commits may do so for this group, now.
fn check_committer(group: &ClassicGroup, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
    let generation = request.generation_id_or_member_epoch;
    let instance = request.group_instance_id.as_ref();
    if generation < 0 && group.state() == GroupState::Empty {
        return Ok(());
    }
    if generation < 0 && request.member_id.is_empty() && instance.is_none() {
        // Not a member, while the group has members.
        return match group.state() {
            GroupState::Empty => Ok(()),
            GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Stable => Err(ErrorCode::UnknownMemberId),
        };
    }
    group.check_member(&request.member_id, instance)?;
    if generation != group.generation() {
        return Err(ErrorCode::IllegalGeneration);
    }
    match group.state() {
        // The new assignment is being made: what the member still consumes may be someone else's.
        GroupState::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
        // While members are called together they may commit what they are about to give up.
        GroupState::Empty | GroupState::PreparingRebalance | GroupState::Stable => Ok(()),
    }
}

fn refuse_commit(request: &OffsetCommitRequest, error: ErrorCode) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|it| commit_answer(it, error));
        message!(OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        })
    });
    message!(OffsetCommitResponse { topics: topics.collect() })
}

fn commit_answer(
    partition: &OffsetCommitRequestPartition,
    error: ErrorCode,
) -> OffsetCommitResponsePartition {
    message!(OffsetCommitResponsePartition {
        partition_index: partition.partition_index,
        error_code: error.code(),
    })
}

pub(super) fn offset_tombstone(
    group: &StrBytes,
    topic: &StrBytes,
    partition: i32,
) -> CoordinatorRecord {
    CoordinatorRecord::OffsetCommit {
        key: OffsetCommitKey { group: group.clone(), topic: topic.clone(), partition },
        value: None,
    }
}
