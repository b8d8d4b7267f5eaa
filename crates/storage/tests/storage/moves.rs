//! Logs that move to another directory while they are written (KIP-113).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_config::{CleanupPolicy, LogConfig};
use ottla_env::Env;
use ottla_protocol::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition, format_uuid,
};
use ottla_storage::{
    AppendOrigin, CleanError, CleanerLimits, LeaderAppend, Log, LogDir, LogManager,
    LogManagerOptions, LogMove, MoveError,
};
use tempfile::TempDir;

use crate::batches;
use crate::faulty_disk::{Faults, faulty_env};
use crate::log_manager::{TOPIC, contents, options};
use crate::single_log::root;

/// Two directories or more, and a log in the first of them.
struct Dirs {
    roots: Vec<TempDir>,
    faults: Arc<Faults>,
    manager: Option<LogManager>,
}

const NOW: Timestamp = Timestamp(1000);

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 300, ..LogConfig::default() }
}

fn all(roots: &[TempDir]) -> LogManagerOptions {
    let mut options = options(roots[0].path());
    options.dirs = roots.iter().map(|root| root.path().to_owned()).collect();
    options.config.defaults = small_segments();
    options
}

fn append(log: &Log, epoch: i32, records: Bytes) -> Offset {
    let (leader_epoch, origin) = (LeaderEpoch(epoch), AppendOrigin::Client);
    let append = LeaderAppend { leader_epoch, origin, now: NOW };
    let info = log.append_as_leader(&records, append).unwrap();
    log.set_high_watermark(info.log_end_offset);
    info.first_offset
}

fn batch(value: &str) -> Bytes {
    batches::builder(1000, &[value, value]).build()
}

fn sequenced(sequence: i32) -> Bytes {
    let producer = (ProducerId(7), ProducerEpoch(0));
    batches::builder(1000, &["of 7"]).producer(producer.0, producer.1, sequence).build()
}

impl Dirs {
    /// Twenty batches in many segments, of two leaders and a producer; the first five records are
    /// deleted, of which the fifth shares its batch with one that is not.
    async fn new() -> Self {
        Self::with(vec![root(), root()]).await
    }

    async fn with(roots: Vec<TempDir>) -> Self {
        let mut dirs = Self { roots, faults: Arc::default(), manager: None };
        dirs.open().await;
        let home = dirs.dir(0).id();
        let manager = dirs.manager();
        manager.create_log_in(home, &orders(), TOPIC, small_segments()).unwrap();
        let log = dirs.log();
        for number in 0..20 {
            append(&log, number / 10, batch(&format!("value {number}")));
        }
        append(&log, 1, sequenced(0));
        append(&log, 1, sequenced(1));
        log.increment_log_start_offset(Offset(5)).unwrap();
        assert_eq!(manager.checkpoint_log_starts().len(), 0);
        assert!(log.segment_count() > 5);
        dirs
    }

    async fn open(&mut self) {
        let env = faulty_env(Env::os(), &self.faults);
        self.manager = Some(LogManager::open(env, all(&self.roots)).await.unwrap());
    }

    /// The process ends as it is, and another starts.
    async fn crash(&mut self) {
        self.manager = None;
        self.faults = Arc::default();
        self.open().await;
        let config = small_segments();
        let log = self.manager().create_log(&orders(), TOPIC, config).unwrap();
        log.set_high_watermark(log.log_end_offset());
    }

    fn manager(&self) -> &LogManager {
        self.manager.as_ref().unwrap()
    }

    fn dir(&self, number: usize) -> Arc<LogDir> {
        self.manager().dirs().nth(number).unwrap().clone()
    }

    fn log(&self) -> Arc<Log> {
        self.manager().log(&orders()).unwrap()
    }

    fn begin(&self) -> Arc<LogMove> {
        self.manager().begin_move(&self.log(), &self.dir(1)).unwrap()
    }

    /// Begins, copies and finishes; between the copy and the end something is appended.
    fn try_move(&self) -> Result<Arc<Log>, MoveError> {
        let begun = self.manager().begin_move(&self.log(), &self.dir(1))?;
        begun.copy(u64::MAX)?;
        begun.flush()?;
        let append =
            LeaderAppend { leader_epoch: LeaderEpoch(1), origin: AppendOrigin::Client, now: NOW };
        let appended = self.log().append_as_leader(&batch("late"), append)?;
        self.log().set_high_watermark(appended.log_end_offset);
        self.manager().finish_move(&begun)
    }

    /// Which directory the log lies in.
    fn home(&self) -> usize {
        let log = self.log();
        self.roots.iter().position(|root| log.path().starts_with(root.path())).unwrap()
    }

