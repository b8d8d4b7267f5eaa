//! Whatever is pushed, it is read or refused, and what is kept of it is bounded.

use ottla_protocol::compression::{Compression, Compressor};
use ottla_telemetry::{BROKER_LABELS, Measured, TelemetryError, decode_push};
use proptest::prelude::*;

use crate::otlp_bytes::{Data, Metric, bytes, metrics_data};

const LIMIT: usize = 1 << 16;

fn record(measured: &mut Measured, pushed: &[u8], budget: usize) {
    let Ok(decoded) = decode_push(Compression::None, pushed, LIMIT) else { return };
    measured.record(&decoded, budget);
    assert!(measured.bytes() <= budget);
    let prometheus = |name: &str| {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        name.chars().all(valid) && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    for series in measured.series() {
        assert!(prometheus(series.name) && !series.name.starts_with("ottla_"), "{series:?}");
        let names = || series.labels.iter().map(|(name, _)| &**name);
        assert!(names().all(|name| prometheus(name) && !BROKER_LABELS.contains(&name)));
        assert!(names().is_sorted_by(|one, other| one < other), "each label once");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(pushed in proptest::collection::vec(any::<u8>(), 0..300)) {
        for codec in Compression::ALL {
            let _either = decode_push(codec, &pushed, LIMIT);
        }
        record(&mut Measured::default(), &pushed, 1000);
    }

    #[test]
    fn a_damaged_push_is_read_or_refused(
        metrics in proptest::collection::vec(("[a-z.{}=]{0,9}", "\\PC{0,9}", any::<f64>(), 0..4u8), 0..20),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        budget in 0..3000usize,
    ) {
        let mut measured = Measured::default();
        let metrics: Vec<Metric<'_>> = metrics.iter().map(|(name, label, value, kind)| Metric {
            name,
            attributes: vec![(label.as_str(), label.as_str()), (name.as_str(), "")],
            data: match kind {
                0 => Data::Gauge(*value),
                1 => Data::Sum(*value, true, true),
                2 => Data::Sum(*value, false, false),
                _ => Data::Histogram(*value, vec![1.0, *value], vec![1, u64::MAX / 2, 3], true),
            },
        }).collect();
        let mut pushed = metrics_data(&[("client_id", "mine"), ("le", "1")], &metrics);
        record(&mut measured, &pushed, budget);
        record(&mut measured, &pushed, budget);
        for (index, byte) in damage {
            if !pushed.is_empty() {
                let at = index.index(pushed.len());
                pushed[at] = byte;
            }
        }
        record(&mut measured, &pushed, budget);
    }
}

#[test]
fn what_is_larger_decompressed_than_allowed_is_refused() {
    let plain = vec![0; LIMIT + 1];
    for codec in Compression::ALL {
        let mut pushed = Vec::new();
        Compressor::new(codec, None).compress(&plain, &mut pushed).unwrap();
        let refused = decode_push(codec, &pushed, LIMIT).unwrap_err();
        assert_eq!(refused, TelemetryError::TooLarge { max: LIMIT }, "{codec}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    // A value within a value within …, as deep as the limit lets it be: none of it is on the stack.
    let mut value = Vec::new();
    while value.len() < LIMIT / 2 {
        value = bytes(5, &bytes(1, &value));
    }
    let resource = bytes(1, &bytes(1, &bytes(2, &value)));
    record(&mut Measured::default(), &bytes(1, &resource), 1000);
}
