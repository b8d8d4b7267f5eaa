//! How fast one cleaner is: records of 1 KiB, each key twice, uncompressed, in one pass. Counts the
//! bytes of the dirty section; both reads of it are in the time, and the sync of what is written.
//! On a machine that others use, the bytes for each second of processor time say more.
//! `cargo run --profile quick -p ottla-storage --example compaction [directory [gigabytes]]`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::{CleanupPolicy, LogConfig};
use ottla_env::Env;
use ottla_env::process::ProcessStats;
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder};
use ottla_protocol::{LeaderEpoch, Timestamp, TopicPartition};
use ottla_storage::{
    AppendOrigin, CleanerLimits, CleanerStats, LeaderAppend, Log, LogDir, LogOpenOptions,
};

const ROUNDS: usize = 4;
const RECORD: usize = 1024;
/// Records in a batch, for each kind of log.
const BATCHES: [usize; 3] = [1, 16, 64];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let env = Env::os();
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().unwrap_or_else(|| "/tmp/compaction".to_owned());
    let gigabytes = arguments.next().map_or(2.0, |text| text.parse::<f64>().unwrap());
    let records = (gigabytes * (1 << 30) as f64) as usize / RECORD;
    let root = Path::new(&root);
    println!("{:>8} {:>9} {:>9} {:>9} {:>9}", "batch", "read MB", "kept MB", "MB/s", "MB/CPU s");
    let mut rounds = [const { Vec::new() }; BATCHES.len()];
    // Interleaved, since neither the disk nor the page cache is twice the same.
    for _ in 0..ROUNDS {
        for (per_batch, rounds) in BATCHES.iter().zip(&mut rounds) {
            env.disk.create_dir_all(root).unwrap();
            rounds.push(round(&env, root, *per_batch, records));
            env.disk.remove_dir_all(root).unwrap();
        }
    }
    for (per_batch, rounds) in BATCHES.iter().zip(rounds) {
        let CleanerStats { map_bytes_read, bytes_written, .. } = rounds[0].stats;
        let per = |time: fn(&Round) -> Duration| {
            let speed = |round: &Round| map_bytes_read as f64 / 1e6 / time(round).as_secs_f64();
            rounds.iter().map(speed).collect::<Vec<_>>()
        };
        let (speeds, efforts) = (per(|round| round.time), per(|round| round.cpu));
        let (read, kept) = (map_bytes_read >> 20, bytes_written >> 20);
        let (speed, effort) = (median(&speeds), median(&efforts));
        println!("{per_batch:>8} {read:>9} {kept:>9} {speed:>9.0} {effort:>9.0}   {speeds:.0?}");
    }
}

struct Round {
    stats: CleanerStats,
    time: Duration,
    cpu: Duration,
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Fills a log and cleans it.
fn round(env: &Env, root: &Path, per_batch: usize, records: usize) -> Round {
    let config = LogConfig {
        cleanup_policy: CleanupPolicy { delete: false, compact: true },
        segment_bytes: 256 << 20,
        ..LogConfig::default()
    };
    let dir = LogDir::new(env, root.to_owned(), 100);
    let options = LogOpenOptions::new(config, Duration::from_secs(60));
    let log = Arc::new(Log::open(dir, TopicPartition::new("t", 0), options).unwrap());
    let append = |from: usize| {
        let mut builder = RecordBatchBuilder::new();
        for number in from..from + per_batch {
            // Each key comes once in the first half and once in the second, in another order.
            let key = number % (records / 2) * if number < records / 2 { 1 } else { 7 };
            let key = format!("{:016x}", key % (records / 2));
            let value = [number as u8; RECORD - 30];
            let (timestamp, key) = (Timestamp(number as i64 + 1), Some(key.as_bytes()));
            builder.append(&NewRecord { timestamp, key, value: Some(&value), headers: &[] });
        }
        let origin = AppendOrigin::Coordinator;
        let now = env.clock.wall();
        let append = LeaderAppend { leader_epoch: LeaderEpoch(0), origin, now };
        log.append_as_leader(&builder.build(), append).unwrap();
    };
    (0..records).step_by(per_batch).for_each(append);
    log.set_high_watermark(log.log_end_offset());
    log.flush(log.log_end_offset()).unwrap();
    let cpu = || ProcessStats::own().unwrap().cpu_time();
    let (started, before) = (env.clock.now(), cpu());
    let stats = log.clean(&CleanerLimits::default(), env.clock.wall()).unwrap();
    Round { stats, time: env.clock.now().since(started), cpu: cpu() - before }
}
