//! `ottla bench produce`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ottla_client::{Acks, Client, ClientError, Leader};
use ottla_protocol::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::{ApiKey, Monotonic, TopicPartition};

use super::load::{
    AcksOption, Batch, CompressionOption, LEADER_TIMEOUT, RETRY, prepare_topic, share,
};
use super::report::{Latencies, Report};
use super::server_process::Usage;
use super::{Bench, bytes};

#[derive(Args, Clone)]
pub(super) struct Options {
    /// Made if it is not there.
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Partitions of the topic, if it is made.
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// Records altogether.
    #[arg(long, default_value_t = 5_000_000)]
    records: u64,
    /// Bytes of one value.
    #[arg(long, value_parser = bytes, default_value = "100")]
    record_size: usize,
    /// Bytes of one batch, before compression.
    #[arg(long, value_parser = bytes, default_value = "16K")]
    batch_bytes: usize,
    /// Connections, each a producer of its own.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Requests that a connection sends before it waits for an answer.
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    /// Records per second altogether; 0 is as many as possible. What cannot be sent in time because
    /// answers are missing then counts from when it was due.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// What a batch must have reached.
    #[arg(long, value_enum, default_value = "all")]
    acks: AcksOption,
    /// How batches are compressed, once, before the clock starts.
    #[arg(long, value_enum, default_value = "none")]
    compression: CompressionOption,
}

/// What one connection did.
struct Sent {
    batches: u64,
    latencies: Latencies,
}

pub(super) async fn run(bench: &Bench, options: &Options, usage: &Usage) -> Result<Report> {
    let workers = options.connections.max(1);
    let partitions = prepare_topic(bench, &options.topic, options.partitions).await?;
    let now = bench.env.clock.wall();
    let (size, batch_bytes) = (options.record_size, options.batch_bytes);
    let batch = Batch::build(now, size, batch_bytes, options.compression.into())?;
    let batches = options.records.div_ceil(batch.records).max(1);
    let mut connected = Vec::new();
    for worker in 0..workers {
        let own = share(&partitions, worker, workers);
        let count = share_of(batches, worker, workers);
        connected.push(Worker::connect(bench, options, (&batch, own), count).await?);
    }
    let mark = usage.mark();
    let sent = bench.all(connected.into_iter().map(Worker::send_all).collect()).await?;
    let used = usage.since(&mark);
    let mut latencies = Latencies::new()?;
    let mut batches = 0;
    for sent in &sent {
        latencies.add(&sent.latencies)?;
        batches += sent.batches;
    }
    Ok(Report {
        title: title(options, &batch, partitions.len()),
        records: batches * batch.records,
        batches,
        bytes: batches * batch.bytes.len() as u64,
        used,
        latencies: vec![("latency", latencies)],
    })
}

fn title(options: &Options, batch: &Batch, partitions: usize) -> String {
    format!(
        "produce {} B records, {} per batch of {} B ({:?}), {} connections x {} in flight, \
         {partitions} partitions, acks {:?}",
        options.record_size,
        batch.records,
        batch.bytes.len(),
        options.compression,
        options.connections,
        options.in_flight,
        options.acks,
    )
}

fn share_of(batches: u64, worker: usize, workers: usize) -> u64 {
    let (worker, workers) = (worker as u64, workers as u64);
    batches / workers + u64::from(worker < batches % workers)
}

/// One connection.
struct Worker {
    bench: Bench,
    batch: Batch,
    targets: Vec<(Leader, TopicPartition)>,
    acks: i16,
    count: u64,
    in_flight: usize,
    /// Time between two batches, if a rate is wanted.
    interval: Option<Duration>,
}

impl Worker {
    async fn connect(
        bench: &Bench,
        options: &Options,
        (batch, partitions): (&Batch, Vec<TopicPartition>),
        count: u64,
    ) -> Result<Self> {
        let in_flight = options.in_flight.max(1);
        let client = bench.client(in_flight).await?;
        let mut targets = Vec::new();
        for partition in partitions {
            targets
                .push((ready_leader(bench, &client, &partition, &batch.bytes).await?, partition));
        }
        let batches_per_second =
            options.rate as f64 / batch.records as f64 / options.connections.max(1) as f64;
        Ok(Self {
            bench: bench.clone(),
            batch: batch.clone(),
            targets,
            acks: Acks::from(options.acks).code(),
            count,
            in_flight,
            interval: (options.rate > 0)
                .then(|| Duration::from_secs_f64(1.0 / batches_per_second.max(1e-6))),
        })
    }

