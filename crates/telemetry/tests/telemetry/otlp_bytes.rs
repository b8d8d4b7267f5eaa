//! OTLP as a client writes it, field by field.

/// A metric with one point.
pub(crate) struct Metric<'a> {
    pub(crate) name: &'a str,
    pub(crate) attributes: Vec<(&'a str, &'a str)>,
    pub(crate) data: Data,
}

pub(crate) enum Data {
    Gauge(f64),
    /// Whether it is monotonic, and whether it is a delta.
    Sum(f64, bool, bool),
    /// Sum, bounds and counts, and whether it is a delta.
    Histogram(f64, Vec<f64>, Vec<u64>, bool),
}

/// `MetricsData` of one resource and one scope.
pub(crate) fn metrics_data(resource: &[(&str, &str)], metrics: &[Metric<'_>]) -> Vec<u8> {
    let metrics: Vec<u8> = metrics.iter().flat_map(|metric| bytes(2, &metric.encode())).collect();
    let of_resource = [bytes(1, &attributes(1, resource)), bytes(2, &metrics)].concat();
    bytes(1, &of_resource)
}

impl Metric<'_> {
    fn encode(&self) -> Vec<u8> {
        let temporality = |delta: bool| varint(2, if delta { 1 } else { 2 });
        let data = match &self.data {
            Data::Gauge(value) => {
                let point = [double(4, *value), attributes(7, &self.attributes)].concat();
                bytes(5, &bytes(1, &point))
            }
            Data::Sum(value, monotonic, delta) => {
                let point = [double(4, *value), attributes(7, &self.attributes)].concat();
                let monotonic = varint(3, u64::from(*monotonic));
                bytes(7, &[bytes(1, &point), temporality(*delta), monotonic].concat())
            }
            Data::Histogram(sum, bounds, counts, delta) => {
                let bounds: Vec<u8> = bounds.iter().flat_map(|it| it.to_le_bytes()).collect();
                let buckets: Vec<u8> = counts.iter().flat_map(|it| it.to_le_bytes()).collect();
                let count = fixed(4, counts.iter().sum::<u64>().to_le_bytes());
                let ranges = [bytes(6, &buckets), bytes(7, &bounds)].concat();
                let labels = attributes(9, &self.attributes);
                let point = [count, double(5, *sum), ranges, labels].concat();
                bytes(9, &[bytes(1, &point), temporality(*delta)].concat())
            }
        };
        [bytes(1, self.name.as_bytes()), data].concat()
    }
}

fn attributes(field: u64, pairs: &[(&str, &str)]) -> Vec<u8> {
    let pair = |(key, value): &(&str, &str)| {
        let value = bytes(2, &bytes(1, value.as_bytes()));
        bytes(field, &[bytes(1, key.as_bytes()), value].concat())
    };
    pairs.iter().flat_map(pair).collect()
}

/// A field of a length and so many bytes.
pub(crate) fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    [number(field << 3 | 2), number(content.len() as u64), content.to_vec()].concat()
}

fn varint(field: u64, value: u64) -> Vec<u8> {
    [number(field << 3), number(value)].concat()
}

fn double(field: u64, value: f64) -> Vec<u8> {
    fixed(field, value.to_le_bytes())
}

fn fixed(field: u64, bytes: [u8; 8]) -> Vec<u8> {
    [number(field << 3 | 1), bytes.to_vec()].concat()
}

fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
