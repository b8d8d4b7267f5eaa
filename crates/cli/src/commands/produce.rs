//! `ottla produce`.

mod lines;

use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ottla_client::{Delivery, ProduceError, Producer, ProducerConfig, ProducerRecord};
use serde_json::json;

use self::lines::{Input, split};
use super::key_and_value;
use super::output::Format;
use super::session::{self, Session, Target};
use super::text;
use crate::failure::Failure;

/// Deliveries that are not looked at yet; beyond, the oldest is waited for.
const MAX_OPEN: usize = 10_000;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    /// The topic.
    topic: String,
    /// Records from this file, one per line, instead of standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Send one record with this value instead.
    #[arg(long, conflicts_with = "file")]
    value: Option<String>,
    /// The key of every record.
    #[arg(long, short, conflicts_with = "key_separator")]
    key: Option<String>,
    /// What stands between key and value in each line; a line without it has no key.
    #[arg(long, short = 'K', value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header of every record; may be given many times.
    #[arg(long, short = 'H', value_name = "KEY=VALUE", value_parser = key_and_value)]
    header: Vec<(String, String)>,
    /// The partition; otherwise the key decides.
    #[arg(long, short, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// An empty value is none: it deletes its key when the topic is compacted.
    #[arg(long)]
    empty_is_null: bool,
    /// At most so many records per second.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
    /// What a record must have reached: 0 the socket, 1 the leader, all the replicas in sync.
    #[arg(long, value_parser = ["0", "1", "all"], default_value = "all")]
    acks: String,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    session::with(&options.target, async |session| produce(&session, options).await)
}

async fn produce(session: &Session, options: &Options) -> Result<()> {
    let partitions = session.partitions(&options.topic).await?;
    if let Some(partition) = options.partition
        && !partitions.iter().any(|it| it.partition == partition)
    {
        return Err(Failure {
            what: format!("topic {} has no partition {partition}", options.topic),
            why: format!("it has {} partitions, counted from 0", partitions.len()),
            next: format!("ottla topic describe {}", options.topic),
        }
        .into());
    }
    let mut sending = Sending::new(session, options)?;
    match &options.value {
        Some(value) => sending.send(value.as_bytes()).await?,
        None => {
            let mut input = Input::open(&session.env, options.file.as_deref())?;
            sending.show_progress(input.length());
            while let Some(lines) = input.next(&session.env).await? {
                for line in lines.lines() {
                    sending.send(line).await?;
                }
                sending.read(lines.bytes());
            }
        }
    }
    let (records, by_partition) = sending.finish().await?;
    let counts: Vec<_> = by_partition
        .iter()
        .map(|(partition, count)| json!({ "partition": partition, "records": count }))
        .collect();
    let object = json!({ "topic": options.topic, "records": records, "partitions": counts });
    let count = text::count(records, "record is", "records are");
    options.format.object(&object, &format!("{count} in {}", options.topic))
}

/// Records on their way.
struct Sending<'a> {
    session: &'a Session,
    options: &'a Options,
    producer: Producer,
    open: VecDeque<Delivery>,
    sent: u64,
    by_partition: BTreeMap<i32, u64>,
    progress: Option<ProgressBar>,
}

impl<'a> Sending<'a> {
    fn new(session: &'a Session, options: &'a Options) -> Result<Self> {
        let keys = [
            ("bootstrap.servers", "is.connected:1"),
            ("acks", options.acks.as_str()),
            ("compression.type", options.compression.name()),
        ];
        let (config, _) = ProducerConfig::from_properties(keys)?;
        let producer = Producer::builder(config).over(session.client.clone());
        Ok(Self {
            session,
            options,
            producer,
            open: VecDeque::new(),
            sent: 0,
            by_partition: BTreeMap::new(),
            progress: None,
        })
    }

    /// A bar over the bytes of the input, if somebody watches and its length is known.
    fn show_progress(&mut self, length: Option<u64>) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        if let Some(length) = length {
            let bar = ProgressBar::new(length);
            let style = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            self.progress = Some(bar);
        }
    }

    fn read(&self, bytes: usize) {
        if let Some(bar) = &self.progress {
            bar.inc(bytes as u64);
        }
    }

    async fn send(&mut self, line: &[u8]) -> Result<()> {
        let options = self.options;
        if let Some(rate) = options.rate.filter(|_| self.sent > 0) {
            self.session.env.clock.sleep(Duration::from_secs_f64(1.0 / rate as f64)).await;
        }
        let (key, value) = split(line, options.key_separator.as_deref());
        let key = key.or(options.key.as_deref().map(str::as_bytes));
        let mut record = ProducerRecord::to(options.topic.as_str());
        record.partition = options.partition;
        record.key = key.map(Into::into);
        record.value = (!(options.empty_is_null && value.is_empty())).then_some(value.into());
        for (key, value) in &options.header {
            record = record.header(key.as_str(), value.as_str());
        }
        let delivery =
            self.producer.send(record).await.map_err(|error| failed(&error, self.sent))?;
        self.sent += 1;
        self.open.push_back(delivery);
        if self.open.len() >= MAX_OPEN {
            self.settle(MAX_OPEN / 2).await?;
        }
        Ok(())
    }

    /// Waits until at most so many deliveries are open.
    async fn settle(&mut self, most: usize) -> Result<()> {
        while self.open.len() > most {
            let Some(delivery) = self.open.pop_front() else { return Ok(()) };
            let stored = delivery.await.map_err(|error| failed(&error, self.sent))?;
            *self.by_partition.entry(stored.partition.partition).or_default() += 1;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(u64, BTreeMap<i32, u64>)> {
        self.producer.flush().await;
        self.settle(0).await?;
        if let Some(bar) = &self.progress {
            bar.finish_and_clear();
        }
        Ok((self.sent, self.by_partition))
    }
}

fn failed(error: &ProduceError, sent: u64) -> anyhow::Error {
    let next = if error.is_retriable() {
        "see whether all brokers are alive (ottla cluster health), and send the rest again"
    } else {
        "correct what the broker names, and send the rest again"
    };
    Failure {
        what: format!("a record was not stored; {sent} were sent before"),
        why: error.to_string(),
        next: next.to_owned(),
    }
    .into()
}
