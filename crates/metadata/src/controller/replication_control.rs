//! Topics and partitions. Kafka: `ReplicationControlManager`.

mod alter_partition;
mod assign_replicas_to_dirs;
mod assignment;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod elect_leaders;
mod leader_election;
mod partition_change;
mod reassignment;
