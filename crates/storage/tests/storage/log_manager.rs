//! A node's log directories across starts: locks, identity, clean and unclean ends, deletion.

use std::path::Path;
use std::time::Duration;

use crate::batches;
use ottla_config::{LogConfig, LogManagerConfig};
use ottla_env::Env;
use ottla_protocol::{
    BrokerId, ErrorCode, LeaderEpoch, Offset, Timestamp, TopicId, TopicPartition, format_uuid,
};
use ottla_storage::{
    AppendOrigin, CreateLogError, LeaderAppend, LogDirFailure, LogManager, LogManagerOptions,
    OpenError,
};

pub(crate) const TOPIC: TopicId = TopicId::from_bytes([7; 16]);

pub(crate) fn options(dir: &Path) -> LogManagerOptions {
    let minute = Duration::from_secs(60);
    LogManagerOptions {
        dirs: vec![dir.to_owned()],
        node_id: BrokerId(1),
        cluster_id: Some("cluster".to_owned()),
        config: LogManagerConfig {
            defaults: LogConfig::default(),
            recovery_threads_per_data_dir: 2,
            retention_check_interval: minute,
            flush_scheduler_interval: None,
            flush_offset_checkpoint_interval: minute,
            flush_start_offset_checkpoint_interval: minute,
            initial_task_delay: minute,
            log_dir_failure_timeout: minute,
            reserved_bytes: 0,
            max_open_files: 4,
            producer_id_expiration: minute,
            dir_sync_max_bytes: 1 << 30,
            dir_checkpoint_bytes: 1 << 30,
        },
        max_open_files: 4,
    }
}

async fn open(dir: &Path) -> LogManager {
    LogManager::open(Env::os(), options(dir)).await.unwrap()
}

pub(crate) fn append(manager: &LogManager, partition: &TopicPartition, values: &[&str]) -> Offset {
    let now = Env::os().clock.wall();
    let append = LeaderAppend { leader_epoch: LeaderEpoch(3), origin: AppendOrigin::Client, now };
    let records = batches::builder(now.0, values).build();
    let log = manager.log(partition).unwrap();
    log.append_as_leader(&records, append).unwrap().first_offset
}

pub(crate) fn contents(manager: &LogManager, partition: &TopicPartition) -> Vec<(i64, String)> {
    let log = manager.log(partition).unwrap();
    let data = log.read(log.log_start_offset(), usize::MAX, true, log.log_end_offset()).unwrap();
    batches::decode(&data.read().unwrap())
}

