//! OpenTelemetry's metrics on the wire: the part of `opentelemetry/proto/metrics/v1/metrics.proto` that can be shown.
//! Fields that are not described here (times, exemplars, scopes) are skipped.

use ottla_protocol::compression::{Compression, DecompressError, Decompressor};
use prost::{Message, Oneof};

use crate::TelemetryError;

/// Flag of a point that holds no value.
const NO_RECORDED_VALUE: u32 = 1;
/// `AGGREGATION_TEMPORALITY_DELTA`.
const DELTA: i32 = 1;

/// One push, decoded.
#[derive(Clone, PartialEq, Message)]
pub struct MetricsData {
    #[prost(message, repeated, tag = "1")]
    resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeMetrics {
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(oneof = "Data", tags = "5, 7, 9, 10, 11")]
    data: Option<Data>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Data {
    #[prost(message, tag = "5")]
    Gauge(Gauge),
    #[prost(message, tag = "7")]
    Sum(Sum),
    #[prost(message, tag = "9")]
    Histogram(Histogram),
    #[prost(message, tag = "10")]
    ExponentialHistogram(ExponentialHistogram),
    #[prost(message, tag = "11")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
struct Gauge {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<NumberDataPoint>,
}

#[derive(Clone, PartialEq, Message)]
struct Sum {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<NumberDataPoint>,
    #[prost(int32, tag = "2")]
    aggregation_temporality: i32,
    #[prost(bool, tag = "3")]
    is_monotonic: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<HistogramDataPoint>,
    #[prost(int32, tag = "2")]
    aggregation_temporality: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ExponentialHistogram {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<ExponentialHistogramDataPoint>,
    #[prost(int32, tag = "2")]
    aggregation_temporality: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<SummaryDataPoint>,
}

#[derive(Clone, PartialEq, Message)]
struct NumberDataPoint {
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
    #[prost(oneof = "Number", tags = "4, 6")]
    value: Option<Number>,
    #[prost(uint32, tag = "8")]
    flags: u32,
}

#[derive(Clone, PartialEq, Oneof)]
enum Number {
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(sfixed64, tag = "6")]
    Int(i64),
}

#[derive(Clone, PartialEq, Message)]
struct HistogramDataPoint {
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "4")]
    count: u64,
    #[prost(double, optional, tag = "5")]
    sum: Option<f64>,
    #[prost(fixed64, repeated, tag = "6")]
    bucket_counts: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    explicit_bounds: Vec<f64>,
    #[prost(uint32, tag = "10")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ExponentialHistogramDataPoint {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "4")]
    count: u64,
    #[prost(double, optional, tag = "5")]
    sum: Option<f64>,
    #[prost(uint32, tag = "10")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryDataPoint {
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "4")]
    count: u64,
    #[prost(double, tag = "5")]
    sum: f64,
    #[prost(uint32, tag = "8")]
    flags: u32,
}

/// What a point, or all of a resource, is labelled with.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Scalar", tags = "1, 2, 3, 4")]
    value: Option<Scalar>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Scalar {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
}

impl KeyValue {
    /// Its value, if that is one that a label can hold.
    pub(crate) fn text(&self) -> Option<String> {
        Some(match self.value.as_ref()?.value.as_ref()? {
            Scalar::String(text) => text.clone(),
            Scalar::Bool(value) => value.to_string(),
            Scalar::Int(value) => value.to_string(),
            Scalar::Double(value) => value.to_string(),
        })
    }
}

/// One value of a push.
pub(crate) struct Point<'a> {
    pub(crate) name: &'a str,
    pub(crate) resource: &'a [KeyValue],
    pub(crate) attributes: &'a [KeyValue],
    pub(crate) reading: Reading<'a>,
}

/// What a point says.
pub(crate) enum Reading<'a> {
    /// How it is now.
    Gauge(f64),
    /// How much there has been, in all or since the last push (`delta`).
    Sum { value: f64, monotonic: bool, delta: bool },
    /// How many values there have been in which range, and what they sum up to, in all or since the last push (`delta`).
    Histogram { count: u64, sum: f64, bounds: &'a [f64], buckets: &'a [u64], delta: bool },
}

