//! A cluster of several nodes on this machine, to try things out: `ottla cluster start`, `status`,
//! `kill`, `pause`, `resume`, `stop`.
//!
//! ```text
//! ottla-cluster/cluster.json     who the nodes are, where they listen, their processes
//! ottla-cluster/node-1/          server.properties and data of a node
//! ```
//!
//! The process of `start` owns those of the nodes, and writes `cluster.json`; the other commands read it.

mod supervisor;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use ottla_env::Env;
use ottla_env::process::{ProcessSignal, RunningProcess, running_process, send_signal};
use serde_json::{Value, json};

use super::super::key_and_value;
use super::super::output::Format;
use crate::failure::Failure;

/// Between two looks at what others do.
const LOOK: Duration = Duration::from_millis(100);
/// How long a node may take to stop before it is killed.
const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Run a cluster of several nodes on this machine, to try things out; Ctrl-C stops it.
    Start(Start),
    /// Show the nodes of that cluster.
    Status(Place),
    /// Kill a node of it, as when its machine goes.
    Kill(OfNode),
    /// Have a node of it stand still, as when it hangs.
    Pause(OfNode),
    /// Have a node of it go on, or start it again.
    Resume(OfNode),
    /// Stop it; its data stays.
    Stop(Place),
}

#[derive(Args)]
pub(crate) struct Place {
    /// Where the cluster's files are.
    #[arg(long, value_name = "DIR", default_value = "ottla-cluster")]
    dir: PathBuf,
}

#[derive(Args)]
pub(crate) struct Start {
    /// How many nodes [default: those that are there, else 3].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=15))]
    nodes: Option<u16>,
    /// Set one key of every node; may be given many times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub(crate) struct OfNode {
    /// The node.
    #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(1..))]
    node: i32,
    #[command(flatten)]
    place: Place,
}

/// A node, and its process if it has one.
#[derive(Clone, Debug, PartialEq)]
struct LocalNode {
    id: i32,
    /// Ports on 127.0.0.1: that of clients, and that of the controller listener.
    client: u16,
    controller: u16,
    pid: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
struct LocalCluster {
    /// Absolute.
    dir: PathBuf,
    nodes: Vec<LocalNode>,
    /// The process of `ottla cluster start`.
    supervisor: Option<u32>,
}

impl LocalNode {
    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client)
    }

    fn of_json(value: &Value) -> Option<Self> {
        let number = |key: &str| value[key].as_u64();
        Some(Self {
            id: i32::try_from(number("id")?).ok()?,
            client: u16::try_from(number("client_port")?).ok()?,
            controller: u16::try_from(number("controller_port")?).ok()?,
            pid: number("pid").and_then(|pid| u32::try_from(pid).ok()),
        })
    }
}

impl LocalCluster {
    fn state_file(dir: &Path) -> PathBuf {
        dir.join("cluster.json")
    }

    fn node_dir(&self, id: i32) -> PathBuf {
        self.dir.join(format!("node-{id}"))
    }

    fn config_file(&self, id: i32) -> PathBuf {
        self.node_dir(id).join("server.properties")
    }

    /// A file that asks the supervisor to start a node again.
    fn wish_file(&self, id: i32) -> PathBuf {
        self.node_dir(id).join("start-again")
    }

