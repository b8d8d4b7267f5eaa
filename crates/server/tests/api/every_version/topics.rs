//! Metadata and the administration of topics.

use ottla_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_topic_partitions_request::TopicRequest;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    DescribeTopicPartitionsRequest, IncrementalAlterConfigsRequest, MetadataRequest,
};
use ottla_protocol::{ErrorCode, TopicId, message};

use super::{ORDERS, Tour, since};
use crate::requests::{text, topic};

/// The number of topics among the kinds of resources.
const TOPIC: i8 = 2;

pub(super) async fn ask_plainly(tour: &mut Tour) {
    let orders = tour.orders;
    tour.every(
        |version| metadata(version, ORDERS),
        |version, answer| {
            assert_eq!(answer.brokers[0].node_id, 1, "version {version}");
            assert_eq!(answer.cluster_id.is_some(), version >= 2);
            let topic = &answer.topics[0];
            assert_eq!(topic.name.as_deref(), Some(ORDERS), "version {version}");
            assert_eq!(topic.topic_id, since(version, 10, orders), "version {version}");
            let partition = &topic.partitions[0];
            assert_eq!((topic.error_code, partition.error_code, partition.leader_id), (0, 0, 1));
            assert_eq!(
                (&partition.replica_nodes[..], &partition.isr_nodes[..]),
                (&[1][..], &[1][..])
            );
        },
    )
    .await;
    tour.every(
        |version| create(&format!("created-{version}")),
        |version, answer| {
            let created = &answer.topics[0];
            assert_eq!(created.error_code, 0, "version {version}");
            assert_eq!(created.topic_id.is_zero(), version < 7);
            if version >= 5 {
                assert_eq!((created.num_partitions, created.replication_factor), (1, 1));
                assert!(!created.configs.as_ref().unwrap().is_empty(), "version {version}");
            }
        },
    )
    .await;
    tour.every(
        |version| match version {
            1 => message!(DeleteTopicsRequest { topic_names: vec![text("created-7")] }),
            _ => delete(version, &format!("created-{version}")),
        },
        |version, answer| assert_eq!(answer.responses[0].error_code, 0, "version {version}"),
    )
    .await;
    change_plainly(tour).await;
}

/// Asks to change topics, and whether it was done.
async fn change_plainly(tour: &mut Tour) {
    let orders = tour.orders;
    tour.every(
        |version| grow(ORDERS, i32::from(version) + 2),
        |version, answer| assert_eq!(answer.results[0].error_code, 0, "version {version}"),
    )
    .await;
    tour.every(
        |_| alter(ORDERS, 0, "retention.ms", "60000"),
        |version, answer| assert_eq!(answer.responses[0].error_code, 0, "version {version}"),
    )
    .await;
    tour.every(
        |version| describe(version, ORDERS),
        |version, answer| {
            let result = &answer.results[0];
            assert_eq!(result.error_code, 0, "version {version}");
            let retention = result.configs.iter().find(|c| c.name.as_str() == "retention.ms");
            let retention = retention.unwrap();
            assert_eq!(retention.value.as_deref(), Some("60000"), "version {version}");
            let documented = retention.documentation.as_ref().is_some_and(|it| !it.is_empty());
            assert_eq!(documented, version >= 3, "version {version}");
            assert!(!retention.synonyms.is_empty());
        },
    )
    .await;
    tour.every(
        |_| describe_partitions(ORDERS),
        |_, answer| {
            assert_eq!(answer.topics[0].topic_id, orders);
            assert_eq!(answer.topics[0].partitions.len(), 5);
        },
    )
    .await;
}

pub(super) async fn ask_for_nothing(tour: &mut Tour) {
    tour.every(
        |_| message!(MetadataRequest { topics: Some(Vec::new()) }),
        |version, answer| {
            // In version 0 an empty list asks for everything.
            assert_eq!(answer.topics.len(), usize::from(version == 0), "version {version}");
        },
    )
    .await;
    tour.every(|_| CreateTopicsRequest::default(), |_, answer| assert!(answer.topics.is_empty()))
        .await;
    tour.every(
        |_| DeleteTopicsRequest::default(),
        |_, answer| assert!(answer.responses.is_empty()),
    )
    .await;
    tour.every(
        |_| CreatePartitionsRequest::default(),
        |_, answer| assert!(answer.results.is_empty()),
    )
    .await;
    tour.every(
        |_| IncrementalAlterConfigsRequest::default(),
        |_, answer| assert!(answer.responses.is_empty()),
    )
    .await;
    tour.every(
        |_| DescribeConfigsRequest::default(),
        |_, answer| assert!(answer.results.is_empty()),
    )
    .await;
    tour.every(
        |_| DescribeTopicPartitionsRequest::default(),
        |_, answer| assert_eq!(answer.topics[0].name.as_deref(), Some(ORDERS)),
    )
    .await;
}

