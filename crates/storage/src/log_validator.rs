//! Checks what a producer sent before it becomes part of a log. Kafka's `LogValidator`.

mod rewrite;

use std::time::Duration;

use bytes::Bytes;
use ottla_config::{LogConfig, MessageTimestampType};
use ottla_protocol::compression::Compression;
use ottla_protocol::record_batch::{Record, RecordBatch, TimestampType, batches};
use ottla_protocol::{Offset, Timestamp};

use crate::append::{AppendError, AppendOrigin, RecordError};
use crate::log_dir::LentDecompressor;

/// How much larger than `max.message.bytes` a batch may be once it is decompressed. Honest
/// batches of repetitive records come near; beyond lie only those made to exhaust the broker.
pub(crate) const MAX_EXPANSION: usize = 100;

/// Records named in one answer (KIP-467). What a compressed batch can hold is many times that.
const MAX_RECORD_ERRORS: usize = 1000;

/// What records are checked against.
pub(crate) struct ValidationRules<'a> {
    pub(crate) config: &'a LogConfig,
    pub(crate) origin: AppendOrigin,
    pub(crate) now: Timestamp,
}

/// Records that may be appended once they have their offsets.
#[derive(Debug)]
pub(crate) struct ValidRecords {
    /// The batches: as they came, unless they had to be written anew.
    pub(crate) bytes: Bytes,
    /// Largest timestamp of any batch.
    pub(crate) max_timestamp: Timestamp,
    /// Records in all batches.
    pub(crate) count: i64,
}

impl ValidationRules<'_> {
    /// Bytes that the records of one batch may take decompressed.
    fn decompressed_limit(&self) -> usize {
        (self.config.max_message_bytes as usize).saturating_mul(MAX_EXPANSION)
    }

    fn stamps_append_time(&self) -> bool {
        self.config.message_timestamp_type == MessageTimestampType::LogAppendTime
    }
}

/// Checks every batch of `records`. Takes no lock, and allocates nothing for good records that
/// are neither compressed nor to be stored otherwise than they came.
pub(crate) fn validate(
    records: &Bytes,
    rules: &ValidationRules<'_>,
    decompressor: &mut LentDecompressor<'_>,
) -> Result<ValidRecords, AppendError> {
    let mut valid =
        ValidRecords { bytes: records.clone(), max_timestamp: Timestamp::NONE, count: 0 };
    let mut rewritten = Vec::new();
    let mut seen = 0;
    for batch in batches(records) {
        let batch = batch?;
        seen += 1;
        let max_timestamp = check_batch(&batch, rules, decompressor)?;
        valid.count += i64::from(batch.records_count());
        valid.max_timestamp = valid.max_timestamp.max(max_timestamp);
        if let Some(bytes) = rewrite::rewrite(&batch, rules, max_timestamp, decompressor)? {
            check_size(bytes.len(), rules.config)?;
            rewritten.push((seen, bytes));
        }
    }
    match (seen, rules.origin) {
        (0, _) => return Err(AppendError::invalid("the records hold no batch")),
        (2.., AppendOrigin::Client) => {
            return Err(AppendError::invalid("a producer sends one batch per partition"));
        }
        _ => {}
    }
    if !rewritten.is_empty() {
        valid.bytes = rewrite::join(records, rewritten)?;
    }
    if valid.bytes.len() > rules.config.segment_bytes as usize {
        let (size, max) = (valid.bytes.len(), rules.config.segment_bytes);
        return Err(AppendError::RecordListTooLarge { size, max });
    }
    if rules.stamps_append_time() {
        valid.max_timestamp = rules.now;
    }
    Ok(valid)
}

/// The checksum of a batch, as every replica checks it.
pub(crate) fn check_crc(batch: &RecordBatch<'_>) -> Result<(), AppendError> {
    match batch.crc_is_valid() {
        true => Ok(()),
        false => Err(AppendError::CorruptMessage("the checksum does not match".to_owned())),
    }
}

/// Checks one batch; its largest timestamp, by its records and not by its word.
fn check_batch(
    batch: &RecordBatch<'_>,
    rules: &ValidationRules<'_>,
    decompressor: &mut LentDecompressor<'_>,
) -> Result<Timestamp, AppendError> {
    check_size(batch.len(), rules.config)?;
    check_crc(batch)?;
    check_header(batch, rules.origin)?;
    let mut checker = RecordChecker::new(batch, rules);
    let mut refused = RefusedRecords::default();
    if batch.compression()? == Compression::None {
        batch.records()?.visit(|record| checker.check(&record, &mut refused))?;
    } else {
        batch.visit_records(decompressor.get(), rules.decompressed_limit(), |record| {
            checker.check(&record, &mut refused)
        })?;
    }
    refused.none()?;
    Ok(Timestamp(checker.max_timestamp))
}