#[tokio::test]
async fn records_survive_a_clean_restart() {
    let dir = tempfile::tempdir().unwrap();
    let orders = TopicPartition::new("orders", 0);
    let manager = open(dir.path()).await;
    manager.create_log(&orders, TOPIC, LogConfig::default()).unwrap();
    assert_eq!(append(&manager, &orders, &["a", "b"]), Offset(0));
    assert_eq!(append(&manager, &orders, &["c"]), Offset(2));
    assert_eq!(manager.previous_epoch(), -1);
    let expected = vec![(0, "a".to_owned()), (1, "b".to_owned()), (2, "c".to_owned())];
    assert_eq!(contents(&manager, &orders), expected);
    manager.shutdown(5).await;
    drop(manager);

    let partition_dir = dir.path().join("orders-0");
    let mark = std::fs::read_to_string(dir.path().join(".kafka_cleanshutdown")).unwrap();
    assert_eq!(mark, r#"{"version":0,"brokerEpoch":5}"#);
    let recovery = dir.path().join("recovery-point-offset-checkpoint");
    assert_eq!(std::fs::read_to_string(recovery).unwrap(), "0\n1\norders 0 3\n");
    let epochs = std::fs::read_to_string(partition_dir.join("leader-epoch-checkpoint")).unwrap();
    assert_eq!(epochs, "0\n1\n3 0\n");
    let metadata = std::fs::read_to_string(partition_dir.join("partition.metadata")).unwrap();
    assert_eq!(metadata, format!("version: 0\ntopic_id: {}", format_uuid(TOPIC)));

    let manager = open(dir.path()).await;
    let log = manager.log(&orders).unwrap();
    assert_eq!(log.topic_id(), Some(TOPIC));
    assert_eq!(log.recovery_point(), Offset(3));
    assert_eq!(contents(&manager, &orders), expected);
    assert!(!dir.path().join(".kafka_cleanshutdown").exists(), "a crash from now on is a crash");
    assert_eq!(manager.previous_epoch(), 5);
    drop((log, manager));
    assert_eq!(open(dir.path()).await.previous_epoch(), -1, "it crashed");
}

#[tokio::test]
async fn a_directory_in_use_or_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path()).await;
    let error = LogManager::open(Env::os(), options(dir.path())).await.err().unwrap();
    assert!(matches!(error, OpenError::Locked { .. }));
    assert!(error.to_string().contains("in use by another process: stop it"), "{error}");
    drop(manager);

    let mut other = options(dir.path());
    other.node_id = BrokerId(2);
    let error = LogManager::open(Env::os(), other).await.err().unwrap();
    assert!(error.to_string().contains("belongs to node 1, not to 2: set node.id=1"), "{error}");

    let mut other = options(dir.path());
    other.cluster_id = Some("another".to_owned());
    let error = LogManager::open(Env::os(), other).await.err().unwrap();
    assert!(error.to_string().contains("belongs to cluster cluster, not to another"), "{error}");

    std::fs::remove_file(dir.path().join("meta.properties")).unwrap();
    std::fs::create_dir(dir.path().join("orders-0")).unwrap();
    let error = LogManager::open(Env::os(), options(dir.path())).await.err().unwrap();
    assert!(matches!(error, OpenError::NotFormatted { .. }), "{error}");
}

#[tokio::test]
async fn an_empty_directory_is_formatted_and_keeps_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let mut anonymous = options(dir.path());
    anonymous.cluster_id = None;
    let manager = LogManager::open(Env::os(), anonymous.clone()).await.unwrap();
    let (cluster, id) =
        (manager.cluster_id().to_owned(), manager.dirs().next().unwrap().id().unwrap());
    drop(manager);
    let text = std::fs::read_to_string(dir.path().join("meta.properties")).unwrap();
    let directory = format_uuid(id);
    assert_eq!(
        text,
        format!("cluster.id={cluster}\ndirectory.id={directory}\nnode.id=1\nversion=1\n")
    );
    let manager = LogManager::open(Env::os(), anonymous).await.unwrap();
    assert_eq!(
        (manager.cluster_id(), manager.dirs().next().unwrap().id().unwrap()),
        (&*cluster, id)
    );
}

#[tokio::test]
async fn everything_written_before_a_crash_of_the_process_is_there_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let partitions: Vec<_> = (0..20).map(|p| TopicPartition::new("orders", p)).collect();
    let manager = open(dir.path()).await;
    for partition in &partitions {
        manager.create_log(partition, TOPIC, LogConfig::default()).unwrap();
        append(&manager, partition, &["a", "b"]);
    }
    drop(manager);
    let manager = open(dir.path()).await;
    for partition in &partitions {
        assert_eq!(contents(&manager, partition).len(), 2);
        assert_eq!(manager.log(partition).unwrap().topic_id(), Some(TOPIC));
    }
}

