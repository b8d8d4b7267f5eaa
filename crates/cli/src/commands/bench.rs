//! `ottla bench`: a load generator that measures a node, this one or any that speaks the protocol.

mod consume;
mod latency;
mod load;
mod produce;
mod report;
mod server_process;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use ottla_client::{Client, ConnectionOptions};
use ottla_env::Env;

use self::server_process::Usage;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    load: Load,
}

#[derive(Args)]
struct Target {
    /// A node of the cluster.
    #[arg(
        long,
        visible_alias = "bootstrap",
        global = true,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092"
    )]
    bootstrap_server: String,
    /// The process to account for; found by its port if it runs here.
    #[arg(long, global = true, value_name = "PID")]
    server_pid: Option<u32>,
    /// Threads of the load generator itself.
    #[arg(long, global = true, default_value_t = 1)]
    client_threads: usize,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// name=value pairs on one line, for scripts.
    Fields,
}

#[derive(Subcommand)]
enum Load {
    /// Write records as fast as the node takes them, or at a rate.
    Produce(produce::Options),
    /// Read records as fast as the node gives them.
    Consume(consume::Options),
    /// Write at a rate, read at once, and measure the way from one end to the other.
    Latency(latency::Options),
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let threads = options.target.client_threads;
    // On one thread a request and its response cost no wake of another core.
    let mut builder = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build().context("cannot start threads")?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<()> {
    let bench = Bench { env: Env::os(), bootstrap_server: options.target.bootstrap_server.clone() };
    let usage = Usage::watch(&bench.env, &options.target);
    let report = match &options.load {
        Load::Produce(load) => produce::run(&bench, load, &usage).await?,
        Load::Consume(load) => consume::run(&bench, load, &usage).await?,
        Load::Latency(load) => latency::run(&bench, load, &usage).await?,
    };
    report.print(options.target.format)
}

/// The cluster under test.
#[derive(Clone)]
struct Bench {
    env: Env,
    bootstrap_server: String,
}

impl Bench {
    /// A client of its own, so that its requests stand behind nobody else's.
    async fn client(&self, max_in_flight: usize) -> Result<Client> {
        let options = ConnectionOptions {
            client_id: "ottla-bench".to_owned(),
            connect_timeout: Duration::from_secs(5),
            max_in_flight,
            ..ConnectionOptions::default()
        };
        let servers = vec![self.bootstrap_server.clone()];
        Client::connect(&self.env, servers, options).await.map_err(|error| {
            anyhow::Error::new(crate::failure::Failure {
                what: format!("no node answers at {}", self.bootstrap_server),
                why: error.to_string(),
                next: "start one with `ottla start`, or name one with --bootstrap-server"
                    .to_owned(),
            })
        })
    }

    /// Runs `work` as a task of its own and passes on what it returns.
    async fn all<T: Send + 'static>(
        &self,
        work: Vec<impl Future<Output = Result<T>> + Send + 'static>,
    ) -> Result<Vec<T>> {
        let mut results = Vec::with_capacity(work.len());
        for worker in work {
            let (done, result) = tokio::sync::oneshot::channel();
            self.env.spawn("bench worker", async move {
                // The receiver is gone only if another worker failed first.
                let _ = done.send(worker.await);
            });
            results.push(result);
        }
        let mut values = Vec::with_capacity(results.len());
        for result in results {
            values.push(result.await.context("a worker panicked")??);
        }
        Ok(values)
    }
}

/// A number of bytes: 16384, 16K, 1M, 2G.
fn bytes(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.trim().to_ascii_uppercase() {
        text if text.ends_with('K') => (text.trim_end_matches('K').to_owned(), 1 << 10),
        text if text.ends_with('M') => (text.trim_end_matches('M').to_owned(), 1 << 20),
        text if text.ends_with('G') => (text.trim_end_matches('G').to_owned(), 1 << 30),
        text => (text, 1),
    };
    let number: usize = digits.parse().map_err(|_| "not a number of bytes such as 16K")?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}
