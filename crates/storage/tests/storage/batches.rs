//! Record batches for tests.

use bytes::Bytes;
use ottla_protocol::Timestamp;
use ottla_protocol::compression::Decompressor;
use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder, RecordError, batches};

/// A batch of `values`, all with one key and one time.
pub(crate) fn builder(timestamp: i64, values: &[&str]) -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new();
    for value in values {
        builder.append(&NewRecord {
            timestamp: Timestamp(timestamp),
            key: Some(b"key"),
            value: Some(value.as_bytes()),
            headers: &[],
        });
    }
    builder
}

/// Offset and value of every record.
pub(crate) fn decode(bytes: &Bytes) -> Vec<(i64, String)> {
    let mut records = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        assert!(batch.crc_is_valid(), "{batch:?}");
        batch
            .visit_records(&mut Decompressor::new(), 1 << 20, |record| {
                let value = String::from_utf8_lossy(record.value.unwrap_or_default());
                records.push((batch.offset_of(&record).0, value.into_owned()));
                Ok::<_, RecordError>(())
            })
            .unwrap();
    }
    records
}
