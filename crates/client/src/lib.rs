//! A client of Kafka clusters, of which Ottla is one: producer, consumer and admin in Rust alone.
//!
//! # The first minute
//! Everything a client needs of the world comes in through an [`Env`], made inside a tokio runtime.
//! Configuration has Kafka's names; a key that is not one is refused, with the nearest that is.
//!
//! ```
//! # ottla_doc_node::run(async |servers| {
//! use std::time::Duration;
//! use ottla_client::{Consumer, ConsumerConfig, Env, Producer, ProducerConfig, ProducerRecord};
//!
//! let env = Env::os();
//! let (config, warnings) = ProducerConfig::from_properties([
//!     ("bootstrap.servers", servers), // "localhost:9092", for example
//!     ("client.id", "shop"),
//! ])?;
//! warnings.iter().for_each(|warning| eprintln!("{warning}"));
//! let producer = Producer::connect(&env, config).await?;
//! for number in 0..1_000 {
//!     let record = ProducerRecord::to("orders").key(number % 7).value(format!("order {number}"));
//!     // Waits only where memory is full; the delivery may be awaited, kept, or dropped.
//!     drop(producer.send(record).await?);
//! }
//! producer.close(Duration::from_secs(30)).await;
//!
//! let (config, _warnings) = ConsumerConfig::from_properties([
//!     ("bootstrap.servers", servers),
//!     ("group.id", "billing"),
//!     ("auto.offset.reset", "earliest"),
//! ])?;
//! let mut consumer = Consumer::connect(&env, &config).await?;
//! consumer.subscribe(["orders"])?;
//! let mut billed = 0;
//! while billed < 1_000 {
//!     for record in consumer.poll(Duration::from_secs(1)).await?.iter() {
//!         println!("{} {}: {:?}", record.partition, record.offset, record.value);
//!         billed += 1;
//!     }
//! }
//! consumer.close(Duration::from_secs(5)).await?;
//! # Ok(()) });
//! ```
//!
//! # The chapters
//! The [guide] goes on from here: [producing](guide::producing), [consuming](guide::consuming),
//! [administration](guide::administration), [configuration](guide::configuration),
//! [errors](guide::errors), and [what may be dropped](guide::cancel_safety). Below it:
//! 1. [`Producer`] sends records ([`ProducerConfig`], [`ProducerRecord`], [`Delivery`],
//!    [`ProduceError`]).
//! 2. [`Consumer`] reads them, alone or in a group ([`ConsumerConfig`], [`Records`], [`Rebalance`]).
//! 3. [`Admin`] looks after topics, configurations, groups and quotas.
//! 4. Below them, [`Client`] is a cluster, whose brokers and leaders it finds through Metadata, and
//!    [`Connection`] one socket with many requests in flight. Both can be used by themselves.
//!
//! # Not here
//! KIP-848 groups, transactions, TLS and SASL.

mod admin;
mod client;
mod config;
mod connection;
mod consumer;
mod coordinator;
mod error;
pub mod guide;
mod metadata;
mod producer;
mod silence;

pub use admin::{
    Admin, Answers, ClusterDescription, CommittedOffset, ConfigChange, ConfigEntry, ConfigResource,
    ConfigResourceType, ConfigSource, ConfigSynonym, ConfigType, DEFAULT_API_TIMEOUT, ElectionType,
    FeatureLevels, FeatureUpdate, FeatureUpgrade, GroupDescription, GroupListing, GroupMember,
    ListedOffset, LogDirDescription, MemberToRemove, NewPartitions, NewTopic, Node, OffsetQuery,
    ProducerState, QuorumDescription, QuorumReplica, QuotaEntity, QuotaFilter, QuotaMatch,
    Reassignment, ReplicaInDir, TopicDescription, TopicListing,
};
pub use client::{Client, Leader};
pub use config::CommonClientConfig;
pub use connection::{Connection, ConnectionOptions};
pub use consumer::{
    AutoOffsetReset, BytesDeserializer, Consumer, ConsumerConfig, ConsumerError,
    ConsumerInterceptor, ConsumerMetrics, ConsumerOptions, ConsumerRecord, DeserializeError,
    Deserializer, FetchedPartition, FoundOffset, GroupMetadata, IsolationLevel, NumberDeserializer,
    OffsetAndMetadata, OffsetSpec, Rebalance, RebalanceListener, RecordRef, Records,
    StringDeserializer, TypedRecord, assignor,
};
pub use coordinator::CoordinatorKey;
pub use error::ClientError;
pub use metadata::{ClusterMetadata, PartitionMetadata, TopicMetadata};
/// What can be wrong with properties.
pub use ottla_config::{ConfigError, ConfigProblem, ConfigWarning};
/// The world of a client: clock, network, randomness, tasks.
pub use ottla_env::Env;
/// What the protocol calls things.
pub use ottla_protocol::{
    ApiKey, BrokerId, ErrorCode, LeaderEpoch, Offset, Timestamp, TopicId, TopicPartition,
};
pub use producer::{
    Acks, BuiltInPartitioner, Delivery, Partitioner, Partitions, ProduceError, Producer,
    ProducerBuilder, ProducerConfig, ProducerInterceptor, ProducerMetrics, ProducerRecord,
    RecordBytes, RecordHeader, RecordMetadata, SerializeError, Serializer, SerializingProducer,
    TextSerializer, partition_for_key,
};
