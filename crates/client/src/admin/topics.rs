//! Topics and their partitions.

use std::collections::BTreeMap;

use ottla_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::metadata_response::MetadataResponseTopic;
use ottla_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DeleteTopicsResponse,
};
use ottla_protocol::{BrokerId, ErrorCode, LeaderEpoch, StrBytes, TopicId, message};

use super::routing::{Doubt, checked, complete};
use super::{Admin, Answers};
use crate::{ClientError, PartitionMetadata};

/// From this version on DeleteTopics names topics in rows (KIP-516).
const FIRST_DELETE_TOPICS_BY_ROW: i16 = 6;

/// A topic to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its partitions; `None` takes the broker's `num.partitions`.
    pub partitions: Option<i32>,
    /// Replicas of each; `None` takes the broker's `default.replication.factor`.
    pub replication_factor: Option<i16>,
    /// The replicas of each partition, preferred leader first; then the two above must be `None`.
    pub assignments: BTreeMap<i32, Vec<BrokerId>>,
    /// What it overrides.
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic of which the broker decides the rest.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    fn row(&self) -> CreatableTopic {
        let configs = self.configs.iter().map(|(name, value)| {
            message!(CreatableTopicConfig {
                name: StrBytes::from(name.as_str()),
                value: Some(StrBytes::from(value.as_str())),
            })
        });
        let assignments = self.assignments.iter().map(|(partition, brokers)| {
            message!(CreatableReplicaAssignment {
                partition_index: *partition,
                broker_ids: brokers.iter().map(|id| id.0).collect(),
            })
        });
        message!(CreatableTopic {
            name: StrBytes::from(self.name.as_str()),
            num_partitions: self.partitions.unwrap_or(-1),
            replication_factor: self.replication_factor.unwrap_or(-1),
            assignments: assignments.collect(),
            configs: configs.collect(),
        })
    }
}

/// More partitions for a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewPartitions {
    /// How many it shall have in all.
    pub total: i32,
    /// The replicas of each new one; `None` lets the controller choose.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// A topic in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicListing {
    /// Its id (KIP-516).
    pub topic_id: TopicId,
    /// Whether the cluster keeps it for itself.
    pub is_internal: bool,
    /// Partitions.
    pub partitions: usize,
    /// Replicas of its first partition.
    pub replication_factor: usize,
}

/// All about a topic.
#[derive(Clone, Debug)]
pub struct TopicDescription {
    /// Its id (KIP-516).
    pub topic_id: TopicId,
    /// Whether the cluster keeps it for itself.
    pub is_internal: bool,
    /// Its partitions, by number.
    pub partitions: BTreeMap<i32, PartitionMetadata>,
}

impl Admin {
    /// Makes one topic. `TOPIC_ALREADY_EXISTS` is an error like others; it says so if the call itself may have made the topic
    /// (see [`Admin::create_topics`]).
    pub async fn create_topic(&self, topic: NewTopic) -> Result<(), ClientError> {
        only(self.create_topics(&[topic], false).await?)
    }

