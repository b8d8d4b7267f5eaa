//! What a request costs its client, where quotas are set: the one place that tells him to be silent (KIP-219).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ottla_env::Env;
use ottla_protocol::{ApiKey, Monotonic};

use super::{RequestContext, Response};
use crate::quotas::{ClientName, ClientQuotas, milliseconds_of};

/// What a request has cost so far.
pub(super) struct Bill {
    env: Env,
    quotas: Arc<ClientQuotas>,
    context: RequestContext,
    /// Bytes of the request, without its length.
    bytes: usize,
    /// For how long the request has been worked on, if that is measured.
    worked: Option<Duration>,
}

impl Bill {
    /// Of a request that is about to be handled; none where no quota is set.
    pub(super) fn open(
        env: &Env,
        quotas: &Arc<ClientQuotas>,
        context: &RequestContext,
        bytes: usize,
    ) -> Option<Self> {
        if !quotas.are_set() {
            return None;
        }
        let worked = quotas.measure_requests().then_some(Duration::ZERO);
        let (env, quotas) = (env.clone(), Arc::clone(quotas));
        Some(Self { env, quotas, context: context.clone(), bytes, worked })
    }

    /// Does a piece of the work.
    pub(super) fn work<T>(bill: &mut Option<Self>, work: impl FnOnce() -> T) -> T {
        let Some(bill) = bill.as_mut().filter(|bill| bill.worked.is_some()) else { return work() };
        let began = bill.now();
        let done = work();
        bill.add(began);
        done
    }

    /// Does work that has to wait in between; waiting is not counted.
    pub(super) async fn work_later<F: Future>(bill: &mut Option<Self>, work: F) -> F::Output {
        if bill.as_ref().is_none_or(|bill| bill.worked.is_none()) {
            return work.await;
        }
        let mut work = pin!(work);
        poll_fn(|cx| Self::work(bill, || work.as_mut().poll(cx))).await
    }

    /// Charges for the request, and says in its response for how long the client has to be silent.
    pub(super) fn settle(self, response: &mut Response) -> Duration {
        let throttle = self.produced().max(self.worked());
        let Some(told) = response.throttle_time_ms() else { return throttle };
        // A handler that charges by itself has said so already.
        let own = Duration::from_millis(u64::try_from(*told).unwrap_or(0));
        let throttle = throttle.max(own);
        *told = milliseconds_of(throttle);
        throttle
    }

    /// Charges for a request that has no response. As in Kafka, the time that it took is free then.
    pub(super) fn settle_unanswered(self) -> Duration {
        self.produced()
    }

    fn produced(&self) -> Duration {
        if self.context.header.api_key != ApiKey::Produce {
            return Duration::ZERO;
        }
        self.quotas.produced(self.client(), self.bytes, self.now())
    }

    fn worked(&self) -> Duration {
        let charge = |time| self.quotas.worked(self.client(), time, self.now());
        self.worked.map_or(Duration::ZERO, charge)
    }

    fn client(&self) -> ClientName<'_> {
        self.context.client()
    }

    fn now(&self) -> Monotonic {
        self.env.clock.now()
    }

    fn add(&mut self, began: Monotonic) {
        let now = self.now();
        self.worked = self.worked.map(|worked| worked + now.since(began));
    }
}
