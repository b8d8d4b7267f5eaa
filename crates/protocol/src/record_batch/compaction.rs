//! What compaction changes in a batch. Kafka: `MemoryRecords.filterTo`.

use super::patch::{crc, put};
use super::varint;
use super::{
    ATTRIBUTES_AT, BASE_TIMESTAMP_AT, CODEC_MASK, CRC_AT, DELETE_HORIZON_BIT, HEADER_LENGTH,
    LENGTH_AT, LOG_OVERHEAD, MAX_TIMESTAMP_AT, RECORDS_COUNT_AT, RecordBatch,
};
use crate::Timestamp;
use crate::compression::Compression;

/// What is left of a batch. Its offsets, producer, epochs and sequence numbers stay, so that no
/// offset is ever used twice and a producer's state can be read from the log (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactedBatch {
    /// How the records are compressed.
    pub codec: Compression,
    /// How many there are: possibly none.
    pub records_count: i32,
    /// What their timestamps count from; the delete horizon if there is one.
    pub base_timestamp: Timestamp,
    /// The largest of their timestamps.
    pub max_timestamp: Timestamp,
    /// Whether `base_timestamp` is a delete horizon (KIP-534).
    pub has_delete_horizon: bool,
}

impl RecordBatch<'_> {
    /// The header of the batch once `payload` is all that is left of its records. Written in front
    /// of `payload`, it makes a whole batch, which must not be larger than `i32::MAX` bytes.
    pub fn compacted_header(&self, left: &CompactedBatch, payload: &[u8]) -> [u8; HEADER_LENGTH] {
        let mut header = *self.header;
        let length = HEADER_LENGTH - LOG_OVERHEAD + payload.len();
        let mut attributes =
            self.attributes() & !(CODEC_MASK | DELETE_HORIZON_BIT) | i16::from(left.codec.id());
        if left.has_delete_horizon {
            attributes |= DELETE_HORIZON_BIT;
        }
        put(&mut header, LENGTH_AT, i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
        put(&mut header, ATTRIBUTES_AT, attributes.to_be_bytes());
        put(&mut header, BASE_TIMESTAMP_AT, left.base_timestamp.0.to_be_bytes());
        put(&mut header, MAX_TIMESTAMP_AT, left.max_timestamp.0.to_be_bytes());
        put(&mut header, RECORDS_COUNT_AT, left.records_count.to_be_bytes());
        let crc = crc(&header, payload);
        put(&mut header, CRC_AT, crc.to_be_bytes());
        header
    }
}

/// Appends records as they stand in a batch, with their timestamps counted from a base that lies
/// `earlier` milliseconds before the one they were counted from. `None` if `records` are none.
pub fn rebase_records(mut records: &[u8], earlier: i64, output: &mut Vec<u8>) -> Option<()> {
    while !records.is_empty() {
        let length = usize::try_from(varint::read_i32(&mut records)?).ok()?;
        let (body, rest) = records.split_at_checked(length)?;
        records = rest;
        let (&attributes, mut body) = body.split_first()?;
        let delta = varint::read_i64(&mut body)?.wrapping_add(earlier);
        varint::write((1 + varint::size(delta) + body.len()) as i64, output);
        output.push(attributes);
        varint::write(delta, output);
        output.extend_from_slice(body);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record_batch::{NewRecord, RecordBatchBuilder};
    use crate::{Offset, ProducerEpoch, ProducerId};

    proptest! {
        #[test]
        fn what_is_left_keeps_its_times_and_its_place(
            times in prop::collection::vec(0i64..1 << 40, 1..20), horizon in 0i64..1 << 41,
        ) {
            let mut builder = RecordBatchBuilder::new()
                .base_offset(Offset(7))
                .producer(ProducerId(3), ProducerEpoch(1), 11);
            for time in &times {
                let timestamp = Timestamp(*time);
                builder.append(&NewRecord { timestamp, key: Some(b"k"), ..NewRecord::default() });
            }
            let bytes = builder.build();
            let batch = RecordBatch::parse(&bytes).unwrap();
            let mut payload = Vec::new();
            let earlier = batch.base_timestamp().0 - horizon;
            rebase_records(batch.payload(), earlier, &mut payload).unwrap();
            let left = CompactedBatch {
                codec: Compression::None,
                records_count: batch.records_count(),
                base_timestamp: Timestamp(horizon),
                max_timestamp: batch.max_timestamp(),
                has_delete_horizon: true,
            };
            let rebased = [&batch.compacted_header(&left, &payload)[..], &payload].concat();
            let rebased = RecordBatch::parse(&rebased).unwrap();
            prop_assert!(rebased.crc_is_valid());
            prop_assert_eq!(rebased.delete_horizon(), Some(Timestamp(horizon)));
            prop_assert_eq!(rebased.base_offset(), batch.base_offset());
            prop_assert_eq!(rebased.last_sequence(), batch.last_sequence());
            for (record, (index, time)) in rebased.records().unwrap().zip(times.iter().enumerate()) {
                let record = record.unwrap();
                prop_assert_eq!(rebased.timestamp_of(&record), Timestamp(*time));
                prop_assert_eq!(rebased.offset_of(&record), Offset(7 + index as i64));
                prop_assert_eq!(record.key, Some(&b"k"[..]));
            }
        }

        #[test]
        fn any_bytes_are_rebased_or_refused(bytes: Vec<u8>, earlier: i64) {
            let _ = rebase_records(&bytes, earlier, &mut Vec::new());
        }
    }
}
