//! How fast the cleaners together may go: `log.cleaner.io.max.bytes.per.second`.

use std::time::Duration;

use ottla_protocol::Monotonic;
use parking_lot::Mutex;

/// Spreads reads and writes over time, so that they keep to a rate.
///
/// Who has read or written says how much, and is told how long to wait before going on.
pub(super) struct Throttler {
    /// When all that was read and written so far would be done at the rate.
    paid_until: Mutex<Option<Monotonic>>,
}

/// What may be read or written in one go, as a share of a second.
const BURST: f64 = 0.3;
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl Throttler {
    pub(super) fn new() -> Self {
        Self { paid_until: Mutex::new(None) }
    }

    /// Bytes to read and write before asking again, at a rate per second.
    pub(super) fn burst(rate: f64, at_most: u64) -> u64 {
        ((rate * BURST) as u64).clamp(1, at_most)
    }

    /// Takes note of `bytes` read and written from `started` to `now`; how long to wait to keep to
    /// the `rate`, in bytes per second.
    pub(super) fn charge(
        &self,
        bytes: u64,
        rate: f64,
        (started, now): (Monotonic, Monotonic),
    ) -> Duration {
        let cost = Duration::try_from_secs_f64(bytes as f64 / rate);
        let cost = cost.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        let mut paid_until = self.paid_until.lock();
        let until = paid_until.unwrap_or(started).max(started) + cost;
        *paid_until = Some(until);
        until.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    #[test]
    fn cleaners_together_keep_to_the_rate() {
        let throttler = Throttler::new();
        let charge = |bytes, started, now| throttler.charge(bytes, 1000.0, (at(started), at(now)));
        assert_eq!(Throttler::burst(1000.0, 1 << 20), 300);
        assert_eq!(charge(300, 0, 100), Duration::from_millis(200));
        // Another cleaner, at the same time, has to stand in line.
        assert_eq!(charge(300, 0, 100), Duration::from_millis(500));
        // Time that nobody used is not saved up.
        assert_eq!(charge(300, 5000, 5100), Duration::from_millis(200));
        assert_eq!(charge(300, 9000, 9900), Duration::ZERO);
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let throttler = Throttler::new();
        assert_eq!(Throttler::burst(f64::MAX, 1 << 20), 1 << 20);
        assert_eq!(throttler.charge(u64::MAX, f64::MAX, (at(0), at(0))), Duration::ZERO);
    }
}
