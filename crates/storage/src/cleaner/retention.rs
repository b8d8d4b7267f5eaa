//! What stays of a batch. Kafka's `Cleaner.cleanInto` and `MemoryRecords.filterTo`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ottla_protocol::compression::{Compression, Compressor, Decompressor};
use ottla_protocol::record_batch::{
    CompactedBatch, HEADER_LENGTH, RecordBatch, Records, TimestampType, rebase_records,
};
use ottla_protocol::{Offset, Timestamp};

use super::cleaned_segment::CleanedSegment;
use super::offset_map::OffsetMap;
use super::transactions::CleanedTransactions;
use super::{CleanerStats, Stop};
use crate::batch_header::BatchHeader;
use crate::log_validator::MAX_EXPANSION;
use crate::producer_state::LastRecord;

/// What decides over the records of a pass.
pub(super) struct Retention {
    pub(super) map: OffsetMap,
    /// The last offset that the map knows of: what comes after it stays.
    pub(super) latest: Offset,
    pub(super) now: Timestamp,
    /// When a tombstone goes that this pass is the first to pass by.
    pub(super) new_horizon: Timestamp,
}

/// What a pass knows of the batches around the one it is at.
#[derive(Default)]
pub(super) struct Surroundings {
    pub(super) transactions: CleanedTransactions,
    /// Producers that are active, and where they wrote last.
    pub(super) producers: BTreeMap<i64, LastRecord>,
    pub(super) decompressor: Decompressor,
    /// The batch is the last one of the cleaned segment. It stays, if only empty, so that segments
    /// still join on: Kafka keeps the last one of the section that is cleaned.
    pub(super) is_last: bool,
}

/// What the records of a batch come to.
#[derive(Default)]
struct Kept<'a> {
    /// Those that stay, as they stand in the batch; neighbours are one piece.
    pieces: Vec<&'a [u8]>,
    count: i32,
    max_timestamp: Option<Timestamp>,
    /// One of them has no value, and nothing after it for its key.
    has_tombstones: bool,
}

/// The largest batch, decompressed, whatever `max.message.bytes` is now.
const MIN_DECOMPRESSED: usize = 100 << 20;

/// The records of a batch, decompressed.
pub(super) fn plain<'a>(
    batch: &RecordBatch<'a>,
    decompressor: &mut Decompressor,
) -> Result<Cow<'a, [u8]>, String> {
    let codec = batch.compression().map_err(|error| error.to_string())?;
    if codec == Compression::None {
        return Ok(Cow::Borrowed(batch.payload()));
    }
    let limit = batch.len().saturating_mul(MAX_EXPANSION).max(MIN_DECOMPRESSED);
    decompressor.decompress(codec, batch.payload(), limit).map_err(|error| error.to_string())
}

impl Retention {
    /// Puts what is left of `batch` into `output`.
    pub(super) fn clean(
        &self,
        batch: &RecordBatch<'_>,
        around: &mut Surroundings,
        output: &mut CleanedSegment,
        stats: &mut CleanerStats,
    ) -> Result<(), Stop> {
        let useless = around.transactions.read(batch);
        output.add_aborted(around.transactions.take_still_aborted());
        let horizon = batch.delete_horizon();
        // A marker stays for as long as a tombstone would (KIP-534).
        let discard =
            useless && (!batch.is_control() || horizon.is_some_and(|horizon| horizon <= self.now));
        let keep_empty = around.is_last || is_last_of_producer(batch, &around.producers);
        if discard && !keep_empty {
            return Ok(());
        }
        let plain =
            plain(batch, &mut around.decompressor).map_err(|reason| malformed(batch, reason))?;
        let kept = if discard { Kept::default() } else { self.filter(batch, &plain, stats)? };
        let is_empty_marker = useless && batch.is_control();
        let new_horizon = (kept.has_tombstones || is_empty_marker) && horizon.is_none();
        if kept.count == batch.records_count() && (kept.count == 0 || !new_horizon) {
            if kept.count > 0 || keep_empty {
                output.copy(batch);
            }
        } else if kept.count > 0 {
            self.rewrite(batch, &kept, new_horizon, output)?;
        } else if keep_empty {
            rewrite_empty(batch, output);
        }
        stats.records_kept += u64::from(kept.count.unsigned_abs());
        Ok(())
    }

