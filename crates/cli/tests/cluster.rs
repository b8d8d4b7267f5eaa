//! `ottla cluster start`: a cluster of three nodes in processes, and the commands that work on several.
#![allow(clippy::disallowed_methods, reason = "tests run the program")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ottla");

/// A cluster of three nodes, stopped with the value.
struct Cluster {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    bootstrap: String,
    dir: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(dir: tempfile::TempDir) -> Self {
        let mut process = Command::new(PROGRAM)
            .args(["cluster", "start", "--set", "cluster.rebalance.enable=false"])
            // Who only stands still is never fenced here.
            .args(["--set", "broker.session.timeout.ms=600000", "--dir"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.by_ref().map(Result::unwrap).find(|line| line.contains("bootstrap  "));
        let bootstrap = line.unwrap().split_whitespace().last().unwrap().to_owned();
        Self { process, lines, bootstrap, dir }
    }

    fn ottla(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env("OTTLA_BOOTSTRAP_SERVER", &self.bootstrap);
        command.env("XDG_CONFIG_HOME", "/nonexistent").stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command that has to succeed; the objects that it prints.
    fn objects(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.ottla(&[arguments, &["--format", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A command on the processes of the cluster.
    fn local(&self, arguments: &[&str]) -> Vec<Value> {
        let dir = self.dir.path().to_str().unwrap();
        self.objects(&[&["cluster"], arguments, &["--dir", dir]].concat())
    }

    /// The states of the brokers, by id.
    fn brokers(&self) -> Vec<String> {
        let rows = self.objects(&["broker", "list"]);
        rows.iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect()
    }

    /// Asks until the brokers are so.
    fn wait_brokers(&self, wanted: &[&str]) {
        while self.brokers() != wanted {}
    }

    /// Asks until all is well.
    fn wait_healthy(&self) {
        while !self.ottla(&["cluster", "health"]).status.success() {}
    }

    /// What is not well.
    fn problems(&self) -> String {
        let health = self.ottla(&["cluster", "health"]);
        assert!(!health.status.success());
        String::from_utf8(health.stdout).unwrap()
    }

    /// How many replicas each broker has.
    fn replicas(&self) -> Vec<u64> {
        let rows = self.objects(&["broker", "list"]);
        rows.iter().map(|row| row["replicas"].as_u64().unwrap()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ =
            Command::new(PROGRAM).args(["cluster", "stop", "--dir"]).arg(self.dir.path()).output();
        let _ = self.process.wait();
    }
}

#[test]
fn nodes_are_killed_paused_and_resumed_and_the_cluster_goes_on() {
    let cluster = Cluster::start();
    cluster.objects(&["topic", "create", "orders", "--partitions", "3"]);
    let text = cluster.dir.path().join("text");
    std::fs::write(&text, "a\nb\nc\n").unwrap();
    let produce = ["produce", "orders", "--file", text.to_str().unwrap()];
    assert!(cluster.ottla(&produce).status.success());
    cluster.wait_healthy();

    cluster.local(&["kill", "2"]);
    cluster.wait_brokers(&["active", "fenced", "active"]);
    let states = |rows: &[Value]| rows.iter().map(|row| row["state"].clone()).collect::<Vec<_>>();
    assert_eq!(states(&cluster.local(&["status"])), ["running", "not running", "running"]);
    assert!(cluster.ottla(&produce).status.success(), "two of three are enough");
    assert!(cluster.problems().contains("broker 2 is fenced"));
    while !cluster.problems().contains("voter 2 ") {}
    cluster.local(&["resume", "2"]);
    cluster.wait_healthy();

    cluster.local(&["pause", "3"]);
    assert_eq!(states(&cluster.local(&["status"])), ["running", "running", "paused"]);
    let listed = cluster.objects(&["broker", "list"]);
    assert_eq!(states(&listed), ["active", "active", "unreachable"]);
    let why = listed[2]["unknown"].as_str().unwrap();
    assert_eq!(why, "whether broker 3 is drained is not known: nothing came within 2s");
    let own = cluster.objects(&["metadata", "get", "/config/brokers/3"]);
    assert_eq!(own[0]["value"]["unknown"], "nothing came within 2s");
    let problems = cluster.problems();
    assert!(problems.contains("broker 3 does not answer: nothing came within 2s"), "{problems}");
    cluster.local(&["resume", "3"]);
    cluster.wait_healthy();
    let again =
        cluster.ottla(&["cluster", "kill", "7", "--dir", cluster.dir.path().to_str().unwrap()]);
    assert!(String::from_utf8(again.stderr).unwrap().contains("its nodes are 1, 2, 3"));
    assert_eq!(cluster.objects(&["cluster", "voters"]).len(), 3);

    cluster.local(&["kill", "1"]);
    cluster.local(&["kill", "2"]);
    // The third has to notice that it leads no more, if it did.
    while !cluster.problems().contains("no active controller answers") {}
    cluster.local(&["resume", "1"]);
    cluster.local(&["resume", "2"]);
    cluster.wait_healthy();
}

#[test]
fn a_cluster_that_was_stopped_goes_on_with_its_data() {
    let mut cluster = Cluster::start();
    cluster.objects(&["topic", "create", "orders", "--partitions", "3"]);
    let stopped = cluster.local(&["stop"]);
    assert_eq!(stopped, [json!({ "stopped": true })]);
    assert!(cluster.process.wait().unwrap().success());
    assert!(cluster.lines.by_ref().map(Result::unwrap).any(|line| line.contains("the data stays")));
    let before = cluster.bootstrap.clone();
    let dir = std::mem::replace(&mut cluster.dir, tempfile::tempdir().unwrap());
    let cluster = Cluster::start_in(dir);
    assert_eq!(cluster.bootstrap, before, "the same ports");
    cluster.wait_healthy();
    assert_eq!(cluster.objects(&["topic", "list"])[0]["topic"], "orders");
    let path = cluster.dir.path().join("node-1");
    assert!(Path::new(&path).join("server.properties").exists());
}

#[test]
fn brokers_are_given_their_share_emptied_and_forgotten() {
    let cluster = Cluster::start();
    cluster.objects(&["topic", "create", "skew", "--partitions", "9", "--replication-factor", "1"]);
    let skewed = ["partition", "reassign", "skew", "--replicas", "1", "--yes"];
    cluster.objects(&skewed);
    while cluster.replicas() != [9, 0, 0] {}

    let planned = cluster.objects(&["cluster", "rebalance", "--dry-run"]);
    assert_eq!(planned.len(), 5);
    let why = planned[0]["why"].as_str().unwrap();
    assert!(why.starts_with("broker 1 has 9 replicas, its share is 3.0"), "{why}");
    assert_eq!(cluster.replicas(), [9, 0, 0], "nothing was changed");
    let done = cluster.objects(&["cluster", "rebalance", "--moves-at-once", "2"]);
    let shares = cluster.replicas();
    assert!((5..=6).contains(&done.len()), "{done:?}");
    // One more or less than its share is not worth a move.
    assert!(shares.iter().all(|count| (2..=4).contains(count)), "{shares:?}");
    assert!(cluster.objects(&["cluster", "rebalance"]).is_empty(), "nothing is left to do");

    cluster.objects(&["broker", "drain", "3"]);
    assert_eq!((cluster.replicas()[2], cluster.brokers()[2].as_str()), (0, "drained"));
    cluster.objects(&["topic", "create", "more", "--partitions", "6", "--replication-factor", "2"]);
    assert_eq!(cluster.replicas()[2], 0, "nothing new is placed there");
    cluster.objects(&["broker", "drain", "3", "--undo"]);
    cluster.wait_brokers(&["active", "active", "active"]);

    cluster.objects(&["topic", "create", "all", "--replication-factor", "3"]);
    cluster.local(&["kill", "3"]);
    cluster.wait_brokers(&["active", "active", "fenced"]);
    let forgotten = cluster.objects(&["broker", "unregister", "3", "--yes"]);
    assert_eq!(forgotten, [json!({ "broker": 3, "unregistered": true })]);
    cluster.wait_brokers(&["active", "active"]);
    let unknown = cluster.ottla(&["broker", "drain", "3"]);
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("the brokers are 1, 2"));
    let stays = String::from_utf8(cluster.ottla(&["cluster", "rebalance"]).stderr).unwrap();
    assert!(stays.contains("not registered still have replicas of 1 partition"), "{stays}");
}
