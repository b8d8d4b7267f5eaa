//! Record batches, honest and forged.

use bytes::Bytes;
use ottla_protocol::compression::{Compression, Compressor, Decompressor};
use ottla_protocol::record_batch::{
    NewRecord, RecordBatch, RecordBatchBuilder, RecordError, batches,
};
use ottla_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// The time of records that need none.
pub(crate) const NOON: i64 = 1_700_000_000_000;

/// Where the fields of a batch's header lie (KIP-98).
pub(crate) mod at {
    pub(crate) const BASE_OFFSET: usize = 0;
    pub(crate) const LENGTH: usize = 8;
    pub(crate) const MAGIC: usize = 16;
    pub(crate) const CRC: usize = 17;
    pub(crate) const ATTRIBUTES: usize = 21;
    pub(crate) const LAST_OFFSET_DELTA: usize = 23;
    pub(crate) const COUNT: usize = 57;
    pub(crate) const RECORDS: usize = 61;
}

fn filled(mut builder: RecordBatchBuilder, records: &[(i64, &str)]) -> RecordBatchBuilder {
    for (timestamp, value) in records {
        builder.append(&NewRecord {
            timestamp: Timestamp(*timestamp),
            value: Some(value.as_bytes()),
            ..NewRecord::default()
        });
    }
    builder
}

fn at_noon<'a>(values: &[&'a str]) -> Vec<(i64, &'a str)> {
    values.iter().map(|value| (NOON, *value)).collect()
}

/// A batch of these values.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    timed(&at_noon(values))
}

/// A batch of these timestamps and values.
pub(crate) fn timed(records: &[(i64, &str)]) -> Bytes {
    filled(RecordBatchBuilder::new(), records).build()
}

/// A batch of one record with a key.
pub(crate) fn keyed(timestamp: i64, key: &str) -> Bytes {
    let mut builder = RecordBatchBuilder::new();
    builder.append(&NewRecord {
        timestamp: Timestamp(timestamp),
        key: Some(key.as_bytes()),
        value: Some(b"v"),
        ..NewRecord::default()
    });
    builder.build()
}

/// A batch of an idempotent producer.
pub(crate) fn sequenced(producer: (i64, i16), sequence: i32, values: &[&str]) -> Bytes {
    let (id, epoch) = (ProducerId(producer.0), ProducerEpoch(producer.1));
    filled(RecordBatchBuilder::new().producer(id, epoch, sequence), &at_noon(values)).build()
}

/// A batch that is compressed.
pub(crate) fn compressed(codec: Compression, values: &[&str]) -> Bytes {
    let builder = filled(RecordBatchBuilder::new(), &at_noon(values));
    builder.build_compressed(&mut Compressor::new(codec, None)).unwrap()
}

/// `batch` with other bytes at a place of its header, and a checksum that fits.
pub(crate) fn forged(batch: &Bytes, place: usize, bytes: &[u8]) -> Bytes {
    let mut forged = batch.to_vec();
    forged[place..place + bytes.len()].copy_from_slice(bytes);
    let crc = crc_fast::crc32_iscsi(&forged[at::ATTRIBUTES..]);
    forged[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    forged.into()
}

/// The offsets and values of fetched records; a batch that is cut off at the end is ignored, as consumers do.
pub(crate) fn read(records: &Bytes) -> Vec<(i64, String)> {
    let mut read = Vec::new();
    for batch in batches(records).map_while(Result::ok) {
        assert!(batch.crc_is_valid(), "a fetched batch is corrupt");
        read_batch(&batch, &mut read);
    }
    read
}

fn read_batch(batch: &RecordBatch<'_>, read: &mut Vec<(i64, String)>) {
    let visited =
        batch.visit_records::<RecordError>(&mut Decompressor::default(), 1 << 30, |record| {
            let Offset(offset) = batch.offset_of(&record);
            read.push((offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
            Ok(())
        });
    visited.unwrap();
}

/// The values alone.
pub(crate) fn values(records: &Bytes) -> Vec<String> {
    read(records).into_iter().map(|(_, value)| value).collect()
}
