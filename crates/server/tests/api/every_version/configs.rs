//! The APIs of configurations, quotas and features that are not about topics alone.

use ottla_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use ottla_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use ottla_protocol::messages::describe_client_quotas_request::ComponentData;
use ottla_protocol::messages::update_features_request::FeatureUpdateKey;
use ottla_protocol::messages::{
    AlterClientQuotasRequest, AlterConfigsRequest, DescribeClientQuotasRequest,
    GetTelemetrySubscriptionsRequest, ListConfigResourcesRequest, PushTelemetryRequest,
    UpdateFeaturesRequest,
};
use ottla_protocol::{ErrorCode, Uuid, message};

use super::{ORDERS, Tour};
use crate::requests::text;

pub(super) async fn ask_plainly(tour: &mut Tour) {
    tour.every(
        |version| replace(2, ORDERS, "retention.ms", &format!("{}", 7000 + i32::from(version))),
        |version, answer| assert_eq!(answer.responses[0].error_code, 0, "version {version}"),
    )
    .await;
    tour.every(
        |_| replace(16, "subscription", "interval.ms", "5000"),
        |version, answer| assert_eq!(answer.responses[0].error_code, 0, "version {version}"),
    )
    .await;
    tour.every(
        |_| ListConfigResourcesRequest::default(),
        |version, answer| {
            assert_eq!(answer.error_code, 0);
            let rows = answer.config_resources.iter();
            let listed: Vec<_> =
                rows.map(|row| (row.resource_type, row.resource_name.as_str())).collect();
            let topics = [(2, "__consumer_offsets"), (2, ORDERS)];
            match version {
                // It lists subscriptions only, and cannot say so.
                0 => assert!(matches!(listed[..], [(_, "subscription")]), "{listed:?}"),
                _ => {
                    assert_eq!(listed[..2], topics);
                    assert_eq!(listed[2..], [(4, "1"), (16, "subscription")]);
                }
            }
        },
    )
    .await;
    push_plainly(tour).await;
    tour.every(
        |version| limit("client-id", "consumer_byte_rate", 1e6 + f64::from(version)),
        |version, answer| {
            let [told] = &answer.entries[..] else { panic!("{answer:?}") };
            assert_eq!((told.error_code, &told.error_message), (0, &None), "version {version}");
            assert_eq!(told.entity[0].entity_name, Some(text("somebody")));
        },
    )
    .await;
    tour.every(
        |_| limits_of("client-id"),
        |version, answer| {
            assert_eq!((answer.error_code, &answer.error_message), (0, &None), "version {version}");
            let entries = answer.entries.unwrap();
            let [told] = &entries[..] else { panic!("{entries:?}") };
            assert_eq!(told.entity[0].entity_name, Some(text("somebody")));
            assert_eq!(told.values[0].key.as_str(), "consumer_byte_rate");
            assert_eq!(told.values[0].value, 1e6 + 1.0, "what the newest version set");
        },
    )
    .await;
    tour.every(
        |version| update("metadata.version", 25, version),
        |version, answer| {
            assert_eq!((answer.error_code, answer.error_message), (0, None), "version {version}");
            assert_eq!(answer.results.len(), usize::from(version < 2), "version {version}");
        },
    )
    .await;
}

/// By the subscription that is set by now.
async fn push_plainly(tour: &mut Tour) {
    tour.every(
        |_| GetTelemetrySubscriptionsRequest::default(),
        |_, answer| {
            assert_eq!((answer.error_code, answer.push_interval_ms), (0, 5000));
            assert!(answer.client_instance_id != Uuid::ZERO);
        },
    )
    .await;
    tour.every(
        |_| message!(PushTelemetryRequest { client_instance_id: Uuid::from_bytes([7; 16]) }),
        |_, answer| {
            // The subscription of such a client is not number 0.
            assert_eq!(answer.error_code, ErrorCode::UnknownSubscriptionId.code());
        },
    )
    .await;
}

pub(super) async fn ask_for_nothing(tour: &mut Tour) {
    tour.every(
        |_| AlterConfigsRequest::default(),
        |_, answer| assert!(answer.responses.is_empty()),
    )
    .await;
    tour.every(
        |_| ListConfigResourcesRequest::default(),
        |_, answer| assert_eq!(answer.error_code, 0),
    )
    .await;
    tour.every(
        |_| GetTelemetrySubscriptionsRequest::default(),
        |_, answer| assert_eq!((answer.error_code, answer.push_interval_ms), (0, 300_000)),
    )
    .await;
    tour.every(
        |_| PushTelemetryRequest::default(),
        |_, answer| assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code()),
    )
    .await;
    tour.every(
        |_| AlterClientQuotasRequest::default(),
        |_, answer| assert!(answer.entries.is_empty()),
    )
    .await;
    tour.every(
        |_| DescribeClientQuotasRequest::default(),
        |_, answer| assert_eq!((answer.error_code, answer.entries), (0, Some(Vec::new()))),
    )
    .await;
    tour.every(|_| UpdateFeaturesRequest::default(), |_, answer| assert_eq!(answer.error_code, 0))
        .await;
}

