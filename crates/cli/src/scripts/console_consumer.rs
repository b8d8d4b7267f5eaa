//! `kafka-console-consumer`.

mod formatter;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::time::Duration;

use ottla_client::{Consumer, ConsumerConfig, ConsumerError, OffsetSpec, Records};
use ottla_env::{Env, process};
use ottla_protocol::{Monotonic, Offset, TopicPartition};

use self::formatter::Formatter;
use super::options::{Grammar, Options, REQUIRED_SERVERS, flag, value};
use super::{Outcome, Stop, say, target, warn};

static GRAMMAR: Grammar = Grammar {
    about: "This tool helps to read data from Kafka topics and outputs it to standard output.",
    known: &[
        value(&["topic"], "topic", "The topic to read."),
        value(&["include"], "regex", "A regular expression of topics to read."),
        value(
            &["partition"],
            "partition",
            "The partition to read, from its end unless --offset says otherwise.",
        ),
        value(&["offset"], "offset", "Where to begin: a number, earliest, or latest."),
        value(&["consumer-property"], "key=value", "Deprecated: --command-property."),
        value(&["command-property"], "key=value", "A key of the consumer's configuration."),
        value(&["consumer.config"], "file", "Deprecated: --command-config."),
        value(&["command-config"], "file", "A properties file for the consumer."),
        value(
            &["formatter"],
            "class",
            "How records are printed: Kafka's DefaultMessageFormatter, LoggingMessageFormatter or NoOpMessageFormatter.",
        ),
        value(&["property"], "key=value", "Deprecated: --formatter-property."),
        value(
            &["formatter-property"],
            "key=value",
            "What is printed: print.timestamp, print.key, print.offset, print.epoch, print.partition, print.headers, print.value, key.separator, line.separator, headers.separator, null.literal, key.deserializer, value.deserializer, headers.deserializer.",
        ),
        value(&["formatter-config"], "file", "The same in a properties file."),
        flag(
            &["from-beginning"],
            "Begin with the first record where the group has committed nothing.",
        ),
        value(&["max-messages"], "number", "End after so many records."),
        value(&["timeout-ms"], "ms", "End if there was no record for so long."),
        flag(&["skip-message-on-error"], "Go on behind a record that cannot be printed."),
        REQUIRED_SERVERS,
        value(&["key-deserializer"], "class", "How keys are read."),
        value(&["value-deserializer"], "class", "How values are read."),
        flag(&["enable-systest-events"], "Say at the end that it ended."),
        value(&["isolation-level"], "level", "read_committed or read_uncommitted, the default."),
        value(&["group"], "group", "The group to read in; else one of its own."),
    ],
};

/// Options with an old and a new name.
const RENAMED: [(&str, &str); 2] =
    [("consumer-property", "command-property"), ("consumer.config", "command-config")];
/// How long a poll waits at most.
const POLL: Duration = Duration::from_secs(1);
const CLOSE: Duration = Duration::from_secs(30);

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments).map_err(|stop| GRAMMAR.usage_error(&stop))?;
    options.help_or_version()?;
    check(&options)?;
    let offset = offset(&options)?;
    target::block_on(async |env| {
        let config = config(&env, &options)?;
        let formatter = formatter(&env, &options)?;
        let mut consumer = Consumer::connect(&env, &config).await?;
        begin(&options, &mut consumer, offset)?;
        let asked_to_stop = process::shutdown_signal()?;
        tokio::pin!(asked_to_stop);
        let mut reading = Reading::new(&env, &options)?;
        let read = loop {
            if reading.is_done() {
                break Ok(());
            }
            // A poll that is given up has taken no record from the consumer.
            let records = tokio::select! {
                biased;
                signal = &mut asked_to_stop => {
                    break Err(Stop { code: signal.exit_code(), said: String::new() });
                }
                records = consumer.poll(reading.patience()) => records,
            };
            match reading.print(&mut consumer, &formatter, records) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(stop) => break Err(stop),
            }
        };
        if let Err(error) = consumer.close(CLOSE).await {
            warn(error.to_string());
        }
        warn(format!("Processed a total of {} messages", reading.count));
        if options.has("enable-systest-events") {
            say("shutdown_complete")?;
        }
        read
    })
}

