//! Whatever a producer sends, or a disk gives back: batches, records and their decompression end
//! without a panic and within their limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla_protocol::compression::{Compression, Decompressor};
use ottla_protocol::record_batch::{RecordBatch, RecordBatchMut, RecordError, batches};
use ottla_protocol::{LeaderEpoch, Offset, Timestamp};

/// Most bytes that the records of a batch may take uncompressed.
const LIMIT: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let mut decompressor = Decompressor::new();
    let mut position = 0;
    for batch in batches(bytes).flatten() {
        assert_eq!(batch.as_bytes(), &bytes[position..position + batch.len()]);
        position += batch.len();
        check(&batch, &mut decompressor);
    }
    // What follows the first byte, as the compressed records of a batch.
    if let Some((&codec, input)) = bytes.split_first() {
        if let Some(codec) = Compression::from_id(codec & 7) {
            if let Ok(output) = decompressor.decompress(codec, input, LIMIT) {
                assert!(output.len() <= LIMIT);
            }
        }
    }
});

fn check(batch: &RecordBatch<'_>, decompressor: &mut Decompressor) {
    let valid = batch.crc_is_valid();
    let _ = (batch.next_offset(), batch.last_sequence(), batch.delete_horizon());
    let mut count = 0u32;
    let visited = batch.visit_records(decompressor, LIMIT, |record| {
        count += 1;
        assert_eq!(record.headers.iter().count(), record.headers.len());
        let _ = (batch.offset_of(&record), batch.timestamp_of(&record));
        Ok::<(), RecordError>(())
    });
    if visited.is_ok() {
        assert_eq!(i64::from(count), i64::from(batch.records_count()));
        // Both ways of reading see the same.
        if batch.compression() == Ok(Compression::None) {
            let mut stream = batch.stream_records(decompressor, LIMIT).unwrap();
            let mut records = batch.records().unwrap();
            while let Some(record) = stream.next().unwrap() {
                assert_eq!(records.next().unwrap().unwrap(), record);
            }
            assert!(records.next().is_none());
        }
    }
    let mut patched = batch.as_bytes().to_vec();
    let mut patch = RecordBatchMut::parse(&mut patched).unwrap();
    patch.set_base_offset(Offset(1));
    patch.set_leader_epoch(LeaderEpoch(2));
    let patched_batch = RecordBatch::parse(&patched).unwrap();
    assert_eq!(patched_batch.crc_is_valid(), valid);
    RecordBatchMut::parse(&mut patched).unwrap().set_log_append_time(Timestamp(3));
    assert!(RecordBatch::parse(&patched).unwrap().crc_is_valid());
}
