//! Nothing is decided by what the power could take back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_protocol::record_batch::ControlRecordType;
use ottla_protocol::{TopicId, TopicPartition};
use ottla_storage::{Log, LogCleaner, LogManager};

use super::choice::{append, count, small};
use super::found;
use super::producers::transactional;
use crate::faulty_disk::{Faults, faulty_env};
use crate::log_manager::options;
use crate::single_log::{SingleLog, root};
use crate::transactions::marker;

/// A log of five segments of one record each, and the node's cleaner.
struct Node {
    root: tempfile::TempDir,
    faults: Arc<Faults>,
    log: Arc<Log>,
    cleaner: Arc<LogCleaner>,
}

impl Node {
    async fn new() -> Self {
        let (root, faults) = (root(), Arc::default());
        let env = faulty_env(Env::os(), &faults);
        let logs = Arc::new(LogManager::open(env.clone(), options(root.path())).await.unwrap());
        let (t, id) = (TopicPartition::new("t", 0), TopicId::from_bytes([7; 16]));
        let log = logs.create_log(&t, id, small()).unwrap();
        (0..5).for_each(|_| append(&log));
        let (config, _) = BrokerConfig::parse(&[], &[]).unwrap();
        let cleaner = LogCleaner::new(&env, logs, &config.log_cleaner);
        Self { root, faults, log, cleaner }
    }

    /// The offset in a checkpoint file.
    fn checkpoint(&self, file: &str) -> i64 {
        let path = self.root.path().join(format!("{file}-offset-checkpoint"));
        let text = std::fs::read_to_string(path).unwrap();
        text.split_whitespace().last().unwrap().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_while_the_segments_are_synced_waits_for_the_next_pass() {
    let Node { faults, log, cleaner, root } = Node::new().await;
    let syncs = faults.syncs.load(Ordering::Relaxed);
    let cleaning = {
        let _syncing = faults.gate.lock();
        let cleaner = Arc::clone(&cleaner);
        let cleaning = tokio::spawn(async move { cleaner.clean_filthiest().await });
        while faults.syncs.load(Ordering::Relaxed) == syncs {
            std::thread::yield_now();
        }
        (0..3).for_each(|_| append(&log));
        cleaning
    };
    assert!(cleaning.await.unwrap());
    assert!(count(&log) < 8);
    let node = Node { faults, log, cleaner, root };
    let cleaned = node.checkpoint("cleaner");
    assert!(cleaned <= node.checkpoint("recovery-point"), "cleaned up to {cleaned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_recovery_point_cannot_be_written_is_not_compacted() {
    let node = Node::new().await;
    node.faults.has_no_room_for(Some("recovery-point-offset-checkpoint"));
    assert!(!node.cleaner.clean_filthiest().await);
    node.faults.refused(1).await;
    assert_eq!((count(&node.log), node.log.log_dir().failure().is_none()), (5, true));
    node.faults.has_no_room_for(None);
    assert!(node.cleaner.clean_filthiest().await);
    assert_eq!(count(&node.log), 2);
}

#[test]
fn a_marker_that_decides_over_records_is_synced_before_they_are_compacted() {
    let (committed, aborted) = (found(1, "a", "in a transaction"), found(0, "a", "before"));
    for (kind, left) in
        [(ControlRecordType::Commit, committed), (ControlRecordType::Abort, aborted)]
    {
        let log = SingleLog::compacted(1 << 20);
        log.put(&[("a", Some("before"))]);
        log.append_batch(&transactional(1, "a", "in a transaction"));
        log.seal();
        log.append_batch(&marker(1, kind));
        let decided = log.log.log_end_offset();
        log.log.set_high_watermark(decided);
        log.clean();
        assert_eq!(log.records()[0], left);
        assert!(log.log.recovery_point() >= decided, "{kind:?}");
    }
}
