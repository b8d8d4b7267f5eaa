//! The scenarios through the rdkafka crate: a driver (`compat/go/driven`), which does what it is asked for on its standard
//! input, one JSON object a line, and answers on its standard output.

#![allow(
    clippy::disallowed_methods,
    reason = "a program of its own, on the operating system's threads"
)]

mod administration;
#[path = "../../rust/src/asked.rs"]
mod asked;
mod streams;

use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result};
use futures_executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::NaiveRuntime;
use serde_json::{Value, json};

use self::asked::{Call, Producing, Record, bytes, say, text};
use self::streams::Streams;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all calls share.
struct Driver {
    config: ClientConfig,
    admin: AdminClient<DefaultClientContext>,
    /// Looks things up.
    looker: BaseConsumer,
    streams: Streams,
}

fn main() -> Result<()> {
    let bootstrap = std::env::args().nth(1).context("usage: rdkafka-driver BOOTSTRAP")?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("allow.auto.create.topics", "false");
    if std::env::var_os("BROKERS").is_some() {
        // A node that is killed is back after a second, and the library would look for it ever more seldom.
        config.set("reconnect.backoff.max.ms", "1000");
    }
    let (admin, looker) = (config.create()?, config.create()?);
    let driver = Arc::new(Driver { config, admin, looker, streams: Streams::default() });
    say(&json!({
        "scenarios": ["update-features", "delete-group-offsets", "client-quotas"],
        "maxTimestamp": true, "allBrokers": true, "refusals": true, "controller": true,
    }));
    for line in std::io::stdin().lock().lines() {
        let asked: Call = serde_json::from_str(&line?)?;
        let driver = Arc::clone(&driver);
        std::thread::spawn(move || match driver.answer(&asked.call, &asked.with) {
            Ok(value) => say(&json!({ "id": asked.id, "value": value })),
            Err(error) => say(&with_error(json!({ "id": asked.id }), &error)),
        });
    }
    // No goodbye: whoever wants a member to leave asks for it.
    std::process::exit(0);
}

impl Driver {
    fn answer(&self, call: &str, with: &Value) -> Result<Value> {
        match call {
            "produce" => self.produce(with),
            "read" => self.read(with),
            "join" => self.join(with),
            "commit" => self.commit(with),
            "close" => self.close(with),
            call => self.administer(call, with),
        }
    }

    fn produce(&self, with: &Value) -> Result<Value> {
        let how: Producing = serde_json::from_value(with["how"].clone())?;
        let records: Option<Vec<Record>> = serde_json::from_value(with["records"].clone())?;
        let mut config = self.config.clone();
        config
            .set("acks", "all")
            .set("compression.type", if how.codec.is_empty() { "none" } else { &how.codec })
            .set("enable.idempotence", how.idempotent.to_string())
            .set("message.timeout.ms", PATIENCE.as_millis().to_string())
            .set("batch.num.messages", if how.small_batches { "10" } else { "10000" })
            .set("message.max.bytes", if how.large { "2097152" } else { "1000000" });
        let producer: FutureProducer<DefaultClientContext, NaiveRuntime> = config.create()?;
        let mut deliveries = Vec::new();
        for record in records.unwrap_or_default() {
            let (key, value) = (bytes(record.key.as_ref())?, bytes(record.value.as_ref())?);
            let record = FutureRecord {
                topic: text(with, "topic"),
                partition: Some(record.partition),
                payload: value.as_ref(),
                key: key.as_ref(),
                timestamp: (record.timestamp != 0).then_some(record.timestamp),
                headers: headers_of(&record)?,
            };
            deliveries.push(producer.send_result(record).map_err(|(error, _)| error)?);
        }
        let mut offsets = Vec::new();
        for delivery in deliveries {
            offsets.push(block_on(delivery)?.map_err(|(error, _)| error)?.offset);
        }
        Ok(json!(offsets))
    }
}

fn headers_of(record: &Record) -> Result<Option<OwnedHeaders>> {
    let mut headers = OwnedHeaders::new();
    for header in record.headers.iter().flatten() {
        let value = bytes(header.value.as_ref())?;
        headers = headers.insert(Header { key: &header.key, value: value.as_ref() });
    }
    Ok(record.headers.is_some().then_some(headers))
}

/// `said` with what went wrong.
fn with_error(mut said: Value, error: &Error) -> Value {
    let code = error.chain().find_map(|cause| {
        let of_kafka = cause.downcast_ref::<KafkaError>().and_then(KafkaError::rdkafka_error_code);
        of_kafka.or_else(|| cause.downcast_ref::<RDKafkaErrorCode>().copied())
    });
    said["error"] = json!(format!("{error:#}"));
    // Those below zero are the library's own.
    said["code"] = json!(code.map_or(0, |code| code as i32).max(0));
    said
}
