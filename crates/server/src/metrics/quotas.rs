//! What is measured of clients that quotas hold, by the names of Kafka's `kafka.server:type=Produce,user=…,client-id=…`, and of
//! throttled replicas: `kafka.server:type=LeaderReplication` and `FollowerReplication` (KIP-73).

use std::fmt;
use std::sync::Weak;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::broker::Broker;
use crate::quotas::EntityMetrics;

/// The rates of who is held by a quota, and who has to be silent; the rates of replication.
#[derive(Debug)]
pub(super) struct QuotaMetrics(pub(super) Weak<Broker>);

impl Collector for QuotaMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(broker) = self.0.upgrade() else { return Ok(()) };
        for (kind, entities) in broker.quotas().metrics(broker.env().clock.now()) {
            if entities.is_empty() {
                continue;
            }
            let (rate, help) = match kind {
                "Request" => ("request_time", "Per cent of a processor that requests took"),
                _ => ("byte_rate", "Bytes per second"),
            };
            let name = format!("kafka_server_{kind}_{rate}");
            per_entity(&mut encoder, (&name, help), &entities, |entity| entity.per_second)?;
            let name = format!("kafka_server_{kind}_throttle_time");
            let help = "Milliseconds for which the client is told to be silent";
            per_entity(&mut encoder, (&name, help), &entities, |entity| {
                f64::from(entity.throttle_millis)
            })?;
        }
        let quotas = broker.replicas().quotas();
        let now = broker.env().clock.now();
        for (kind, quota) in [("Leader", &quotas.leader), ("Follower", &quotas.follower)] {
            let name = format!("kafka_server_{kind}Replication_byte_rate");
            let help = "Bytes per second of replicas that are throttled";
            let gauge = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            ConstGauge::new(quota.per_second(now)).encode(gauge)?;
        }
        Ok(())
    }
}

fn per_entity(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    entities: &[EntityMetrics],
    value: impl Fn(&EntityMetrics) -> f64,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for entity in entities {
        let labels = [("user", entity.user.as_str()), ("client_id", entity.client_id.as_str())];
        ConstGauge::new(value(entity)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
