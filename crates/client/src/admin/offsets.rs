//! Offsets: those that partitions have, and those that groups have committed.

use std::collections::BTreeMap;

use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::{
    ListOffsetsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    OffsetFetchResponse,
};
use ottla_protocol::{
    ApiKey, ErrorCode, LeaderEpoch, Offset, StrBytes, Timestamp, TopicPartition, message,
};

use super::routing::{by_topic, checked, complete};
use super::{Admin, Answers};
use crate::{ClientError, Connection, CoordinatorKey};

/// From this version on OffsetFetch asks for groups in rows (KIP-709).
const FIRST_FETCH_BY_GROUP: i16 = 8;
/// The last versions that name topics by name.
const LAST_BY_NAME: i16 = 9;

/// A point in a partition, by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The first offset that is still there.
    Earliest,
    /// The offset that the next record will get.
    Latest,
    /// The first record with this time or a later one.
    At(Timestamp),
    /// The record with the largest time (KIP-734).
    MaxTimestamp,
    /// The first offset that is on the leader's own disk (KIP-405).
    EarliestLocal,
    /// The last offset in remote storage (KIP-1005).
    LatestTiered,
}

impl OffsetQuery {
    const fn timestamp(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::EarliestLocal => -4,
            Self::LatestTiered => -5,
            Self::At(Timestamp(millis)) => millis,
        }
    }
}

/// An offset that a partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; [`Offset::NONE`] if no record has that time.
    pub offset: Offset,
    /// The time of its record, if a time was asked for.
    pub timestamp: Timestamp,
    /// The epoch in which it was written; [`LeaderEpoch::NONE`] if it is not known.
    pub leader_epoch: LeaderEpoch,
}

/// An offset that a group has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset of the next record to read.
    pub offset: Offset,
    /// The epoch of the record before it (KIP-320); [`LeaderEpoch::NONE`] if it is not known.
    pub leader_epoch: LeaderEpoch,
    /// What the member said with it.
    pub metadata: String,
}

impl CommittedOffset {
    /// An offset and nothing else.
    pub fn at(offset: Offset) -> Self {
        Self { offset, leader_epoch: LeaderEpoch::NONE, metadata: String::new() }
    }
}

impl Admin {
    /// Offsets of partitions, from their leaders. With `read_committed` none that belongs to a
    /// transaction under way.
    pub async fn list_offsets(
        &self,
        queries: &BTreeMap<TopicPartition, OffsetQuery>,
        read_committed: bool,
    ) -> Result<Answers<TopicPartition, ListedOffset>, ClientError> {
        let partitions: Vec<TopicPartition> = queries.keys().cloned().collect();
        let timeout_ms = self.timeout_ms();
        self.by_leader(ApiKey::ListOffsets, &partitions, |leader, partitions| {
            list_of(leader, partitions, queries, (read_committed, timeout_ms))
        })
        .await
    }

    /// What a group has committed, for `partitions` or for all it has; partitions without a commit
    /// are left out. With `require_stable` waits for transactions that commit (KIP-447).
    pub async fn list_group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
        require_stable: bool,
    ) -> Result<Answers<TopicPartition, CommittedOffset>, ClientError> {
        let key = CoordinatorKey::Group(group.to_owned());
        let coordinator = self.retried(|| self.client.coordinator_once(&key)).await?;
        let version = coordinator.version_of::<OffsetFetchRequest>()?;
        let mut request = OffsetFetchRequest::default();
        // Below version 7 nothing is ever unstable.
        request.require_stable = require_stable && version >= 7;
        let topics = partitions.map(by_topic);
        if version >= FIRST_FETCH_BY_GROUP {
            let rows = topics.map(|topics| {
                let rows = topics.into_iter().map(|(topic, indexes)| {
                    message!(OffsetFetchRequestTopics {
                        name: StrBytes::from(topic),
                        partition_indexes: indexes,
                    })
                });
                rows.collect()
            });
            request.groups = vec![message!(OffsetFetchRequestGroup {
                group_id: StrBytes::from(group),
                topics: rows,
            })];
        } else {
            request.group_id = StrBytes::from(group);
            request.topics = topics.map(|topics| {
                let rows = topics.into_iter().map(|(topic, indexes)| {
                    message!(OffsetFetchRequestTopic {
                        name: StrBytes::from(topic),
                        partition_indexes: indexes,
                    })
                });
                rows.collect()
            });
        }
        let response = self
            .ask_coordinator(group, &request, LAST_BY_NAME, |it| {
                checked(it.error_code, None)?;
                it.groups.iter().try_for_each(|row| checked(row.error_code, None))
            })
            .await?;
        Ok(committed(response))
    }

    /// Commits offsets for a group that has no members.
    pub async fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<Answers<TopicPartition>, ClientError> {
        let topics = by_topic(offsets.keys()).into_iter().map(|(topic, indexes)| {
            let rows = indexes.into_iter().filter_map(|index| {
                let commit = offsets.get(&TopicPartition::new(topic, index))?;
                Some(message!(OffsetCommitRequestPartition {
                    partition_index: index,
                    committed_offset: commit.offset.0,
                    committed_leader_epoch: commit.leader_epoch.0,
                    committed_metadata: Some(StrBytes::from(commit.metadata.as_str())),
                }))
            });
            message!(OffsetCommitRequestTopic {
                name: StrBytes::from(topic),
                partitions: rows.collect(),
            })
        });
        // No member and no generation: allowed for groups without members.
        let request = message!(OffsetCommitRequest {
            group_id: StrBytes::from(group),
            generation_id_or_member_epoch: -1,
            topics: topics.collect(),
        });
        let response = self
            .ask_coordinator(group, &request, LAST_BY_NAME, |it| {
                // A coordinator that is none, or not ready, says so of each partition.
                let mut rows = it.topics.iter().flat_map(|topic| &topic.partitions);
                let unready = rows.find(|row| is_unready(ErrorCode::from_wire(row.error_code)));
                unready.map_or(Ok(()), |row| checked(row.error_code, None))
            })
            .await?;
        let mut answers = Answers::new();
        for topic in response.topics {
            for row in topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
                answers.insert(partition, checked(row.error_code, None));
            }
        }
        Ok(complete(answers, offsets.keys().cloned()))
    }

    /// Deletes what a group has committed for partitions that no member subscribes to (KIP-496).
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Answers<TopicPartition>, ClientError> {
        let topics = by_topic(partitions).into_iter().map(|(topic, indexes)| {
            let rows = indexes
                .into_iter()
                .map(|index| message!(OffsetDeleteRequestPartition { partition_index: index }));
            message!(OffsetDeleteRequestTopic {
                name: StrBytes::from(topic),
                partitions: rows.collect(),
            })
        });
        let request = message!(OffsetDeleteRequest {
            group_id: StrBytes::from(group),
            topics: topics.collect(),
        });
        let response = self
            .ask_coordinator(group, &request, i16::MAX, |it| checked(it.error_code, None))
            .await?;
        let mut answers = Answers::new();
        for topic in response.topics {
            for row in topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
                answers.insert(partition, checked(row.error_code, None));
            }
        }
        Ok(complete(answers, partitions.iter().cloned()))
    }
}

