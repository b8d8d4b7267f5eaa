//! A node in a runtime of its own, so that it can stop in order, or vanish like a killed process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::BrokerConfig;
use ottla_env::process::ProcessStats;
use ottla_env::{Disk, Env};
use ottla_server::{Server, StartError};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::faulty_disk::{Faults, faulty_env};
use crate::stopped_clock::StoppedClock;

/// Longest that anything may take which should be quick; only a test that fails waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Awaits `future`, which must not take long.
pub(crate) async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    let answer = Env::os().timeout(PATIENCE, future).await;
    answer.unwrap_or_else(|_| panic!("{what}: nothing for {PATIENCE:?}"))
}

/// Memory of this process, in which the nodes of all tests run.
pub(crate) fn resident_bytes() -> u64 {
    ProcessStats::own().unwrap().resident_bytes
}

/// A node and its data directory, which goes when the last node on it is dropped.
pub(crate) struct Node {
    dir: Arc<TempDir>,
    properties: String,
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    server: Server,
}

impl Node {
    /// A new node with the configuration of these tests.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// A new node with more `properties`.
    pub(crate) async fn start_with(properties: &str) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::start_in(dir, properties).await.unwrap()
    }

    /// A new node on a disk of the test's own.
    pub(crate) async fn start_on(disk: Arc<dyn Disk>, properties: &str) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let env = move || Env { disk, ..Env::os() };
        Self::start_with_env(env, dir, properties).await.unwrap()
    }

    /// A new node that lives by `clock`, which stands still from now on.
    pub(crate) async fn start_by(clock: &Arc<StoppedClock>, properties: &str) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let own = Arc::clone(clock);
        let node = Self::start_with_env(move || own.env(), dir, properties).await.unwrap();
        clock.stop();
        node
    }

    /// A node on a directory that may hold something, and whose disk may fail.
    pub(crate) async fn start_faulty(
        dir: Arc<TempDir>,
        faults: &Arc<Faults>,
        properties: &str,
    ) -> Result<Self, StartError> {
        let faults = Arc::clone(faults);
        Self::start_with_env(move || faulty_env(Env::os(), &faults), dir, properties).await
    }

    /// Why it cannot go on, once it cannot.
    pub(crate) async fn failure(&self) -> String {
        in_time("a failure", self.running.as_ref().unwrap().server.failed()).await
    }

    /// Where it tells its metrics.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().server.metrics_address().unwrap()
    }

    /// A node on a directory that may hold something.
    pub(crate) async fn start_in(dir: Arc<TempDir>, properties: &str) -> Result<Self, StartError> {
        Self::start_with_env(Env::os, dir, properties).await
    }

    async fn start_with_env(
        env: impl FnOnce() -> Env + Send + 'static,
        dir: Arc<TempDir>,
        properties: &str,
    ) -> Result<Self, StartError> {
        let base = format!(
            "node.id=1\n\
             listeners=PLAINTEXT://127.0.0.1:0\n\
             log.dirs={}\n\
             num.partitions=1\n\
             offsets.topic.num.partitions=2\n\
             group.initial.rebalance.delay.ms=0\n",
            dir.path().display()
        );
        let (config, _) = BrokerConfig::parse(&[&base, properties], &[]).unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let started = runtime.spawn(async move { Server::start(env(), config).await });
        match in_time("the start", started).await.unwrap() {
            Ok(server) => {
                let running = Some(Running { runtime, server });
                Ok(Self { dir, properties: properties.to_owned(), running })
            }
            Err(error) => {
                end(runtime).await;
                Err(error)
            }
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().server.addresses()[0].1
    }

    /// The id in `meta.properties`.
    pub(crate) fn cluster_id(&self) -> &str {
        self.running.as_ref().unwrap().server.cluster_id()
    }

    /// Where its data lies.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The directory, to start another node on it.
    pub(crate) fn dir(&self) -> Arc<TempDir> {
        Arc::clone(&self.dir)
    }

    /// Stops in order.
    pub(crate) async fn stop(mut self) {
        self.halt(true).await;
    }

    /// Stops in order and starts on what it left.
    pub(crate) async fn restart(mut self) -> Self {
        self.halt(true).await;
        Self::start_in(self.dir(), &self.properties).await.unwrap()
    }

    /// Vanishes: nothing is flushed, no marker is written.
    pub(crate) async fn crash(&mut self) {
        self.halt(false).await;
    }

    /// Vanishes, and starts on what it left.
    pub(crate) async fn crash_and_restart(mut self) -> Self {
        self.crash().await;
        Self::start_in(self.dir(), &self.properties).await.unwrap()
    }

    async fn halt(&mut self, in_order: bool) {
        let Running { runtime, server } = self.running.take().unwrap();
        if in_order {
            in_time("the stop", runtime.spawn(server.shutdown())).await.unwrap();
        }
        end(runtime).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.runtime.shutdown_background();
        }
    }
}

/// Ends every task where it stands.
async fn end(runtime: Runtime) {
    in_time("the end", Env::os().run_blocking(move || runtime.shutdown_timeout(PATIENCE))).await;
}
