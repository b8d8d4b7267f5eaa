//! What a group has committed: written and read at its coordinator. Kafka: `ConsumerCoordinator`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse};
use ottla_protocol::{ErrorCode, LeaderEpoch, Offset, StrBytes, TopicId, TopicPartition, message};

use super::membership::Identity;
use super::{OffsetAndMetadata, by_topic};
use crate::{Client, ClientError, Connection, CoordinatorKey};

/// From this version on OffsetCommit and OffsetFetch name topics by id (KIP-848).
const FIRST_VERSION_BY_ID: i16 = 10;
/// From this version on OffsetFetch asks for several groups (KIP-709).
const FIRST_VERSION_WITH_GROUPS: i16 = 8;
/// From this version on OffsetFetch can wait for transactions to end (KIP-447).
const FIRST_VERSION_STABLE: i16 = 7;

/// The group whose offsets they are, and who asks.
#[derive(Clone)]
pub(super) struct Committer {
    pub(super) client: Client,
    pub(super) key: CoordinatorKey,
    pub(super) group: String,
    pub(super) instance_id: Option<String>,
    pub(super) limit: Duration,
}

impl Committer {
    /// Commits `offsets` as the member `identity`. All, or an error of one of them.
    pub(super) async fn commit(
        self,
        identity: Identity,
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let this = Arc::new((self, identity, offsets));
        let (committer, _, _) = &*this;
        let ask = |connection: Connection| {
            let this = Arc::clone(&this);
            async move {
                let (committer, identity, offsets) = &*this;
                committer.commit_once(connection, identity, offsets).await
            }
        };
        committer.client.ask_coordinator(&committer.key, committer.limit, ask).await
    }

