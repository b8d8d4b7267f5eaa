//! How much of something happened per second. Kafka: `Rate` over `SampledStat`, `QuotaUtils.throttleTime`.

use std::collections::VecDeque;
use std::time::Duration;

use ottla_config::QuotaWindow;
use ottla_protocol::Monotonic;

use super::{Meter, milliseconds};

/// No rate is measured over less.
const MIN_SPAN: Duration = Duration::from_millis(1);

/// What happened lately, in samples that are forgotten one by one.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Sample {
    start: Monotonic,
    last_event: Monotonic,
    value: f64,
}

impl Rate {
    /// Notes that `value` happened; a negative one takes back what was noted.
    pub(super) fn record(&mut self, window: QuotaWindow, value: f64, now: Monotonic) {
        self.forget(window, now);
        match self.samples.back_mut() {
            Some(sample) if now.since(sample.start) < window.size => {
                sample.value += value;
                sample.last_event = now;
            }
            Some(_) | None => {
                self.samples.push_back(Sample { start: now, last_event: now, value });
            }
        }
    }

    /// What happened per second.
    pub(super) fn per_second(&self, window: QuotaWindow, now: Monotonic) -> f64 {
        let (total, span) = self.measure(window, now);
        total / span.as_secs_f64()
    }

    /// How much may happen now for the rate to stay within `limit`, where it is measured over the time since the oldest sample
    /// that counts still, but no less than one: there is no burst to begin with. Kafka's `SimpleRate`.
    pub(super) fn left(&self, window: QuotaWindow, limit: f64, now: Monotonic) -> f64 {
        let (total, elapsed) = self.since_oldest(window, now);
        limit * elapsed.max(window.size).as_secs_f64() - total
    }

    /// What happened per second, as [`left`](Self::left) measures it.
    pub(super) fn simple_per_second(&self, window: QuotaWindow, now: Monotonic) -> f64 {
        let (total, elapsed) = self.since_oldest(window, now);
        total / elapsed.max(window.size).as_secs_f64()
    }

    /// How long nothing must happen for the rate to come down to `limit`: what happened, at `limit` per second, takes so
    /// much longer than the time in which it did. Kafka's (rate - limit) / limit * span.
    pub(super) fn throttle(&self, window: QuotaWindow, limit: f64, now: Monotonic) -> Duration {
        let (total, span) = self.measure(window, now);
        milliseconds((total / limit - span.as_secs_f64()) * 1000.0)
    }

    /// What happened, and in which time: since the oldest sample that counts still, but never in less than all samples
    /// but one. So a client that was silent may send a burst of that much.
    fn measure(&self, window: QuotaWindow, now: Monotonic) -> (f64, Duration) {
        let (total, elapsed) = self.since_oldest(window, now);
        let complete = elapsed.as_nanos() / window.size.as_nanos().max(1);
        let complete = u32::try_from(complete).unwrap_or(u32::MAX);
        let missing = window.samples.saturating_sub(1).saturating_sub(complete);
        let span = elapsed.saturating_add(window.size.saturating_mul(missing));
        (total, span.max(MIN_SPAN))
    }

    /// What happened, and the time since the oldest sample that counts still.
    fn since_oldest(&self, window: QuotaWindow, now: Monotonic) -> (f64, Duration) {
        let counted = self.samples.iter().filter(|sample| !sample.is_over(window, now));
        let (mut total, mut oldest) = (0.0, now);
        for sample in counted {
            total += sample.value;
            oldest = oldest.min(sample.start);
        }
        (total, now.since(oldest))
    }

    fn forget(&mut self, window: QuotaWindow, now: Monotonic) {
        while self.samples.front().is_some_and(|sample| sample.is_over(window, now)) {
            self.samples.pop_front();
        }
    }
}

impl Sample {
    fn is_over(&self, window: QuotaWindow, now: Monotonic) -> bool {
        now.since(self.last_event) >= window.size.saturating_mul(window.samples)
    }
}

impl Meter for Rate {
    fn is_as_new(&self, window: QuotaWindow, now: Monotonic) -> bool {
        self.samples.iter().all(|sample| sample.is_over(window, now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const WINDOW: QuotaWindow = QuotaWindow { samples: 11, size: Duration::from_secs(1) };

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_is_measured_as_if_all_but_one_sample_had_passed() {
        let mut rate = Rate::default();
        rate.record(WINDOW, 5000.0, at(70_000));
        assert_eq!(rate.per_second(WINDOW, at(70_000)), 500.0);
        assert_eq!(rate.per_second(WINDOW, at(70_500)), 5000.0 / 10.5);
        assert_eq!(rate.throttle(WINDOW, 500.0, at(70_000)), Duration::ZERO);
        assert_eq!(rate.throttle(WINDOW, 499.0, at(70_000)), Duration::from_millis(20));
        // Kafka's formula: (500 - 400) / 400 * 10 s.
        assert_eq!(rate.throttle(WINDOW, 400.0, at(70_000)), Duration::from_millis(2500));
    }

    #[test]
    fn what_lies_back_by_all_samples_is_forgotten_and_silence_counts() {
        let mut rate = Rate::default();
        rate.record(WINDOW, 3000.0, at(0));
        rate.record(WINDOW, 1000.0, at(4000));
        assert_eq!(rate.per_second(WINDOW, at(4000)), 400.0);
        assert_eq!(rate.per_second(WINDOW, at(10_999)), 4000.0 / 10.999);
        // The first sample is over; six seconds and a padding of four remain.
        assert_eq!(rate.per_second(WINDOW, at(11_000)), 1000.0 / 10.0);
        assert!(!rate.is_as_new(WINDOW, at(14_999)));
        assert!(rate.is_as_new(WINDOW, at(15_000)));
        assert_eq!(rate.per_second(WINDOW, at(15_000)), 0.0);
    }

    #[test]
    fn what_is_taken_back_never_happened() {
        let mut rate = Rate::default();
        rate.record(WINDOW, 300.0, at(0));
        rate.record(WINDOW, 9000.0, at(100));
        rate.record(WINDOW, -9000.0, at(100));
        assert_eq!(rate.per_second(WINDOW, at(200)), 300.0 / 10.2);
    }

    proptest! {
        /// Whoever always has something to send, and waits as he is told, sends at the limit: he gets ahead of it by the burst
        /// of a silent client, never further, and never falls behind.
        #[test]
        fn who_waits_as_told_sends_at_the_limit(
            seconds in vec(0.001..1.0f64, 300..600),
            samples in 2u32..12,
            limit in 100.0..20_000.0f64,
        ) {
            let window = QuotaWindow { samples, size: Duration::from_secs(1) };
            let (mut rate, mut now, mut sent) = (Rate::default(), at(0), 0.0);
            for seconds_worth in &seconds {
                rate.record(window, seconds_worth * limit, now);
                sent += seconds_worth;
                let ahead = sent - now.0.as_secs_f64();
                prop_assert!((-0.01..f64::from(samples) + 0.01).contains(&ahead), "{ahead}");
                now = now + rate.throttle(window, limit, now);
            }
        }
    }
}
