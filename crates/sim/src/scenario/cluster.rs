//! A cluster whose nodes die, stand still, lose each other and come back, under producers,
//! consumers, groups and an administrator. The real servers and the real clients, unchanged.
//!
//! What was acknowledged is promised to stay where at most one replica of a partition loses power
//! (or its disk) at a time, the next not before all are in sync again; with
//! `log.flush.interval.messages=1`, however many do. Processes may die all at once in any case.

mod churn;
mod story;
mod trouble;
mod voters;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ottla_config::BrokerConfig;
use ottla_env::Env;
use ottla_server::Server;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::workload::{
    Load, Shared, commit, consume, members, produce, producer_name, recreate, trim, watch,
};
use super::{Outcome, Setup};
use crate::checker::Promise;
use crate::event_log::EventLog;
use crate::node::Node;
use crate::rng::SimRng;
use crate::simulation::Simulation;
pub use story::Story;
use trouble::{Fault, Trouble};

const DATA: &str = "/data";
/// How far time moves on at once: coarse, since there are many machines.
const STEP: Duration = Duration::from_millis(5);
/// Of its virtual time a run takes no more.
const LONGEST: Duration = Duration::from_secs(900);
/// When nothing goes wrong any more, everything must be well within this time: two of the longest
/// timeouts that nodes and clients have, one after the other, and the work itself.
const RECOVERY: Duration = Duration::from_secs(120);

/// What a seed decides beyond the order of things.
#[derive(Clone, Debug)]
struct Plan {
    nodes: u64,
    /// `log.flush.interval.messages=1`.
    flush: bool,
    /// `replica.lag.time.max.ms`.
    lag_ms: u64,
    /// `broker.session.timeout.ms`.
    session_ms: u64,
    partitions: u64,
    producers: u64,
    members: u64,
    /// Bytes added to each record.
    padding: u64,
    /// Whether an administrator is at work.
    churn: bool,
    /// Whether he takes votes away and gives them back; else disks are replaced at times. With both,
    /// a quorum could be told to do with a voter that has lost its disk.
    retires_voters: bool,
    /// Whether records in front are deleted.
    trims: bool,
    /// Whether a topic is deleted and made again under its name.
    recreates: bool,
    /// What goes wrong, if it is not drawn.
    script: &'static [Fault],
    /// How often something goes wrong.
    faults: u64,
}

impl Plan {
    fn draw(rng: &SimRng) -> Self {
        Self {
            nodes: if rng.chance(0.25) { 5 } else { 3 },
            flush: rng.chance(0.3),
            lag_ms: 500 + rng.below(2500),
            session_ms: 1000 + rng.below(3000),
            partitions: 1 + rng.below(3),
            producers: 1 + rng.below(2),
            members: 1 + rng.below(2),
            padding: if rng.chance(0.2) { 20_000 } else { 0 },
            churn: rng.chance(0.6),
            retires_voters: rng.chance(0.4),
            trims: rng.chance(0.3),
            recreates: rng.chance(0.3),
            script: &[],
            faults: 1 + rng.below(5),
        }
    }

    fn name(id: u64) -> String {
        format!("node-{id}")
    }

    fn names(&self) -> Vec<String> {
        (1..=self.nodes).map(Self::name).collect()
    }

