//! The clients that ask what to measure and push it, by the rules of KIP-714. Kafka: `ClientMetricsManager`.
//!
//! ```text
//!               any request
//!   (unknown) ───────────────► known ── get ──► its next push may come at once ── push ──► one each interval ─┐
//!       ▲                        ▲                                                                ▲           │
//!       │                        └── its subscriptions changed: the next push is refused,         └───────────┘
//!       │                            and the next get may come at once
//!       └── silent for three intervals, its connection ended, or the longest silent of too many
//! ```
//!
//! # Invariants
//! - At most `telemetry.max.instances` instances, and at most `telemetry.max.kept.bytes` of what they measure.
//! - After a push with `Terminating` an instance pushes nothing more.

mod instance;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_config::{ClientMetricsConfig, DEFAULT_PUSH_INTERVAL, TelemetrySettings};
use ottla_protocol::compression::Compression;
use ottla_protocol::messages::PushTelemetryRequest;
use ottla_protocol::{ErrorCode, METADATA_TOPIC_ID, Monotonic, Uuid, format_uuid};

use crate::client::{Client, ConnectionId};
use crate::error::TelemetryError;
use crate::measured::ClientMeasured;
use crate::otlp::MetricsData;
use instance::Instance;

/// A subscription to all metrics.
const ALL_METRICS: &str = "*";
/// An instance is forgotten after so many intervals, but not earlier than after [`LEAST_IDLE`].
const IDLE_INTERVALS: u32 = 3;
/// Kafka: `DEFAULT_CACHE_EXPIRY_MS`.
const LEAST_IDLE: Duration = Duration::from_secs(60);

/// What a client instance is to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// Names all of the following; a push that brings another one is refused.
    pub id: i32,
    /// Beginnings of names, sorted; a single `*` is all, none is nothing.
    pub metrics: Vec<String>,
    /// The time between two pushes.
    pub interval: Duration,
}

/// What happened so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Pushes, by the error that answered them.
    pub pushes: BTreeMap<ErrorCode, u64>,
    /// Series that found no room.
    pub refused_series: u64,
}

/// All client instances that a node knows.
#[derive(Debug)]
pub struct ClientInstances {
    settings: TelemetrySettings,
    subscriptions: BTreeMap<Arc<str>, ClientMetricsConfig>,
    /// How often the subscriptions have changed.
    changes: u64,
    instances: BTreeMap<Uuid, Instance>,
    /// The longest silent one first.
    by_use: BTreeMap<u64, Uuid>,
    by_connection: BTreeSet<(ConnectionId, Uuid)>,
    uses: u64,
    kept_bytes: usize,
    totals: Totals,
}

impl ClientInstances {
    /// Without subscriptions, and without clients.
    pub fn new(settings: TelemetrySettings) -> Self {
        Self {
            settings,
            subscriptions: BTreeMap::new(),
            changes: 0,
            instances: BTreeMap::new(),
            by_use: BTreeMap::new(),
            by_connection: BTreeSet::new(),
            uses: 0,
            kept_bytes: 0,
            totals: Totals::default(),
        }
    }

    /// Goes on with a subscription that is new or changed, or without it.
    pub fn configure(&mut self, name: &Arc<str>, subscription: Option<ClientMetricsConfig>) {
        let changed = match subscription {
            Some(subscription) => {
                self.subscriptions.insert(Arc::clone(name), subscription);
                true
            }
            None => self.subscriptions.remove(name).is_some(),
        };
        self.changes += u64::from(changed);
    }

    /// GetTelemetrySubscriptions: what the instance `asked` is to push; the zero id asks for an id as well. `random` gives it.
    pub fn subscriptions(
        &mut self,
        asked: Uuid,
        (connection, client): (ConnectionId, &Client),
        now: Monotonic,
        random: impl FnMut() -> u128,
    ) -> Result<(Uuid, &Subscribed), TelemetryError> {
        let id = if asked == Uuid::ZERO { self.new_id(random) } else { asked };
        let instance = self.touch(id, (connection, client), now);
        instance.ask(now)?;
        Ok((id, &instance.subscribed))
    }

    /// PushTelemetry: whether the push is to be decoded, and how. What comes of that, [`pushed`](Self::pushed) is told.
    pub fn check_push(
        &mut self,
        push: &PushTelemetryRequest,
        (connection, client): (ConnectionId, &Client),
        now: Monotonic,
    ) -> Result<Compression, TelemetryError> {
        let id = push.client_instance_id;
        // Kafka's reserved ids.
        if id == Uuid::ZERO || id == METADATA_TOPIC_ID {
            return Err(self.count(TelemetryError::NoInstance(id)));
        }
        let max = self.max_bytes();
        let instance = self.touch(id, (connection, client), now);
        let checked = instance.check_push(push, max, now);
        checked.map_err(|error| self.count(error))
    }

    /// How a push that was accepted was decoded; none is one without metrics. The error, if it is one, is for the client.
    pub fn pushed(
        &mut self,
        id: Uuid,
        decoded: Result<Option<MetricsData>, TelemetryError>,
    ) -> Result<(), TelemetryError> {
        let metrics = match decoded {
            Ok(metrics) => metrics,
            Err(error) => return Err(self.count(error)),
        };
        *self.totals.pushes.entry(ErrorCode::None).or_default() += 1;
        // It may have been forgotten while its push was decoded.
        if let (Some(metrics), Some(instance)) = (metrics, self.instances.get_mut(&id)) {
            let measured = Arc::make_mut(&mut instance.measured);
            let before = measured.bytes();
            let room = self.settings.max_kept_bytes.saturating_sub(self.kept_bytes - before);
            let budget = room.min(self.settings.max_bytes as usize);
            self.totals.refused_series += measured.record(&metrics, budget) as u64;
            self.kept_bytes = self.kept_bytes - before + measured.bytes();
        }
        Ok(())
    }

