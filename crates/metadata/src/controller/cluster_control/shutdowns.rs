use std::collections::BTreeMap;

use ottla_protocol::{BrokerId, Offset};

use crate::BrokerEpoch;
use crate::record::BrokerRegistrationChangeRecord;

/// Up to where the others must have read the metadata log before a broker in controlled shutdown may
/// stop: then they know who leads in its place. Kafka's `controlledShutdownOffset`.
///
/// Soft state. A controller that started from a snapshot does not have it, and lets the broker wait for
/// all that it has itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdowns {
    offsets: BTreeMap<BrokerId, (BrokerEpoch, Offset)>,
    /// Those of the batch that is replayed.
    begun: Vec<(BrokerId, BrokerEpoch)>,
}

impl Shutdowns {
    pub(crate) fn changed(&mut self, change: &BrokerRegistrationChangeRecord) {
        if change.in_controlled_shutdown == 1 {
            self.begun.push((change.broker_id, change.broker_epoch));
        }
        if change.fenced == 1 {
            self.offsets.remove(&change.broker_id);
        }
    }

    /// A batch was replayed up to here.
    pub(crate) fn reached(&mut self, offset: Offset) {
        for (id, epoch) in self.begun.drain(..) {
            self.offsets.insert(id, (epoch, offset));
        }
    }

    pub(crate) fn offset(&self, id: BrokerId, epoch: BrokerEpoch) -> Option<Offset> {
        self.offsets.get(&id).filter(|(of, _)| *of == epoch).map(|(_, offset)| *offset)
    }
}
