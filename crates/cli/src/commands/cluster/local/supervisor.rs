//! The process that owns the nodes of a local cluster.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write;
use std::process::ExitStatus;

use anyhow::{Context, Result};
use ottla_env::process::{OwnProgram, ProcessSignal, send_signal, shutdown_signal};
use ottla_env::{Env, TaskHandle};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;

use super::{LOOK, LocalCluster, LocalNode, PATIENCE, Start};
use crate::failure::Failure;

/// What is heard of a node.
enum Event {
    /// A line of its log.
    Said(i32, String),
    /// It serves clients.
    Ready(i32),
    /// Its process has ended.
    Ended(i32, Option<ExitStatus>),
}

struct Supervisor {
    env: Env,
    cluster: LocalCluster,
    events: mpsc::Receiver<Event>,
    heard: mpsc::Sender<Event>,
    ready: BTreeSet<i32>,
    /// Those that follow what nodes say.
    followers: Vec<TaskHandle>,
}

pub(super) async fn run(env: Env, options: &Start) -> Result<()> {
    let mut cluster = planned(&env, options).await?;
    if cluster.supervisor().is_some() {
        return Err(Failure {
            what: format!("the cluster in {} is running already", cluster.dir.display()),
            why: "another process looks after it".to_owned(),
            next: "ottla cluster status shows it; --dir names another".to_owned(),
        }
        .into());
    }
    super::stop_orphans(&env, &cluster).await?;
    cluster.supervisor = Some(std::process::id());
    configure(&env, &cluster, &options.set)?;
    let asked_to_stop = shutdown_signal().context("cannot listen for signals")?;
    // Lines wait here until they are printed; nodes wait for room.
    let (heard, events) = mpsc::channel(1024);
    let (ready, followers) = (BTreeSet::new(), Vec::new());
    let mut supervisor = Supervisor { env, cluster, events, heard, ready, followers };
    for id in supervisor.ids() {
        supervisor.start(id)?;
    }
    tokio::pin!(asked_to_stop);
    loop {
        tokio::select! {
            biased;
            _ = &mut asked_to_stop => break,
            Some(event) = supervisor.events.recv() => supervisor.hear(event)?,
            () = supervisor.env.clock.sleep(LOOK) => supervisor.fulfil_wishes()?,
        }
        if supervisor.cluster.nodes.iter().all(|node| node.pid.is_none()) {
            break;
        }
    }
    supervisor.stop().await
}

/// The cluster that is there, or a new one on ports that are free.
async fn planned(env: &Env, options: &Start) -> Result<LocalCluster> {
    if let Some(cluster) = LocalCluster::read(env, &options.place.dir)? {
        let count = cluster.nodes.len();
        return match options.nodes {
            Some(asked) if usize::from(asked) != count => Err(Failure {
                what: format!("{} nodes are not started", asked),
                why: format!("the cluster in {} has {count}", cluster.dir.display()),
                next: "leave --nodes out to go on with it, or name another --dir".to_owned(),
            }
            .into()),
            Some(_) | None => Ok(cluster),
        };
    }
    let mut held = Vec::new();
    let mut nodes = Vec::new();
    for id in 1..=i32::from(options.nodes.unwrap_or(3)) {
        let mut ports = [0; 2];
        for port in &mut ports {
            let listener = env.net.listen("127.0.0.1:0", 1).await.context("no port is free")?;
            *port = listener.local_addr()?.port();
            // All are held until all are found, so that none is found twice.
            held.push(listener);
        }
        let [client, controller] = ports;
        nodes.push(LocalNode { id, client, controller, pid: None });
    }
    let dir = std::path::absolute(&options.place.dir).context("the directory of the cluster")?;
    Ok(LocalCluster { dir, nodes, supervisor: None })
}

/// Writes what nodes are started with.
fn configure(env: &Env, cluster: &LocalCluster, set: &[(String, String)]) -> Result<()> {
    for node in &cluster.nodes {
        env.disk.create_dir_all(&cluster.node_dir(node.id))?;
        let text = properties(cluster, node, set);
        env.disk.write_atomic(&cluster.config_file(node.id), text.as_bytes())?;
    }
    cluster.write(env)
}

/// The configuration of a node: replicated as far as there are nodes.
fn properties(cluster: &LocalCluster, node: &LocalNode, set: &[(String, String)]) -> String {
    let voters: Vec<String> =
        cluster.nodes.iter().map(|it| format!("{}@127.0.0.1:{}", it.id, it.controller)).collect();
    let factor = cluster.nodes.len().min(3);
    let data = cluster.node_dir(node.id).join("data");
    let mut text = format!(
        "# Written by ottla cluster start.\n\
         process.roles=broker,controller\n\
         node.id={}\n\
         listeners=PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         controller.quorum.voters={}\n\
         log.dirs={}\n\
         default.replication.factor={factor}\n\
         offsets.topic.replication.factor={factor}\n\
         min.insync.replicas={}\n\
         group.initial.rebalance.delay.ms=0\n",
        node.id,
        node.client,
        node.controller,
        voters.join(","),
        data.display(),
        factor.saturating_sub(1).max(1),
    );
    for (key, value) in set {
        text += &format!("{key}={value}\n");
    }
    text
}

impl Supervisor {
    fn ids(&self) -> Vec<i32> {
        self.cluster.nodes.iter().map(|node| node.id).collect()
    }

