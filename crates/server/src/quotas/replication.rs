//! How fast replicas that are not in sync are fetched (KIP-73). Kafka: `ReplicationQuotaManager`.
//!
//! Each broker holds itself to two rates: what it sends as the leader, and what it fetches as a follower. A replica that is in
//! sync is never held, but what it fetches counts. Unlike Kafka, an answer holds no more than the rate has left, so that a
//! slow rate is not a burst and a long silence.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_config::{QuotaWindow, ReplicationThrottle};
use ottla_protocol::Monotonic;
use parking_lot::Mutex;

use super::rate::Rate;

/// No limit.
const UNLIMITED: u64 = u64::MAX;

/// Why what a replica fetches counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Throttled {
    /// Its topic names it: `leader.replication.throttled.replicas`, `follower.replication.throttled.replicas`.
    Listed,
    /// A reassignment adds it: `cluster.rebalance.throttled.rate`.
    Reassigned,
}

impl Throttled {
    /// Both reasons.
    pub(crate) const BOTH: [Self; 2] = [Self::Listed, Self::Reassigned];
}

/// The rates of a node, and what is measured for them.
pub(crate) struct ReplicationQuotas {
    /// Of what this broker sends to followers.
    pub(crate) leader: ReplicationQuota,
    /// Of what it fetches from leaders.
    pub(crate) follower: ReplicationQuota,
}

/// One direction.
pub(crate) struct ReplicationQuota {
    window: QuotaWindow,
    listed: AtomicU64,
    reassigned: AtomicU64,
    rate: Mutex<Rate>,
}

impl ReplicationQuotas {
    /// Without any limit yet.
    pub(crate) fn new(window: QuotaWindow) -> Self {
        Self { leader: ReplicationQuota::new(window), follower: ReplicationQuota::new(window) }
    }

    /// Goes on with other limits. What was measured stays.
    pub(crate) fn set(&self, throttle: ReplicationThrottle) {
        self.leader.set(throttle.leader_rate, throttle.reassigned_rate);
        self.follower.set(throttle.follower_rate, throttle.reassigned_rate);
    }
}

impl ReplicationQuota {
    fn new(window: QuotaWindow) -> Self {
        Self {
            window,
            listed: AtomicU64::new(UNLIMITED),
            reassigned: AtomicU64::new(UNLIMITED),
            rate: Mutex::default(),
        }
    }

    /// An operator who sets a rate for the occasion means the replicas that move, too.
    fn set(&self, rate: Option<u64>, reassigned: u64) {
        self.listed.store(rate.unwrap_or(UNLIMITED), Ordering::Relaxed);
        self.reassigned.store(rate.unwrap_or(reassigned), Ordering::Relaxed);
    }

    /// Notes that a throttled replica fetched `bytes`.
    pub(crate) fn record(&self, bytes: usize, now: Monotonic) {
        if bytes > 0 {
            self.rate.lock().record(self.window, bytes as f64, now);
        }
    }

    /// How many bytes may follow at once; 0 if the rate is used up.
    pub(crate) fn left(&self, why: Throttled, now: Monotonic) -> usize {
        match self.limit(why) {
            UNLIMITED => usize::MAX,
            // A negative number comes to 0, and one that is too large to the largest.
            limit => self.rate.lock().left(self.window, limit as f64, now) as usize,
        }
    }

    /// How long it takes until there is something left, if it is used up and nothing is fetched meanwhile: at most a sample,
    /// for by then an old one may be forgotten.
    pub(crate) fn wait(&self, why: Throttled, now: Monotonic) -> Duration {
        let limit = self.limit(why);
        if limit == UNLIMITED {
            return Duration::ZERO;
        }
        let missing = -self.rate.lock().left(self.window, limit as f64, now);
        let seconds = (missing.max(0.0) / limit as f64).min(self.window.size.as_secs_f64());
        Duration::try_from_secs_f64(seconds).unwrap_or(self.window.size)
    }

