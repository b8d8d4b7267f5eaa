//! A disk that is full: nothing is torn, nothing goes offline, and all goes on when there is room.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_config::LogConfig;
use ottla_env::Env;
use ottla_protocol::record_batch::{ControlRecordType, RecordBatchBuilder};
use ottla_protocol::{
    ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition,
};
use ottla_storage::{
    AppendError, AppendOrigin, CreateLogError, LeaderAppend, Log, LogDirFailure, LogManager,
    LogManagerOptions,
};
use tempfile::TempDir;

use crate::batches;
use crate::faulty_disk::{Faults, faulty_env};
use crate::log_manager::{TOPIC, contents, options};
use crate::single_log::root;

const RESERVED: u64 = 100_000;

struct SmallDisk {
    root: TempDir,
    faults: Arc<Faults>,
    manager: LogManager,
    log: Arc<Log>,
}

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

fn of(root: &TempDir, reserved: u64) -> LogManagerOptions {
    let mut options = options(root.path());
    options.config.reserved_bytes = reserved;
    options
}

/// Segments of one batch or two, and an index entry for each.
fn config() -> LogConfig {
    LogConfig { segment_bytes: 3000, index_interval_bytes: 0, ..LogConfig::default() }
}

impl SmallDisk {
    async fn keeping(reserved: u64) -> Self {
        Self::with(reserved, config()).await
    }

    async fn with(reserved: u64, config: LogConfig) -> Self {
        let root = root();
        let faults = Arc::new(Faults::default());
        let env = faulty_env(Env::os(), &faults);
        let manager = LogManager::open(env, of(&root, reserved)).await.unwrap();
        let log = manager.create_log(&orders(), TOPIC, config).unwrap();
        Self { root, faults, manager, log }
    }

    /// Fills the disk but for so many bytes; the housekeeping looks at it about each second.
    fn leave_free(&self, bytes: u64) {
        self.faults.leave_free(self.root.path(), Some(bytes));
        self.manager.housekeeping(Env::os().clock.wall());
    }

    fn append_as(&self, origin: AppendOrigin, value: &str) -> Result<Offset, AppendError> {
        let now = Env::os().clock.wall();
        let append = LeaderAppend { leader_epoch: LeaderEpoch(0), origin, now };
        let records = batches::builder(now.0, &[value]).build();
        Ok(self.log.append_as_leader(&records, append)?.first_offset)
    }

    fn append(&self, value: &str) -> Result<Offset, AppendError> {
        self.append_as(AppendOrigin::Client, value)
    }

    fn lengths(&self) -> Vec<usize> {
        contents(&self.manager, &orders()).into_iter().map(|(_, value)| value.len()).collect()
    }

    /// The next append is refused for want of room; the directory is online.
    fn assert_refused(&self, value: &str) -> String {
        let end = self.log.log_end_offset();
        let error = self.append(value).unwrap_err();
        assert!(matches!(error, AppendError::Storage(LogDirFailure::Full { .. })), "{error}");
        assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
        assert_eq!(self.log.log_end_offset(), end);
        assert!(self.log.log_dir().failure().is_none());
        error.to_string()
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root.path().join("orders-0")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|it| it == extension)).collect()
    }

    /// Starts again without having stopped in order.
    async fn crash(self) -> Self {
        let config = config();
        self.start_again(config).await
    }

    /// Stops in order, and starts again.
    async fn restart(self) -> Self {
        self.manager.shutdown(1).await;
        let config = LogConfig::clone(&self.log.config());
        self.start_again(config).await
    }

    async fn start_again(self, config: LogConfig) -> Self {
        let Self { root, faults, manager, log } = self;
        drop((manager, log));
        let env = faulty_env(Env::os(), &faults);
        let manager = LogManager::open(env, of(&root, 0)).await.unwrap();
        let log = manager.create_log(&orders(), TOPIC, config).unwrap();
        Self { root, faults, manager, log }
    }
}

#[tokio::test]
async fn producers_are_refused_before_the_reserve_is_touched() {
    let disk = SmallDisk::keeping(RESERVED).await;
    disk.leave_free(RESERVED + 5000);
    let batch = "x".repeat(2000);
    assert_eq!(disk.append(&batch).unwrap(), Offset(0));
    assert_eq!(disk.append(&batch).unwrap(), Offset(1));
    let files =
        |disk: &SmallDisk| std::fs::read_dir(disk.root.path().join("orders-0")).unwrap().count();
    let before = files(&disk);
    let sentence = disk.assert_refused(&batch);
    assert!(sentence.contains("log.dir.reserved.bytes keeps 100000"), "{sentence}");
    assert_eq!(files(&disk), before, "not even a new segment was made");
    disk.append("what fits still does").unwrap();
    // The budget is gone, but somebody made room: no restart, no waiting.
    disk.faults.leave_free(disk.root.path(), Some(RESERVED + 5000));
    assert_eq!(disk.append(&batch).unwrap(), Offset(3));
    assert_eq!(disk.lengths(), [2000, 2000, 20, 2000]);
}

