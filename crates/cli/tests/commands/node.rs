//! A node in a process of its own, and the program that asks it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ottla");

/// Where a node has its data that has two directories for it.
const DIRS: [&str; 2] = ["data", "more"];

fn path_in(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

/// A node on a free port, with an empty directory. It ends with the value.
pub(crate) struct Node {
    process: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::start_with(&["data"])
    }

    /// One with two directories for logs.
    pub(crate) fn with_two_dirs() -> Self {
        Self::start_with(&DIRS)
    }

    fn start_with(dirs: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let dirs: Vec<String> = dirs.iter().map(|name| path_in(&dir, name)).collect();
        let mut process = Command::new(PROGRAM)
            .args(["start", "--listen", "127.0.0.1:0", "--data-dir", &dirs.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        let mut lines = said.lines().map(Result::unwrap);
        let ready = lines.find(|line| line.contains(" is ready on ")).unwrap();
        let address = ready.rsplit(' ').next().unwrap().to_owned();
        Self { process, address, dir }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Its directories, if it has two.
    pub(crate) fn dirs(&self) -> [String; 2] {
        DIRS.map(|name| path_in(&self.dir, name))
    }

    /// Runs the program against this node.
    pub(crate) fn ottla(&self, arguments: &[&str]) -> Output {
        ottla_at(&self.address, arguments)
    }

    /// [`Node::ottla`] that reads `text`.
    pub(crate) fn pipe(&self, arguments: &[&str], text: &str) -> Output {
        let mut process = Command::new(PROGRAM)
            .args(arguments)
            .env("OTTLA_BOOTSTRAP_SERVER", &self.address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that refuses its arguments does not read.
        let _ = process.stdin.take().unwrap().write_all(text.as_bytes());
        process.wait_with_output().unwrap()
    }

    /// [`Node::ottla`] beside the caller.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> JoinHandle<Output> {
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        let address = self.address.clone();
        std::thread::spawn(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            ottla_at(&address, &arguments)
        })
    }

    /// Runs the program until it has said so many lines, and then presses Ctrl-C.
    pub(crate) fn interrupted(&self, arguments: &[&str], lines: usize) -> Output {
        let mut process = Command::new(PROGRAM)
            .args(arguments)
            .args(["--bootstrap-server", &self.address])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut said = String::new();
        for _ in 0..lines {
            assert_ne!(stdout.read_line(&mut said).unwrap(), 0, "it ended after {said:?}");
        }
        let pid = process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        stdout.read_to_string(&mut said).unwrap();
        let ended = process.wait_with_output().unwrap();
        Output { stdout: said.into_bytes(), ..ended }
    }

    /// A file beside the node's data.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the program against a node somewhere, or against none.
pub(crate) fn ottla_at(address: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    // A node is named by the environment, as a person would do it who names it once.
    if arguments.first() == Some(&"bench") {
        command.args(arguments).args(["--bootstrap-server", address]);
    } else {
        command.args(arguments);
    }
    command.env("XDG_CONFIG_HOME", "/nonexistent").env("OTTLA_BOOTSTRAP_SERVER", address);
    if address.is_empty() {
        command.env_remove("OTTLA_BOOTSTRAP_SERVER");
    }
    command.stdin(Stdio::null()).output().unwrap()
}

/// Runs the program as a user whose home is `home`, who names no node.
pub(crate) fn ottla_with_home(home: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .env("XDG_CONFIG_HOME", home)
        .env_remove("OTTLA_BOOTSTRAP_SERVER")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The objects that were printed, one per line.
pub(crate) fn objects(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
