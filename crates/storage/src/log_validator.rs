//! Checks what a producer sent before it becomes part of a log. Kafka's `LogValidator`.

use bytes::Bytes;
use ottla_config::{LogConfig, MessageTimestampType};
use ottla_protocol::Timestamp;

use crate::append::{AppendError, AppendOrigin, RecordError};
use crate::batch_header::{BatchHeader, CRC_FROM, MAGIC};
use crate::crc::crc32c;
use crate::records::{Batches, Malformed, Record, Records, records_of};

/// Compression types of the format: none, gzip, snappy, LZ4, zstd.
const COMPRESSION_TYPES: i16 = 5;

/// What records are checked against.
pub(crate) struct ValidationRules<'a> {
    pub(crate) config: &'a LogConfig,
    pub(crate) origin: AppendOrigin,
    pub(crate) now: Timestamp,
}

/// Records that may be appended once their offsets are assigned.
#[derive(Debug)]
pub(crate) struct ValidRecords {
    /// The batches: as they came, unless they had to be written anew.
    pub(crate) bytes: Bytes,
    /// Largest timestamp of any batch.
    pub(crate) max_timestamp: Timestamp,
    /// Records in all batches.
    pub(crate) count: i64,
}

/// Checks every batch of `records`. It takes no lock and allocates nothing for good records.
pub(crate) fn validate(
    records: &Bytes,
    rules: &ValidationRules<'_>,
) -> Result<ValidRecords, AppendError> {
    let mut valid =
        ValidRecords { bytes: records.clone(), max_timestamp: Timestamp::NONE, count: 0 };
    let mut batches = Batches::new(records);
    let mut seen = 0;
    while let Some((header, batch)) = batches.next_batch()? {
        seen += 1;
        check_batch(&header, batch, rules)?;
        valid.count += i64::from(header.count);
        valid.max_timestamp = valid.max_timestamp.max(header.max_time());
    }
    match (seen, rules.origin) {
        (0, _) => return Err(AppendError::invalid("the records hold no batch")),
        (2.., AppendOrigin::Client) => {
            return Err(AppendError::invalid("a producer sends one batch per partition"));
        }
        _ => {}
    }
    if records.len() > rules.config.segment_bytes as usize {
        return Err(AppendError::RecordListTooLarge {
            size: records.len(),
            max: rules.config.segment_bytes,
        });
    }
    if rules.config.message_timestamp_type == MessageTimestampType::LogAppendTime {
        valid.max_timestamp = rules.now;
    }
    Ok(valid)
}

/// The checksum and the shape of one batch, as every replica checks them.
pub(crate) fn check_integrity(header: &BatchHeader, batch: &[u8]) -> Result<(), AppendError> {
    if header.magic != MAGIC {
        return Err(AppendError::invalid(format!("record format {} is not 2", header.magic)));
    }
    if crc32c(&[batch.get(CRC_FROM..).unwrap_or_default()]) != header.crc {
        return Err(AppendError::CorruptMessage("the checksum does not match".to_owned()));
    }
    Ok(())
}

fn check_batch(
    header: &BatchHeader,
    batch: &[u8],
    rules: &ValidationRules<'_>,
) -> Result<(), AppendError> {
    let max = rules.config.max_message_bytes;
    if batch.len() > max as usize {
        return Err(AppendError::RecordTooLarge { size: batch.len(), max });
    }
    check_integrity(header, batch)?;
    check_header(header, rules.origin)?;
    if header.compression() == 0 {
        check_records(header, records_of(batch), rules)?;
    }
    Ok(())
}