    fn properties(&self, id: u64) -> String {
        let voters: Vec<_> =
            (1..=self.nodes).map(|id| format!("{id}@{}:9093", Self::name(id))).collect();
        format!(
            "
            process.roles=broker,controller
            node.id={id}
            controller.listener.names=CONTROLLER
            listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
            listeners=PLAINTEXT://0.0.0.0:9092,CONTROLLER://0.0.0.0:9093
            advertised.listeners=PLAINTEXT://{name}:9092
            controller.quorum.voters={voters}
            log.dirs={DATA}
            log.segment.bytes=1048576
            default.replication.factor=3
            min.insync.replicas=2
            offsets.topic.replication.factor=3
            offsets.topic.num.partitions=3
            group.initial.rebalance.delay.ms=100
            group.min.session.timeout.ms=1000
            replica.lag.time.max.ms={lag}
            broker.session.timeout.ms={session}
            broker.heartbeat.interval.ms=250
            controller.quorum.election.timeout.ms=500
            controller.quorum.fetch.timeout.ms=1000
            controller.quorum.request.timeout.ms=1000
            {flush}
            ",
            name = Self::name(id),
            voters = voters.join(","),
            lag = self.lag_ms,
            session = self.session_ms,
            flush = if self.flush { "log.flush.interval.messages=1" } else { "" },
        )
    }
}

/// One machine of the cluster, and what its process is told from outside.
#[derive(Clone)]
struct Machine {
    node: Node,
    /// Asked to stop in order.
    stop: Rc<Notify>,
}

/// What is known of the cluster from outside.
#[derive(Default)]
struct Health {
    /// All replicas of all partitions were in sync when the administrator looked, at this time.
    whole_at: Cell<Option<Duration>>,
    /// What he saw last.
    seen: RefCell<String>,
    /// Who matters most, as far as he knows: the active controller, and leaders of partitions.
    leaders: RefCell<Vec<i32>>,
}

/// Runs a seed, or what once happened with it.
pub(super) fn run(setup: Setup, story: Option<&Story>) -> Result<Outcome> {
    let log = EventLog::new(setup.trace);
    let mut world = Simulation::in_steps(STEP, setup.seed, LONGEST, log);
    let mut plan = Plan::draw(&world.rng);
    if let Some(story) = story {
        story.set(&mut plan);
    }
    let machines =
        (1..=plan.nodes).map(|id| machine(&mut world, &plan, id)).collect::<Result<Vec<_>>>()?;
    let load = Load {
        bootstrap: plan.names().iter().map(|name| format!("{name}:9092")).collect(),
        partitions: plan.partitions,
        replication_factor: 3,
        producers: plan.producers,
        idempotent: true,
        padding: plan.padding,
        promise: Promise::KeepsAcknowledged,
    };
    let shared = Rc::new(Shared::new(load, || 0));
    let health = Rc::new(Health::default());
    let nodes = machines.iter().map(|machine| machine.node.clone()).collect();
    let clients = add_clients(&mut world, &plan, &shared, (&health, nodes));
    let mut trouble = Trouble::new(&plan, (machines, clients), health.clone());
    let outcome = trouble
        .run(&mut world)
        .and_then(|()| {
            shared.calm.set(true);
            let end = world.elapsed() + RECOVERY;
            let ended = world.run_until(|world| world.elapsed() > end)?;
            if !ended {
                bail!(
                    "{:?} after the last fault these are not at their end: {:?}; the cluster: {}",
                    RECOVERY,
                    shared.busy.borrow(),
                    health.seen.borrow()
                );
            }
            Ok(())
        })
        .with_context(|| format!("{plan:?}, {}", trouble.told()));
    outcome?;
    shared.count("acknowledged", shared.acknowledged() as u64);
    shared.count("seconds", world.elapsed().as_secs());
    let summary = format!("{}; {} {}", trouble.told(), trouble.counted(), shared.counted());
    Ok(Outcome { hash: world.hash(), summary })
}

fn machine(world: &mut Simulation, plan: &Plan, id: u64) -> Result<Machine> {
    let stop = Rc::new(Notify::new());
    let properties = plan.properties(id);
    let (stopping, itself) = (stop.clone(), Rc::new(RefCell::new(None::<Node>)));
    let known = itself.clone();
    let node = world.host(
        &Plan::name(id),
        |node| Ok(node.install_dir(Path::new(DATA))?),
        move |env| {
            let node = known.borrow().clone();
            serve(env, properties.clone(), stopping.clone(), node)
        },
    )?;
    itself.replace(Some(node.clone()));
    Ok(Machine { node, stop })
}

