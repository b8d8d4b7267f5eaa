//! How records are sent: [`Producer`], Kafka's `KafkaProducer`.
//!
//! [`Producer::send`] puts a record into a batch of its partition and returns a [`Delivery`], a future
//! that tells where the record was stored. One task per producer sends the batches; several
//! partitions share a request, and up to `max.in.flight.requests.per.connection` requests are on
//! their way to each broker. A producer is cheap to clone, and its clones share everything.
//!
//! ```
//! # ottla_doc_node::run(async |servers| {
//! use std::time::Duration;
//! use ottla_client::{Env, Producer, ProducerConfig, ProducerRecord};
//!
//! let (config, _warnings) = ProducerConfig::from_properties([
//!     ("bootstrap.servers", servers),
//!     ("batch.size", "32768"), // a batch leaves when it has this many bytes,
//!     ("linger.ms", "10"),     // or is this old,
//!     ("compression.type", "lz4"),
//! ])?;
//! let producer = Producer::connect(&Env::os(), config).await?;
//!
//! let mut deliveries = Vec::new();
//! for number in 0..100 {
//!     let record = ProducerRecord::to("orders")
//!         .key(format!("customer-{}", number % 7))
//!         .value(format!("order {number}"))
//!         .header("source", "shop");
//!     deliveries.push(producer.send(record).await?); // it is in a batch now
//! }
//! producer.flush().await; // or now, and all batches are answered
//! for (number, delivery) in (0..).zip(deliveries) {
//!     let stored = delivery.await?; // and here it is in the log
//!     assert_eq!((&*stored.partition.topic, stored.offset.0), ("orders", number));
//! }
//!
//! let metrics = producer.metrics();
//! assert_eq!(metrics.record_send_total, 100);
//! assert!(metrics.batch_total < 100, "they went together");
//! assert!(metrics.request_latency_max >= metrics.request_latency_avg);
//! # assert!(!metrics.request_latency_avg.is_zero());
//! producer.close(Duration::from_secs(10)).await;
//! # Ok(()) });
//! ```
//!
//! # Batches and memory
//! A batch is sent when the next record does not fit into `batch.size`, when it is `linger.ms` old,
//! when somebody [flushes](Producer::flush), or when memory is short. A record larger than
//! `batch.size` travels in a batch of its own, up to `max.request.size`. A batch that the broker finds
//! too large is sent in halves (KIP-126).
//!
//! All records that are not answered yet take at most `buffer.memory`. Beyond it `send` waits, for at
//! most `max.block.ms`, and then fails with [`ProduceError::BufferFull`]; [`Producer::try_send`] answers
//! `None` at once instead. That wait is the back pressure: whoever awaits each `send` cannot run out
//! of memory.
//!
//! # Deliveries
//! A [`Delivery`] may be awaited (by any task), asked with [`Delivery::now`], or dropped, which means
//! that nobody wants to know: the record is sent all the same. Awaiting each delivery before the next
//! `send` means one round trip and up to `linger.ms` per record; keep several and await them later, as
//! above. Records sent to one partition one after the other are stored in that order.
//!
//! # Each once
//! With `enable.idempotence`, which is the default, every batch carries the producer's id, its epoch
//! and a sequence number, so the broker recognizes a batch that is sent again: it is stored once, and
//! order is kept with up to five requests in flight (KIP-98, KIP-360). This covers what the producer
//! repeats by itself, not what the program sends twice.
//!
//! # Partitions
//! [`ProducerRecord::partition`] says where to. Otherwise:
//! - a key is hashed as in Kafka ([`partition_for_key`](crate::partition_for_key)), so that all
//!   clients put it into the same partition;
//! - without a key, or with `partitioner.ignore.keys`, records stick to a partition for `batch.size`
//!   bytes and then go to another, more often to one whose broker keeps up
//!   (`partitioner.adaptive.partitioning.enable`, KIP-794), and not to one whose broker has taken
//!   nothing for `partitioner.availability.timeout.ms`;
//! - `partitioner.class=RoundRobinPartitioner` gives each partition one record in turn;
//! - a [`Partitioner`] of the program's own is asked first.
//!
//! # Code of your own
//! A [`Partitioner`] chooses partitions, a [`ProducerInterceptor`] sees every record go and come back
//! (Kafka's `interceptor.classes`), and a [`Serializer`] makes bytes of the program's own types
//! (`key.serializer`, `value.serializer`). Text, bytes and numbers need no serializer.
//!
//! ```
//! # ottla_doc_node::run(async |servers| {
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use ottla_client::{
//!     Admin, CommonClientConfig, Env, NewTopic, Partitioner, Partitions, ProduceError, Producer,
//!     ProducerConfig, ProducerInterceptor, ProducerRecord, RecordMetadata, SerializeError, Serializer,
//!     SerializingProducer, TextSerializer,
//! };
//!
//! struct Order { apples: u32 }
//!
//! struct AsText;
//! impl Serializer<Order> for AsText {
//!     fn serialize(
//!         &self,
//!         order: &Order,
//!         record: &mut ProducerRecord<'_>,
//!     ) -> Result<Option<Vec<u8>>, SerializeError> {
//!         record.headers.push(("format".into(), Some(b"text".into())));
//!         Ok(Some(format!("{} apples", order.apples).into_bytes()))
//!     }
//! }
//!
//! /// The important customer has a partition of its own, and the hash never chooses it.
//! struct VipFirst;
//! impl Partitioner for VipFirst {
//!     fn partition(
//!         &self,
//!         _topic: &str,
//!         key: Option<&[u8]>,
//!         _value: Option<&[u8]>,
//!         partitions: &Partitions<'_>,
//!     ) -> Option<i32> {
//!         match key? { // without a key: as if there were no partitioner
//!             b"vip" => Some(0),
//!             key => Some(1 + ottla_client::partition_for_key(key, partitions.count - 1)),
//!         }
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Stored(AtomicU64);
//! impl ProducerInterceptor for Stored {
//!     fn on_acknowledgement(&self, result: Result<&RecordMetadata, &ProduceError>) {
//!         self.0.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
//!     }
//! }
//!
//! let env = Env::os();
//! let servers = [("bootstrap.servers", servers)];
//! let (config, _warnings) = CommonClientConfig::from_properties(servers)?;
//! let admin = Admin::connect(&env, &config).await?;
//! admin.create_topic(NewTopic { partitions: Some(4), ..NewTopic::new("orders") }).await?;
//!
//! let stored = Arc::new(Stored::default());
//! let (config, _warnings) = ProducerConfig::from_properties(servers)?;
//! let producer = Producer::builder(config)
//!     .interceptor(stored.clone())
//!     .partitioner(Arc::new(VipFirst))
//!     .connect(&env)
//!     .await?;
//! let orders = SerializingProducer::new(producer, Arc::new(TextSerializer::Text), Arc::new(AsText));
//!
//! let vip = orders.send(ProducerRecord::to("orders"), Some("vip"), Some(&Order { apples: 2 })).await?;
//! assert_eq!(vip.await?.partition.partition, 0);
//! let other = orders.send(ProducerRecord::to("orders"), Some("me"), Some(&Order { apples: 1 })).await?;
//! assert_ne!(other.await?.partition.partition, 0);
//! # orders.producer().close(std::time::Duration::from_secs(10)).await;
//! assert_eq!(stored.0.load(Ordering::Relaxed), 2);
//! # Ok(()) });
//! ```
//!
//! # What can fail
//! `send` fails where the record cannot be taken at all; the delivery fails where it was taken and not
//! stored. The producer has tried again by then what may pass, `retries` times and for
//! `delivery.timeout.ms`, so that a [`ProduceError`] is for the program to decide about. It answers two
//! questions: may the record be in the log all the same ([`ProduceError::maybe_stored`]; no is
//! certain), and may the same record succeed later ([`ProduceError::is_retriable`])?
//!
//! | error | stored? | try again? |
//! |---|---|---|
//! | [`TooLarge`](ProduceError::TooLarge) | no | no: send less, or raise the key it names |
//! | [`BufferFull`](ProduceError::BufferFull) | no | yes, slower |
//! | [`NoMetadata`](ProduceError::NoMetadata) | no | if the reason may pass, for example a topic that is being made |
//! | [`Invalid`](ProduceError::Invalid) | no | no: a serializer or partitioner failed |
//! | [`Expired`](ProduceError::Expired) | it says | yes |
//! | [`Refused`](ProduceError::Refused) | it says | if the reason may pass |
//! | [`Closed`](ProduceError::Closed) | it says | with another producer |
//!
//! ```
//! # ottla_doc_node::run(async |servers| {
//! use ottla_client::{
//!     Admin, CommonClientConfig, Env, ErrorCode, NewTopic, ProduceError, Producer, ProducerConfig,
//!     ProducerRecord,
//! };
//!
//! let env = Env::os();
//! let servers = [("bootstrap.servers", servers)];
//! let (config, _warnings) = CommonClientConfig::from_properties(servers)?;
//! let admin = Admin::connect(&env, &config).await?;
//! let configs = vec![("max.message.bytes".to_owned(), "1000".to_owned())];
//! admin.create_topic(NewTopic { configs, ..NewTopic::new("small") }).await?;
//!
//! let (config, _warnings) = ProducerConfig::from_properties(servers)?;
//! let producer = Producer::connect(&env, config).await?;
//!
//! // The producer itself does not take it:
//! let too_large = producer.send(ProducerRecord::to("small").value(vec![0; 2 << 20])).await.unwrap_err();
//! assert!(too_large.to_string().contains("raise max.request.size"));
//!
//! // The broker does not:
//! let delivery = producer.send(ProducerRecord::to("small").value(vec![0; 2_000])).await?;
//! match delivery.await {
//!     Ok(stored) => println!("stored at {}", stored.offset),
//!     Err(error) if error.maybe_stored() => println!("look before you send it again: {error}"),
//!     Err(error) if error.is_retriable() => println!("send it again later: {error}"),
//!     Err(ProduceError::Refused { error, .. }) => {
//!         assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
//!     }
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(()) });
//! ```

#[allow(unused_imports, reason = "links")]
use crate::{
    Delivery, Partitioner, ProduceError, Producer, ProducerInterceptor, ProducerRecord, Serializer,
};
