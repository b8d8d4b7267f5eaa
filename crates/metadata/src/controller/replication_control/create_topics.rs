use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use ottla_protocol::messages::create_topics_response::CreatableTopicResult;
use ottla_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use ottla_protocol::topic_name::{
    CLUSTER_METADATA_TOPIC, GROUP_METADATA_TOPIC, TopicNameError, check_topic_name,
    has_collision_characters,
};
use ottla_protocol::{ErrorCode, StrBytes, TopicId, message};

use super::super::configuration_control::ConfigurationError;
use super::super::{Controller, MAX_RECORDS_PER_REQUEST, MutationQuota, Outcome};
use super::assignment::AssignmentError;
use crate::image::{ConfigResource, MetadataImage, PartitionRegistration, ResourceConfig};
use crate::placement::PlacementSpec;
use crate::record::{ConfigRecord, MetadataRecord, TopicRecord};

/// Why a topic was not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CreateTopicError {
    /// The request names it more than once.
    #[error("Duplicate topic name.")]
    DuplicateName,
    /// The metadata log has this name.
    #[error("Creation of internal topic {CLUSTER_METADATA_TOPIC} is prohibited.")]
    MetadataTopic,
    /// No topic can have this name.
    #[error(transparent)]
    InvalidName(#[from] TopicNameError),
    /// Another topic's metrics would have the same names.
    #[error("Topic '{name}' collides with existing topic: {other}")]
    NameCollides {
        /// The name asked for.
        name: String,
        /// The one that is taken.
        other: String,
    },
    /// It is there already.
    #[error("Topic '{0}' already exists.")]
    AlreadyExists(String),
    /// Replicas are either placed or given.
    #[error("with an assignment of replicas, {0} must be -1")]
    AssignmentAndCount(&'static str),
    /// A partition is assigned more than once.
    #[error("partition {0} is assigned more than once")]
    DuplicatePartition(i32),
    /// Partitions are numbered from 0 without a gap.
    #[error("the assigned partitions are not numbered from 0 without a gap")]
    PartitionsNotConsecutive,
    /// Too few or too many partitions.
    #[error(
        "the number of partitions must be -1 for the default or between 1 and {MAX_RECORDS_PER_REQUEST}, not {0}"
    )]
    InvalidPartitions(i32),
    /// Not positive.
    #[error("the replication factor must be -1 for the default or at least 1, not {0}")]
    InvalidReplicationFactor(i16),
    /// The replicas cannot be as asked for.
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    /// The configuration cannot be as asked for.
    #[error(transparent)]
    Config(#[from] ConfigurationError),
    /// The client creates and deletes too much (KIP-599).
    #[error("The throttling quota has been exceeded.")]
    QuotaExceeded,
    /// The request as a whole asks for too much.
    #[error(
        "a request may name at most {MAX_RECORDS_PER_REQUEST} topics, partitions and configuration \
         keys in all: create fewer topics at a time"
    )]
    RequestTooLarge,
}

impl CreateTopicError {
    /// The code to answer with.
    pub(crate) fn error_code(&self) -> ErrorCode {
        match self {
            Self::DuplicateName | Self::MetadataTopic | Self::AssignmentAndCount(_) => {
                ErrorCode::InvalidRequest
            }
            Self::InvalidName(_) | Self::NameCollides { .. } => ErrorCode::InvalidTopicException,
            Self::AlreadyExists(_) => ErrorCode::TopicAlreadyExists,
            Self::DuplicatePartition(_) | Self::PartitionsNotConsecutive => {
                ErrorCode::InvalidReplicaAssignment
            }
            Self::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
            Self::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
            Self::Assignment(error) => error.error_code(),
            Self::Config(error) => error.error_code(),
            Self::QuotaExceeded => ErrorCode::ThrottlingQuotaExceeded,
            Self::RequestTooLarge => ErrorCode::PolicyViolation,
        }
    }
}

/// What the topics of one request share while it is decided.
struct Progress {
    /// The names that collide with others, as they are when `.` is `_`.
    taken: BTreeMap<String, Arc<str>>,
    /// How much more the request may ask for. What was refused counts too, so that the time that a
    /// request takes is bounded.
    left: usize,
}

impl Progress {
    fn new(image: &MetadataImage) -> Self {
        let mut progress = Self { taken: BTreeMap::new(), left: MAX_RECORDS_PER_REQUEST };
        image.topics().for_each(|topic| progress.name_taken(&topic.name));
        progress
    }

    fn name_taken(&mut self, name: &str) {
        if has_collision_characters(name) {
            self.taken.insert(name.replace('.', "_"), Arc::from(name));
        }
    }

