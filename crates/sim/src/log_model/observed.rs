//! What a reader of the log sees.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use ottla_protocol::compression::Decompressor;
use ottla_protocol::record_batch::{ControlRecordType, RecordError, batches};
use ottla_protocol::{Offset, Timestamp};
use ottla_storage::{AbortedTxn, Log};

/// A record, and what its batch says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) epoch: i32,
    pub(super) producer: i64,
    /// `None` for data; `Some(true)` is a COMMIT marker, `Some(false)` an ABORT marker.
    pub(super) marker: Option<bool>,
    pub(super) transactional: bool,
    /// Empty for markers.
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

/// What one fetch brought.
pub(super) struct Fetched {
    pub(super) records: Vec<Seen>,
    /// First and last offset of each batch.
    pub(super) batches: Vec<(i64, i64)>,
    pub(super) bytes: usize,
    pub(super) aborted: Vec<AbortedTxn>,
}

pub(super) fn fetch(
    log: &Log,
    from: i64,
    max_bytes: usize,
    bound: i64,
    committed: bool,
) -> Result<Fetched> {
    let (from, bound) = (Offset(from), Offset(bound));
    let data = match committed {
        true => log.read_committed(from, max_bytes, true, bound),
        false => log.read(from, max_bytes, true, bound),
    };
    let data = data.with_context(|| format!("reading from {from} up to {bound}"))?;
    let bytes = data.read().with_context(|| format!("reading what begins at {from}"))?;
    let (records, batches) = decode(&bytes)?;
    Ok(Fetched { records, batches, bytes: bytes.len(), aborted: data.aborted_txns })
}

/// All that is there, by one fetch after another. Batches begin where the one before ended, or later.
pub(super) fn read_all(log: &Log) -> Result<Fetched> {
    let (start, end) = (log.log_start_offset().0, log.log_end_offset().0);
    let mut all =
        Fetched { records: Vec::new(), batches: Vec::new(), bytes: 0, aborted: Vec::new() };
    let mut next = start;
    while next < end {
        let fetched = fetch(log, next, 700, end, false)?;
        let Some((first, last)) = fetched.batches.first().zip(fetched.batches.last()) else {
            // Compaction may leave nothing before the end.
            break;
        };
        ensure!(first.1 >= next, "a fetch from {next} brought {first:?}");
        all.bytes += fetched.bytes;
        next = last.1 + 1;
        all.records.extend(fetched.records);
        all.batches.extend(fetched.batches);
    }
    let ascending = all.batches.windows(2).all(|pair| pair[0].1 < pair[1].0);
    ensure!(ascending, "batches overlap: {:?}", all.batches);
    Ok(all)
}

type Decoded = (Vec<Seen>, Vec<(i64, i64)>);

fn decode(bytes: &Bytes) -> Result<Decoded> {
    let (mut records, mut bounds) = (Vec::new(), Vec::new());
    for batch in batches(bytes) {
        let batch = batch?;
        ensure!(batch.crc_is_valid(), "a reader sees a torn batch at {}", batch.base_offset());
        bounds.push((batch.base_offset().0, batch.last_offset().0));
        batch.visit_records(&mut Decompressor::new(), 1 << 20, |record| {
            let key = record.key.unwrap_or_default();
            let marker = batch
                .is_control()
                .then(|| ControlRecordType::from_key(key) == Some(ControlRecordType::Commit));
            let Timestamp(timestamp) = batch.timestamp_of(&record);
            records.push(Seen {
                offset: batch.offset_of(&record).0,
                timestamp,
                epoch: batch.leader_epoch().0,
                producer: batch.producer_id().0,
                marker,
                transactional: batch.is_transactional(),
                key: if marker.is_some() { Vec::new() } else { key.to_vec() },
                value: record.value.filter(|_| marker.is_none()).map(<[u8]>::to_vec),
            });
            Ok::<_, RecordError>(())
        })?;
    }
    Ok((records, bounds))
}
