//! `kafka-console-producer`.

mod line_reader;

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use ottla_client::{Producer, ProducerConfig};
use ottla_env::Env;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use self::line_reader::LineReader;
use super::options::{Grammar, Options, REQUIRED_SERVERS, flag, perhaps, value};
use super::{Outcome, Stop, say, target, warn};

static GRAMMAR: Grammar = Grammar {
    about: "This tool helps to read data from standard input and publish it to Kafka.",
    known: &[
        value(&["topic"], "topic", "REQUIRED: the topic to send to."),
        REQUIRED_SERVERS,
        flag(&["sync"], "Send one record after the other."),
        perhaps(
            &["compression-codec"],
            "codec",
            "none, gzip, snappy, lz4 or zstd; gzip if none is named.",
        ),
        value(&["batch-size"], "size", "batch.size; 16384 by default."),
        value(&["message-send-max-retries"], "number", "retries; 3 by default."),
        value(&["retry-backoff-ms"], "ms", "retry.backoff.ms; 100 by default."),
        value(&["timeout"], "ms", "linger.ms; 1000 by default."),
        value(&["request-required-acks"], "acks", "acks; -1, which is all, by default."),
        value(&["request-timeout-ms"], "ms", "request.timeout.ms; 1500 by default."),
        value(&["metadata-expiry-ms"], "ms", "metadata.max.age.ms; 300000 by default."),
        value(&["max-block-ms"], "ms", "max.block.ms; 60000 by default."),
        value(&["max-memory-bytes"], "bytes", "buffer.memory; 33554432 by default."),
        value(&["max-partition-memory-bytes"], "bytes", "Deprecated: --batch-size."),
        value(
            &["line-reader"],
            "class",
            "Only org.apache.kafka.tools.LineMessageReader, the default.",
        ),
        value(&["socket-buffer-size"], "bytes", "send.buffer.bytes; 102400 by default."),
        value(&["property"], "key=value", "Deprecated: --reader-property."),
        value(
            &["reader-property"],
            "key=value",
            "How lines are read: parse.key, parse.headers, ignore.error, key.separator, headers.delimiter, headers.separator, headers.key.separator, null.marker.",
        ),
        value(&["reader-config"], "file", "The same in a properties file."),
        value(&["producer-property"], "key=value", "Deprecated: --command-property."),
        value(&["command-property"], "key=value", "A key of the producer's configuration."),
        value(&["producer.config"], "file", "Deprecated: --command-config."),
        value(&["command-config"], "file", "A properties file for the producer."),
    ],
};

/// Options, their keys in the producer's configuration, and what they are if nobody says.
const KEYS: [(&str, &str, &str); 10] = [
    ("timeout", "linger.ms", "1000"),
    ("request-required-acks", "acks", "-1"),
    ("request-timeout-ms", "request.timeout.ms", "1500"),
    ("message-send-max-retries", "retries", "3"),
    ("retry-backoff-ms", "retry.backoff.ms", "100"),
    ("socket-buffer-size", "send.buffer.bytes", "102400"),
    ("max-memory-bytes", "buffer.memory", "33554432"),
    ("batch-size", "batch.size", "16384"),
    ("metadata-expiry-ms", "metadata.max.age.ms", "300000"),
    ("max-block-ms", "max.block.ms", "60000"),
];

/// Lines that are read ahead.
const LINES: usize = 1024;
/// How long to wait for what is on its way at the end.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments).map_err(|stop| GRAMMAR.usage_error(&stop))?;
    options.help_or_version()?;
    options.require(&["topic"])?;
    let command_config = either(&options, "command-config", "producer.config")?;
    let command_property = either(&options, "command-property", "producer-property")?;
    let reader_property = either(&options, "reader-property", "property")?;
    for (old, new) in [
        ("producer-property", "command-property"),
        ("producer.config", "command-config"),
        ("property", "reader-property"),
    ] {
        if options.has(old) {
            say(format!(
                "Warning: --{old} is deprecated and will be removed in a future version. Use --{new} instead."
            ))?;
        }
    }
    if options.has("max-partition-memory-bytes") {
        say(
            "Warning: --max-partition-memory-bytes is deprecated and will be removed in Apache Kafka 5.0. Use --batch-size instead.",
        )?;
    }
    if !options.has("bootstrap-server") {
        return Err(options.usage("Please provide the servers to connect to: --bootstrap-server"));
    }
    check_reader(&options)?;
    target::block_on(async |env| {
        let mut reading = target::properties(&env, options.value("reader-config")?)?;
        reading.extend(target::pairs(&options.values(reader_property)));
        let mut reader = LineReader::new(&reading)?;
        let file = target::properties(&env, options.value(command_config)?)?;
        let config = config(&options, file, target::pairs(&options.values(command_property)))?;
        let producer = Producer::connect(&env, config).await?;
        let done = send_all(&env, &producer, &options, &mut reader).await;
        producer.close(PATIENCE).await;
        done
    })
}