#[tokio::test]
async fn others_that_use_the_disk_up_are_seen_within_a_second() {
    let disk = SmallDisk::keeping(RESERVED).await;
    disk.leave_free(10 * RESERVED);
    disk.append("a").unwrap();
    disk.leave_free(RESERVED / 2);
    disk.assert_refused("b");
    assert!(disk.log.log_dir().is_full());
    disk.leave_free(10 * RESERVED);
    assert!(!disk.log.log_dir().is_full());
    disk.append("c").unwrap();
}

#[tokio::test]
async fn the_reserve_is_for_deleting() {
    let disk = SmallDisk::keeping(RESERVED).await;
    for _ in 0..6 {
        disk.append(&"x".repeat(2000)).unwrap();
    }
    disk.log.set_high_watermark(Offset(6));
    disk.leave_free(RESERVED - 10_000);
    disk.assert_refused("a");
    // A coordinator's tombstones, checkpoints, DeleteRecords and retention, and topics.
    disk.append_as(AppendOrigin::Coordinator, "tombstone").unwrap();
    disk.manager.checkpoint_high_watermarks();
    disk.log.increment_log_start_offset(Offset(4)).unwrap();
    let hour = Timestamp(Env::os().clock.wall().0 + 3_600_000);
    disk.manager.housekeeping(hour);
    assert_eq!(disk.log.log_start_offset(), Offset(4));
    disk.manager.housekeeping(Timestamp(hour.0 + 3_600_000));
    disk.append(&"x".repeat(2000)).unwrap_err();
    assert!(disk.root.path().join("replication-offset-checkpoint").exists());
    // But no new topic.
    let other = TopicPartition::new("other", 0);
    let refused = disk.manager.create_log(&other, TOPIC, config()).err().unwrap();
    assert!(matches!(refused, CreateLogError::Storage(LogDirFailure::Full { .. })), "{refused}");
    assert!(!disk.root.path().join("other-0").exists());
    assert!(disk.manager.delete_log(&orders()).unwrap());
}

#[tokio::test]
async fn coordinators_leave_half_of_the_reserve() {
    let disk = SmallDisk::keeping(RESERVED).await;
    disk.leave_free(RESERVED / 2 + 500);
    disk.append_as(AppendOrigin::Coordinator, "small").unwrap();
    disk.append_as(AppendOrigin::Coordinator, &"x".repeat(600)).unwrap_err();
}

#[tokio::test]
async fn an_append_that_did_not_fit_leaves_nothing_behind() {
    let disk = SmallDisk::with(0, LogConfig::default()).await;
    disk.append("before").unwrap();
    let segment = disk.root.path().join("orders-0/00000000000000000000.log");
    let size = segment.metadata().unwrap().len();
    disk.faults.leave_quota(disk.root.path(), Some(1000));
    disk.assert_refused(&"x".repeat(2000));
    assert_eq!(segment.metadata().unwrap().len(), size);
    disk.append("small").unwrap();
    disk.faults.leave_quota(disk.root.path(), None);
    assert_eq!(disk.append("after").unwrap(), Offset(2));
    let disk = disk.crash().await;
    assert_eq!(disk.lengths(), [6, 5, 5]);
}

/// Works on a log while only `free` bytes are left and nobody knows; then there is room again.
async fn work_with(free: u64) {
    let disk = SmallDisk::keeping(0).await;
    let mut acknowledged = Vec::new();
    let mut append = |disk: &SmallDisk, len: usize| {
        let expected = Offset(acknowledged.len() as i64);
        match disk.append(&"x".repeat(len)) {
            Ok(offset) => {
                assert_eq!(offset, expected);
                acknowledged.push(len);
            }
            Err(AppendError::Storage(LogDirFailure::Full { .. })) => {}
            Err(error) => panic!("with {free} bytes: {error}"),
        }
    };
    append(&disk, 2000);
    append(&disk, 2000);
    disk.faults.leave_quota(disk.root.path(), Some(free));
    for len in [2000, 10, 2500, 900, 10] {
        append(&disk, len);
        let flushed = disk.log.flush(disk.log.log_end_offset());
        assert!(matches!(flushed, Ok(()) | Err(LogDirFailure::Full { .. })), "{flushed:?}");
        disk.manager.checkpoint_high_watermarks();
    }
    let minutes = Timestamp(Env::os().clock.wall().0 + 120_000);
    disk.manager.housekeeping(minutes);
    let other = TopicPartition::new("other", 0);
    let made = disk.manager.create_log(&other, TOPIC, config());
    assert_eq!(made.is_ok(), disk.root.path().join("other-0").exists(), "half made");
    assert!(disk.manager.offline_dirs().is_empty(), "offline with {free} bytes");

    disk.faults.leave_quota(disk.root.path(), None);
    append(&disk, 2000);
    disk.log.flush(disk.log.log_end_offset()).unwrap();
    assert_eq!(disk.log.recovery_point(), disk.log.log_end_offset());
    disk.manager.create_log(&other, TOPIC, config()).unwrap();
    disk.manager.housekeeping(Timestamp(minutes.0 + 120_000));
    append(&disk, 10);
    assert_eq!(disk.lengths(), acknowledged, "with {free} bytes");
    let disk = disk.crash().await;
    assert_eq!(disk.lengths(), acknowledged, "with {free} bytes, after a crash");
    let left_over = std::fs::read_dir(disk.root.path()).unwrap();
    let names = left_over.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.ends_with(".tmp")).count(), 0);
}

