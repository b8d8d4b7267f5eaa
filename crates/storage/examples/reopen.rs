//! How long a node with 100 GiB in 1,000 partitions takes to open them: after its process was
//! killed in the middle of writing, and after a clean stop. Sealed segments are sparse files, the
//! active ones are real. `cargo run --profile quick -p ottla-storage --example reopen [DIRECTORY]`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use ottla_config::{BrokerConfig, LogConfig};
use ottla_env::{Env, OpenMode};
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder};
use ottla_protocol::{BrokerId, LeaderEpoch, TopicId, TopicPartition};
use ottla_storage::{AppendOrigin, LeaderAppend, Log, LogManager, LogManagerOptions};

const PARTITIONS: usize = 1_000;
const SEALED_BYTES: u64 = 94 << 20;
const ACTIVE_BYTES: usize = 8 << 20;
const BATCH_BYTES: usize = 16 << 10;
/// As often as a second passes at one GiB a second.
const HOUSEKEEPING_BYTES: usize = 1 << 30;

#[tokio::main]
async fn main() {
    let env = Env::os();
    let root = std::env::args().nth(1).unwrap_or_else(|| "/tmp/reopen".to_owned());
    let root = Path::new(&root);
    let manager = open(&env, root).await.0;
    fill(&env, &manager);
    drop(manager);
    let (manager, took) = open(&env, root).await;
    report("killed", &manager, took);
    manager.shutdown(-1).await;
    drop(manager);
    for _ in 0..3 {
        let (manager, took) = open(&env, root).await;
        report("stopped", &manager, took);
        manager.shutdown(-1).await;
    }
    env.disk.remove_dir_all(root).unwrap();
}

/// Writes to all partitions in turn, as many producers would.
fn fill(env: &Env, manager: &LogManager) {
    let (batch, topic_id) = (batch(env), TopicId::from_bytes([1; 16]));
    let small = LogConfig { segment_bytes: BATCH_BYTES as u32 + 1000, ..LogConfig::default() };
    let logs: Vec<_> = (0..PARTITIONS as i32)
        .map(|partition| {
            let partition = TopicPartition::new("t", partition);
            let log = manager.create_log(&partition, topic_id, small.clone()).unwrap();
            append(env, &log, &batch);
            append(env, &log, &batch);
            log.update_config(LogConfig::default());
            log
        })
        .collect();
    manager.housekeeping(env.clock.wall());
    for log in &logs {
        let sealed =
            env.disk.open(&log.path().join("00000000000000000000.log"), OpenMode::ReadWrite);
        sealed.unwrap().set_len(SEALED_BYTES).unwrap();
    }
    let mut written = 0;
    for _ in 0..ACTIVE_BYTES / BATCH_BYTES {
        for log in &logs {
            append(env, log, &batch);
            written += batch.len();
            if written >= HOUSEKEEPING_BYTES {
                manager.housekeeping(env.clock.wall());
                written = 0;
            }
        }
    }
}

fn append(env: &Env, log: &Log, batch: &Bytes) {
    let (leader_epoch, origin, now) = (LeaderEpoch(0), AppendOrigin::Client, env.clock.wall());
    log.append_as_leader(batch, LeaderAppend { leader_epoch, origin, now }).unwrap();
}

fn batch(env: &Env) -> Bytes {
    let mut builder = RecordBatchBuilder::new();
    while builder.size() < BATCH_BYTES {
        let timestamp = env.clock.wall();
        builder.append(&NewRecord { timestamp, value: Some(&[7; 100]), ..NewRecord::default() });
    }
    builder.build()
}

async fn open(env: &Env, root: &Path) -> (LogManager, Duration) {
    let (config, _) = BrokerConfig::parse(&[], &[]).unwrap();
    let options = LogManagerOptions {
        dirs: vec![root.to_owned()],
        node_id: BrokerId(1),
        cluster_id: None,
        config: config.log_manager,
        max_open_files: 4096,
    };
    let started = env.clock.now();
    let manager = LogManager::open(env.clone(), options).await.unwrap();
    (manager, env.clock.now().since(started))
}

fn report(how: &str, manager: &LogManager, took: Duration) {
    let logs = manager.logs();
    let bytes: u64 = logs.iter().map(|log| log.size()).sum();
    let (count, gib) = (logs.len(), bytes as f64 / f64::from(1 << 30));
    println!("{how:>8}: {count} logs of {gib:.1} GiB open in {:.3} s", took.as_secs_f64());
}
