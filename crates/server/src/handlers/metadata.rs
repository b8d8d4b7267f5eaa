//! Metadata: brokers, topics, partitions and their leaders; creates topics on first use.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_metadata::{MetadataImage, PartitionRegistration, TopicImage};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::{MetadataRequest, MetadataResponse};
use ottla_protocol::topic_name::{check_topic_name, is_internal};
use ottla_protocol::{BrokerId, ErrorCode, StrBytes, message};

use super::{Answer, RequestContext, authorized_operations, endpoint};
use crate::broker::Broker;

/// From this version on a topic may be asked for by its id alone (KIP-516).
const FIRST_VERSION_BY_ID: i16 = 12;

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: MetadataRequest,
) -> Answer {
    let missing = missing_topics(broker, context, &request);
    if missing.is_empty() {
        return Answer::now(answer(broker, context, &request));
    }
    let (broker, context) = (Arc::clone(broker), context.clone());
    Answer::held(async move {
        // A topic that could not be created is answered as unknown: the client asks again.
        broker.auto_create_topics(missing).await;
        answer(&broker, &context, &request)
    })
}

/// Topics to create: asked for by name, unknown, with a name that a topic may have; each once.
fn missing_topics(
    broker: &Broker,
    context: &RequestContext,
    request: &MetadataRequest,
) -> Vec<StrBytes> {
    let allowed = context.version() < 4 || request.allow_auto_topic_creation;
    if !allowed || !broker.config().topic_defaults.auto_create {
        return Vec::new();
    }
    let image = broker.image();
    let topics = request.topics.iter().flatten();
    let names = topics.filter(|topic| topic.topic_id.is_zero()).filter_map(|t| t.name.clone());
    let missing =
        names.filter(|name| image.topic(name).is_none() && check_topic_name(name).is_ok());
    missing.collect::<BTreeSet<_>>().into_iter().collect()
}

fn answer(
    broker: &Broker,
    context: &RequestContext,
    request: &MetadataRequest,
) -> MetadataResponse {
    let image = broker.image();
    let listener = &context.connection.listener;
    let operations = if request.include_topic_authorized_operations {
        authorized_operations::TOPIC
    } else {
        authorized_operations::NOT_ASKED
    };
    let cluster_operations = if request.include_cluster_authorized_operations {
        authorized_operations::CLUSTER
    } else {
        authorized_operations::NOT_ASKED
    };
    let describe = |topic: &Arc<TopicImage>| describe_topic(&image, topic, listener, operations);
    // Version 0 has no null: there an empty list asks for everything.
    let everything = context.version() == 0 && request.topics.as_ref().is_some_and(Vec::is_empty);
    let topics = match &request.topics {
        Some(topics) if !everything => topics
            .iter()
            .map(|asked| match find(&image, context.version(), asked) {
                Ok(topic) => describe(topic),
                Err(error) => unknown_topic(asked, error),
            })
            .collect(),
        Some(_) | None => image.topics().map(describe).collect(),
    };
    message!(MetadataResponse {
        brokers: brokers(&image, listener),
        cluster_id: Some(StrBytes::from(broker.cluster_id())),
        controller_id: broker.controller_id(),
        topics: topics,
        cluster_authorized_operations: cluster_operations,
    })
}

fn find<'a>(
    image: &'a MetadataImage,
    version: i16,
    asked: &MetadataRequestTopic,
) -> Result<&'a Arc<TopicImage>, ErrorCode> {
    if !asked.topic_id.is_zero() {
        if version < FIRST_VERSION_BY_ID {
            return Err(ErrorCode::InvalidRequest);
        }
        return image.topic_by_id(asked.topic_id).ok_or(ErrorCode::UnknownTopicId);
    }
    let name = asked.name.as_ref().ok_or(ErrorCode::InvalidRequest)?;
    if let Some(topic) = image.topic(name) {
        return Ok(topic);
    }
    match check_topic_name(name) {
        Ok(()) => Err(ErrorCode::UnknownTopicOrPartition),
        Err(_) => Err(ErrorCode::InvalidTopicException),
    }
}

fn unknown_topic(asked: &MetadataRequestTopic, error: ErrorCode) -> MetadataResponseTopic {
    message!(MetadataResponseTopic {
        error_code: error.code(),
        // Only versions that take an id alone may answer without a name.
        name: if asked.topic_id.is_zero() || error == ErrorCode::InvalidRequest {
            Some(asked.name.clone().unwrap_or_default())
        } else {
            None
        },
        topic_id: asked.topic_id,
        topic_authorized_operations: authorized_operations::NOT_ASKED,
    })
}

fn brokers(image: &MetadataImage, listener: &str) -> Vec<MetadataResponseBroker> {
    let alive = image.brokers().filter(|broker| !broker.fenced);
    alive
        .filter_map(|broker| endpoint(broker, listener))
        .map(|node| {
            message!(MetadataResponseBroker {
                node_id: node.node_id.0,
                host: node.host,
                port: node.port,
                rack: node.rack,
            })
        })
        .collect()
}

fn describe_topic(
    image: &MetadataImage,
    topic: &TopicImage,
    listener: &str,
    operations: i32,
) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().map(|(&index, partition)| {
        let state = PartitionState::of(image, partition, listener);
        message!(MetadataResponsePartition {
            error_code: state.error.code(),
            partition_index: index,
            leader_id: state.leader,
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: ids(&partition.replicas),
            isr_nodes: ids(&partition.isr),
            offline_replicas: state.offline,
        })
    });
    message!(MetadataResponseTopic {
        name: Some(StrBytes::from(&*topic.name)),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: partitions.collect(),
        topic_authorized_operations: operations,
    })
}

/// What a client is told of a partition.
pub(super) struct PartitionState {
    pub(super) error: ErrorCode,
    /// The leader, -1 if there is none that this client can reach.
    pub(super) leader: i32,
    /// Replicas on brokers, or in log directories, that are not there.
    pub(super) offline: Vec<i32>,
}

impl PartitionState {
    pub(super) fn of(
        image: &MetadataImage,
        partition: &PartitionRegistration,
        listener: &str,
    ) -> Self {
        let alive = |id: &BrokerId| image.broker(*id).is_some_and(|broker| !broker.fenced);
        let leader = partition.leader.filter(alive);
        let reachable =
            leader.and_then(|id| image.broker(id)).is_some_and(|b| b.listener(listener).is_some());
        let error = match leader {
            None => ErrorCode::LeaderNotAvailable,
            Some(_) if !reachable => ErrorCode::ListenerNotFound,
            Some(_) => ErrorCode::None,
        };
        let has_disk = |id: &BrokerId| {
            image.broker(*id).is_some_and(|broker| broker.has_online_dir(partition))
        };
        let offline = partition.replicas.iter().filter(|id| !(alive(id) && has_disk(id)));
        Self {
            error,
            leader: leader.filter(|_| reachable).map_or(-1, |id| id.0),
            offline: offline.map(|id| id.0).collect(),
        }
    }
}

pub(super) fn ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|id| id.0).collect()
}
