//! Which log is cleaned, when, how fast, and what is remembered of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::{BrokerConfig, CleanupPolicy, LogCleanerConfig, LogConfig};
use ottla_env::{BoxFuture, Clock, Env};
use ottla_protocol::{LeaderEpoch, Monotonic, Offset, Timestamp, TopicId, TopicPartition};
use ottla_storage::{AppendOrigin, LeaderAppend, Log, LogCleaner, LogManager};
use parking_lot::Mutex;

use super::{HOUR, batch, compacted, records};
use crate::faulty_disk::{Faults, faulty_env};
use crate::log_manager::options;
use crate::single_log::{NOW, root};

/// A clock that stands still, but for who sleeps.
#[derive(Default)]
struct SleepersClock {
    slept: Mutex<Duration>,
    /// What happens while somebody sleeps, and how often they sleep before.
    meanwhile: Mutex<(usize, Option<Event>)>,
}

type Event = Box<dyn FnOnce() + Send>;

impl Clock for SleepersClock {
    fn now(&self) -> Monotonic {
        Monotonic(*self.slept.lock())
    }
    fn wall(&self) -> Timestamp {
        NOW
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        *self.slept.lock() += duration;
        let mut meanwhile = self.meanwhile.lock();
        match meanwhile.0.checked_sub(1) {
            Some(left) => meanwhile.0 = left,
            None => meanwhile.1.take().into_iter().for_each(|happens| happens()),
        }
        Box::pin(std::future::ready(()))
    }
}

struct Node {
    env: Env,
    clock: Arc<SleepersClock>,
    root: tempfile::TempDir,
    logs: Arc<LogManager>,
}

async fn open(env: &Env, root: &Path) -> Arc<LogManager> {
    Arc::new(LogManager::open(env.clone(), options(root)).await.unwrap())
}

impl Node {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let clock = Arc::new(SleepersClock::default());
        let env = Env { clock: clock.clone(), ..Env::os() };
        let logs = open(&env, root.path()).await;
        Self { env, clock, root, logs }
    }

    fn cleaner(&self, configure: impl FnOnce(&mut LogCleanerConfig)) -> Arc<LogCleaner> {
        let (config, _) = BrokerConfig::parse(&[], &[]).unwrap();
        let mut config = config.log_cleaner;
        configure(&mut config);
        LogCleaner::new(&self.env, self.logs.clone(), &config)
    }

    async fn clean(&self) -> bool {
        self.cleaner(|_| ()).clean_filthiest().await
    }

    /// A topic whose records, all of one key, are each a segment.
    fn topic(&self, topic: &str, records: usize, config: LogConfig) -> Arc<Log> {
        let partition = TopicPartition::new(topic, 0);
        let log = self.logs.create_log(&partition, TopicId::from_bytes([7; 16]), config).unwrap();
        (0..records).for_each(|_| append(&log));
        log
    }

    fn checkpoint(&self) -> String {
        let file = self.root.path().join("cleaner-offset-checkpoint");
        std::fs::read_to_string(file).unwrap_or_default()
    }
}

pub(super) fn append(log: &Log) {
    put(log, "a", Some("1"));
}

fn put(log: &Log, key: &str, value: Option<&str>) {
    let append =
        LeaderAppend { leader_epoch: LeaderEpoch(0), origin: AppendOrigin::Coordinator, now: NOW };
    log.append_as_leader(&batch(&[(key, value)]).build(), append).unwrap();
    log.set_high_watermark(log.log_end_offset());
}

pub(super) fn count(log: &Log) -> usize {
    let data = log.read(log.log_start_offset(), usize::MAX, true, log.log_end_offset()).unwrap();
    records(&data.read().unwrap()).len()
}

