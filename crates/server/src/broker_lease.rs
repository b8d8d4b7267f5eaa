//! For how long a broker may take it that nobody else has been given what it leads.
//!
//! A broker that stood still, or is cut off, does not hear that it was fenced and that others lead in its place. What it then
//! appends is never acknowledged, for its followers have left it. But what it only *reads* to a client nobody else looks at: an offset
//! that its groups committed may be an old one. The controller fences nobody who was heard within a session (ADR 0012), so
//! a broker that it took for alive within the session leads what it thinks it leads.

use std::time::Duration;

use ottla_metadata::patience_with_brokers;
use ottla_protocol::Monotonic;
use parking_lot::Mutex;

/// Kept by heartbeats that are answered.
#[derive(Debug)]
pub(crate) struct BrokerLease {
    length: Duration,
    /// When the last heartbeat was sent to which the answer was that the broker is in service.
    begun: Mutex<Option<Monotonic>>,
}

impl BrokerLease {
    /// `broker.session.timeout.ms` must not be more here than it is for the controllers.
    pub(crate) fn new(session_timeout: Duration) -> Self {
        Self { length: patience_with_brokers(session_timeout), begun: Mutex::default() }
    }

    /// The controller answers a heartbeat of `sent`: whether the broker is in service.
    pub(crate) fn answered(&self, sent: Monotonic, is_unfenced: bool) {
        *self.begun.lock() = is_unfenced.then_some(sent);
    }

    pub(crate) fn holds(&self, now: Monotonic) -> bool {
        self.begun.lock().is_some_and(|begun| now.since(begun) < self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_before_the_controller_can_fence_the_broker() {
        let lease = BrokerLease::new(Duration::from_secs(9));
        let start = Monotonic::default();
        let at = |millis| start + Duration::from_millis(millis);
        assert!(!lease.holds(start), "nobody has let it in");
        lease.answered(at(1_000), true);
        assert!(lease.holds(at(9_499)));
        assert!(!lease.holds(at(9_500)), "heard at 1 s at the earliest, fenced 8.5 s later");
        lease.answered(at(9_600), true);
        assert!(lease.holds(at(18_099)));
        lease.answered(at(9_700), false);
        assert!(!lease.holds(at(9_700)));
    }
}