#[tokio::test]
async fn a_deleted_log_is_gone_at_once_and_its_files_later() {
    let dir = tempfile::tempdir().unwrap();
    let orders = TopicPartition::new("orders", 0);
    let manager = open(dir.path()).await;
    let config = LogConfig { file_delete_delay: Duration::from_secs(60), ..LogConfig::default() };
    let log = manager.create_log(&orders, TOPIC, config.clone()).unwrap();
    append(&manager, &orders, &["a"]);
    let held = log.read(Offset(0), 100, true, Offset(1)).unwrap();
    assert!(manager.delete_log(&orders).unwrap());
    assert!(manager.log(&orders).is_none());
    assert_eq!(batches::decode(&held.read().unwrap()).len(), 1, "a reader keeps its file");
    let append = LeaderAppend {
        leader_epoch: LeaderEpoch(0),
        origin: AppendOrigin::Client,
        now: Timestamp(0),
    };
    let error = log.append_as_leader(&batches::builder(0, &["b"]).build(), append).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
    assert!(manager.offline_dirs().is_empty(), "a deleted log is no failed disk");

    let other = TopicId::from_bytes([8; 16]);
    manager.create_log(&orders, other, config).unwrap();
    assert_eq!(contents(&manager, &orders), []);
    assert_eq!(deleted_dirs(dir.path()), 1);
    let now = Env::os().clock.wall();
    manager.housekeeping(now);
    assert_eq!(deleted_dirs(dir.path()), 1);
    manager.housekeeping(Timestamp(now.0 + 61_000));
    assert_eq!(deleted_dirs(dir.path()), 0);
}

#[tokio::test]
async fn a_sync_that_comes_after_the_deletion_is_no_failure_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path()).await;
    let orders = TopicPartition::new("orders", 0);
    let log = manager.create_log(&orders, TOPIC, LogConfig::default()).unwrap();
    append(&manager, &orders, &["a"]);
    manager.delete_log(&orders).unwrap();
    assert!(matches!(log.flush(Offset(1)), Err(LogDirFailure::Closed)));
    assert!(log.log_dir().failure().is_none());
}

fn deleted_dirs(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().ends_with("-delete"))
        .count()
}

#[tokio::test]
async fn what_was_being_deleted_is_gone_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let orders = TopicPartition::new("orders", 0);
    let manager = open(dir.path()).await;
    manager.create_log(&orders, TOPIC, LogConfig::default()).unwrap();
    manager.delete_log(&orders).unwrap();
    drop(manager);
    assert_eq!(deleted_dirs(dir.path()), 1);
    let manager = open(dir.path()).await;
    assert_eq!(deleted_dirs(dir.path()), 0);
    assert!(manager.logs().is_empty());
}

#[tokio::test]
async fn a_log_of_an_older_topic_of_the_same_name_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let orders = TopicPartition::new("orders", 0);
    let manager = open(dir.path()).await;
    manager.create_log(&orders, TOPIC, LogConfig::default()).unwrap();
    let again = manager.create_log(&orders, TOPIC, LogConfig::default());
    assert!(again.is_ok());
    let other = TopicId::from_bytes([8; 16]);
    let error = manager.create_log(&orders, other, LogConfig::default()).err().unwrap();
    assert!(matches!(error, CreateLogError::InconsistentTopicId { .. }));
}

#[tokio::test]
async fn housekeeping_writes_the_checkpoints_when_they_are_due() {
    let dir = tempfile::tempdir().unwrap();
    let orders = TopicPartition::new("orders", 0);
    let manager = open(dir.path()).await;
    let log = manager.create_log(&orders, TOPIC, LogConfig::default()).unwrap();
    append(&manager, &orders, &["a", "b"]);
    log.flush(Offset(2)).unwrap();
    log.increment_log_start_offset(Offset(1)).unwrap();
    log.set_high_watermark(Offset(2));
    manager.checkpoint_high_watermarks();
    let recovery_point = dir.path().join("recovery-point-offset-checkpoint");
    let now = Env::os().clock.wall();
    manager.housekeeping(now);
    assert!(!recovery_point.exists());
    manager.housekeeping(Timestamp(now.0 + 61_000));
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("recovery-point-offset-checkpoint"), "0\n1\norders 0 2\n");
    assert_eq!(read("log-start-offset-checkpoint"), "0\n1\norders 0 1\n");
    assert_eq!(read("replication-offset-checkpoint"), "0\n1\norders 0 2\n");
    drop((log, manager));
    let log = open(dir.path()).await.log(&orders).unwrap();
    assert_eq!((log.log_start_offset(), log.high_watermark()), (Offset(1), Offset(2)));
}

