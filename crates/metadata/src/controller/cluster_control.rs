//! Brokers: registration, heartbeats, fencing. Kafka: `ClusterControlManager`,
//! `BrokerHeartbeatManager` (KIP-631, KIP-841).

mod heartbeat;
mod registration;
mod registration_changes;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::messages::BrokerHeartbeatRequest;
use ottla_protocol::{BrokerId, ErrorCode, Monotonic, Offset};

use super::{Controller, Outcome};
use crate::BrokerEpoch;
use crate::image::BrokerRegistration;
use crate::record::{MetadataRecord, UnregisterBrokerRecord};

pub use registration::RegistrationError;
pub(super) use registration_changes::RegistrationChanges;
pub(super) use sessions::Sessions;

/// A session in terms of what it is cut short by.
const SESSION_PER_HASTE: u32 = 18;

/// For how long a broker may be silent: a little less than its session, by the end of which others are to lead, and clients
/// to know it (`docs/adr/0012-sessions-end-early.md`).
pub fn patience_with_brokers(session_timeout: Duration) -> Duration {
    session_timeout - session_timeout / SESSION_PER_HASTE
}

/// A request speaks for a registration that is not the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerEpochError {
    /// No broker of that id.
    #[error("broker {0} is not registered")]
    NotRegistered(BrokerId),
    /// Another incarnation has registered since.
    #[error("broker {id} is registered with epoch {current}, not {given}")]
    Stale {
        /// Id of the broker.
        id: BrokerId,
        /// What the request says.
        given: BrokerEpoch,
        /// What is so.
        current: BrokerEpoch,
    },
}

impl BrokerEpochError {
    /// The code to answer with.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            // Kafka answers both alike: the broker has to register again.
            Self::NotRegistered(_) | Self::Stale { .. } => ErrorCode::StaleBrokerEpoch,
        }
    }
}

impl Controller {
    /// Refuses a broker that was replaced by a later incarnation of itself.
    pub fn check_broker_epoch(
        &self,
        id: BrokerId,
        given: BrokerEpoch,
    ) -> Result<&Arc<BrokerRegistration>, BrokerEpochError> {
        let broker = self.image.broker(id).ok_or(BrokerEpochError::NotRegistered(id))?;
        match broker.epoch == given {
            true => Ok(broker),
            false => Err(BrokerEpochError::Stale { id, given, current: broker.epoch }),
        }
    }

    /// Notes that a broker was heard at `now`: call it with every registration and heartbeat that
    /// was answered without an error. It is soft state, so nothing is appended.
    pub fn broker_heard(&mut self, id: BrokerId, epoch: BrokerEpoch, now: Monotonic) {
        self.sessions.heard(id, epoch, now);
    }

    /// Notes a heartbeat that was answered without an error, with how far the broker has read the
    /// metadata log: a broker that shuts down waits for the others to know it.
    pub fn heartbeat_heard(&mut self, request: &BrokerHeartbeatRequest, now: Monotonic) {
        let (id, epoch) = (BrokerId(request.broker_id), BrokerEpoch(request.broker_epoch));
        self.sessions.heard(id, epoch, now);
        self.sessions.has_read(id, Offset(request.current_metadata_offset));
    }

    fn patience(&self) -> Duration {
        patience_with_brokers(self.config.broker.node.session_timeout)
    }

    /// Fences the broker that has been silent longest, if its session is about to end.
    /// Call it again until it names none: the next decision has to see what became of this one.
    pub fn fence_stale_broker(&self, now: Monotonic) -> Outcome<Option<BrokerId>> {
        let patience = self.patience();
        let unfenced = self.image.brokers().filter(|broker| !broker.fenced);
        let heard = unfenced.filter_map(|broker| {
            let last = self.sessions.last_heard(broker.id, broker.epoch)?;
            Some((last, broker))
        });
        match heard.min_by_key(|(last, _)| *last) {
            Some((last, broker)) if now.since(last) >= patience => {
                Outcome { records: self.fence(broker), answer: Some(broker.id) }
            }
            Some(_) | None => Outcome::only(None),
        }
    }

    /// Fences a broker whose process is known to be dead, without waiting for its session to end. The
    /// answer is whether there was anything to do: not if it is fenced already, or has registered anew.
    pub fn fence_dead_broker(&self, id: BrokerId, epoch: BrokerEpoch) -> Outcome<bool> {
        match self.image.broker(id) {
            Some(broker) if broker.epoch == epoch && !broker.fenced => {
                Outcome { records: self.fence(broker), answer: true }
            }
            Some(_) | None => Outcome::only(false),
        }
    }

    /// When the next broker is fenced, should nothing be heard of it: the time to call
    /// [`fence_stale_broker`](Self::fence_stale_broker).
    pub fn next_fencing(&self) -> Option<Monotonic> {
        let unfenced = self.image.brokers().filter(|broker| !broker.fenced);
        let heard = unfenced.filter_map(|broker| self.sessions.last_heard(broker.id, broker.epoch));
        heard.min().map(|last| last + self.patience())
    }

    /// Removes a broker for good. It may register again as a new one.
    pub fn unregister_broker(&self, id: BrokerId) -> Outcome<Result<(), ErrorCode>> {
        let Some(broker) = self.image.broker(id) else {
            return Outcome::only(Err(ErrorCode::BrokerIdNotRegistered));
        };
        let mut records = self.unclean_shutdown_updates(id);
        let record = UnregisterBrokerRecord { broker_id: id, broker_epoch: broker.epoch };
        records.push(MetadataRecord::UnregisterBroker(record));
        Outcome { records, answer: Ok(()) }
    }
}
