//! Moving partitions to other brokers (KIP-455).
//!
//! A reassignment adds the new replicas to the old ones, waits until all that stay are in sync, and
//! then takes the others away: see [`PartitionTarget`].

use std::collections::BTreeSet;

use ottla_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use ottla_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use ottla_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use ottla_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use ottla_protocol::{BrokerId, ErrorCode, StrBytes, message};

use super::super::{Controller, MAX_RECORDS_PER_REQUEST, Outcome};
use super::assignment::AssignmentError;
use super::partition_change::PartitionTarget;
use crate::image::{MetadataImage, PartitionRegistration, TopicImage};
use crate::record::{MetadataRecord, PartitionChangeRecord};

/// Why a partition is not moved, or its move not cancelled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum ReassignmentError {
    /// No such topic.
    #[error("Unable to find a topic named {0}.")]
    UnknownTopic(StrBytes),
    /// No such partition.
    #[error("Unable to find partition {topic}:{partition}.")]
    UnknownPartition {
        /// Name of the topic.
        topic: StrBytes,
        /// Number of the partition.
        partition: i32,
    },
    /// The replicas cannot be as asked for.
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    /// The request does not allow it (KIP-860).
    #[error("The replication factor is changed from {current} to {given}")]
    OtherFactor {
        /// How many replicas there are without, or after, the move under way.
        current: usize,
        /// How many there were to be.
        given: usize,
    },
    /// There is nothing to cancel.
    #[error("{}", ErrorCode::NoReassignmentInProgress.message())]
    NotInProgress,
    /// Of the old replicas none is in sync any more.
    #[error(
        "Unable to revert partition assignment for {topic}:{partition} because it would require an unclean leader election."
    )]
    WouldLoseRecords {
        /// Name of the topic.
        topic: StrBytes,
        /// Number of the partition.
        partition: i32,
    },
    /// Each would be decided as if there were not the other.
    #[error("the request names the partition more than once")]
    NamedTwice,
    /// More than one request may bring about.
    #[error(
        "a request may move at most {MAX_RECORDS_PER_REQUEST} partitions: ask for the rest again"
    )]
    TooMany,
}

impl ReassignmentError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::UnknownTopic(_) | Self::UnknownPartition { .. } => {
                ErrorCode::UnknownTopicOrPartition
            }
            Self::Assignment(error) => error.error_code(),
            Self::OtherFactor { .. } => ErrorCode::InvalidReplicationFactor,
            Self::NamedTwice => ErrorCode::InvalidRequest,
            Self::NotInProgress => ErrorCode::NoReassignmentInProgress,
            Self::WouldLoseRecords { .. } => ErrorCode::InvalidReplicaAssignment,
            Self::TooMany => ErrorCode::PolicyViolation,
        }
    }
}

