//! What goes wrong, one thing after the other, and sometimes two at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use super::{DATA, Health, Machine, Plan};
use crate::disk::DiskFaults;
use crate::power::Crash;
use crate::rng::SimRng;
use crate::simulation::Simulation;

/// A process that died is started again so much later.
const SUPERVISED: Duration = Duration::from_millis(500);
/// A node that stood still or was cut off answers at first as if nothing had been.
const SETTLED: Duration = Duration::from_secs(1);
/// How long it may take until all replicas are in sync again, where nothing else is wrong.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// A process is killed.
    Kill,
    /// A process is killed in the middle of a change to its disk.
    KillInWrite,
    /// A machine loses power, in the middle of a change to its disk.
    PowerLoss,
    /// Processes are killed one after the other, before what follows from one death is done.
    KillInARow,
    /// All processes are killed at once.
    KillAll,
    /// All machines lose power at once; only where everything is flushed.
    PowerLossOfAll,
    /// A node stands still for a while.
    Pause,
    /// What one node sends does not reach another.
    CutOneWay,
    /// Two nodes do not reach each other.
    CutTwoWays,
    /// Some clients and a node do not reach each other, or only one way.
    CutClients,
    /// A node reaches nobody, clients least of all.
    Isolate,
    /// A node does not reach the other nodes, but clients do reach it.
    IsolateFromNodes,
    /// The disk of a node is slow.
    SlowDisk,
    /// The disk of a node fails; it is well again when the node is started anew.
    FailingDisk,
    /// The disk of a node is full.
    FullDisk,
    /// A node gets a new, empty disk.
    ReplaceDisk,
    /// The clock of a node is wrong, from its next start on.
    SkewedClock,
    /// All nodes are stopped in order and started again, one after the other.
    RollingRestart,
}

impl Fault {
    const ALL: [Self; 18] = [
        Self::Kill,
        Self::KillInWrite,
        Self::PowerLoss,
        Self::KillInARow,
        Self::KillAll,
        Self::PowerLossOfAll,
        Self::Pause,
        Self::CutOneWay,
        Self::CutTwoWays,
        Self::CutClients,
        Self::Isolate,
        Self::IsolateFromNodes,
        Self::SlowDisk,
        Self::FailingDisk,
        Self::FullDisk,
        Self::ReplaceDisk,
        Self::SkewedClock,
        Self::RollingRestart,
    ];

    /// Whether a node may lose what was acknowledged, with everything flushed or not.
    fn loses_data(self, flush: bool) -> bool {
        let unflushed = matches!(self, Self::PowerLoss | Self::PowerLossOfAll | Self::FailingDisk);
        self == Self::ReplaceDisk || (unflushed && !flush)
    }
}

/// Does to the cluster what the seed says.
pub(super) struct Trouble {
    plan: Plan,
    machines: Vec<Machine>,
    /// Clients, by name.
    clients: Vec<String>,
    health: Rc<Health>,
    /// Who is dead, and is to be started when.
    restarts: BTreeMap<usize, Duration>,
    happened: Vec<Fault>,
}

impl Trouble {
    pub(super) fn new(
        plan: &Plan,
        (machines, clients): (Vec<Machine>, Vec<String>),
        health: Rc<Health>,
    ) -> Self {
        let (restarts, happened) = (BTreeMap::new(), Vec::new());
        Self { plan: plan.clone(), machines, clients, health, restarts, happened }
    }

    /// What went wrong so far.
    pub(super) fn told(&self) -> String {
        format!("{} nodes: {:?}", self.plan.nodes, self.happened)
    }

    /// How often each of it: `Fault=times`.
    pub(super) fn counted(&self) -> String {
        let mut times = BTreeMap::<Fault, u64>::new();
        self.happened.iter().for_each(|fault| *times.entry(*fault).or_default() += 1);
        let told: Vec<_> = times.iter().map(|(what, times)| format!("{what:?}={times}")).collect();
        told.join(" ")
    }

