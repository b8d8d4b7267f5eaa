//! A stand-in for the crate `base2histogram`, with the part of its API that openraft calls.
//!
//! The original computes lookup tables for all its scales when the first histogram is made: 26 MB
//! and 16 to 21 ms of every start (measured), for statistics that Ottla never shows. This one counts
//! values by their power of two, in half a kilobyte. See docs/adr/0003-openraft-metadata-quorum.md.

use std::fmt;
use std::marker::PhantomData;

/// 0 has a bucket of its own, then one bucket for each bit length.
const BUCKETS: usize = u64::BITS as usize + 1;

/// How often values of each magnitude were recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    slots: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// A histogram of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { counts: [0; BUCKETS], slots: PhantomData }
    }

    /// Counts `value`.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` as recorded `times`.
    pub fn record_n(&mut self, value: u64, times: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += times;
        }
    }

    /// The usual percentiles, each rounded down to a power of two.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.counts.iter().sum(),
            p0_1: self.percentile(1),
            p1: self.percentile(10),
            p5: self.percentile(50),
            p10: self.percentile(100),
            p50: self.percentile(500),
            p90: self.percentile(900),
            p99: self.percentile(990),
            p99_9: self.percentile(999),
        }
    }

    /// The magnitude that `permille` of the samples do not exceed.
    fn percentile(&self, permille: u64) -> u64 {
        let samples: u64 = self.counts.iter().sum();
        let rank = samples.saturating_mul(permille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return if bucket == 0 { 0 } else { 1 << (bucket - 1) };
            }
        }
        0
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Percentiles of a [`Histogram`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were recorded.
    pub samples: u64,
    /// 0.1 % of the values do not exceed it.
    pub p0_1: u64,
    /// 1 % of the values do not exceed it.
    pub p1: u64,
    /// 5 % of the values do not exceed it.
    pub p5: u64,
    /// 10 % of the values do not exceed it.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// 90 % of the values do not exceed it.
    pub p90: u64,
    /// 99 % of the values do not exceed it.
    pub p99: u64,
    /// 99.9 % of the values do not exceed it.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, p99_9, .. } = self;
        write!(f, "{samples} samples, p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}")
    }
}

/// Histograms to be shown together, one line each.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart(Vec<(String, Histogram)>);

impl AsciiChart {
    /// A chart of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.0.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.0 {
            writeln!(f, "{name}: {}", histogram.percentile_stats())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_rounded_down_to_powers_of_two() {
        let mut histogram = Histogram::<()>::new();
        for value in [0, 5, 5, 5, 5, 5, 5, 5, 5, 1000] {
            histogram.record(value);
        }
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p1, stats.p50, stats.p90, stats.p99), (10, 0, 4, 4, 512));
    }
}
