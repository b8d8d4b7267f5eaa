//! Who leads partitions, who has them, and who writes to them.

use std::collections::BTreeMap;

use ottla_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use ottla_protocol::messages::describe_producers_request::TopicRequest;
use ottla_protocol::messages::elect_leaders_request::TopicPartitions;
use ottla_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use ottla_protocol::messages::{
    AlterPartitionReassignmentsRequest, DescribeProducersRequest, ElectLeadersRequest,
    ListPartitionReassignmentsRequest,
};
use ottla_protocol::{
    ApiKey, BrokerId, Offset, ProducerId, StrBytes, Timestamp, TopicPartition, message,
};

use super::routing::{by_topic, checked, complete};
use super::{Admin, Answers};
use crate::{ClientError, Connection};

/// Who may be elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionType {
    /// The first replica, if it is in sync (KIP-183).
    Preferred,
    /// Any replica, even one that has lost records (KIP-460).
    Unclean,
}

/// Where a partition is on its way to (KIP-455).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassignment {
    /// All replicas it has meanwhile.
    pub replicas: Vec<BrokerId>,
    /// Those that come.
    pub adding: Vec<BrokerId>,
    /// Those that go.
    pub removing: Vec<BrokerId>,
}

/// A producer that writes to a partition (KIP-664).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// Its id.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: i32,
    /// The sequence number of its last record.
    pub last_sequence: i32,
    /// When it last wrote.
    pub last_timestamp: Timestamp,
    /// The epoch of the coordinator of its transactions, or -1.
    pub coordinator_epoch: i32,
    /// Where its transaction under way begins.
    pub transaction_start: Option<Offset>,
}

impl Admin {
    /// Has leaders elected, of `partitions` or of all (KIP-460). `ELECTION_NOT_NEEDED` says that
    /// the leader is already the one that would be elected.
    pub async fn elect_leaders(
        &self,
        election: ElectionType,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Answers<TopicPartition>, ClientError> {
        let topics = partitions.map(|partitions| {
            let rows = by_topic(partitions).into_iter().map(|(topic, indexes)| {
                message!(TopicPartitions { topic: StrBytes::from(topic), partitions: indexes })
            });
            rows.collect()
        });
        let request = message!(ElectLeadersRequest {
            election_type: match election {
                ElectionType::Preferred => 0,
                ElectionType::Unclean => 1,
            },
            topic_partitions: topics,
            timeout_ms: self.timeout_ms(),
        });
        let response = self.ask_controller(&request, |it| checked(it.error_code, None)).await?;
        let mut answers = Answers::new();
        for topic in response.replica_election_results {
            for row in topic.partition_result {
                let partition = TopicPartition::new(topic.topic.as_str(), row.partition_id);
                answers.insert(partition, checked(row.error_code, row.error_message));
            }
        }
        Ok(complete(answers, partitions.unwrap_or_default().iter().cloned()))
    }

    /// Moves partitions to other replicas; `None` cancels a move under way (KIP-455). The move
    /// goes on after the answer: see [`Admin::list_reassignments`].
    pub async fn alter_reassignments(
        &self,
        targets: &BTreeMap<TopicPartition, Option<Vec<BrokerId>>>,
    ) -> Result<Answers<TopicPartition>, ClientError> {
        let topics = by_topic(targets.keys()).into_iter().map(|(topic, indexes)| {
            let rows = indexes.into_iter().map(|index| {
                let target = targets.get(&TopicPartition::new(topic, index));
                let replicas = target.and_then(Option::as_ref);
                message!(ReassignablePartition {
                    partition_index: index,
                    replicas: replicas.map(|ids| ids.iter().map(|id| id.0).collect()),
                })
            });
            message!(ReassignableTopic { name: StrBytes::from(topic), partitions: rows.collect() })
        });
        let request = message!(AlterPartitionReassignmentsRequest {
            timeout_ms: self.timeout_ms(),
            topics: topics.collect(),
        });
        let response = self
            .ask_controller(&request, |it| checked(it.error_code, it.error_message.clone()))
            .await?;
        let mut answers = Answers::new();
        for topic in response.responses {
            for row in topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
                answers.insert(partition, checked(row.error_code, row.error_message));
            }
        }
        Ok(complete(answers, targets.keys().cloned()))
    }

    /// The moves under way, of `partitions` or of all (KIP-455).
    pub async fn list_reassignments(
        &self,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<BTreeMap<TopicPartition, Reassignment>, ClientError> {
        let topics = partitions.map(|partitions| {
            let rows = by_topic(partitions).into_iter().map(|(topic, indexes)| {
                message!(ListPartitionReassignmentsTopics {
                    name: StrBytes::from(topic),
                    partition_indexes: indexes,
                })
            });
            rows.collect()
        });
        let request = message!(ListPartitionReassignmentsRequest {
            timeout_ms: self.timeout_ms(),
            topics: topics,
        });
        let response = self
            .ask_controller(&request, |it| checked(it.error_code, it.error_message.clone()))
            .await?;
        let ids = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
        let mut moves = BTreeMap::new();
        for topic in response.topics {
            for row in topic.partitions {
                let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
                let reassignment = Reassignment {
                    replicas: ids(row.replicas),
                    adding: ids(row.adding_replicas),
                    removing: ids(row.removing_replicas),
                };
                moves.insert(partition, reassignment);
            }
        }
        Ok(moves)
    }

    /// Who writes to partitions, as their leaders remember it (KIP-664).
    pub async fn describe_producers(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Answers<TopicPartition, Vec<ProducerState>>, ClientError> {
        self.by_leader(ApiKey::DescribeProducers, partitions, producers_of).await
    }
}

async fn producers_of(
    leader: Connection,
    partitions: Vec<TopicPartition>,
) -> Result<Answers<TopicPartition, Vec<ProducerState>>, ClientError> {
    let topics = by_topic(&partitions).into_iter().map(|(topic, indexes)| {
        message!(TopicRequest { name: StrBytes::from(topic), partition_indexes: indexes })
    });
    let request = message!(DescribeProducersRequest { topics: topics.collect() });
    let response = leader.call(&request).await?;
    let mut answers = Answers::new();
    for topic in response.topics {
        for row in topic.partitions {
            let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
            let producers = row.active_producers.iter().map(|it| ProducerState {
                producer_id: ProducerId(it.producer_id),
                producer_epoch: it.producer_epoch,
                last_sequence: it.last_sequence,
                last_timestamp: Timestamp(it.last_timestamp),
                coordinator_epoch: it.coordinator_epoch,
                transaction_start: (it.current_txn_start_offset >= 0)
                    .then_some(Offset(it.current_txn_start_offset)),
            });
            let producers = producers.collect();
            let answer = checked(row.error_code, row.error_message).map(|()| producers);
            answers.insert(partition, answer);
        }
    }
    Ok(complete(answers, partitions))
}