    /// Leaves all nodes running and well.
    pub(super) fn run(&mut self, world: &mut Simulation) -> Result<()> {
        self.go_on(world, Duration::from_millis(1500 + world.rng.below(2500)))?;
        for number in 0..self.plan.faults as usize {
            let scripted = self.plan.script.get(number).copied();
            let fault = scripted.unwrap_or_else(|| self.draw(&world.rng));
            self.commit(world, fault)?;
            let rest = if world.rng.chance(0.5) { 5000 } else { 1000 };
            self.go_on(world, Duration::from_millis(world.rng.below(rest)))?;
        }
        self.recover(world)
    }

    fn draw(&self, rng: &SimRng) -> Fault {
        loop {
            let fault = Fault::ALL[rng.below(Fault::ALL.len() as u64) as usize];
            let out_of_place = (fault == Fault::PowerLossOfAll && !self.plan.flush)
                || (fault == Fault::ReplaceDisk && self.plan.retires_voters);
            if !out_of_place {
                return fault;
            }
        }
    }

    /// Lets time pass; whoever is dead is started again in time.
    fn go_on(&mut self, world: &mut Simulation, duration: Duration) -> Result<()> {
        let end = world.elapsed() + duration;
        self.go_on_until(world, |world| world.elapsed() >= end)
    }

    fn go_on_until(
        &mut self,
        world: &mut Simulation,
        mut done: impl FnMut(&mut Simulation) -> bool,
    ) -> Result<()> {
        while !done(world) {
            world.step()?;
            for (at, machine) in self.machines.iter().enumerate() {
                if world.is_running(machine.node.name()) {
                    continue;
                }
                let now = world.elapsed();
                let due = *self.restarts.entry(at).or_insert(now + SUPERVISED);
                if now >= due {
                    self.restarts.remove(&at);
                    world.restart(machine.node.name())?;
                }
            }
        }
        Ok(())
    }

    /// Whom it meets: often whoever leads something.
    fn any(&self, rng: &SimRng) -> usize {
        let leaders = self.health.leaders.borrow();
        if !leaders.is_empty() && rng.chance(0.3) {
            // The administrator names the active controller last.
            return leaders[leaders.len() - 1].max(1) as usize - 1;
        }
        if !leaders.is_empty() && rng.chance(0.3) {
            return leaders[rng.below(leaders.len() as u64) as usize].max(1) as usize - 1;
        }
        rng.below(self.machines.len() as u64) as usize
    }

    /// Two different ones.
    fn pair(&self, rng: &SimRng) -> (String, String) {
        let one = self.any(rng);
        let step = 1 + rng.below(self.machines.len() as u64 - 1) as usize;
        let other = (one + step) % self.machines.len();
        (self.name(one), self.name(other))
    }

    fn name(&self, at: usize) -> String {
        self.machines[at].node.name().to_owned()
    }

    /// Waits until all replicas are in sync, as seen after now; answers whether they are.
    fn wait_whole(&mut self, world: &mut Simulation) -> Result<bool> {
        let (since, health) = (world.elapsed(), self.health.clone());
        let is_whole = move || health.whole_at.get().is_some_and(|at| at > since + SETTLED);
        let give_up = since + WHOLE_WITHIN;
        let whole = is_whole.clone();
        self.go_on_until(world, move |world| whole() || world.elapsed() > give_up)?;
        Ok(is_whole())
    }