fn check_size(size: usize, config: &LogConfig) -> Result<(), AppendError> {
    let max = config.max_message_bytes;
    if size > max as usize { Err(AppendError::RecordTooLarge { size, max }) } else { Ok(()) }
}

fn check_header(batch: &RecordBatch<'_>, origin: AppendOrigin) -> Result<(), AppendError> {
    let (count, last_delta) = (batch.records_count(), batch.last_offset_delta());
    if count <= 0 {
        return Err(AppendError::invalid(format!("the batch claims {count} records")));
    }
    if last_delta != count - 1 {
        return Err(AppendError::invalid(format!(
            "the last offset delta {last_delta} does not fit {count} records"
        )));
    }
    if origin == AppendOrigin::Client && batch.base_offset() != Offset(0) {
        return Err(AppendError::invalid(format!(
            "a producer's batch starts at offset 0, not {}",
            batch.base_offset()
        )));
    }
    if origin == AppendOrigin::Client && batch.is_control() {
        return Err(AppendError::invalid("a client may not write control records"));
    }
    if origin == AppendOrigin::Client && batch.timestamp_type() == TimestampType::LogAppendTime {
        let message = "a producer may not set the timestamp type LogAppendTime".to_owned();
        return Err(AppendError::InvalidTimestamp { message, record_errors: Vec::new() });
    }
    if batch.has_producer_id() && !batch.is_control() && batch.base_sequence() < 0 {
        return Err(AppendError::invalid(format!(
            "sequence {} of producer {} is not valid",
            batch.base_sequence(),
            batch.producer_id()
        )));
    }
    Ok(())
}

/// Checks the records of a batch one by one: numbered from 0, each one acceptable.
///
/// It is never lent to a function that is not inlined: so it stays in registers.
struct RecordChecker {
    base_timestamp: i64,
    earliest: i64,
    latest: i64,
    key_required: bool,
    checked: i32,
    max_timestamp: i64,
}

/// The records of a batch that are not acceptable.
#[derive(Default)]
struct RefusedRecords {
    untimely: bool,
    count: usize,
    /// The first of them.
    first: Vec<RecordError>,
}

impl RecordChecker {
    fn new(batch: &RecordBatch<'_>, rules: &ValidationRules<'_>) -> Self {
        let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        let config = rules.config;
        let (earliest, latest) = match rules.origin {
            AppendOrigin::Client if !rules.stamps_append_time() => (
                rules.now.0.saturating_sub(millis(config.message_timestamp_before_max)),
                rules.now.0.saturating_add(millis(config.message_timestamp_after_max)),
            ),
            AppendOrigin::Client
            | AppendOrigin::Coordinator
            | AppendOrigin::Replication
            | AppendOrigin::RaftLeader => (i64::MIN, i64::MAX),
        };
        Self {
            base_timestamp: batch.base_timestamp().0,
            earliest,
            latest,
            key_required: config.cleanup_policy.compact && !batch.is_control(),
            checked: 0,
            max_timestamp: Timestamp::NONE.0,
        }
    }

    #[inline(always)]
    fn check(
        &mut self,
        record: &Record<'_>,
        refused: &mut RefusedRecords,
    ) -> Result<(), AppendError> {
        let index = self.checked;
        if record.offset_delta != index {
            return Err(misnumbered(index, record.offset_delta));
        }
        if self.key_required && record.key.is_none() {
            refused.keyless(index);
        }
        let timestamp = self.base_timestamp.wrapping_add(record.timestamp_delta);
        if !(self.earliest..=self.latest).contains(&timestamp) && timestamp != Timestamp::NONE.0 {
            refused.untimely(index, timestamp, (self.earliest, self.latest));
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.checked = index + 1;
        Ok(())
    }
}

#[cold]
fn misnumbered(index: i32, offset_delta: i32) -> AppendError {
    AppendError::invalid(format!("record {index} has the offset delta {offset_delta}"))
}

impl RefusedRecords {
    #[cold]
    fn keyless(&mut self, index: i32) {
        self.add(index, "a compacted topic takes no record without a key".to_owned());
    }

    #[cold]
    fn untimely(&mut self, index: i32, timestamp: i64, (earliest, latest): (i64, i64)) {
        self.untimely = true;
        let message = format!("timestamp {timestamp} is outside the limits {earliest} to {latest}");
        self.add(index, message);
    }

    fn add(&mut self, batch_index: i32, message: String) {
        self.count += 1;
        if self.first.len() < MAX_RECORD_ERRORS {
            self.first.push(RecordError { batch_index, message });
        }
    }

    /// The error, if there are any.
    fn none(self) -> Result<(), AppendError> {
        let Some(first) = self.first.first() else { return Ok(()) };
        let message = format!("{} records were refused, the first: {}", self.count, first.message);
        let record_errors = self.first;
        Err(match self.untimely {
            true => AppendError::InvalidTimestamp { message, record_errors },
            false => AppendError::InvalidRecord { message, record_errors },
        })
    }
}