    fn filter<'a>(
        &self,
        batch: &RecordBatch<'_>,
        plain: &'a [u8],
        stats: &mut CleanerStats,
    ) -> Result<Kept<'a>, Stop> {
        let malformed =
            |error: ottla_protocol::record_batch::RecordError| malformed(batch, error.to_string());
        let mut records = Records::new(plain, batch.records_count()).map_err(malformed)?;
        let deletes_stay = batch.delete_horizon().is_none_or(|horizon| self.now < horizon);
        let mut kept = Kept::default();
        // Bytes from `piece` on belong to records that stay.
        let (mut piece, mut start) = (None, 0);
        while let Some(record) = records.next() {
            let record = record.map_err(malformed)?;
            stats.records_read += 1;
            let offset = batch.offset_of(&record);
            let beyond = offset > self.latest;
            let stays = batch.is_control()
                || beyond
                || match record.key {
                    Some(key) => {
                        (record.value.is_some() || deletes_stay)
                            && self.map.get(key).is_none_or(|latest| offset >= latest)
                    }
                    None => {
                        stats.records_without_key += 1;
                        false
                    }
                };
            if stays {
                piece.get_or_insert(start);
                kept.count += 1;
                kept.max_timestamp = kept.max_timestamp.max(Some(batch.timestamp_of(&record)));
                kept.has_tombstones |= record.value.is_none() && !beyond;
            } else if let Some(from) = piece.take() {
                kept.pieces.extend(plain.get(from..start));
            }
            start = plain.len() - records.unread().len();
        }
        kept.pieces.extend(piece.and_then(|from| plain.get(from..start)));
        Ok(kept)
    }

    /// The batch with the records that stay, and perhaps a delete horizon.
    fn rewrite(
        &self,
        batch: &RecordBatch<'_>,
        kept: &Kept<'_>,
        new_horizon: bool,
        output: &mut CleanedSegment,
    ) -> Result<(), Stop> {
        let max_timestamp = match batch.timestamp_type() {
            TimestampType::CreateTime => kept.max_timestamp.unwrap_or(batch.max_timestamp()),
            TimestampType::LogAppendTime => batch.max_timestamp(),
        };
        let codec = batch.compression().map_err(|error| malformed(batch, error.to_string()))?;
        let base_timestamp = if new_horizon { self.new_horizon } else { batch.base_timestamp() };
        let left = CompactedBatch {
            codec,
            records_count: kept.count,
            base_timestamp,
            max_timestamp,
            has_delete_horizon: new_horizon || batch.delete_horizon().is_some(),
        };
        let position = output.size();
        let start = output.buffer.len();
        output.buffer.resize(start + HEADER_LENGTH, 0);
        let earlier = batch.base_timestamp().0.wrapping_sub(base_timestamp.0);
        if codec == Compression::None && earlier == 0 {
            kept.pieces.iter().for_each(|piece| output.buffer.extend_from_slice(piece));
        } else {
            let mut plain = Vec::new();
            for piece in &kept.pieces {
                rebase_records(piece, earlier, &mut plain)
                    .ok_or_else(|| malformed(batch, "a record is malformed".to_owned()))?;
            }
            Compressor::new(codec, None)
                .compress(&plain, &mut output.buffer)
                .map_err(|error| malformed(batch, error.to_string()))?;
        }
        finish(batch, &left, start, position, output);
        Ok(())
    }
}

/// The batch without any record: only to say where it was, and from whom.
fn rewrite_empty(batch: &RecordBatch<'_>, output: &mut CleanedSegment) {
    let left = CompactedBatch {
        codec: Compression::None,
        records_count: 0,
        base_timestamp: Timestamp::NONE,
        max_timestamp: batch.max_timestamp(),
        has_delete_horizon: false,
    };
    let (position, start) = (output.size(), output.buffer.len());
    output.buffer.resize(start + HEADER_LENGTH, 0);
    finish(batch, &left, start, position, output);
}

/// Fills in the header of the batch that begins at `start` of the buffer.
fn finish(
    batch: &RecordBatch<'_>,
    left: &CompactedBatch,
    start: usize,
    position: u64,
    output: &mut CleanedSegment,
) {
    let payload = output.buffer.get(start + HEADER_LENGTH..).unwrap_or_default();
    let header = batch.compacted_header(left, payload);
    if let Some(room) = output.buffer.get_mut(start..start + HEADER_LENGTH) {
        room.copy_from_slice(&header);
    }
    if let Some(header) = BatchHeader::parse(&header) {
        output.added(&header, position);
    }
}

/// Whether the state of an active producer stands in this batch, now or after a loss of power: its
/// last sequence numbers, or, where only a marker is known of it, its epoch.
fn is_last_of_producer(batch: &RecordBatch<'_>, producers: &BTreeMap<i64, LastRecord>) -> bool {
    match producers.get(&batch.producer_id().0) {
        None => false,
        Some(LastRecord { last_data_offset: Some(last), last_synced_offset, .. }) => {
            let end = batch.last_offset();
            end == *last || *last_synced_offset == Some(end)
        }
        Some(LastRecord { last_data_offset: None, epoch, .. }) => {
            batch.is_control() && batch.producer_epoch() == *epoch
        }
    }
}

fn malformed(batch: &RecordBatch<'_>, reason: String) -> Stop {
    Stop::Malformed(format!("the batch at offset {}: {reason}", batch.base_offset()))
}
