//! A connection from which nothing is read for a while: its client is over a quota (KIP-219).

use std::time::Duration;

use ottla_env::{BoxFuture, Env};
use ottla_protocol::Monotonic;

/// Until when a connection is not read.
pub(super) struct Mute<'a> {
    env: &'a Env,
    until: Monotonic,
    timer: Option<BoxFuture<'static, ()>>,
}

impl<'a> Mute<'a> {
    pub(super) fn new(env: &'a Env) -> Self {
        Self { env, until: Monotonic::default(), timer: None }
    }

    pub(super) fn is_on(&self) -> bool {
        self.timer.is_some()
    }

    /// Lasts for `throttle` from now on, or as long as it would anyway.
    pub(super) fn extend(&mut self, throttle: Duration) {
        if throttle.is_zero() {
            return;
        }
        let until = self.env.clock.now() + throttle;
        if until > self.until {
            self.until = until;
            self.timer = Some(self.env.clock.sleep(throttle));
        }
    }

    /// Completes when it is over; never, if it is not on.
    pub(super) async fn over(&mut self) {
        match &mut self.timer {
            Some(timer) => timer.await,
            None => std::future::pending().await,
        }
        self.timer = None;
    }
}
