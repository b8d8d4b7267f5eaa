//! Whatever lies in a file of a stopped node: the check of it ends, without a panic, and what a
//! repair leaves has nothing that a repair could do.

#![no_main]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use ottla_env::Env;
use ottla_protocol::TopicPartition;
use ottla_storage::inspect::{
    LogStats, PartitionContext, RepairPlan, verify_file, verify_partition,
};

const FILES: [&str; 8] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000000.txnindex",
    "00000000000000000003.log",
    "00000000000000000003.snapshot",
    "leader-epoch-checkpoint",
    "partition.metadata",
];

struct Bench {
    env: Env,
    path: PathBuf,
    _runtime: tokio::runtime::Runtime,
}

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

// Files one after the other: which one, how long it is, its bytes.
fuzz_target!(|bytes: &[u8]| {
    BENCH.with_borrow_mut(|bench| bench.get_or_insert_with(Bench::new).run(bytes));
});

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let shm = Path::new("/dev/shm");
        let root = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let path = root.join(format!("inspect_{}", std::process::id())).join("t-0");
        let env = Env::os();
        drop(_inside);
        Self { env, path, _runtime: runtime }
    }

    fn run(&self, mut bytes: &[u8]) {
        let _first_time = fs::remove_dir_all(&self.path);
        fs::create_dir_all(&self.path).unwrap();
        while let [which, high, low, rest @ ..] = bytes {
            let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
            let name = FILES[usize::from(*which) % FILES.len()];
            fs::write(self.path.join(name), &rest[..length]).unwrap();
            bytes = &rest[length..];
        }
        let disk = &*self.env.disk;
        for name in FILES.iter().filter(|name| self.path.join(name).exists()) {
            // An index whose log is not there cannot be read, and says so.
            let _said = verify_file(disk, &self.path.join(name), &mut |_| {});
        }
        LogStats::of(disk, &self.path, &mut |_| {}).unwrap();
        if let Some(plan) = self.plan() {
            plan.apply(&self.env).unwrap();
            assert!(self.plan().is_none(), "a second repair has something to do");
        }
    }

    fn plan(&self) -> Option<RepairPlan> {
        let (disk, partition) = (&*self.env.disk, TopicPartition::new("t", 0));
        let context = PartitionContext::default();
        let report = verify_partition(disk, &self.path, context, &mut |_| {}).unwrap();
        let place = (&partition, &*self.path);
        let plan = RepairPlan::of(disk, place, context, &report, &report.findings).unwrap();
        Some(plan).filter(|plan| !plan.is_empty())
    }
}