#[tokio::test]
async fn wherever_the_disk_fills_up_nothing_acknowledged_is_lost_and_nothing_is_torn() {
    for free in (0..400).step_by(7).chain((400..9000).step_by(61)) {
        work_with(free).await;
    }
}

/// Index files hold whole entries of the whole segment, or are not there.
#[tokio::test]
async fn an_index_for_which_there_is_no_room_is_not_there_in_part() {
    for free in (0..300).step_by(3) {
        let disk = SmallDisk::keeping(0).await;
        for _ in 0..60 {
            disk.append("0123456789").unwrap();
        }
        assert!(disk.log.segment_count() > 1);
        disk.faults.leave_quota(disk.root.path(), Some(free));
        let flushed = disk.log.flush(disk.log.log_end_offset());
        assert!(matches!(flushed, Ok(()) | Err(LogDirFailure::Full { .. })), "{flushed:?}");
        for (extension, entry) in [("index", 8), ("timeindex", 12)] {
            for file in disk.files(extension) {
                let len = file.metadata().unwrap().len();
                assert!(len > 0 && len % entry == 0, "{len} bytes of {file:?} with {free} free");
            }
        }
        assert!(disk.manager.offline_dirs().is_empty());
    }
}

#[tokio::test]
async fn a_stop_on_a_full_disk_is_no_clean_one() {
    let disk = SmallDisk::keeping(0).await;
    for _ in 0..30 {
        disk.append("a").unwrap();
    }
    // There is room for the checkpoints and the mark, but not for the indexes.
    disk.faults.leave_quota(disk.root.path(), Some(150));
    disk.manager.shutdown(1).await;
    assert!(disk.root.path().join("recovery-point-offset-checkpoint").exists());
    assert!(!disk.root.path().join(".kafka_cleanshutdown").exists());
    disk.faults.leave_quota(disk.root.path(), None);
    let disk = disk.crash().await;
    assert_eq!(disk.lengths(), [1; 30]);
}

#[tokio::test]
async fn a_sync_that_finds_no_room_is_a_failed_disk() {
    let disk = SmallDisk::keeping(0).await;
    disk.append("a").unwrap();
    disk.faults.sync_finds_no_room.store(true, Ordering::Relaxed);
    let error = disk.log.flush(Offset(1)).unwrap_err();
    assert!(matches!(error, LogDirFailure::Offline { .. }), "{error}");
}

#[tokio::test]
async fn a_segment_that_cannot_be_allocated_is_not_begun() {
    let config = LogConfig { preallocate: true, segment_bytes: 100_000, ..config() };
    let disk = SmallDisk::with(0, config).await;
    disk.append(&"x".repeat(60_000)).unwrap();
    disk.faults.leave_quota(disk.root.path(), Some(90_000));
    disk.assert_refused(&"x".repeat(60_000));
    assert_eq!(disk.log.segment_count(), 1);
    assert_eq!(disk.files("log").len(), 1, "it would end the log where it begins");
    disk.append(&"x".repeat(20_000)).unwrap();
    disk.faults.leave_quota(disk.root.path(), None);
    disk.append(&"x".repeat(60_000)).unwrap();
    let disk = disk.crash().await;
    assert_eq!(disk.lengths(), [60_000, 20_000, 60_000]);
}