pub(super) async fn ask_for_the_missing(tour: &mut Tour) {
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    tour.every(
        // Versions before 4 cannot say that a topic is not to be created.
        |version| metadata(version, if version < 4 { "not a name" } else { "missing" }),
        |version, answer| {
            let expected =
                if version < 4 { ErrorCode::InvalidTopicException.code() } else { unknown };
            assert_eq!(answer.topics[0].error_code, expected, "version {version}");
        },
    )
    .await;
    for version in 10..=tour.advertised[&ottla_protocol::ApiKey::Metadata].max {
        let by_id = message!(MetadataRequestTopic { topic_id: TopicId::from_bytes([7; 16]) });
        let request = message!(MetadataRequest {
            topics: Some(vec![by_id]),
            allow_auto_topic_creation: false,
        });
        let answer = tour.client.call(version, &request).await;
        let expected =
            if version < 12 { ErrorCode::InvalidRequest } else { ErrorCode::UnknownTopicId };
        assert_eq!(answer.topics[0].error_code, expected.code(), "version {version}");
    }
    tour.every(
        |_| create(ORDERS),
        |version, answer| {
            let exists = ErrorCode::TopicAlreadyExists.code();
            assert_eq!(answer.topics[0].error_code, exists, "version {version}");
        },
    )
    .await;
    tour.every(
        |version| delete(version, "missing"),
        |version, answer| {
            assert_eq!(answer.responses[0].error_code, unknown, "version {version}");
        },
    )
    .await;
    tour.every(
        |_| grow("missing", 2),
        |version, answer| assert_eq!(answer.results[0].error_code, unknown, "version {version}"),
    )
    .await;
    tour.every(
        |_| alter("missing", 0, "retention.ms", "1"),
        |version, answer| {
            assert_eq!(answer.responses[0].error_code, unknown, "version {version}");
        },
    )
    .await;
    tour.every(
        |version| describe(version, "missing"),
        |version, answer| assert_eq!(answer.results[0].error_code, unknown, "version {version}"),
    )
    .await;
    tour.every(
        |_| describe_partitions("missing"),
        |_, answer| assert_eq!(answer.topics[0].error_code, unknown),
    )
    .await;
}

fn metadata(version: i16, name: &str) -> MetadataRequest {
    message!(MetadataRequest {
        topics: Some(vec![message!(MetadataRequestTopic { name: Some(text(name)) })]),
        allow_auto_topic_creation: version < 4,
        include_cluster_authorized_operations: (8..=10).contains(&version),
        include_topic_authorized_operations: version >= 8,
    })
}

fn create(name: &str) -> CreateTopicsRequest {
    message!(CreateTopicsRequest { topics: vec![topic(name, 1, &[])], timeout_ms: 10_000 })
}

fn delete(version: i16, name: &str) -> DeleteTopicsRequest {
    let state = message!(DeleteTopicState { name: Some(text(name)) });
    message!(DeleteTopicsRequest {
        topics: since(version, 6, vec![state]),
        topic_names: if version < 6 { vec![text(name)] } else { Vec::new() },
        timeout_ms: 10_000,
    })
}

fn grow(name: &str, count: i32) -> CreatePartitionsRequest {
    let topic =
        message!(CreatePartitionsTopic { name: text(name), count: count, assignments: None });
    message!(CreatePartitionsRequest { topics: vec![topic], timeout_ms: 10_000 })
}

fn alter(name: &str, operation: i8, key: &str, value: &str) -> IncrementalAlterConfigsRequest {
    let config = message!(AlterableConfig {
        name: text(key),
        config_operation: operation,
        value: Some(text(value)),
    });
    let resource = message!(AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: text(name),
        configs: vec![config],
    });
    message!(IncrementalAlterConfigsRequest { resources: vec![resource] })
}

fn describe(version: i16, name: &str) -> DescribeConfigsRequest {
    let resource = message!(DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: text(name),
        configuration_keys: None,
    });
    message!(DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: version >= 3,
    })
}

fn describe_partitions(name: &str) -> DescribeTopicPartitionsRequest {
    message!(DescribeTopicPartitionsRequest {
        topics: vec![message!(TopicRequest { name: text(name) })],
        response_partition_limit: 2000,
    })
}
