//! Power lost at every change to the disk of histories that between them do all that a log does.
#![allow(clippy::unwrap_used, reason = "tests")]

use ottla_sim::log_model::{History, NewBatch, NewValue, Settings, Step, every_crash};

fn batch(keys: std::ops::Range<u8>) -> NewBatch {
    let value = |key| NewValue { key, len: Some(50), age: key };
    NewBatch { values: keys.map(value).collect(), codec: 0 }
}

/// Appends enough for a segment, and a bit of everything that leaves a file behind.
fn several_segments() -> Vec<Step> {
    let mut steps = vec![Step::Idempotent(0, batch(0..3)), Step::NewLeader];
    for round in 0..3 {
        steps.extend([
            Step::Transactional(0, batch(0..2)),
            Step::Append(batch(1..4)),
            Step::EndTransaction(0, round != 1),
            Step::Idempotent(0, batch(2..4)),
            Step::AppendMany(vec![batch(0..2), batch(4..6)]),
        ]);
    }
    steps
}

fn lose_power_everywhere(
    compact: bool,
    share_syncs: bool,
    checkpoint_bytes: u64,
    steps: Vec<Step>,
) {
    let settings = Settings {
        segment_bytes: 900,
        index_interval_bytes: 100,
        retention_bytes: (!compact).then_some(2500),
        compact,
        log_append_time: false,
        share_syncs,
        checkpoint_bytes,
    };
    let done = every_crash(&History { seed: 7, settings, steps });
    let done = done.map_err(|broken| format!("{broken:#}")).unwrap();
    assert!(done.crashes > 300 && done.twice > 100, "{done:?}");
}

#[test]
fn rolls_flushes_checkpoints_and_a_clean_stop() {
    for share_syncs in [false, true] {
        let mut steps = several_segments();
        steps.extend([Step::Flush, Step::Idempotent(0, batch(0..2)), Step::Housekeeping(1000)]);
        steps.extend([Step::Append(batch(0..2)), Step::FlushInGroup, Step::Restart]);
        lose_power_everywhere(false, share_syncs, 1, steps);
    }
}

#[test]
fn retention_delete_records_and_truncation() {
    let mut steps = several_segments();
    steps.extend([Step::Flush, Step::DeleteRecords(120), Step::Housekeeping(1000)]);
    steps.extend([Step::Append(batch(0..3)), Step::Truncate(200), Step::Append(batch(1..4))]);
    steps.extend([Step::Truncate(60), Step::Idempotent(1, batch(0..2)), Step::Housekeeping(600)]);
    lose_power_everywhere(false, true, 500, steps);
}

#[test]
fn compaction() {
    let mut steps = several_segments();
    steps.extend([Step::Clean, Step::Append(batch(0..4)), Step::Append(batch(0..4))]);
    steps.extend([Step::Housekeeping(1000), Step::Clean, Step::Idempotent(0, batch(0..2))]);
    lose_power_everywhere(true, true, 500, steps);
}

#[test]
fn a_topic_is_deleted_and_created_anew() {
    let mut steps = several_segments();
    steps.extend([Step::Flush, Step::Housekeeping(10), Step::Recreate, Step::Append(batch(0..3))]);
    steps.extend([Step::Flush, Step::Housekeeping(600), Step::Append(batch(0..2))]);
    lose_power_everywhere(false, false, 1, steps);
}