    /// Bytes per second.
    pub(crate) fn per_second(&self, now: Monotonic) -> f64 {
        self.rate.lock().simple_per_second(self.window, now)
    }

    fn limit(&self, why: Throttled) -> u64 {
        match why {
            Throttled::Listed => self.listed.load(Ordering::Relaxed),
            Throttled::Reassigned => self.reassigned.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const WINDOW: QuotaWindow = QuotaWindow { samples: 11, size: Duration::from_secs(1) };
    const NONE: ReplicationThrottle =
        ReplicationThrottle { leader_rate: None, follower_rate: None, reassigned_rate: 50 };

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    #[test]
    fn a_rate_that_is_set_counts_for_what_is_listed_and_for_what_moves() {
        let quotas = ReplicationQuotas::new(WINDOW);
        quotas.set(NONE);
        let left = |why| (quotas.leader.left(why, at(0)), quotas.follower.left(why, at(0)));
        assert_eq!(left(Throttled::Listed), (usize::MAX, usize::MAX));
        assert_eq!(left(Throttled::Reassigned), (50, 50));
        quotas.set(ReplicationThrottle { leader_rate: Some(70), follower_rate: Some(20), ..NONE });
        assert_eq!(left(Throttled::Listed), (70, 20));
        assert_eq!(left(Throttled::Reassigned), (70, 20));
        assert_eq!(quotas.leader.wait(Throttled::Listed, at(0)), Duration::ZERO);
    }

    #[test]
    fn nothing_is_left_until_the_rate_has_come_down() {
        let quotas = ReplicationQuotas::new(WINDOW);
        quotas.set(ReplicationThrottle { leader_rate: Some(100), ..NONE });
        let quota = &quotas.leader;
        quota.record(150, at(0));
        assert_eq!(quota.left(Throttled::Listed, at(400)), 0);
        assert_eq!(quota.per_second(at(400)), 150.0, "no rate is measured over less than a sample");
        assert_eq!(quota.wait(Throttled::Listed, at(400)), Duration::from_millis(500));
        assert_eq!(quota.left(Throttled::Listed, at(1500)), 0);
        assert_eq!(quota.left(Throttled::Listed, at(2000)), 50);
        quota.record(10_000, at(2000));
        assert_eq!(quota.wait(Throttled::Listed, at(2000)), WINDOW.size, "samples are forgotten");
    }

    #[test]
    fn a_rate_of_nothing_holds_everything() {
        let quotas = ReplicationQuotas::new(WINDOW);
        quotas.set(ReplicationThrottle { follower_rate: Some(0), ..NONE });
        for millis in [0, 1_000_000] {
            assert_eq!(quotas.follower.left(Throttled::Listed, at(millis)), 0);
        }
        assert_eq!(quotas.follower.wait(Throttled::Listed, at(0)), WINDOW.size);
    }

    proptest! {
        /// Whoever takes all that is left, whenever it looks, takes what the rate gives, and is never more than a sample ahead.
        #[test]
        fn who_takes_what_is_left_keeps_the_rate(
            pauses in vec(1u64..700, 100..300),
            limit in 100u64..1_000_000,
        ) {
            let quotas = ReplicationQuotas::new(WINDOW);
            quotas.set(ReplicationThrottle { leader_rate: Some(limit), ..NONE });
            let (mut now, mut taken) = (0, 0);
            for pause in pauses {
                let left = quotas.leader.left(Throttled::Listed, at(now));
                quotas.leader.record(left, at(now));
                taken += left;
                let (due, taken) = (limit as f64 * now as f64 / 1000.0, taken as f64);
                prop_assert!(taken <= due + limit as f64 + 1.0, "{taken} of {due}");
                // What comes first in the oldest sample took no time, as it is measured.
                prop_assert!(taken >= 0.85 * due, "{taken} of {due}");
                now += pause;
            }
        }
    }
}
