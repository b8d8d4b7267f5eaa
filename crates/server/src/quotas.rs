//! Client quotas: who may send, fetch, occupy and change how much (KIP-13, KIP-55, KIP-124, KIP-219, KIP-546, KIP-599,
//! KIP-612). Kafka: `ClientQuotaManager` and its kin.
//!
//! ```text
//! metadata image ─► AllLimits: which limit holds for a client, and who shares it
//! request ─► ClientQuotas ─► meter of those who share it: Rate or TokenBucket ─► how long to be silent
//! ```
//!
//! # Invariants
//! - Where no quota is set nothing is measured: a request costs one load of a pointer.
//! - Time comes in as an argument; nothing here waits. Who is over a quota is told so, and his connection is not read
//!   for that long (`network`).
//! - What is measured of an entity is forgotten when it makes no difference any more, and of how many there can be any
//!   is bounded.

mod limits;
mod meters;
mod mutations;
mod rate;
mod replication;
mod token_bucket;

use std::net::IpAddr;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use indexmap::Equivalent;
use ottla_config::QuotaSettings;
use ottla_metadata::MetadataImage;
use ottla_protocol::Monotonic;
use parking_lot::Mutex;

use limits::{AllLimits, Limit, Limits};
use meters::{Meter, Meters};
pub(crate) use mutations::MutationQuota;
use rate::Rate;
pub(crate) use replication::{ReplicationQuotas, Throttled};
use token_bucket::TokenBucket;

/// Who a request is from, as quotas see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientName<'a> {
    /// The user that the connection is of.
    pub(crate) user: &'a str,
    /// What the client calls itself, empty if nothing.
    pub(crate) client_id: &'a str,
}

/// Who shares a limit: a user, a client, or a client of a user; what does not matter is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entity {
    user: Box<str>,
    client_id: Box<str>,
}

impl ClientName<'_> {
    fn to_entity(self) -> Entity {
        Entity { user: self.user.into(), client_id: self.client_id.into() }
    }
}

impl Equivalent<Entity> for ClientName<'_> {
    fn equivalent(&self, entity: &Entity) -> bool {
        (self.user, self.client_id) == (&*entity.user, &*entity.client_id)
    }
}

type Rates<K = Entity> = Mutex<Meters<K, Rate>>;

/// The quotas of a node, and what is measured for them.
pub(crate) struct ClientQuotas {
    settings: QuotaSettings,
    limits: ArcSwapOption<AllLimits>,
    produced: Rates,
    fetched: Rates,
    worked: Rates,
    mutated: Mutex<Meters<Entity, TokenBucket>>,
    connected: Rates<IpAddr>,
}

/// What Prometheus is told of an entity.
pub(crate) struct EntityMetrics {
    /// The user, empty for all.
    pub(crate) user: String,
    /// The client, empty for all.
    pub(crate) client_id: String,
    /// What is limited, per second.
    pub(crate) per_second: f64,
    /// Milliseconds for which it is told to be silent.
    pub(crate) throttle_millis: i32,
}

impl ClientQuotas {
    /// Without any quota yet.
    pub(crate) fn new(settings: QuotaSettings) -> Self {
        let rates = || Mutex::new(Meters::new(settings.window));
        Self {
            settings,
            limits: ArcSwapOption::empty(),
            produced: rates(),
            fetched: rates(),
            worked: rates(),
            mutated: Mutex::new(Meters::new(settings.controller_window)),
            connected: Mutex::new(Meters::new(settings.window)),
        }
    }

    /// Goes on with the quotas of `image`. What was measured stays.
    pub(crate) fn update(&self, image: &MetadataImage) {
        self.limits.store(AllLimits::of(image));
    }

    /// Whether any quota is set.
    pub(crate) fn are_set(&self) -> bool {
        self.limits.load().is_some()
    }

    /// Whether the time that requests take has to be measured.
    pub(crate) fn measure_requests(&self) -> bool {
        self.limits.load().as_ref().is_some_and(|limits| limits.measures_requests())
    }

    /// Notes that a client produced `bytes`, and answers for how long it has to be silent.
    pub(crate) fn produced(
        &self,
        client: ClientName<'_>,
        bytes: usize,
        now: Monotonic,
    ) -> Duration {
        self.with_limit(
            client,
            |limits| &limits.producer_byte_rate,
            |limit| self.charge(&self.produced, limit, bytes as f64, now),
        )
    }

