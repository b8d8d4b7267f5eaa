//! Readers and members: consumers that go on until they are closed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use ottla_client::assignor::assignor_named;
use ottla_client::{
    AutoOffsetReset, Client, ConnectionOptions, Consumer, ConsumerOptions, OffsetAndMetadata,
    OffsetSpec, Rebalance, RebalanceListener, RecordRef,
};
use ottla_protocol::{Offset, TopicPartition};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::administration::partition_of;
use crate::asked::{base64_of, number, say, text};
use crate::{Driver, PATIENCE, with_error};

const POLL: Duration = Duration::from_millis(100);

/// What each stream can be told.
#[derive(Default)]
pub(crate) struct Streams(Mutex<BTreeMap<i64, mpsc::Sender<Told>>>);

enum Told {
    Commit(TopicPartition, OffsetAndMetadata, oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<Result<()>>),
}

/// Says what comes and goes.
struct Teller(i64);

impl Teller {
    fn tell(&self, event: &str, partitions: &[TopicPartition]) {
        let partitions: Vec<i32> = partitions.iter().map(|it| it.partition).collect();
        say(&json!({ "stream": self.0, "event": event, "value": partitions }));
    }
}

impl RebalanceListener for Teller {
    fn assigned(&mut self, _: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        self.tell("assigned", partitions);
    }

    fn revoked(&mut self, _: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
        self.tell("revoked", partitions);
    }
}

impl Driver {
    pub(crate) async fn read(&self, with: &Value) -> Result<Value> {
        let options = ConsumerOptions {
            auto_offset_reset: AutoOffsetReset::Earliest,
            fetch_max_wait: POLL,
            ..ConsumerOptions::default()
        };
        let mut consumer = Consumer::new(self.own_client("").await?, options);
        let partition = partition_of(with)?;
        consumer.assign([partition.clone()])?;
        match number(with, "from")? {
            -1 => consumer.seek_to(&partition, OffsetSpec::Latest)?,
            -2 => consumer.seek_to(&partition, OffsetSpec::Earliest)?,
            from => consumer.seek(&partition, Offset(from))?,
        }
        consumer.await_position(&partition).await?;
        self.begin(number(with, "stream")?, consumer)
    }

    pub(crate) async fn join(&self, with: &Value) -> Result<Value> {
        let stream = number(with, "stream")?;
        let millis =
            |name| Ok::<_, anyhow::Error>(Duration::from_millis(number(with, name)?.try_into()?));
        let strategy =
            Some(text(with, "strategy")).filter(|name| !name.is_empty()).unwrap_or("range");
        let options = ConsumerOptions {
            assignors: vec![
                assignor_named(strategy).with_context(|| format!("no strategy {strategy}"))?,
            ],
            group_instance_id: Some(text(with, "instance").to_owned()).filter(|it| !it.is_empty()),
            session_timeout: millis("session")?,
            heartbeat_interval: millis("heartbeat")?,
            auto_commit: false,
            auto_offset_reset: AutoOffsetReset::Earliest,
            fetch_max_wait: POLL,
            ..ConsumerOptions::in_group(text(with, "group"))
        };
        let mut consumer = Consumer::new(self.own_client(text(with, "clientId")).await?, options);
        consumer.set_rebalance_listener(Teller(stream));
        consumer.subscribe([text(with, "topic")])?;
        self.begin(stream, consumer)
    }

    /// A client whose connections nobody else uses.
    async fn own_client(&self, client_id: &str) -> Result<Client> {
        let mut options = ConnectionOptions::default();
        if !client_id.is_empty() {
            options.client_id = client_id.to_owned();
        }
        let addresses = self.bootstrap.split(',').map(str::to_owned).collect();
        Ok(Client::connect(&self.env, addresses, options).await?)
    }

    fn begin(&self, stream: i64, consumer: Consumer) -> Result<Value> {
        let (tell, told) = mpsc::channel(16);
        self.streams.0.lock().map_err(|_| anyhow!("a stream panicked"))?.insert(stream, tell);
        self.env.spawn("stream", run(stream, consumer, told));
        Ok(Value::Null)
    }

    pub(crate) async fn commit(&self, with: &Value) -> Result<Value> {
        let mut offset = OffsetAndMetadata::new(Offset(number(with, "offset")?));
        offset.metadata = text(with, "metadata").to_owned();
        let partition = partition_of(with)?;
        self.tell(with, |done| Told::Commit(partition, offset, done)).await
    }

    pub(crate) async fn close(&self, with: &Value) -> Result<Value> {
        self.tell(with, Told::Close).await
    }

    async fn tell(
        &self,
        with: &Value,
        what: impl FnOnce(oneshot::Sender<Result<()>>) -> Told,
    ) -> Result<Value> {
        let stream = number(with, "stream")?;
        let tell = {
            let streams = self.streams.0.lock().map_err(|_| anyhow!("a stream panicked"))?;
            streams.get(&stream).cloned().context("no such stream")?
        };
        let (done, outcome) = oneshot::channel();
        // Of a stream that has ended nothing is left to close or to commit.
        let _ended = tell.send(what(done)).await;
        outcome.await.context("the stream has ended")??;
        Ok(Value::Null)
    }
}

/// Says everything that is read, until told to stop.
async fn run(stream: i64, mut consumer: Consumer, mut told: mpsc::Receiver<Told>) {
    loop {
        let polled = tokio::select! {
            biased;
            told = told.recv() => match told {
                Some(Told::Commit(partition, offset, done)) => {
                    let offsets = BTreeMap::from([(partition, offset)]);
                    let _unheard = done.send(consumer.commit_offsets(offsets).await.map_err(Into::into));
                    continue;
                }
                Some(Told::Close(done)) => {
                    let _unheard = done.send(consumer.close(PATIENCE).await.map_err(Into::into));
                    return;
                }
                None => return,
            },
            polled = consumer.poll(POLL) => polled,
        };
        match polled {
            Ok(records) => records.iter().for_each(|record| say(&said_of(stream, &record))),
            Err(error) => {
                say(&with_error(json!({ "stream": stream, "event": "failed" }), &error.into()));
                // It is over; whoever closes it is to hear no more than that.
                while let Some(told) = told.recv().await {
                    let (Told::Commit(_, _, done) | Told::Close(done)) = told;
                    let _unheard = done.send(Ok(()));
                }
                return;
            }
        }
    }
}

fn said_of(stream: i64, record: &RecordRef<'_>) -> Value {
    let headers: Vec<Value> = record
        .headers()
        .map(|(key, value)| {
            json!({ "key": String::from_utf8_lossy(key), "value": base64_of(value) })
        })
        .collect();
    let value = json!({
        "partition": record.partition.partition,
        "offset": record.offset.0,
        "key": base64_of(record.key),
        "value": base64_of(record.value),
        "headers": headers,
        "timestamp": record.timestamp.0,
    });
    json!({ "stream": stream, "event": "record", "value": value })
}
