//! Producers and groups of stock clients that go on while everything that can be done to nodes from outside is done to
//! them: `compat/java`, `compat/python` and `compat/rust`, the programs `ThroughFaults`. What was acknowledged must be there, once and in
//! order, their groups must have read it so, and they must never have been told of an error.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Client, Kind, keep_node_logs};
use crate::cluster::{Cluster, NODES};
use crate::program::{Running, Scratch, within};
use crate::tally::Tally;
use crate::toolchain::{self, Toolchain};

const NAME: &str = "through-faults";
/// Longer than `broker.session.timeout.ms` and `controller.quorum.fetch.timeout.ms`: others take over meanwhile.
const HELD: Duration = Duration::from_secs(15);
const STEP_SECONDS: u64 = 120;
/// No more than so many records may wait to be acknowledged, or to be read, before the next fault comes.
const FEW: u64 = 300;

/// What is done to the cluster.
#[derive(Clone, Copy)]
enum Fault {
    Kill(Role),
    Hold(Role),
    /// One node after the other is stopped in good order and started again.
    RollingRestart,
}

/// Whom it meets.
#[derive(Clone, Copy)]
enum Role {
    Leader,
    Controller,
    Coordinator,
}

/// All of them, or those that take no time to speak of.
fn faults(brief: bool) -> Vec<Fault> {
    let roles = [Role::Leader, Role::Controller, Role::Coordinator];
    let mut faults: Vec<Fault> = roles.map(Fault::Kill).to_vec();
    if !brief {
        faults.extend(roles.map(Fault::Hold));
    }
    faults.push(Fault::RollingRestart);
    faults
}

/// Runs the named clients or every one that can, all at once, through all faults so many times; `brief` leaves out what
/// takes long.
pub(crate) fn run(
    tally: &mut Tally,
    clients: &[&str],
    (rounds, brief): (usize, bool),
) -> Result<()> {
    let scratch = Scratch::new(NAME)?;
    let mut programs = Vec::new();
    for client in super::CLIENTS {
        let Some(toolchain) = client.through_faults() else { continue };
        if !clients.is_empty() && !clients.contains(&client.name) {
            continue;
        }
        match toolchain? {
            Toolchain::Ready(program) => programs.push((client.name, program)),
            Toolchain::Missing(what) => tally.skip(&format!("{NAME} {}", client.name), &what),
        }
    }
    if programs.is_empty() {
        return Ok(());
    }
    let faults = faults(brief).repeat(rounds);
    if let Err(error) = drive(tally, &scratch, &programs, &faults) {
        tally.fail(NAME, &format!("{error:#}"));
        keep_node_logs(scratch.path(), NAME)?;
    }
    Ok(())
}

