//! How one record changes the image. Nothing else does.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_wire_core::Uuid;
use ottla_protocol::{BrokerId, TopicId};

use super::{
    BrokerRegistration, ConfigResource, MetadataImage, MetadataPosition, PartitionRegistration,
    ResourceConfig, TopicImage,
};
use crate::BrokerEpoch;
use crate::record::{
    BrokerRegistrationChangeRecord, ClearElrRecord, ConfigRecord, FeatureLevelRecord,
    MetadataRecord, PartitionChangeRecord, PartitionRecord, RegisterBrokerRecord,
    RemoveTopicRecord, TopicRecord, UnregisterBrokerRecord,
};

/// A record that contradicts the ones before it: the metadata log is corrupt, or a bug wrote it.
/// The node must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// A record about a topic that does not exist.
    #[error("no topic has the id {}", hex(.0))]
    UnknownTopic(TopicId),
    /// A record about a partition that does not exist.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// Name of the topic.
        topic: Arc<str>,
        /// Number of the partition.
        partition: i32,
    },
    /// A topic was created that is there already, by name or by id.
    #[error("topic {0} exists already")]
    TopicExists(Arc<str>),
    /// A partition with a number or members that cannot be.
    #[error("partition {partition} of topic {topic} is impossible: {reason}")]
    ImpossiblePartition {
        /// Name of the topic.
        topic: Arc<str>,
        /// Number of the partition.
        partition: i32,
        /// What is wrong.
        reason: &'static str,
    },
    /// A record about a registration that is not there.
    #[error("broker {id} is not registered with epoch {epoch}")]
    UnknownRegistration {
        /// Id of the broker.
        id: BrokerId,
        /// Epoch of the registration.
        epoch: BrokerEpoch,
    },
    /// A configuration of something Ottla keeps none for.
    #[error("no resource has the type {resource_type} and the name {name:?}")]
    UnknownResource {
        /// Kafka's number of the type.
        resource_type: i8,
        /// Name of the resource.
        name: Arc<str>,
    },
}

