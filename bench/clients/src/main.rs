//! One producer of many small records: Ottla's Rust client or librdkafka, with default settings.
//! `bench/clients.sh` runs them in turn against the same node.
//!
//! Each record's fate is looked at: librdkafka calls back, Ottla's client completes a delivery.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use ottla_client::{Producer, ProducerConfig, ProducerRecord};
use ottla_env::Env;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

#[derive(Parser)]
struct Options {
    /// Which client.
    client: Client,
    /// `host:port` of the node.
    bootstrap: String,
    #[arg(long, default_value = "clients")]
    topic: String,
    #[arg(long, default_value_t = 5_000_000)]
    records: u64,
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
    let options = Options::parse();
    let value: Vec<u8> = (0..options.size).map(|at| b'a' + (at % 26) as u8).collect();
    match options.client {
        Client::Ottla => ottla(&options, &value),
        Client::Rdkafka => rdkafka_client(&options, &value),
    }
}

impl Options {
    fn pairs(&self) -> Result<Vec<(&str, &str)>> {
        let mut pairs = vec![("bootstrap.servers", self.bootstrap.as_str())];
        for pair in &self.set {
            pairs.push(pair.split_once('=').with_context(|| format!("{pair} is not name=value"))?);
        }
        Ok(pairs)
    }

    fn report(&self, began: Instant, cpu: Duration) {
        let seconds = began.elapsed().as_secs_f64();
        let cpu = (cpu_time() - cpu).as_secs_f64();
        let records = self.records as f64;
        println!(
            "{:?} records/s {:.0} MB/s {:.1} cpu-s/million {:.3} seconds {seconds:.2}",
            self.client,
            records / seconds,
            records * self.size as f64 / seconds / 1e6,
            cpu / records * 1e6,
        );
    }
}

/// Of this process: all threads, user and system.
fn cpu_time() -> Duration {
    let path = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = path.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    // Hundredths of a second, counted from the third field.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn ottla(options: &Options, value: &[u8]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (config, _) = ProducerConfig::from_properties(options.pairs()?)?;
        let producer = Producer::connect(&Env::os(), config).await?;
        producer.send(ProducerRecord::to(&*options.topic).value(value)).await?.await?;
        let (began, cpu) = (Instant::now(), cpu_time());
        let mut waiting = VecDeque::new();
        for _ in 0..options.records {
            waiting.push_back(producer.send(ProducerRecord::to(&*options.topic).value(value)).await?);
            while let Some(done) = waiting.front().and_then(|delivery| delivery.now()) {
                done?;
                waiting.pop_front();
            }
        }
        producer.flush().await;
        for delivery in waiting {
            delivery.await?;
        }
        options.report(began, cpu);
        Ok(())
    })
}

struct Count(Arc<AtomicU64>);

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn rdkafka_client(options: &Options, value: &[u8]) -> Result<()> {
    let mut config = ClientConfig::new();
    for (name, value) in options.pairs()? {
        config.set(name, value);
    }
    let stored = Arc::new(AtomicU64::new(0));
    let producer: ThreadedProducer<Count> =
        config.create_with_context(Count(stored.clone()))?;
    let record = || BaseRecord::<(), [u8]>::to(&options.topic).payload(value);
    producer.send(record()).map_err(|(error, _)| error)?;
    producer.flush(Duration::from_secs(30))?;
    let (began, cpu) = (Instant::now(), cpu_time());
    for _ in 0..options.records {
        let mut sending = record();
        // Its queue is full: wait for callbacks, as its documentation says.
        while let Err((_, again)) = producer.send(sending) {
            sending = again;
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    producer.flush(Duration::from_secs(120))?;
    options.report(began, cpu);
    let stored = stored.load(Ordering::Relaxed);
    ensure!(stored == options.records + 1, "{stored} were stored");
    Ok(())
}
