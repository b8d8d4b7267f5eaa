//! The machine's clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ottla_protocol::{Monotonic, Timestamp};

use crate::{BoxFuture, Clock};

/// `CLOCK_MONOTONIC` and `CLOCK_REALTIME`.
pub(crate) struct OsClock {
    origin: Instant,
}

impl OsClock {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for OsClock {
    fn now(&self) -> Monotonic {
        Monotonic(self.origin.elapsed())
    }

    fn wall(&self) -> Timestamp {
        // A clock set before 1970 reads as 1970: negative timestamps have meanings of their own.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Elapsed, timeout};

    #[tokio::test]
    async fn sleep_lasts_at_least_as_long_as_asked() {
        let clock = OsClock::new();
        let before = clock.now();
        clock.sleep(Duration::from_millis(20)).await;
        assert!(clock.now().since(before) >= Duration::from_millis(20));
    }

    #[tokio::test]
    async fn a_timeout_ends_what_never_ends_and_keeps_what_is_ready() {
        let clock = OsClock::new();
        let short = Duration::from_millis(5);
        assert_eq!(timeout(&clock, short, std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(timeout(&clock, Duration::ZERO, async { 7 }).await, Ok(7));
    }

    #[test]
    fn the_wall_clock_is_in_milliseconds_of_this_century() {
        let wall = OsClock::new().wall().0;
        assert!((1_700_000_000_000..10_000_000_000_000).contains(&wall), "{wall}");
    }
}
