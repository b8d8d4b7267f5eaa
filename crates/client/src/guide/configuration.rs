//! How clients are configured: with Kafka's keys, as text, or field by field.
//!
//! [`ProducerConfig`], [`ConsumerConfig`] and [`CommonClientConfig`] (for [`Admin`](crate::Admin)) are
//! read by `from_properties` from pairs of any source: a file, the environment, a literal. A key that
//! no client has is refused, with the nearest that is; a value that cannot be is refused with what
//! can. A key of Kafka's that has no effect here is accepted, and warned about if it is not at its
//! default. The structs are plain: every field can be set, and `Default` is Kafka's default.
//!
//! # The producer's keys
//! | key | here | default |
//! |---|---|---|
//! | `bootstrap.servers` | brokers to ask first; the others are learned from them | |
//! | `key.serializer` | for keys given as text; bytes, text and numbers need none | `ByteArraySerializer` |
//! | `value.serializer` | likewise | `ByteArraySerializer` |
//! | `interceptor.classes` | Java classes cannot be loaded: [`ProducerBuilder::interceptor`](crate::ProducerBuilder::interceptor) | |
//! | `batch.size` | bytes; a record that is larger gets a batch as large as itself | 16384 |
//! | `retries` | of a batch; `delivery.timeout.ms` ends them before | 2147483647 |
//! | `request.timeout.ms` | for the response to a request | 30000 |
//! | `linger.ms` | how long a batch waits for more records | 5 |
//! | `acks` | `all`, `1`, or `0`: nobody answers, and no offset is known | `all` |
//! | `retry.backoff.ms` | before the second try; doubled, up to `retry.backoff.max.ms` (KIP-580) | 100 |
//! | `buffer.memory` | bytes of records that are not answered yet | 33554432 |
//! | `max.in.flight.requests.per.connection` | at most 5 with idempotence | 5 |
//! | `enable.idempotence` | off by itself where another key that is given rules it out; an error if both are | `true` |
//! | `partitioner.ignore.keys` | keys choose no partition | `false` |
//! | `partitioner.class` | `RoundRobinPartitioner`, or [`ProducerBuilder::partitioner`](crate::ProducerBuilder::partitioner) | |
//!
//! All keys of all clients, with their ranges, stand in `docs/client-configuration.md`.
//!
//! ```
//! use std::time::Duration;
//! use ottla_client::{Acks, BuiltInPartitioner, ProducerConfig};
//!
//! let file = "\
//!     bootstrap.servers=one:9092,two:9092
//!     key.serializer=org.apache.kafka.common.serialization.StringSerializer
//!     value.serializer=StringSerializer
//!     interceptor.classes=
//!     batch.size=65536
//!     retries=10
//!     request.timeout.ms=5000
//!     linger.ms=20
//!     acks=-1
//!     retry.backoff.ms=200
//!     buffer.memory=67108864
//!     max.in.flight.requests.per.connection=3
//!     enable.idempotence=true
//!     partitioner.ignore.keys=true
//!     partitioner.class=RoundRobinPartitioner";
//! let pairs = file.lines().filter_map(|line| line.trim().split_once('='));
//! let (config, warnings) = ProducerConfig::from_properties(pairs).unwrap();
//! assert!(warnings.is_empty());
//! assert_eq!(config.common.bootstrap_servers, ["one:9092", "two:9092"]);
//! assert!(config.key_serializer.ends_with("StringSerializer"));
//! assert!(config.value_serializer.ends_with("StringSerializer"));
//! assert_eq!((config.batch_size, config.buffer_memory), (65536, 64 << 20));
//! assert_eq!((config.retries, config.max_in_flight), (10, 3));
//! assert_eq!(config.common.request_timeout, Duration::from_secs(5));
//! assert_eq!(config.common.retry_backoff, Duration::from_millis(200));
//! assert_eq!((config.linger, config.acks), (Duration::from_millis(20), Acks::All));
//! assert!(config.idempotence && config.partitioner_ignore_keys);
//! assert_eq!(config.partitioner, BuiltInPartitioner::RoundRobin);
//!
//! let wrong = |key: &str, value: &str| {
//!     ProducerConfig::from_properties([(key, value)]).unwrap_err().to_string()
//! };
//! assert_eq!(wrong("lingre.ms", "5"), "lingre.ms is not a known key; did you mean linger.ms?");
//! assert!(wrong("acks", "2").contains("must be one of all, -1, 0, 1"));
//! let both = [("acks", "1"), ("enable.idempotence", "true")];
//! let error = ProducerConfig::from_properties(both).unwrap_err();
//! assert_eq!(error.to_string(), "enable.idempotence=true needs acks=all");
//! ```

#[allow(unused_imports, reason = "links")]
use crate::{CommonClientConfig, ConsumerConfig, ProducerConfig};