    /// The cluster of a directory, if there is one.
    fn read(env: &Env, dir: &Path) -> Result<Option<Self>> {
        let dir = std::path::absolute(dir).context("the directory of the cluster")?;
        let path = Self::state_file(&dir);
        if !env.disk.exists(&path) {
            return Ok(None);
        }
        let unreadable = |why: String| Failure {
            what: format!("{} cannot be read", path.display()),
            why,
            next: "remove the directory, or name another with --dir".to_owned(),
        };
        let bytes = env.disk.read(&path).map_err(|error| unreadable(error.to_string()))?;
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        let rows = value["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let nodes: Option<Vec<LocalNode>> = rows.iter().map(LocalNode::of_json).collect();
        let nodes = nodes.filter(|nodes| !nodes.is_empty());
        let nodes = nodes.ok_or_else(|| unreadable("it names no nodes".to_owned()))?;
        let supervisor = value["supervisor"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        Ok(Some(Self { dir, nodes, supervisor }))
    }

    /// The cluster of a directory, which has to be there.
    fn existing(env: &Env, place: &Place) -> Result<Self> {
        Self::read(env, &place.dir)?.ok_or_else(|| {
            Failure {
                what: format!("there is no cluster in {}", place.dir.display()),
                why: "no cluster.json is there".to_owned(),
                next: "ottla cluster start --nodes 3 makes one; --dir names another directory"
                    .to_owned(),
            }
            .into()
        })
    }

    fn write(&self, env: &Env) -> Result<()> {
        let nodes: Vec<Value> = self
            .nodes
            .iter()
            .map(|node| {
                json!({
                    "id": node.id, "client_port": node.client, "controller_port": node.controller,
                    "pid": node.pid,
                })
            })
            .collect();
        let state = json!({ "version": 1, "supervisor": self.supervisor, "nodes": nodes });
        let path = Self::state_file(&self.dir);
        Ok(env.disk.write_atomic(&path, format!("{state:#}\n").as_bytes())?)
    }

    /// The process of a node, if it is running: another may have its number by now.
    fn process(&self, node: &LocalNode) -> Option<(u32, RunningProcess)> {
        let pid = node.pid?;
        let config = self.config_file(node.id);
        let is_it =
            |it: &RunningProcess| it.arguments.iter().any(|argument| Path::new(argument) == config);
        running_process(pid).filter(is_it).map(|process| (pid, process))
    }

    /// Who owns the nodes, if it is running.
    fn supervisor(&self) -> Option<u32> {
        let is_it = |it: &RunningProcess| {
            it.arguments.iter().any(|argument| argument == "cluster")
                && it.arguments.iter().any(|argument| argument == "start")
        };
        self.supervisor.filter(|pid| running_process(*pid).is_some_and(|it| is_it(&it)))
    }

    fn node(&self, id: i32) -> Result<&LocalNode> {
        self.nodes.iter().find(|node| node.id == id).ok_or_else(|| {
            let ids: Vec<String> = self.nodes.iter().map(|node| node.id.to_string()).collect();
            Failure {
                what: format!("the cluster has no node {id}"),
                why: format!("its nodes are {}", ids.join(", ")),
                next: "ottla cluster status shows them".to_owned(),
            }
            .into()
        })
    }

    /// Where clients begin.
    fn bootstrap(&self) -> String {
        self.nodes.iter().map(LocalNode::address).collect::<Vec<_>>().join(",")
    }
}

pub(super) fn run(task: &Task, format: Format) -> Result<()> {
    // One thread: a command does one thing after another.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(async {
        let env = Env::os();
        match task {
            Task::Start(start) => supervisor::run(env, start).await,
            Task::Status(place) => status(&env, place, format),
            Task::Kill(node) => act(&env, Deed::Kill, node, format).await,
            Task::Pause(node) => act(&env, Deed::Pause, node, format).await,
            Task::Resume(node) => act(&env, Deed::Resume, node, format).await,
            Task::Stop(place) => stop(&env, place, format).await,
        }
    })
}

/// The option that names a directory, where it is not the usual one.
fn dir_option(dir: &Path) -> String {
    let usual = std::path::absolute("ottla-cluster");
    match usual.is_ok_and(|usual| usual == dir) {
        true => String::new(),
        false => format!(" --dir {}", dir.display()),
    }
}

fn status(env: &Env, place: &Place, format: Format) -> Result<()> {
    let cluster = LocalCluster::existing(env, place)?;
    let rows: Vec<Value> = cluster
        .nodes
        .iter()
        .map(|node| {
            let process = cluster.process(node);
            let state = match &process {
                None => "not running",
                Some((_, it)) if it.is_paused => "paused",
                Some(_) => "running",
            };
            json!({
                "node": node.id, "state": state, "address": node.address(),
                "pid": process.map(|(pid, _)| pid), "dir": cluster.node_dir(node.id),
            })
        })
        .collect();
    let columns = [
        ("NODE", "node"),
        ("STATE", "state"),
        ("ADDRESS", "address"),
        ("PID", "pid"),
        ("DIRECTORY", "dir"),
    ];
    format.rows(&columns, &rows)?;
    format.remark(&match cluster.supervisor() {
        Some(_) => format!("ottla cluster health -b {}", cluster.bootstrap()),
        None => "not started: ottla cluster start".to_owned(),
    })
}

/// What is done to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// As when the machine goes.
    Kill,
    /// As when it hangs.
    Pause,
    /// Go on, or be started again.
    Resume,
}

async fn act(env: &Env, deed: Deed, of: &OfNode, format: Format) -> Result<()> {
    let cluster = LocalCluster::existing(env, &of.place)?;
    let node = cluster.node(of.node)?;
    let id = node.id;
    let (signal, said) = match (deed, cluster.process(node)) {
        (Deed::Resume, None) => return start_again(env, &cluster, id, format).await,
        (Deed::Kill | Deed::Pause, None) => {
            return Err(Failure {
                what: format!("node {id} is not running"),
                why: "it has no process".to_owned(),
                next: format!("ottla cluster resume {id} starts it"),
            }
            .into());
        }
        (Deed::Kill, Some((pid, _))) => ((pid, ProcessSignal::Kill), "is killed"),
        (Deed::Pause, Some((pid, _))) => ((pid, ProcessSignal::Pause), "stands still"),
        (Deed::Resume, Some((pid, _))) => ((pid, ProcessSignal::Resume), "goes on"),
    };
    send_signal(signal.0, signal.1).with_context(|| format!("node {id} cannot be signalled"))?;
    let object = json!({ "node": id, "pid": signal.0, "done": format!("{deed:?}").to_lowercase() });
    format.object(&object, &format!("node {id} {said}"))
}

