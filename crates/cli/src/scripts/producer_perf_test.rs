//! `kafka-producer-perf-test`.

use std::path::Path;
use std::time::Duration;

use ottla_client::{Delivery, Producer, ProducerConfig, ProducerRecord};
use ottla_env::Env;
use ottla_protocol::Monotonic;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::oneshot;

use super::options::{Grammar, Options, SERVERS, flag, value};
use super::{Outcome, Stop, say, target, warn};

static GRAMMAR: Grammar = Grammar {
    about: "This tool is used to verify the producer performance.",
    known: &[
        SERVERS,
        value(&["topic"], "topic", "REQUIRED: the topic to send to."),
        value(&["num-records"], "number", "REQUIRED: how many records to send."),
        value(&["record-size"], "bytes", "The size of a record; this, or one of the next two."),
        value(&["payload-file"], "file", "A file of records, one of which is sent each time."),
        flag(&["payload-monotonic"], "Send 0, 1, 2, ..."),
        value(
            &["payload-delimiter"],
            "text",
            "What stands between the records of the file; \\n by default.",
        ),
        value(
            &["throughput"],
            "number",
            "REQUIRED: records a second at most; -1 for as many as can be.",
        ),
        value(&["command-property"], "key=value ...", "Keys of the producer's configuration."),
        value(&["producer-props"], "key=value ...", "Deprecated: --command-property."),
        value(&["command-config"], "file", "A properties file for the producer."),
        value(&["producer.config"], "file", "Deprecated: --command-config."),
        value(
            &["warmup-records"],
            "number",
            "So many records first are left out of a second summary.",
        ),
        value(
            &["reporting-interval"],
            "ms",
            "How often to print what was reached; 5000 by default.",
        ),
    ],
};

/// Deliveries that are waited for at once.
const OPEN: usize = 1 << 20;
/// How many latencies are kept for the percentiles.
const SAMPLES: u64 = 500_000;
const CLOSE: Duration = Duration::from_secs(120);

/// What to send, and how fast.
struct Load {
    records: u64,
    warmup: u64,
    /// Records a second; not above zero is as many as can be.
    throughput: f64,
    reporting: Duration,
    payload: Payload,
}

enum Payload {
    Size(usize),
    Lines(Vec<String>),
    Count,
}

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments)?;
    if arguments.is_empty() || options.has("help") {
        return options.help_or_version().map_err(|stop| Stop { code: 0, said: stop.said });
    }
    options.require(&["topic", "num-records", "throughput"])?;
    options.require_one_of(&["record-size", "payload-file", "payload-monotonic"])?;
    options.exclude("command-property", &["producer-props"])?;
    options.exclude("command-config", &["producer.config"])?;
    target::block_on_threads(async |env| {
        let load = load(&env, &options)?;
        for (old, new) in
            [("producer-props", "command-property"), ("producer.config", "command-config")]
        {
            if options.has(old) {
                say(format!(
                    "Option --{old} has been deprecated and will be removed in a future version. Use --{new} instead."
                ))?;
            }
        }
        let producer = Producer::connect(&env, config(&env, &options)?).await?;
        if load.warmup > 0 {
            say(format!(
                "Warmup first {} records. Steady state results will print after the complete test summary.",
                load.warmup
            ))?;
        }
        let topic = options.value("topic")?.unwrap_or_default();
        measure(&env, &producer, topic, load).await
    })
}