fn check(options: &Options) -> Outcome {
    options.require_one_of(&["topic", "include"])?;
    if options.number::<i32>("partition")?.is_some() {
        if !options.has("topic") {
            return Err(options.usage("The topic is required when partition is specified."));
        }
        if options.has("from-beginning") && options.has("offset") {
            return Err(
                options.usage("Options from-beginning and offset cannot be specified together.")
            );
        }
    } else if options.has("offset") {
        return Err(options.usage("The partition is required when offset is specified."));
    }
    options.require(&["bootstrap-server"])?;
    for (old, new) in RENAMED {
        if options.has(old) && options.has(new) {
            return Err(
                options.usage(format!("Options --{old} and --{new} cannot be specified together."))
            );
        }
    }
    for (old, new) in RENAMED {
        if options.has(old) {
            say(format!(
                "Option --{old} is deprecated and will be removed in a future version. Use --{new} instead."
            ))?;
        }
    }
    Ok(())
}

fn config(env: &Env, options: &Options) -> Outcome<ConsumerConfig> {
    let file = options.value("command-config")?.or(options.value("consumer.config")?);
    let mut pairs = target::properties(env, file)?;
    pairs.extend(target::pairs(&options.values("command-property")));
    pairs.extend(target::pairs(&options.values("consumer-property")));
    // Bytes are read as they are.
    pairs.retain(|(key, _)| !key.ends_with(".deserializer"));
    let mut groups: BTreeSet<&str> =
        pairs.iter().filter(|(it, _)| it == "group.id").map(|(_, id)| id.as_str()).collect();
    groups.extend(options.value("group")?);
    if groups.len() > 1 {
        let groups: Vec<String> = groups.iter().map(|id| format!("'{id}'")).collect();
        let groups = groups.join(", ");
        return Err(options.usage(format!(
            "The group ids provided in different places (directly using '--group', via '--consumer-property', or via '--consumer.config') do not match. Detected group ids: {groups}"
        )));
    }
    if !groups.is_empty() && options.has("partition") {
        return Err(options.usage("Options group and partition cannot be specified together."));
    }
    let mut set: Vec<(&str, String)> = Vec::new();
    match target::find(&pairs, "auto.offset.reset") {
        Some(policy) if options.has("from-beginning") && policy != "earliest" => {
            return Err(Stop::failed(format!(
                "Can't simultaneously specify --from-beginning and 'auto.offset.reset={policy}', please remove one option"
            )));
        }
        Some(_) => {}
        None if options.has("from-beginning") => {
            set.push(("auto.offset.reset", "earliest".to_owned()))
        }
        None => set.push(("auto.offset.reset", "latest".to_owned())),
    }
    let servers = options.value("bootstrap-server")?.unwrap_or_default();
    set.push(("bootstrap.servers", servers.to_owned()));
    if target::find(&pairs, "client.id").is_none() {
        set.push(("client.id", "console-consumer".to_owned()));
    }
    if let Some(level) = options.value("isolation-level")? {
        set.push(("isolation.level", level.to_owned()));
    }
    match groups.first() {
        Some(id) => set.push(("group.id", (*id).to_owned())),
        None => {
            set.push(("group.id", format!("console-consumer-{}", env.rng.next_u64() % 100_000)));
            if target::find(&pairs, "enable.auto.commit").is_none() {
                set.push(("enable.auto.commit", "false".to_owned()));
            }
        }
    }
    pairs.extend(set.into_iter().map(|(key, value)| (key.to_owned(), value)));
    target::warned(ConsumerConfig::from_properties(pairs))
}

fn formatter(env: &Env, options: &Options) -> Outcome<Formatter> {
    if options.has("property") && options.has("formatter-property") {
        return Err(options
            .usage("Options --property and --formatter-property cannot be specified together."));
    }
    if options.has("property") {
        say(
            "Option --property is deprecated and will be removed in a future version. Use --formatter-property instead.",
        )?;
    }
    let mut pairs = target::properties(env, options.value("formatter-config")?)?;
    for name in ["key-deserializer", "value-deserializer"] {
        if let Some(class) = options.value(name)?.filter(|class| !class.is_empty()) {
            pairs.push((name.replace('-', "."), class.to_owned()));
        }
    }
    pairs.extend(target::pairs(&options.values("formatter-property")));
    pairs.extend(target::pairs(&options.values("property")));
    Formatter::new(options.value("formatter")?, &pairs).map_err(|why| options.usage(why))
}

