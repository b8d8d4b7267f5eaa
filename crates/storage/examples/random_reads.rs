//! Reads at random places of a log of 10 GiB that lies in the page cache: by offset (find the batch,
//! then read it) and by time (find the record's offset). By one thread, and by two.
//! `cargo run --profile quick -p ottla-storage --example random_reads [directory [GiB]]`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_config::LogConfig;
use ottla_env::process::ProcessStats;
use ottla_env::{Env, File};
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder};
use ottla_protocol::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use ottla_storage::{AppendOrigin, LeaderAppend, Log, LogDir, LogOpenOptions};

const ROUNDS: usize = 5;
const READS: u64 = 400_000;
const RECORD: usize = 100;
/// Batches are of 1, 2, 3 and 4 KiB.
const SIZES: usize = 4;
/// Between two records.
const STEP_MS: i64 = 3;
const EPOCH: Timestamp = Timestamp(1_700_000_000_000);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let env = Env::os();
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().unwrap_or_else(|| "/tmp/random_reads".to_owned());
    let gib: u64 = arguments.next().map_or(10, |gib| gib.parse().unwrap());
    let root = Path::new(&root);
    env.disk.create_dir_all(root).unwrap();
    let log = filled_log(&env, root, gib << 30);
    println!(
        "{:.1} GiB in {} segments, {} records; reads/s: minimum, median, maximum of {ROUNDS} rounds",
        log.size() as f64 / f64::from(1 << 30),
        log.segment_count(),
        log.log_end_offset()
    );
    let one_batch: &Look<'_> = &|log, offset, buffer| read_batches(log, offset, 1, buffer);
    for readers in [1, 2] {
        measure(&env, readers, "by offset: one batch", &log, one_batch);
        measure(
            &env,
            readers,
            "by offset: whole batches up to 16 KiB",
            &log,
            &|log, offset, buffer| {
                read_batches(log, offset, 16 * 1024, buffer);
            },
        );
        measure(&env, readers, "by offset: only where it lies", &log, &|log, offset, _| {
            let end = log.log_end_offset();
            assert_eq!(log.read(offset, 1, true, end).unwrap().slices.len(), 1);
        });
        // As a consumer does that has caught up: of the latest batch only the offset is known.
        let last = Offset(log.log_end_offset().0 - 1);
        measure(&env, readers, "the last batch, again and again", &log, &|log, _, buffer| {
            read_batches(log, last, 1, buffer);
        });
        measure(&env, readers, "by timestamp", &log, &|log, offset, _| {
            let time = Timestamp(EPOCH.0 + offset.0 * STEP_MS);
            assert_eq!(log.offset_for_timestamp(time).unwrap().unwrap().offset, offset);
        });
    }
    let files = segment_files(&log);
    // What the system alone takes for one read, where nothing has to be found first.
    measure(&env, 1, "the files, 2.5 KiB anywhere", &log, &|log, offset, buffer| {
        let at = offset.0 as u64 * (log.size() - 4096) / log.log_end_offset().0 as u64;
        let file = &files[((at >> 30) as usize).min(files.len() - 1)];
        file.read_at(&mut buffer[..2560], at & ((1 << 30) - 1)).unwrap();
    });
    drop(log);
    env.disk.remove_dir_all(root).unwrap();
}

/// Writes the log, and opens it as a start after a clean stop does: the indexes are in files.
fn filled_log(env: &Env, root: &Path, bytes: u64) -> Arc<Log> {
    let open = |clean_shutdown, recovery_point| {
        let dir = LogDir::new(env, root.to_owned(), 100);
        let config = LogConfig { segment_bytes: 1 << 30, ..LogConfig::default() };
        let mut options = LogOpenOptions::new(config, Duration::from_secs(60));
        options.clean_shutdown = clean_shutdown;
        options.recovery_point = recovery_point;
        Arc::new(Log::open(dir, TopicPartition::new("bench", 0), options).unwrap())
    };
    let log = open(true, Offset(0));
    let mut next = 0;
    let mut batches = 0;
    while log.size() < bytes {
        let batch = batch(1024 * (1 + batches % SIZES), &mut next);
        batches += 1;
        let (leader_epoch, origin) = (LeaderEpoch(1), AppendOrigin::Client);
        let now = Timestamp(EPOCH.0 + next * STEP_MS);
        log.append_as_leader(&batch, LeaderAppend { leader_epoch, origin, now }).unwrap();
    }
    log.close().unwrap();
    open(true, log.log_end_offset())
}

fn batch(size: usize, next: &mut i64) -> Bytes {
    let mut builder = RecordBatchBuilder::new();
    let value = [7; RECORD];
    while builder.size() + RECORD < size {
        let timestamp = Timestamp(EPOCH.0 + *next * STEP_MS);
        builder.append(&NewRecord { timestamp, value: Some(&value), ..NewRecord::default() });
        *next += 1;
    }
    builder.build()
}

fn read_batches(log: &Log, offset: Offset, max_bytes: usize, buffer: &mut [u8]) {
    let data = log.read(offset, max_bytes, true, log.log_end_offset()).unwrap();
    for slice in &data.slices {
        let buffer = &mut buffer[..slice.len];
        assert_eq!(slice.file.read_at(buffer, slice.position).unwrap(), slice.len);
    }
}

fn cpu_time() -> Duration {
    ProcessStats::own().unwrap().cpu_time()
}

/// What is done with a random offset, and room for what is read.
type Look<'a> = dyn Fn(&Log, Offset, &mut [u8]) + Sync + 'a;

fn measure(env: &Env, readers: u64, what: &str, log: &Log, look: &Look<'_>) {
    let before = cpu_time();
    let mut rates: Vec<f64> = (0..=ROUNDS as u64)
        .map(|round| {
            let started = env.clock.now();
            std::thread::scope(|scope| {
                for reader in 0..readers {
                    scope.spawn(move || look_at_random(log, round * readers + reader, look));
                }
            });
            (READS * readers) as f64 / env.clock.now().since(started).as_secs_f64()
        })
        .collect();
    let cpu = cpu_time().saturating_sub(before).as_secs_f64();
    let micros = cpu * 1e6 / (READS * readers * (ROUNDS as u64 + 1)) as f64;
    // The first round opens files and fills the page cache.
    rates.remove(0);
    rates.sort_by(f64::total_cmp);
    let (least, median, most) = (rates[0], rates[ROUNDS / 2], rates[ROUNDS - 1]);
    println!(
        "{readers} reading {what:<40} {least:>10.0} {median:>10.0} {most:>10.0}   {micros:.2} µs of CPU each"
    );
}

fn look_at_random(log: &Log, seed: u64, look: &Look<'_>) {
    let end = log.log_end_offset().0 as u64;
    let mut buffer = vec![0; 64 * 1024];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed + 1);
    for _ in 0..READS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        look(log, Offset((random % end) as i64), &mut buffer);
    }
}

/// The files of the log's segments, in order.
fn segment_files(log: &Log) -> Vec<Arc<dyn File>> {
    let all = log.read(Offset(0), usize::MAX, true, log.log_end_offset()).unwrap();
    all.slices.into_iter().map(|slice| slice.file).collect()
}
