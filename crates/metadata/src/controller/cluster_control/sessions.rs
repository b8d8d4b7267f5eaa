use std::collections::BTreeMap;

use ottla_protocol::{BrokerId, Monotonic, Offset};

use crate::BrokerEpoch;

/// When each broker was last heard, and what it said. Soft state: a new controller begins with a whole
/// session for each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions {
    brokers: BTreeMap<BrokerId, Session>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    epoch: BrokerEpoch,
    heard: Monotonic,
    /// How far it has read the metadata log, if it said so.
    read: Option<Offset>,
}

impl Sessions {
    pub(crate) fn heard(&mut self, id: BrokerId, epoch: BrokerEpoch, now: Monotonic) {
        let read = self.of(id, epoch).and_then(|session| session.read);
        self.brokers.insert(id, Session { epoch, heard: now, read });
    }

    pub(crate) fn has_read(&mut self, id: BrokerId, offset: Offset) {
        if let Some(session) = self.brokers.get_mut(&id) {
            session.read = Some(offset);
        }
    }

    /// None if this registration was never heard.
    pub(crate) fn last_heard(&self, id: BrokerId, epoch: BrokerEpoch) -> Option<Monotonic> {
        self.of(id, epoch).map(|session| session.heard)
    }

    /// How far this registration has read the metadata log; none if it did not say yet.
    pub(crate) fn read(&self, id: BrokerId, epoch: BrokerEpoch) -> Option<Offset> {
        self.of(id, epoch).and_then(|session| session.read)
    }

    fn of(&self, id: BrokerId, epoch: BrokerEpoch) -> Option<&Session> {
        self.brokers.get(&id).filter(|session| session.epoch == epoch)
    }
}