#[tokio::test]
async fn a_segment_that_could_not_be_begun_does_not_cost_what_a_stop_noted_of_producers() {
    // No room for a snapshot; room for it, but not for the segment.
    for free in [0, 1000] {
        let config = LogConfig { preallocate: true, ..config() };
        let disk = SmallDisk::with(0, config).await;
        let batch = |sequence, value: &str| {
            let builder = batches::builder(0, &[value]);
            builder.producer(ProducerId(9), ProducerEpoch(0), sequence).build()
        };
        let now = Env::os().clock.wall();
        let (leader_epoch, origin) = (LeaderEpoch(0), AppendOrigin::Client);
        let append = LeaderAppend { leader_epoch, origin, now };
        disk.log.append_as_leader(&batch(0, &"x".repeat(2000)), append).unwrap();
        let disk = disk.restart().await;
        disk.faults.leave_quota(disk.root.path(), Some(free));
        disk.assert_refused(&"x".repeat(2000));
        assert_eq!(disk.files("log").len(), 1);
        disk.faults.leave_quota(disk.root.path(), None);
        let disk = disk.restart().await;
        let again = disk.log.append_as_leader(&batch(0, &"x".repeat(2000)), append).unwrap();
        assert!(again.duplicate, "with {free} bytes: {again:?}");
    }
}

/// Others fill the disk while the log is at work: nothing fits any more, whatever it gives back.
fn fill(disk: &SmallDisk) {
    disk.faults.leave_quota(disk.root.path(), Some(0));
    std::fs::write(disk.root.path().join("others"), vec![0; 1 << 20]).unwrap();
}

#[tokio::test]
async fn an_abort_is_known_though_its_index_found_no_room() {
    let transaction = |end: Option<ControlRecordType>| {
        let builder = match end {
            Some(_) => RecordBatchBuilder::new().control(),
            None => batches::builder(0, &["void"]),
        };
        let sequence = if end.is_some() { -1 } else { 0 };
        let mut builder =
            builder.transactional().producer(ProducerId(9), ProducerEpoch(0), sequence);
        if let Some(end) = end {
            builder.append_control(end, Timestamp(0), &[0; 6]);
        }
        builder.build()
    };
    let (leader_epoch, origin) = (LeaderEpoch(0), AppendOrigin::Coordinator);
    let append = LeaderAppend { leader_epoch, origin, now: Timestamp(0) };
    let aborted = |disk: &SmallDisk| {
        let end = disk.log.log_end_offset();
        disk.log.set_high_watermark(end);
        let data = disk.log.read_committed(Offset(0), 1 << 20, true, end).unwrap();
        data.aborted_txns.iter().map(|txn| txn.first_offset.0).collect::<Vec<_>>()
    };
    for free in (0..300).step_by(3) {
        let disk = SmallDisk::keeping(0).await;
        let mut wanted = Vec::new();
        disk.faults.leave_quota(disk.root.path(), Some(200 + free));
        while disk.log.append_as_leader(&transaction(None), append).is_ok() {
            let begun = disk.log.log_end_offset().0 - 1;
            match disk.log.append_as_leader(&transaction(Some(ControlRecordType::Abort)), append) {
                Ok(_) => wanted.push(begun),
                Err(AppendError::Storage(LogDirFailure::Full { .. })) => break,
                Err(error) => panic!("with {free} bytes: {error}"),
            }
        }
        assert!(!wanted.is_empty());
        assert_eq!(aborted(&disk), wanted, "with {free} bytes");
        let flushed = disk.log.flush(disk.log.log_end_offset());
        assert!(matches!(flushed, Ok(()) | Err(LogDirFailure::Full { .. })), "{flushed:?}");
        // Once with a start that finds no room either.
        let disk = match free % 4 {
            1 => disk.crash().await,
            _ => disk,
        };
        assert_eq!(aborted(&disk), wanted, "with {free} bytes, still full");
        disk.faults.leave_quota(disk.root.path(), None);
        let disk = match free % 2 {
            0 => disk.crash().await,
            _ => disk,
        };
        assert_eq!(aborted(&disk), wanted, "with {free} bytes, when there is room again");
        disk.log.flush(disk.log.log_end_offset()).unwrap();
        let disk = disk.restart().await;
        assert_eq!(aborted(&disk), wanted, "with {free} bytes, after a start");
    }
}

#[tokio::test]
async fn a_truncation_needs_no_room() {
    for preallocate in [false, true] {
        let config = LogConfig { preallocate, ..config() };
        let disk = SmallDisk::with(0, config).await;
        for _ in 0..10 {
            disk.append("0123456789").unwrap();
        }
        fill(&disk);
        disk.log.truncate_to(Offset(8)).unwrap();
        assert_eq!(disk.lengths(), [10; 8]);
        disk.log.truncate_fully_and_start_at(Offset(20)).unwrap();
        assert!(disk.manager.offline_dirs().is_empty());
        disk.faults.leave_quota(disk.root.path(), None);
        assert_eq!(disk.append("more").unwrap(), Offset(20));
        let disk = disk.restart().await;
        assert_eq!(disk.lengths(), [4]);
    }
}