/// A compacted topic with a segment for each record.
pub(super) fn small() -> LogConfig {
    compacted(110)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dirtiest_log_comes_first_and_the_checkpoint_says_how_far_it_went() {
    let node = Node::new().await;
    let (clean, dirty) = (node.topic("clean", 5, small()), node.topic("dirty", 5, small()));
    let deleted =
        node.topic("deleted", 5, LogConfig { segment_bytes: 110, ..LogConfig::default() });
    assert!(node.clean().await && node.clean().await);
    assert!(!node.clean().await, "nothing is dirty");
    assert_eq!(node.checkpoint(), "0\n2\nclean 0 4\ndirty 0 4\n");
    assert_eq!((count(&clean), count(&dirty), count(&deleted)), (2, 2, 5));
    // Of two logs of one size, one gets more dirty than the other.
    (0..4).for_each(|_| append(&clean));
    (0..8).for_each(|_| append(&dirty));
    assert!(node.clean().await);
    assert_eq!((count(&clean), count(&dirty)), (6, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_left_alone_until_it_is_dirty_enough() {
    let node = Node::new().await;
    // Five records of 76 bytes to a segment, of which one stays, or just a batch's header of 61.
    let log = node.topic("t", 16, LogConfig { min_cleanable_dirty_ratio: 0.7, ..compacted(400) });
    assert!(node.clean().await);
    (0..5).for_each(|_| append(&log));
    assert!(!node.clean().await, "380 bytes are dirty, and 198 clean");
    (0..5).for_each(|_| append(&log));
    assert!(node.clean().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_too_young_wait_and_those_too_old_make_their_log_due() {
    let node = Node::new().await;
    let hour = Duration::from_millis(HOUR as u64);
    let young = node.topic("young", 5, LogConfig { min_compaction_lag: hour, ..small() });
    assert!(!node.clean().await);
    young.update_config(LogConfig { min_compaction_lag: Duration::ZERO, ..small() });
    assert!(node.clean().await);
    // Never dirty enough, but old.
    let ratio = LogConfig { min_cleanable_dirty_ratio: 1.0, ..small() };
    let due = node.topic("due", 5, ratio.clone());
    assert!(!node.clean().await);
    let lag = Some(Duration::from_millis(1));
    due.update_config(LogConfig { max_compaction_lag: lag, ..ratio.clone() });
    assert!(!node.clean().await, "its records are from now");
    let old = node.topic("old", 0, LogConfig { max_compaction_lag: lag, ..ratio });
    let leader =
        LeaderAppend { leader_epoch: LeaderEpoch(0), origin: AppendOrigin::Coordinator, now: NOW };
    for age in [2, 1, 0] {
        let mut builder = ottla_protocol::record_batch::RecordBatchBuilder::new();
        let (timestamp, key) = (Timestamp(NOW.0 - age), Some(&b"a"[..]));
        let record =
            ottla_protocol::record_batch::NewRecord { timestamp, key, ..Default::default() };
        builder.append(&record);
        old.append_as_leader(&builder.build(), leader).unwrap();
        old.append_as_leader(&batch(&[("b", Some("1"))]).build(), leader).unwrap();
    }
    old.set_high_watermark(old.log_end_offset());
    assert!(node.clean().await);
    assert!(count(&old) < 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn cleaners_keep_to_their_rate() {
    let node = Node::new().await;
    node.topic("t", 200, compacted(10_000));
    let cleaner = node.cleaner(|config| config.io_max_bytes_per_second = 1000.0);
    assert!(cleaner.clean_filthiest().await);
    let log = node.logs.log(&TopicPartition::new("t", 0)).unwrap();
    assert_eq!(count(&log) as i64, 201 - log.first_dirty_offset().unwrap().0);
    // Each record has 76 bytes and is read twice, one is written.
    let bytes = (2 * log.first_dirty_offset().unwrap().0 + 1) * 76;
    assert_eq!(node.clock.slept.lock().as_secs() as i64, bytes / 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_left_alone_and_the_others_go_on() {
    let node = Node::new().await;
    let damaged = node.topic("damaged", 9, small());
    let sound = node.topic("sound", 5, small());
    let segment = node.root.path().join("damaged-0/00000000000000000002.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    assert!(node.clean().await, "look for another one at once");
    assert!(node.clean().await);
    assert!(!node.clean().await, "the damaged one is not tried again");
    assert_eq!(count(&sound), 2);
    assert_eq!(damaged.first_dirty_offset(), None);
    assert!(node.logs.offline_dirs().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoint_survives_a_restart_and_is_not_believed_if_it_makes_no_sense() {
    let node = Node::new().await;
    node.topic("t", 5, small());
    assert!(node.clean().await);
    node.logs.shutdown(-1).await;
    let t = TopicPartition::new("t", 0);
    let Node { env, root, logs, .. } = node;
    drop(logs);
    let logs = open(&env, root.path()).await;
    assert_eq!(logs.log(&t).unwrap().first_dirty_offset(), Some(Offset(4)));
    logs.shutdown(-1).await;
    drop(logs);
    std::fs::write(root.path().join("cleaner-offset-checkpoint"), "0\n1\nt 0 77\n").unwrap();
    let logs = open(&env, root.path()).await;
    let log = logs.log(&t).unwrap();
    log.update_config(small());
    append(&log);
    log.clean(&Default::default(), NOW).unwrap();
    assert_eq!(log.first_dirty_offset(), Some(Offset(5)));
    assert_eq!(count(&log), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_a_crash_left_beyond_a_cut_does_not_keep_what_was_deleted_since() {
    let node = Node::new().await;
    let log = node.topic("t", 0, small());
    put(&log, "k", Some("1"));
    (0..4).for_each(|_| append(&log));
    assert!(node.clean().await);
    assert_eq!(node.checkpoint(), "0\n1\nt 0 4\n");
    // The process dies before the checkpoints are written.
    log.truncate_to(Offset(1)).unwrap();
    let Node { env, root, clock, logs } = node;
    drop((logs, log));
    let logs = open(&env, root.path()).await;
    let node = Node { env, root, clock, logs };
    assert_eq!(node.checkpoint(), "0\n1\nt 0 0\n");
    let log = node.topic("t", 0, small());
    put(&log, "k", None);
    (0..4).for_each(|_| append(&log));
    let Node { env, root, logs, .. } = node;
    drop((logs, log));
    let logs = open(&env, root.path()).await;
    let log = logs.log(&TopicPartition::new("t", 0)).unwrap();
    log.update_config(small());
    log.set_high_watermark(log.log_end_offset());
    log.clean(&Default::default(), NOW).unwrap();
    let data = log.read(Offset(0), usize::MAX, true, log.log_end_offset()).unwrap();
    let found = records(&data.read().unwrap());
    // The tombstone will go, and must not go before what it deletes.
    let of_k: Vec<_> = found.iter().filter(|(_, key, _)| key == "k").collect();
    assert!(matches!(&of_k[..], [(1, _, None)]), "{of_k:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_leaves_no_checkpoint_for_one_of_its_name() {
    let node = Node::new().await;
    node.topic("t", 5, small());
    assert!(node.clean().await);
    assert_eq!(node.checkpoint(), "0\n1\nt 0 4\n");
    let t = TopicPartition::new("t", 0);
    node.logs.delete_log(&t).unwrap();
    node.logs.create_log(&t, TopicId::from_bytes([9; 16]), small()).unwrap();
    assert_eq!(node.checkpoint(), "0\n0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_directory_keeps_none_of_another_from_being_compacted() {
    let (roots, faults) = ([root(), root()], Arc::<Faults>::default());
    let env = faulty_env(Env::os(), &faults);
    let mut options = options(roots[0].path());
    options.dirs = roots.iter().map(|root| root.path().to_owned()).collect();
    let logs = Arc::new(LogManager::open(env.clone(), options).await.unwrap());
    let (config, _) = BrokerConfig::parse(&[], &[]).unwrap();
    let cleaner = LogCleaner::new(&env, logs.clone(), &config.log_cleaner);
    // Whichever of the two is looked at first; full before a pass begins, and in the middle of it.
    for (number, (full, free)) in [(0, 0), (1, 0), (0, 100), (1, 100)].into_iter().enumerate() {
        let [a, b] = [0, 1].map(|dir| {
            let (home, partition) = (logs.dirs().nth(dir).unwrap().id(), format!("{number}-{dir}"));
            let (partition, topic) =
                (TopicPartition::new(partition, 0), TopicId::from_bytes([7; 16]));
            let log = logs.create_log_in(home, &partition, topic, small()).unwrap();
            (0..5).for_each(|_| append(&log));
            log
        });
        let (stays, goes) = if full == 0 { (a, b) } else { (b, a) };
        faults.leave_free(roots[full].path(), Some(free));
        while cleaner.clean_filthiest().await {}
        assert_eq!((count(&stays), count(&goes)), (5, 2), "with {free} bytes in {full}");
        faults.leave_free(roots[full].path(), None);
        while cleaner.clean_filthiest().await {}
        assert_eq!((count(&stays), count(&goes)), (2, 2));
    }
}

/// What is left of a log if something happens to it in the middle of a pass: after some steps of
/// 1500 bytes, of which the first two find the keys.
async fn changed_after(steps: usize, change: fn(&LogManager, &Log)) -> (bool, Arc<Log>, Node) {
    let node = Node::new().await;
    let config = LogConfig {
        cleanup_policy: CleanupPolicy { delete: true, compact: true },
        ..compacted(400)
    };
    let log = node.topic("t", 40, config);
    let (logs, changed) = (node.logs.clone(), log.clone());
    *node.clock.meanwhile.lock() = (steps - 1, Some(Box::new(move || change(&logs, &changed))));
    let cleaner = node.cleaner(|config| config.io_max_bytes_per_second = 5000.0);
    let cleaned = cleaner.clean_filthiest().await;
    assert!(node.clock.meanwhile.lock().1.is_none());
    (cleaned, log, node)
}

/// Files that a pass has left behind.
fn unfinished(log: &Log) -> usize {
    let files = std::fs::read_dir(log.path()).unwrap().map(|it| it.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "cleaned" || it == "swap")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_cut_off_or_deleted_meanwhile_does_not_come_back() {
    let (cleaned, log, node) = changed_after(1, |logs, log| {
        logs.truncate_to(log, Offset(7)).unwrap();
        (0..40).for_each(|_| append(log));
    })
    .await;
    assert!(!cleaned);
    assert_eq!(unfinished(&log), 0);
    assert_eq!(count(&log), 47, "the keys that were found were those of other records");
    assert_eq!(log.first_dirty_offset(), None);
    assert!(node.clean().await, "the next pass finds what there is now");
    assert!(count(&log) < 10);

    let (cleaned, log, node) = changed_after(3, |logs, log| {
        assert!(logs.delete_log(log.partition()).unwrap());
    })
    .await;
    assert!(!cleaned && !log.path().exists());
    assert!(node.logs.offline_dirs().is_empty());

    let (cleaned, log, node) = changed_after(3, |_, log| log.close().unwrap()).await;
    assert!(!cleaned && (6..40).contains(&count(&log)));
    assert!(node.logs.offline_dirs().is_empty());

    let change = |_: &LogManager, log: &Log| log.update_config(LogConfig::default());
    let (cleaned, log, _node) = changed_after(1, change).await;
    assert!(!cleaned);
    assert_eq!(count(&log), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_may_take_segments_away_before_the_pass_has_copied_them_or_after() {
    let delete_to = |log: &Log, offset| {
        log.increment_log_start_offset(Offset(offset)).unwrap();
        log.housekeeping(NOW).unwrap();
    };
    // The pass is in the middle of a segment that goes.
    let (cleaned, log, _node) = changed_after(3, |_, log| {
        log.increment_log_start_offset(Offset(32)).unwrap();
        log.housekeeping(NOW).unwrap();
    })
    .await;
    assert!(!cleaned);
    assert_eq!((count(&log), log.segment_count(), unfinished(&log)), (8, 2, 0));
    // It has copied them, and does not mind.
    let (cleaned, log, _node) = changed_after(4, |_, log| {
        log.increment_log_start_offset(Offset(6)).unwrap();
        log.housekeeping(NOW).unwrap();
    })
    .await;
    assert!(cleaned);
    assert_eq!(log.log_start_offset(), Offset(6));
    delete_to(&log, 34);
    assert_eq!(count(&log), 6);
}
