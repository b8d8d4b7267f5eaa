//! How many partitions a client may create and delete (KIP-599). Kafka: `ControllerMutationQuotaManager`.

use std::sync::Arc;
use std::time::Duration;

use ottla_env::Env;
use ottla_protocol::Monotonic;

use super::{ClientName, ClientQuotas, TokenBucket};

/// What one request may create and delete.
pub(crate) struct MutationQuota {
    env: Env,
    /// None where no quota is set.
    quotas: Option<Arc<ClientQuotas>>,
    user: String,
    client_id: String,
    /// Whether what is too much is refused; else it is done, and paid for afterwards.
    is_strict: bool,
    throttle: Duration,
    recorded: Monotonic,
}

impl MutationQuota {
    /// Of a request of `client`; one that can be told THROTTLING_QUOTA_EXCEEDED is held to it strictly.
    pub(crate) fn new(
        env: &Env,
        quotas: &Arc<ClientQuotas>,
        client: ClientName<'_>,
        is_strict: bool,
    ) -> Self {
        let set = quotas.are_set();
        let name = |name: &str| if set { name.to_owned() } else { String::new() };
        Self {
            env: env.clone(),
            quotas: set.then(|| Arc::clone(quotas)),
            user: name(client.user),
            client_id: name(client.client_id),
            is_strict,
            throttle: Duration::ZERO,
            recorded: Monotonic::default(),
        }
    }

    /// Asks for `partitions` to be created or deleted; whether they may be.
    pub(crate) fn take(&mut self, partitions: usize) -> bool {
        let Some(quotas) = &self.quotas else { return true };
        let client = ClientName { user: &self.user, client_id: &self.client_id };
        let now = self.env.clock.now();
        let (taken, throttle) = quotas.mutate(client, partitions as f64, self.is_strict, now);
        if !throttle.is_zero() {
            (self.throttle, self.recorded) = (throttle, now);
        }
        taken
    }

    /// For how long the client has to be silent, counted from now.
    pub(crate) fn throttle(&self) -> Duration {
        self.throttle.saturating_sub(self.env.clock.now().since(self.recorded))
    }
}

impl ClientQuotas {
    /// Whether the tokens were taken, and how long it takes until there are some again.
    fn mutate(
        &self,
        client: ClientName<'_>,
        tokens: f64,
        is_strict: bool,
        now: Monotonic,
    ) -> (bool, Duration) {
        let limits = self.limits.load();
        let limit = limits.as_ref().and_then(|limits| limits.controller_mutation_rate.of(client));
        let Some(limit) = limit else { return (true, Duration::ZERO) };
        let (window, per_second) = (self.settings.controller_window, limit.per_second);
        let mut mutated = self.mutated.lock();
        let new = || TokenBucket::new(per_second, now);
        let shared_by = limit.shared_by;
        let measured = mutated.of(&shared_by, now, || shared_by.to_entity(), new);
        let bucket = &mut measured.meter;
        if is_strict {
            let throttle = bucket.throttle(window, per_second, now);
            let may_take = throttle.is_zero();
            if may_take {
                bucket.take(per_second, tokens, now);
            }
            return (may_take, measured.throttled(throttle, now));
        }
        bucket.take(per_second, tokens, now);
        let throttle = bucket.throttle(window, per_second, now);
        (true, measured.throttled(throttle, now))
    }
}