    fn colliding(&self, name: &str) -> Option<&Arc<str>> {
        self.taken.get(&name.replace('.', "_"))
    }

    fn spend(&mut self, records: usize) -> Result<(), CreateTopicError> {
        self.left = self.left.checked_sub(records).ok_or(CreateTopicError::RequestTooLarge)?;
        Ok(())
    }
}

/// A topic that can be created.
struct NewTopic {
    name: Arc<str>,
    partitions: Vec<PartitionRegistration>,
    config: ResourceConfig,
}

impl NewTopic {
    /// The topic, its configuration, then its partitions: a broker that is told of a partition
    /// knows how to make its log.
    fn into_records(self, topic_id: TopicId) -> impl Iterator<Item = MetadataRecord> {
        let name = self.name;
        let resource = ConfigResource::Topic(name.clone());
        let config = self.config.into_iter().map(move |(key, value)| {
            MetadataRecord::Config(ConfigRecord {
                resource_type: resource.resource_type(),
                resource_name: resource.resource_name(),
                name: key,
                value: Some(value),
            })
        });
        let partitions = (0..).zip(self.partitions).map(move |(number, partition)| {
            MetadataRecord::Partition(partition.to_record(topic_id, number))
        });
        std::iter::once(TopicRecord { name, topic_id }.into()).chain(config).chain(partitions)
    }
}

impl Controller {
    /// Creates topics, each for itself: one that cannot be does not keep the others from being.
    ///
    /// `random` gives topic ids and the starts of placement.
    pub fn create_topics(
        &self,
        request: &CreateTopicsRequest,
        random: &mut dyn FnMut() -> u64,
        quota: &mut MutationQuota<'_>,
    ) -> Outcome<CreateTopicsResponse> {
        let mut outcome = Outcome::only(CreateTopicsResponse::default());
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for topic in &request.topics {
            *times.entry(&topic.name).or_default() += 1;
        }
        let mut progress = Progress::new(&self.image);
        for topic in &request.topics {
            let duplicate = match times.remove(topic.name.as_str()) {
                Some(count) => count > 1,
                None => continue,
            };
            let decided = match duplicate {
                true => Err(CreateTopicError::DuplicateName),
                false => self.decide_topic(topic, &mut progress, random),
            };
            let decided = decided.and_then(|new| match quota(new.partitions.len()) {
                true => Ok(new),
                false => Err(CreateTopicError::QuotaExceeded),
            });
            let result = match decided {
                Ok(new) => {
                    progress.name_taken(&topic.name);
                    let topic_id =
                        if request.validate_only { TopicId::ZERO } else { random_topic_id(random) };
                    let result = self.created_result(topic, &new, topic_id);
                    if !request.validate_only {
                        outcome.records.extend(new.into_records(topic_id));
                    }
                    result
                }
                Err(error) => message!(CreatableTopicResult {
                    name: topic.name.clone(),
                    error_code: error.error_code().code(),
                    error_message: Some(StrBytes::from(error.to_string())),
                    num_partitions: -1,
                    replication_factor: -1,
                }),
            };
            outcome.answer.topics.push(result);
        }
        outcome
    }

    /// What to ask for the topics that a client or the broker itself needs in passing: with the
    /// cluster's defaults. Internal topics get theirs.
    ///
    /// `__consumer_offsets` gets as many replicas as `offsets.topic.replication.factor` says, or as
    /// there are brokers and voters if those are fewer. Kafka refuses until there are enough; but
    /// the default is 3, and a single node that was told nothing must be able to serve a consumer
    /// group. A cluster whose other brokers are not there yet waits for them, as in Kafka.
    pub fn auto_create_request<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> CreateTopicsRequest {
        let topics = names.into_iter().map(|name| self.creatable_topic(name)).collect();
        message!(CreateTopicsRequest { topics: topics })
    }

    fn creatable_topic(&self, name: &str) -> CreatableTopic {
        let mut topic = message!(CreatableTopic {
            name: StrBytes::from(name),
            num_partitions: -1,
            replication_factor: -1,
        });
        if name == GROUP_METADATA_TOPIC {
            let brokers = self.image.brokers().count();
            let known = brokers.max(self.config.broker.quorum.voters.len());
            let known = i16::try_from(known).unwrap_or(i16::MAX).max(1);
            let offsets = &self.config.broker.offsets;
            topic.num_partitions = offsets.topic_num_partitions;
            topic.replication_factor = offsets.topic_replication_factor.min(known);
            let segment_bytes = offsets.topic_segment_bytes.to_string();
            topic.configs = [
                ("cleanup.policy", "compact"),
                ("compression.type", "producer"),
                ("segment.bytes", &segment_bytes),
            ]
            .map(|(name, value)| {
                message!(CreatableTopicConfig { name: name.into(), value: Some(value.into()) })
            })
            .into();
        }
        topic
    }

