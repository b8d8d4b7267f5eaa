//! Clients push what they measure, and it is seen where the node's own metrics are.

use ottla_protocol::compression::{Compression, Compressor};
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::{
    ApiVersionsRequest, GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
    IncrementalAlterConfigsRequest, PushTelemetryRequest,
};
use ottla_protocol::{ErrorCode, Uuid, format_uuid, message};

use crate::client::Client;
use crate::disks::get;
use crate::node::{Node, in_time};
use crate::otlp_bytes::{Data, Metric, metrics_data};
use crate::requests::text;

const LISTENER: &str = "metrics.listener=127.0.0.1:0\n";

/// Sets a key of the subscription `everything`, or deletes it.
async fn subscribe(node: &Node, key: &str, value: Option<&str>) {
    let config = message!(AlterableConfig {
        name: text(key),
        config_operation: if value.is_some() { 0 } else { 1 },
        value: value.map(text),
    });
    let resource = message!(AlterConfigsResource {
        resource_type: 16,
        resource_name: text("everything"),
        configs: vec![config],
    });
    let request = message!(IncrementalAlterConfigsRequest { resources: vec![resource] });
    let answer = Client::connect(node).await.call(1, &request).await.responses.remove(0);
    assert_eq!((answer.error_code, answer.error_message), (0, None));
}

/// A client that has named its software.
async fn named(node: &Node, client_id: &str) -> Client {
    let mut client = Client::connect_as(node, client_id).await;
    let software = message!(ApiVersionsRequest {
        client_software_name: text("api-test"),
        client_software_version: text("1.0"),
    });
    assert_eq!(client.call(4, &software).await.error_code, 0);
    client
}

async fn ask(client: &mut Client, id: Uuid) -> GetTelemetrySubscriptionsResponse {
    client.call(0, &message!(GetTelemetrySubscriptionsRequest { client_instance_id: id })).await
}

async fn push(
    client: &mut Client,
    told: &GetTelemetrySubscriptionsResponse,
    codec: Compression,
    metrics: &[u8],
) -> ErrorCode {
    let mut compressed = Vec::new();
    Compressor::new(codec, None).compress(metrics, &mut compressed).unwrap();
    let request = message!(PushTelemetryRequest {
        client_instance_id: told.client_instance_id,
        subscription_id: told.subscription_id,
        compression_type: codec.id().cast_signed(),
        metrics: compressed.into(),
    });
    ErrorCode::from_wire(client.call(0, &request).await.error_code)
}

fn sent(total: f64) -> Vec<u8> {
    let counter = Metric {
        name: "org.apache.kafka.producer.record.send.total",
        attributes: vec![("topic", "orders")],
        data: Data::Sum(total, true, true),
    };
    let ranges = Data::Histogram(4.5, vec![1.0, 2.0], vec![1, 0, 2], true);
    let latency = Metric { name: "latency", attributes: Vec::new(), data: ranges };
    metrics_data(&[("client.rack", "a")], &[counter, latency])
}