    fn commit(&mut self, world: &mut Simulation, fault: Fault) -> Result<()> {
        if fault.loses_data(self.plan.flush) && !self.wait_whole(world)? {
            // Nothing may be lost now: another replica has not caught up with what it lost before.
            return Ok(());
        }
        self.happened.push(fault);
        let at = self.any(&world.rng);
        match fault {
            Fault::Kill => self.kill(world, at, Crash::Process),
            Fault::KillInWrite => self.die(world, at, Crash::Process),
            Fault::PowerLoss => self.die(world, at, Crash::PowerLoss),
            Fault::KillInARow => self.kill_in_a_row(world),
            Fault::KillAll => self.kill_all(world, Crash::Process),
            Fault::PowerLossOfAll => self.kill_all(world, Crash::PowerLoss),
            Fault::Pause => self.pause(world, at),
            Fault::CutOneWay => {
                let (from, to) = self.pair(&world.rng);
                self.cut(world, vec![(from, to)])
            }
            Fault::CutTwoWays => {
                let (one, other) = self.pair(&world.rng);
                self.cut(world, vec![(one.clone(), other.clone()), (other, one)])
            }
            Fault::CutClients => self.cut_clients(world, at),
            Fault::Isolate => self.isolate(world, at, true),
            Fault::IsolateFromNodes => self.isolate(world, at, false),
            Fault::SlowDisk => {
                let longest = Duration::from_millis(50 + world.rng.below(1000));
                self.machines[at].node.set_disk_delay(longest);
                self.go_on(world, Duration::from_millis(world.rng.below(6000)))?;
                self.machines[at].node.set_disk_delay(Duration::ZERO);
                Ok(())
            }
            Fault::FailingDisk => {
                let rng = &world.rng;
                let faults = [
                    DiskFaults { write_error: 0.02, ..DiskFaults::default() },
                    DiskFaults { sync_error: 0.05, ..DiskFaults::default() },
                    DiskFaults { read_error: 0.02, ..DiskFaults::default() },
                ];
                let faults = faults[rng.below(3) as usize];
                self.spoil(world, at, faults)
            }
            Fault::FullDisk => {
                let capacity = Some(world.rng.below(1 << 20));
                self.spoil(world, at, DiskFaults { capacity, ..DiskFaults::default() })
            }
            Fault::ReplaceDisk => self.replace_disk(world, at),
            Fault::SkewedClock => {
                let skew = world.rng.below(7_200_000) as i64 - 3_600_000;
                self.machines[at].node.set_clock_skew_ms(skew);
                self.kill(world, at, Crash::Process)
            }
            Fault::RollingRestart => self.roll(world),
        }
    }

    /// Ends a life, and the next begins after some time.
    fn kill(&mut self, world: &mut Simulation, at: usize, crash: Crash) -> Result<()> {
        let name = self.name(at);
        if world.is_running(&name) {
            world.crash(&name, crash)?;
        }
        self.keep_down(world, at)
    }

    /// As [`Trouble::kill`], in the middle of a change to the disk.
    fn die(&mut self, world: &mut Simulation, at: usize, crash: Crash) -> Result<()> {
        let node = self.machines[at].node.clone();
        let life = node.life();
        node.die_after(world.rng.below(60), crash);
        let patience = world.elapsed() + Duration::from_secs(3);
        let dying = node.clone();
        self.go_on_until(world, move |world| {
            dying.life() != life || dying.died().is_some() || world.elapsed() > patience
        })?;
        if world.is_running(node.name()) && node.life() == life && node.died().is_none() {
            world.crash(node.name(), crash)?;
        }
        self.keep_down(world, at)
    }

    fn keep_down(&mut self, world: &mut Simulation, at: usize) -> Result<()> {
        let longest = if world.rng.chance(0.5) { 1000 } else { 8000 };
        let down = Duration::from_millis(world.rng.below(longest));
        self.restarts.insert(at, world.elapsed() + down);
        self.go_on(world, down)
    }

    /// Kills one process after the other, each whatever became of the last.
    fn kill_in_a_row(&mut self, world: &mut Simulation) -> Result<()> {
        for _ in 0..2 + world.rng.below(6) {
            let at = self.any(&world.rng);
            if world.is_running(&self.name(at)) {
                world.crash(&self.name(at), Crash::Process)?;
            }
            self.go_on(world, Duration::from_millis(world.rng.below(3000)))?;
        }
        Ok(())
    }

    fn replace_disk(&mut self, world: &mut Simulation, at: usize) -> Result<()> {
        if world.is_running(&self.name(at)) {
            world.crash(&self.name(at), Crash::PowerLoss)?;
        }
        self.machines[at].node.replace_disk(Path::new(DATA))?;
        self.keep_down(world, at)?;
        // Until its last life is fenced the replicas count as in sync that it took with it.
        self.go_on(world, Duration::from_millis(self.plan.session_ms))?;
        // Until the others have given it everything there is one replica less.
        self.wait_whole(world).map(drop)
    }

