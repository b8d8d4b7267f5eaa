//! Several log directories, one of which fails: at the start, or while the node runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_env::Env;
use ottla_protocol::{Offset, Timestamp, TopicId, TopicPartition, Uuid};
use ottla_storage::{
    CreateLogError, Log, LogDir, LogDirFailure, LogManager, LogManagerOptions, OpenError,
};
use tempfile::TempDir;

use crate::faulty_disk::{Faults, faulty_env};
use crate::log_manager::{TOPIC, append, contents, options};
use crate::single_log::root;

/// Two directories on disks that may fail, and the manager of both.
struct TwoDirs {
    roots: [TempDir; 2],
    faults: Arc<Faults>,
    manager: LogManager,
}

fn two(roots: &[TempDir; 2]) -> LogManagerOptions {
    let mut options = options(roots[0].path());
    options.dirs.push(roots[1].path().to_owned());
    // The directories know it; a node that is told its cluster would learn nothing from them.
    options.cluster_id = None;
    options
}

impl TwoDirs {
    async fn new() -> Self {
        let roots = [root(), root()];
        let faults = Arc::new(Faults::default());
        let env = faulty_env(Env::os(), &faults);
        let manager = LogManager::open(env, two(&roots)).await.unwrap();
        Self { roots, faults, manager }
    }

    /// Stops in order and starts again.
    async fn restart(self) -> Self {
        self.try_restart().await.unwrap_or_else(|(_, error)| panic!("{error}"))
    }

    async fn try_restart(self) -> Result<Self, ([TempDir; 2], OpenError)> {
        let Self { roots, faults, manager } = self;
        manager.shutdown(1).await;
        drop(manager);
        match LogManager::open(faulty_env(Env::os(), &faults), two(&roots)).await {
            Ok(manager) => Ok(Self { roots, faults, manager }),
            Err(error) => Err((roots, error)),
        }
    }

    fn path(&self, dir: usize) -> &Path {
        self.roots[dir].path()
    }

    fn dir(&self, dir: usize) -> &Arc<LogDir> {
        self.manager.dirs().nth(dir).unwrap()
    }

    fn id(&self, dir: usize) -> Uuid {
        self.dir(dir).id().unwrap()
    }

    fn create(&self, number: i32) -> TopicPartition {
        let partition = orders(number);
        self.manager.create_log(&partition, TOPIC, LogConfig::default()).unwrap();
        partition
    }

    /// Which directory the log of a partition lies in.
    fn home(&self, partition: &TopicPartition) -> usize {
        let log = self.manager.log(partition).unwrap();
        self.roots.iter().position(|root| log.path().starts_with(root.path())).unwrap()
    }
}

