//! Which call is whose, and producing.

use std::time::Duration;

use anyhow::Result;
use ottla_client::{Producer, ProducerConfig, ProducerRecord};
use ottla_protocol::Timestamp;
use serde_json::{Value, json};

use crate::Driver;
use crate::asked::{Call, Producing, Record, bytes, text};

impl Driver {
    pub(crate) async fn answer(&self, asked: Call) -> Result<Value> {
        let with = asked.with;
        match asked.call.as_str() {
            "produce" => self.produce(&with).await,
            "throttled" => self.throttled(&with).await,
            "read" => self.read(&with).await,
            "join" => self.join(&with).await,
            "commit" => self.commit(&with).await,
            "close" => self.close(&with).await,
            call => self.administer(call, &with).await,
        }
    }

    async fn produce(&self, with: &Value) -> Result<Value> {
        let how: Producing = serde_json::from_value(with["how"].clone())?;
        let records: Option<Vec<Record>> = serde_json::from_value(with["records"].clone())?;
        let topic = text(with, "topic");
        let codec = if how.codec.is_empty() { "none" } else { how.codec.as_str() };
        let (config, _) = ProducerConfig::from_properties([
            ("bootstrap.servers", self.bootstrap.as_str()),
            ("compression.type", codec),
            ("enable.idempotence", if how.idempotent { "true" } else { "false" }),
            ("batch.size", if how.small_batches { "1000" } else { "16384" }),
            ("max.request.size", if how.large { "100000000" } else { "1048576" }),
            ("buffer.memory", "200000000"),
        ])?;
        let producer = Producer::connect(&self.env, config).await?;
        let mut deliveries = Vec::new();
        for record in records.unwrap_or_default() {
            deliveries.push(producer.send(record_of(topic, &record)?).await?);
        }
        let mut offsets = Vec::new();
        for delivery in deliveries {
            offsets.push(delivery.await?.offset.0);
        }
        producer.close(Duration::from_secs(5)).await;
        Ok(json!(offsets))
    }
}

impl Driver {
    /// The client tells for how long it was told to be silent in all.
    async fn throttled(&self, with: &Value) -> Result<Value> {
        let records: Vec<Record> = serde_json::from_value(with["records"].clone())?;
        let (config, _) = ProducerConfig::from_properties([
            ("bootstrap.servers", self.bootstrap.as_str()),
            ("client.id", text(with, "clientId")),
        ])?;
        let producer = Producer::connect(&self.env, config).await?;
        let mut longest = 0;
        for record in records {
            // One after another: so what is told of each can be told apart.
            let before = producer.metrics().produce_throttle_time_total;
            producer.send(record_of(text(with, "topic"), &record)?).await?.await?;
            longest = longest.max(producer.metrics().produce_throttle_time_total - before);
        }
        producer.close(Duration::from_secs(5)).await;
        Ok(json!(longest))
    }
}

fn record_of<'a>(topic: &'a str, theirs: &'a Record) -> Result<ProducerRecord<'a>> {
    let mut record = ProducerRecord::to(topic).partition(theirs.partition);
    record.key = bytes(theirs.key.as_ref())?.map(Into::into);
    record.value = bytes(theirs.value.as_ref())?.map(Into::into);
    for header in theirs.headers.iter().flatten() {
        let value = bytes(header.value.as_ref())?.map(Into::into);
        record.headers.push((header.key.as_str().into(), value));
    }
    if theirs.timestamp != 0 {
        record.timestamp = Some(Timestamp(theirs.timestamp));
    }
    Ok(record)
}
