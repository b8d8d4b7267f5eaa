use std::collections::BTreeMap;

use ottla_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use ottla_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use ottla_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use ottla_protocol::topic_name::is_internal;
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::super::{Controller, MAX_RECORDS_PER_REQUEST, MutationQuota, Outcome};
use super::assignment::AssignmentError;
use crate::image::{PartitionRegistration, TopicImage};
use crate::placement::PlacementSpec;
use crate::record::MetadataRecord;

/// Why a topic was not given more partitions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CreatePartitionsError {
    /// The request names the topic more than once.
    #[error("Duplicate topic name.")]
    DuplicateName,
    /// No such topic.
    #[error("This server does not host this topic-partition.")]
    UnknownTopic,
    /// The key of a record decides on its partition, and by that on who coordinates.
    #[error(
        "the number of partitions of {0} tells where each group or transactional id is kept, and cannot change"
    )]
    Internal(StrBytes),
    /// Partitions are never taken away.
    #[error("the topic has {current} partitions, so {given} would not be an increase")]
    NotMore {
        /// How many it has.
        current: usize,
        /// How many it was to have.
        given: i32,
    },
    /// More than one request may bring about.
    #[error("a request may bring about at most {MAX_RECORDS_PER_REQUEST} new partitions")]
    TooMany,
    /// The assignment is for another number of partitions.
    #[error("{expected} partitions are new, but {given} are assigned")]
    OtherCount {
        /// How many are new.
        expected: usize,
        /// How many are assigned.
        given: usize,
    },
    /// The client creates and deletes too much (KIP-599).
    #[error("The throttling quota has been exceeded.")]
    QuotaExceeded,
    /// The replicas cannot be as asked for.
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
}

impl CreatePartitionsError {
    /// The code to answer with.
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            Self::DuplicateName | Self::Internal(_) => ErrorCode::InvalidRequest,
            Self::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
            Self::NotMore { .. } | Self::TooMany => ErrorCode::InvalidPartitions,
            Self::OtherCount { .. } => ErrorCode::InvalidReplicaAssignment,
            Self::QuotaExceeded => ErrorCode::ThrottlingQuotaExceeded,
            Self::Assignment(error) => error.error_code(),
        }
    }
}

impl Controller {
    /// Gives topics more partitions (KIP-195). Keys that were in one partition may be in another
    /// from here on.
    pub fn create_partitions(
        &self,
        request: &CreatePartitionsRequest,
        random: &mut dyn FnMut() -> u64,
        quota: &mut MutationQuota<'_>,
    ) -> Outcome<CreatePartitionsResponse> {
        let mut outcome = Outcome::only(CreatePartitionsResponse::default());
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for topic in &request.topics {
            *times.entry(&topic.name).or_default() += 1;
        }
        let mut decided_records = 0;
        for topic in &request.topics {
            let decided = match times.remove(topic.name.as_str()) {
                Some(1) => self.decide_partitions(topic, decided_records, random),
                Some(_) => Err(CreatePartitionsError::DuplicateName),
                None => continue,
            };
            let decided = decided.and_then(|records| match quota(records.len()) {
                true => Ok(records),
                false => Err(CreatePartitionsError::QuotaExceeded),
            });
            decided_records += decided.as_ref().map_or(0, Vec::len);
            let mut result = message!(CreatePartitionsTopicResult { name: topic.name.clone() });
            match decided {
                Ok(records) if request.validate_only => drop(records),
                Ok(records) => outcome.records.extend(records),
                Err(error) => {
                    result.error_code = error.error_code().code();
                    result.error_message = Some(StrBytes::from(error.to_string()));
                }
            }
            outcome.answer.results.push(result);
        }
        outcome
    }

    /// `decided` records are in the batch already.
    fn decide_partitions(
        &self,
        request: &CreatePartitionsTopic,
        decided: usize,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Vec<MetadataRecord>, CreatePartitionsError> {
        let topic = self.image.topic(&request.name).ok_or(CreatePartitionsError::UnknownTopic)?;
        if is_internal(&request.name) {
            return Err(CreatePartitionsError::Internal(request.name.clone()));
        }
        let current = topic.partitions.len();
        let additional = usize::try_from(request.count)
            .ok()
            .and_then(|count| count.checked_sub(current))
            .filter(|additional| *additional > 0)
            .ok_or(CreatePartitionsError::NotMore { current, given: request.count })?;
        if decided + additional > MAX_RECORDS_PER_REQUEST {
            return Err(CreatePartitionsError::TooMany);
        }
        let partitions = self.additional_partitions(topic, request, additional, random)?;
        let first = i32::try_from(current).unwrap_or(i32::MAX);
        let numbered = (first..).zip(partitions);
        Ok(numbered.map(|(number, part)| part.to_record(topic.id, number).into()).collect())
    }

    fn additional_partitions(
        &self,
        topic: &TopicImage,
        request: &CreatePartitionsTopic,
        additional: usize,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Vec<PartitionRegistration>, CreatePartitionsError> {
        let current = topic.partitions.len();
        let factor = topic.partitions.values().next().map_or(1, |part| part.replicas.len());
        let Some(assignments) = &request.assignments else {
            let spec = PlacementSpec {
                first_partition: current,
                partitions: additional,
                replication_factor: factor,
            };
            return Ok(self.place_partitions(spec, random)?);
        };
        if assignments.len() != additional {
            let given = assignments.len();
            return Err(CreatePartitionsError::OtherCount { expected: additional, given });
        }
        let numbered = (current..).zip(assignments);
        numbered
            .map(|(number, given)| {
                Ok(self.check_assignment(number, &given.broker_ids, Some(factor))?)
            })
            .collect()
    }
}
