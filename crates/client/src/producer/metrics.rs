//! Counters of a producer, under Kafka's names.

use std::time::Duration;

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
    /// `request-latency-avg`: from a Produce request to its answer.
    pub request_latency_avg: Duration,
    /// `request-latency-max`.
    pub request_latency_max: Duration,
    /// `record-queue-time-avg`: from the first record of a batch until it is sent for the first time.
    pub record_queue_time_avg: Duration,
    /// `record-queue-time-max`.
    pub record_queue_time_max: Duration,
    /// `buffer-exhausted-total`: how often `send` found no memory at first.
    pub buffer_exhausted_total: u64,
    /// `buffer-total-bytes`: `buffer.memory`.
    pub buffer_total_bytes: u64,
    /// `buffer-available-bytes`: what of it is free.
    pub buffer_available_bytes: u64,
    /// `produce-throttle-time-total`: milliseconds for which brokers asked it to be silent.
    pub produce_throttle_time_total: u64,
}

/// How long something took, many times.
#[derive(Debug, Default)]
pub(super) struct Times {
    sum: Duration,
    count: u32,
    pub(super) max: Duration,
}

impl Times {
    pub(super) fn add(&mut self, time: Duration) {
        // Of the last four billion: an average, and no overflow.
        (self.sum, self.count) = match self.count.checked_add(1) {
            Some(count) => (self.sum + time, count),
            None => (time, 1),
        };
        self.max = self.max.max(time);
    }

    pub(super) fn average(&self) -> Duration {
        self.sum.checked_div(self.count).unwrap_or_default()
    }
}