    async fn send_all(self) -> Result<Sent> {
        let clock = &self.bench.env.clock;
        let mut latencies = Latencies::new()?;
        let mut waiting = FuturesUnordered::new();
        let start = clock.now();
        let mut targets = self.targets.iter().cycle();
        // Behind its schedule because the node did not answer in time: then a batch counts from
        // when it was due. Late by the load generator's own timer, it counts from when it is sent.
        let mut behind = false;
        for number in 0..self.count {
            let blocked = waiting.len() >= self.in_flight;
            while waiting.len() >= self.in_flight {
                self.take(waiting.next().await, &mut latencies)?;
            }
            let due = self.interval.map(|interval| start + interval.mul_f64(number as f64));
            let early = |due: Monotonic| Some(due.since(clock.now())).filter(|it| !it.is_zero());
            behind = due.is_some_and(|due| early(due).is_none()) && (behind || blocked);
            while let Some(early) = due.and_then(early) {
                tokio::select! {
                    answer = waiting.next(), if !waiting.is_empty() => self.take(answer, &mut latencies)?,
                    () = clock.sleep(early) => break,
                }
            }
            let (leader, partition) = targets.next().context("no partition")?;
            let request = request_of(leader, partition, &self.batch.bytes, self.acks)?;
            let begin = due.filter(|_| behind).unwrap_or_else(|| clock.now());
            let connection = leader.connection.clone();
            waiting.push(async move { (begin, connection.produce(&request).await) });
        }
        while let Some(answer) = waiting.next().await {
            self.take(Some(answer), &mut latencies)?;
        }
        Ok(Sent { batches: self.count, latencies })
    }

    fn take(&self, answer: Option<Answer>, latencies: &mut Latencies) -> Result<()> {
        let Some((begin, answer)) = answer else { return Ok(()) };
        if let Some(response) = answer? {
            for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
                if !partition.error_code.is_none() {
                    bail!("the node refused a batch: {}", partition.error_code.name());
                }
            }
        }
        latencies.record(self.bench.env.clock.now().since(begin))
    }
}

/// The leader of a partition once it has taken a batch: the first of a new topic may come too early.
async fn ready_leader(
    bench: &Bench,
    client: &Client,
    partition: &TopicPartition,
    batch: &Bytes,
) -> Result<Leader> {
    let deadline = bench.env.clock.now() + LEADER_TIMEOUT;
    loop {
        let leader = client.leader(partition).await?;
        let request = request_of(&leader, partition, batch, Acks::All.code())?;
        let response = leader.connection.produce(&request).await?;
        let mut rows = response.iter().flat_map(|response| &response.topics);
        let row = rows.next().and_then(|topic| topic.partitions.first());
        let code = row.context("no answer about the first batch")?.error_code;
        if code.is_none() {
            return Ok(leader);
        }
        if !code.is_retriable() || bench.env.clock.now() >= deadline {
            bail!("the node refused the first batch for {partition}: {}", code.name());
        }
        client.forget_topic(&partition.topic);
        bench.env.clock.sleep(RETRY).await;
    }
}

fn request_of(
    leader: &Leader,
    partition: &TopicPartition,
    batch: &Bytes,
    acks: i16,
) -> Result<ProduceRequest> {
    let data = PartitionProduceData { index: partition.partition, records: Some(batch.clone()) };
    let topic = leader.topic_ref(ApiKey::Produce, &partition.topic)?;
    Ok(ProduceRequest {
        transactional_id: None,
        acks,
        timeout_ms: 30_000,
        topics: vec![TopicProduceData { topic, partitions: vec![data] }],
    })
}

type Answer = (Monotonic, Result<Option<ottla_protocol::produce::ProduceResponse>, ClientError>);
