//! librdkafka through its Rust binding, the way the binding's documentation has it fastest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Message as _, Offset, TopicPartitionList};

use crate::{Began, Options};

struct Count(Arc<AtomicU64>);

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn config(options: &Options, own: &[(&str, &str)]) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    for (name, value) in own.iter().copied().chain(options.pairs(&[])?) {
        config.set(name, value);
    }
    Ok(config)
}

pub(crate) fn produce(options: &Options, value: &[u8]) -> Result<()> {
    let stored = Arc::new(AtomicU64::new(0));
    let producer: ThreadedProducer<Count> =
        config(options, &[])?.create_with_context(Count(stored.clone()))?;
    let record = || BaseRecord::<(), [u8]>::to(&options.topic).payload(value);
    producer.send(record()).map_err(|(error, _)| error)?;
    producer.flush(Duration::from_secs(30))?;
    let began = Began::now()?;
    for _ in 0..options.records {
        let mut sending = record();
        // Its queue is full: wait for callbacks, as its documentation says.
        while let Err((_, again)) = producer.send(sending) {
            sending = again;
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    producer.flush(Duration::from_secs(120))?;
    began.report("produce", options, options.records * value.len() as u64)?;
    let stored = stored.load(Ordering::Relaxed);
    ensure!(stored == options.records + 1, "{stored} were stored");
    Ok(())
}

pub(crate) fn consume(options: &Options) -> Result<()> {
    // It does not start without a group, although none is joined here.
    let consumer: BaseConsumer = config(options, &[("group.id", "clients")])?
        .set("enable.auto.commit", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(&options.topic), Duration::from_secs(30))?;
    let topic = metadata.topics().first().context("the broker knows nothing of the topic")?;
    let began = Began::now()?;
    let mut from = TopicPartitionList::new();
    for partition in topic.partitions() {
        from.add_partition_offset(&options.topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&from)?;
    let (mut records, mut bytes) = (0, 0);
    while records < options.records {
        let polled = consumer.poll(Duration::from_secs(10));
        let message = polled.with_context(|| format!("the topic ends after {records} records"))??;
        bytes += message.payload().map_or(0, <[u8]>::len) as u64;
        records += 1;
    }
    began.report("consume", options, bytes)
}
