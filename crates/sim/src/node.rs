//! One machine: what of it survives a crash, and the Env of each of its lives.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ottla_env::{Disk, Env};

use crate::clock::SimClock;
use crate::disk::{DiskDrive, DiskFaults, PowerCut, SimDisk};
use crate::event_log::EventLog;
use crate::links::Links;
use crate::net::SimNet;
use crate::pause::Pause;
use crate::power::{Crash, Power};
use crate::rng::SimRng;
use crate::spawn::{SimSpawn, Slowness};

/// A machine of the simulation. Clones are the same machine.
#[derive(Clone)]
pub struct Node {
    machine: Arc<Machine>,
    /// Who tells what happens on it.
    teller: Arc<str>,
}

struct Machine {
    name: String,
    seed: u64,
    power: Arc<Power>,
    drive: Arc<DiskDrive>,
    skew_ms: AtomicI64,
    pause: Pause,
    slowness: Slowness,
    links: Links,
    log: EventLog,
}

impl Node {
    pub(crate) fn new(name: &str, seed: u64, log: EventLog, links: Links) -> Self {
        let power = Arc::new(Power::default());
        let drive = DiskDrive::new(name, seed, power.clone(), log.clone());
        let machine = Arc::new(Machine {
            name: name.to_owned(),
            seed,
            power,
            drive,
            skew_ms: AtomicI64::new(0),
            pause: Pause::default(),
            slowness: Slowness::default(),
            links,
            log,
        });
        Self { machine, teller: name.into() }
    }

    /// The same machine, for a program of this name on it.
    pub(crate) fn program(&self, name: &str) -> Self {
        Self { machine: self.machine.clone(), teller: name.into() }
    }

    /// The name of the program, or of the machine, by which others connect to it.
    pub fn name(&self) -> &str {
        &self.teller
    }

    /// Begins a life and answers its Env. Called inside the simulated host.
    pub(crate) fn boot(&self) -> Env {
        let machine = &*self.machine;
        let life = machine.power.on();
        self.fold(format_args!("boot {life}"), &[]);
        let rng =
            |what| SimRng::new(machine.seed, &format!("{what} of {} in life {life}", machine.name));
        Env {
            clock: Arc::new(SimClock { skew_ms: machine.skew_ms.load(Ordering::Relaxed) }),
            net: Arc::new(SimNet::new(
                &machine.name,
                (life, machine.seed),
                machine.power.clone(),
                machine.log.clone(),
                machine.links.clone(),
            )),
            disk: Arc::new(SimDisk::new(machine.drive.clone(), life)),
            rng: Arc::new(rng("rng")),
            spawner: Arc::new(SimSpawn::current(
                machine.pause.clone(),
                machine.slowness.clone(),
                rng("slowness"),
            )),
        }
    }

    /// Ends the current life.
    pub(crate) fn crash(&self, crash: Crash) {
        self.fold(format_args!("crash {crash:?}"), &[]);
        self.machine.power.off(crash);
        self.machine.pause.end();
        match crash {
            Crash::Process => {}
            Crash::PowerLoss => self.machine.drive.cut_power(PowerCut::AtRandom),
        }
    }

    /// The number of its current life, or of the last if it does not run.
    pub fn life(&self) -> u64 {
        self.machine.power.life()
    }

    /// How the current life ended, if it has.
    pub fn died(&self) -> Option<Crash> {
        self.machine.power.died()
    }

    /// Lets the node die in the middle of a change to its disk: the `after_changes`-th from now,
    /// or of its next life if it does not run.
    pub fn die_after(&self, after_changes: u64, crash: Crash) {
        self.machine.power.plan(after_changes, crash);
    }

    /// Its process ends of its own accord; the next step of the simulation turns it off.
    pub fn exit(&self) {
        self.fold(format_args!("exit"), &[]);
        self.machine.power.off(Crash::Process);
    }

    /// Lets it stand still, until [`Node::resume`] or its death: no task goes on, and time does.
    pub fn pause(&self) {
        self.fold(format_args!("pause"), &[]);
        self.machine.pause.begin();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.fold(format_args!("resume"), &[]);
        self.machine.pause.end();
    }

    /// Holds up whatever of it waits for its disk, each time for up to so long.
    pub fn set_disk_delay(&self, longest: Duration) {
        self.machine.slowness.set(longest);
    }

    /// A task of it, which stands still when it does.
    pub(crate) fn task<F: Future + Unpin>(&self, task: F) -> impl Future<Output = F::Output> {
        self.machine.pause.task(task)
    }

    /// Makes directories that nothing can lose, as an installer would.
    pub fn install_dir(&self, path: &Path) -> io::Result<()> {
        let life = self.machine.power.on();
        let disk = SimDisk::new(self.machine.drive.clone(), life);
        disk.create_dir_all(path)?;
        let mut dir = Some(path);
        while let Some(at) = dir {
            disk.sync_dir(at)?;
            dir = at.parent();
        }
        Ok(())
    }

    /// Sets what goes wrong on its disk from now on.
    pub fn set_disk_faults(&self, faults: DiskFaults) {
        self.machine.drive.set_faults(faults);
    }

    /// What a file of it holds, as somebody with the disk in hand reads it.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.machine.drive.content(path)
    }

    /// Gives it a new disk, on which there is this directory and nothing else; it must not run.
    pub fn replace_disk(&self, path: &Path) -> io::Result<()> {
        self.fold(format_args!("new disk"), &[]);
        self.machine.drive.empty();
        self.install_dir(path)
    }

    /// Flips one bit of a file at rest.
    pub fn flip_bit(&self, path: &Path) -> io::Result<()> {
        self.machine.drive.flip_bit(path)
    }

    /// Sets how far its wall clock is ahead, from its next life on.
    pub fn set_clock_skew_ms(&self, skew_ms: i64) {
        self.machine.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// Folds an event of a workload into the hash.
    pub fn fold(&self, what: std::fmt::Arguments<'_>, bytes: &[u8]) {
        self.machine.log.fold(&self.teller, what, bytes);
    }
}