    async fn commit_once(
        &self,
        connection: Connection,
        identity: &Identity,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<(), ClientError> {
        let by_id = connection.version_of::<OffsetCommitRequest>()? >= FIRST_VERSION_BY_ID;
        let ids = self.topic_ids(by_id, offsets.keys()).await?;
        let topics = by_topic(offsets.keys()).into_iter().map(|(topic, numbers)| {
            let rows = numbers.into_iter().filter_map(|number| {
                let committed = offsets.get(&TopicPartition::new(topic.clone(), number))?;
                Some(message!(OffsetCommitRequestPartition {
                    partition_index: number,
                    committed_offset: committed.offset.0,
                    committed_leader_epoch: committed.leader_epoch.0,
                    committed_metadata: Some(StrBytes::from(committed.metadata.as_str())),
                }))
            });
            message!(OffsetCommitRequestTopic {
                name: StrBytes::from(&**topic),
                topic_id: ids.get(&**topic).copied().unwrap_or_default(),
                partitions: rows.collect(),
            })
        });
        let mut request = message!(OffsetCommitRequest {
            group_id: StrBytes::from(self.group.as_str()),
            generation_id_or_member_epoch: identity.generation,
            member_id: StrBytes::from(identity.member_id.as_str()),
            topics: topics.collect(),
        });
        // Who is not in the group commits without an instance id.
        if identity.is_member() {
            request.group_instance_id = self.instance_id.as_deref().map(StrBytes::from);
        }
        let response = connection.call(&request).await?;
        let mut rows = response.topics.iter().flat_map(|topic| &topic.partitions);
        rows.try_for_each(|row| ClientError::check(ErrorCode::from_wire(row.error_code), None))
    }

    /// What is committed for `partitions`; those for which nothing is are left out. Waits for
    /// transactions that have offsets of theirs under way (KIP-447).
    pub(super) async fn committed(
        self,
        partitions: Vec<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, ClientError> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let this = Arc::new((self, partitions));
        let (committer, _) = &*this;
        let ask = |connection: Connection| {
            let this = Arc::clone(&this);
            async move { this.0.committed_once(connection, &this.1).await }
        };
        committer.client.ask_coordinator(&committer.key, committer.limit, ask).await
    }

    async fn committed_once(
        &self,
        connection: Connection,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, ClientError> {
        let version = connection.version_of::<OffsetFetchRequest>()?;
        let by_id = version >= FIRST_VERSION_BY_ID;
        let ids = self.topic_ids(by_id, partitions).await?;
        let group_id = StrBytes::from(self.group.as_str());
        let topics = by_topic(partitions);
        let mut request =
            message!(OffsetFetchRequest { require_stable: version >= FIRST_VERSION_STABLE });
        if version >= FIRST_VERSION_WITH_GROUPS {
            let rows = topics.into_iter().map(|(topic, numbers)| {
                message!(OffsetFetchRequestTopics {
                    name: StrBytes::from(&**topic),
                    topic_id: ids.get(&**topic).copied().unwrap_or_default(),
                    partition_indexes: numbers,
                })
            });
            let group = message!(OffsetFetchRequestGroup {
                group_id: group_id,
                topics: Some(rows.collect()),
            });
            request.groups = vec![group];
        } else {
            let rows = topics.into_iter().map(|(topic, numbers)| {
                message!(OffsetFetchRequestTopic {
                    name: StrBytes::from(&**topic),
                    partition_indexes: numbers,
                })
            });
            (request.group_id, request.topics) = (group_id, Some(rows.collect()));
        }
        let response = connection.call(&request).await?;
        read_committed(response, |id| {
            ids.iter().find(|(_, known)| **known == id).map(|(name, _)| name.clone())
        })
    }

    /// The ids of the topics of `partitions`, if they are wanted; asked for if not known.
    async fn topic_ids<'p>(
        &self,
        wanted: bool,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> Result<BTreeMap<String, TopicId>, ClientError> {
        if !wanted {
            return Ok(BTreeMap::new());
        }
        let topics = by_topic(partitions);
        let mut metadata = self.client.metadata();
        let unknown: Vec<&str> = topics
            .keys()
            .map(|topic| &***topic)
            .filter(|topic| metadata.topics.get(*topic).is_none_or(|it| !it.error_code.is_none()))
            .collect();
        if !unknown.is_empty() {
            metadata = self.client.query_metadata(Some(&unknown), false).await?;
        }
        let id = |topic: &Arc<str>| {
            let found = metadata.topics.get(&**topic);
            let found =
                found.filter(|it| it.error_code.is_none()).ok_or_else(|| ClientError::Refused {
                    code: ErrorCode::UnknownTopicOrPartition,
                    message: Some(format!("there is no topic {topic}")),
                })?;
            Ok((topic.to_string(), found.topic_id))
        };
        topics.keys().map(|topic| id(topic)).collect()
    }
}

fn read_committed(
    response: OffsetFetchResponse,
    name_of: impl Fn(TopicId) -> Option<String>,
) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, ClientError> {
    ClientError::check(ErrorCode::from_wire(response.error_code), None)?;
    let mut committed = BTreeMap::new();
    let mut take = |topic: &str, number, (code, offset, epoch, metadata): Row| {
        ClientError::check(ErrorCode::from_wire(code), None)?;
        if offset >= 0 {
            let metadata = metadata.map(StrBytes::into_string).unwrap_or_default();
            let (offset, leader_epoch) = (Offset(offset), LeaderEpoch(epoch));
            let found = OffsetAndMetadata { offset, leader_epoch, metadata };
            committed.insert(TopicPartition::new(topic, number), found);
        }
        Ok::<(), ClientError>(())
    };
    for topic in response.topics {
        for row in topic.partitions {
            let epoch = row.committed_leader_epoch;
            let found = (row.error_code, row.committed_offset, epoch, row.metadata);
            take(topic.name.as_str(), row.partition_index, found)?;
        }
    }
    for group in response.groups {
        ClientError::check(ErrorCode::from_wire(group.error_code), None)?;
        for topic in group.topics {
            let name = match topic.name.is_empty() {
                true => name_of(topic.topic_id),
                false => Some(topic.name.as_str().to_owned()),
            };
            let name =
                name.ok_or_else(|| ClientError::Nonsense("a topic nobody asked for".into()))?;
            for row in topic.partitions {
                let epoch = row.committed_leader_epoch;
                let found = (row.error_code, row.committed_offset, epoch, row.metadata);
                take(&name, row.partition_index, found)?;
            }
        }
    }
    Ok(committed)
}

/// Error code, offset, leader epoch, metadata.
type Row = (i16, i64, i32, Option<StrBytes>);