    /// Names of directories of partitions, and what else might be left of them.
    fn partition_dirs(&self, number: usize) -> Vec<String> {
        let entries = std::fs::read_dir(self.roots[number].path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("orders")).collect()
    }

    fn remove_due(&self) {
        self.manager().dirs().for_each(|dir| dir.remove_due(Timestamp(i64::MAX)));
    }
}

/// Records; first offset, high watermark and end; ends of epochs; producers.
type Seen = (Vec<(i64, String)>, [Offset; 3], Vec<Option<Offset>>, String);

/// All that can be seen of a log.
fn seen(log: &Log) -> Seen {
    let data = log.read(log.log_start_offset(), usize::MAX, true, log.log_end_offset()).unwrap();
    let epochs = [0, 1].map(|epoch| log.end_offset_for_epoch(LeaderEpoch(epoch)));
    (
        batches::decode(&data.read().unwrap()),
        [log.log_start_offset(), log.high_watermark(), log.log_end_offset()],
        epochs.iter().map(|end| end.map(|end| end.end_offset)).collect(),
        format!("{:?}", log.producers()),
    )
}

#[tokio::test]
async fn a_log_moves_with_all_that_is_known_of_it() {
    let mut dirs = Dirs::new().await;
    let old = dirs.log();
    let begun = dirs.begin();
    assert!(begun.lag() > 0);
    begun.copy(u64::MAX).unwrap();
    assert_eq!(begun.lag(), 0);
    append(&old, 2, batch("while it moves"));
    let before = seen(&old);
    let new = dirs.manager().finish_move(&begun).unwrap();
    assert_eq!(seen(&new), before);
    assert!(Arc::ptr_eq(&new, &dirs.log()) && dirs.home() == 1);
    assert!(dirs.manager().move_of(&orders()).is_none());
    assert!(old.read(Offset(20), 100, true, Offset(30)).is_err(), "the old one is closed");
    // A batch that is sent again is known, the next one is taken.
    let again =
        LeaderAppend { leader_epoch: LeaderEpoch(2), origin: AppendOrigin::Client, now: NOW };
    assert!(new.append_as_leader(&sequenced(0), again).unwrap().duplicate);
    append(&new, 2, sequenced(2));
    let before = seen(&new);
    dirs.remove_due();
    assert_eq!((dirs.partition_dirs(0), dirs.partition_dirs(1)), (vec![], vec!["orders-0".into()]));
    assert!(!new.path().join("moved-from").exists());
    dirs.crash().await;
    assert_eq!(seen(&dirs.log()), before);
    // And back.
    let begun = dirs.manager().begin_move(&dirs.log(), &dirs.dir(0)).unwrap();
    dirs.manager().finish_move(&begun).unwrap();
    assert_eq!((seen(&dirs.log()), dirs.home()), (before, 0));
}