fn check_header(header: &BatchHeader, origin: AppendOrigin) -> Result<(), AppendError> {
    let BatchHeader { count, last_offset_delta, .. } = *header;
    if count <= 0 {
        return Err(AppendError::invalid(format!("the batch claims {count} records")));
    }
    if last_offset_delta != count - 1 {
        return Err(AppendError::invalid(format!(
            "the last offset delta {last_offset_delta} does not fit {count} records"
        )));
    }
    if header.compression() >= COMPRESSION_TYPES {
        return Err(AppendError::UnsupportedCompressionType(header.compression()));
    }
    if origin == AppendOrigin::Client && header.is_control() {
        return Err(AppendError::invalid("a client may not write control records"));
    }
    if header.has_producer() && !header.is_control() && header.base_sequence < 0 {
        return Err(AppendError::invalid(format!(
            "sequence {} of producer {} is not valid",
            header.base_sequence,
            header.producer()
        )));
    }
    Ok(())
}

/// Walks the records of a batch: as many as it claims, numbered from 0, each one acceptable.
fn check_records(
    header: &BatchHeader,
    bytes: &[u8],
    rules: &ValidationRules<'_>,
) -> Result<(), AppendError> {
    let limits = RecordLimits::new(header, rules);
    let mut faults = Vec::new();
    let mut untimely = 0;
    let mut records = Records::new(bytes);
    let mut walked = 0;
    while let Some(record) = records.next_record()? {
        if record.offset_delta != walked {
            return Err(AppendError::invalid(format!(
                "record {walked} has offset delta {}",
                record.offset_delta
            )));
        }
        match limits.fault(&record) {
            Ok(()) => {}
            Err(fault) => {
                untimely += usize::from(matches!(fault, RecordFault::Untimely(_)));
                faults.push(RecordError { batch_index: walked, message: fault.message() });
            }
        }
        walked += 1;
    }
    if walked != header.count {
        return Err(AppendError::invalid(format!(
            "the batch claims {} records but holds {walked}",
            header.count
        )));
    }
    let Some(first) = faults.first() else { return Ok(()) };
    let message = format!("{} records were refused, the first: {}", faults.len(), first.message);
    Err(match untimely {
        0 => AppendError::InvalidRecord { message, record_errors: faults },
        _ => AppendError::InvalidTimestamp { message, record_errors: faults },
    })
}

/// What a single record may be.
struct RecordLimits {
    base_timestamp: i64,
    /// Earliest and latest timestamp; none if the broker stamps its own.
    timestamps: Option<(i64, i64)>,
    key_required: bool,
}

enum RecordFault {
    Keyless,
    Untimely(i64),
}

impl RecordFault {
    fn message(&self) -> String {
        match self {
            Self::Keyless => "a compacted topic takes no record without a key".to_owned(),
            Self::Untimely(timestamp) => {
                format!("timestamp {timestamp} is too far from the broker's time")
            }
        }
    }
}

impl RecordLimits {
    fn new(header: &BatchHeader, rules: &ValidationRules<'_>) -> Self {
        let millis = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        let config = rules.config;
        let timestamps = match config.message_timestamp_type {
            MessageTimestampType::LogAppendTime => None,
            MessageTimestampType::CreateTime => Some((
                rules.now.0.saturating_sub(millis(config.message_timestamp_before_max)),
                rules.now.0.saturating_add(millis(config.message_timestamp_after_max)),
            )),
        };
        Self {
            base_timestamp: header.base_timestamp,
            timestamps: timestamps.filter(|_| rules.origin == AppendOrigin::Client),
            key_required: config.cleanup_policy.compact && !header.is_control(),
        }
    }

    fn fault(&self, record: &Record<'_>) -> Result<(), RecordFault> {
        if self.key_required && record.key.is_none() {
            return Err(RecordFault::Keyless);
        }
        let Some((earliest, latest)) = self.timestamps else { return Ok(()) };
        let timestamp = self.base_timestamp.saturating_add(record.timestamp_delta);
        if timestamp != Timestamp::NONE.0 && !(earliest..=latest).contains(&timestamp) {
            return Err(RecordFault::Untimely(timestamp));
        }
        Ok(())
    }
}

impl From<Malformed> for AppendError {
    fn from(Malformed(what): Malformed) -> Self {
        Self::CorruptMessage(what.to_owned())
    }
}
