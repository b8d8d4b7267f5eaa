//! The real world: Linux (and, but for speed, other Unixes) through tokio and rustix.

mod clock;
mod disk;
mod file_system;
mod net;
mod rng;
mod spawn;

pub(crate) use clock::OsClock;
pub(crate) use disk::OsDisk;
pub(crate) use net::OsNet;
pub(crate) use rng::OsRng;
pub(crate) use spawn::OsSpawn;