    /// A node does not hear some clients, or is not heard by them, or neither.
    fn cut_clients(&mut self, world: &mut Simulation, at: usize) -> Result<()> {
        let clients = self.clients[world.rng.below(self.clients.len() as u64) as usize].clone();
        let mut ways = vec![(clients.clone(), self.name(at)), (self.name(at), clients)];
        if world.rng.chance(0.7) {
            ways.remove(world.rng.below(2) as usize);
        }
        self.cut(world, ways)
    }

    fn kill_all(&mut self, world: &mut Simulation, crash: Crash) -> Result<()> {
        for at in 0..self.machines.len() {
            let name = self.name(at);
            if world.is_running(&name) {
                world.crash(&name, crash)?;
            }
            let back = Duration::from_millis(world.rng.below(3000));
            self.restarts.insert(at, world.elapsed() + back);
        }
        self.go_on(world, Duration::from_secs(3))
    }

    fn pause(&mut self, world: &mut Simulation, at: usize) -> Result<()> {
        let node = self.machines[at].node.clone();
        node.pause();
        self.bear(world)?;
        node.resume();
        Ok(())
    }

    /// Lets a fault last for a while; meanwhile processes may be killed.
    fn bear(&mut self, world: &mut Simulation) -> Result<()> {
        let longest = if world.rng.chance(0.5) { 1500 } else { 8000 };
        self.go_on(world, Duration::from_millis(100 + world.rng.below(longest)))?;
        while world.rng.chance(0.3) {
            self.happened.push(Fault::Kill);
            let at = self.any(&world.rng);
            self.kill(world, at, Crash::Process)?;
        }
        Ok(())
    }

    fn cut(&mut self, world: &mut Simulation, ways: Vec<(String, String)>) -> Result<()> {
        ways.iter().for_each(|(from, to)| world.cut(from, to));
        self.bear(world)?;
        ways.iter().for_each(|(from, to)| world.heal(from, to));
        Ok(())
    }

    fn isolate(&mut self, world: &mut Simulation, at: usize, from_clients: bool) -> Result<()> {
        let alone = self.name(at);
        let mut others: Vec<String> = self.plan.names();
        if from_clients {
            others.extend(self.clients.iter().cloned());
        }
        others.retain(|other| *other != alone);
        let ways = others
            .into_iter()
            .flat_map(|other| [(alone.clone(), other.clone()), (other, alone.clone())]);
        self.cut(world, ways.collect())
    }

    /// Its disk has these faults for a while; then it is started anew with a disk that is well.
    fn spoil(&mut self, world: &mut Simulation, at: usize, faults: DiskFaults) -> Result<()> {
        let machine = self.machines[at].clone();
        machine.node.set_disk_faults(faults);
        self.go_on(world, Duration::from_millis(500 + world.rng.below(5000)))?;
        machine.node.set_disk_faults(DiskFaults::default());
        self.kill(world, at, Crash::Process)
    }

    /// Every node is stopped in order, the next when all replicas are in sync again.
    fn roll(&mut self, world: &mut Simulation) -> Result<()> {
        for at in 0..self.machines.len() {
            let machine = self.machines[at].clone();
            let life = machine.node.life();
            machine.stop.notify_one();
            let patience = world.elapsed() + Duration::from_secs(30);
            let stopping = machine.node.clone();
            self.go_on_until(world, move |world| {
                stopping.life() != life || world.elapsed() > patience
            })?;
            self.wait_whole(world)?;
        }
        Ok(())
    }

    /// Everything is well again, and stays so.
    fn recover(&mut self, world: &mut Simulation) -> Result<()> {
        for machine in &self.machines {
            machine.node.resume();
            machine.node.set_disk_delay(Duration::ZERO);
            machine.node.set_disk_faults(DiskFaults::default());
        }
        let machines = self.machines.clone();
        let patience = world.elapsed() + Duration::from_secs(1);
        self.go_on_until(world, move |world| {
            machines.iter().all(|machine| world.is_running(machine.node.name()))
                && world.elapsed() > patience
        })
    }
}
