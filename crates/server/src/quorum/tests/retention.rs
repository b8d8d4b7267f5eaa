//! What is kept of snapshots and of the log before them.

use std::path::Path;
use std::time::Duration;

use ottla_env::Env;

use super::{files, options, record, start, start_with, wait_until};
use crate::quorum::{MetadataQuorum, QuorumOptions};

/// The end offsets of the snapshots, oldest first.
fn snapshots(dir: &Path) -> Vec<i64> {
    let offset = |path: &Path| path.file_name()?.to_str()?.split_once('-')?.0.parse().ok();
    files(dir, ".checkpoint").iter().map(|path| offset(path).unwrap()).collect()
}

fn bytes(dir: &Path) -> u64 {
    let files = [files(dir, ".checkpoint"), files(dir, ".log")].concat();
    files.iter().map(|path| std::fs::metadata(path).unwrap().len()).sum()
}

async fn propose_and_snapshot(quorum: &MetadataQuorum, dir: &Path, text: &str) {
    quorum.propose(vec![record(text)]).await.unwrap();
    let end = quorum.describe().log_end_offset;
    let is_there = || snapshots(dir).last() == Some(&end);
    let clock = Env::os().clock;
    for _ in 0..400 {
        // Not heard while Raft has yet to learn that the one before is there: then it is asked for again.
        quorum.take_snapshot().await.unwrap();
        for _ in 0..5 {
            if is_there() {
                return;
            }
            clock.sleep(Duration::from_millis(2)).await;
        }
    }
    panic!("no snapshot that ends at {end}");
}

#[tokio::test]
async fn what_is_too_much_goes_and_the_rest_stays() {
    const LIMIT: u64 = 60_000;
    let dir = tempfile::tempdir().unwrap();
    let kept = QuorumOptions {
        max_bytes_between_snapshots: 10_000,
        max_retention_bytes: Some(LIMIT),
        segment_bytes: 4_000,
        ..options(dir.path())
    };
    let (quorum, _) = start_with(kept.clone()).await;
    let text = |number| format!("{number}{}", "x".repeat(500));
    let mut expected = Vec::new();
    for number in 0..80 {
        quorum.propose(vec![record(text(number))]).await.unwrap();
        expected.push(record(text(number)));
    }
    let is_cleaned = || {
        let start = quorum.describe().log_start_offset;
        start > 0 && snapshots(dir.path()).first() == Some(&start) && bytes(dir.path()) <= LIMIT
    };
    wait_until(is_cleaned).await;
    // No more than had to: one snapshot less, and what is before the next, would have been enough.
    assert!(bytes(dir.path()) > LIMIT / 2, "{} bytes are left", bytes(dir.path()));
    quorum.shutdown().await.unwrap();
    let (_quorum, applied) = start_with(kept).await;
    assert_eq!(applied.records(), expected);
}

#[tokio::test]
async fn without_a_limit_everything_stays() {
    let dir = tempfile::tempdir().unwrap();
    let all = QuorumOptions {
        max_retention_bytes: None,
        max_retention: None,
        segment_bytes: 300,
        ..options(dir.path())
    };
    let (quorum, _) = start_with(all).await;
    for number in 0..20 {
        propose_and_snapshot(&quorum, dir.path(), &format!("{number}")).await;
    }
    assert_eq!(snapshots(dir.path()).len(), 20);
    assert_eq!(quorum.describe().log_start_offset, 0);
    quorum.shutdown().await.unwrap();
    let (quorum, applied) = start(dir.path()).await;
    assert_eq!((applied.records().len(), applied.0.lock().installs), (20, 1));
    drop(quorum);
}

#[tokio::test]
async fn what_is_too_old_goes_though_nothing_else_happens() {
    let dir = tempfile::tempdir().unwrap();
    let short = QuorumOptions {
        max_retention: Some(Duration::from_millis(300)),
        segment_bytes: 300,
        ..options(dir.path())
    };
    let (quorum, _) = start_with(short).await;
    propose_and_snapshot(&quorum, dir.path(), "first").await;
    propose_and_snapshot(&quorum, dir.path(), "second").await;
    let end = quorum.describe().log_end_offset;
    wait_until(|| snapshots(dir.path()) == [end]).await;
    wait_until(|| quorum.describe().log_start_offset == end).await;
}

#[tokio::test]
async fn a_segment_ends_where_the_next_record_is_much_newer() {
    let dir = tempfile::tempdir().unwrap();
    let short = QuorumOptions { segment_time: Duration::from_millis(20), ..options(dir.path()) };
    let (quorum, _) = start_with(short).await;
    quorum.propose(vec![record("first")]).await.unwrap();
    // On a busy machine the first record may itself be much newer than those of the start.
    let segments = files(dir.path(), ".log").len();
    let (clock, began) = (Env::os().clock, Env::os().clock.wall().0);
    wait_until(|| clock.wall().0 > began + 50).await;
    quorum.propose(vec![record("second")]).await.unwrap();
    assert_eq!(files(dir.path(), ".log").len(), segments + 1);
}
