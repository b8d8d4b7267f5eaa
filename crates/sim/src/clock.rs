//! Virtual time.

use std::time::Duration;

use ottla_env::{BoxFuture, Clock};
use ottla_protocol::{Monotonic, Timestamp};

/// The wall clock at the start of every simulation: 2026-01-01T00:00:00Z.
pub const EPOCH: Timestamp = Timestamp(1_767_225_600_000);

/// The simulation's clock; a node's wall clock may be ahead of it or behind.
pub(crate) struct SimClock {
    /// Milliseconds that the wall clock of this node is ahead of the true time.
    pub(crate) skew_ms: i64,
}

fn elapsed() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

impl Clock for SimClock {
    fn now(&self) -> Monotonic {
        Monotonic(elapsed())
    }

    fn wall(&self) -> Timestamp {
        let elapsed = i64::try_from(elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp(EPOCH.0.saturating_add(elapsed).saturating_add(self.skew_ms))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
