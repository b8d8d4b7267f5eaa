//! A node under test, on a port that the system hands out.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::program::{Running, within};

const START_SECONDS: u64 = 60;
const STOP_SECONDS: u64 = 60;

pub(crate) struct Settings {
    /// As `listeners` has them, the one of clients first; port 0 asks the system for one.
    pub(crate) listeners: String,
    /// Configuration keys and values.
    pub(crate) set: Vec<(&'static str, String)>,
}

impl Default for Settings {
    /// A group that forms at once, so that tests are quick.
    fn default() -> Self {
        Self {
            listeners: "PLAINTEXT://127.0.0.1:0".to_owned(),
            set: vec![("group.initial.rebalance.delay.ms", "0".to_owned())],
        }
    }
}

pub(crate) struct Node {
    running: Running,
    address: String,
    metrics_url: Option<String>,
}

impl Node {
    /// Starts a node on the data of the given folder, which may hold an earlier node's, and waits until it is ready.
    pub(crate) fn start(folder: &Path, settings: &Settings) -> Result<Self> {
        let log = File::options().create(true).append(true).open(folder.join("node.log"))?;
        let mut command = Command::new(binary()?);
        command
            .args(["start", "--set", &format!("listeners={}", settings.listeners), "--set"])
            .arg(format!("log.dirs={}", folder.join("data").display()));
        for (key, value) in &settings.set {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let running = Running::start(command.stdin(Stdio::null()).stderr(log))?;
        let deadline = within(START_SECONDS);
        while let Some(line) =
            running.line_before(deadline).context("waiting for the ready line")?
        {
            if let Some((_, address)) = line.split_once(" is ready on ") {
                let address = address.trim().to_owned();
                // The newest line: the folder may be an earlier node's.
                let said = std::fs::read_to_string(folder.join("node.log"))?;
                let told = said.lines().rev().find_map(|line| line.split_once("metrics: http://"));
                let metrics_url = told.map(|(_, place)| format!("http://{}", place.trim()));
                return Ok(Self { running, address, metrics_url });
            }
        }
        let said = std::fs::read_to_string(folder.join("node.log"))?;
        anyhow::bail!("the node ended before it was ready:\n{said}")
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where it tells its metrics, if `metrics.listener` is set.
    pub(crate) fn metrics_url(&self) -> Option<&str> {
        self.metrics_url.as_deref()
    }

    /// Ends it in good order.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.running.terminate()?;
        let status =
            self.running.ended_before(within(STOP_SECONDS)).context("stopping the node")?;
        // Exit code 143 is how a JVM or a shell reports SIGTERM.
        ensure!(
            status.success() || status.code() == Some(143),
            "the node was asked to stop and ended with {status}"
        );
        Ok(())
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.running.kill()
    }

    /// It stands still, and nobody is told.
    pub(crate) fn hold(&self) -> Result<()> {
        self.running.signal("STOP")
    }

    /// It goes on, as if no time had passed.
    pub(crate) fn go_on(&self) -> Result<()> {
        self.running.signal("CONT")
    }
}

/// The program under test, built at the first call.
pub(crate) fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = std::env::var_os("OTTLA_BIN") {
        return Ok(PathBuf::from(path));
    }
    if let Some(path) = BUILT.get() {
        return Ok(path.clone());
    }
    let status = Command::new("cargo")
        .args(["build", "--release", "--package", "ottla"])
        .current_dir(crate::root())
        .status()?;
    ensure!(status.success(), "the release build failed");
    let path = crate::root().join("target/release/ottla");
    ensure!(path.is_file(), "the release build left no {}", path.display());
    Ok(BUILT.get_or_init(|| path).clone())
}