#[tokio::test]
async fn what_no_record_tells_moves_too() {
    let mut dirs = Dirs::new().await;
    let log = dirs.log();
    // The producer's records lie in segments before the start, and the next leader has written none.
    for _ in 0..10 {
        append(&log, 1, batch("of nobody"));
    }
    log.increment_log_start_offset(log.log_end_offset()).unwrap();
    log.assign_epoch_start(LeaderEpoch(6));
    let known = |log: &Log| (format!("{:?}", log.producers()), log.latest_epoch());
    let before = known(&log);
    assert!(before.0.contains("ProducerId(7)") && before.1 == Some(LeaderEpoch(6)), "{before:?}");
    let begun = dirs.begin();
    let new = dirs.manager().finish_move(&begun).unwrap();
    assert_eq!(known(&new), before);
    drop((log, begun, new));
    dirs.crash().await;
    // An epoch that wrote nothing is forgotten at every reopening (KIP-101): its leader tells it anew.
    assert_eq!((known(&dirs.log()), dirs.home()), ((before.0, None), 1));
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_one_log_and_all_of_it() {
    let (mut at_home, mut moved, mut last_change) = (0, 0, 0);
    loop {
        last_change += 1;
        let mut dirs = Dirs::new().await;
        let end_of_life = dirs.faults.changes.load(Ordering::Relaxed) + last_change;
        dirs.faults.last_change.store(end_of_life, Ordering::Relaxed);
        let _told = dirs.try_move();
        let survived = dirs.faults.changes.load(Ordering::Relaxed) < end_of_life;
        dirs.crash().await;
        let found = contents(dirs.manager(), &orders());
        let offsets: Vec<i64> = found.iter().map(|(offset, _)| *offset).collect();
        let end = offsets.last().copied().unwrap();
        assert!(offsets.iter().copied().eq(4..=end), "change {last_change}: {offsets:?}");
        assert!(end == 41 || end == 43, "change {last_change}: {end}");
        let log = dirs.log();
        assert_eq!(log.log_start_offset(), Offset(5), "change {last_change}");
        assert_eq!(log.producers().len(), 1, "change {last_change}");
        assert!(!log.path().join("moved-from").exists(), "change {last_change}");
        let all = [dirs.partition_dirs(0), dirs.partition_dirs(1)].concat();
        let whole: Vec<_> = all.iter().filter(|name| !name.ends_with("-delete")).collect();
        assert_eq!(whole, ["orders-0"], "change {last_change}");
        match dirs.home() {
            0 => at_home += 1,
            _ => moved += 1,
        }
        // It can be asked for again.
        if dirs.home() == 0 {
            dirs.try_move().unwrap();
            assert_eq!(dirs.home(), 1);
        }
        if survived {
            assert_eq!((end, at_home + moved), (43, last_change));
            break;
        }
    }
    assert!(at_home > 20 && moved > 1, "{at_home} times here, {moved} times there");
}

#[tokio::test]
async fn a_move_that_is_not_wanted_any_more_leaves_nothing() {
    let dirs = Dirs::new().await;
    let before = seen(&dirs.log());
    let begun = dirs.begin();
    begun.copy(500).unwrap();
    assert!(dirs.partition_dirs(1)[0].ends_with("-future"));
    dirs.manager().cancel_move(&begun);
    assert!(matches!(dirs.manager().finish_move(&begun), Err(MoveError::Cancelled)));
    assert!(begun.copy(500).is_err());
    dirs.remove_due();
    assert_eq!((seen(&dirs.log()), dirs.home()), (before, 0));
    assert!(dirs.partition_dirs(1).is_empty());
    // A stop in order leaves none either.
    let begun = dirs.begin();
    begun.copy(500).unwrap();
    dirs.manager().shutdown(1).await;
    assert!(!begun.future().path().exists());
}

#[tokio::test]
async fn what_is_copied_is_not_compacted_meanwhile() {
    let dirs = Dirs::new().await;
    let cleanup_policy = CleanupPolicy { delete: false, compact: true };
    dirs.log().update_config(LogConfig { cleanup_policy, ..small_segments() });
    let clean = || dirs.log().clean(&CleanerLimits::default(), NOW);
    let begun = dirs.begin();
    begun.copy(500).unwrap();
    assert!(matches!(clean(), Err(CleanError::Aborted)));
    dirs.manager().cancel_move(&begun);
    clean().unwrap();
    let begun = dirs.begin();
    dirs.manager().finish_move(&begun).unwrap();
    clean().unwrap();
}

#[tokio::test]
async fn a_log_that_is_deleted_or_cut_while_it_moves_does_not_come_back() {
    let dirs = Dirs::new().await;
    let begun = dirs.begin();
    begun.copy(500).unwrap();
    dirs.manager().truncate_to(&dirs.log(), Offset(20)).unwrap();
    append(&dirs.log(), 3, batch("another"));
    assert!(matches!(begun.copy(500), Err(MoveError::Cancelled)));
    assert!(matches!(dirs.manager().finish_move(&begun), Err(MoveError::Cancelled)));
    let begun = dirs.begin();
    begun.copy(500).unwrap();
    assert!(dirs.manager().delete_log(&orders()).unwrap());
    assert!(matches!(dirs.manager().finish_move(&begun), Err(MoveError::Cancelled)));
    dirs.remove_due();
    assert!(dirs.partition_dirs(0).is_empty() && dirs.partition_dirs(1).is_empty());
}

#[tokio::test]
async fn a_directory_that_fails_or_is_full_leaves_the_log_where_it_is() {
    let dirs = Dirs::new().await;
    let before = seen(&dirs.log());
    let begun = dirs.begin();
    begun.copy(500).unwrap();
    dirs.faults.leave_free(dirs.roots[1].path(), Some(200));
    let full = begun.copy(u64::MAX).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(full.contains("is full"), "{full}");
    dirs.manager().cancel_move(&begun);
    dirs.faults.leave_free(Path::new("/nowhere"), None);
    assert!(dirs.dir(1).failure().is_none());
    let begun = dirs.begin();
    dirs.faults.break_below(Some(dirs.roots[1].path()));
    assert!(begun.copy(u64::MAX).is_err());
    assert!(dirs.manager().finish_move(&begun).is_err());
    assert!(dirs.dir(1).failure().is_some() && dirs.dir(0).failure().is_none());
    assert_eq!((seen(&dirs.log()), dirs.home()), (before, 0));
    append(&dirs.log(), 1, batch("on it goes"));
}

/// Copies the files of a partition's directory.
fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn of_two_logs_that_a_crash_left_the_one_is_kept_that_has_all_records() {
    for is_written_since in [false, true] {
        let mut dirs = Dirs::new().await;
        let (from, to) = (dirs.dir(0).id().unwrap(), dirs.roots[1].path().join("orders-0"));
        let (old, kept) =
            (dirs.roots[0].path().join("orders-0"), dirs.roots[0].path().join("kept"));
        copy_dir(&old, &kept);
        let begun = dirs.begin();
        let log = dirs.manager().finish_move(&begun).unwrap();
        if is_written_since {
            append(&log, 1, batch("since"));
        }
        let before = seen(&log);
        drop((log, begun, dirs.manager.take()));
        // The power takes back that the old one was renamed, and that the mark was removed.
        copy_dir(&kept, &old);
        std::fs::write(to.join("moved-from"), format_uuid(from)).unwrap();
        dirs.crash().await;
        assert_eq!((seen(&dirs.log()), dirs.home()), (before, usize::from(is_written_since)));
    }
}

#[tokio::test]
async fn a_log_whose_disk_failed_before_it_was_renamed_does_not_come_back() {
    for is_cut in [false, true] {
        let mut dirs = Dirs::new().await;
        let begun = dirs.begin();
        begun.copy(u64::MAX).unwrap();
        dirs.faults.break_below(Some(&dirs.roots[0].path().join("orders-0")));
        let log = dirs.manager().finish_move(&begun).unwrap();
        assert!(dirs.dir(0).failure().is_some() && dirs.dir(1).failure().is_none());
        log.increment_log_start_offset(Offset(7)).unwrap();
        assert_eq!(dirs.manager().checkpoint_log_starts().len(), 0);
        if is_cut {
            // It is shorter than the old one now.
            dirs.manager().truncate_to(&log, Offset(20)).unwrap();
            append(&log, 5, batch("since"));
        }
        let before = seen(&log);
        drop((log, begun));
        dirs.crash().await;
        assert_eq!((seen(&dirs.log()), dirs.home()), (before.clone(), 1), "cut: {is_cut}");
        assert!(dirs.partition_dirs(0).iter().all(|name| name.ends_with("-delete")));
        assert!(!dirs.log().path().join("moved-from").exists());
        dirs.crash().await;
        assert_eq!((seen(&dirs.log()), dirs.home()), (before, 1), "cut: {is_cut}");
    }
}

#[tokio::test]
async fn a_log_that_lost_its_old_disk_and_moved_on_is_still_the_one() {
    let mut dirs = Dirs::with(vec![root(), root(), root()]).await;
    let begun = dirs.begin();
    begun.copy(u64::MAX).unwrap();
    dirs.faults.break_below(Some(&dirs.roots[0].path().join("orders-0")));
    dirs.manager().finish_move(&begun).unwrap();
    let begun = dirs.manager().begin_move(&dirs.log(), &dirs.dir(2)).unwrap();
    let log = dirs.manager().finish_move(&begun).unwrap();
    let before = seen(&log);
    drop((log, begun));
    dirs.crash().await;
    assert_eq!((seen(&dirs.log()), dirs.home()), (before, 2));
}

#[tokio::test]
async fn a_log_that_was_renamed_has_moved_whatever_else_fails() {
    let mut dirs = Dirs::new().await;
    let before = seen(&dirs.log());
    let begun = dirs.begin();
    dirs.faults.no_file_to_sync(dirs.roots[0].path());
    let log = dirs.manager().finish_move(&begun).unwrap();
    assert_eq!((seen(&log), dirs.home()), (before.clone(), 1));
    drop((log, begun));
    dirs.crash().await;
    assert_eq!((seen(&dirs.log()), dirs.home()), (before, 1));
}

#[tokio::test]
async fn two_logs_of_one_name_are_still_refused_if_no_move_left_them() {
    let mut dirs = Dirs::new().await;
    dirs.manager().shutdown(1).await;
    let (from, to) = (dirs.roots[0].path().join("orders-0"), dirs.roots[1].path().join("orders-0"));
    copy_dir(&from, &to);
    dirs.manager = None;
    let refused = LogManager::open(Env::os(), all(&dirs.roots)).await.err().unwrap();
    assert!(matches!(refused, ottla_storage::OpenError::DuplicateLog { .. }), "{refused}");
}

#[tokio::test]
async fn a_log_that_is_yet_to_come_is_made_where_it_was_wished_for() {
    let dirs = Dirs::new().await;
    let (next, other) = (TopicPartition::new("orders", 1), TopicPartition::new("orders", 2));
    let create = |partition| dirs.manager().create_log(partition, TOPIC, small_segments()).unwrap();
    // The second directory has fewer logs.
    dirs.manager().wish_for_dir(&next, &dirs.dir(0));
    assert!(create(&next).path().starts_with(dirs.roots[0].path()));
    assert!(create(&other).path().starts_with(dirs.roots[1].path()));
}
