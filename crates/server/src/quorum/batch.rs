//! The batches of a metadata log: uncompressed, without a producer, whole or not at all.

use std::io;

use bytes::Bytes;
use ottla_protocol::Offset;
use ottla_protocol::record_batch::{ControlRecordType, RecordBatch};

/// Bytes that are not what this module writes.
pub(super) fn corrupt(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

/// The batch that `bytes` begins with, checked as far as its header and its CRC tell.
pub(super) fn read_batch(bytes: &[u8]) -> io::Result<RecordBatch<'_>> {
    let batch = RecordBatch::parse(bytes).map_err(corrupt)?;
    let Offset(base_offset) = batch.base_offset();
    if !batch.crc_is_valid() {
        return Err(corrupt(format!("the crc of the batch at offset {base_offset} is wrong")));
    }
    let delta = batch.last_offset_delta();
    let is_dense = batch.records_count().checked_sub(1) == Some(delta);
    if base_offset < 0
        || delta < 0
        || !is_dense
        || batch.leader_epoch().0 < 0
        || base_offset.checked_add(i64::from(delta) + 1).is_none()
    {
        return Err(corrupt(format!("no batch of a metadata log: {batch:?}")));
    }
    Ok(batch)
}

/// The values of the records in `batch`, which lies in `bytes`; they share its memory.
pub(super) fn values(bytes: &Bytes, batch: &RecordBatch<'_>) -> io::Result<Vec<Bytes>> {
    let mut values = Vec::new();
    for record in batch.records().map_err(corrupt)? {
        match record.map_err(corrupt)?.value {
            Some(value) => values.push(bytes.slice_ref(value)),
            None => return Err(corrupt("a metadata record without value")),
        }
    }
    Ok(values)
}

/// The control records in `batch`, which lies in `bytes`.
pub(super) fn control_records(
    bytes: &Bytes,
    batch: &RecordBatch<'_>,
) -> io::Result<Vec<(ControlRecordType, Bytes)>> {
    let mut records = Vec::new();
    for record in batch.records().map_err(corrupt)? {
        let record = record.map_err(corrupt)?;
        match (record.key.and_then(ControlRecordType::from_key), record.value) {
            (Some(kind), Some(value)) => records.push((kind, bytes.slice_ref(value))),
            (None, _) | (_, None) => return Err(corrupt("a control record of unknown type")),
        }
    }
    Ok(records)
}
