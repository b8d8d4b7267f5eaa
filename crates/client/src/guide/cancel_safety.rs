//! What is lost when a future is dropped before it is ready, by `select!`, a timeout, or a task that
//! is aborted: nothing.
//!
//! | dropped | what then |
//! |---|---|
//! | [`Producer::send`] | nothing was sent |
//! | [`Delivery`] | the record is sent all the same |
//! | [`Producer::flush`], [`Producer::close`] | what waits is still sent in the background |
//! | [`Consumer::poll`], [`Consumer::recv`] | nothing was handed out: the next poll hands it out |
//! | [`Consumer::commit`] | it goes on in the background, as long as there is a consumer |
//! | a call of [`Admin`] | what was sent is carried out or not, as after a lost answer |
//! | [`Connection::call`] | the response is read and thrown away; the connection stays whole |
//!
//! The last handle of a producer may be dropped as well: what waits is sent in the background, as long
//! as the runtime lives. [`Producer::close`] waits for it.
//!
//! ```
//! # ottla_doc_node::run(async |servers| {
//! # ottla_doc_node::fill(servers, "orders", 100).await?;
//! use std::time::Duration;
//! use ottla_client::{Consumer, ConsumerConfig, Env, TopicPartition};
//!
//! let given = [("bootstrap.servers", servers), ("auto.offset.reset", "earliest")];
//! let (config, _warnings) = ConsumerConfig::from_properties(given)?;
//! let mut consumer = Consumer::connect(&Env::os(), &config).await?;
//! consumer.assign([TopicPartition::new("orders", 0)])?;
//!
//! // Polls and something else, whatever comes first; again and again a poll is dropped half way.
//! let mut offsets = Vec::new();
//! let mut ticks = tokio::time::interval(Duration::from_micros(100));
//! while offsets.len() < 100 {
//!     tokio::select! {
//!         _ = ticks.tick() => {}
//!         records = consumer.poll(Duration::from_secs(10)) => {
//!             offsets.extend(records?.iter().map(|record| record.offset.0));
//!         }
//!     }
//! }
//! assert_eq!(offsets, (0..100).collect::<Vec<i64>>());
//! # Ok(()) });
//! ```

#[allow(unused_imports, reason = "links")]
use crate::{Admin, Connection, Consumer, Delivery, Producer};