/// Lines are read as Kafka's `LineMessageReader` reads them, and by nothing else.
fn check_reader(options: &Options) -> Outcome {
    const READER: &str = "org.apache.kafka.tools.LineMessageReader";
    match options.value("line-reader")? {
        None | Some(READER) => Ok(()),
        Some(class) => Err(Stop::failed(format!(
            "--line-reader {class} is not served: classes cannot be loaded here. Leave it out, or name {READER}; --reader-property says how lines are taken apart."
        ))),
    }
}

/// The name under which something was given that has a new and an old one.
fn either(options: &Options, new: &'static str, old: &'static str) -> Outcome<&'static str> {
    if options.has(new) && options.has(old) {
        return Err(
            options.usage(format!("Options --{new} and --{old} cannot be specified together."))
        );
    }
    Ok(if options.has(old) { old } else { new })
}

fn config(
    options: &Options,
    file: Vec<(String, String)>,
    given: Vec<(String, String)>,
) -> Outcome<ProducerConfig> {
    let mut pairs = file;
    pairs.extend(given);
    // Bytes are sent as they are.
    pairs.retain(|(key, _)| !key.ends_with(".serializer"));
    let codec = match options.value("compression-codec")? {
        None if options.has("compression-codec") => "gzip",
        None => "none",
        Some(codec) => codec,
    };
    let servers = options.value("bootstrap-server")?.unwrap_or_default();
    let mut set = vec![("bootstrap.servers", servers), ("compression.type", codec)];
    let is_set = |key: &str| target::find(&pairs, key).is_some();
    if !is_set("client.id") {
        set.push(("client.id", "console-producer"));
    }
    let older = options.value("max-partition-memory-bytes")?;
    for (option, key, default) in KEYS {
        let value = options.value(option)?;
        match value.or(older.filter(|_| option == "batch-size")) {
            Some(value) => set.push((key, value)),
            None if !is_set(key) => set.push((key, default)),
            None => {}
        }
    }
    pairs.extend(set.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())));
    target::warned(ProducerConfig::from_properties(pairs))
}

async fn send_all(
    env: &Env,
    producer: &Producer,
    options: &Options,
    reader: &mut LineReader,
) -> Outcome {
    let topic = options.value("topic")?.unwrap_or_default();
    let (sender, mut lines) = channel(LINES);
    let reading = env.run_blocking(move || read(&sender));
    env.spawn("standard input", reading);
    while let Some(line) = next(&mut lines).await? {
        let record = reader.record(topic, &line)?;
        let delivery = producer.send(record).await;
        if !options.has("sync") {
            if let Err(error) = delivery {
                warn(format!("a record for topic {topic} was not sent: {error}"));
            }
            continue;
        }
        let stored = match delivery {
            Ok(delivery) => delivery.await.map(drop),
            Err(error) => Err(error),
        };
        stored.map_err(|error| Stop::failed(error.to_string()))?;
    }
    Ok(())
}

/// The next line, after a prompt where a person types.
async fn next(lines: &mut Receiver<io::Result<String>>) -> Outcome<Option<String>> {
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        let mut stdout = io::stdout().lock();
        stdout.write_all(b">")?;
        stdout.flush()?;
    }
    Ok(lines.recv().await.transpose()?)
}

fn read(sender: &Sender<io::Result<String>>) {
    let mut input = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let line = match input.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.strip_suffix('\n').unwrap_or(&text);
                Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
            }
            Err(error) => Err(error),
        };
        if sender.blocking_send(line).is_err() {
            return;
        }
    }
}