#[tokio::test]
async fn a_log_at_rest_is_looked_after_again_once_something_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let orders = TopicPartition::new("orders", 0);
    let manager = open(dir.path()).await;
    let config = LogConfig { segment_bytes: 200, ..LogConfig::default() };
    let flushing = LogConfig { flush_ms: Some(Duration::from_secs(1)), ..config.clone() };
    let log = manager.create_log(&orders, TOPIC, flushing).unwrap();
    let started = Env::os().clock.wall().0;
    let mut seconds = 0;
    let mut is_synced_up_to = |offset| {
        // Once more: at rest nothing is done, and nothing is lost.
        for _ in 0..2 {
            seconds += 2;
            manager.housekeeping(Timestamp(started + seconds * 1000));
            assert_eq!(log.recovery_point(), Offset(offset));
        }
    };
    is_synced_up_to(0);
    append(&manager, &orders, &["a"]);
    is_synced_up_to(1);
    append(&manager, &orders, &["b", "c"]);
    is_synced_up_to(3);
    manager.truncate_to(&log, Offset(1)).unwrap();
    append(&manager, &orders, &["d"]);
    is_synced_up_to(2);
    log.update_config(config);
    append(&manager, &orders, &[&"e".repeat(100)]);
    append(&manager, &orders, &["f"]);
    // Without `flush.ms` only what is sealed.
    is_synced_up_to(3);
}

#[tokio::test]
async fn new_logs_go_where_the_fewest_are() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut both = options(dirs[0].path());
    both.dirs.push(dirs[1].path().to_owned());
    let manager = LogManager::open(Env::os(), both).await.unwrap();
    for partition in 0..4 {
        let partition = TopicPartition::new("orders", partition);
        manager.create_log(&partition, TOPIC, LogConfig::default()).unwrap();
    }
    for dir in &dirs {
        let held = manager.logs().iter().filter(|log| log.path().starts_with(dir.path())).count();
        assert_eq!(held, 2);
    }
}

#[tokio::test]
async fn few_open_files_serve_many_logs() {
    let dir = tempfile::tempdir().unwrap();
    let manager = open(dir.path()).await;
    let partitions: Vec<_> = (0..50).map(|p| TopicPartition::new("orders", p)).collect();
    for partition in &partitions {
        manager.create_log(partition, TOPIC, LogConfig::default()).unwrap();
    }
    for round in 0..3 {
        for partition in &partitions {
            append(&manager, partition, &["a"]);
            assert_eq!(contents(&manager, partition).len(), round + 1);
        }
    }
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter(|fd| {
        let target = std::fs::read_link(fd.as_ref().unwrap().path()).unwrap_or_default();
        target.starts_with(dir.path()) && target.extension().is_some_and(|e| e == "log")
    });
    assert!(open.count() <= 4);
}

#[tokio::test]
async fn no_checkpoint_of_a_log_that_is_gone_is_left_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let orders = TopicPartition::new("orders", 0);
    drop(open(dir.path()).await);
    let names = ["recovery-point", "log-start", "replication", "cleaner"];
    for name in names {
        let file = dir.path().join(format!("{name}-offset-checkpoint"));
        std::fs::write(&file, "0\n1\norders 0 17\n").unwrap();
        let manager = open(dir.path()).await;
        manager.create_log(&orders, TOPIC, LogConfig::default()).unwrap();
        let left = std::fs::read_to_string(&file).unwrap();
        assert!(!left.contains("17"), "{name}: a crash from now on would trust {left:?}");
        assert!(manager.delete_log(&orders).unwrap());
    }
}
