//! One client instance. Kafka: `ClientMetricsInstance`.

use std::sync::Arc;
use std::time::Duration;

use ottla_config::DEFAULT_PUSH_INTERVAL;
use ottla_protocol::Monotonic;
use ottla_protocol::compression::Compression;
use ottla_protocol::messages::PushTelemetryRequest;

use super::Subscribed;
use crate::client::{Client, ConnectionId};
use crate::error::TelemetryError;
use crate::measured::Measured;

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) client: Arc<Client>,
    pub(super) connection: Option<ConnectionId>,
    pub(super) subscribed: Subscribed,
    /// Of which change of the subscriptions that is.
    pub(super) changes: u64,
    /// When it was last heard of, among all others.
    pub(super) use_number: u64,
    pub(super) last_seen: Monotonic,
    pub(super) measured: Arc<Measured>,
    /// When it was told of its subscriptions, if it has not pushed since.
    told: Option<Monotonic>,
    /// When a push was last let in.
    pushed: Option<Monotonic>,
    terminated: bool,
    /// The last push was refused for something that asking anew mends.
    has_to_ask: bool,
}

impl Instance {
    /// That nothing was heard of yet.
    pub(super) fn new(client: &Client) -> Self {
        let nothing = Subscribed { id: 0, metrics: Vec::new(), interval: DEFAULT_PUSH_INTERVAL };
        Self {
            client: Arc::new(client.clone()),
            connection: None,
            subscribed: nothing,
            changes: 0,
            use_number: 0,
            last_seen: Monotonic::default(),
            measured: Arc::default(),
            told: None,
            pushed: None,
            terminated: false,
            has_to_ask: false,
        }
    }

    /// Other subscriptions hold from now on. It may ask for them at once.
    pub(super) fn resubscribe(&mut self, subscribed: Subscribed, changes: u64) {
        (self.subscribed, self.changes) = (subscribed, changes);
        (self.told, self.pushed, self.has_to_ask) = (None, None, false);
    }

    /// Whether it may be told its subscriptions now.
    pub(super) fn ask(&mut self, now: Monotonic) -> Result<(), TelemetryError> {
        if !self.has_to_ask && !self.is_over(self.told.max(self.pushed), now) {
            return Err(self.too_early());
        }
        (self.told, self.has_to_ask) = (Some(now), false);
        Ok(())
    }

    /// Whether it may push this, now.
    pub(super) fn check_push(
        &mut self,
        push: &PushTelemetryRequest,
        max: usize,
        now: Monotonic,
    ) -> Result<Compression, TelemetryError> {
        if self.terminated {
            return Err(TelemetryError::Terminated);
        }
        self.terminated = push.terminating;
        let checked = self.check_content(push, max, now);
        self.has_to_ask = matches!(
            checked,
            Err(TelemetryError::UnknownSubscription { .. }
                | TelemetryError::UnsupportedCompression(_))
        );
        checked
    }

    fn check_content(
        &mut self,
        push: &PushTelemetryRequest,
        max: usize,
        now: Monotonic,
    ) -> Result<Compression, TelemetryError> {
        // A client waits between 0.5 and 1.5 intervals before its first push, so that not all come at once.
        if self.told.is_some() || self.is_over(self.pushed, now) {
            self.pushed = Some(now);
            self.told = None;
        } else if !push.terminating {
            return Err(self.too_early());
        }
        let (given, current) = (push.subscription_id, self.subscribed.id);
        if given != current {
            return Err(TelemetryError::UnknownSubscription { given, current });
        }
        let codec = u8::try_from(push.compression_type).ok().and_then(Compression::from_id);
        let codec = codec.ok_or(TelemetryError::UnsupportedCompression(push.compression_type))?;
        if push.metrics.len() > max {
            return Err(TelemetryError::TooLarge { max });
        }
        Ok(codec)
    }

    /// Whether an interval has gone by since then.
    fn is_over(&self, since: Option<Monotonic>, now: Monotonic) -> bool {
        since.is_none_or(|since| now.since(since) >= self.subscribed.interval)
    }

    fn too_early(&self) -> TelemetryError {
        TelemetryError::TooEarly { interval_ms: millis(self.subscribed.interval) }
    }
}

fn millis(interval: Duration) -> i32 {
    i32::try_from(interval.as_millis()).unwrap_or(i32::MAX)
}