fn load(env: &Env, options: &Options) -> Outcome<Load> {
    let records = options.number("num-records")?.unwrap_or_default();
    let warmup = options.number("warmup-records")?.unwrap_or_default();
    let reporting = options.number("reporting-interval")?.unwrap_or(5_000);
    let wrong = |what: &str| Err(options.usage(what));
    if records == 0 {
        return wrong("--num-records should be greater than zero.");
    }
    if warmup >= records {
        return wrong(
            "The value for --warmup-records must be strictly fewer than the number of records in the test, --num-records.",
        );
    }
    if reporting == 0 {
        return wrong("--reporting-interval should be greater than zero.");
    }
    let payload = match (options.number("record-size")?, options.value("payload-file")?) {
        (Some(0), _) => return wrong("--record-size should be greater than zero."),
        (Some(size), _) => Payload::Size(size),
        (None, Some(file)) => {
            say(format!("Reading payloads from: {file}"))?;
            let text = env.disk.read(Path::new(file))?;
            let text = String::from_utf8_lossy(&text);
            let delimiter = options.value("payload-delimiter")?.unwrap_or("\\n");
            let delimiter = if delimiter == "\\n" { "\n" } else { delimiter };
            let text = text.strip_suffix(delimiter).unwrap_or(&text);
            let lines: Vec<String> = text.split(delimiter).map(ToOwned::to_owned).collect();
            if text.is_empty() {
                return Err(Stop::failed("File does not exist or empty file provided."));
            }
            say(format!("Number of records read: {}", lines.len()))?;
            Payload::Lines(lines)
        }
        (None, None) => Payload::Count,
    };
    Ok(Load {
        records,
        warmup,
        throughput: options.number("throughput")?.unwrap_or(-1.0),
        reporting: Duration::from_millis(reporting),
        payload,
    })
}

fn config(env: &Env, options: &Options) -> Outcome<ProducerConfig> {
    let file = options.value("command-config")?.or(options.value("producer.config")?);
    let mut pairs = target::properties(env, file)?;
    for name in ["command-property", "producer-props"] {
        pairs.extend(target::pairs(&options.values(name)));
    }
    // Several may follow one option.
    pairs.extend(target::pairs(&options.words()));
    pairs.retain(|(key, _)| !key.ends_with(".serializer"));
    if let Some(server) = options.value("bootstrap-server")? {
        pairs.push(("bootstrap.servers".to_owned(), server.to_owned()));
    }
    if target::find(&pairs, "client.id").is_none() {
        pairs.push(("client.id".to_owned(), "perf-producer-client".to_owned()));
    }
    let config = target::warned(ProducerConfig::from_properties(pairs))?;
    if config.common.bootstrap_servers.is_empty() {
        return Err(options.usage("At least one of --bootstrap-server, --command-property, --producer-props, --producer.config or --command-config must be specified."));
    }
    Ok(config)
}

/// A record on its way.
struct Sent {
    delivery: Delivery,
    at: Monotonic,
    bytes: usize,
}

async fn measure(env: &Env, producer: &Producer, topic: &str, load: Load) -> Outcome {
    let start = env.clock.now();
    let (sender, receiver) = channel(OPEN);
    let (done, finished) = oneshot::channel();
    let total = Stats::new(start, load.records, "");
    let (clock, warmup, records) = (env.clone(), load.warmup, load.records);
    let reporting = load.reporting;
    env.spawn("deliveries", async move {
        let all = collect(&clock, receiver, total, (warmup, records), reporting).await;
        // Nobody listens if sending failed.
        let _unheard = done.send(all);
    });
    let mut text = String::new();
    for number in 0..load.records {
        load.payload.next(env, number, &mut text);
        if load.throughput > 0.0 {
            let due = Duration::from_secs_f64(number as f64 / load.throughput);
            let early = due.saturating_sub(env.clock.now().since(start));
            if !early.is_zero() {
                env.clock.sleep(early).await;
            }
        }
        let at = env.clock.now();
        match producer.send(ProducerRecord::to(topic).value(text.as_str())).await {
            Ok(delivery) => {
                if sender.send(Sent { delivery, at, bytes: text.len() }).await.is_err() {
                    break;
                }
            }
            Err(error) => warn(error.to_string()),
        }
    }
    drop(sender);
    producer.flush().await;
    let summaries = finished.await.unwrap_or_default();
    producer.close(CLOSE).await;
    summaries.iter().try_for_each(say)
}

impl Payload {
    fn next(&self, env: &Env, number: u64, text: &mut String) {
        text.clear();
        match self {
            Self::Count => text.push_str(&number.to_string()),
            Self::Lines(lines) => {
                let at = env.rng.next_u64() % lines.len() as u64;
                text.push_str(lines.get(at as usize).map_or("", String::as_str));
            }
            Self::Size(size) => {
                while text.len() < *size {
                    // Twelve letters of each number drawn.
                    let mut drawn = env.rng.next_u64();
                    for _ in 0..12.min(size - text.len()) {
                        text.push(char::from(b'A' + (drawn % 26) as u8));
                        drawn /= 26;
                    }
                }
            }
        }
    }
}