/// Whether a coordinator cannot answer yet, or is none.
fn is_unready(code: ErrorCode) -> bool {
    code == ErrorCode::CoordinatorLoadInProgress || ClientError::refused(code).is_coordinator_lost()
}

async fn list_of(
    leader: Connection,
    partitions: Vec<TopicPartition>,
    queries: &BTreeMap<TopicPartition, OffsetQuery>,
    (read_committed, timeout_ms): (bool, i32),
) -> Result<Answers<TopicPartition, ListedOffset>, ClientError> {
    let topics = by_topic(&partitions).into_iter().map(|(topic, indexes)| {
        let rows = indexes.into_iter().map(|index| {
            let query = queries.get(&TopicPartition::new(topic, index));
            message!(ListOffsetsPartition {
                partition_index: index,
                current_leader_epoch: LeaderEpoch::NONE.0,
                timestamp: query.map_or(-1, |query| query.timestamp()),
            })
        });
        message!(ListOffsetsTopic { name: StrBytes::from(topic), partitions: rows.collect() })
    });
    let mut request = message!(ListOffsetsRequest {
        replica_id: -1,
        isolation_level: i8::from(read_committed),
        topics: topics.collect(),
    });
    // From version 10 on with a limit, for what lies in remote storage (KIP-1075).
    if leader.version_of::<ListOffsetsRequest>()? >= 10 {
        request.timeout_ms = timeout_ms;
    }
    let response = leader.call(&request).await?;
    let mut answers = Answers::new();
    for topic in response.topics {
        for row in topic.partitions {
            let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
            let listed = ListedOffset {
                offset: Offset(row.offset),
                timestamp: Timestamp(row.timestamp),
                leader_epoch: LeaderEpoch(row.leader_epoch),
            };
            answers.insert(partition, checked(row.error_code, None).map(|()| listed));
        }
    }
    Ok(complete(answers, partitions))
}

/// The commits of a response, in rows of a group or, up to version 7, without.
fn committed(response: OffsetFetchResponse) -> Answers<TopicPartition, CommittedOffset> {
    let mut answers = Answers::new();
    let mut take = |topic: &str, index, code, (offset, epoch), metadata: Option<StrBytes>| {
        let commit = CommittedOffset {
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(epoch),
            metadata: metadata.map(StrBytes::into_string).unwrap_or_default(),
        };
        let answer = checked(code, None).map(|()| commit);
        if answer.as_ref().is_ok_and(|commit| commit.offset == Offset::NONE) {
            return;
        }
        answers.insert(TopicPartition::new(topic, index), answer);
    };
    for topic in response.topics {
        for row in topic.partitions {
            let at = (row.committed_offset, row.committed_leader_epoch);
            take(&topic.name, row.partition_index, row.error_code, at, row.metadata);
        }
    }
    for topic in response.groups.into_iter().flat_map(|group| group.topics) {
        for row in topic.partitions {
            let at = (row.committed_offset, row.committed_leader_epoch);
            take(&topic.name, row.partition_index, row.error_code, at, row.metadata);
        }
    }
    answers
}
