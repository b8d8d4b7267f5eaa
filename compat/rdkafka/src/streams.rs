//! Readers and members: consumers that go on until they are closed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::asked::{base64_of, number, say, text};
use crate::{Driver, with_error};

const POLL: Duration = Duration::from_millis(50);

/// What is open.
#[derive(Default)]
pub(crate) struct Streams(Mutex<BTreeMap<i64, Open>>);

struct Open {
    consumer: Arc<BaseConsumer<Teller>>,
    closing: Arc<AtomicBool>,
    reading: JoinHandle<()>,
}

/// Says what comes and goes.
struct Teller(i64);

impl ClientContext for Teller {}

impl ConsumerContext for Teller {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let (event, places) = match rebalance {
            Rebalance::Assign(places) => ("assigned", places),
            Rebalance::Revoke(places) => ("revoked", places),
            Rebalance::Error(error) => {
                let said = json!({ "stream": self.0, "event": "failed" });
                return say(&with_error(said, &Error::new(error.clone())));
            }
        };
        let partitions: Vec<i32> = places.elements().iter().map(|it| it.partition()).collect();
        say(&json!({ "stream": self.0, "event": event, "value": partitions }));
    }
}

/// One partition and an offset in it, or what stands for one.
pub(crate) fn place(with: &Value, offset: i64, metadata: &str) -> Result<TopicPartitionList> {
    let mut places = TopicPartitionList::new();
    let partition = i32::try_from(number(with, "partition")?)?;
    let mut place = places.add_partition(text(with, "topic"), partition);
    place.set_offset(Offset::from_raw(offset))?;
    place.set_metadata(metadata);
    Ok(places)
}

impl Driver {
    pub(crate) fn read(&self, with: &Value) -> Result<Value> {
        let mut config = self.config.clone();
        // There is no consumer without a group; this one commits nothing.
        config
            .set("group.id", format!("reader-{}-{}", std::process::id(), number(with, "stream")?));
        let consumer = consumer(config, number(with, "stream")?)?;
        consumer.assign(&place(with, number(with, "from")?, "")?)?;
        self.begin(with, consumer)
    }

    pub(crate) fn join(&self, with: &Value) -> Result<Value> {
        let mut config = self.config.clone();
        config
            .set("group.id", text(with, "group"))
            .set("partition.assignment.strategy", text(with, "strategy"))
            .set("session.timeout.ms", number(with, "session")?.to_string())
            .set("heartbeat.interval.ms", number(with, "heartbeat")?.to_string());
        for (key, name) in [("client.id", "clientId"), ("group.instance.id", "instance")] {
            if !text(with, name).is_empty() {
                config.set(key, text(with, name));
            }
        }
        let consumer = consumer(config, number(with, "stream")?)?;
        consumer.subscribe(&[text(with, "topic")])?;
        self.begin(with, consumer)
    }

    fn begin(&self, with: &Value, consumer: BaseConsumer<Teller>) -> Result<Value> {
        let (stream, consumer) = (number(with, "stream")?, Arc::new(consumer));
        let closing = Arc::new(AtomicBool::new(false));
        let (theirs, ending) = (Arc::clone(&consumer), Arc::clone(&closing));
        let reading = std::thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                match theirs.poll(POLL) {
                    Some(Ok(message)) => say(&said_of(stream, &message)),
                    Some(Err(error)) => {
                        let said = json!({ "stream": stream, "event": "failed" });
                        say(&with_error(said, &fatal(&theirs, Error::new(error))));
                    }
                    None => {}
                }
            }
        });
        let mut open = self.streams.0.lock().map_err(|_| anyhow!("a stream panicked"))?;
        open.insert(stream, Open { consumer, closing, reading });
        Ok(Value::Null)
    }

    pub(crate) fn commit(&self, with: &Value) -> Result<Value> {
        let consumer = {
            let open = self.streams.0.lock().map_err(|_| anyhow!("a stream panicked"))?;
            Arc::clone(&open.get(&number(with, "stream")?).context("no such stream")?.consumer)
        };
        let places = place(with, number(with, "offset")?, text(with, "metadata"))?;
        consumer.commit(&places, CommitMode::Sync)?;
        Ok(Value::Null)
    }

    pub(crate) fn close(&self, with: &Value) -> Result<Value> {
        let open = {
            let mut open = self.streams.0.lock().map_err(|_| anyhow!("a stream panicked"))?;
            open.remove(&number(with, "stream")?).context("no such stream")?
        };
        open.closing.store(true, Ordering::Relaxed);
        open.reading.join().map_err(|_| anyhow!("a stream panicked"))?;
        // The last one to let go of it leaves the group.
        drop(open.consumer);
        Ok(Value::Null)
    }
}

fn consumer(mut config: ClientConfig, stream: i64) -> Result<BaseConsumer<Teller>> {
    config
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "100");
    Ok(config.create_with_context(Teller(stream))?)
}

/// A fatal error has its reason elsewhere.
fn fatal(consumer: &BaseConsumer<Teller>, error: Error) -> Error {
    match consumer.client().fatal_error() {
        Some((code, reason)) => Error::new::<RDKafkaErrorCode>(code).context(reason),
        None => error,
    }
}

fn said_of(stream: i64, message: &BorrowedMessage<'_>) -> Value {
    let headers: Vec<Value> = message
        .headers()
        .into_iter()
        .flat_map(Headers::iter)
        .map(|header| json!({ "key": header.key, "value": base64_of(header.value) }))
        .collect();
    let value = json!({
        "partition": message.partition(),
        "offset": message.offset(),
        "key": base64_of(message.key()),
        "value": base64_of(message.payload()),
        "headers": headers,
        "timestamp": message.timestamp().to_millis(),
    });
    json!({ "stream": stream, "event": "record", "value": value })
}
