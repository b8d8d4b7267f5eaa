//! Results, for people and for scripts.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

use super::Format;
use super::server_process::Used;

/// Times in microseconds, to three digits.
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Histogram::new(3)?))
    }

    pub(super) fn record(&mut self, latency: Duration) -> Result<()> {
        let micros = u64::try_from(latency.as_micros())?;
        Ok(self.0.record(micros.max(1))?)
    }

    pub(super) fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }
}

/// What one run came to.
pub(super) struct Report {
    /// `produce`, `consume` or `latency`, and how.
    pub(super) title: String,
    pub(super) records: u64,
    pub(super) batches: u64,
    /// Bytes of record batches on the wire.
    pub(super) bytes: u64,
    pub(super) used: Used,
    /// What was timed, and how long it took.
    pub(super) latencies: Vec<(&'static str, Latencies)>,
}

const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p95", 95.0), ("p99", 99.0), ("p99.9", 99.9), ("max", 100.0)];

impl Report {
    pub(super) fn print(&self, format: Format) -> Result<()> {
        let text = match format {
            Format::Text => self.text()?,
            Format::Fields => self.fields()?,
        };
        Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
    }

    fn per_second(&self, amount: u64) -> f64 {
        amount as f64 / self.used.elapsed.as_secs_f64().max(1e-9)
    }

    fn per_gigabyte(&self, time: Duration) -> f64 {
        time.as_secs_f64() / (self.bytes as f64 / 1e9).max(1e-9)
    }

    fn micros_per_batch(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / (self.batches as f64).max(1.0)
    }

    fn share_of_core(&self, time: Duration) -> f64 {
        100.0 * time.as_secs_f64() / self.used.elapsed.as_secs_f64().max(1e-9)
    }

    fn text(&self) -> Result<String> {
        let mut text = format!("{}\n", self.title);
        writeln!(
            text,
            "  throughput  {:>12.0} records/s {:>9.1} MB/s {:>9.0} batches/s  in {:.2} s",
            self.per_second(self.records),
            self.per_second(self.bytes) / 1e6,
            self.per_second(self.batches),
            self.used.elapsed.as_secs_f64(),
        )?;
        for (what, latencies) in &self.latencies {
            write!(text, "  {what:<11}")?;
            for (name, percentile) in PERCENTILES {
                let micros = latencies.0.value_at_percentile(percentile);
                write!(text, " {name} {}", readable(micros))?;
            }
            text.push('\n');
        }
        match self.used.server {
            Some(server) => {
                let cpu = self.cpu_text(server.cpu);
                let resident = server.resident_bytes as f64 / 1e6;
                writeln!(text, "  server     {cpu}  RSS {resident:.0} MB  (pid {})", server.pid)?;
            }
            None => writeln!(text, "  server      not on this machine: name it with --server-pid")?,
        }
        writeln!(text, "  client     {}", self.cpu_text(self.used.client_cpu))?;
        Ok(text)
    }

    fn cpu_text(&self, time: Duration) -> String {
        format!(
            "{:>6.0} % of a core {:>8.3} CPU s/GB {:>8.2} µs/batch",
            self.share_of_core(time),
            self.per_gigabyte(time),
            self.micros_per_batch(time),
        )
    }

    fn fields(&self) -> Result<String> {
        let mut line = format!(
            "records_per_s={:.0} mb_per_s={:.1} batches_per_s={:.0} elapsed_s={:.3}",
            self.per_second(self.records),
            self.per_second(self.bytes) / 1e6,
            self.per_second(self.batches),
            self.used.elapsed.as_secs_f64(),
        );
        for (what, latencies) in &self.latencies {
            let what = what.replace([' ', '-'], "_");
            for (name, percentile) in PERCENTILES {
                let micros = latencies.0.value_at_percentile(percentile);
                write!(line, " {what}_{}_us={micros}", name.replace('.', "_"))?;
            }
        }
        if let Some(server) = self.used.server {
            write!(
                line,
                " server_cpu_s_per_gb={:.4} server_us_per_batch={:.3} server_rss_mb={:.0}",
                self.per_gigabyte(server.cpu),
                self.micros_per_batch(server.cpu),
                server.resident_bytes as f64 / 1e6,
            )?;
        }
        writeln!(line, " client_cpu_s_per_gb={:.4}", self.per_gigabyte(self.used.client_cpu))?;
        Ok(line)
    }
}

fn readable(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{micros} µs"),
        10_000..10_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}
