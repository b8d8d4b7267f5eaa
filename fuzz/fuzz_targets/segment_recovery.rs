//! Whatever a crash or a broken disk leaves of a partition's files: the log opens without a panic,
//! what it holds can be read and searched, and it takes new records.

#![no_main]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ottla_config::LogConfig;
use ottla_env::Env;
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder, batches};
use ottla_protocol::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition,
};
use ottla_storage::{AppendOrigin, LeaderAppend, Log, LogDir, LogOpenOptions};

const FILES: [&str; 8] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000006.log",
    "00000000000000000006.index",
    "00000000000000000006.timeindex",
    "00000000000000000006.snapshot",
    "leader-epoch-checkpoint",
];

struct Bench {
    runtime: tokio::runtime::Runtime,
    root: PathBuf,
    /// The files of a log in good health.
    healthy: Vec<(PathBuf, Vec<u8>)>,
}

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

fuzz_target!(|bytes: &[u8]| {
    BENCH.with_borrow_mut(|bench| bench.get_or_insert_with(Bench::new).run(bytes));
});

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let shm = Path::new("/dev/shm");
        let root = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let root = root.join(format!("segment_recovery_{}", std::process::id()));
        let mut bench = Self { runtime, root, healthy: Vec::new() };
        bench.write(&[]);
        let log = bench.open(true);
        for sequence in 0..10 {
            append(&log, sequence);
        }
        log.close().unwrap();
        for file in FILES {
            let path = bench.root.join("t-0").join(file);
            let contents = fs::read(&path).unwrap_or_default();
            bench.healthy.push((path, contents));
        }
        bench
    }

    /// `bytes`: whether the shutdown was clean, then edits of 5 bytes each: which file, what to do
    /// with it, where, and with which byte.
    fn run(&self, bytes: &[u8]) {
        let Some((clean, edits)) = bytes.split_first() else { return };
        let mut files = self.healthy.clone();
        for edit in edits.chunks_exact(5).take(64) {
            let contents = &mut files[usize::from(edit[0]) % FILES.len()].1;
            let at = usize::from(u16::from_be_bytes([edit[2], edit[3]])) % (contents.len() + 1);
            match edit[1] % 5 {
                0 => contents.truncate(at),
                1 => contents.extend(std::iter::repeat_n(edit[4], at)),
                2 => contents.insert(at, edit[4]),
                _ if at < contents.len() => contents[at] ^= edit[4],
                _ => contents.clear(),
            }
        }
        self.write(&files);
        check(&self.open(clean & 1 == 1));
        // And once more, as the first recovery left it.
        check(&self.open(false));
    }

    fn write(&self, files: &[(PathBuf, Vec<u8>)]) {
        let _first_time = fs::remove_dir_all(&self.root);
        fs::create_dir_all(self.root.join("t-0")).unwrap();
        for (path, contents) in files {
            fs::write(path, contents).unwrap();
        }
    }

    fn open(&self, clean_shutdown: bool) -> Log {
        let _inside = self.runtime.enter();
        let dir = LogDir::new(&Env::os(), self.root.clone(), 10);
        let config =
            LogConfig { segment_bytes: 700, index_interval_bytes: 1, ..LogConfig::default() };
        let mut options = LogOpenOptions::new(config, Duration::from_secs(60));
        options.clean_shutdown = clean_shutdown;
        options.recovery_point = Offset(if clean_shutdown { 10 } else { 0 });
        Log::open(dir, TopicPartition::new("t", 0), options).unwrap()
    }
}

fn append(log: &Log, sequence: i32) -> bool {
    let record = NewRecord {
        timestamp: Timestamp(1_000 + i64::from(sequence)),
        key: Some(b"key"),
        value: Some(&[7; 20]),
        headers: &[],
    };
    let mut batch = RecordBatchBuilder::new().producer(ProducerId(1), ProducerEpoch(0), sequence);
    batch.append(&record);
    let append = LeaderAppend {
        leader_epoch: LeaderEpoch(sequence / 3),
        origin: AppendOrigin::Coordinator,
        now: Timestamp(2_000),
    };
    log.append_as_leader(&batch.build(), append).is_ok()
}

fn check(log: &Log) {
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    assert!(start <= end);
    let mut offset = start;
    while offset < end {
        // After a clean shutdown nothing is checked, so a batch may be damaged: then it says so.
        let Ok(data) = log.read(offset, 300, true, end) else { break };
        let Ok(bytes) = data.read() else { break };
        let next = batches(&bytes).filter_map(Result::ok).last().map(|b| b.next_offset());
        let Some(next) = next.filter(|next| *next > offset) else { break };
        offset = next;
    }
    for time in [0, 1_000, 1_005, 5_000] {
        let _found_or_damaged = log.offset_for_timestamp(Timestamp(time));
    }
    let _found_or_damaged = log.max_timestamp();
    for epoch in 0..5 {
        let _known_or_not = log.end_offset_for_epoch(LeaderEpoch(epoch));
    }
    append(log, 10);
    assert!(log.log_end_offset() >= end);
}
