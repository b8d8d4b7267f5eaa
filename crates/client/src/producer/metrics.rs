//! Counters of a producer, under Kafka's names.

/// What a producer has done so far. Kafka's `producer-metrics`, as totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerMetrics {
    /// `record-send-total`: records that were stored.
    pub record_send_total: u64,
    /// `byte-total`: bytes of their batches, as sent.
    pub byte_total: u64,
    /// Batches that were stored; `byte-total` over this is `batch-size-avg`, and
    /// `record-send-total` over it `records-per-request-avg` of one partition.
    pub batch_total: u64,
    /// `record-error-total`: records that failed.
    pub record_error_total: u64,
    /// `record-retry-total`: records that were sent again.
    pub record_retry_total: u64,
    /// `batch-split-total`: batches that were too large and were sent in halves.
    pub batch_split_total: u64,
    /// `request-total`: Produce requests.
    pub request_total: u64,
    /// `buffer-exhausted-total`: how often `send` found no memory at first.
    pub buffer_exhausted_total: u64,
    /// `buffer-total-bytes`: `buffer.memory`.
    pub buffer_total_bytes: u64,
    /// `buffer-available-bytes`: what of it is free.
    pub buffer_available_bytes: u64,
    /// `produce-throttle-time-total`: milliseconds for which brokers asked it to be silent.
    pub produce_throttle_time_total: u64,
}
