//! The Rust client: connections, and on them producer, consumer and admin.
//!
//! Kafka's `NetworkClient`, `KafkaProducer`, `KafkaConsumer` and `Admin`, as far as brokers, the
//! command line and the simulator need them.
//!
//! [`Connection`] is one socket: it negotiates versions and keeps many requests in flight.
//! [`Client`] is a cluster: it finds brokers and leaders through Metadata. [`Producer`],
//! [`Consumer`] and [`Admin`] stand on it.
//!
//! # Invariants
//! - A response reaches the call whose correlation id it carries, or the connection ends.
//! - A call that is dropped leaves the connection whole: its response is read and thrown away.
//! - What was sent without an answer is never reported as failed for certain ([`ProduceError`]).
//!
//! # Not here
//! KIP-848 groups, transactions, batching over time, TLS and SASL.

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
    Acks, BuiltInPartitioner, ProduceError, Producer, ProducerConfig, ProducerOptions,
    RecordMetadata,
};
