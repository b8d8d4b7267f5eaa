//! Three nodes under test, each a process of its own that can be killed, held, stopped and started again; its ports stay
//! its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::node::{Node, Settings, binary};
use crate::program::within;

/// How many there are; their ids begin with 1.
pub(crate) const NODES: usize = 3;
const WELL_SECONDS: u64 = 120;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Nodes that are brokers and voters all, with every partition on each of them.
pub(crate) struct Cluster {
    folder: PathBuf,
    ports: Vec<Ports>,
    nodes: Vec<Option<Node>>,
}

struct Ports {
    clients: u16,
    controller: u16,
    metrics: u16,
}

impl Cluster {
    /// Starts new ones with their data below the folder, and waits until all is in sync.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        // All are held until all are found, so that none is found twice.
        let held: Vec<TcpListener> =
            (0..3 * NODES).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let mut numbers = Vec::new();
        for listener in &held {
            numbers.push(listener.local_addr()?.port());
        }
        let ports = numbers
            .chunks(3)
            .map(|of| Ports { clients: of[0], controller: of[1], metrics: of[2] })
            .collect();
        drop(held);
        let nodes = (0..NODES).map(|_| None).collect();
        let mut cluster = Self { folder: folder.to_owned(), ports, nodes };
        cluster.start_all()?;
        Ok(cluster)
    }

    /// Starts all, which must be down, at once: none is ready before there is a majority.
    pub(crate) fn start_all(&mut self) -> Result<()> {
        // Not built by each of the threads.
        binary()?;
        let plans = (1..=NODES).map(|id| (self.folder_of(id), self.settings(id)));
        let starting: Vec<_> = plans
            .map(|(folder, settings)| std::thread::spawn(move || start_node(&folder, &settings)))
            .collect();
        let started = starting.into_iter().map(|starting| {
            starting.join().map_err(|_| anyhow!("the start of a node has panicked"))?
        });
        let started: Vec<Result<Node>> = started.collect();
        for (place, node) in self.nodes.iter_mut().zip(started) {
            *place = Some(node?);
        }
        self.wait_until_well()
    }

    /// Starts one that is down, and waits until it is ready.
    pub(crate) fn start_again(&mut self, id: usize) -> Result<()> {
        let node = start_node(&self.folder_of(id), &self.settings(id));
        self.nodes[id - 1] = Some(node.with_context(|| format!("starting node {id} again"))?);
        Ok(())
    }

    /// Where each node of a cluster in `folder` has its log, `node.log`, and its data.
    pub(crate) fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> {
        (1..=NODES).map(move |id| folder.join(format!("node-{id}")))
    }

    fn folder_of(&self, id: usize) -> PathBuf {
        self.folder.join(format!("node-{id}"))
    }

    fn settings(&self, id: usize) -> Settings {
        let Ports { clients, controller, metrics } = self.ports[id - 1];
        let voters = (1..).zip(&self.ports);
        let voters: Vec<String> =
            voters.map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller)).collect();
        let mut settings = Settings {
            listeners: format!(
                "PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}"
            ),
            ..Settings::default()
        };
        let map = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT";
        settings.set.extend([
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", id.to_string()),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("listener.security.protocol.map", map.to_owned()),
            ("controller.quorum.voters", voters.join(",")),
            ("metrics.listener", format!("127.0.0.1:{metrics}")),
            ("default.replication.factor", NODES.to_string()),
            ("offsets.topic.replication.factor", NODES.to_string()),
            ("min.insync.replicas", (NODES - 1).to_string()),
        ]);
        settings
    }

    /// Where clients find one node.
    fn address(&self, id: usize) -> String {
        format!("127.0.0.1:{}", self.ports[id - 1].clients)
    }

    /// Where clients find all of them.
    pub(crate) fn bootstrap(&self) -> String {
        (1..=NODES).map(|id| self.address(id)).collect::<Vec<_>>().join(",")
    }

    /// Where they tell their metrics.
    pub(crate) fn metrics_urls(&self) -> String {
        let of = |ports: &Ports| format!("http://127.0.0.1:{}/metrics", ports.metrics);
        self.ports.iter().map(of).collect::<Vec<_>>().join(" ")
    }

    fn take(&mut self, id: usize) -> Result<Node> {
        self.nodes[id - 1].take().with_context(|| format!("node {id} does not run"))
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, id: usize) -> Result<()> {
        self.take(id)?.kill()
    }

    /// Stops one in good order.
    pub(crate) fn stop_node(&mut self, id: usize) -> Result<()> {
        self.take(id)?.stop().with_context(|| format!("node {id}"))
    }

    /// One stands still for a while.
    pub(crate) fn hold(&self, id: usize, length: Duration) -> Result<()> {
        let node = self.nodes[id - 1].as_ref().context("a node that runs")?;
        node.hold()?;
        std::thread::sleep(length);
        node.go_on()
    }

    /// Stops all, one after the other, each in good order.
    pub(crate) fn stop_all(&mut self) -> Result<()> {
        (1..=NODES).try_for_each(|id| self.stop_node(id))
    }

    /// Waits until every node says that all is well: voters, brokers, leaders, replicas in sync, disks.
    pub(crate) fn wait_until_well(&self) -> Result<()> {
        let deadline = within(WELL_SECONDS);
        let mut ids = 1..=NODES;
        let mut next = ids.next();
        while let Some(id) = next {
            let health = ["cluster", "health", "--timeout", "5", "-b", &self.address(id)];
            let said = Command::new(binary()?).args(health).stdin(Stdio::null()).output()?;
            if said.status.success() {
                next = ids.next();
                continue;
            }
            if Instant::now() > deadline {
                let (table, why) = (said.stdout, said.stderr);
                let (table, why) = (String::from_utf8_lossy(&table), String::from_utf8_lossy(&why));
                bail!("not well after {WELL_SECONDS} s, says node {id}: {table}{why}");
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Who leads a partition.
    pub(crate) fn leader(&self, topic: &str, partition: u64) -> Result<usize> {
        let rows = self.rows(&["topic", "describe", topic])?;
        let row = rows.iter().find(|row| row["partition"] == partition);
        id(row.map_or(&Value::Null, |row| &row["leader"]))
    }

    /// Who leads the metadata quorum.
    pub(crate) fn active_controller(&self) -> Result<usize> {
        let rows = self.rows(&["cluster", "quorum"])?;
        let row = rows.iter().find(|row| row["leader"] == true);
        id(row.map_or(&Value::Null, |row| &row["node"]))
    }

    /// Who coordinates a group.
    pub(crate) fn coordinator(&self, group: &str) -> Result<usize> {
        let said = self.ask(&["group", "describe", group])?;
        let (_, after) = said.split_once("coordinator ").context("who coordinates the group")?;
        let number = after.split_whitespace().next().unwrap_or_default();
        number.parse().with_context(|| format!("a coordinator: {said}"))
    }

    fn rows(&self, command: &[&str]) -> Result<Vec<Value>> {
        let said = self.ask(&[command, &["--format", "json"]].concat())?;
        Ok(serde_json::Deserializer::from_str(&said).into_iter().collect::<Result<_, _>>()?)
    }

    /// What `ottla` says of the cluster.
    fn ask(&self, command: &[&str]) -> Result<String> {
        let said = Command::new(binary()?)
            .args(command)
            .args(["-b", &self.bootstrap()])
            .stdin(Stdio::null())
            .output()?;
        let errors = String::from_utf8_lossy(&said.stderr);
        ensure!(said.status.success(), "ottla {}: {errors}", command.join(" "));
        Ok(String::from_utf8(said.stdout)?)
    }
}

fn start_node(folder: &Path, settings: &Settings) -> Result<Node> {
    std::fs::create_dir_all(folder)?;
    Node::start(folder, settings)
}

fn id(value: &Value) -> Result<usize> {
    let number = value.as_u64().with_context(|| format!("the id of a node, not {value}"))?;
    Ok(usize::try_from(number)?)
}