    /// A connection has ended: the clients that came by it are gone.
    pub fn disconnected(&mut self, connection: ConnectionId) {
        let (first, last) = (Uuid::from_bytes([0; 16]), Uuid::from_bytes([0xff; 16]));
        let gone = self.by_connection.range((connection, first)..=(connection, last));
        for id in gone.map(|(_, id)| *id).collect::<Vec<_>>() {
            self.forget(id);
        }
    }

    /// Forgets who has been silent for too long.
    pub fn expire(&mut self, now: Monotonic) {
        let is_idle = |instance: &Instance| {
            let patience = LEAST_IDLE.max(instance.subscribed.interval * IDLE_INTERVALS);
            now.since(instance.last_seen) >= patience
        };
        let idle = self.instances.iter().filter(|(_, instance)| is_idle(instance));
        for id in idle.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.forget(id);
        }
    }

    /// `telemetry.max.bytes`.
    pub fn max_bytes(&self) -> usize {
        self.settings.max_bytes as usize
    }

    /// How many instances are known.
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether no instance is known.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// Bytes that are kept of what all of them measure, roughly.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// What happened so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What every instance measures.
    pub fn measured(&self) -> Vec<ClientMeasured> {
        let measured = self.instances.iter().filter(|(_, it)| !it.measured.is_empty());
        let shown = measured.map(|(id, instance)| ClientMeasured {
            instance: *id,
            client: Arc::clone(&instance.client),
            measured: Arc::clone(&instance.measured),
        });
        shown.collect()
    }

    fn count(&mut self, error: TelemetryError) -> TelemetryError {
        *self.totals.pushes.entry(error.code()).or_default() += 1;
        error
    }

    /// The instance `id`, which is heard of now, with the subscriptions as of now.
    fn touch(
        &mut self,
        id: Uuid,
        (connection, client): (ConnectionId, &Client),
        now: Monotonic,
    ) -> &mut Instance {
        if !self.instances.contains_key(&id) {
            while self.instances.len() >= self.settings.max_instances {
                let Some((_, longest_silent)) = self.by_use.pop_first() else { break };
                self.forget(longest_silent);
            }
        }
        self.uses += 1;
        let (use_number, changes) = (self.uses, self.changes);
        let subscribed = match self.instances.get(&id) {
            Some(known) if known.changes == changes => None,
            Some(known) => Some(subscribed(&self.subscriptions, id, &known.client)),
            None => Some(subscribed(&self.subscriptions, id, client)),
        };
        let instance = self.instances.entry(id).or_insert_with(|| Instance::new(client));
        self.by_use.remove(&instance.use_number);
        self.by_use.insert(use_number, id);
        if instance.connection != Some(connection) {
            if let Some(before) = instance.connection.replace(connection) {
                self.by_connection.remove(&(before, id));
            }
            self.by_connection.insert((connection, id));
        }
        (instance.use_number, instance.last_seen) = (use_number, now);
        if let Some(subscribed) = subscribed {
            instance.resubscribe(subscribed, changes);
        }
        instance
    }

    fn forget(&mut self, id: Uuid) {
        let Some(instance) = self.instances.remove(&id) else { return };
        self.by_use.remove(&instance.use_number);
        if let Some(connection) = instance.connection {
            self.by_connection.remove(&(connection, id));
        }
        self.kept_bytes -= instance.measured.bytes();
    }

    /// An id that nobody has. As with Kafka's, none begins with a dash, which would look like an option on a command line.
    fn new_id(&self, mut random: impl FnMut() -> u128) -> Uuid {
        loop {
            let id = Uuid::from_bytes(random().to_be_bytes());
            let is_reserved = id == Uuid::ZERO || id == METADATA_TOPIC_ID;
            if !is_reserved
                && !self.instances.contains_key(&id)
                && !format_uuid(id).starts_with('-')
            {
                return id;
            }
        }
    }
}

/// What all the subscriptions that apply to a client add up to: all their metrics, at the shortest of their intervals.
fn subscribed(
    subscriptions: &BTreeMap<Arc<str>, ClientMetricsConfig>,
    id: Uuid,
    client: &Client,
) -> Subscribed {
    let applying = || subscriptions.values().filter(|it| client.is_matched(id, it));
    let metrics: BTreeSet<&String> = applying().flat_map(|it| &it.metrics).collect();
    let metrics: Vec<String> = match metrics.iter().any(|metric| *metric == ALL_METRICS) {
        true => vec![ALL_METRICS.to_owned()],
        false => metrics.into_iter().cloned().collect(),
    };
    let interval = applying().map(|it| it.interval).min().unwrap_or(DEFAULT_PUSH_INTERVAL);
    let id = subscription_id(&metrics, interval, id);
    Subscribed { id, metrics, interval }
}

/// Kafka's: the CRC-32C of the list as Java prints it, followed by the interval, and the hash of the instance's id.
fn subscription_id(metrics: &[String], interval: Duration, instance: Uuid) -> i32 {
    let text = format!("[{}]{}", metrics.join(", "), interval.as_millis());
    let id = u128::from_be_bytes(instance.to_bytes());
    let halves = (id >> 64) as u64 ^ id as u64;
    let hash = (halves >> 32) as u32 ^ halves as u32;
    (crc_fast::crc32_iscsi(text.as_bytes()) ^ hash).cast_signed()
}
