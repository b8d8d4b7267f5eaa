//! `kafka-consumer-perf-test`.

use std::time::Duration;

use jiff::tz::TimeZone;
use ottla_client::{Consumer, ConsumerConfig};
use ottla_env::Env;
use ottla_protocol::Monotonic;

use super::options::{Grammar, Options, REQUIRED_SERVERS, flag, perhaps, value};
use super::{Outcome, Stop, say, target, warn};

static GRAMMAR: Grammar = Grammar {
    about: "This tool is used to verify the consumer performance.",
    known: &[
        REQUIRED_SERVERS,
        value(&["topic"], "topic", "The topic to read."),
        value(&["include"], "regex", "A regular expression of topics to read."),
        value(&["group"], "group", "The group to read in; else one of its own."),
        value(&["fetch-size"], "bytes", "max.partition.fetch.bytes; 1048576 by default."),
        value(&["command-property"], "key=value", "A key of the consumer's configuration."),
        flag(&["from-latest"], "Begin at the end where the group has committed nothing."),
        value(&["socket-buffer-size"], "bytes", "receive.buffer.bytes; 2097152 by default."),
        value(&["consumer.config"], "file", "Deprecated: --command-config."),
        value(&["command-config"], "file", "A properties file for the consumer."),
        flag(&["show-detailed-stats"], "A line for each reporting interval."),
        perhaps(&["timeout"], "ms", "The longest time between records; 10000 by default."),
        value(&["messages"], "count", "Deprecated: --num-records."),
        value(&["num-records"], "count", "REQUIRED: how many records to read."),
        value(&["reporting-interval"], "ms", "How often to print; 5000 by default."),
        flag(&["hide-header"], "Leave out the titles of the columns."),
    ],
};

/// How long a poll waits.
const POLL: Duration = Duration::from_millis(100);
const CLOSE: Duration = Duration::from_secs(30);
const MEGABYTE: f64 = 1024.0 * 1024.0;
const COLUMNS: &str = "data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec";

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments).map_err(|stop| GRAMMAR.usage_error(&stop))?;
    options.help_or_version()?;
    options.require(&["bootstrap-server"])?;
    options.require_one_of(&["topic", "include"])?;
    options.require_one_of(&["messages", "num-records"])?;
    options.exclude("consumer.config", &["command-config"])?;
    if options.has("messages") {
        say("Warning: --messages is deprecated. Use --num-records instead.")?;
    }
    if options.has("consumer.config") {
        say("Warning: --consumer.config is deprecated. Use --command-config instead.")?;
    }
    let detailed = options.has("show-detailed-stats");
    target::block_on_threads(async |env| {
        let config = config(&env, &options)?;
        if !options.has("hide-header") {
            let first = if detailed { "time, threadId" } else { "start.time, end.time" };
            say(format!("{first}, {COLUMNS}"))?;
        }
        let mut consumer = Consumer::connect(&env, &config).await?;
        let begun = env.clock.wall().0;
        let read = read(&env, &options, &mut consumer).await?;
        if !detailed {
            let times = format!("{}, {}", date(begun), date(env.clock.wall().0));
            say(format!("{times}, {}", read.columns(env.clock.now())))?;
        }
        consumer.close(CLOSE).await.or_else(|error| {
            warn(error.to_string());
            Ok(())
        })
    })
}

fn config(env: &Env, options: &Options) -> Outcome<ConsumerConfig> {
    let file = options.value("command-config")?.or(options.value("consumer.config")?);
    let mut pairs = target::properties(env, file)?;
    pairs.extend(target::pairs(&options.values("command-property")));
    pairs.retain(|(key, _)| !key.ends_with(".deserializer"));
    let own = format!("perf-consumer-{}", env.rng.next_u64() % 100_000);
    let or = |name: &str, default: &str| -> Outcome<String> {
        Ok(options.value(name)?.unwrap_or(default).to_owned())
    };
    let reset = if options.has("from-latest") { "latest" } else { "earliest" };
    let mut set = vec![
        ("bootstrap.servers", or("bootstrap-server", "")?),
        ("group.id", or("group", &own)?),
        ("receive.buffer.bytes", or("socket-buffer-size", "2097152")?),
        ("max.partition.fetch.bytes", or("fetch-size", "1048576")?),
        ("auto.offset.reset", reset.to_owned()),
        ("check.crcs", "false".to_owned()),
    ];
    if target::find(&pairs, "client.id").is_none() {
        set.push(("client.id", "perf-consumer-client".to_owned()));
    }
    pairs.extend(set.into_iter().map(|(key, value)| (key.to_owned(), value)));
    target::warned(ConsumerConfig::from_properties(pairs))
}

