//! How much of the disk's speed an append leaves: a log against a bare program that checks the
//! checksum and writes.
//! `cargo run --profile quick -p ottla-storage --example append_throughput [DIRECTORY [GIB [BATCH]]]`
//!
//! Batches of `BATCH` bytes, or of four sizes in turn. `GIB` are written in each round, 1 if nothing is said. More than the system keeps dirty in memory
//! (a fifth of it, as Linux comes) is written at the speed of the disk.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::io::IoSlice;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use ottla_config::LogConfig;
use ottla_env::{Env, OpenMode};
use ottla_protocol::record_batch::{NewRecord, RecordBatch, RecordBatchBuilder};
use ottla_protocol::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use ottla_storage::{AppendOrigin, LeaderAppend, Log, LogDir, LogOpenOptions};

const ROUNDS: usize = 5;
const RECORD: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let env = Env::os();
    let root = std::env::args().nth(1).unwrap_or_else(|| "/tmp/append_throughput".to_owned());
    let root = Path::new(&root);
    env.disk.create_dir_all(root).unwrap();
    let gib: usize = std::env::args().nth(2).map_or(1, |gib| gib.parse().unwrap());
    println!("{:>10} {:>12} {:>12} {:>7}", "batch", "bare MB/s", "log MB/s", "ratio");
    let sizes = match std::env::args().nth(3) {
        Some(size) => vec![size.parse().unwrap()],
        None => vec![1_000, 16 << 10, 100_000, 1 << 20],
    };
    for size in sizes {
        let batch = batch(&env, size);
        let count = ((gib << 30) / batch.len()).min(500_000 * gib);
        let (mut bare, mut log) = (Vec::new(), Vec::new());
        // Interleaved, since the page cache is never twice the same.
        for _ in 0..ROUNDS {
            bare.push(append_bare(&env, root, &batch, count));
            log.push(append_log(&env, root, &batch, count));
        }
        let (bare, log) = (median(bare), median(log));
        println!("{:>10} {bare:>12.0} {log:>12.0} {:>7.2}", batch.len(), log / bare);
    }
    env.disk.remove_dir_all(root).unwrap();
}

fn batch(env: &Env, size: usize) -> Bytes {
    let mut builder = RecordBatchBuilder::new();
    let value = [7; RECORD];
    while builder.size() < size {
        let timestamp = env.clock.wall();
        builder.append(&NewRecord { timestamp, value: Some(&value), ..NewRecord::default() });
    }
    builder.build()
}

fn append_bare(env: &Env, root: &Path, batch: &Bytes, count: usize) -> f64 {
    let path = root.join("bare");
    let file = env.disk.open(&path, OpenMode::Truncate).unwrap();
    let started = env.clock.now();
    let mut position = 0;
    for _ in 0..count {
        assert!(RecordBatch::parse(batch).unwrap().crc_is_valid());
        file.write_all_at(&mut [IoSlice::new(batch)], position).unwrap();
        position += batch.len() as u64;
    }
    let took = env.clock.now().since(started);
    env.disk.remove_file(&path).unwrap();
    rate(batch, count, took)
}

fn append_log(env: &Env, root: &Path, batch: &Bytes, count: usize) -> f64 {
    let dir = LogDir::new(env, root.to_owned(), 100);
    let config = LogConfig { max_message_bytes: 2 << 20, ..LogConfig::default() };
    let options = LogOpenOptions::new(config, Duration::from_secs(60));
    let log = Log::open(dir, TopicPartition::new("bench", 0), options).unwrap();
    let started = env.clock.now();
    let append = LeaderAppend {
        leader_epoch: LeaderEpoch(1),
        origin: AppendOrigin::Client,
        now: Timestamp(env.clock.wall().0),
    };
    for _ in 0..count {
        log.append_as_leader(batch, append).unwrap();
    }
    let took = env.clock.now().since(started);
    assert!(log.log_end_offset() > Offset(0));
    env.disk.remove_dir_all(log.path()).unwrap();
    rate(batch, count, took)
}

/// Megabytes per second.
fn rate(batch: &Bytes, count: usize, took: Duration) -> f64 {
    (batch.len() * count) as f64 / 1e6 / took.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
