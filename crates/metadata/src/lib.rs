//! What the cluster knows and who decides it: Kafka's `metadata` module, that is its
//! `QuorumController`, its `MetadataImage` and the records between them (KIP-631).
//!
//! ```text
//! request ─► Controller::create_topics(&self, …) ─► Outcome { records, answer }
//!                                                       │ the quorum appends and commits
//!            MetadataImage::replay(&mut self, record) ◄─┘ on every node, then the answer goes out
//! ```
//!
//! Start with [`image`]: the state of a cluster as one value that is cheap to clone. [`record`] is
//! what changes it, in the bytes of Kafka's own metadata log. [`controller`] decides which records
//! to write; its parts are named after Kafka's control managers. [`delta`] is what a broker has to
//! do when one image follows another, [`placement`] where the replicas of a new partition go, and
//! [`rebalance`] where those of old ones should be.
//!
//! # Invariants
//! - Only [`MetadataImage::replay`] changes hard state; deciding borrows it immutably.
//! - One decision at a time: its records are committed and replayed before the next is made.
//! - ISR and ELR of a partition are disjoint subsets of its replicas; its leader is in the ISR.
//! - The epochs of a partition, of brokers and the producer ids never go back.
//! - The records of a snapshot, replayed, give the image they were made of.
//!
//! # Not here
//! The log itself, its replication and its snapshots on disk (`server/quorum`); what
//! DescribeConfigs and Metadata answer (`server/handlers`, from the image); clocks and randomness,
//! which come in as arguments.

pub mod controller;
pub mod delta;
pub mod image;
pub mod placement;
pub mod rebalance;
pub mod record;
mod sorted_map;

pub use controller::{
    BrokerEpochError, Controller, ControllerConfig, Outcome, RegistrationError, bootstrap_records,
    patience_with_brokers,
};
pub use delta::{MetadataDelta, TopicDelta};
pub use image::{
    BrokerRegistration, ConfigResource, LeaderRecoveryState, METADATA_VERSION, MetadataImage,
    MetadataPosition, PartitionRegistration, ReplayError, ResourceConfig, TopicImage,
};
pub use ottla_protocol::BrokerEpoch;
pub use record::{MetadataRecord, RecordError};