    /// Makes topics; with `validate_only` says what would come of it (KIP-4).
    ///
    /// What a controller did not answer it may have done, or may do later, and the next one is asked all the same. If the topic
    /// exists then, who made it cannot be known: the answer is `TOPIC_ALREADY_EXISTS`, and its message says that a try of this
    /// call before was not answered.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<Answers<String>, ClientError> {
        let request = message!(CreateTopicsRequest {
            topics: topics.iter().map(NewTopic::row).collect(),
            timeout_ms: self.timeout_ms(),
            validate_only: validate_only,
        });
        let (response, doubt) = self
            .tell_controller(&request, ErrorCode::TopicAlreadyExists, |it| {
                not_controller(it.topics.iter().map(|row| row.error_code))
            })
            .await?;
        let answers = response.topics.into_iter().map(|row| {
            let answer = checked(row.error_code, row.error_message);
            (row.name.into_string(), doubt.about(answer))
        });
        topics.iter().for_each(|topic| self.client.forget_topic(&topic.name));
        Ok(complete(answers.collect(), topics.iter().map(|topic| topic.name.clone())))
    }

    /// Deletes one topic and all of its records.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        only(self.delete_topics(&[name]).await?)
    }

    /// Deletes topics and all of their records.
    ///
    /// As with [`Admin::create_topics`], `UNKNOWN_TOPIC_OR_PARTITION` may come of a try of the same call that was not answered,
    /// and says so. Such a try may also be carried out late, and delete a topic that has been made again under the name by
    /// then: where names are used again, delete [by id](Admin::delete_topics_by_id).
    pub async fn delete_topics(&self, names: &[&str]) -> Result<Answers<String>, ClientError> {
        let version = self.controller().await?.version_of::<DeleteTopicsRequest>()?;
        let mut request = message!(DeleteTopicsRequest { timeout_ms: self.timeout_ms() });
        let texts = names.iter().map(|name| StrBytes::from(*name));
        if version >= FIRST_DELETE_TOPICS_BY_ROW {
            request.topics =
                texts.map(|name| message!(DeleteTopicState { name: Some(name) })).collect();
        } else {
            request.topic_names = texts.collect();
        }
        let gone = ErrorCode::UnknownTopicOrPartition;
        let (response, doubt) = self.tell_to_delete(&request, gone).await?;
        let answers = response.responses.into_iter().filter_map(|row| {
            let answer = doubt.about(checked(row.error_code, row.error_message));
            let name = row.name?;
            self.deleted(&name, &answer);
            Some((name.into_string(), answer))
        });
        Ok(complete(answers.collect(), names.iter().map(|name| (*name).to_owned())))
    }

    /// Deletes topics by their ids (KIP-516): one that was made again under the same name meanwhile stays, even if the request
    /// is late. Brokers before Kafka 2.8 do not know this.
    pub async fn delete_topics_by_id(
        &self,
        ids: &[TopicId],
    ) -> Result<Answers<TopicId>, ClientError> {
        let rows = ids.iter().map(|id| message!(DeleteTopicState { name: None, topic_id: *id }));
        let request =
            message!(DeleteTopicsRequest { topics: rows.collect(), timeout_ms: self.timeout_ms() });
        let (response, doubt) = self.tell_to_delete(&request, ErrorCode::UnknownTopicId).await?;
        let answers = response.responses.into_iter().map(|row| {
            let answer = doubt.about(checked(row.error_code, row.error_message));
            row.name.iter().for_each(|name| self.deleted(name, &answer));
            (row.topic_id, answer)
        });
        Ok(complete(answers.collect(), ids.iter().copied()))
    }

    fn deleted(&self, topic: &str, answer: &Result<(), ClientError>) {
        match answer {
            Ok(()) => self.client.topic_is_gone(topic),
            Err(_) => self.client.forget_topic(topic),
        }
    }

    async fn tell_to_delete(
        &self,
        request: &DeleteTopicsRequest,
        gone: ErrorCode,
    ) -> Result<(DeleteTopicsResponse, Doubt), ClientError> {
        self.tell_controller(request, gone, |it| {
            not_controller(it.responses.iter().map(|row| row.error_code))
        })
        .await
    }

    /// All topics, by name.
    pub async fn list_topics(&self) -> Result<BTreeMap<String, TopicListing>, ClientError> {
        let response = self.topic_metadata(None).await?;
        let topics = response.topics.into_iter().filter_map(|topic| {
            let first = topic.partitions.first();
            let listing = TopicListing {
                topic_id: topic.topic_id,
                is_internal: topic.is_internal,
                partitions: topic.partitions.len(),
                replication_factor: first.map_or(0, |first| first.replica_nodes.len()),
            };
            Some((topic.name?.into_string(), listing))
        });
        Ok(topics.collect())
    }

    /// What these topics are made of.
    pub async fn describe_topics(
        &self,
        names: &[&str],
    ) -> Result<Answers<String, TopicDescription>, ClientError> {
        let response = self.topic_metadata(Some(names)).await?;
        let answers = response.topics.into_iter().filter_map(|mut topic| {
            let name = topic.name.take()?.into_string();
            let described = checked(topic.error_code, None).map(|()| description(topic));
            Some((name, described))
        });
        Ok(complete(answers.collect(), names.iter().map(|name| (*name).to_owned())))
    }

    /// What every topic is made of: one request.
    pub async fn describe_all_topics(
        &self,
    ) -> Result<BTreeMap<String, TopicDescription>, ClientError> {
        let response = self.topic_metadata(None).await?;
        let topics = response
            .topics
            .into_iter()
            .filter_map(|mut topic| Some((topic.name.take()?.into_string(), description(topic))));
        Ok(topics.collect())
    }

    /// Adds partitions to topics (KIP-195). As with [`Admin::create_topics`], `INVALID_PARTITIONS` may come of a try of the
    /// same call that was not answered, and says so.
    pub async fn create_partitions(
        &self,
        topics: &BTreeMap<String, NewPartitions>,
        validate_only: bool,
    ) -> Result<Answers<String>, ClientError> {
        let assignment = |brokers: &Vec<BrokerId>| {
            message!(CreatePartitionsAssignment {
                broker_ids: brokers.iter().map(|id| id.0).collect()
            })
        };
        let rows = topics.iter().map(|(name, new)| {
            let assignments = new.assignments.as_ref();
            message!(CreatePartitionsTopic {
                name: StrBytes::from(name.as_str()),
                count: new.total,
                assignments: assignments.map(|rows| rows.iter().map(assignment).collect()),
            })
        });
        let request = message!(CreatePartitionsRequest {
            topics: rows.collect(),
            timeout_ms: self.timeout_ms(),
            validate_only: validate_only,
        });
        let (response, doubt) = self
            .tell_controller(&request, ErrorCode::InvalidPartitions, |it| {
                not_controller(it.results.iter().map(|row| row.error_code))
            })
            .await?;
        topics.keys().for_each(|name| self.client.forget_topic(name));
        let answers = response.results.into_iter().map(|row| {
            let answer = checked(row.error_code, row.error_message);
            (row.name.into_string(), doubt.about(answer))
        });
        Ok(complete(answers.collect(), topics.keys().cloned()))
    }
}

/// `NOT_CONTROLLER` is said of each thing, and means the response.
pub(super) fn not_controller(mut codes: impl Iterator<Item = i16>) -> Result<(), ClientError> {
    let code = ErrorCode::NotController;
    if codes.any(|it| it == code.code()) { Err(ClientError::refused(code)) } else { Ok(()) }
}

fn only<K: Ord, V>(answers: Answers<K, V>) -> Result<V, ClientError> {
    let answer = answers.into_values().next();
    answer.unwrap_or_else(|| Err(ClientError::Nonsense("the broker said nothing".to_owned())))
}

fn description(topic: MetadataResponseTopic) -> TopicDescription {
    let ids = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
    let partitions = topic.partitions.into_iter().map(|row| {
        let partition = PartitionMetadata {
            leader: (row.leader_id >= 0).then_some(BrokerId(row.leader_id)),
            leader_epoch: LeaderEpoch(row.leader_epoch),
            replicas: ids(row.replica_nodes),
            isr: ids(row.isr_nodes),
        };
        (row.partition_index, partition)
    });
    TopicDescription {
        topic_id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions: partitions.collect(),
    }
}
