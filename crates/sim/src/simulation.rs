//! Machines, the network between them, and time.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use ottla_env::Env;

use crate::clock::EPOCH;
use crate::event_log::EventLog;
use crate::links::Links;
use crate::node::Node;
use crate::power::Crash;
use crate::rng::SimRng;

/// Virtual time that one step moves on, where nothing else is said.
const TICK: Duration = Duration::from_millis(1);

/// A world that a seed decides: machines, the network between them, and time.
pub struct Simulation {
    sim: turmoil::Sim<'static>,
    nodes: BTreeMap<String, Node>,
    clients: usize,
    seed: u64,
    links: Links,
    log: EventLog,
    /// For the plan of the run: when to crash what.
    pub rng: SimRng,
}

impl Simulation {
    /// A world without machines, for at most `duration` of virtual time.
    pub fn new(seed: u64, duration: Duration, log: EventLog) -> Self {
        Self::in_steps(TICK, seed, duration, log)
    }

    /// As [`Simulation::new`], in longer steps: what is sent within one arrives in the next at the
    /// earliest, and many machines cost so much less.
    pub fn in_steps(tick: Duration, seed: u64, duration: Duration, log: EventLog) -> Self {
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .epoch(UNIX_EPOCH + Duration::from_millis(EPOCH.0.unsigned_abs()))
            .simulation_duration(duration)
            .tick_duration(tick)
            .min_message_latency(Duration::ZERO)
            .max_message_latency(Duration::from_millis(20))
            .tcp_capacity(4096)
            .enable_random_order()
            .build();
        let rng = SimRng::new(seed, "plan");
        let (nodes, links) = (BTreeMap::new(), Links::default());
        Self { sim, nodes, clients: 0, seed, links, log, rng }
    }

    /// Adds a machine that runs `software`, again from the start in each of its lives. `prepare`
    /// sees it before the first.
    pub fn host<Software, Life>(
        &mut self,
        name: &str,
        prepare: impl FnOnce(&Node) -> Result<()>,
        software: Software,
    ) -> Result<Node>
    where
        Software: Fn(Env) -> Life + 'static,
        Life: Future<Output = Result<()>> + 'static,
    {
        let node = self.node(name);
        prepare(&node).with_context(|| format!("preparing {name}"))?;
        let machine = node.clone();
        let software = std::rc::Rc::new(software);
        self.sim.host(name, move || {
            let machine = machine.clone();
            let software = software.clone();
            async move {
                let life = Box::pin(software(machine.boot()));
                let outcome = machine.task(life).await;
                // What a node says after its death is of no matter; `step` will turn it off.
                if machine.died().is_some() {
                    return std::future::pending().await;
                }
                outcome.map_err(|error| format!("{}: {error:#}", machine.name()).into())
            }
        });
        Ok(node)
    }

    /// Adds a machine that runs `software` once; the run ends when all such have ended.
    pub fn client<Life>(&mut self, name: &str, software: impl FnOnce(Env, Node) -> Life + 'static)
    where
        Life: Future<Output = Result<()>> + 'static,
    {
        let node = self.node(name);
        self.clients += 1;
        self.sim.client(name, async move {
            let outcome = software(node.boot(), node.clone()).await;
            outcome.map_err(|error| format!("{}: {error:#}", node.name()).into())
        });
    }

    fn node(&mut self, name: &str) -> Node {
        let node = Node::new(name, self.seed, self.log.clone(), self.links.clone());
        self.nodes.insert(name.to_owned(), node.clone());
        node
    }

    /// Moves time on by one tick. Answers whether there are clients and all have ended. A node that
    /// died in the middle of a disk operation is stopped; [`Simulation::restart`] revives it.
    pub fn step(&mut self) -> Result<bool> {
        let finished = self.sim.step().map_err(|error| anyhow!("{error}"))?;
        let died: Vec<(String, Crash)> = self
            .nodes
            .values()
            .filter_map(|node| Some((node.name().to_owned(), node.died()?)))
            .collect();
        for (name, crash) in died {
            if self.sim.is_host_running(&*name) {
                self.crash(&name, crash)?;
            }
        }
        Ok(finished && self.clients > 0)
    }

    /// Steps until `done` says so or all clients have ended.
    pub fn run_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) -> Result<bool> {
        loop {
            let finished = self.step()?;
            if finished || done(self) {
                return Ok(finished);
            }
        }
    }

    /// Steps until all clients have ended.
    pub fn run(&mut self) -> Result<()> {
        self.run_until(|_| false).map(|_| ())
    }

    /// Steps for `duration` of virtual time, or until all clients have ended.
    pub fn run_for(&mut self, duration: Duration) -> Result<bool> {
        let end = self.sim.elapsed() + duration;
        self.run_until(|world| world.sim.elapsed() >= end)
    }

    /// Ends the current life of a machine.
    pub fn crash(&mut self, name: &str, crash: Crash) -> Result<()> {
        let node = self.nodes.get(name).with_context(|| format!("no machine {name}"))?.clone();
        ensure!(self.sim.is_host_running(name), "{name} does not run");
        node.crash(crash);
        self.sim.crash(name);
        Ok(())
    }

    /// Begins a new life of a machine that has crashed.
    pub fn restart(&mut self, name: &str) -> Result<()> {
        ensure!(!self.sim.is_host_running(name), "{name} runs already");
        self.sim.bounce(name);
        Ok(())
    }

    /// Whether a machine runs.
    pub fn is_running(&mut self, name: &str) -> bool {
        self.sim.is_host_running(name)
    }

    /// Lets no message pass between two machines until [`Simulation::release`]; TCP would repeat
    /// them for minutes, so they arrive late rather than never.
    pub fn hold(&self, one: &str, other: &str) {
        self.sim.hold(one, other);
    }

    /// Delivers what [`Simulation::hold`] held.
    pub fn release(&self, one: &str, other: &str) {
        self.sim.release(one, other);
    }

    /// Lets nothing that one machine sends reach another until [`Simulation::heal`]; the other way
    /// stays as it is.
    pub fn cut(&self, from: &str, to: &str) {
        self.log.fold("network", format_args!("cut {from}>{to}"), &[]);
        self.links.cut(from, to);
    }

    /// Lets arrive what [`Simulation::cut`] held back, and what comes after.
    pub fn heal(&self, from: &str, to: &str) {
        self.log.fold("network", format_args!("heal {from}>{to}"), &[]);
        self.links.heal(from, to);
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    /// The hash of all that has happened.
    pub fn hash(&self) -> u64 {
        self.log.hash()
    }
}