pub(super) async fn ask_for_the_missing(tour: &mut Tour) {
    for (kind, name, expected) in [
        (2, "missing", ErrorCode::UnknownTopicOrPartition),
        (2, "", ErrorCode::InvalidRequest),
        (4, "7", ErrorCode::InvalidRequest),
        (4, "seven", ErrorCode::InvalidRequest),
        (8, "1", ErrorCode::InvalidRequest),
        (99, "1", ErrorCode::InvalidRequest),
    ] {
        tour.every(
            |_| replace(kind, name, "log.retention.ms", "1"),
            |version, answer| {
                let [told] = &answer.responses[..] else { panic!("{answer:?}") };
                // The topic of the first row would not have such a key, either.
                let expected = if name == "missing" { ErrorCode::InvalidConfig } else { expected };
                assert_eq!(told.error_code, expected.code(), "{kind} {name}, version {version}");
                assert!(told.error_message.as_ref().is_some_and(|words| !words.is_empty()));
            },
        )
        .await;
    }
    tour.every(
        |_| replace(2, "missing", "retention.ms", "1"),
        |_, answer| {
            let unknown = ErrorCode::UnknownTopicOrPartition.code();
            assert_eq!(answer.responses[0].error_code, unknown);
        },
    )
    .await;
    tour.every(
        |version| {
            let resource_types = if version > 0 { vec![99] } else { Vec::new() };
            message!(ListConfigResourcesRequest { resource_types: resource_types })
        },
        |version, answer| {
            let expected =
                if version > 0 { ErrorCode::UnsupportedVersion } else { ErrorCode::None };
            assert_eq!(answer.error_code, expected.code());
        },
    )
    .await;
    tour.every(
        |_| limit("host", "consumer_byte_rate", 1.0),
        |_, answer| {
            let [told] = &answer.entries[..] else { panic!("{answer:?}") };
            assert_eq!(told.error_code, ErrorCode::InvalidRequest.code());
            assert!(told.error_message.as_ref().is_some_and(|words| words.contains("host")));
        },
    )
    .await;
    tour.every(
        |_| limits_of("host"),
        |_, answer| {
            assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.code());
            assert_eq!(answer.entries, None);
            assert!(answer.error_message.is_some_and(|words| words.contains("host")));
        },
    )
    .await;
    tour.every(
        |version| update("no.such.feature", 1, version),
        |_, answer| {
            assert_eq!(answer.error_code, ErrorCode::InvalidUpdateVersion.code());
            assert!(answer.error_message.is_some_and(|words| words.contains("no.such.feature")));
        },
    )
    .await;
}

fn replace(kind: i8, name: &str, key: &str, value: &str) -> AlterConfigsRequest {
    let config = message!(AlterableConfig { name: text(key), value: Some(text(value)) });
    let resource = message!(AlterConfigsResource {
        resource_type: kind,
        resource_name: text(name),
        configs: vec![config],
    });
    message!(AlterConfigsRequest { resources: vec![resource] })
}

fn update(feature: &str, level: i16, version: i16) -> UpdateFeaturesRequest {
    let update = message!(FeatureUpdateKey { feature: text(feature), max_version_level: level });
    message!(UpdateFeaturesRequest { feature_updates: vec![update], validate_only: version >= 1 })
}

fn limit(entity_type: &str, key: &str, value: f64) -> AlterClientQuotasRequest {
    let part = message!(EntityData {
        entity_type: text(entity_type),
        entity_name: Some(text("somebody"))
    });
    let entry = message!(EntryData {
        entity: vec![part],
        ops: vec![message!(OpData { key: text(key), value: value })],
    });
    message!(AlterClientQuotasRequest { entries: vec![entry] })
}

/// Of any entity of that type.
fn limits_of(entity_type: &str) -> DescribeClientQuotasRequest {
    let component =
        message!(ComponentData { entity_type: text(entity_type), match_type: 2, match_: None });
    message!(DescribeClientQuotasRequest { components: vec![component] })
}
