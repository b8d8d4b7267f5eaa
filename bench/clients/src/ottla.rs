//! Ottla's client, on a runtime as `#[tokio::main]` makes it.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_client::{Consumer, ConsumerConfig, Producer, ProducerConfig, ProducerRecord};
use ottla_env::Env;
use ottla_protocol::TopicPartition;
use tokio::runtime::Runtime;

use crate::{Began, Options};

pub(crate) fn produce(options: &Options, value: &[u8]) -> Result<()> {
    Runtime::new()?.block_on(async {
        let (config, _warnings) = ProducerConfig::from_properties(options.pairs(&[])?)?;
        let producer = Producer::connect(&Env::os(), config).await?;
        let record = || ProducerRecord::to(&*options.topic).value(value);
        producer.send(record()).await?.await?;
        let began = Began::now()?;
        let mut waiting = VecDeque::new();
        for _ in 0..options.records {
            waiting.push_back(producer.send(record()).await?);
            while let Some(done) = waiting.front().and_then(|delivery| delivery.now()) {
                done?;
                waiting.pop_front();
            }
        }
        producer.flush().await;
        for delivery in waiting {
            delivery.await?;
        }
        began.report("produce", options, options.records * value.len() as u64)
    })
}

pub(crate) fn consume(options: &Options) -> Result<()> {
    Runtime::new()?.block_on(async {
        let pairs = options.pairs(&[("auto.offset.reset", "earliest")])?;
        let (config, _warnings) = ConsumerConfig::from_properties(pairs)?;
        let mut consumer = Consumer::connect(&Env::os(), &config).await?;
        let partitions = consumer.partitions_for(&options.topic).await?;
        let began = Began::now()?;
        consumer.assign(
            partitions.keys().map(|number| TopicPartition::new(options.topic.as_str(), *number)),
        )?;
        let (mut records, mut bytes) = (0, 0);
        while records < options.records {
            let polled = consumer.poll(Duration::from_secs(10)).await?;
            ensure!(!polled.is_empty(), "the topic ends after {records} records");
            for record in polled.iter() {
                bytes += record.value.map_or(0, <[u8]>::len) as u64;
                records += 1;
            }
        }
        began.report("consume", options, bytes)
    })
}
