//! What a fetch brought of one partition, looked through batch by batch as it is handed out.
//! Kafka: `CompletedFetch`.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::compression::{Compression, Decompressor};
use ottla_protocol::fetch::AbortedTransaction;
use ottla_protocol::record_batch::{
    ControlRecordType, Record, RecordBatch, RecordBatchError, RecordError, Records as BatchRecords,
    batches,
};
use ottla_protocol::{LeaderEpoch, Offset, ProducerId, TopicPartition};

use super::ConsumerError;
use super::records::{Chunk, DecodedBatch, Entry, HeaderEntry, Records, Span};

/// What is to be looked at and what passed over.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadRules {
    pub(super) check_crcs: bool,
    pub(super) max_batch_bytes: usize,
}

/// Record batches of one partition that are to be handed out.
#[derive(Debug)]
pub(super) struct CompletedFetch {
    pub(super) partition: TopicPartition,
    pub(super) high_watermark: Offset,
    bytes: Bytes,
    /// Where in `bytes` the next batch begins.
    at: usize,
    /// The next offset to hand out, and the epoch of the record before it.
    position: (Offset, LeaderEpoch),
    /// What comes behind the last whole batch, and its epoch.
    end: (Offset, LeaderEpoch),
    /// The batch that is being handed out, and its next record.
    current: Option<(Arc<DecodedBatch>, usize)>,
    /// Behind which offset the current batch ends.
    current_end: Offset,
    /// Transactions to pass over that have not begun yet; `None` if all records are wanted.
    aborted: Option<VecDeque<AbortedTransaction>>,
    /// Producers whose open transaction is to be passed over.
    aborting: BTreeSet<ProducerId>,
}

impl CompletedFetch {
    /// What was fetched from `from` on. `aborted` is what a broker says to readers of committed
    /// records; a piece of a batch at the end is not looked at.
    ///
    /// `None` if there is no whole batch.
    pub(super) fn new(
        partition: TopicPartition,
        (from, epoch): (Offset, LeaderEpoch),
        bytes: Bytes,
        aborted: Option<Vec<AbortedTransaction>>,
    ) -> Option<Self> {
        let last = whole_batches(&bytes).map_while(Result::ok).last()?;
        let end = (last.next_offset().max(from), last.leader_epoch());
        let aborted = aborted.map(|mut aborted| {
            aborted.sort_by_key(|it| it.first_offset);
            aborted.into()
        });
        Some(Self {
            partition,
            high_watermark: Offset::NONE,
            bytes,
            at: 0,
            position: (from, epoch),
            end,
            current: None,
            current_end: from,
            aborted,
            aborting: BTreeSet::new(),
        })
    }

    /// What comes behind all of it, and the epoch of its last batch.
    pub(super) fn end(&self) -> (Offset, LeaderEpoch) {
        self.end
    }

    /// How much of the broker's response it keeps, in bytes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The next offset to hand out, and the epoch of the record before it.
    pub(super) fn position(&self) -> (Offset, LeaderEpoch) {
        self.position
    }

