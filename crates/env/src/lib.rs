//! The only crate that touches the operating system: clock, net, disk, rng, spawn, blocking work.
//!
//! [`Env`] is handed once to `Server::start(env, config)` and `Client::connect(env, …)`.
//! [`Env::os`] is the real world; the simulator builds one of its own per node.
#![allow(clippy::disallowed_methods, reason = "this crate is the door the fence leads to")]

mod clock;
mod disk;
mod net;
mod rng;
mod spawn;

use std::pin::Pin;
use std::sync::Arc;

pub use clock::{Clock, Elapsed, timeout};
pub use disk::{DirEntry, DirLock, Disk, File, OpenMode};
pub use net::{Listener, Net, Stream};
pub use rng::Rng;
pub use spawn::{Spawn, TaskHandle};

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
