//! Code of the program that sees every record go and come back.

use super::{ProduceError, ProducerRecord, RecordMetadata};

/// Sees records before they are sent and after they are stored. Kafka's `ProducerInterceptor`.
pub trait ProducerInterceptor: Send + Sync {
    /// Called by `send`, on its task, before a partition is chosen; may change the record.
    fn on_send(&self, record: &mut ProducerRecord<'_>) {
        let _unchanged = record;
    }

    /// Called when it is known what became of the record, on the producer's own task: be quick.
    fn on_acknowledgement(&self, result: Result<&RecordMetadata, &ProduceError>) {
        let _unseen = result;
    }
}
