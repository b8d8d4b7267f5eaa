//! What one client measures, as its pushes add up.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::Uuid;

use crate::client::Client;
use crate::names::{label_name, metric_name};
use crate::otlp::{KeyValue, MetricsData, Point, Reading};

/// A sum that so many pushes did not repeat is forgotten; a gauge is, as soon as one does not.
const KEPT_SUMS: u64 = 3;
/// What a series takes in memory beside its texts and buckets, roughly.
const SERIES_OVERHEAD: usize = 160;
/// What a label takes beside its texts.
const LABEL_OVERHEAD: usize = 32;

/// A client, and what it measures.
#[derive(Clone, Debug)]
pub struct ClientMeasured {
    /// The id of the client instance.
    pub instance: Uuid,
    /// Who it is.
    pub client: Arc<Client>,
    /// What it has pushed.
    pub measured: Arc<Measured>,
}

/// The newest value of every series of one client.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pushes: u64,
    series: BTreeMap<SeriesKey, Kept>,
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SeriesKey {
    name: Box<str>,
    labels: Box<[(Box<str>, Box<str>)]>,
}

#[derive(Clone, Debug)]
struct Kept {
    value: Value,
    /// The push that brought it.
    pushed: u64,
}

/// One series: names are such as Prometheus takes.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// The name of the metric.
    pub name: &'a str,
    /// What the client labels it with, sorted by name; never one of [`BROKER_LABELS`](crate::BROKER_LABELS).
    pub labels: &'a [(Box<str>, Box<str>)],
    /// Its value.
    pub value: &'a Value,
}

/// A value, with all deltas added up.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// How it is now.
    Gauge(f64),
    /// How much there has been.
    Sum {
        /// The sum.
        value: f64,
        /// Whether it never falls: a counter.
        monotonic: bool,
    },
    /// How values are distributed.
    Histogram(Histogram),
}

/// How many values there were in which range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// How many values.
    pub count: u64,
    /// What they sum up to.
    pub sum: f64,
    /// Upper ends of the ranges, ascending, but for that of the last, which has none. Empty if the client told of none.
    pub bounds: Box<[f64]>,
    /// Values in each range, one more than there are `bounds`; empty if the client told of none.
    pub buckets: Box<[u64]>,
}

impl Measured {
    /// Adds a push, as far as no more than `budget` bytes are kept. Answers how many series found no room.
    pub fn record(&mut self, push: &MetricsData, budget: usize) -> usize {
        self.pushes += 1;
        let mut refused = 0;
        push.visit(|point| {
            let Some(name) = metric_name(point.name) else { return };
            let key = SeriesKey { name: name.into(), labels: labels(&point) };
            refused += usize::from(!self.put(key, &point.reading, budget));
        });
        self.forget_unrepeated();
        refused
    }

    /// Every series, by name, then by labels.
    pub fn series(&self) -> impl Iterator<Item = Series<'_>> {
        self.series.iter().map(|(key, kept)| Series {
            name: &key.name,
            labels: &key.labels,
            value: &kept.value,
        })
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether nothing is measured.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Bytes that all this takes, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn put(&mut self, key: SeriesKey, reading: &Reading<'_>, budget: usize) -> bool {
        let before = self.series.remove(&key).map(|kept| kept.value);
        self.bytes -= before.as_ref().map_or(0, |value| cost(&key, value));
        let value = Value::after(before, reading);
        let cost = cost(&key, &value);
        if self.bytes + cost > budget {
            return false;
        }
        self.bytes += cost;
        self.series.insert(key, Kept { value, pushed: self.pushes });
        true
    }

    fn forget_unrepeated(&mut self) {
        let (pushes, mut freed) = (self.pushes, 0);
        self.series.retain(|key, kept| {
            let allowed = if matches!(kept.value, Value::Gauge(_)) { 1 } else { KEPT_SUMS };
            let stays = pushes - kept.pushed < allowed;
            if !stays {
                freed += cost(key, &kept.value);
            }
            stays
        });
        self.bytes -= freed;
    }
}

/// A point's labels over those of its resource.
fn labels(point: &Point<'_>) -> Box<[(Box<str>, Box<str>)]> {
    let label =
        |attribute: &KeyValue| Some((label_name(&attribute.key)?.into(), attribute.text()?.into()));
    let all = point.resource.iter().chain(point.attributes).filter_map(label);
    let labels: BTreeMap<Box<str>, Box<str>> = all.collect();
    labels.into_iter().collect()
}

fn cost(key: &SeriesKey, value: &Value) -> usize {
    let labels = key.labels.iter().map(|(name, value)| LABEL_OVERHEAD + name.len() + value.len());
    let buckets = match value {
        Value::Gauge(_) | Value::Sum { .. } => 0,
        Value::Histogram(histogram) => (histogram.bounds.len() + histogram.buckets.len()) * 8,
    };
    SERIES_OVERHEAD + key.name.len() + labels.sum::<usize>() + buckets
}

impl Value {
    /// What a reading makes of the value that was there.
    fn after(before: Option<Self>, reading: &Reading<'_>) -> Self {
        match *reading {
            Reading::Gauge(value) => Self::Gauge(value),
            Reading::Sum { value, monotonic, delta } => {
                let base = match before {
                    Some(Self::Sum { value, monotonic: was }) if delta && was == monotonic => value,
                    Some(Self::Gauge(_) | Self::Sum { .. } | Self::Histogram(_)) | None => 0.0,
                };
                Self::Sum { value: base + value, monotonic }
            }
            Reading::Histogram { count, sum, bounds, buckets, delta } => {
                let new = Histogram { count, sum, bounds: bounds.into(), buckets: buckets.into() };
                Self::Histogram(match before {
                    Some(Self::Histogram(mut all)) if delta && all.bounds == new.bounds => {
                        all.add(&new);
                        all
                    }
                    Some(Self::Gauge(_) | Self::Sum { .. } | Self::Histogram(_)) | None => new,
                })
            }
        }
    }
}

impl Histogram {
    fn add(&mut self, more: &Self) {
        self.count = self.count.saturating_add(more.count);
        self.sum += more.sum;
        for (bucket, more) in self.buckets.iter_mut().zip(&more.buckets) {
            *bucket = bucket.saturating_add(*more);
        }
    }
}
