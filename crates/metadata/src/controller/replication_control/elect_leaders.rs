use ottla_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use ottla_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::super::{Controller, MAX_RECORDS_PER_REQUEST, Outcome};
use super::partition_change::Election;
use crate::image::TopicImage;
use crate::record::{MetadataRecord, PartitionChangeRecord};

/// Why no leader was elected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum ElectionError {
    /// Neither 0 (preferred) nor 1 (unclean).
    #[error("Unknown election type {0}")]
    UnknownType(i8),
    /// No such topic.
    #[error("No such topic as {0}")]
    UnknownTopic(StrBytes),
    /// No such partition.
    #[error("No such partition as {topic}-{partition}")]
    UnknownPartition {
        /// Name of the topic.
        topic: StrBytes,
        /// Number of the partition.
        partition: i32,
    },
    /// The preferred replica leads, or, where an unclean election was asked for, any.
    #[error("{}", ErrorCode::ElectionNotNeeded.message())]
    NotNeeded,
    /// The first replica is not in sync, or not there.
    #[error("{}", ErrorCode::PreferredLeaderNotAvailable.message())]
    PreferredNotAvailable,
    /// No replica is there.
    #[error("{}", ErrorCode::EligibleLeadersNotAvailable.message())]
    NoneEligible,
    /// More than one request may bring about.
    #[error(
        "a request may elect at most {MAX_RECORDS_PER_REQUEST} leaders: ask for the rest again"
    )]
    TooMany,
}

impl ElectionError {
    fn error_code(&self) -> ErrorCode {
        match self {
            Self::UnknownType(_) => ErrorCode::InvalidRequest,
            Self::UnknownTopic(_) | Self::UnknownPartition { .. } => {
                ErrorCode::UnknownTopicOrPartition
            }
            Self::NotNeeded => ErrorCode::ElectionNotNeeded,
            Self::PreferredNotAvailable => ErrorCode::PreferredLeaderNotAvailable,
            Self::NoneEligible => ErrorCode::EligibleLeadersNotAvailable,
            Self::TooMany => ErrorCode::PolicyViolation,
        }
    }
}

impl Controller {
    /// Elects leaders of the partitions that are named, or of all (KIP-460). Where all are asked
    /// for, those that need no election are left out of the answer.
    pub fn elect_leaders(&self, request: &ElectLeadersRequest) -> Outcome<ElectLeadersResponse> {
        let election = match request.election_type {
            0 => Ok(Election::Preferred),
            1 => Ok(Election::Unclean),
            other => Err(ElectionError::UnknownType(other)),
        };
        let mut outcome = Outcome::only(ElectLeadersResponse::default());
        if let Err(error) = &election {
            outcome.answer.error_code = error.error_code().code();
        }
        let mut elect = |topic: &StrBytes, number: i32| {
            let decided = match (&election, outcome.records.len()) {
                (Err(error), _) => Err(error.clone()),
                (Ok(_), MAX_RECORDS_PER_REQUEST..) => Err(ElectionError::TooMany),
                (Ok(election), _) => self.elect_leader(topic, number, *election),
            };
            let error = decided.map(|change| {
                outcome.records.push(MetadataRecord::PartitionChange(change));
            });
            let error = error.err();
            message!(PartitionResult {
                partition_id: number,
                error_code: error
                    .as_ref()
                    .map_or(ErrorCode::None, ElectionError::error_code)
                    .code(),
                error_message: error.map(|error| StrBytes::from(error.to_string())),
            })
        };
        let results = match &request.topic_partitions {
            Some(topics) => topics
                .iter()
                .map(|topic| {
                    let results = topic.partitions.iter().map(|it| elect(&topic.topic, *it));
                    message!(ReplicaElectionResult {
                        topic: topic.topic.clone(),
                        partition_result: results.collect(),
                    })
                })
                .collect(),
            None if election.is_err() => Vec::new(),
            None => self.image.topics().filter_map(|topic| elect_all(topic, &mut elect)).collect(),
        };
        outcome.answer.replica_election_results = results;
        outcome
    }

    fn elect_leader(
        &self,
        name: &StrBytes,
        number: i32,
        election: Election,
    ) -> Result<PartitionChangeRecord, ElectionError> {
        let topic = self.image.topic(name);
        let topic = topic.ok_or_else(|| ElectionError::UnknownTopic(name.clone()))?;
        let partition = topic.partition(number).ok_or_else(|| ElectionError::UnknownPartition {
            topic: name.clone(),
            partition: number,
        })?;
        let is_led = match election {
            Election::Preferred => partition.leader == partition.replicas.first().copied(),
            Election::Online | Election::Unclean => partition.leader.is_some(),
        };
        if is_led {
            return Err(ElectionError::NotNeeded);
        }
        let mut target = self.target(topic, number, partition);
        target.election = election;
        self.change_to(target).ok_or(match election {
            Election::Preferred => ElectionError::PreferredNotAvailable,
            Election::Online | Election::Unclean => ElectionError::NoneEligible,
        })
    }
}

/// The partitions of a topic in which an election was needed; `None` if there are none.
fn elect_all(
    topic: &TopicImage,
    elect: &mut dyn FnMut(&StrBytes, i32) -> PartitionResult,
) -> Option<ReplicaElectionResult> {
    let name = StrBytes::from(&*topic.name);
    let results = topic.partitions.keys().map(|number| elect(&name, *number));
    let needed =
        |result: &PartitionResult| result.error_code != ErrorCode::ElectionNotNeeded.code();
    let results: Vec<PartitionResult> = results.filter(needed).collect();
    (!results.is_empty())
        .then(|| message!(ReplicaElectionResult { topic: name, partition_result: results }))
}
