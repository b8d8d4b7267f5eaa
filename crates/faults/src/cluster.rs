//! Nodes in processes of their own, each listener behind a relay.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use ottla_env::process::{ProcessSignal, send_signal};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::relay::{Links, Place, Relay};

/// How long a node may take to stop in order.
const STOP: Duration = Duration::from_secs(60);
/// So much of a node's log is shown when it ended of itself.
const TAIL: usize = 30;

/// Which roles nodes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Layout {
    /// Three nodes, each broker and controller.
    Together,
    /// Three controllers and three brokers.
    Apart,
}

impl Layout {
    pub(crate) fn brokers(self) -> [i32; 3] {
        match self {
            Self::Together => [1, 2, 3],
            Self::Apart => [4, 5, 6],
        }
    }

    pub(crate) fn nodes(self) -> &'static [i32] {
        match self {
            Self::Together => &[1, 2, 3],
            Self::Apart => &[1, 2, 3, 4, 5, 6],
        }
    }

    fn is_broker(self, id: i32) -> bool {
        self.brokers().contains(&id)
    }
}

/// What a node listens for, by its listener's name.
const CLIENTS: &str = "CLIENTS";
const NODES: &str = "NODES";
const CONTROLLER: &str = "CONTROLLER";

struct Node {
    dir: PathBuf,
    relays: BTreeMap<&'static str, Relay>,
    /// Where its last process listens, or will.
    targets: Vec<SocketAddr>,
    process: Option<Child>,
}

/// All nodes.
pub(crate) struct Cluster {
    pub(crate) layout: Layout,
    pub(crate) links: Links,
    program: PathBuf,
    nodes: BTreeMap<i32, Node>,
}

impl Cluster {
    /// Nodes with their data below `dir`; none runs yet.
    pub(crate) fn new(program: &Path, dir: &Path, layout: Layout) -> Result<Self> {
        let links = Links::new();
        let mut nodes = BTreeMap::new();
        for &id in layout.nodes() {
            let controller = id <= 3;
            let mut names = Vec::new();
            names.extend(layout.is_broker(id).then_some([CLIENTS, NODES]).into_iter().flatten());
            names.extend(controller.then_some(CONTROLLER));
            let relay = |name| Ok((name, Relay::new(&links, id).context("no port is free")?));
            let relays = names.into_iter().map(relay).collect::<Result<_>>()?;
            let dir = dir.join(format!("node-{id}"));
            std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
            nodes.insert(id, Node { dir, relays, targets: Vec::new(), process: None });
        }
        Ok(Self { layout, links, program: program.to_owned(), nodes })
    }

    /// Where clients begin.
    pub(crate) fn bootstrap(&self) -> Vec<String> {
        let relays = self.nodes.values().filter_map(|node| node.relays.get(CLIENTS));
        relays.map(|relay| relay.address().to_string()).collect()
    }

    /// Where a node keeps its partitions.
    pub(crate) fn data(&self, id: i32) -> PathBuf {
        self.nodes[&id].dir.join("data")
    }

    /// Clients and all nodes but `id`.
    pub(crate) fn others(&self, id: i32) -> Vec<Place> {
        let nodes = self.nodes.keys().filter(|other| **other != id).map(|id| Place::Node(*id));
        nodes.chain([Place::Clients]).collect()
    }

    pub(crate) fn is_running(&self, id: i32) -> bool {
        self.nodes[&id].process.is_some()
    }

    /// Starts nodes that do not run.
    pub(crate) async fn start_all(&mut self) -> Result<()> {
        for &id in self.layout.nodes() {
            if !self.is_running(id) {
                self.start(id).await?;
            }
        }
        Ok(())
    }

