//! Counters of a consumer. Kafka: `consumer-fetch-manager-metrics`, `consumer-coordinator-metrics`.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_protocol::TopicPartition;

/// What a consumer has done so far, under Kafka's names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsumerMetrics {
    /// `records-consumed-total`.
    pub records_consumed_total: u64,
    /// `bytes-consumed-total`: batches as they came.
    pub bytes_consumed_total: u64,
    /// `fetch-total`: answered requests.
    pub fetch_total: u64,
    /// `fetch-latency-avg`.
    pub fetch_latency_avg: Duration,
    /// `fetch-latency-max`.
    pub fetch_latency_max: Duration,
    /// `fetch-throttle-time-max`.
    pub fetch_throttle_time_max: Duration,
    /// `rebalance-total`: joins that were begun.
    pub rebalance_total: u64,
    /// `commit-total`: commits that succeeded.
    pub commit_total: u64,
    /// `records-lag`, of the partitions of which it is known.
    pub records_lag: BTreeMap<TopicPartition, i64>,
}

/// The counters behind it.
#[derive(Debug, Default)]
pub(super) struct Counters {
    records: u64,
    bytes: u64,
    fetches: u64,
    latency_sum: Duration,
    latency_max: Duration,
    throttle_max: Duration,
    pub(super) rebalances: u64,
    pub(super) commits: u64,
}

impl Counters {
    pub(super) fn fetched(&mut self, latency: Duration, throttle_ms: i32) {
        self.fetches += 1;
        self.latency_sum += latency;
        self.latency_max = self.latency_max.max(latency);
        let throttle = Duration::from_millis(u64::try_from(throttle_ms).unwrap_or(0));
        self.throttle_max = self.throttle_max.max(throttle);
    }

    pub(super) fn brought(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    pub(super) fn handed_out(&mut self, records: usize) {
        self.records += records as u64;
    }

    pub(super) fn snapshot(&self, records_lag: BTreeMap<TopicPartition, i64>) -> ConsumerMetrics {
        let fetches = u32::try_from(self.fetches).unwrap_or(u32::MAX);
        ConsumerMetrics {
            records_consumed_total: self.records,
            bytes_consumed_total: self.bytes,
            fetch_total: self.fetches,
            fetch_latency_avg: self.latency_sum.checked_div(fetches).unwrap_or_default(),
            fetch_latency_max: self.latency_max,
            fetch_throttle_time_max: self.throttle_max,
            rebalance_total: self.rebalances,
            commit_total: self.commits,
            records_lag,
        }
    }
}