impl Controller {
    /// Moves partitions to other replicas, or cancels their moves (KIP-455).
    pub fn alter_partition_reassignments(
        &self,
        request: &AlterPartitionReassignmentsRequest,
    ) -> Outcome<AlterPartitionReassignmentsResponse> {
        let may_change_factor = request.allow_replication_factor_change;
        let (mut records, mut seen) = (Vec::new(), BTreeSet::new());
        let mut responses = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let answers = topic.partitions.iter().map(|asked| {
                let is_first = seen.insert((topic.name.as_str(), asked.partition_index));
                let decided = match records.len() {
                    _ if !is_first => Err(ReassignmentError::NamedTwice),
                    MAX_RECORDS_PER_REQUEST.. => Err(ReassignmentError::TooMany),
                    _ => self.decide_reassignment(&topic.name, asked, may_change_factor),
                };
                let error = decided.map(|change| {
                    records.extend(change.map(MetadataRecord::PartitionChange));
                });
                let error = error.err();
                let code = error.as_ref().map_or(ErrorCode::None, ReassignmentError::error_code);
                message!(ReassignablePartitionResponse {
                    partition_index: asked.partition_index,
                    error_code: code.code(),
                    error_message: error.map(|error| StrBytes::from(error.to_string())),
                })
            });
            responses.push(message!(ReassignableTopicResponse {
                name: topic.name.clone(),
                partitions: answers.collect(),
            }));
        }
        let answer = message!(AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: may_change_factor,
            error_message: None,
            responses: responses,
        });
        Outcome { records, answer }
    }

    fn decide_reassignment(
        &self,
        name: &StrBytes,
        asked: &ReassignablePartition,
        may_change_factor: bool,
    ) -> Result<Option<PartitionChangeRecord>, ReassignmentError> {
        let number = asked.partition_index;
        let topic = self.image.topic(name);
        let topic = topic.ok_or_else(|| ReassignmentError::UnknownTopic(name.clone()))?;
        let partition = topic.partition(number).ok_or_else(|| {
            ReassignmentError::UnknownPartition { topic: name.clone(), partition: number }
        })?;
        let target = match &asked.replicas {
            None => self.cancelled(topic, number, partition)?,
            Some(replicas) => {
                let replicas =
                    self.check_replicas(usize::try_from(number).unwrap_or(0), replicas)?;
                let (current, given) = (factor(partition), replicas.len());
                if !may_change_factor && current != given {
                    return Err(ReassignmentError::OtherFactor { current, given });
                }
                reassigned(self.target(topic, number, partition), partition, replicas)
            }
        };
        Ok(self.change_to(target))
    }

    /// Back to the replicas that there were.
    fn cancelled<'a>(
        &self,
        topic: &TopicImage,
        number: i32,
        partition: &'a PartitionRegistration,
    ) -> Result<PartitionTarget<'a>, ReassignmentError> {
        if !partition.is_reassigning() {
            return Err(ReassignmentError::NotInProgress);
        }
        let mut target = self.target(topic, number, partition);
        let stays = |id: &BrokerId| !partition.adding_replicas.contains(id);
        target.replicas.retain(stays);
        target.isr.retain(stays);
        target.adding.clear();
        target.removing.clear();
        target.election = self.election_of(topic);
        if target.isr.is_empty() {
            if !self.may_elect_uncleanly(topic) {
                let topic = StrBytes::from(&*topic.name);
                return Err(ReassignmentError::WouldLoseRecords { topic, partition: number });
            }
            target.isr.extend(target.replicas.first());
        }
        Ok(target)
    }
}

/// The new replicas in front of those that are to go.
fn reassigned<'a>(
    mut target: PartitionTarget<'a>,
    partition: &PartitionRegistration,
    wanted: Vec<BrokerId>,
) -> PartitionTarget<'a> {
    let is_new =
        |id: &BrokerId| !partition.replicas.contains(id) || partition.adding_replicas.contains(id);
    target.adding = wanted.iter().copied().filter(is_new).collect();
    target.adding.sort_unstable();
    target.removing.clone_from(&partition.replicas);
    target.removing.retain(|id| !wanted.contains(id));
    target.removing.sort_unstable();
    target.replicas = wanted;
    target.replicas.extend(&target.removing);
    target
}

/// How many replicas there are, without those of a move under way that are to go.
fn factor(partition: &PartitionRegistration) -> usize {
    partition.replicas.len() - partition.removing_replicas.len()
}

impl MetadataImage {
    /// The moves under way: of the partitions that are named, or all (KIP-455).
    pub fn partition_reassignments(
        &self,
        request: &ListPartitionReassignmentsRequest,
    ) -> ListPartitionReassignmentsResponse {
        let topics = match &request.topics {
            None => self
                .topics()
                .filter_map(|topic| ongoing(topic, topic.partitions.keys().copied()))
                .collect(),
            Some(topics) => topics
                .iter()
                .filter_map(|asked| {
                    ongoing(self.topic(&asked.name)?, asked.partition_indexes.iter().copied())
                })
                .collect(),
        };
        message!(ListPartitionReassignmentsResponse { error_message: None, topics: topics })
    }
}

fn ongoing(
    topic: &TopicImage,
    numbers: impl Iterator<Item = i32>,
) -> Option<OngoingTopicReassignment> {
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
    let partitions = numbers.filter_map(|number| {
        let partition = topic.partition(number).filter(|it| it.is_reassigning())?;
        Some(message!(OngoingPartitionReassignment {
            partition_index: number,
            replicas: ids(&partition.replicas),
            adding_replicas: ids(&partition.adding_replicas),
            removing_replicas: ids(&partition.removing_replicas),
        }))
    });
    let partitions: Vec<_> = partitions.collect();
    (!partitions.is_empty()).then(|| {
        message!(OngoingTopicReassignment {
            name: StrBytes::from(&*topic.name),
            partitions: partitions,
        })
    })
}