impl MetricsData {
    /// Calls `visit` with every point that holds a value.
    pub(crate) fn visit(&self, mut visit: impl FnMut(Point<'_>)) {
        for of_resource in &self.resource_metrics {
            let resource = of_resource.resource.as_ref().map_or(&[][..], |it| &it.attributes);
            for metric in of_resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                let Some(data) = &metric.data else { continue };
                data.visit(&mut |attributes, reading| {
                    visit(Point { name: &metric.name, resource, attributes, reading });
                });
            }
        }
    }
}

impl Data {
    fn visit<'a>(&'a self, visit: &mut dyn FnMut(&'a [KeyValue], Reading<'a>)) {
        match self {
            Self::Gauge(gauge) => {
                for point in &gauge.data_points {
                    let Some(value) = point.number() else { continue };
                    visit(&point.attributes, Reading::Gauge(value));
                }
            }
            Self::Sum(sum) => {
                let delta = sum.aggregation_temporality == DELTA;
                for point in &sum.data_points {
                    let Some(value) = point.number() else { continue };
                    let reading = Reading::Sum { value, monotonic: sum.is_monotonic, delta };
                    visit(&point.attributes, reading);
                }
            }
            Self::Histogram(histogram) => {
                let delta = histogram.aggregation_temporality == DELTA;
                for point in histogram.data_points.iter().filter(|it| has_value(it.flags)) {
                    let (bounds, buckets) = point.ranges();
                    let (count, sum) = (point.count, point.sum.unwrap_or(0.0));
                    let reading = Reading::Histogram { count, sum, bounds, buckets, delta };
                    visit(&point.attributes, reading);
                }
            }
            // Of these two, count and sum are what Prometheus's text can tell.
            Self::ExponentialHistogram(histogram) => {
                let delta = histogram.aggregation_temporality == DELTA;
                for point in histogram.data_points.iter().filter(|it| has_value(it.flags)) {
                    let sum = point.sum.unwrap_or(0.0);
                    visit(&point.attributes, without_ranges(point.count, sum, delta));
                }
            }
            Self::Summary(summary) => {
                for point in summary.data_points.iter().filter(|it| has_value(it.flags)) {
                    visit(&point.attributes, without_ranges(point.count, point.sum, false));
                }
            }
        }
    }
}

fn without_ranges(count: u64, sum: f64, delta: bool) -> Reading<'static> {
    Reading::Histogram { count, sum, bounds: &[], buckets: &[], delta }
}

fn has_value(flags: u32) -> bool {
    flags & NO_RECORDED_VALUE == 0
}

impl NumberDataPoint {
    fn number(&self) -> Option<f64> {
        let number = self.value.as_ref().filter(|_| has_value(self.flags))?;
        Some(match number {
            Number::Double(value) => *value,
            Number::Int(value) => *value as f64,
        })
    }
}

impl HistogramDataPoint {
    /// Bounds and counts of the ranges; none where they contradict each other.
    fn ranges(&self) -> (&[f64], &[u64]) {
        let (bounds, buckets) = (&self.explicit_bounds, &self.bucket_counts);
        let ascending = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        match ascending && buckets.len() == bounds.len() + 1 {
            true => (bounds, buckets),
            false => (&[], &[]),
        }
    }
}

/// Decodes what was pushed: at most `max` bytes, as they were sent and decompressed.
pub fn decode_push(
    compression: Compression,
    metrics: &[u8],
    max: usize,
) -> Result<MetricsData, TelemetryError> {
    if metrics.len() > max {
        return Err(TelemetryError::TooLarge { max });
    }
    let mut decompressor = Decompressor::new();
    let plain =
        decompressor.decompress(compression, metrics, max).map_err(|error| match error {
            DecompressError::TooLarge { .. } => TelemetryError::TooLarge { max },
            error @ DecompressError::Corrupt(_) => TelemetryError::Malformed(error.to_string()),
        })?;
    MetricsData::decode(&*plain).map_err(|error| TelemetryError::Malformed(error.to_string()))
}