/// One life of a node: as `ottla start` does, it ends when it is asked to, and when it cannot go on.
async fn serve(env: Env, properties: String, stop: Rc<Notify>, node: Option<Node>) -> Result<()> {
    let (config, _) = BrokerConfig::parse(&[&properties], &[])?;
    let node = node.context("a machine without a name")?;
    let started = tokio::select! {
        biased;
        () = stop.notified() => None,
        started = Server::start(env, config) => Some(started),
    };
    match started {
        Some(Ok(server)) => {
            node.fold(format_args!("serves"), &[]);
            let failed = server.failed();
            let failure = tokio::select! {
                biased;
                () = stop.notified() => None,
                reason = failed => Some(reason),
            };
            node.fold(format_args!("stops {failure:?}"), &[]);
            server.shutdown().await;
        }
        // Where it does not start it is started again: what goes on for ever is found out.
        Some(Err(error)) => node.fold(format_args!("did not start: {error}"), &[]),
        None => {}
    }
    node.exit();
    std::future::pending().await
}

/// Adds whoever talks to the cluster, on two machines, and answers the names of these.
fn add_clients(
    world: &mut Simulation,
    plan: &Plan,
    shared: &Rc<Shared>,
    (health, machines): (&Rc<Health>, Vec<Node>),
) -> Vec<String> {
    let mut writers = Programs::default();
    for number in 0..plan.producers {
        writers.add(producer_name(number), produce::run);
    }
    writers.add("committer".to_owned(), commit::run);
    if plan.trims {
        writers.add("trimmer".to_owned(), trim::run);
    }
    let mut readers = Programs::default();
    readers.add("consumer".to_owned(), consume::run);
    readers.add("watcher".to_owned(), watch::run);
    let group = Rc::new(members::Group::default());
    for number in 0..plan.members {
        let group = group.clone();
        readers.add(format!("member-{number}"), |env, node, shared| {
            members::run(env, node, shared, group)
        });
    }
    if plan.recreates {
        readers.add("recreator".to_owned(), recreate::run);
    }
    let task = churn::Task { health: health.clone(), machines, plan: plan.clone() };
    readers
        .add("administrator".to_owned(), |env, node, shared| churn::run(env, node, shared, task));
    let add = |(name, programs): (&str, Programs)| {
        programs.start(world, name, shared);
        name.to_owned()
    };
    [("writers", writers), ("readers", readers)].map(add).into()
}

/// A client at work.
type Running = Pin<Box<dyn Future<Output = Result<()>>>>;
/// A client that has not begun.
type Program = Box<dyn FnOnce(Env, Node, Rc<Shared>) -> Running>;

/// The clients of one machine, by name.
#[derive(Default)]
struct Programs(Vec<(String, Program)>);

impl Programs {
    fn add<R: Future<Output = Result<()>> + 'static>(
        &mut self,
        name: String,
        run: impl FnOnce(Env, Node, Rc<Shared>) -> R + 'static,
    ) {
        self.0.push((name, Box::new(|env, node, shared| Box::pin(run(env, node, shared)))));
    }

    /// Runs them on a machine of their own, until each has come to its end or one has not.
    fn start(self, world: &mut Simulation, machine: &str, shared: &Rc<Shared>) {
        shared.busy.borrow_mut().extend(self.0.iter().map(|(name, _)| name.clone()));
        let shared = shared.clone();
        world.client(machine, |env, node| async move {
            let mut running = JoinSet::new();
            for (name, program) in self.0 {
                let (shared, node) = (shared.clone(), node.program(&name));
                let run = program(env.clone(), node, shared.clone());
                running.spawn_local(async move {
                    run.await.with_context(|| name.clone())?;
                    shared.busy.borrow_mut().remove(&name);
                    anyhow::Ok(())
                });
            }
            while let Some(ended) = running.join_next().await {
                ended??;
            }
            Ok(())
        });
    }
}