/// Waits for deliveries in the order of sending, prints what is reached meanwhile, and returns the summaries.
async fn collect(
    env: &Env,
    mut receiver: Receiver<Sent>,
    mut total: Stats,
    (warmup, records): (u64, u64),
    reporting: Duration,
) -> Vec<String> {
    let mut steady: Option<Stats> = None;
    let mut window = Window::new(env.clock.now());
    let mut number = 0;
    while let Some(sent) = receiver.recv().await {
        let stored = sent.delivery.await;
        let now = env.clock.now();
        if warmup > 0 && number == warmup {
            steady = Some(Stats::new(sent.at, records - warmup, " steady state"));
        }
        number += 1;
        if let Err(error) = stored {
            warn(error.to_string());
            continue;
        }
        let latency = now.since(sent.at).as_millis() as u64;
        total.record(latency, sent.bytes);
        if let Some(steady) = &mut steady {
            steady.record(latency, sent.bytes);
        }
        window.record(latency, sent.bytes);
        if now.since(window.start) >= reporting {
            // Who reads the output may have gone; the summary will say so.
            let _unread = say(window.line(now));
            window = Window::new(now);
        }
    }
    let now = env.clock.now();
    std::iter::once(total).chain(steady).map(|stats| stats.summary(now)).collect()
}

/// What was reached since the last report.
struct Window {
    start: Monotonic,
    count: u64,
    bytes: u64,
    latency: u64,
    most: u64,
}

impl Window {
    fn new(start: Monotonic) -> Self {
        Self { start, count: 0, bytes: 0, latency: 0, most: 0 }
    }

    fn record(&mut self, latency: u64, bytes: usize) {
        self.count += 1;
        self.bytes += bytes as u64;
        self.latency += latency;
        self.most = self.most.max(latency);
    }

    fn rates(&self, now: Monotonic) -> (f64, f64) {
        let seconds = now.since(self.start).as_secs_f64();
        (self.count as f64 / seconds, self.bytes as f64 / seconds / (1024.0 * 1024.0))
    }

    fn average(&self) -> f64 {
        self.latency as f64 / self.count as f64
    }

    fn line(&self, now: Monotonic) -> String {
        let (records, megabytes) = self.rates(now);
        format!(
            "{} records sent, {records:.1} records/sec ({megabytes:.2} MB/sec), {:.1} ms avg latency, {:.1} ms max latency.",
            self.count,
            self.average(),
            self.most as f64
        )
    }
}

/// What was reached in all.
struct Stats {
    title: &'static str,
    all: Window,
    /// Every so many latencies one is kept.
    sampling: u64,
    latencies: Vec<u64>,
}

impl Stats {
    fn new(start: Monotonic, records: u64, title: &'static str) -> Self {
        let sampling = records / records.clamp(1, SAMPLES);
        Self { title, all: Window::new(start), sampling: sampling.max(1), latencies: Vec::new() }
    }

    fn record(&mut self, latency: u64, bytes: usize) {
        if self.all.count.is_multiple_of(self.sampling) {
            self.latencies.push(latency);
        }
        self.all.record(latency, bytes);
    }

    fn summary(mut self, now: Monotonic) -> String {
        self.latencies.sort_unstable();
        let count = self.latencies.len() as f64;
        let percentile =
            |part: f64| self.latencies.get((part * count) as usize).copied().unwrap_or_default();
        let (records, megabytes) = self.all.rates(now);
        format!(
            "{}{} records sent, {records:.6} records/sec ({megabytes:.2} MB/sec), {:.2} ms avg latency, {:.2} ms max latency, {} ms 50th, {} ms 95th, {} ms 99th, {} ms 99.9th.",
            self.all.count,
            self.title,
            self.all.average(),
            self.all.most as f64,
            percentile(0.5),
            percentile(0.95),
            percentile(0.99),
            percentile(0.999)
        )
    }
}
