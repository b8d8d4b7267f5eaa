//! A real Kafka broker, with its controller in the same process.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::jvm::Jvm;
use crate::program::{Running, within};

const CLUSTER_ID: &str = "b3R0bGEtaW50ZXJvcC0xMQ";
const START_SECONDS: u64 = 90;
const STOP_SECONDS: u64 = 60;
const COMPACTION_SECONDS: u64 = 60;

pub(crate) struct Kafka {
    running: Running,
    address: String,
}

/// Where the broker of `folder` has its partitions.
pub(super) fn data(folder: &Path) -> PathBuf {
    folder.join("logs")
}

impl Kafka {
    /// Starts a broker on the data in `folder`, made at the first start, and waits until it is ready.
    pub(crate) fn start(jvm: &Jvm, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (broker, controller) = free_ports()?;
        let properties = folder.join("server.properties");
        std::fs::write(&properties, properties_of(folder, broker, controller))?;
        if !data(folder).join("meta.properties").exists() {
            let mut format = jvm.command("kafka.tools.StorageTool")?;
            format.args(["format", "--cluster-id", CLUSTER_ID, "--config"]).arg(&properties);
            jvm.lines(format).context("formatting Kafka's directory")?;
        }
        let mut command = jvm.command("kafka.Kafka")?;
        command.arg(&properties);
        // What it logs is how it says that it is ready.
        command.env(
            "JAVA_TOOL_OPTIONS",
            "-Dorg.slf4j.simpleLogger.logFile=System.out \
             -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
        );
        let running = Running::start(&mut command)?;
        let deadline = within(START_SECONDS);
        while let Some(line) = running.line_before(deadline).context("waiting for Kafka")? {
            if line.contains("Kafka Server started") {
                return Ok(Self { running, address: format!("127.0.0.1:{broker}") });
            }
        }
        anyhow::bail!("Kafka ended before it was ready")
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Ends it in good order.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.running.terminate()?;
        let status = self.running.ended_before(within(STOP_SECONDS)).context("stopping Kafka")?;
        // Exit code 143 is how a JVM reports SIGTERM.
        ensure!(status.success() || status.code() == Some(143), "Kafka ended with {status}");
        Ok(())
    }

    /// `kill -9`.
    pub(super) fn kill(mut self) -> Result<()> {
        self.running.kill()
    }
}

/// Two ports that nobody listens on; Kafka cannot be told to choose them.
fn free_ports() -> Result<(u16, u16)> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok((listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()))
}

fn properties_of(folder: &Path, broker: u16, controller: u16) -> String {
    let logs = data(folder);
    let logs = logs.display();
    let partitions = super::OFFSETS_PARTITIONS;
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={logs}\n\
         offsets.topic.num.partitions={partitions}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.num.partitions=2\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         log.cleaner.backoff.ms=50\n\
         log.cleaner.dedupe.buffer.size=16777216\n\
         log.index.interval.bytes=512\n\
         log.initial.task.delay.ms=100\n"
    )
}

/// Waits until a log was compacted, which `cleaner-offset-checkpoint` tells.
pub(super) fn await_compaction(directory: &Path, line: &str) -> Result<()> {
    let file = directory.join("cleaner-offset-checkpoint");
    let deadline = within(COMPACTION_SECONDS);
    loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if text.lines().any(|found| found.starts_with(line) && !found.ends_with(" 0")) {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < deadline, "no {line} in {}", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