    /// Starts a node, on other ports than before.
    pub(crate) async fn start(&mut self, id: i32) -> Result<()> {
        let mut targets = BTreeMap::new();
        let mut held = Vec::new();
        for name in self.nodes[&id].relays.keys() {
            targets.insert(*name, self.free_port(&mut held).await?);
        }
        drop(held);
        let properties = self.properties(id, &targets);
        let node = self.nodes.get_mut(&id).context("no such node")?;
        node.targets = targets.values().copied().collect();
        let config = node.dir.join("server.properties");
        std::fs::write(&config, properties).with_context(|| config.display().to_string())?;
        let log = File::options().create(true).append(true).open(node.dir.join("node.log"))?;
        let child = Command::new(&self.program)
            .args(["start", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        self.links.set_process(id, child.id());
        node.process = Some(child);
        for (name, relay) in &mut node.relays {
            relay.open(targets[name]).await;
        }
        Ok(())
    }

    /// A port that the system hands out, and did not hand out for another node, which may not listen there yet.
    async fn free_port(&self, held: &mut Vec<TcpListener>) -> Result<SocketAddr> {
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.context("no port is free")?;
            let address = listener.local_addr()?;
            held.push(listener);
            if !self.nodes.values().any(|node| node.targets.contains(&address)) {
                return Ok(address);
            }
        }
    }

    fn properties(&self, id: i32, targets: &BTreeMap<&str, SocketAddr>) -> String {
        let listeners = |of: &dyn Fn(&str) -> Option<SocketAddr>, names: &[&str]| {
            let rows = names.iter().filter_map(|name| Some(format!("{name}://{}", of(name)?)));
            rows.collect::<Vec<_>>().join(",")
        };
        let node = &self.nodes[&id];
        let own = |name: &str| targets.get(name).copied();
        let relayed = |name: &str| node.relays.get(name).map(Relay::address);
        let voters = self.nodes.iter().filter_map(|(id, node)| {
            Some(format!("{id}@{}", node.relays.get(CONTROLLER)?.address()))
        });
        let roles = match (self.layout.is_broker(id), node.relays.contains_key(CONTROLLER)) {
            (true, true) => "broker,controller",
            (true, false) => "broker",
            (false, _) => "controller",
        };
        let advertised = listeners(&relayed, &[CLIENTS, NODES]);
        let advertised = match advertised.as_str() {
            "" => String::new(),
            some => format!("advertised.listeners={some}\ninter.broker.listener.name={NODES}\n"),
        };
        format!(
            "process.roles={roles}\n\
             node.id={id}\n\
             listeners={}\n\
             {advertised}\
             listener.security.protocol.map=CLIENTS:PLAINTEXT,NODES:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             controller.listener.names={CONTROLLER}\n\
             controller.quorum.voters={}\n\
             log.dirs={}\n\
             default.replication.factor=3\n\
             min.insync.replicas=2\n",
            listeners(&own, &[CLIENTS, NODES, CONTROLLER]),
            voters.collect::<Vec<_>>().join(","),
            node.dir.join("data").display(),
        )
    }

    /// `kill -9`: its ports refuse from now on.
    pub(crate) async fn kill(&mut self, id: i32) -> Result<()> {
        let node = self.nodes.get_mut(&id).context("no such node")?;
        let Some(mut process) = node.process.take() else { return Ok(()) };
        for relay in node.relays.values_mut() {
            relay.close().await;
        }
        process.kill().await.with_context(|| format!("killing node {id}"))?;
        self.links.set_process(id, None);
        Ok(())
    }

    /// Stops a node in order.
    pub(crate) async fn stop(&mut self, id: i32) -> Result<()> {
        let node = self.nodes.get_mut(&id).context("no such node")?;
        let Some(mut process) = node.process.take() else { return Ok(()) };
        send_signal(process.id().context("the node has ended")?, ProcessSignal::Terminate)?;
        let status = tokio::time::timeout(STOP, process.wait()).await;
        let status = status.with_context(|| format!("node {id} did not stop in {STOP:?}"))??;
        for relay in node.relays.values_mut() {
            relay.close().await;
        }
        self.links.set_process(id, None);
        // A shell, and a JVM, call an end by SIGTERM 143.
        ensure!(status.success() || status.code() == Some(143), "node {id} stopped with {status}");
        Ok(())
    }

    /// Has a node stand still, or go on.
    pub(crate) fn signal(&self, id: i32, signal: ProcessSignal) -> Result<()> {
        let process = self.nodes[&id].process.as_ref();
        let pid = process.and_then(Child::id).context("the node does not run")?;
        Ok(send_signal(pid, signal)?)
    }

    /// Fails if a node that should run has ended.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        for (id, node) in &mut self.nodes {
            let Some(process) = &mut node.process else { continue };
            let ended: Option<ExitStatus> = process.try_wait()?;
            if let Some(status) = ended {
                bail!("node {id} ended with {status}:\n{}", tail(&node.dir.join("node.log")));
            }
        }
        Ok(())
    }

    /// Lines of the nodes' logs that tell of a bug.
    pub(crate) fn panics(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (id, node) in &self.nodes {
            let said = std::fs::read_to_string(node.dir.join("node.log")).unwrap_or_default();
            let panics = said.lines().filter(|line| line.contains("panicked"));
            found.extend(panics.map(|line| format!("node {id}: {line}")));
        }
        found
    }
}

fn tail(path: &Path) -> String {
    let said = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
