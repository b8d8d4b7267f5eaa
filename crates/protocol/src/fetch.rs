//! Fetch, the hot path out: versions 4 to 18, records never copied by the encoder.
//! Kafka: `FetchRequest`, `FetchResponse`.

mod metadata;
mod request;
mod response;

pub use metadata::FetchMetadata;
pub use request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
pub use response::{
    AbortedTransaction, EpochEndOffset, FetchRecords, FetchResponse, FetchableTopicResponse,
    PartitionData, SnapshotId,
};

/// From this version on topics are named by id (KIP-516).
const FIRST_VERSION_BY_ID: i16 = 13;
