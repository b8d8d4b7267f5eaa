//! The only crate that touches the operating system: clock, net, disk, rng, spawn, blocking work.
//!
//! [`Env`] is handed once to `Server::start(env, config)` and `Connection::connect(env, …)`.
//! [`Env::os`] is the real world; the simulator builds one of its own per node.
//!
//! | Trait | Kafka's counterpart | Real world |
//! |---|---|---|
//! | [`Clock`] | `Time` | `os/clock.rs` |
//! | [`Net`], [`Listener`], [`Stream`] | `Selector`, `TransportLayer` | `os/net.rs`: tokio and `sendfile` |
//! | [`Disk`], [`File`], [`FileSystem`] | `FileChannel`, `FileRecords` | `os/disk.rs`: positioned reads and writes |
//! | [`Rng`] | `SecureRandom` | `os/rng.rs` |
//! | [`Spawn`] | `KafkaThread`, `Scheduler` | `os/spawn.rs`: a tokio runtime |
//!
//! Beside the traits stand what only the process itself has: [`process`] (its program, signals,
//! statistics, limits). The simulator needs none of it.
//!
//! # Invariants
//! - No other crate calls the operating system; `clippy.toml` holds the fence.
//! - A trait says what a caller may rely on after a crash, and no more than both worlds keep.
//!
//! # Not here
//! Formats, retries, caches, policies of any kind.
#![allow(clippy::disallowed_methods, reason = "this crate is the door the fence leads to")]

mod clock;
mod disk;
mod net;
mod os;
pub mod process;
mod rng;
mod spawn;

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::oneshot;

pub use clock::{Clock, Elapsed, timeout};
pub use disk::{
    DirEntry, DirLock, Disk, File, FileSystem, OpenMode, PathError, is_out_of_files,
    is_out_of_space,
};
pub use net::{Listener, Net, ReadHalf, Stream, WriteHalf, send_file};
pub use rng::Rng;
pub use spawn::{Spawn, TaskEnd, TaskHandle};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything that a node needs of the world outside it.
#[derive(Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Sockets.
    pub net: Arc<dyn Net>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Tasks and blocking work.
    pub spawner: Arc<dyn Spawn>,
}

impl Env {
    /// The real world. Tasks run on the current tokio runtime, so it must be called inside one.
    pub fn os() -> Self {
        Self {
            clock: Arc::new(os::OsClock::new()),
            net: Arc::new(os::OsNet),
            disk: Arc::new(os::OsDisk),
            rng: Arc::new(os::OsRng),
            spawner: Arc::new(os::OsSpawn::current()),
        }
    }

    /// Starts `task` beside the caller. `name` is for diagnostics.
    pub fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> TaskHandle {
        self.spawner.spawn(name, Box::pin(task))
    }

    /// Runs `work` where blocking hurts nobody and answers what it returned. It runs even if the
    /// future is dropped; a panic of `work` is passed on.
    pub fn run_blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> impl Future<Output = R> + Send + 'static {
        let (sender, result) = oneshot::channel();
        let done = self.spawner.blocking(Box::new(move || {
            // Nobody listens if the caller gave up; the work is done all the same.
            let _unheard = sender.send(work());
        }));
        async move {
            done.await;
            match result.await {
                Ok(result) => result,
                // The runtime is going away and never ran the work: who waits goes with it.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Runs `future` for at most `duration`.
    pub async fn timeout<F: Future>(
        &self,
        duration: std::time::Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        timeout(&*self.clock, duration, future).await
    }
}