async fn page(node: &Node) -> String {
    get(node, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await
}

#[tokio::test]
async fn what_clients_push_is_told_until_they_are_gone() {
    let node = Node::start_with(LISTENER).await;
    subscribe(&node, "metrics", Some("org.apache.kafka.,latency")).await;
    subscribe(&node, "interval.ms", Some("100")).await;
    let mut client = named(&node, "shop \"1\"").await;
    let told = ask(&mut client, Uuid::ZERO).await;
    assert_eq!((told.error_code, told.push_interval_ms, told.delta_temporality), (0, 100, true));
    assert_eq!(told.requested_metrics, [text("latency"), text("org.apache.kafka.")]);
    assert_eq!(told.accepted_compression_types, [4, 3, 1, 2]);
    assert_eq!(told.telemetry_max_bytes, 1_048_576);
    let mut accepted = 0;
    for codec in Compression::ALL {
        let done = async {
            loop {
                let answer = push(&mut client, &told, codec, &sent(5.0)).await;
                if answer == ErrorCode::None {
                    break;
                }
                assert_eq!(answer, ErrorCode::ThrottlingQuotaExceeded);
            }
        };
        in_time("the interval", done).await;
        accepted += 1;
    }
    let page_then = page(&node).await;
    let labels = format!(
        "client_id=\"shop \\\"1\\\"\",client_instance_id=\"{}\",client_software_name=\"api-test\",\
         client_software_version=\"1.0\",client_rack=\"a\"",
        format_uuid(told.client_instance_id)
    );
    let total = 5 * accepted;
    for line in [
        "# TYPE org_apache_kafka_producer_record_send counter".to_owned(),
        format!(
            "org_apache_kafka_producer_record_send_total{{{labels},topic=\"orders\"}} {total}.0"
        ),
        format!("latency_bucket{{le=\"2.0\",{labels}}} {accepted}"),
        format!("latency_bucket{{le=\"+Inf\",{labels}}} {}", 3 * accepted),
        format!("latency_count{{{labels}}} {}", 3 * accepted),
        "kafka_server_client_metrics_instance_count 1".to_owned(),
        format!("ottla_client_telemetry_pushes_total{{error=\"NONE\"}} {accepted}"),
    ] {
        assert!(page_then.lines().any(|told| told == line), "no {line} in {page_then}");
    }
    drop(client);
    let forgotten = async { while page(&node).await.contains("record_send") {} };
    in_time("the client to be forgotten", forgotten).await;
    assert!(page(&node).await.contains("kafka_server_client_metrics_instance_count 0"));
    node.stop().await;
}

#[tokio::test]
async fn a_push_that_cannot_be_taken_is_refused_by_kafkas_code() {
    let node = Node::start_with(&format!("{LISTENER}telemetry.max.bytes=1000\n")).await;
    subscribe(&node, "metrics", Some("*")).await;
    for (codec, metrics, expected) in [
        (Compression::Zstd, vec![0; 1001], ErrorCode::TelemetryTooLarge),
        (Compression::None, vec![0; 1001], ErrorCode::TelemetryTooLarge),
        (Compression::None, vec![0xff; 20], ErrorCode::InvalidRecord),
        (Compression::Gzip, sent(1.0), ErrorCode::None),
    ] {
        let mut client = named(&node, "shop").await;
        let told = ask(&mut client, Uuid::ZERO).await;
        assert_eq!(told.telemetry_max_bytes, 1000);
        assert_eq!(push(&mut client, &told, codec, &metrics).await, expected, "{codec}");
        let again = push(&mut client, &told, codec, &metrics).await;
        assert_eq!(again, ErrorCode::ThrottlingQuotaExceeded);
    }
    node.stop().await;
}

#[tokio::test]
async fn subscriptions_change_while_clients_push_and_survive_a_restart() {
    let node = Node::start().await;
    subscribe(&node, "metrics", Some("org.")).await;
    subscribe(&node, "match", Some("client_id=shop,client_source_address=127[.]0[.]0[.]1")).await;
    let node = node.crash_and_restart().await;
    let mut client = named(&node, "shop").await;
    let told = ask(&mut client, Uuid::ZERO).await;
    assert_eq!(told.requested_metrics, [text("org.")]);
    assert!(ask(&mut named(&node, "other").await, Uuid::ZERO).await.requested_metrics.is_empty());
    subscribe(&node, "metrics", Some("com.")).await;
    let stale = push(&mut client, &told, Compression::None, &sent(1.0)).await;
    assert_eq!(stale, ErrorCode::UnknownSubscriptionId);
    let told = ask(&mut client, told.client_instance_id).await;
    assert_eq!((told.error_code, &*told.requested_metrics), (0, &[text("com.")][..]));
    assert_eq!(push(&mut client, &told, Compression::None, &sent(1.0)).await, ErrorCode::None);
    subscribe(&node, "metrics", None).await;
    let told = ask(&mut client, told.client_instance_id).await;
    assert!(told.requested_metrics.is_empty());
    node.stop().await;
}
