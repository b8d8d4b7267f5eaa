//! The cleaner.

use crate::key::*;

const MAX_LONG: &str = "9223372036854775807";

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    boolean("log.cleaner.enable", "true", Valid::Any, "Whether compaction runs."),
    int("log.cleaner.threads", "1", Valid::AtLeast(0), "Logs compacted at once.").cluster_wide(),
    long("log.cleaner.dedupe.buffer.size", "134217728", Valid::AtLeast(1 << 20), "Bytes of memory for the keys of the logs in compaction.").cluster_wide(),
    int("log.cleaner.io.buffer.size", "524288", Valid::AtLeast(0), "Bytes of memory for reading and writing in compaction.").low().cluster_wide(),
    double("log.cleaner.io.buffer.load.factor", "0.9", Valid::Fraction(0.0, 1.0), "How full the memory for keys may get, 0 to 1.").low().cluster_wide(),
    double("log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308", Valid::Fraction(0.0, f64::MAX), "The most that compaction reads and writes, in bytes per second.").cluster_wide(),
    long("log.cleaner.backoff.ms", "15000", Valid::AtLeast(0), "Milliseconds between two looks for logs to compact.").cluster_wide(),
    double("log.cleaner.min.cleanable.ratio", "0.5", Valid::Fraction(0.0, 1.0), "The dirty share of a log, 0 to 1, that makes it worth compacting.").cluster_wide(),
    long("log.cleaner.delete.retention.ms", "86400000", Valid::AtLeast(0), "Milliseconds that compaction keeps a tombstone.").cluster_wide(),
    long("log.cleaner.min.compaction.lag.ms", "0", Valid::AtLeast(0), "Milliseconds for which a record is not compacted.").cluster_wide(),
    long("log.cleaner.max.compaction.lag.ms", MAX_LONG, Valid::AtLeast(1), "Milliseconds after which a record makes its log due.").cluster_wide(),
];
