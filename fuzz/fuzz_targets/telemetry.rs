//! Whatever a client pushes as its metrics: it is read or refused, and what is kept stays within its
//! bound and is such as Prometheus takes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_protocol::compression::Compression;
use ottla_telemetry::{BROKER_LABELS, Measured, decode_push};

/// Most bytes that a push may have, and that are kept.
const LIMIT: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let Some((&codec, pushed)) = bytes.split_first() else { return };
    let Some(codec) = Compression::from_id(codec & 7) else { return };
    let Ok(push) = decode_push(codec, pushed, LIMIT) else { return };
    let mut measured = Measured::default();
    // What adds up, adds up.
    for _ in 0..3 {
        measured.record(&push, LIMIT);
        assert!(measured.bytes() <= LIMIT);
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    for series in measured.series() {
        assert!(series.name.chars().all(valid) && !series.name.is_empty());
        let names = || series.labels.iter().map(|(name, _)| &**name);
        assert!(names().all(|name| name.chars().all(valid) && !BROKER_LABELS.contains(&name)));
        assert!(names().is_sorted_by(|one, other| one < other));
    }
});