/// Where `--partition` begins.
enum Start {
    Offset(Offset),
    End(OffsetSpec),
}

fn offset(options: &Options) -> Outcome<Start> {
    let Some(text) = options.value("offset")? else {
        let from_beginning = options.has("from-beginning");
        let end = if from_beginning { OffsetSpec::Earliest } else { OffsetSpec::Latest };
        return Ok(Start::End(end));
    };
    match (text.to_lowercase().as_str(), text.parse()) {
        ("earliest", _) => Ok(Start::End(OffsetSpec::Earliest)),
        ("latest", _) => Ok(Start::End(OffsetSpec::Latest)),
        (_, Ok(offset @ 0..)) => Ok(Start::Offset(Offset(offset))),
        (_, Ok(_) | Err(_)) => Err(options.usage(format!(
            "The provided offset value '{text}' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long."
        ))),
    }
}

fn begin(options: &Options, consumer: &mut Consumer, offset: Start) -> Outcome {
    if let Some(include) = options.value("include")? {
        return Ok(consumer.subscribe_pattern(include)?);
    }
    let topic = options.value("topic")?.unwrap_or_default();
    let Some(partition) = options.number("partition")? else {
        return Ok(consumer.subscribe([topic])?);
    };
    let partition = TopicPartition::new(topic, partition);
    consumer.assign([partition.clone()])?;
    match offset {
        Start::Offset(offset) => consumer.seek(&partition, offset)?,
        Start::End(spec) => consumer.seek_to(&partition, spec)?,
    }
    Ok(())
}

/// What was read, and how long it goes on.
struct Reading<'a> {
    env: &'a Env,
    /// Records printed.
    count: u64,
    /// Records to print at most.
    most: Option<u64>,
    /// How long to wait for a record.
    timeout: Option<Duration>,
    /// When the last one came.
    last: Monotonic,
    skip_errors: bool,
}

impl<'a> Reading<'a> {
    fn new(env: &'a Env, options: &Options) -> Outcome<Self> {
        let most = options.number::<i64>("max-messages")?;
        let timeout = options.number::<i64>("timeout-ms")?.and_then(|ms| u64::try_from(ms).ok());
        Ok(Self {
            env,
            count: 0,
            most: most.and_then(|most| u64::try_from(most).ok()),
            timeout: timeout.map(Duration::from_millis),
            last: env.clock.now(),
            skip_errors: options.has("skip-message-on-error"),
        })
    }

    fn is_done(&self) -> bool {
        self.most.is_some_and(|most| self.count >= most)
    }

    /// How long a poll may wait.
    fn patience(&self) -> Duration {
        self.timeout.map_or(POLL, |timeout| timeout.min(POLL))
    }

    /// Prints records; answers whether to read on.
    fn print(
        &mut self,
        consumer: &mut Consumer,
        formatter: &Formatter,
        records: Result<Records, ConsumerError>,
    ) -> Outcome<bool> {
        // Kafka's script ends well, whatever ended the reading.
        let given_up = |why: &str| {
            warn(format!("Error processing message, terminating consumer process: {why}"));
            Ok(false)
        };
        let records = match records {
            Ok(records) => records,
            Err(error) => return given_up(&error.to_string()),
        };
        let now = self.env.clock.now();
        if records.is_empty() && self.timeout.is_some_and(|it| now.since(self.last) > it) {
            return given_up("nothing came in time");
        }
        let mut stdout = io::stdout().lock();
        let mut unread = BTreeMap::new();
        for record in records.iter() {
            self.last = now;
            if self.is_done() {
                unread.entry(record.partition.clone()).or_insert(record.offset);
                continue;
            }
            self.count += 1;
            if let Err(why) = formatter.write(&record, &mut stdout)? {
                warn(format!("Error processing message: {why}"));
                if !self.skip_errors {
                    return Err(Stop::silent());
                }
            }
        }
        stdout.flush()?;
        // What was not printed is not committed.
        for (partition, offset) in unread {
            consumer.seek(&partition, offset)?;
        }
        Ok(true)
    }
}
