//! The requests that most tests need, and what a test wants to know of their answers.

use bytes::Bytes;
use ottla_protocol::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, FindCoordinatorRequest, ListGroupsRequest,
};
use ottla_protocol::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use ottla_protocol::{ErrorCode, Offset, StrBytes, TopicId, TopicRef, message};

use crate::client::Client;

/// The newest version of Produce and of Fetch that names topics by name.
pub(crate) const BY_NAME: i16 = 12;
/// The first version of Produce and of Fetch that names topics by id.
pub(crate) const BY_ID: i16 = 13;

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from(text)
}

pub(crate) fn named(name: &str) -> TopicRef {
    TopicRef::Name(text(name))
}

/// A topic to create.
pub(crate) fn topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let configs = configs.iter().map(|(key, value)| {
        message!(CreatableTopicConfig { name: text(key), value: Some(text(value)) })
    });
    message!(CreatableTopic {
        name: text(name),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.collect(),
    })
}

impl Client {
    /// Creates a topic and answers its id.
    pub(crate) async fn create_topic(&mut self, name: &str, partitions: i32) -> TopicId {
        self.create_topic_with(name, partitions, &[]).await
    }

    pub(crate) async fn create_topic_with(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> TopicId {
        let request = message!(CreateTopicsRequest {
            topics: vec![topic(name, partitions, configs)],
            timeout_ms: 10_000,
        });
        let created = self.call(7, &request).await.topics.remove(0);
        assert_eq!(created.error_code, 0, "{:?}", created.error_message);
        created.topic_id
    }

    pub(crate) async fn delete_topic(&mut self, name: &str) {
        let request = message!(DeleteTopicsRequest {
            topics: vec![message!(DeleteTopicState { name: Some(text(name)) })],
            timeout_ms: 10_000,
        });
        let deleted = self.call(6, &request).await.responses.remove(0);
        assert_eq!(deleted.error_code, 0, "{:?}", deleted.error_message);
    }

    /// Sends one batch to a partition, with acks from all replicas, and answers what came of it.
    pub(crate) async fn append(
        &mut self,
        topic: &str,
        partition: i32,
        records: Bytes,
    ) -> PartitionProduceResponse {
        let request = produce(named(topic), partition, records);
        let mut answer = self.produce(BY_NAME, &request).await;
        answer.topics.remove(0).partitions.remove(0)
    }

    /// Appends one batch, which must go well; answers its offset.
    pub(crate) async fn append_ok(&mut self, topic: &str, records: Bytes) -> i64 {
        let appended = self.append(topic, 0, records).await;
        assert_eq!(appended.error_code, ErrorCode::None, "{:?}", appended.error_message);
        appended.base_offset.0
    }

    /// Fetches partition 0 of a topic from `offset` on, without waiting.
    pub(crate) async fn read(&mut self, topic: &str, offset: i64) -> PartitionData {
        let request = fetch(named(topic), 0, offset);
        let mut answer = self.fetch(BY_NAME, &request).await;
        assert_eq!(answer.error_code, ErrorCode::None);
        answer.topics.remove(0).partitions.remove(0)
    }

    /// All values in partition 0 of a topic.
    pub(crate) async fn read_values(&mut self, topic: &str) -> Vec<String> {
        let data = self.read(topic, 0).await;
        assert_eq!(data.error_code, ErrorCode::None);
        crate::records::values(&data.records)
    }

    /// Finds the coordinator of a group, and waits until all groups have loaded.
    pub(crate) async fn find_coordinator(&mut self, group: &str) {
        let request = message!(FindCoordinatorRequest { coordinator_keys: vec![text(group)] });
        let found = self.call(4, &request).await.coordinators.remove(0);
        assert_eq!(found.error_code, 0, "{:?}", found.error_message);
        let loading = ErrorCode::CoordinatorLoadInProgress.code();
        while self.call(5, &ListGroupsRequest::default()).await.error_code == loading {}
    }
}

/// A Produce request for one partition.
pub(crate) fn produce(topic: TopicRef, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData { index: partition, records: Some(records) };
    let topics = vec![TopicProduceData { topic, partitions: vec![data] }];
    ProduceRequest { acks: -1, timeout_ms: 10_000, topics, ..ProduceRequest::default() }
}

/// A Fetch request for one partition that does not wait.
pub(crate) fn fetch(topic: TopicRef, partition: i32, offset: i64) -> FetchRequest {
    let wanted = FetchPartition {
        partition,
        fetch_offset: Offset(offset),
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topics = vec![FetchTopic { topic, partitions: vec![wanted] }];
    FetchRequest { max_bytes: 1 << 24, topics, ..FetchRequest::default() }
}
