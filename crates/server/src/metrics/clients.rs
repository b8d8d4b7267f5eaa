//! What clients measure themselves, as they push it (KIP-714). In Kafka a plug-in has to be written for that.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Weak;

use ottla_protocol::format_uuid;
use ottla_telemetry::{BROKER_LABELS, ClientMeasured, Histogram, Series, Totals, Value};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Gauges;
use crate::broker::Broker;

/// What the encoder puts behind the name of a counter by itself.
const COUNTER_SUFFIX: &str = "_total";

/// The metrics of all clients, and what is to be known of their pushing.
#[derive(Debug)]
pub(super) struct ClientMetrics(pub(super) Weak<Broker>);

impl Collector for ClientMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(broker) = self.0.upgrade() else { return Ok(()) };
        let looked = broker.telemetry().look(|instances| {
            let counts = (instances.len(), instances.kept_bytes());
            (counts, instances.totals().clone(), instances.measured())
        });
        let ((instances, bytes), totals, clients) = looked;
        let series = clients.iter().map(|client| client.measured.len()).sum();
        let mut out = Gauges(&mut encoder);
        let help = "Clients that ask what to measure, and push it";
        out.one("kafka_server_client_metrics_instance_count", help, instances)?;
        out.one("ottla_client_telemetry_series", "Series that clients have pushed", series)?;
        let help = "Bytes that these take (telemetry.max.kept.bytes)";
        out.one("ottla_client_telemetry_bytes", help, bytes)?;
        pushes(&mut encoder, &totals)?;
        let labels: Vec<BrokerLabels> = clients.iter().map(BrokerLabels::of).collect();
        let mut families: BTreeMap<&str, Vec<(&BrokerLabels, Series<'_>)>> = BTreeMap::new();
        for (client, labels) in clients.iter().zip(&labels) {
            for series in client.measured.series() {
                families.entry(series.name).or_default().push((labels, series));
            }
        }
        for (name, rows) in &families {
            let kind = kind_of(name, rows, |other| families.contains_key(other));
            family(&mut encoder, name, kind, rows)?;
        }
        Ok(())
    }
}

fn pushes(encoder: &mut DescriptorEncoder<'_>, totals: &Totals) -> Result<(), fmt::Error> {
    let (name, help) = ("ottla_client_telemetry_pushes", "Pushes by how they were answered");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (error, count) in &totals.pushes {
        let labels = [("error", error.name())];
        ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
    }
    let help = "Series that found no room (telemetry.max.kept.bytes, telemetry.max.bytes)";
    let name = "ottla_client_telemetry_refused_series";
    let counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(totals.refused_series).encode(counter)
}

/// What the broker knows of a client.
struct BrokerLabels([(&'static str, String); 4]);

impl BrokerLabels {
    fn of(client: &ClientMeasured) -> Self {
        let [client_id, instance, software_name, software_version, ..] = BROKER_LABELS;
        let who = &client.client;
        Self([
            (client_id, who.client_id.clone()),
            (instance, format_uuid(client.instance)),
            (software_name, who.software_name.clone()),
            (software_version, who.software_version.clone()),
        ])
    }
}

/// How a family is told: what its series agree on. Where they do not, the values are told without a type.
fn kind_of(
    name: &str,
    rows: &[(&BrokerLabels, Series<'_>)],
    is_taken: impl Fn(&str) -> bool,
) -> MetricType {
    let of = |value: &Value| match value {
        Value::Gauge(_) | Value::Sum { monotonic: false, .. } => MetricType::Gauge,
        Value::Sum { monotonic: true, .. } => MetricType::Counter,
        Value::Histogram(_) => MetricType::Histogram,
    };
    let mut kinds = rows.iter().map(|(_, series)| of(series.value));
    let first = kinds.next().unwrap_or(MetricType::Unknown);
    let is = |kind: MetricType| kind.as_str() == first.as_str();
    let stem_is_taken = name.strip_suffix(COUNTER_SUFFIX).is_some_and(is_taken);
    if !kinds.all(is) || is(MetricType::Counter) && stem_is_taken {
        return MetricType::Unknown;
    }
    first
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    kind: MetricType,
    rows: &[(&BrokerLabels, Series<'_>)],
) -> Result<(), fmt::Error> {
    let is_counter = matches!(kind, MetricType::Counter);
    let stem = name.strip_suffix(COUNTER_SUFFIX).filter(|_| is_counter).unwrap_or(name);
    let mut family = encoder.encode_descriptor(stem, "Measured by clients", None, kind)?;
    for (broker_labels, series) in rows {
        let known = broker_labels.0.iter().map(|(name, value)| (*name, value.as_str()));
        let own = series.labels.iter().map(|(name, value)| (&**name, &**value));
        let labels: Vec<(&str, &str)> = known.chain(own).collect();
        let row = family.encode_family(&labels)?;
        match series.value {
            Value::Sum { value, .. } if is_counter => ConstCounter::new(*value).encode(row)?,
            Value::Gauge(value) | Value::Sum { value, .. } => {
                ConstGauge::new(*value).encode(row)?
            }
            Value::Histogram(histogram) => ranges(row, histogram)?,
        }
    }
    Ok(())
}

fn ranges(mut row: MetricEncoder<'_>, histogram: &Histogram) -> Result<(), fmt::Error> {
    let ends = histogram.bounds.iter().copied().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = match histogram.buckets.is_empty() {
        true => vec![(f64::INFINITY, histogram.count)],
        false => ends.zip(histogram.buckets.iter().copied()).collect(),
    };
    row.encode_histogram::<NoLabelSet>(histogram.sum, histogram.count, &buckets, None)
}
