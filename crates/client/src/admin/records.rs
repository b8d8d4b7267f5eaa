//! Records: deletes those in front.

use std::collections::BTreeMap;

use ottla_protocol::messages::DeleteRecordsRequest;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use ottla_protocol::{ApiKey, Offset, StrBytes, TopicPartition, message};

use super::routing::{by_topic, checked, complete};
use super::{Admin, Answers};
use crate::{ClientError, Connection};

impl Admin {
    /// Deletes the records before an offset of each partition, and answers where it begins then
    /// (KIP-107). [`Offset::NONE`] means all: up to the high watermark.
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<Answers<TopicPartition, Offset>, ClientError> {
        let partitions: Vec<TopicPartition> = before.keys().cloned().collect();
        let timeout_ms = self.timeout_ms();
        self.by_leader(ApiKey::DeleteRecords, &partitions, |leader, partitions| {
            delete_of(leader, partitions, before, timeout_ms)
        })
        .await
    }
}

async fn delete_of(
    leader: Connection,
    partitions: Vec<TopicPartition>,
    before: &BTreeMap<TopicPartition, Offset>,
    timeout_ms: i32,
) -> Result<Answers<TopicPartition, Offset>, ClientError> {
    let topics = by_topic(&partitions).into_iter().map(|(topic, indexes)| {
        let rows = indexes.into_iter().map(|index| {
            let offset = before.get(&TopicPartition::new(topic, index));
            message!(DeleteRecordsPartition {
                partition_index: index,
                offset: offset.map_or(0, |offset| offset.0),
            })
        });
        message!(DeleteRecordsTopic { name: StrBytes::from(topic), partitions: rows.collect() })
    });
    let request =
        message!(DeleteRecordsRequest { topics: topics.collect(), timeout_ms: timeout_ms });
    let response = leader.call(&request).await?;
    let mut answers = Answers::new();
    for topic in response.topics {
        for row in topic.partitions {
            let partition = TopicPartition::new(topic.name.as_str(), row.partition_index);
            let answer = checked(row.error_code, None).map(|()| Offset(row.low_watermark));
            answers.insert(partition, answer);
        }
    }
    Ok(complete(answers, partitions))
}
