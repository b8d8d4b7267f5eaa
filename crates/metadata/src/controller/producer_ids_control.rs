//! Blocks of producer ids. Kafka: `ProducerIdControlManager` (KIP-730).

use ottla_protocol::messages::{AllocateProducerIdsRequest, AllocateProducerIdsResponse};
use ottla_protocol::{BrokerId, ErrorCode, message};

use super::{Controller, Outcome};
use crate::BrokerEpoch;
use crate::record::ProducerIdsRecord;

/// How many ids a broker is given at a time.
pub const PRODUCER_ID_BLOCK_SIZE: i32 = 1000;

impl Controller {
    /// Gives a broker the next block of producer ids. A block that is lost is never given again.
    pub fn allocate_producer_ids(
        &self,
        request: &AllocateProducerIdsRequest,
    ) -> Outcome<AllocateProducerIdsResponse> {
        let broker_id = BrokerId(request.broker_id);
        let broker_epoch = BrokerEpoch(request.broker_epoch);
        let refuse = |code: ErrorCode| {
            Outcome::only(message!(AllocateProducerIdsResponse { error_code: code.code() }))
        };
        if let Err(error) = self.check_broker_epoch(broker_id, broker_epoch) {
            return refuse(error.error_code());
        }
        let start = self.image.next_producer_id();
        let Some(next_producer_id) = start.checked_add(i64::from(PRODUCER_ID_BLOCK_SIZE)) else {
            // Nine quintillion producers: the id space is used up.
            return refuse(ErrorCode::UnknownServerError);
        };
        let record = ProducerIdsRecord { broker_id, broker_epoch, next_producer_id };
        Outcome {
            records: vec![record.into()],
            answer: message!(AllocateProducerIdsResponse {
                producer_id_start: start,
                producer_id_len: PRODUCER_ID_BLOCK_SIZE,
            }),
        }
    }
}
