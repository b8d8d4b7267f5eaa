//! `ottla bench consume`.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use ottla_client::{AutoOffsetReset, Consumer, ConsumerOptions, FetchedPartition};
use ottla_protocol::TopicPartition;
use ottla_protocol::record_batch::{RecordBatch, batches};

use super::load::{existing_partitions, share};
use super::report::{Latencies, Report};
use super::server_process::Usage;
use super::{Bench, bytes};

/// After this long without a record there is nothing more to read.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

#[derive(Args, Clone)]
pub(super) struct Options {
    /// The topic to read, from its beginning.
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Records altogether; more are not asked for.
    #[arg(long, default_value_t = 5_000_000)]
    records: u64,
    /// Connections, each a consumer of its own with its share of the partitions.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// fetch.max.bytes.
    #[arg(long, value_parser = bytes, default_value = "50M")]
    fetch_bytes: usize,
    /// max.partition.fetch.bytes.
    #[arg(long, value_parser = bytes, default_value = "1M")]
    partition_bytes: usize,
    /// Verify every batch, as an application's consumer would; costs the load generator time.
    #[arg(long)]
    check_crcs: bool,
}

/// What one connection read.
struct Read {
    records: u64,
    batches: u64,
    bytes: u64,
    latencies: Latencies,
}

pub(super) async fn run(bench: &Bench, options: &Options, usage: &Usage) -> Result<Report> {
    let workers = options.connections.max(1);
    let partitions = existing_partitions(bench, &bench.client(1).await?, &options.topic).await?;
    let mut connected = Vec::new();
    for worker in 0..workers {
        let mut consumer = Consumer::new(bench.client(1).await?, consumer_options(options));
        let own = share(&partitions, worker, workers);
        consumer.assign(own)?;
        let goal = options.records.div_ceil(workers as u64);
        connected.push(read_all(bench.clone(), consumer, goal, options.check_crcs));
    }
    let mark = usage.mark();
    let read = bench.all(connected).await?;
    let used = usage.since(&mark);
    let mut latencies = Latencies::new()?;
    for read in &read {
        latencies.add(&read.latencies)?;
    }
    Ok(Report {
        title: title(options, &partitions),
        records: read.iter().map(|read| read.records).sum(),
        batches: read.iter().map(|read| read.batches).sum(),
        bytes: read.iter().map(|read| read.bytes).sum(),
        used,
        latencies: vec![("fetch", latencies)],
    })
}

fn consumer_options(options: &Options) -> ConsumerOptions {
    let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    ConsumerOptions {
        fetch_max_bytes: size(options.fetch_bytes),
        max_partition_fetch_bytes: size(options.partition_bytes),
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerOptions::default()
    }
}

fn title(options: &Options, partitions: &[TopicPartition]) -> String {
    format!(
        "consume {} partitions, {} connections, fetch.max.bytes {}, max.partition.fetch.bytes {}, CRCs {}",
        partitions.len(),
        options.connections,
        options.fetch_bytes,
        options.partition_bytes,
        if options.check_crcs { "checked" } else { "not checked" },
    )
}

async fn read_all(
    bench: Bench,
    mut consumer: Consumer,
    goal: u64,
    check_crcs: bool,
) -> Result<Read> {
    let clock = &bench.env.clock;
    let mut read = Read { records: 0, batches: 0, bytes: 0, latencies: Latencies::new()? };
    let mut last_record = clock.now();
    while read.records < goal {
        let begin = clock.now();
        let fetched = consumer.poll_batches(IDLE_LIMIT).await?;
        let now = clock.now();
        if fetched.is_empty() && now.since(last_record) > IDLE_LIMIT {
            bail!("the topic ends after {} records: produce more, or ask for fewer", read.records);
        }
        for partition in &fetched {
            read.take(partition, check_crcs)?;
            last_record = now;
        }
        read.latencies.record(now.since(begin))?;
    }
    Ok(read)
}

impl Read {
    fn take(&mut self, fetched: &FetchedPartition, check_crcs: bool) -> Result<()> {
        for batch in batches(&fetched.records).map_while(Result::ok) {
            if check_crcs && !batch.crc_is_valid() {
                bail!("a batch of {} at {} is corrupt", fetched.partition, batch.base_offset());
            }
            self.records += u64::try_from(batch.records_count()).unwrap_or(0);
            self.batches += 1;
            self.bytes += RecordBatch::len(&batch) as u64;
        }
        Ok(())
    }
}
