//! A client of Kafka clusters, of which Ottla is one: producer, consumer and admin in Rust alone.
//!
//! # The first minute
//! Everything a client needs of the world comes in through an [`Env`](ottla_env::Env), made once
//! inside a tokio runtime. Configuration has Kafka's names; a key that is not one is refused, with
//! the nearest that is.
//!
//! ```no_run
//! use std::time::Duration;
//! use ottla_client::{Producer, ProducerConfig, ProducerRecord};
//! use ottla_env::Env;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let (config, warnings) = ProducerConfig::from_properties([
//!     ("bootstrap.servers", "localhost:9092"),
//!     ("client.id", "orders"),
//! ])?;
//! warnings.iter().for_each(|warning| eprintln!("{warning}"));
//! let producer = Producer::connect(&Env::os(), config).await?;
//! for number in 0..1_000 {
//!     let record = ProducerRecord::to("orders").key(number % 7).value(format!("order {number}"));
//!     // Waits only where memory is full; the delivery may be awaited, kept, or dropped.
//!     drop(producer.send(record).await?);
//! }
//! producer.close(Duration::from_secs(30)).await;
//! # Ok(()) }
//! ```
//!
//! # The chapters
//! 1. [`Producer`] sends records: batches, partitions, idempotence, deliveries
//!    ([`ProducerConfig`], [`ProducerRecord`], [`Delivery`], [`ProduceError`]).
//! 2. [`Consumer`] reads them, alone or in a group ([`ConsumerConfig`], [`Records`], [`Rebalance`]).
//! 3. [`Admin`] looks after topics, configurations, groups and quotas.
//! 4. Below them, [`Client`] is a cluster, whose brokers and leaders it finds through Metadata, and
//!    [`Connection`] one socket with many requests in flight. Both can be used by themselves.
//!
//! # When something fails
//! Each error says whether trying again may help ([`ClientError::is_retriable`],
//! [`ProduceError::is_retriable`]), and what was sent without an answer is never reported as failed
//! for certain ([`ClientError::is_indeterminate`], [`ProduceError::maybe_stored`]). Clients try again
//! by themselves first, for as long as their configuration says.
//!
//! # What may be dropped
//! Every future. A call that is dropped leaves its connection whole: the response is read and thrown
//! away. What was sent stays sent.
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
mod metadata;
mod producer;

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
pub use producer::{
    Acks, BuiltInPartitioner, Delivery, Partitioner, Partitions, ProduceError, Producer,
    ProducerBuilder, ProducerConfig, ProducerInterceptor, ProducerMetrics, ProducerRecord,
    RecordBytes, RecordHeader, RecordMetadata, SerializeError, Serializer, SerializingProducer,
    TextSerializer, partition_for_key,
};
