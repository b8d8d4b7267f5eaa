//! Many small records through Ottla's Rust client or through librdkafka, with default settings:
//! `bench/clients.sh` runs them in turn against the same node.
//!
//! The fate of each record that is sent is looked at: librdkafka calls back, Ottla's client completes
//! a delivery. Of each record that is read the value is looked at, one record at a time.

mod librdkafka;
mod ottla;

use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ottla_env::process::ProcessStats;

#[derive(Parser)]
#[command(about)]
struct Command {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Send records.
    Produce(Options),
    /// Read them from the beginning of the topic.
    Consume(Options),
}

#[derive(Args)]
struct Options {
    /// Which client.
    client: Client,
    /// `host:port` of the node.
    bootstrap: String,
    /// Where to; it is made if the node makes topics that are asked for.
    #[arg(long, default_value = "clients")]
    topic: String,
    /// How many.
    #[arg(long, default_value_t = 5_000_000)]
    records: u64,
    /// Bytes of each value that is sent.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Further settings of either client, as name=value.
    #[arg(long)]
    set: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Client {
    Ottla,
    Rdkafka,
}

fn main() -> Result<()> {
    match Command::parse().load {
        Load::Produce(options) => {
            let value: Vec<u8> = (0..options.size).map(|at| b'a' + (at % 26) as u8).collect();
            match options.client {
                Client::Ottla => ottla::produce(&options, &value),
                Client::Rdkafka => librdkafka::produce(&options, &value),
            }
        }
        Load::Consume(options) => match options.client {
            Client::Ottla => ottla::consume(&options),
            Client::Rdkafka => librdkafka::consume(&options),
        },
    }
}

impl Options {
    /// Settings under Kafka's names, which both clients have; `own` may be given anew.
    fn pairs<'a>(&'a self, own: &[(&'a str, &'a str)]) -> Result<Vec<(&'a str, &'a str)>> {
        let mut pairs = vec![("bootstrap.servers", self.bootstrap.as_str())];
        pairs.extend(own);
        for pair in &self.set {
            pairs.push(pair.split_once('=').with_context(|| format!("{pair} is not name=value"))?);
        }
        Ok(pairs)
    }
}

/// What a run has taken.
struct Began {
    at: Instant,
    used: ProcessStats,
}

impl Began {
    fn now() -> Result<Self> {
        Ok(Self { at: Instant::now(), used: ProcessStats::own()? })
    }

    /// One line: how fast, and at which cost to this process, all of its threads.
    fn report(&self, load: &str, options: &Options, bytes: u64) -> Result<()> {
        let seconds = self.at.elapsed().as_secs_f64();
        let used = ProcessStats::own()?;
        let millions = options.records as f64 / 1e6;
        let user = (used.user_time - self.used.user_time).as_secs_f64();
        let system = (used.system_time - self.used.system_time).as_secs_f64();
        println!(
            "{load} {:?} records/s {:.0} MB/s {:.1} user-s/million {:.3} system-s/million {:.3} \
             cpu-s/million {:.3} resident-MB {:.0}",
            options.client,
            options.records as f64 / seconds,
            bytes as f64 / seconds / 1e6,
            user / millions,
            system / millions,
            (user + system) / millions,
            used.resident_bytes as f64 / 1e6,
        );
        Ok(())
    }
}
