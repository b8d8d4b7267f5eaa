//! What partitions cost that nobody uses: making them, holding them, starting with them.
//! `cargo run --profile quick -p ottla-storage --example idle_partitions`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::path::Path;
use std::time::Duration;

use ottla_config::{LogConfig, LogManagerConfig};
use ottla_env::Env;
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder};
use ottla_protocol::{BrokerId, LeaderEpoch, TopicId, TopicPartition};
use ottla_storage::{AppendOrigin, LeaderAppend, LogManager, LogManagerOptions};

const PARTITIONS: i32 = 10_000;

#[tokio::main]
async fn main() {
    let env = Env::os();
    let root = Path::new("/tmp/idle_partitions");
    let timed = |what: &str, from| {
        let took = env.clock.now().since(from);
        println!(
            "{what:<42} {:>9.1} ms, {:>5} KiB resident",
            took.as_secs_f64() * 1e3,
            resident(&env)
        );
    };
    let started = env.clock.now();
    let manager = LogManager::open(env.clone(), options(root)).await.unwrap();
    timed("an empty directory opens", started);

    let started = env.clock.now();
    for partition in 0..PARTITIONS {
        let partition = TopicPartition::new("idle", partition);
        let topic_id = TopicId::from_bytes([1; 16]);
        manager.create_log(&partition, topic_id, LogConfig::default()).unwrap();
    }
    timed("10 000 partitions are made", started);

    let started = env.clock.now();
    for log in manager.logs() {
        let mut batch = RecordBatchBuilder::new();
        let now = env.clock.wall();
        batch.append(&NewRecord { timestamp: now, value: Some(&[7; 100]), ..NewRecord::default() });
        let (leader_epoch, origin) = (LeaderEpoch(0), AppendOrigin::Client);
        log.append_as_leader(&batch.build(), LeaderAppend { leader_epoch, origin, now }).unwrap();
    }
    timed("each takes a record", started);

    let started = env.clock.now();
    manager.housekeeping(env.clock.wall());
    timed("a round of housekeeping", started);

    drop(manager);
    let started = env.clock.now();
    let manager = LogManager::open(env.clone(), options(root)).await.unwrap();
    timed("they open after a crash of the process", started);

    let started = env.clock.now();
    manager.shutdown(-1).await;
    timed("they are shut down", started);
    drop(manager);

    let started = env.clock.now();
    let manager = LogManager::open(env.clone(), options(root)).await.unwrap();
    timed("they open after a clean shutdown", started);
    drop(manager);
    env.disk.remove_dir_all(root).unwrap();
}

/// Memory that this process holds, in KiB.
fn resident(env: &Env) -> u64 {
    let status = env.disk.read(Path::new("/proc/self/status")).unwrap();
    let status = String::from_utf8_lossy(&status).into_owned();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default()
}

fn options(root: &Path) -> LogManagerOptions {
    let minute = Duration::from_secs(60);
    LogManagerOptions {
        dirs: vec![root.to_owned()],
        node_id: BrokerId(1),
        cluster_id: None,
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
            max_open_files: 4096,
            producer_id_expiration: minute,
            dir_sync_max_bytes: 1 << 30,
            dir_checkpoint_bytes: 1 << 30,
        },
        max_open_files: 500,
    }
}
