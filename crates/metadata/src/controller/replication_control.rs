//! Topics and partitions. Kafka: `ReplicationControlManager`.

mod assignment;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod leader_election;
mod topic_name;

pub use create_topics::CONSUMER_OFFSETS;

/// The most records that one request may bring about, so that no batch outgrows the metadata log. Kafka's
/// `MAX_RECORDS_PER_USER_OP`.
pub const MAX_RECORDS_PER_REQUEST: usize = 10_000;
