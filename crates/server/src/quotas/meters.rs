//! What is measured of each entity, and forgotten when it makes no difference any more.

use std::hash::Hash;
use std::time::Duration;

use indexmap::{Equivalent, IndexMap};
use ottla_config::QuotaWindow;
use ottla_protocol::Monotonic;

use super::milliseconds_of;

/// Entities that are measured each for itself, at most. Whoever calls himself otherwise with every request is measured
/// together with all others like him.
const MAX_ENTITIES: usize = 10_000;
/// So few are not looked through for what can be forgotten; more are, once in a sample.
const FEW: usize = 64;

/// What measures something.
pub(super) trait Meter {
    /// Whether a new one would say the same from now on.
    fn is_as_new(&self, window: QuotaWindow, now: Monotonic) -> bool;
}

/// What is measured of one entity.
#[derive(Debug)]
pub(super) struct Measured<M> {
    pub(super) meter: M,
    /// For how long the entity was last told to be silent, and until when.
    throttle: Duration,
    throttled_until: Monotonic,
}

impl<M> Measured<M> {
    /// Notes that the entity is told to be silent for that long.
    pub(super) fn throttled(&mut self, throttle: Duration, now: Monotonic) -> Duration {
        if !throttle.is_zero() {
            (self.throttle, self.throttled_until) = (throttle, now + throttle);
        }
        throttle
    }

    /// Milliseconds for which the entity is told to be silent, if it is still.
    pub(super) fn throttle_millis(&self, now: Monotonic) -> i32 {
        if self.throttled_until > now { milliseconds_of(self.throttle) } else { 0 }
    }
}

/// The meters of one kind of quota.
#[derive(Debug)]
pub(super) struct Meters<K, M> {
    window: QuotaWindow,
    by_entity: IndexMap<K, Measured<M>>,
    /// Those that came when there were too many.
    others: Option<Measured<M>>,
    swept: Monotonic,
}

impl<K: Hash + Eq, M: Meter> Meters<K, M> {
    pub(super) fn new(window: QuotaWindow) -> Self {
        Self { window, by_entity: IndexMap::new(), others: None, swept: Monotonic::default() }
    }

    /// The meter of an entity, a new one if it has none.
    pub(super) fn of<Q: Hash + Equivalent<K>>(
        &mut self,
        entity: &Q,
        now: Monotonic,
        own: impl FnOnce() -> K,
        new: impl FnOnce() -> M,
    ) -> &mut Measured<M> {
        let new = || Measured {
            meter: new(),
            throttle: Duration::ZERO,
            throttled_until: Monotonic::default(),
        };
        if self.by_entity.len() >= FEW && now.since(self.swept) >= self.window.size {
            self.sweep(now);
        }
        if self.by_entity.len() >= MAX_ENTITIES && !self.by_entity.contains_key(entity) {
            return self.others.get_or_insert_with(new);
        }
        match self.by_entity.get_index_of(entity) {
            Some(at) => &mut self.by_entity[at],
            None => self.by_entity.entry(own()).or_insert_with(new),
        }
    }

    /// Every entity that is measured by itself.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &Measured<M>)> {
        self.by_entity.iter()
    }

    fn sweep(&mut self, now: Monotonic) {
        let window = self.window;
        self.swept = now;
        self.by_entity.retain(|_, measured| {
            !measured.meter.is_as_new(window, now) || measured.throttled_until > now
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quotas::rate::Rate;

    const WINDOW: QuotaWindow = QuotaWindow { samples: 11, size: Duration::from_secs(1) };

    fn record(meters: &mut Meters<u64, Rate>, entity: u64, millis: u64) {
        let now = Monotonic(Duration::from_millis(millis));
        let measured = meters.of(&entity, now, || entity, Rate::default);
        measured.meter.record(WINDOW, 1.0, now);
    }

    #[test]
    fn who_is_silent_for_long_is_forgotten() {
        let mut meters = Meters::new(WINDOW);
        for millis in 0..100_000 {
            record(&mut meters, millis / 100, millis);
            assert!(meters.by_entity.len() <= 110 + FEW, "{}", meters.by_entity.len());
        }
        let now = Monotonic(Duration::from_secs(100));
        let last = meters.by_entity.get(&999).unwrap();
        assert_eq!(last.meter.per_second(WINDOW, now), 100.0 / 10.1);
    }

    #[test]
    fn newcomers_beyond_the_bound_are_measured_together() {
        let mut meters = Meters::new(WINDOW);
        for entity in 0..2 * MAX_ENTITIES as u64 {
            record(&mut meters, entity, 5);
        }
        assert_eq!(meters.by_entity.len(), MAX_ENTITIES);
        let now = Monotonic(Duration::from_millis(5));
        let others = meters.others.as_ref().unwrap();
        assert_eq!(others.meter.per_second(WINDOW, now), 1000.0);
        record(&mut meters, 7, 5);
        assert_eq!(meters.by_entity[&7].meter.per_second(WINDOW, now), 0.2, "he has one already");
        record(&mut meters, u64::MAX, 20_000);
        assert_eq!(meters.by_entity.len(), 1, "there is room again");
    }
}
