//! The image as the shortest list of records that makes it again.

use std::sync::Arc;

use ottla_protocol::BrokerId;

use super::{METADATA_VERSION, MetadataImage};
use crate::BrokerEpoch;
use crate::record::{
    ConfigRecord, FeatureLevelRecord, MetadataRecord, ProducerIdsRecord, TopicRecord,
};

impl MetadataImage {
    /// The records of a snapshot. Replayed into an empty image they give this one, but for its
    /// position.
    ///
    /// `metadata.version` comes first, so that a reader knows what to expect of the rest (KIP-778).
    pub fn to_records(&self) -> impl Iterator<Item = MetadataRecord> + '_ {
        self.feature_records()
            .chain(self.brokers().map(|broker| broker.to_record().into()))
            .chain(self.topics().flat_map(|topic| {
                let record = TopicRecord { name: topic.name.clone(), topic_id: topic.id };
                let partitions = topic.partitions.iter();
                std::iter::once(record.into()).chain(partitions.map(|(number, partition)| {
                    MetadataRecord::Partition(partition.to_record(topic.id, *number))
                }))
            }))
            .chain(self.config_records())
            .chain(self.client_quota_records())
            .chain(self.producer_id_record())
    }

    fn feature_records(&self) -> impl Iterator<Item = MetadataRecord> + '_ {
        let is_version = |name: &Arc<str>| &**name == METADATA_VERSION;
        let first = self.features().filter(move |(name, _)| is_version(name));
        let rest = self.features().filter(move |(name, _)| !is_version(name));
        first.chain(rest).map(|(name, feature_level)| {
            FeatureLevelRecord { name: name.clone(), feature_level }.into()
        })
    }

    fn config_records(&self) -> impl Iterator<Item = MetadataRecord> + '_ {
        self.configs().flat_map(|(resource, config)| {
            config.iter().map(|(name, value)| {
                MetadataRecord::Config(ConfigRecord {
                    resource_type: resource.resource_type(),
                    resource_name: resource.resource_name(),
                    name: name.clone(),
                    value: Some(value.clone()),
                })
            })
        })
    }

    fn producer_id_record(&self) -> Option<MetadataRecord> {
        let record = ProducerIdsRecord {
            broker_id: BrokerId(-1),
            broker_epoch: BrokerEpoch::NONE,
            next_producer_id: self.next_producer_id,
        };
        (record.next_producer_id != 0).then_some(record.into())
    }
}