    /// Notes that a client is to get `bytes`; if the answer is that it has to be silent first, it gets none of them.
    pub(crate) fn fetched(&self, client: ClientName<'_>, bytes: usize, now: Monotonic) -> Duration {
        self.with_limit(
            client,
            |limits| &limits.consumer_byte_rate,
            |limit| {
                let throttle = self.charge(&self.fetched, limit, bytes as f64, now);
                if !throttle.is_zero() {
                    self.charge(&self.fetched, limit, -(bytes as f64), now);
                }
                throttle
            },
        )
    }

    /// How many bytes one fetch may bring, so that a client that was silent is not throttled for it: what its quota gives
    /// in all samples but one.
    pub(crate) fn most_to_fetch(&self, client: ClientName<'_>) -> Option<usize> {
        let limits = self.limits.load();
        let limit = limits.as_ref()?.consumer_byte_rate.of(client)?;
        let window = self.settings.window;
        let seconds = window.size.as_secs_f64() * f64::from(window.samples.saturating_sub(1));
        Some((limit.per_second * seconds) as usize)
    }

    /// Notes that a request was worked on for `time`, and answers for how long its client has to be silent: a sample at
    /// most (KIP-124).
    pub(crate) fn worked(
        &self,
        client: ClientName<'_>,
        time: Duration,
        now: Monotonic,
    ) -> Duration {
        let per_cent = time.as_secs_f64() * 100.0;
        let throttle = self.with_limit(
            client,
            |limits| &limits.request_percentage,
            |limit| self.charge(&self.worked, limit, per_cent, now),
        );
        throttle.min(self.settings.window.size)
    }

    /// Notes that an address opens a connection, and answers for how long that one is held back, and then closed; such a
    /// one does not count (KIP-612).
    pub(crate) fn connected(&self, address: IpAddr, now: Monotonic) -> Duration {
        let limits = self.limits.load();
        let address = address.to_canonical();
        let limit = limits.as_ref().and_then(|limits| limits.of_address(address));
        let Some(limit) = limit else { return Duration::ZERO };
        let window = self.settings.window;
        let mut connected = self.connected.lock();
        let measured = connected.of(&address, now, || address, Rate::default);
        measured.meter.record(window, 1.0, now);
        let throttle = measured.meter.throttle(window, limit, now).min(window.size);
        if !throttle.is_zero() {
            measured.meter.record(window, -1.0, now);
        }
        throttle
    }

    /// What is measured now of each entity, by Kafka's name of the kind of quota.
    pub(crate) fn metrics(&self, now: Monotonic) -> [(&'static str, Vec<EntityMetrics>); 3] {
        let kinds =
            [("Produce", &self.produced), ("Fetch", &self.fetched), ("Request", &self.worked)];
        kinds.map(|(kind, rates)| {
            let rates = rates.lock();
            let metrics = rates.iter().map(|(entity, measured)| EntityMetrics {
                user: entity.user.to_string(),
                client_id: entity.client_id.to_string(),
                per_second: measured.meter.per_second(self.settings.window, now),
                throttle_millis: measured.throttle_millis(now),
            });
            (kind, metrics.collect())
        })
    }

    fn with_limit(
        &self,
        client: ClientName<'_>,
        pick: impl FnOnce(&AllLimits) -> &Limits,
        charge: impl FnOnce(Limit<'_>) -> Duration,
    ) -> Duration {
        let limits = self.limits.load();
        let limit = limits.as_ref().and_then(|limits| pick(limits).of(client));
        limit.map_or(Duration::ZERO, charge)
    }

    fn charge(&self, rates: &Rates, limit: Limit<'_>, value: f64, now: Monotonic) -> Duration {
        let window = self.settings.window;
        let mut rates = rates.lock();
        let shared_by = limit.shared_by;
        let measured = rates.of(&shared_by, now, || shared_by.to_entity(), Rate::default);
        measured.meter.record(window, value, now);
        let throttle = measured.meter.throttle(window, limit.per_second, now);
        measured.throttled(throttle, now)
    }
}

/// As many whole milliseconds, as Kafka rounds them; none if there are less.
fn milliseconds(millis: f64) -> Duration {
    // Not a number, which comes of a limit without end, is no time either; the wire has no more than 32 bits.
    Duration::from_millis(millis.round().clamp(0.0, f64::from(i32::MAX)) as u64)
}

/// A time as the field `throttle_time_ms` tells it.
pub(crate) fn milliseconds_of(throttle: Duration) -> i32 {
    i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
