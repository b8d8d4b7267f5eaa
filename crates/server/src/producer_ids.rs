//! Producer ids for idempotent producers, in blocks from the controller. Kafka's `ProducerIdManager` (KIP-730).

use std::ops::Range;

use ottla_metadata::BrokerEpoch;
use ottla_protocol::messages::AllocateProducerIdsRequest;
use ottla_protocol::{BrokerId, ErrorCode, ProducerId, message};

use crate::controller_channel::ControllerChannel;

/// Hands out each id once. What is left of a block is lost when the node stops.
pub(crate) struct ProducerIds {
    block: tokio::sync::Mutex<Range<i64>>,
}

impl ProducerIds {
    pub(crate) fn new() -> Self {
        Self { block: tokio::sync::Mutex::new(0..0) }
    }

    /// An id that nobody had before.
    pub(crate) async fn next(
        &self,
        channel: &ControllerChannel,
        (broker, epoch): (BrokerId, BrokerEpoch),
    ) -> Result<ProducerId, ErrorCode> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            let request =
                message!(AllocateProducerIdsRequest { broker_id: broker.0, broker_epoch: epoch.0 });
            let granted = channel.call(&request).await;
            // As in Kafka, a client that finds no controller tries again.
            let granted = granted.map_err(|_| ErrorCode::CoordinatorLoadInProgress)?;
            ErrorCode::from_wire(granted.error_code).ok()?;
            let start = granted.producer_id_start;
            *block = start..start + i64::from(granted.producer_id_len);
        }
        let id = block.next().ok_or(ErrorCode::CoordinatorLoadInProgress)?;
        Ok(ProducerId(id))
    }
}
