//! What a leader has to know of other brokers, and of the time, at the moment that it decides.

use std::collections::BTreeMap;

use ottla_protocol::{BrokerEpoch, BrokerId, Monotonic};

/// What the cluster knows of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerStatus {
    /// Its current registration.
    pub epoch: BrokerEpoch,
    /// Neither fenced nor on its way out: only then may it join an ISR (KIP-841).
    pub is_active: bool,
}

/// The registered brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brokers(BTreeMap<BrokerId, BrokerStatus>);

impl Brokers {
    /// No broker is registered.
    pub const NOBODY: Self = Self(BTreeMap::new());

    /// What is known of one broker; nothing if it is not registered.
    pub fn get(&self, id: BrokerId) -> Option<BrokerStatus> {
        self.0.get(&id).copied()
    }

    /// Whether a broker is there, as far as the cluster knows: who is on its way out is waited for no more.
    pub(crate) fn is_active(&self, id: BrokerId) -> bool {
        self.get(id).is_some_and(|known| known.is_active)
    }

    /// Whether `epoch` is that of an earlier incarnation of the broker (KIP-903).
    pub(crate) fn is_stale(&self, id: BrokerId, epoch: BrokerEpoch) -> bool {
        epoch != BrokerEpoch::NONE && self.get(id).is_some_and(|known| known.epoch > epoch)
    }

    /// Whether the incarnation that fetched with `epoch` may join an ISR; a follower that named none passes (KIP-903).
    pub(crate) fn may_join(&self, id: BrokerId, epoch: Option<BrokerEpoch>) -> bool {
        let (Some(epoch), Some(known)) = (epoch, self.get(id)) else { return false };
        known.is_active && (epoch == BrokerEpoch::NONE || epoch == known.epoch)
    }
}

impl FromIterator<(BrokerId, BrokerStatus)> for Brokers {
    fn from_iter<I: IntoIterator<Item = (BrokerId, BrokerStatus)>>(brokers: I) -> Self {
        Self(brokers.into_iter().collect())
    }
}

/// When something happens, and what the brokers are by then.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The time.
    pub now: Monotonic,
    /// The brokers as the newest image has them.
    pub brokers: &'a Brokers,
}