fn hex(id: &Uuid) -> String {
    id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl MetadataImage {
    /// Applies one record of the log.
    ///
    /// On an error the image is as it was before this record. Call [`advance_to`](Self::advance_to)
    /// after a batch.
    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        match record {
            MetadataRecord::RegisterBroker(record) => self.register_broker(record),
            MetadataRecord::UnregisterBroker(record) => return self.unregister_broker(record),
            MetadataRecord::BrokerRegistrationChange(record) => {
                return self.change_registration(record);
            }
            MetadataRecord::Topic(record) => return self.create_topic(record),
            MetadataRecord::Partition(record) => return self.set_partition(record),
            MetadataRecord::PartitionChange(record) => return self.change_partition(record),
            MetadataRecord::RemoveTopic(record) => return self.remove_topic(record),
            MetadataRecord::Config(record) => return self.set_config(record),
            MetadataRecord::FeatureLevel(record) => self.set_feature_level(record),
            MetadataRecord::ProducerIds(record) => self.next_producer_id = record.next_producer_id,
            MetadataRecord::ClientQuota(record) => self.set_client_quota(record),
            MetadataRecord::ClearElr(record) => self.clear_elr(record),
            MetadataRecord::NoOp(_) => {}
        }
        Ok(())
    }

    /// Says that everything up to `position` has been replayed.
    pub fn advance_to(&mut self, position: MetadataPosition) {
        self.position = position;
    }

    fn register_broker(&mut self, record: &RegisterBrokerRecord) {
        let registration = Arc::new(BrokerRegistration::from_record(record));
        self.brokers.insert(record.broker_id, registration);
    }

    fn check_registration(&self, id: BrokerId, epoch: BrokerEpoch) -> Result<(), ReplayError> {
        match self.brokers.get(&id) {
            Some(broker) if broker.epoch == epoch => Ok(()),
            Some(_) | None => Err(ReplayError::UnknownRegistration { id, epoch }),
        }
    }

    fn unregister_broker(&mut self, record: &UnregisterBrokerRecord) -> Result<(), ReplayError> {
        self.check_registration(record.broker_id, record.broker_epoch)?;
        self.brokers.remove(&record.broker_id);
        Ok(())
    }

    fn change_registration(
        &mut self,
        record: &BrokerRegistrationChangeRecord,
    ) -> Result<(), ReplayError> {
        self.check_registration(record.broker_id, record.broker_epoch)?;
        if let Some(broker) = self.brokers.get_mut(&record.broker_id) {
            let broker = Arc::make_mut(broker);
            match record.fenced {
                1 => broker.fenced = true,
                -1 => broker.fenced = false,
                _ => {}
            }
            if record.in_controlled_shutdown == 1 {
                broker.in_controlled_shutdown = true;
            }
            if !record.log_dirs.is_empty() {
                broker.log_dirs.clone_from(&record.log_dirs);
            }
        }
        Ok(())
    }

    fn create_topic(&mut self, record: &TopicRecord) -> Result<(), ReplayError> {
        if self.topics.contains_key(&record.name) || self.topic_names.contains_key(&record.topic_id)
        {
            return Err(ReplayError::TopicExists(record.name.clone()));
        }
        let topic = TopicImage {
            name: record.name.clone(),
            id: record.topic_id,
            partitions: BTreeMap::new(),
        };
        self.topics.insert(record.name.clone(), Arc::new(topic));
        self.topic_names.insert(record.topic_id, record.name.clone());
        Ok(())
    }

    /// The topic, to be changed. Copies it only if a snapshot still shares it.
    fn topic_mut(&mut self, id: TopicId) -> Result<&mut TopicImage, ReplayError> {
        let name = self.topic_names.get(&id).ok_or(ReplayError::UnknownTopic(id))?;
        let topic = self.topics.get_mut(name);
        topic.map(Arc::make_mut).ok_or(ReplayError::UnknownTopic(id))
    }

    fn set_partition(&mut self, record: &PartitionRecord) -> Result<(), ReplayError> {
        let topic = self.topic_mut(record.topic_id)?;
        let partition = PartitionRegistration::from_record(record);
        check_partition(topic, record.partition_id, &partition)?;
        topic.partitions.insert(record.partition_id, Arc::new(partition));
        Ok(())
    }

    fn change_partition(&mut self, record: &PartitionChangeRecord) -> Result<(), ReplayError> {
        let topic = self.topic_mut(record.topic_id)?;
        let Some(current) = topic.partitions.get(&record.partition_id) else {
            return Err(ReplayError::UnknownPartition {
                topic: topic.name.clone(),
                partition: record.partition_id,
            });
        };
        let mut partition = PartitionRegistration::clone(current);
        partition.change(record);
        check_partition(topic, record.partition_id, &partition)?;
        topic.partitions.insert(record.partition_id, Arc::new(partition));
        Ok(())
    }

    /// As long as nobody leads a partition nothing is committed, so its eligible replicas keep what they
    /// have: they are forgotten where there is an ISR. Kafka forgets those too, and the partition then
    /// waits for an operator.
    fn clear_elr(&mut self, record: &ClearElrRecord) {
        let is_stale = |partition: &PartitionRegistration| {
            let is_empty = partition.elr.is_empty() && partition.last_known_elr.is_empty();
            !is_empty && !partition.isr.is_empty()
        };
        let is_meant = |topic: &TopicImage| {
            (record.topic_name.is_empty() || record.topic_name == topic.name)
                && topic.partitions.values().any(|partition| is_stale(partition))
        };
        let meant: Vec<TopicId> =
            self.topics().filter(|topic| is_meant(topic)).map(|topic| topic.id).collect();
        for id in meant {
            let Ok(topic) = self.topic_mut(id) else { continue };
            for (number, partition) in &mut topic.partitions {
                if is_stale(partition) {
                    let mut change = PartitionChangeRecord::new(id, *number);
                    change.eligible_leader_replicas = Some(Vec::new());
                    change.last_known_elr = Some(Vec::new());
                    Arc::make_mut(partition).change(&change);
                }
            }
        }
    }

    fn remove_topic(&mut self, record: &RemoveTopicRecord) -> Result<(), ReplayError> {
        let unknown = ReplayError::UnknownTopic(record.topic_id);
        let name = self.topic_names.remove(&record.topic_id).ok_or(unknown)?;
        self.topics.remove(&name);
        let resource = ConfigResource::Topic(name);
        self.configs.remove(&resource);
        Ok(())
    }

    fn set_config(&mut self, record: &ConfigRecord) -> Result<(), ReplayError> {
        let resource = ConfigResource::from_wire(record.resource_type, &record.resource_name)
            .ok_or_else(|| ReplayError::UnknownResource {
                resource_type: record.resource_type,
                name: record.resource_name.clone(),
            })?;
        let configs = &mut self.configs;
        match (configs.get_mut(&resource).map(Arc::make_mut), &record.value) {
            (Some(config), Some(value)) => {
                config.insert(record.name.clone(), value.clone());
            }
            (Some(config), None) => {
                config.remove(&record.name);
                if config.is_empty() {
                    configs.remove(&resource);
                }
            }
            (None, Some(value)) => {
                let config = ResourceConfig::from([(record.name.clone(), value.clone())]);
                configs.insert(resource, Arc::new(config));
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn set_feature_level(&mut self, record: &FeatureLevelRecord) {
        let features = Arc::make_mut(&mut self.features);
        match record.feature_level {
            0 => features.remove(&record.name),
            level => features.insert(record.name.clone(), level),
        };
    }
}

fn check_partition(
    topic: &TopicImage,
    number: i32,
    partition: &PartitionRegistration,
) -> Result<(), ReplayError> {
    let reason = if number < 0 {
        "its number is negative"
    } else if partition.replicas.is_empty() {
        "it has no replicas"
    } else if partition.directories.len() != partition.replicas.len() {
        "it has not one directory per replica"
    } else if partition.isr.iter().any(|member| !partition.replicas.contains(member)) {
        "its ISR has a member that is no replica"
    } else if partition.leader.is_some_and(|leader| !partition.isr.contains(&leader)) {
        "its leader is not in the ISR"
    } else if partition.elr.iter().any(|member| partition.isr.contains(member)) {
        "its ELR has a member of the ISR"
    } else {
        return Ok(());
    };
    Err(ReplayError::ImpossiblePartition { topic: topic.name.clone(), partition: number, reason })
}
