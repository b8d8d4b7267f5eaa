//! DescribeTopicPartitions: topics page by page (KIP-966).

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_metadata::{MetadataImage, PartitionRegistration, TopicImage};
use ottla_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use ottla_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use ottla_protocol::topic_name::{check_topic_name, is_internal};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::metadata::{PartitionState, ids};
use super::{Answer, RequestContext, authorized_operations};
use crate::broker::Broker;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: &DescribeTopicPartitionsRequest,
) -> Answer {
    let image = broker.image();
    let limit = broker.config().fetch.max_request_partition_size_limit;
    let asked = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut page = Page {
        image: &image,
        listener: &context.connection.listener,
        left: asked.clamp(1, limit.max(1)),
        response: DescribeTopicPartitionsResponse::default(),
    };
    let (from, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index.max(0)),
        None => ("", 0),
    };
    let names: BTreeSet<&str> = if request.topics.is_empty() {
        image.topics().map(|topic| &*topic.name).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.as_str()).collect()
    };
    for name in names.range(from..) {
        let start = if *name == from { first_partition } else { 0 };
        if !page.add(name, start) {
            break;
        }
    }
    Answer::now(page.response)
}

/// The answer as it grows.
struct Page<'a> {
    image: &'a MetadataImage,
    listener: &'a str,
    /// How many partitions it may still take.
    left: usize,
    response: DescribeTopicPartitionsResponse,
}

impl Page<'_> {
    /// Adds a topic from partition `start` on; false if the page is full.
    fn add(&mut self, name: &str, start: i32) -> bool {
        let Some(topic) = self.image.topic(name) else {
            let error = match check_topic_name(name) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            self.response.topics.push(message!(DescribeTopicPartitionsResponseTopic {
                error_code: error.code(),
                name: Some(StrBytes::from(name)),
                topic_authorized_operations: authorized_operations::NOT_ASKED,
            }));
            return true;
        };
        if self.left == 0 {
            return self.stop_at(topic, start);
        }
        let mut partitions = topic.partitions.range(start..);
        let shown = partitions.by_ref().take(self.left);
        let shown: Vec<_> = shown.map(|(&index, it)| self.partition(index, it)).collect();
        self.left -= shown.len();
        self.response.topics.push(message!(DescribeTopicPartitionsResponseTopic {
            name: Some(StrBytes::from(name)),
            topic_id: topic.id,
            is_internal: is_internal(name),
            partitions: shown,
            topic_authorized_operations: authorized_operations::TOPIC,
        }));
        match partitions.next() {
            Some((&next, _)) => self.stop_at(topic, next),
            None => true,
        }
    }

    fn stop_at(&mut self, topic: &TopicImage, partition: i32) -> bool {
        self.response.next_cursor = Some(message!(Cursor {
            topic_name: StrBytes::from(&*topic.name),
            partition_index: partition,
        }));
        false
    }

    fn partition(
        &self,
        index: i32,
        partition: &PartitionRegistration,
    ) -> DescribeTopicPartitionsResponsePartition {
        let state = PartitionState::of(self.image, partition, self.listener);
        message!(DescribeTopicPartitionsResponsePartition {
            error_code: state.error.code(),
            partition_index: index,
            leader_id: state.leader,
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: ids(&partition.replicas),
            isr_nodes: ids(&partition.isr),
            eligible_leader_replicas: Some(ids(&partition.elr)),
            last_known_elr: Some(ids(&partition.last_known_elr)),
            offline_replicas: state.offline,
        })
    }
}