    fn decide_topic(
        &self,
        topic: &CreatableTopic,
        progress: &mut Progress,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<NewTopic, CreateTopicError> {
        progress.spend(1 + topic.configs.len())?;
        self.check_name(&topic.name, progress)?;
        let config = self.check_new_topic_config(&topic.configs)?;
        let partitions = match topic.assignments.as_slice() {
            [] => self.placed(topic, progress, random)?,
            _ => self.assigned(topic, progress)?,
        };
        Ok(NewTopic { name: Arc::from(topic.name.as_str()), partitions, config })
    }

    fn check_name(&self, name: &StrBytes, progress: &Progress) -> Result<(), CreateTopicError> {
        if name.as_str() == CLUSTER_METADATA_TOPIC {
            return Err(CreateTopicError::MetadataTopic);
        }
        check_topic_name(name)?;
        if self.image.topic(name).is_some() {
            return Err(CreateTopicError::AlreadyExists(name.to_string()));
        }
        match progress.colliding(name) {
            Some(other) => {
                let (name, other) = (name.to_string(), other.to_string());
                Err(CreateTopicError::NameCollides { name, other })
            }
            None => Ok(()),
        }
    }

    fn assigned(
        &self,
        topic: &CreatableTopic,
        progress: &mut Progress,
    ) -> Result<Vec<PartitionRegistration>, CreateTopicError> {
        if topic.replication_factor != -1 {
            return Err(CreateTopicError::AssignmentAndCount("the replication factor"));
        }
        if topic.num_partitions != -1 {
            return Err(CreateTopicError::AssignmentAndCount("the number of partitions"));
        }
        progress.spend(topic.assignments.len())?;
        let mut by_number = BTreeMap::new();
        for assignment in &topic.assignments {
            let number = assignment.partition_index;
            if by_number.insert(number, assignment.broker_ids.as_slice()).is_some() {
                return Err(CreateTopicError::DuplicatePartition(number));
            }
        }
        if !by_number.keys().copied().eq((0..).take(by_number.len())) {
            return Err(CreateTopicError::PartitionsNotConsecutive);
        }
        let factor = by_number.values().next().map(|replicas| replicas.len());
        let checked = by_number.values().enumerate();
        checked
            .map(|(number, replicas)| Ok(self.check_assignment(number, replicas, factor)?))
            .collect()
    }

    fn placed(
        &self,
        topic: &CreatableTopic,
        progress: &mut Progress,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Vec<PartitionRegistration>, CreateTopicError> {
        let count = match topic.num_partitions {
            -1 => self.config.broker.topic_defaults.num_partitions,
            count => count,
        };
        let factor = match topic.replication_factor {
            -1 => self.config.broker.topic_defaults.replication_factor,
            factor => factor,
        };
        let partitions = usize::try_from(count)
            .ok()
            .filter(|count| (1..=MAX_RECORDS_PER_REQUEST).contains(count))
            .ok_or(CreateTopicError::InvalidPartitions(count))?;
        let replication_factor = usize::try_from(factor)
            .ok()
            .filter(|factor| *factor > 0)
            .ok_or(CreateTopicError::InvalidReplicationFactor(factor))?;
        progress.spend(partitions)?;
        let spec = PlacementSpec { first_partition: 0, partitions, replication_factor };
        Ok(self.place_partitions(spec, random)?)
    }

    /// What is answered of a topic that was, or could be, created (KIP-525: with its size and
    /// configuration).
    fn created_result(
        &self,
        topic: &CreatableTopic,
        new: &NewTopic,
        topic_id: TopicId,
    ) -> CreatableTopicResult {
        let factor = new.partitions.first().map_or(0, |partition| partition.replicas.len());
        message!(CreatableTopicResult {
            name: topic.name.clone(),
            topic_id: topic_id,
            num_partitions: i32::try_from(new.partitions.len()).unwrap_or(i32::MAX),
            replication_factor: i16::try_from(factor).unwrap_or(i16::MAX),
            configs: Some(self.effective_topic_config(&new.config)),
        })
    }
}

/// A random UUID of version 4, which is none of the ids that Kafka reserves.
fn random_topic_id(random: &mut dyn FnMut() -> u64) -> TopicId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random().to_be_bytes());
    bytes[8..].copy_from_slice(&random().to_be_bytes());
    // In Base64 an id that begins with `-` looks like an option to command lines: its first bit is
    // kept clear.
    bytes[0] &= 0x7f;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    TopicId::from_bytes(bytes)
}