/// Asks the supervisor to start a node that ended, and waits for it.
async fn start_again(env: &Env, cluster: &LocalCluster, id: i32, format: Format) -> Result<()> {
    if cluster.supervisor().is_none() {
        return Err(Failure {
            what: format!("node {id} is not started"),
            why: "nobody looks after the cluster".to_owned(),
            next: "ottla cluster start starts all of its nodes".to_owned(),
        }
        .into());
    }
    env.disk.write_atomic(&cluster.wish_file(id), b"")?;
    let deadline = env.clock.now() + PATIENCE;
    while env.clock.now() < deadline {
        env.clock.sleep(LOOK).await;
        let Some(now) = LocalCluster::read(env, &cluster.dir)? else { break };
        if let Some((pid, _)) = now.process(now.node(id)?) {
            let object = json!({ "node": id, "pid": pid, "done": "resume" });
            return format.object(&object, &format!("node {id} is started again"));
        }
    }
    Err(Failure {
        what: format!("node {id} is not started"),
        why: "whoever looks after the cluster did not do it".to_owned(),
        next: "see what the terminal of ottla cluster start says".to_owned(),
    }
    .into())
}

async fn stop(env: &Env, place: &Place, format: Format) -> Result<()> {
    let cluster = LocalCluster::existing(env, place)?;
    let deadline = env.clock.now() + PATIENCE * 2;
    match cluster.supervisor() {
        Some(pid) => send_signal(pid, ProcessSignal::Terminate)?,
        None => stop_orphans(env, &cluster).await?,
    }
    let is_up = |cluster: &LocalCluster| {
        cluster.supervisor().is_some()
            || cluster.nodes.iter().any(|node| cluster.process(node).is_some())
    };
    while is_up(&cluster) {
        if env.clock.now() >= deadline {
            return Err(Failure {
                what: "the cluster is still running".to_owned(),
                why: "it was asked to stop, and has not".to_owned(),
                next: "ottla cluster status shows its processes".to_owned(),
            }
            .into());
        }
        env.clock.sleep(LOOK).await;
    }
    format.object(
        &json!({ "stopped": true }),
        "stopped; its data stays, and ottla cluster start goes on with it",
    )
}

/// Stops nodes whose owner was killed.
async fn stop_orphans(env: &Env, cluster: &LocalCluster) -> Result<()> {
    for node in &cluster.nodes {
        let Some((pid, process)) = cluster.process(node) else { continue };
        if process.is_paused {
            send_signal(pid, ProcessSignal::Resume)?;
        }
        send_signal(pid, ProcessSignal::Terminate)?;
        let deadline = env.clock.now() + PATIENCE;
        while cluster.process(node).is_some() {
            if env.clock.now() >= deadline {
                send_signal(pid, ProcessSignal::Kill)?;
            }
            env.clock.sleep(LOOK).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cluster_is_read_as_it_was_written() {
        let env = Env::os();
        let dir = tempfile::tempdir().unwrap();
        let dir = std::path::absolute(dir.path()).unwrap();
        env.disk.create_dir_all(&dir).unwrap();
        assert_eq!(LocalCluster::read(&env, &dir).unwrap(), None);
        let node = |id, pid| LocalNode { id, client: 40_001, controller: 40_002, pid };
        let nodes = vec![node(1, None), node(2, Some(7))];
        let cluster =
            LocalCluster { dir: dir.clone(), nodes, supervisor: Some(std::process::id()) };
        cluster.write(&env).unwrap();
        assert_eq!(LocalCluster::read(&env, &dir).unwrap(), Some(cluster.clone()));
        assert_eq!(cluster.bootstrap(), "127.0.0.1:40001,127.0.0.1:40001");
        assert_eq!(cluster.supervisor(), None, "a test is no supervisor");
        assert!(cluster.process(&cluster.nodes[1]).is_none());
        assert!(cluster.node(3).unwrap_err().to_string().contains("its nodes are 1, 2"));
        env.disk.write_atomic(&LocalCluster::state_file(&dir), b"{}").unwrap();
        assert!(LocalCluster::read(&env, &dir).unwrap_err().to_string().contains("names no nodes"));
    }
}
