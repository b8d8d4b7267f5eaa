//! What may be spent, and comes back with time. Kafka: `TokenBucket`, `ControllerMutationQuotaManager` (KIP-599).

use std::time::Duration;

use ottla_config::QuotaWindow;
use ottla_protocol::Monotonic;

use super::{Meter, milliseconds};

/// Tokens that come at `limit` per second, until there are as many as come in the time of all samples.
///
/// More may be taken than there are: one decision is never divided. Then nobody gets any before the debt is paid.
#[derive(Debug)]
pub(super) struct TokenBucket {
    /// Missing to a full bucket.
    missing: f64,
    updated: Monotonic,
    limit: f64,
}

impl TokenBucket {
    /// A full one.
    pub(super) fn new(limit: f64, now: Monotonic) -> Self {
        Self { missing: 0.0, updated: now, limit }
    }

    /// Takes tokens; a negative number gives them back.
    pub(super) fn take(&mut self, limit: f64, tokens: f64, now: Monotonic) {
        self.missing = (self.missing_at(now) + tokens).max(0.0);
        (self.updated, self.limit) = (now, limit);
    }

    /// How long it takes until the debt is paid; zero if there is none.
    pub(super) fn throttle(&self, window: QuotaWindow, limit: f64, now: Monotonic) -> Duration {
        let debt = self.missing_at(now) - burst(window, limit);
        milliseconds(debt / limit * 1000.0)
    }

    fn missing_at(&self, now: Monotonic) -> f64 {
        let come = self.limit * now.since(self.updated).as_secs_f64();
        (self.missing - come).max(0.0)
    }
}

fn burst(window: QuotaWindow, limit: f64) -> f64 {
    f64::from(window.samples) * window.size.as_secs_f64() * limit
}

impl Meter for TokenBucket {
    fn is_as_new(&self, _: QuotaWindow, now: Monotonic) -> bool {
        self.missing_at(now) <= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: QuotaWindow = QuotaWindow { samples: 10, size: Duration::from_secs(1) };

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    #[test]
    fn a_full_bucket_may_be_overdrawn_once_and_the_debt_is_waited_for() {
        let mut bucket = TokenBucket::new(5.0, at(0));
        bucket.take(5.0, 50.0, at(0));
        assert_eq!(bucket.throttle(WINDOW, 5.0, at(0)), Duration::ZERO, "all of it may be spent");
        bucket.take(5.0, 30.0, at(0));
        // Thirty below nothing, at five a second.
        assert_eq!(bucket.throttle(WINDOW, 5.0, at(0)), Duration::from_secs(6));
        assert_eq!(bucket.throttle(WINDOW, 5.0, at(5900)), Duration::from_millis(100));
        assert_eq!(bucket.throttle(WINDOW, 5.0, at(6000)), Duration::ZERO);
        assert!(!bucket.is_as_new(WINDOW, at(15_999)));
        assert!(bucket.is_as_new(WINDOW, at(16_000)));
    }

    #[test]
    fn a_bucket_does_not_run_over() {
        let mut bucket = TokenBucket::new(1.0, at(0));
        bucket.take(1.0, 10.0, at(1_000_000));
        assert_eq!(bucket.throttle(WINDOW, 1.0, at(1_000_000)), Duration::ZERO);
        bucket.take(1.0, 1.0, at(1_000_000));
        assert_eq!(bucket.throttle(WINDOW, 1.0, at(1_000_000)), Duration::from_secs(1));
    }
}