    fn start(&mut self, id: i32) -> Result<()> {
        let config = self.cluster.config_file(id);
        let arguments = [OsStr::new("start"), OsStr::new("--config"), config.as_os_str()];
        let mut program = OwnProgram::start(&arguments)
            .with_context(|| format!("node {id} cannot be started"))?;
        self.set_pid(id, Some(program.pid()))?;
        if let Some((stdout, stderr)) = program.output() {
            let (said, log) = (self.heard.clone(), self.heard.clone());
            let stdout = follow(stdout, id, said, ready_line);
            let stderr = follow(stderr, id, log, |id, line| Some(Event::Said(id, line)));
            self.followers.push(self.env.spawn("node's output", stdout));
            self.followers.push(self.env.spawn("node's log", stderr));
        }
        let heard = self.heard.clone();
        let end = async move {
            let status = program.wait().await.ok();
            let _nobody_listens = heard.send(Event::Ended(id, status)).await;
        };
        self.followers.push(self.env.spawn("node's process", end));
        self.followers.retain(|task| !task.is_finished());
        Ok(())
    }

    fn set_pid(&mut self, id: i32, pid: Option<u32>) -> Result<()> {
        for node in self.cluster.nodes.iter_mut().filter(|node| node.id == id) {
            node.pid = pid;
        }
        self.cluster.write(&self.env)
    }

    fn hear(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Said(id, line) => say(&format!("node {id} | {line}")),
            Event::Ready(id) => {
                say(&format!("node {id} is ready"))?;
                if self.ready.insert(id) && self.ready.len() == self.cluster.nodes.len() {
                    self.announce()?;
                }
                Ok(())
            }
            Event::Ended(id, status) => {
                let status = status.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
                self.set_pid(id, None)?;
                say(&format!(
                    "node {id} has ended ({status}); ottla cluster resume {id} starts it again"
                ))
            }
        }
    }

    /// Says where the cluster is and what to type next.
    fn announce(&self) -> Result<()> {
        let bootstrap = self.cluster.bootstrap();
        let first = self.cluster.nodes.first().map(LocalNode::address).unwrap_or_default();
        let dir = super::dir_option(&self.cluster.dir);
        say(&format!(
            "the cluster is ready: {} nodes\n\
             \x20 bootstrap  {bootstrap}\n\
             \x20 data       {}\n\
             \x20 try        ottla topic create orders --partitions 6 -b {first}\n\
             \x20            ottla cluster health -b {first}\n\
             \x20            ottla cluster kill 2{dir}, pause 3{dir}, resume 2{dir}, status{dir}\n\
             \x20 stop       Ctrl-C, or ottla cluster stop{dir}; the data stays",
            self.cluster.nodes.len(),
            self.cluster.dir.display(),
        ))
    }

    /// Starts nodes that somebody wants to run again.
    fn fulfil_wishes(&mut self) -> Result<()> {
        for id in self.ids() {
            let wish = self.cluster.wish_file(id);
            if !self.env.disk.exists(&wish) {
                continue;
            }
            self.env.disk.remove_file(&wish)?;
            if self.cluster.node(id)?.pid.is_none() {
                self.start(id)?;
            }
        }
        Ok(())
    }

    /// Stops the nodes one after the other, so that each can hand over what it leads.
    async fn stop(mut self) -> Result<()> {
        for id in self.ids() {
            let Some((pid, process)) = self.cluster.process(self.cluster.node(id)?) else {
                continue;
            };
            say(&format!("stopping node {id}"))?;
            if process.is_paused {
                send_signal(pid, ProcessSignal::Resume)?;
            }
            send_signal(pid, ProcessSignal::Terminate)?;
            let deadline = self.env.clock.now() + PATIENCE;
            while self.cluster.node(id)?.pid.is_some() {
                tokio::select! {
                    biased;
                    Some(event) = self.events.recv() => self.hear_at_end(event)?,
                    () = self.env.clock.sleep(LOOK) => {
                        if self.env.clock.now() >= deadline {
                            say(&format!("node {id} does not stop, and is killed"))?;
                            send_signal(pid, ProcessSignal::Kill)?;
                        }
                    }
                }
            }
        }
        self.cluster.supervisor = None;
        self.cluster.write(&self.env)?;
        say("stopped; the data stays")
    }

    fn hear_at_end(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Ended(id, _) => self.set_pid(id, None),
            Event::Said(..) | Event::Ready(_) => self.hear(event),
        }
    }
}

/// The line with which a node says that it serves clients.
fn ready_line(id: i32, line: String) -> Option<Event> {
    line.contains(" is ready on ").then_some(Event::Ready(id))
}

/// Passes on what a node prints, line by line.
async fn follow(
    from: impl AsyncRead + Unpin + Send,
    id: i32,
    heard: mpsc::Sender<Event>,
    event: fn(i32, String) -> Option<Event>,
) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(event) = event(id, line)
            && heard.send(event).await.is_err()
        {
            return;
        }
    }
}

fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ottla_config::BrokerConfig;

    use super::*;

    #[test]
    fn nodes_are_configured_as_one_cluster() {
        let node = |id, client| LocalNode { id, client, controller: client + 1, pid: None };
        let nodes = vec![node(1, 40_001), node(2, 40_003), node(3, 40_005)];
        let cluster = LocalCluster { dir: "/c".into(), nodes, supervisor: None };
        let set = [("num.partitions".to_owned(), "6".to_owned())];
        let text = properties(&cluster, &cluster.nodes[1], &set);
        let (config, warnings) = BrokerConfig::parse(&[&text], &[]).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(config.node.node_id.0, 2);
        assert_eq!(config.quorum.voters.len(), 3);
        assert_eq!(config.node.log_dirs, [Path::new("/c/node-2/data")]);
        assert_eq!(config.topic_defaults.replication_factor, 3);
        assert_eq!(config.topic_defaults.num_partitions, 6);
        assert_eq!(config.log_manager.defaults.min_insync_replicas, 2);
    }
}
