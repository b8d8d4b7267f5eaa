//! A node's log directories across starts: locks, identity, clean and unclean ends, deletion.

use std::path::Path;
use std::time::Duration;

use crate::batches;
use ottla_config::{LogConfig, LogManagerConfig};
use ottla_env::Env;
use ottla_protocol::{BrokerId, LeaderEpoch, Offset, TopicId, TopicPartition, format_uuid};
use ottla_storage::{AppendOrigin, LeaderAppend, LogManager, LogManagerOptions};

const TOPIC: TopicId = TopicId::from_bytes([7; 16]);

fn options(dir: &Path) -> LogManagerOptions {
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
            producer_id_expiration: minute,
        },
        max_open_files: 4,
    }
}

async fn open(dir: &Path) -> LogManager {
    LogManager::open(Env::os(), options(dir)).await.unwrap()
}

fn append(manager: &LogManager, partition: &TopicPartition, values: &[&str]) -> Offset {
    let now = Env::os().clock.wall();
    let append = LeaderAppend { leader_epoch: LeaderEpoch(3), origin: AppendOrigin::Client, now };
    let records = batches::builder(now.0, values).build();
    let log = manager.log(partition).unwrap();
    log.append_as_leader(&records, append).unwrap().first_offset
}

fn contents(manager: &LogManager, partition: &TopicPartition) -> Vec<(i64, String)> {
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
}