/// What was read since a moment.
#[derive(Clone, Copy)]
struct Read {
    start: Monotonic,
    bytes: u64,
    records: u64,
    /// Until there were partitions to read.
    joining: Duration,
}

impl Read {
    fn since(start: Monotonic) -> Self {
        Self { start, bytes: 0, records: 0, joining: Duration::ZERO }
    }

    /// As the summary has them.
    fn columns(&self, now: Monotonic) -> String {
        let seconds = now.since(self.start).as_secs_f64();
        let megabytes = self.bytes as f64 / MEGABYTE;
        format!(
            "{megabytes:.4}, {:.4}, {}, {:.4}, {}",
            megabytes / seconds,
            self.records,
            self.records as f64 / seconds,
            self.fetching(now)
        )
    }

    /// The columns about fetching alone.
    fn fetching(&self, now: Monotonic) -> String {
        let fetching = now.since(self.start).saturating_sub(self.joining);
        let seconds = fetching.as_secs_f64();
        let per_second = |amount: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
        format!(
            "{}, {}, {:.4}, {:.4}",
            self.joining.as_millis(),
            fetching.as_millis(),
            per_second(self.bytes as f64 / MEGABYTE),
            per_second(self.records as f64)
        )
    }
}

async fn read(env: &Env, options: &Options, consumer: &mut Consumer) -> Outcome<Read> {
    let wanted = options.number("num-records")?.or(options.number("messages")?).unwrap_or(0);
    let patience_ms = options.number("timeout")?.unwrap_or(10_000);
    let interval = options.number("reporting-interval")?.unwrap_or(5_000);
    if interval == 0 {
        return Err(Stop::failed("Reporting interval must be greater than 0."));
    }
    match options.value("include")? {
        Some(include) => consumer.subscribe_pattern(include)?,
        None => consumer.subscribe(options.value("topic")?)?,
    }
    let start = env.clock.now();
    let mut all = Read::since(start);
    let mut part = all;
    let mut last = start;
    let mut has_joined = false;
    while all.records < wanted && env.clock.now().since(last) <= Duration::from_millis(patience_ms)
    {
        let records = consumer.poll(POLL).await?;
        let now = env.clock.now();
        if !has_joined && !consumer.assignment().is_empty() {
            has_joined = true;
            all.joining = now.since(start);
            part.joining = all.joining;
        }
        for record in records.iter() {
            last = now;
            let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            for read in [&mut all, &mut part] {
                read.bytes += size as u64;
                read.records += 1;
            }
        }
        if now.since(part.start) >= Duration::from_millis(interval) && !records.is_empty() {
            if options.has("show-detailed-stats") {
                say_progress(env, &all, &part, now)?;
            }
            part = Read::since(now);
        }
    }
    if all.records < wanted {
        say(format!(
            "WARNING: Exiting before consuming the expected number of records: timeout ({patience_ms} ms) exceeded. You can use the --timeout option to increase the timeout."
        ))?;
    }
    Ok(all)
}

fn say_progress(env: &Env, all: &Read, part: &Read, now: Monotonic) -> Outcome {
    let seconds = now.since(part.start).as_secs_f64();
    say(format!(
        "{}, 0, {:.4}, {:.4}, {}, {:.4}, {}",
        date(env.clock.wall().0),
        all.bytes as f64 / MEGABYTE,
        part.bytes as f64 / MEGABYTE / seconds,
        all.records,
        part.records as f64 / seconds,
        part.fetching(now)
    ))
}

/// `2026-11-28 08:45:00:123`, where this machine is.
fn date(millis: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    let time = time.to_zoned(TimeZone::system());
    format!("{}:{:03}", time.strftime("%Y-%m-%d %H:%M:%S"), millis.rem_euclid(1000))
}
