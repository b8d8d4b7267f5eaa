use std::collections::BTreeMap;

use ottla_protocol::{BrokerId, Monotonic};

use crate::BrokerEpoch;

/// When each broker was last heard. Soft state: a new controller begins with a whole session for
/// each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    last_heard: BTreeMap<BrokerId, (BrokerEpoch, Monotonic)>,
}

impl Sessions {
    pub(crate) fn heard(&mut self, id: BrokerId, epoch: BrokerEpoch, now: Monotonic) {
        self.last_heard.insert(id, (epoch, now));
    }

    /// None if this registration was never heard.
    pub(crate) fn last_heard(&self, id: BrokerId, epoch: BrokerEpoch) -> Option<Monotonic> {
        match self.last_heard.get(&id) {
            Some((heard, at)) if *heard == epoch => Some(*at),
            Some(_) | None => None,
        }
    }
}
