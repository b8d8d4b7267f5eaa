//! A machine by itself: a disk, a clock that stands still, and nobody to talk to.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::{Result, bail};
use ottla_env::{BoxFuture, Clock, DirEntry, Disk, Env, Spawn, TaskHandle};
use ottla_protocol::{Monotonic, Timestamp};
use parking_lot::Mutex;

use crate::clock::EPOCH;
use crate::disk::{DiskDrive, DiskFaults, SimDisk};
use crate::event_log::EventLog;
use crate::links::Links;
use crate::net::SimNet;
use crate::power::{Crash, Power};
use crate::rng::SimRng;

pub use crate::disk::PowerCut;

/// What of it survives a crash.
pub(super) struct Machine {
    seed: u64,
    power: Arc<Power>,
    drive: Arc<DiskDrive>,
    clock: Arc<StillClock>,
    work: Arc<BlockingWork>,
}

impl Machine {
    /// A machine with an empty directory that nothing can lose.
    pub(super) fn new(seed: u64, trace: bool, data: &Path) -> Result<Self> {
        let power = Arc::new(Power::default());
        let log = if trace { EventLog::new(true) } else { EventLog::silent() };
        let drive = DiskDrive::new("store", seed, power.clone(), log);
        let disk = SimDisk::new(drive.clone(), power.on());
        disk.create_dir_all(data)?;
        disk.file_system(data)?.into_iter().try_for_each(|all| all.sync())?;
        let clock = Arc::new(StillClock(AtomicI64::new(EPOCH.0)));
        Ok(Self { seed, power, drive, clock, work: Arc::default() })
    }

    /// Begins a life.
    pub(super) fn boot(&self) -> Env {
        let life = self.power.on();
        self.work.0.lock().clear();
        let silent = EventLog::silent();
        Env {
            clock: self.clock.clone(),
            net: Arc::new(SimNet::new(
                "store",
                (life, self.seed),
                self.power.clone(),
                silent,
                Links::default(),
            )),
            disk: Arc::new(SimDisk::new(self.drive.clone(), life)),
            rng: Arc::new(SimRng::new(self.seed, "rng of the store")),
            spawner: self.work.clone(),
        }
    }

    /// Ends the life at once, if it has not ended yet.
    pub(super) fn kill(&self) {
        self.power.off(Crash::Process);
    }

    /// Ends the life at once, if it has not ended yet, and takes what was not synced.
    pub(super) fn cut_power(&self, cut: PowerCut) {
        self.power.off(Crash::PowerLoss);
        self.drive.cut_power(cut);
    }

    /// Lets it die in the middle of the `after`-th change to its disk from now, or at the last that
    /// was planned before if that comes first.
    pub(super) fn die_after(&self, after: u64) {
        self.power.plan(after, Crash::Process);
    }

    /// It does not die any more.
    pub(super) fn forget_plans(&self) {
        self.power.unplan();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.power.died().is_some()
    }

    /// Changes to the disk in all lives so far.
    pub(super) fn changes(&self) -> u64 {
        self.power.changes()
    }

    /// The change to the disk in whose middle it died last.
    pub(super) fn last_change(&self) -> Option<String> {
        self.drive.died_in()
    }

    /// From now on every sync fails, or none.
    pub(super) fn fail_syncs(&self, fail: bool) {
        let sync_error = if fail { 1.0 } else { 0.0 };
        self.drive.set_faults(DiskFaults { sync_error, ..DiskFaults::default() });
    }

    /// Flips one bit of a file at rest.
    pub(super) fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        self.drive.flip_bit_at(path, bit)
    }

    /// Entries of a directory, whether it is dead or not.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.drive.list(path)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.wall()
    }

    pub(super) fn advance(&self, milliseconds: i64) {
        self.clock.0.fetch_add(milliseconds, Ordering::Relaxed);
    }

    /// Runs `future` to its end, and the blocking work that it or anybody waits for.
    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) =
                future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                self.run_blocking_work();
                return Ok(output);
            }
            if !self.run_blocking_work() {
                bail!("waits for what never comes");
            }
        }
    }

    /// Runs blocking work until there is none; whether there was any.
    pub(super) fn run_blocking_work(&self) -> bool {
        let mut any = false;
        loop {
            let Some(work) = self.work.0.lock().pop_front() else { return any };
            work();
            any = true;
        }
    }
}

/// The wall clock of all lives.
struct StillClock(AtomicI64);

impl Clock for StillClock {
    fn now(&self) -> Monotonic {
        let elapsed = self.0.load(Ordering::Relaxed).saturating_sub(EPOCH.0);
        Monotonic(Duration::from_millis(u64::try_from(elapsed).unwrap_or(0)))
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn sleep(&self, _duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// Blocking work that waits until somebody asks for it: later than the call, as on a thread.
#[derive(Default)]
struct BlockingWork(Mutex<VecDeque<Box<dyn FnOnce() + Send>>>);

impl Spawn for BlockingWork {
    fn spawn(&self, name: &'static str, _task: BoxFuture<'static, ()>) -> TaskHandle {
        unreachable!("a log needs no task of its own, nor {name}")
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.0.lock().push_back(work);
        // Who awaits it has a channel of its own for the result.
        Box::pin(std::future::ready(()))
    }
}
