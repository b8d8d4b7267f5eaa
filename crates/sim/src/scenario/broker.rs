//! A broker that dies and comes back, under producers, consumers and commits. The real server and
//! the real client, unchanged.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_server::Server;

use super::workload::{Load, Shared, commit, consume, produce, producer_name};
use super::{Outcome, Setup, world_of};
use crate::checker::Promise;
use crate::disk::DiskFaults;
use crate::node::Node;
use crate::power::Crash;
use crate::rng::SimRng;
use crate::simulation::Simulation;

const BROKER: &str = "broker";
const DATA: &str = "/data";
const PROPERTIES: &str = "
    process.roles=broker,controller
    node.id=1
    listeners=PLAINTEXT://0.0.0.0:9092
    advertised.listeners=PLAINTEXT://broker:9092
    log.dirs=/data
    log.segment.bytes=1048576
    offsets.topic.replication.factor=1
    offsets.topic.num.partitions=5
";

/// What a seed decides beyond the order of things.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// How the broker dies.
    crash: Crash,
    crashes: u64,
    /// `log.flush.interval.messages=1`.
    flush: bool,
    idempotent: bool,
    producers: u64,
    partitions: u64,
    /// Bytes added to each record.
    padding: u64,
    /// Whether the disk fails at times.
    faults: bool,
    /// Whether the network fails at times.
    holds: bool,
}

impl Plan {
    fn draw(rng: &SimRng) -> Self {
        Self {
            crash: [Crash::Process, Crash::PowerLoss][rng.below(2) as usize],
            crashes: 1 + rng.below(4),
            flush: rng.chance(0.5),
            idempotent: rng.chance(0.7),
            producers: 1 + rng.below(3),
            partitions: 1 + rng.below(3),
            padding: if rng.chance(0.3) { 20_000 } else { 0 },
            faults: rng.chance(0.3),
            holds: rng.chance(0.3),
        }
    }

    fn promise(&self) -> Promise {
        match self.crash {
            Crash::PowerLoss if !self.flush => Promise::KeepsPrefix,
            Crash::PowerLoss | Crash::Process => Promise::KeepsAcknowledged,
        }
    }
}

pub(super) fn run(setup: Setup) -> Result<Outcome> {
    let mut world = world_of(setup, Duration::from_secs(200));
    let plan = Plan::draw(&world.rng);
    let faulty = Rc::new(Cell::new(false));
    let shown = faulty.clone();
    let broker = world.host(
        BROKER,
        |node| Ok(node.install_dir(Path::new(DATA))?),
        move |env| serve(env, plan, shown.clone()),
    )?;
    let load = Load {
        bootstrap: vec!["broker:9092".to_owned()],
        partitions: plan.partitions,
        replication_factor: 1,
        producers: plan.producers,
        idempotent: plan.idempotent,
        padding: plan.padding,
        promise: plan.promise(),
    };
    let living = broker.clone();
    let shared = Rc::new(Shared::new(load, move || living.life()));
    for number in 0..plan.producers {
        let shared = shared.clone();
        world.client(&producer_name(number), |env, node| produce::run(env, node, shared));
    }
    let told = shared.clone();
    world.client("consumer", |env, node| consume::run(env, node, told));
    let told = shared.clone();
    world.client("committer", |env, node| commit::run(env, node, told));
    trouble(&mut world, plan, &broker, &faulty)?;
    shared.calm.set(true);
    world.run().with_context(|| format!("{plan:?}"))?;
    let Plan { crash, crashes, .. } = plan;
    let kept = shared.acknowledged();
    let summary = format!("acknowledged {kept} records over {crashes} crashes ({crash:?})");
    Ok(Outcome { hash: world.hash(), summary })
}

/// Does to the broker what the plan says, and leaves it running.
fn trouble(world: &mut Simulation, plan: Plan, broker: &Node, faulty: &Cell<bool>) -> Result<()> {
    for _ in 0..plan.crashes {
        world.run_for(Duration::from_millis(world.rng.below(3000)))?;
        if plan.holds {
            let producer = producer_name(world.rng.below(plan.producers));
            world.hold(&producer, BROKER);
            world.run_for(Duration::from_millis(world.rng.below(8000)))?;
            world.release(&producer, BROKER);
        }
        if plan.faults {
            faulty.set(true);
            broker.set_disk_faults(draw_faults(&world.rng));
            world.run_for(Duration::from_millis(world.rng.below(3000)))?;
        }
        if world.is_running(BROKER) {
            broker.die_after(world.rng.below(60), plan.crash);
        }
        let patience = world.elapsed() + Duration::from_secs(5);
        world.run_until(|world| !world.is_running(BROKER) || world.elapsed() > patience)?;
        if world.is_running(BROKER) {
            world.crash(BROKER, plan.crash)?;
        }
        broker.set_disk_faults(healthy());
        faulty.set(false);
        world.run_for(Duration::from_millis(world.rng.below(2000)))?;
        world.restart(BROKER)?;
    }
    Ok(())
}

/// A disk that works; now and then something is not in memory.
fn healthy() -> DiskFaults {
    DiskFaults { cold_read: 0.1, ..DiskFaults::default() }
}

/// One way for a disk to fail.
fn draw_faults(rng: &SimRng) -> DiskFaults {
    let none = healthy();
    match rng.below(4) {
        0 => DiskFaults { write_error: 0.02, ..none },
        1 => DiskFaults { sync_error: 0.05, ..none },
        2 => DiskFaults { read_error: 0.02, ..none },
        _ => DiskFaults { capacity: Some(rng.below(1 << 20)), ..none },
    }
}

/// One life of the broker.
async fn serve(env: Env, plan: Plan, faulty: Rc<Cell<bool>>) -> Result<()> {
    let flush: &[_] = if plan.flush { &[("log.flush.interval.messages", "1")] } else { &[] };
    let (config, _) = BrokerConfig::parse(&[PROPERTIES], flush)?;
    match Server::start(env, config).await {
        Ok(_server) => std::future::pending().await,
        // With such a disk it may refuse to start; it is turned off and on again.
        Err(_) if faulty.get() => std::future::pending().await,
        Err(error) => Err(error.into()),
    }
}
