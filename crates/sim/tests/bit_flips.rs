//! Bits that flip in files at rest: what may flip without anybody noticing, and what may not.
#![allow(clippy::unwrap_used, reason = "tests")]

use ottla_sim::log_model::{History, NewBatch, NewValue, Settings, Step, flip_each};

fn history() -> History {
    let settings = Settings {
        segment_bytes: 900,
        index_interval_bytes: 100,
        retention_bytes: None,
        compact: false,
        log_append_time: false,
        share_syncs: true,
        checkpoint_bytes: 1,
    };
    let batch = |keys: std::ops::Range<u8>| NewBatch {
        values: keys.map(|key| NewValue { key, len: Some(50), age: key }).collect(),
        codec: 0,
    };
    let mut steps = Vec::new();
    for round in 0..3 {
        steps.extend([
            // No two batches have the same largest time.
            Step::Idempotent(0, batch(1..4)),
            Step::Transactional(0, batch(4..6)),
            Step::Append(batch(6..9)),
            Step::EndTransaction(0, round != 1),
            Step::Housekeeping(5),
        ]);
    }
    History { seed: 3, settings, steps }
}

/// What was written says nothing about what the producers may do next; this does.
const AFTER: [Step; 4] =
    [Step::Again(0, 0), Step::Again(0, 2), Step::EndTransaction(0, true), Step::Restart];

fn flip_many(extension: &str) {
    let flips: u64 = (0..400)
        .map(|n| {
            flip_each(&history(), &AFTER, extension, n * 7)
                .map_err(|error| format!("{error:#}"))
                .unwrap()
        })
        .sum();
    assert!(flips >= 400, "{flips}");
}

#[test]
fn an_offset_index_is_a_hint() {
    flip_many(".index");
}

#[test]
fn a_time_index_is_a_hint() {
    flip_many(".timeindex");
}

#[test]
fn a_snapshot_is_not_believed() {
    flip_many(".snapshot");
}
