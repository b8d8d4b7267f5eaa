//! `ottla bench latency`: one producer at a rate, one consumer behind it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use ottla_client::{Acks, Consumer, ConsumerOptions, Producer, ProducerConfig, ProducerRecord};
use ottla_protocol::{Monotonic, TopicPartition};

use super::load::{AcksOption, prepare_topic};
use super::report::{Latencies, Report};
use super::server_process::Usage;
use super::{Bench, bytes};

/// Bytes at the start of a value that tell when it was due.
const STAMP: usize = 8;

#[derive(Args, Clone)]
pub(super) struct Options {
    /// Made if it is not there.
    #[arg(long, default_value = "bench-latency")]
    topic: String,
    /// Records altogether, each a batch of its own.
    #[arg(long, default_value_t = 10_000)]
    records: u64,
    /// Bytes of one value, at least 8.
    #[arg(long, value_parser = bytes, default_value = "100")]
    record_size: usize,
    /// Records per second; one that cannot be sent in time counts from when it was due.
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// What a record must have reached.
    #[arg(long, value_enum, default_value = "all")]
    acks: AcksOption,
}

pub(super) async fn run(bench: &Bench, options: &Options, usage: &Usage) -> Result<Report> {
    ensure!(options.rate > 0, "--rate must be at least 1");
    let partitions = prepare_topic(bench, &options.topic, 1).await?;
    let partition = partitions.into_iter().next().context("the topic has no partition")?;
    let producer = Producer::builder(producer_config(options)).over(bench.client(1).await?);
    let mut consumer = Consumer::new(bench.client(1).await?, ConsumerOptions::default());
    // The way is paved before the clock starts: leaders known, connections open.
    producer.send(record_of(&partition, b"")).await?.await?;
    consumer.assign([partition.clone()])?;
    consumer.await_position(&partition).await?;
    let mark = usage.mark();
    let reading = read(bench.clone(), consumer, options.records);
    let sending = send(bench.clone(), producer, partition, options.clone());
    let (sent, read) = tokio::try_join!(sending, reading)?;
    let used = usage.since(&mark);
    Ok(Report {
        title: format!(
            "latency of {} B records, one per batch, {} per second, acks {:?}",
            options.record_size, options.rate, options.acks
        ),
        records: options.records,
        batches: options.records,
        bytes: options.records * options.record_size as u64,
        used,
        latencies: vec![("produce", sent), ("end-to-end", read)],
    })
}

fn producer_config(options: &Options) -> ProducerConfig {
    let acks = Acks::from(options.acks);
    ProducerConfig { acks, idempotence: false, linger: Duration::ZERO, ..ProducerConfig::default() }
}

fn record_of<'a>(partition: &'a TopicPartition, value: &'a [u8]) -> ProducerRecord<'a> {
    ProducerRecord::to(&*partition.topic).partition(partition.partition).value(value)
}

async fn send(
    bench: Bench,
    producer: Producer,
    partition: TopicPartition,
    options: Options,
) -> Result<Latencies> {
    let clock = &bench.env.clock;
    let mut latencies = Latencies::new()?;
    let interval = Duration::from_secs_f64(1.0 / options.rate as f64);
    let start = clock.now();
    let mut value = vec![b'.'; options.record_size.max(STAMP)];
    for number in 0..options.records {
        let mut due = start + interval.mul_f64(number as f64);
        let early = due.since(clock.now());
        if !early.is_zero() {
            // The timer's own delay is not the node's.
            clock.sleep(early).await;
            due = clock.now();
        }
        let nanos = u64::try_from(due.0.as_nanos()).unwrap_or(u64::MAX);
        if let Some(stamp) = value.first_chunk_mut::<STAMP>() {
            *stamp = nanos.to_be_bytes();
        }
        producer.send(record_of(&partition, &value)).await?.await?;
        latencies.record(clock.now().since(due))?;
    }
    Ok(latencies)
}

async fn read(bench: Bench, mut consumer: Consumer, records: u64) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let mut read = 0;
    while read < records {
        let polled = consumer.poll(Duration::from_secs(1)).await?;
        let now = bench.env.clock.now();
        for record in polled.iter() {
            let stamp = record.value.and_then(|value| value.first_chunk::<STAMP>());
            let due = stamp.map(|stamp| Duration::from_nanos(u64::from_be_bytes(*stamp)));
            latencies.record(now.since(Monotonic(due.context("a record without its time")?)))?;
            read += 1;
        }
    }
    Ok(latencies)
}
