//! Transactions and producer ids (KIP-98, KIP-890).

use crate::key::*;

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    int("transaction.state.log.num.partitions", "50", Valid::AtLeast(1), "Partitions of __transaction_state.").high().not_yet(),
    short("transaction.state.log.replication.factor", "3", Valid::AtLeast(1), "Replicas of __transaction_state.").high().not_yet(),
    int("transaction.state.log.min.isr", "2", Valid::AtLeast(1), "Replicas of __transaction_state that must be in sync.").high().not_yet(),
    int("transaction.state.log.segment.bytes", "104857600", Valid::AtLeast(1 << 20), "The largest segment of __transaction_state in bytes.").high().not_yet(),
    int("transaction.state.log.load.buffer.size", "5242880", Valid::AtLeast(1), "Bytes read at once when a transaction coordinator loads its state.").high().not_yet(),
    int("transaction.max.timeout.ms", "900000", Valid::AtLeast(1), "The longest transaction in milliseconds.").high().not_yet(),
    int("transactional.id.expiration.ms", "604800000", Valid::AtLeast(1), "Milliseconds after which an idle transactional id is forgotten.").high().not_yet(),
    int("producer.id.expiration.ms", "86400000", Valid::AtLeast(1), "Milliseconds after which an idle idempotent producer is forgotten.").low().cluster_wide(),
    int("producer.id.expiration.check.interval.ms", "600000", Valid::AtLeast(1), "Milliseconds between two looks for producers to forget.").low().not_yet(),
    int("transaction.abort.timed.out.transaction.cleanup.interval.ms", "10000", Valid::AtLeast(1), "Milliseconds between two looks for transactions that timed out.").low().not_yet(),
    int("transaction.remove.expired.transaction.cleanup.interval.ms", "3600000", Valid::AtLeast(1), "Milliseconds between two looks for transactional ids to forget.").low().not_yet(),
    boolean("transaction.partition.verification.enable", "true", Valid::Any, "Whether the partition is checked before a transaction first writes to it.").low().cluster_wide().not_yet(),
    int("add.partitions.to.txn.retry.backoff.ms", "20", Valid::AtLeast(0), "Milliseconds between two such checks.").high().not_yet(),
    int("add.partitions.to.txn.retry.backoff.max.ms", "100", Valid::AtLeast(0), "The longest time in milliseconds between two such checks.").high().not_yet(),
    boolean("transaction.two.phase.commit.enable", "false", Valid::Any, "Whether an outside coordinator may prepare transactions (KIP-939).").low().not_yet(),
];
