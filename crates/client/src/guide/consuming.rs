//! How records are read: [`Consumer`], Kafka's `KafkaConsumer`.
//!
//! [`Consumer::poll`] does all the work: it looks up where to begin, takes part in rebalances, and
//! hands out what was fetched meanwhile. While the program works on what it got, the next records are
//! on their way: up to two fetches of each partition, and `fetch.max.bytes` in all. Records are slices
//! of what the broker sent; none is copied or allocated for. A consumer belongs to one task at a time, and
//! that may be a spawned one: its futures move between threads.
//!
//! # Alone
//! A consumer that is [assigned](Consumer::assign) partitions reads exactly those, and belongs to no
//! group. It begins where `group.id` has committed, if it has one, else where `auto.offset.reset` says.
//!
//! ```
//! # ottla_doc_node::run(async |servers| {
//! # ottla_doc_node::fill(servers, "orders", 10).await?;
//! use std::time::Duration;
//! use ottla_client::{Consumer, ConsumerConfig, Env, Offset, OffsetSpec, TopicPartition};
//!
//! let (config, _warnings) = ConsumerConfig::from_properties([
//!     ("bootstrap.servers", servers),
//!     ("auto.offset.reset", "earliest"), // or latest, by_duration:PT1H, none
//!     ("max.poll.records", "4"),
//! ])?;
//! let mut consumer = Consumer::connect(&Env::os(), &config).await?;
//! let orders = TopicPartition::new("orders", 0);
//! consumer.assign([orders.clone()])?;
//!
//! let patience = Duration::from_secs(10);
//! let records = consumer.poll(patience).await?;
//! let offsets: Vec<i64> = records.iter().map(|record| record.offset.0).collect();
//! assert_eq!(offsets, [0, 1, 2, 3]);
//! assert_eq!(consumer.position(&orders), Some(Offset(4)));
//! assert_eq!(consumer.lag(&orders), Some(6));
//!
//! // Anywhere else: an offset, the beginning, the end, the first record of a time or later.
//! consumer.seek(&orders, Offset(8))?;
//! assert_eq!(consumer.poll(patience).await?.len(), 2);
//! consumer.seek_to(&orders, OffsetSpec::Earliest)?;
//! assert_eq!(consumer.await_position(&orders).await?, Offset(0));
//! assert_eq!(consumer.offset(&orders, OffsetSpec::Latest).await?, Offset(10));
//!
//! // A partition that is paused keeps its place, and the consumer its membership.
//! consumer.pause([&orders])?;
//! assert!(consumer.poll(Duration::from_millis(50)).await?.is_empty());
//! consumer.resume([&orders])?;
//! assert_eq!(consumer.poll(patience).await?.iter().next().unwrap().offset, Offset(0));
//! # Ok(()) });
//! ```
//!
//! # In a group
//! Consumers with the same `group.id` that [subscribe](Consumer::subscribe) share the partitions of
//! their topics. Who reads what is decided by `partition.assignment.strategy`, of which all members
//! must have one in common: `range`, `roundrobin`, `sticky`, `cooperative-sticky` (Kafka's class names
//! are understood), or an [`Assignor`](crate::assignor::Assignor) of the program's own in
//! [`ConsumerOptions::assignors`](crate::ConsumerOptions). With `cooperative-sticky` alone, members keep
//! what they have while others come and go (KIP-429); with the others everybody stops meanwhile.
//!
//! A [`RebalanceListener`] hears of partitions that come and go, from within `poll`, `unsubscribe` and
//! `close`: none goes in the midst of what was handed out. What it commits in `revoked` is committed
//! before others read on.
//!
//! ```
//! # ottla_doc_node::run(async |servers| {
//! # ottla_doc_node::fill(servers, "orders", 10).await?;
//! # ottla_doc_node::fill(servers, "returns-eu", 2).await?;
//! use std::sync::{Arc, Mutex};
//! use std::time::Duration;
//! use ottla_client::{
//!     Consumer, ConsumerConfig, ConsumerError, Env, Offset, Rebalance, RebalanceListener, TopicPartition,
//! };
//!
//! #[derive(Clone, Default)]
//! struct Listener(Arc<Mutex<Vec<String>>>);
//! impl RebalanceListener for Listener {
//!     fn assigned(&mut self, rebalance: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
//!         // Here `rebalance.seek` begins elsewhere than at what is committed.
//!         self.0.lock().unwrap().push(format!("got {}", partitions.len()));
//!     }
//!     fn revoked(&mut self, rebalance: &mut Rebalance<'_>, partitions: &[TopicPartition]) {
//!         rebalance.commit_positions();
//!         self.0.lock().unwrap().push(format!("gave up {}", partitions.len()));
//!     }
//!     // `lost` is told instead where others have them already: then a commit would be refused.
//! }
//!
//! let (config, _warnings) = ConsumerConfig::from_properties([
//!     ("bootstrap.servers", servers),
//!     ("group.id", "billing"),
//!     ("partition.assignment.strategy", "cooperative-sticky"),
//!     ("enable.auto.commit", "false"),
//!     ("auto.offset.reset", "earliest"),
//! ])?;
//! let mut consumer = Consumer::connect(&Env::os(), &config).await?;
//! let listener = Listener::default();
//! consumer.set_rebalance_listener(listener.clone());
//! consumer.subscribe(["orders"])?; // or: consumer.subscribe_pattern("orders|returns-.*")?
//!
//! let mut billed = 0;
//! while billed < 10 {
//!     let records = consumer.poll(Duration::from_secs(1)).await?;
//!     for record in records.iter() {
//!         // Work on it, and only then commit: after a crash it comes again rather than never.
//!         billed += 1;
//!     }
//!     match consumer.commit().await {
//!         Ok(()) => {}
//!         Err(ConsumerError::RebalanceInProgress) => {} // poll takes part in it; commit again then
//!         Err(error) => return Err(error.into()),
//!     }
//! }
//! let orders = TopicPartition::new("orders", 0);
//! let committed = consumer.committed([orders.clone()]).await?;
//! assert_eq!(committed[&orders].offset, Offset(10));
//!
//! // The next subscription is instead of this one. All topics, also those to come:
//! consumer.subscribe_pattern("orders|returns-.*")?;
//! let mut returned = 0;
//! while returned < 2 {
//!     let records = consumer.poll(Duration::from_secs(1)).await?;
//!     returned += records.iter().filter(|it| it.partition.topic.starts_with("returns-")).count();
//! }
//! consumer.close(Duration::from_secs(5)).await?; // leaves the group: others need not wait
//! assert_eq!(*listener.0.lock().unwrap(), ["got 1", "got 1", "gave up 2"]);
//! # Ok(()) });
//! ```
//!
//! A member that is not heard of for `session.timeout.ms`, or does not poll for `max.poll.interval.ms`,
//! is taken for dead, and others get its partitions (KIP-62). With `group.instance.id` a member that
//! comes back in time finds its partitions as it left them (KIP-345).
//!
//! # Commits
//! With `enable.auto.commit`, the default, what a poll handed out counts as done when poll is called
//! again, and is committed every `auto.commit.interval.ms`, before a rebalance and by
//! [`Consumer::close`]. Without it, [`Consumer::commit`] commits all that was handed out,
//! [`Consumer::commit_offsets`] what it is told, and [`Consumer::commit_async`] does not wait.
//! [`ConsumerError::CommitFailed`] means that the group went on without this member: the records come
//! again, elsewhere.
//!
//! # Keys and values
//! Keys and values are bytes; [`Records::typed`] makes of them what a [`Deserializer`] says, and a
//! function is one. A [`ConsumerInterceptor`] sees what is handed out and committed. With
//! `isolation.level=read_committed` nothing of a transaction is read before it is committed (KIP-98),
//! and [`Consumer::lag`] counts to the first open one.
//!
//! ```
//! # ottla_doc_node::run(async |servers| {
//! # ottla_doc_node::fill(servers, "orders", 6).await?;
//! use std::time::Duration;
//! use ottla_client::{
//!     Consumer, ConsumerConfig, ConsumerInterceptor, Env, NumberDeserializer, Records,
//!     StringDeserializer, TopicPartition,
//! };
//!
//! struct OnlyOf(&'static [u8]);
//! impl ConsumerInterceptor for OnlyOf {
//!     fn on_consume(&mut self, records: Records) -> Records {
//!         records.filter(|record| record.key == Some(self.0))
//!     }
//! }
//!
//! let (config, _warnings) = ConsumerConfig::from_properties([
//!     ("bootstrap.servers", servers),
//!     ("isolation.level", "read_committed"),
//!     ("auto.offset.reset", "earliest"),
//! ])?;
//! let mut consumer = Consumer::connect(&Env::os(), &config).await?;
//! consumer.add_interceptor(OnlyOf(b"customer-1"));
//! consumer.assign([TopicPartition::new("orders", 0)])?;
//!
//! let records = consumer.poll(Duration::from_secs(10)).await?;
//! let mut found = Vec::new();
//! for record in records.typed::<Option<String>, Option<i64>>(&StringDeserializer, &NumberDeserializer) {
//!     let record = record?; // what cannot be read does not stop those behind it
//!     found.push((record.key.unwrap(), record.value.unwrap()));
//! }
//! assert_eq!(found, [("customer-1".to_owned(), 1), ("customer-1".to_owned(), 4)]);
//!
//! let metrics = consumer.metrics();
//! assert_eq!(metrics.records_consumed_total, 6);
//! assert_eq!(metrics.records_lag.values().sum::<i64>(), 0);
//! # Ok(()) });
//! ```
//!
//! Besides [`Consumer::poll`] there are [`Consumer::recv`] for one record, [`Consumer::stream`] for a
//! stream of them, and [`Consumer::poll_batches`] for batches as they are stored.

#[allow(unused_imports, reason = "links")]
use crate::{
    Consumer, ConsumerError, ConsumerInterceptor, Deserializer, RebalanceListener, Records,
};
