use std::collections::BTreeMap;

use ottla_protocol::{BrokerId, Offset};

use crate::BrokerEpoch;
use crate::record::BrokerRegistrationChangeRecord;

/// Up to where the metadata log tells of each broker's controlled shutdown, and that it was fenced.
///
/// The others must have read so far before a broker in controlled shutdown may stop: then they know who
/// leads in its place (Kafka's `controlledShutdownOffset`). And a broker that was fenced must have before
/// it is in service again: until then it may take itself for the leader of what others lead.
#[derive(Clone, Debug)]
pub(crate) struct RegistrationChanges {
    offsets: BTreeMap<BrokerId, (BrokerEpoch, Offset)>,
    /// Those of the batch that is replayed.
    replayed: Vec<(BrokerId, BrokerEpoch)>,
    /// What happened before here is known by its outcome alone, from a snapshot.
    first_known: Offset,
}

impl RegistrationChanges {
    /// Those from `first_known` on.
    pub(crate) fn from(first_known: Offset) -> Self {
        Self { offsets: BTreeMap::new(), replayed: Vec::new(), first_known }
    }

    pub(crate) fn changed(&mut self, change: &BrokerRegistrationChangeRecord) {
        if change.in_controlled_shutdown == 1 || change.fenced == 1 {
            self.replayed.push((change.broker_id, change.broker_epoch));
        }
    }

    /// A batch was replayed up to here.
    pub(crate) fn reached(&mut self, offset: Offset) {
        for (id, epoch) in self.replayed.drain(..) {
            self.offsets.insert(id, (epoch, offset));
        }
    }

    /// Whoever has read up to here knows the last change of this registration.
    pub(crate) fn known_at(&self, id: BrokerId, epoch: BrokerEpoch) -> Offset {
        let of_epoch = self.offsets.get(&id).filter(|(of, _)| *of == epoch);
        of_epoch.map_or(self.first_known, |(_, offset)| *offset)
    }
}
