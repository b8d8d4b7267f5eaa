//! Time.

use std::time::Duration;

use ottla_protocol::{Monotonic, Timestamp};

use crate::BoxFuture;

/// Source of time.
pub trait Clock: Send + Sync {
    /// A time that never goes back, for timeouts.
    fn now(&self) -> Monotonic;
    /// The wall clock, for record timestamps and retention.
    fn wall(&self) -> Timestamp;
    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The time given to [`timeout`] ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Runs `future` for at most `duration`.
pub async fn timeout<F: Future>(
    clock: &dyn Clock,
    duration: Duration,
    future: F,
) -> Result<F::Output, Elapsed> {
    tokio::select! {
        biased;
        output = future => Ok(output),
        () = clock.sleep(duration) => Err(Elapsed),
    }
}