fn drive(
    tally: &mut Tally,
    scratch: &Scratch,
    programs: &[(&'static str, Vec<String>)],
    faults: &[Fault],
) -> Result<()> {
    let mut cluster = Cluster::start(scratch.path())?;
    let mut clients = Vec::new();
    for (name, program) in programs {
        clients.push(Going::start(name, program, &cluster)?);
    }
    for client in &mut clients {
        client.catch_up()?;
    }
    for fault in faults {
        for client in &mut clients {
            client.new_time()?;
        }
        fault.happen(&mut cluster, &clients).with_context(|| fault.to_string())?;
        for client in &mut clients {
            client.catch_up().with_context(|| fault.to_string())?;
            let [acknowledged, read] = client.new_time()?;
            println!(
                "  {fault}: {} was without acknowledgements for {acknowledged} ms, without records for {read} ms",
                client.name
            );
        }
    }
    for client in clients {
        let name = client.name;
        let records = client.finish()?;
        tally.pass(&format!("{NAME} {name}: {} faults, {records} records", faults.len()));
    }
    cluster.stop_all()
}

impl Client {
    /// Its program, if it has one.
    fn through_faults(&self) -> Option<Result<Toolchain>> {
        match self.kind {
            Kind::Java(version) => Some(toolchain::java(version, "ThroughFaults")),
            Kind::Python(_) => Some(toolchain::python("python/through_faults.py")),
            Kind::Rust => {
                let program = toolchain::rust_program("ottla-through-faults");
                Some(program.map(|program| toolchain::ready(&program)))
            }
            Kind::Seeds
            | Kind::Kcat
            | Kind::Go(_)
            | Kind::PythonDriver(_)
            | Kind::Rdkafka
            | Kind::Node(_) => None,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kill(role) => write!(f, "kill -9 of {role}"),
            Self::Hold(role) => write!(f, "{role} stands still for {} s", HELD.as_secs()),
            Self::RollingRestart => f.write_str("rolling restart"),
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Leader => "a leader",
            Self::Controller => "the active controller",
            Self::Coordinator => "the group's coordinator",
        })
    }
}

impl Fault {
    /// Does it, and waits until all is well again.
    fn happen(self, cluster: &mut Cluster, clients: &[Going]) -> Result<()> {
        match self {
            // The coordinators of several groups may be several nodes.
            Self::Kill(role) => role.nodes(cluster, clients)?.into_iter().try_for_each(|id| {
                cluster.kill(id)?;
                cluster.start_again(id)?;
                cluster.wait_until_well()
            }),
            Self::Hold(role) => role.nodes(cluster, clients)?.into_iter().try_for_each(|id| {
                cluster.hold(id, HELD)?;
                cluster.wait_until_well()
            }),
            Self::RollingRestart => (1..=NODES).try_for_each(|id| {
                cluster.stop_node(id)?;
                cluster.start_again(id)?;
                cluster.wait_until_well()
            }),
        }
    }
}

impl Role {
    /// The nodes that have it.
    fn nodes(self, cluster: &Cluster, clients: &[Going]) -> Result<Vec<usize>> {
        let mut nodes = match self {
            Self::Leader => {
                let leader = |client: &Going| cluster.leader(&client.topic, 0);
                clients.iter().take(1).map(leader).collect::<Result<Vec<_>>>()?
            }
            Self::Controller => vec![cluster.active_controller()?],
            Self::Coordinator => {
                let coordinator = |client: &Going| cluster.coordinator(&client.topic);
                clients.iter().map(coordinator).collect::<Result<Vec<_>>>()?
            }
        };
        nodes.sort_unstable();
        nodes.dedup();
        Ok(nodes)
    }
}

/// A program that goes on.
struct Going {
    name: &'static str,
    /// And the name of its group.
    topic: String,
    running: Running,
    acknowledged: u64,
    read: u64,
    /// For their acknowledgement.
    waiting: u64,
    /// In milliseconds: without an acknowledgement, and without a record.
    longest: [u64; 2],
}

/// What a program says.
enum Said {
    Progress,
    Gaps([u64; 2]),
}

impl Going {
    fn start(name: &'static str, program: &[String], cluster: &Cluster) -> Result<Self> {
        let topic = format!("{NAME}-{name}");
        let (word, fixed) = program.split_first().context("an empty command")?;
        let mut command = Command::new(word);
        command.args(fixed).args([&cluster.bootstrap(), &topic]).stdin(Stdio::piped());
        let running = Running::start(command.stderr(File::create(log(name))?))?;
        Ok(Self { name, topic, running, acknowledged: 0, read: 0, waiting: 0, longest: [0; 2] })
    }

    /// The next thing that it says; `None` when it has ended.
    fn hear(&mut self) -> Result<Option<Said>> {
        let place = log(self.name);
        let Some(line) = self.running.line_before(within(STEP_SECONDS)).context(self.name)? else {
            return Ok(None);
        };
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["at", acknowledged, read, waiting] => {
                self.acknowledged = acknowledged.parse()?;
                self.read = read.parse()?;
                self.waiting = waiting.parse()?;
                Ok(Some(Said::Progress))
            }
            ["gaps", acknowledged, read] => {
                Ok(Some(Said::Gaps([acknowledged.parse()?, read.parse()?])))
            }
            _ => bail!("{}: {line} (see {})", self.name, place.display()),
        }
    }

    fn hear_on(&mut self) -> Result<Said> {
        self.hear()?
            .with_context(|| format!("{} ended early: {}", self.name, log(self.name).display()))
    }

    /// Waits until nearly all that was sent is acknowledged and read.
    fn catch_up(&mut self) -> Result<()> {
        let deadline = within(STEP_SECONDS);
        // What it said before is old news.
        self.listen_until_now()?;
        let goal = self.acknowledged + FEW;
        while self.read < goal || self.waiting > FEW || self.read + FEW < self.acknowledged {
            self.hear_on()?;
            let (waiting, unread) = (self.waiting, self.acknowledged.saturating_sub(self.read));
            ensure!(
                Instant::now() < deadline,
                "{}: {waiting} records wait to be acknowledged, {unread} to be read",
                self.name
            );
        }
        Ok(())
    }

    /// Hears all that it has said, and how long its gaps were.
    fn listen_until_now(&mut self) -> Result<()> {
        let input = self.running.child().stdin.as_mut().context("it listens")?;
        // One that has ended has said why.
        let _ended = input.write_all(b"\n");
        loop {
            if let Said::Gaps(gaps) = self.hear_on()? {
                for (longest, gap) in self.longest.iter_mut().zip(gaps) {
                    *longest = (*longest).max(gap);
                }
                return Ok(());
            }
        }
    }

    /// Begins a new time, and answers the longest gaps of the last.
    fn new_time(&mut self) -> Result<[u64; 2]> {
        self.listen_until_now()?;
        Ok(std::mem::take(&mut self.longest))
    }

    /// Lets it finish and check; answers how many records there were.
    fn finish(mut self) -> Result<u64> {
        drop(self.running.child().stdin.take());
        while self.hear()?.is_some() {}
        let status = self.running.ended_before(within(STEP_SECONDS))?;
        ensure!(status.success(), "{} ended with {status}", self.name);
        ensure!(self.read == self.acknowledged && self.read > 0, "{} read too little", self.name);
        Ok(self.read)
    }
}

/// Where a client's own complaints go.
fn log(name: &str) -> PathBuf {
    crate::root().join(format!("target/xtask/{NAME}-{name}.log"))
}
