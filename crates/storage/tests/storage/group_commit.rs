//! Group commit: who waits for a disk shares one sync, and is told when it is over and how.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_protocol::{LeaderEpoch, Offset, TopicPartition};
use ottla_storage::{AppendOrigin, LeaderAppend, Log, LogDir, LogDirFailure, LogOpenOptions};

use crate::batches;
use crate::faulty_disk::{Faults, faulty_env};
use crate::single_log::{NOW, env};

/// `log.dir.sync.max.bytes`.
const MAX_UNWRITTEN: u64 = 1 << 20;

type Flushed = (usize, Result<(), LogDirFailure>);

struct Fixture {
    _root: tempfile::TempDir,
    faults: Arc<Faults>,
    dir: Arc<LogDir>,
    logs: Vec<Arc<Log>>,
    told: (Sender<Flushed>, Receiver<Flushed>),
}

/// Logs of one directory, each with a record that is on the disk.
fn fixture(logs: i32) -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let dir = LogDir::new(&faulty_env(env(), &faults), root.path().to_owned(), 100);
    dir.share_syncs(MAX_UNWRITTEN).unwrap();
    let logs = (0..logs).map(|partition| {
        let options = LogOpenOptions::new(LogConfig::default(), Duration::from_secs(60));
        let log = Log::open(dir.clone(), TopicPartition::new("t", partition), options).unwrap();
        append(&log);
        log.flush(Offset(1)).unwrap();
        Arc::new(log)
    });
    let logs = logs.collect();
    faults.syncs.store(0, Ordering::Relaxed);
    Fixture { _root: root, faults, dir, logs, told: channel() }
}

impl Fixture {
    fn flush(&self, index: usize) {
        let (log, told) = (&self.logs[index], self.told.0.clone());
        log.flush_in_group(log.log_end_offset(), move |flushed| {
            told.send((index, flushed)).unwrap()
        });
    }

    fn wait_for(&self, flushes: usize) -> Vec<Flushed> {
        let limit = Duration::from_secs(30);
        (0..flushes).map(|_| self.told.1.recv_timeout(limit).unwrap()).collect()
    }

    fn syncs(&self) -> u64 {
        self.faults.syncs.load(Ordering::Relaxed)
    }

    /// Flushes the first log, whose sync hangs until the gate opens, and has the others wait.
    fn flush_all_behind_the_first(&self) {
        self.logs.iter().for_each(|log| append(log));
        let gate = self.faults.gate.lock();
        self.flush(0);
        while self.syncs() == 0 {
            std::thread::yield_now();
        }
        (1..self.logs.len()).for_each(|index| self.flush(index));
        assert!(self.told.1.try_recv().is_err(), "told before anything was synced");
        drop(gate);
    }
}

fn append(log: &Log) {
    let append =
        LeaderAppend { leader_epoch: LeaderEpoch(0), origin: AppendOrigin::Client, now: NOW };
    log.append_as_leader(&batches::builder(NOW.0, &["a"]).build(), append).unwrap();
}

#[test]
fn logs_that_wait_for_a_disk_share_one_sync() {
    let fixture = fixture(64);
    fixture.flush_all_behind_the_first();
    for (index, flushed) in fixture.wait_for(64) {
        flushed.unwrap();
        assert_eq!(fixture.logs[index].recovery_point(), Offset(2));
    }
    assert_eq!(fixture.syncs(), 2, "one for the first log, one for the 63 that came meanwhile");
}

#[test]
fn one_log_alone_is_synced_alone() {
    let fixture = fixture(1);
    fixture.faults.unwritten.store(u64::MAX, Ordering::Relaxed);
    append(&fixture.logs[0]);
    fixture.flush(0);
    fixture.wait_for(1).pop().unwrap().1.unwrap();
    assert_eq!(fixture.syncs(), 1, "and nothing was written back besides");
    fixture.flush(0);
    fixture.wait_for(1).pop().unwrap().1.unwrap();
    assert_eq!(fixture.syncs(), 1, "there was nothing left to sync");
}

#[test]
fn a_failed_shared_sync_is_told_to_all_who_wait_and_never_retried() {
    let fixture = fixture(5);
    fixture.logs.iter().for_each(|log| append(log));
    fixture.faults.sync.store(true, Ordering::Relaxed);
    fixture.flush_all_behind_the_first();
    for (index, flushed) in fixture.wait_for(5) {
        assert!(matches!(flushed, Err(LogDirFailure::Offline { .. })), "{flushed:?}");
        assert_eq!(fixture.logs[index].recovery_point(), Offset(1));
    }
    assert!(fixture.dir.failure().is_some());
    let syncs = fixture.syncs();
    fixture.faults.sync.store(false, Ordering::Relaxed);
    fixture.flush(1);
    let (_, flushed) = fixture.wait_for(1).pop().unwrap();
    assert!(flushed.is_err(), "the kernel may have dropped the pages");
    assert_eq!(fixture.syncs(), syncs);
}

#[test]
fn who_waits_is_not_held_up_by_much_that_nobody_waits_for() {
    let fixture = fixture(6);
    fixture.faults.unwritten.store(MAX_UNWRITTEN + 1, Ordering::Relaxed);
    fixture.flush_all_behind_the_first();
    fixture.wait_for(6).into_iter().for_each(|(_, flushed)| flushed.unwrap());
    while fixture.syncs() < 7 {
        std::thread::yield_now();
    }
    assert_eq!(fixture.syncs(), 7, "each log by itself, and the rest behind them");
}

#[test]
fn a_log_that_is_closed_meanwhile_is_no_fault_of_the_disk() {
    let fixture = fixture(4);
    fixture.logs.iter().for_each(|log| append(log));
    let gate = fixture.faults.gate.lock();
    fixture.flush(0);
    while fixture.syncs() == 0 {
        std::thread::yield_now();
    }
    (1..4).for_each(|index| fixture.flush(index));
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| fixture.logs[3].close());
        // Its log is closed before its first sync.
        while fixture.syncs() == 1 {
            std::thread::yield_now();
        }
        drop(gate);
        closing.join().unwrap().unwrap();
    });
    for (index, flushed) in fixture.wait_for(4) {
        match index {
            3 => assert!(matches!(flushed, Err(LogDirFailure::Closed) | Ok(())), "{flushed:?}"),
            _ => flushed.unwrap(),
        }
    }
    assert!(fixture.dir.failure().is_none());
}
