//! Producers: each sends to every partition of its topic at a steady pace, and notes what came of each record.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use ottla_client::{
    Offset, ProduceError, Producer, ProducerConfig, ProducerRecord, RecordMetadata, TopicPartition,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Shared, Stream, connect};

/// So often a partition gets a record, of all producers together.
const PACE: Duration = Duration::from_millis(20);
/// Records of a partition that wait for an answer; with more of them the producer waits.
const OUTSTANDING: usize = 5_000;

pub(crate) async fn run(shared: Arc<Shared>, stream: Stream, number: usize) -> Result<()> {
    let mut config = ProducerConfig { idempotence: stream.idempotent, ..ProducerConfig::default() };
    if !stream.idempotent {
        // So that order is kept all the same.
        config.max_in_flight = 1;
    }
    let client = connect(&shared, number).await;
    let producer = Producer::builder(config).over(client);
    let name = format!("{}-{number}", stream.topic);
    let pace = PACE * stream.producers as u32;
    let writers = stream.partitions().map(|partition| {
        let it = Writer {
            shared: shared.clone(),
            producer: producer.clone(),
            name: name.clone(),
            partition,
        };
        tokio::spawn(it.run(stream.idempotent, pace))
    });
    let writers: Vec<_> = writers.collect();
    for writer in writers {
        writer.await??;
    }
    Ok(())
}

struct Writer {
    shared: Arc<Shared>,
    producer: Producer,
    name: String,
    partition: TopicPartition,
}

impl Writer {
    async fn run(self, idempotent: bool, pace: Duration) -> Result<()> {
        let mut outstanding = FuturesOrdered::new();
        let mut due = interval(pace);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent = 0;
        while !(self.shared.is_ending() && outstanding.is_empty()) {
            let more = !self.shared.is_ending() && outstanding.len() < OUTSTANDING;
            tokio::select! {
                biased;
                Some((id, outcome)) = outstanding.next() => self.note(id, outcome)?,
                _ = due.tick(), if more => {
                    let id = format!("{}/{}/{sent}", self.name, self.partition.partition);
                    sent += 1;
                    self.note_sending(&id, idempotent);
                    let delivery = self.send(&id).await;
                    outstanding.push_back(async move {
                        let outcome = match delivery {
                            Ok(delivery) => delivery.await,
                            Err(error) => Err(error),
                        };
                        (id, outcome)
                    });
                }
                () = tokio::time::sleep_until(Instant::now() + pace), if !more => {}
            }
        }
        Ok(())
    }

    fn note_sending(&self, id: &str, idempotent: bool) {
        let mut history = self.shared.histories[&self.partition].lock();
        match idempotent {
            true => history.sending(id),
            false => history.sending_until_acknowledged(id),
        }
    }

    async fn send(&self, id: &str) -> Result<ottla_client::Delivery, ProduceError> {
        let record = ProducerRecord::to(&*self.partition.topic).value(id.to_owned());
        self.producer.send(record.partition(self.partition.partition)).await
    }

    fn note(&self, id: String, outcome: Result<RecordMetadata, ProduceError>) -> Result<()> {
        let mut history = self.shared.histories[&self.partition].lock();
        match outcome {
            Ok(stored) => {
                let Offset(offset) = stored.offset;
                ensure!(offset >= 0, "{id} is acknowledged without an offset");
                history.acknowledged(&self.name, &id, offset, None);
                self.shared.board.acknowledged(&self.partition);
            }
            Err(error) => {
                if !error.maybe_stored() {
                    history.refused(&id);
                }
                self.shared.board.failed(&self.name, &error);
            }
        }
        Ok(())
    }
}