fn orders(number: i32) -> TopicPartition {
    TopicPartition::new("orders", number)
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn logs_that_were_there_at_the_start_count() {
    let dirs = TwoDirs::new().await;
    for number in 0..3 {
        let dir = Some(dirs.id(0));
        let config = LogConfig::default();
        dirs.manager.create_log_in(dir, &orders(number), TOPIC, config).unwrap();
    }
    let dirs = dirs.restart().await;
    let homes: Vec<usize> = (3..7).map(|number| dirs.home(&dirs.create(number))).collect();
    assert_eq!(homes, [1, 1, 1, 0]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_at_the_start_is_offline_and_the_others_serve() {
    let dirs = TwoDirs::new().await;
    let (one, other) = (dirs.create(0), dirs.create(1));
    append(&dirs.manager, &one, &["one"]);
    append(&dirs.manager, &other, &["other"]);
    let ids = [dirs.id(0), dirs.id(1)];
    dirs.faults.break_below(Some(dirs.path(1)));
    let dirs = dirs.restart().await;
    let failure = dirs.dir(1).failure().unwrap().to_string();
    assert!(failure.contains("is offline") && failure.contains("broken"), "{failure}");
    assert_eq!(dirs.manager.online_dirs(), [ids[0]]);
    assert_eq!(contents(&dirs.manager, &one).len(), 1);
    assert!(dirs.manager.log(&other).is_none());
    let missing =
        dirs.manager.create_log_in(Some(ids[1]), &other, TOPIC, LogConfig::default()).err();
    assert!(matches!(missing, Some(CreateLogError::NotOnline { .. })), "{missing:?}");
    assert_eq!(dirs.home(&dirs.create(2)), 0, "new ones go where there is a disk");

    dirs.faults.break_below(None);
    let dirs = dirs.restart().await;
    assert_eq!(dirs.manager.online_dirs(), ids);
    assert_eq!(contents(&dirs.manager, &other), [(0, "other".to_owned())]);
}

#[tokio::test]
async fn a_damaged_meta_properties_takes_its_directory_offline_only() {
    let dirs = TwoDirs::new().await;
    std::fs::write(dirs.path(0).join("meta.properties"), "version=1\nnode.id=x\n").unwrap();
    let dirs = dirs.restart().await;
    let failure = dirs.dir(0).failure().unwrap().to_string();
    assert!(failure.contains("has no valid node.id; restore the file"), "{failure}");
    assert!(dirs.dir(1).failure().is_none());
}

#[tokio::test]
async fn a_directory_of_another_process_is_refused_even_if_the_other_one_is_not() {
    let dirs = TwoDirs::new().await;
    let free = tempfile::tempdir().unwrap();
    let mut options = options(free.path());
    options.dirs.push(dirs.path(1).to_owned());
    let error = LogManager::open(Env::os(), options).await.err().unwrap();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
}

#[tokio::test]
async fn without_any_directory_nothing_starts() {
    let dirs = TwoDirs::new().await;
    dirs.faults.break_below(dirs.path(0).parent());
    let (_roots, error) = dirs.try_restart().await.err().unwrap();
    assert!(matches!(error, OpenError::NoneUsable { .. }), "{error}");
    assert_eq!(error.to_string().matches("the disk is broken").count(), 2, "{error}");
}

#[tokio::test]
async fn no_new_cluster_is_made_while_a_directory_cannot_say_which_one_it_is_of() {
    let dirs = TwoDirs::new().await;
    let TwoDirs { roots, manager, .. } = dirs;
    drop(manager);
    std::fs::write(roots[0].path().join("meta.properties"), "").unwrap();
    std::fs::remove_file(roots[1].path().join("meta.properties")).unwrap();
    let error = LogManager::open(Env::os(), two(&roots)).await.err().unwrap();
    assert!(matches!(error, OpenError::ClusterUnknown { .. }), "{error}");
    assert!(!roots[1].path().join("meta.properties").exists());
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_takes_its_directory_offline() {
    let dirs = TwoDirs::new().await;
    let (one, other) = (dirs.create(0), dirs.create(1));
    append(&dirs.manager, &one, &["one"]);
    let log = dirs.path(1).join("orders-1/00000000000000000000.log");
    dirs.faults.break_below(Some(&log));
    let dirs = dirs.restart().await;
    let failure = dirs.dir(1).failure().unwrap().to_string();
    assert!(failure.contains("opening orders-1"), "{failure}");
    assert!(dirs.manager.log(&other).is_none());
    assert_eq!(contents(&dirs.manager, &one).len(), 1);
}

#[tokio::test]
async fn a_directory_that_goes_offline_is_marked_until_a_start_has_written_its_logs_again() {
    let dirs = TwoDirs::new().await;
    let mark = |dirs: &TwoDirs, dir: usize| dirs.path(dir).join(".ottla_went_offline").exists();
    let (_, log) = (dirs.create(0), dirs.create(1));
    append(&dirs.manager, &log, &["one"]);
    dirs.faults.sync.store(true, Ordering::Relaxed);
    dirs.manager.log(&log).unwrap().flush(Offset(1)).unwrap_err();
    assert!(!mark(&dirs, 0) && mark(&dirs, 1));
    dirs.faults.sync.store(false, Ordering::Relaxed);
    let dirs = dirs.restart().await;
    assert!(dirs.dir(1).failure().is_none() && !mark(&dirs, 1));
    assert_eq!(contents(&dirs.manager, &log).len(), 1);
}

#[tokio::test]
async fn a_log_without_a_topic_is_set_aside_and_stays() {
    let dirs = TwoDirs::new().await;
    let (stray, kept) = (dirs.create(0), dirs.create(1));
    append(&dirs.manager, &stray, &["precious"]);
    let dirs = dirs.restart().await;
    dirs.manager.create_log(&kept, TOPIC, LogConfig::default()).unwrap();
    dirs.manager.settle_unclaimed(|log| *log.partition() != stray);
    assert!(dirs.manager.log(&stray).is_none() && dirs.manager.log(&kept).is_some());
    let renamed = |path: &Path| -> Vec<PathBuf> {
        let strays = names(path).into_iter().filter(|name| name.ends_with("-stray"));
        strays.map(|name| path.join(name)).collect()
    };
    let aside = renamed(dirs.path(0)).pop().unwrap();
    assert!(aside.join("00000000000000000000.log").metadata().unwrap().len() > 0);
    // Not now, not later, and not by a restart.
    dirs.manager.housekeeping(Timestamp(Env::os().clock.wall().0 + 1_000_000_000));
    let dirs = dirs.restart().await;
    assert_eq!(renamed(dirs.path(0)), [aside]);
    assert!(dirs.manager.log(&stray).is_none());
}

/// A log whose topic is gone, and another, after a restart; what is left of the first. The metadata was
/// read up to 7 before the restart, and up to `read` after it.
async fn what_is_left(read: i64, knows_the_other: bool) -> Vec<String> {
    let dirs = TwoDirs::new().await;
    let (gone, kept) = (dirs.create(0), dirs.create(1));
    append(&dirs.manager, &gone, &["a"]);
    dirs.manager.metadata_was_read(Offset(7));
    let dirs = dirs.restart().await;
    let belongs = |log: &Log| knows_the_other && *log.partition() == kept;
    dirs.manager.compare_with_metadata(Offset(read), belongs);
    dirs.manager.settle_unclaimed(belongs);
    assert!(dirs.manager.log(&gone).is_none());
    dirs.manager.housekeeping(Timestamp(Env::os().clock.wall().0 + 1_000_000_000));
    let mut left = names(dirs.path(0));
    left.retain(|name| name.starts_with("orders-0"));
    left
}

#[tokio::test]
async fn the_log_of_a_topic_that_was_deleted_meanwhile_is_deleted() {
    assert_eq!(what_is_left(7, true).await, [""; 0]);
}

#[tokio::test]
async fn metadata_from_before_or_of_nothing_that_is_here_deletes_nothing() {
    for (read, knows_the_other) in [(6, true), (9, false)] {
        let left = what_is_left(read, knows_the_other).await;
        assert!(matches!(&left[..], [one] if one.ends_with("-stray")), "{left:?}");
    }
}

#[tokio::test]
async fn nothing_is_deleted_of_a_log_whose_topic_is_not_known_yet() {
    let dirs = TwoDirs::new().await;
    let (partition, year) = (dirs.create(0), 365 * 24 * 3_600_000);
    append(&dirs.manager, &partition, &["a", "b"]);
    dirs.manager.log(&partition).unwrap().set_high_watermark(Offset(2));
    let dirs = dirs.restart().await;
    let next_year = Timestamp(Env::os().clock.wall().0 + year);
    // By default after seven days.
    dirs.manager.housekeeping(next_year);
    assert_eq!(contents(&dirs.manager, &partition).len(), 2);
    let for_ever = LogConfig { retention_ms: None, ..LogConfig::default() };
    dirs.manager.create_log(&partition, TOPIC, for_ever).unwrap();
    dirs.manager.housekeeping(Timestamp(next_year.0 + year));
    assert_eq!(contents(&dirs.manager, &partition).len(), 2);
    dirs.manager.create_log(&partition, TOPIC, LogConfig::default()).unwrap();
    dirs.manager.housekeeping(Timestamp(next_year.0 + 2 * year));
    assert_eq!(contents(&dirs.manager, &partition), []);
}

#[tokio::test]
async fn a_topic_made_again_while_its_old_log_was_out_of_reach_keeps_its_own_log() {
    // Whichever of the two is found first.
    for lost in [0, 1] {
        let (dirs, partition) = (TwoDirs::new().await, orders(0));
        let dir = Some(dirs.id(lost));
        dirs.manager.create_log_in(dir, &partition, TOPIC, LogConfig::default()).unwrap();
        append(&dirs.manager, &partition, &["old"]);
        dirs.faults.break_below(Some(dirs.path(lost)));
        let dirs = dirs.restart().await;
        let again = TopicId::from_bytes([8; 16]);
        dirs.manager.create_log(&partition, again, LogConfig::default()).unwrap();
        append(&dirs.manager, &partition, &["new"]);
        dirs.faults.break_below(None);
        let dirs = dirs.restart().await;
        dirs.manager.create_log(&partition, again, LogConfig::default()).unwrap();
        dirs.manager.settle_unclaimed(|_| true);
        assert_eq!(contents(&dirs.manager, &partition), [(0, "new".to_owned())]);
        let names = names(dirs.path(lost)).into_iter();
        let aside = names.filter(|name| name.ends_with("-stray")).count();
        assert_eq!((aside, dirs.home(&partition)), (1, 1 - lost));
    }
}

#[tokio::test]
async fn a_topic_made_a_third_time_begins_with_nothing_of_the_two_before() {
    let config = LogConfig::default;
    for (lost, home) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (dirs, partition) = (TwoDirs::new().await, orders(0));
        let dir = Some(dirs.id(lost));
        dirs.manager.create_log_in(dir, &partition, TOPIC, config()).unwrap();
        append(&dirs.manager, &partition, &["old"]);
        dirs.faults.break_below(Some(dirs.path(lost)));
        let dirs = dirs.restart().await;
        let again = TopicId::from_bytes([8; 16]);
        dirs.manager.create_log(&partition, again, config()).unwrap();
        append(&dirs.manager, &partition, &["new"]);
        dirs.faults.break_below(None);
        let dirs = dirs.restart().await;
        let (third, dir) = (TopicId::from_bytes([9; 16]), Some(dirs.id(home)));
        let refused = dirs.manager.create_log_in(dir, &partition, third, config()).err();
        assert!(matches!(refused, Some(CreateLogError::InconsistentTopicId { .. })));
        dirs.manager.delete_or_set_aside(&partition).unwrap();
        dirs.manager.create_log_in(dir, &partition, third, config()).unwrap();
        assert_eq!(contents(&dirs.manager, &partition), [], "lost {lost}, made in {home}");
        dirs.manager.settle_unclaimed(|_| true);
        assert_eq!(dirs.home(&partition), home);
        let aside = [0, 1].map(|dir| names(dirs.path(dir))).concat();
        assert_eq!(aside.iter().filter(|name| name.ends_with("-stray")).count(), 2);
    }
}

#[tokio::test]
async fn a_topic_is_deleted_and_made_again_around_a_failed_directory() {
    let dirs = TwoDirs::new().await;
    let partition = dirs.create(0);
    append(&dirs.manager, &partition, &["old"]);
    dirs.faults.break_below(Some(dirs.path(0)));
    let log = dirs.manager.log(&partition).unwrap();
    assert!(log.flush(Offset(1)).is_err() && dirs.dir(0).failure().is_some());
    let error = dirs.manager.delete_log(&partition).unwrap_err();
    assert!(matches!(error, LogDirFailure::Offline { .. }), "{error}");
    let again = TopicId::from_bytes([8; 16]);
    dirs.manager.create_log(&partition, again, LogConfig::default()).unwrap();
    assert_eq!((contents(&dirs.manager, &partition), dirs.home(&partition)), (vec![], 1));
}

#[tokio::test]
async fn a_file_that_nobody_uses_is_closed_after_a_while() {
    let dirs = TwoDirs::new().await;
    for number in 0..2 {
        append(&dirs.manager, &dirs.create(number), &["a"]);
    }
    assert!(dirs.faults.open_files() >= 2);
    let start = Env::os().clock.wall().0;
    let minute = Duration::from_secs(61).as_millis() as i64;
    dirs.manager.housekeeping(Timestamp(start + minute));
    append(&dirs.manager, &orders(0), &["b"]);
    let used_since = dirs.faults.open_files();
    dirs.manager.housekeeping(Timestamp(start + 2 * minute));
    assert!(dirs.faults.open_files() < used_since, "the other log is idle");
    // A checkpoint may have opened some once more.
    for round in 3..6 {
        dirs.manager.housekeeping(Timestamp(start + round * minute));
    }
    assert_eq!(dirs.faults.open_files(), 0);
    assert_eq!(contents(&dirs.manager, &orders(0)).len(), 2);
}

#[tokio::test]
async fn when_the_system_lets_no_more_files_be_opened_others_are_closed() {
    let dirs = TwoDirs::new().await;
    let TwoDirs { roots, faults, manager } = dirs;
    drop(manager);
    let mut both = two(&roots);
    both.max_open_files = 1000;
    let manager = LogManager::open(faulty_env(Env::os(), &faults), both).await.unwrap();
    faults.limit_files(6);
    for number in 0..30 {
        manager.create_log(&orders(number), TOPIC, LogConfig::default()).unwrap();
    }
    for round in 0..2 {
        for number in 0..30 {
            append(&manager, &orders(number), &["a"]);
            assert_eq!(contents(&manager, &orders(number)).len(), round + 1);
        }
    }
    assert!(manager.offline_dirs().is_empty() && faults.open_files() <= 6);
    // Where nothing can be closed there is an error, and no failure of the disk.
    faults.limit_files(1);
    let held = manager.log(&orders(0)).unwrap();
    let held = held.read(Offset(0), 100, true, Offset(2)).unwrap();
    let refused = manager.log(&orders(1)).unwrap().flush(Offset(2)).unwrap_err();
    assert!(matches!(refused, LogDirFailure::OutOfFiles { .. }), "{refused}");
    drop(held);
    manager.log(&orders(1)).unwrap().flush(Offset(2)).unwrap();
    assert!(manager.offline_dirs().is_empty());
}