    /// The batches as they came, from the position on; the first may begin before it.
    pub(super) fn raw(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Moves up to `most` records into `records`. Whether all have been handed out.
    pub(super) fn drain(
        &mut self,
        most: usize,
        decompressor: &mut Decompressor,
        rules: ReadRules,
        records: &mut Records,
    ) -> Result<bool, ConsumerError> {
        let goal = records.count + most;
        while records.count < goal {
            let Some((batch, next)) = &mut self.current else {
                match self.next_batch(decompressor, rules)? {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(()) => return Ok(true),
                }
            };
            let take = (goal - records.count).min(batch.entries.len() - *next);
            let range = *next..*next + take;
            if let Some(last) = range.clone().last().and_then(|last| batch.entries.get(last)) {
                self.position = (Offset(last.offset).next(), batch.leader_epoch);
                let (partition, batch) = (self.partition.clone(), Arc::clone(batch));
                records.chunks.push(Chunk { partition, batch, range });
                records.count += take;
            }
            *next += take;
            if *next == batch.entries.len() {
                let epoch = batch.leader_epoch;
                self.position = (self.current_end, epoch);
                self.current = None;
            }
        }
        Ok(self.current.is_none() && self.at_end())
    }

    fn at_end(&self) -> bool {
        !matches!(whole_batches(&self.bytes[self.at..]).next(), Some(Ok(_)))
    }

    /// Looks through the next batch that is to be handed out; `Break` behind the last.
    fn next_batch(
        &mut self,
        decompressor: &mut Decompressor,
        rules: ReadRules,
    ) -> Result<ControlFlow<()>, ConsumerError> {
        let bytes = self.bytes.slice(self.at..);
        let Some(batch) = whole_batches(&bytes).next() else { return Ok(ControlFlow::Break(())) };
        let batch = batch.map_err(|error| self.corrupt(self.end.0, error.to_string()))?;
        if rules.check_crcs && !batch.crc_is_valid() {
            return Err(self.corrupt(batch.next_offset(), "its checksum does not fit".to_owned()));
        }
        self.at += batch.len();
        let end = batch.next_offset().max(self.position.0);
        if self.is_passed_over(&batch) || end <= self.position.0 {
            self.position = (end, batch.leader_epoch());
            return Ok(ControlFlow::Continue(()));
        }
        let whole = bytes.slice(..batch.len());
        match decode(&batch, whole, self.position.0, decompressor, rules.max_batch_bytes) {
            Ok(decoded) => {
                self.current_end = end;
                self.current = Some((Arc::new(decoded), 0));
                Ok(ControlFlow::Continue(()))
            }
            Err(error) => {
                // The same again if it is asked for again: nothing is passed over unasked.
                self.at -= batch.len();
                Err(self.corrupt(end, error.to_string()))
            }
        }
    }

    /// Control batches, and those of aborted transactions (KIP-98).
    fn is_passed_over(&mut self, batch: &RecordBatch<'_>) -> bool {
        let Some(aborted) = &mut self.aborted else { return batch.is_control() };
        while aborted.front().is_some_and(|it| it.first_offset <= batch.last_offset()) {
            self.aborting.extend(aborted.pop_front().map(|it| it.producer_id));
        }
        if batch.is_control() {
            let key = batch.records().ok().and_then(|mut it| it.next()?.ok()).and_then(|it| it.key);
            if key.and_then(ControlRecordType::from_key) == Some(ControlRecordType::Abort) {
                self.aborting.remove(&batch.producer_id());
            }
            return true;
        }
        batch.is_transactional() && self.aborting.contains(&batch.producer_id())
    }

    fn corrupt(&self, next: Offset, reason: String) -> ConsumerError {
        let partition = self.partition.clone();
        ConsumerError::Corrupt { partition, offset: self.position.0, next, reason }
    }
}

/// Where which record is in an uncompressed batch, or in what it decompresses to.
fn decode(
    batch: &RecordBatch<'_>,
    whole: Bytes,
    from: Offset,
    decompressor: &mut Decompressor,
    max_batch_bytes: usize,
) -> Result<DecodedBatch, RecordError> {
    let codec = batch.compression()?;
    let payload = if codec == Compression::None {
        whole.slice_ref(batch.payload())
    } else {
        let records = decompressor.decompress(codec, batch.payload(), max_batch_bytes)?;
        Bytes::from(records.into_owned())
    };
    // A record takes seven bytes at least: the count is not believed beyond that.
    let claimed = usize::try_from(batch.records_count()).unwrap_or(0);
    let mut entries = Vec::with_capacity(claimed.min(payload.len() / 7));
    let mut headers = Vec::new();
    let of_payload = |part: Option<&[u8]>| Span::of(part, &payload);
    BatchRecords::new(&payload, batch.records_count())?.visit(|record: Record<'_>| {
        let offset = batch.offset_of(&record);
        if offset >= from {
            let first = headers.len() as u32;
            if !record.headers.is_empty() {
                headers.extend(record.headers.iter().map(|it| HeaderEntry {
                    key: of_payload(Some(it.key)),
                    value: of_payload(it.value),
                }));
            }
            entries.push(Entry {
                offset: offset.0,
                timestamp: batch.timestamp_of(&record).0,
                key: of_payload(record.key),
                value: of_payload(record.value),
                headers: (first, headers.len() as u32 - first),
            });
        }
        Ok::<(), RecordError>(())
    })?;
    let (leader_epoch, timestamp_type) = (batch.leader_epoch(), batch.timestamp_type());
    Ok(DecodedBatch { bytes: payload, leader_epoch, timestamp_type, entries, headers })
}

/// The batches of a response; the piece of one at its end is left out.
pub(super) fn whole_batches(
    records: &[u8],
) -> impl Iterator<Item = Result<RecordBatch<'_>, RecordBatchError>> {
    batches(records).take_while(|it| !matches!(it, Err(RecordBatchError::Truncated { .. })))
}

#[cfg(test)]
mod tests;
