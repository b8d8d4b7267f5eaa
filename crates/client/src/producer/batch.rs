//! A batch of one partition on its way: open, sealed, sent, sent again, split.

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::compression::{Compression, Compressor, Decompressor};
use ottla_protocol::record_batch::{
    HEADER_LENGTH, NewRecord, RecordBatch, RecordBatchBuilder, RecordBatchMut, RecordError,
    increment_sequence,
};
use ottla_protocol::{Monotonic, ProducerEpoch, ProducerId, Timestamp};

use super::delivery::{Outcome, SentRecord};
use crate::ClientError;

/// Who sends: the id that makes a producer idempotent, and its epoch.
pub(super) type Identity = (ProducerId, ProducerEpoch);

/// Orders the batches of a partition: by the batch they were appended to, then by their first
/// record in it.
pub(super) type Order = (u64, u32);

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) outcome: Arc<Outcome>,
    /// Which of the queues it belongs to.
    pub(super) queue: (usize, usize),
    pub(super) order: Order,
    pub(super) count: u32,
    pub(super) created: Monotonic,
    /// Takes no more records.
    pub(super) full: bool,
    /// How often it was sent.
    pub(super) attempts: u32,
    /// Whether some try may have stored it.
    pub(super) maybe_stored: bool,
    /// Identity and first sequence number, once it has them.
    pub(super) stamp: Option<(Identity, i32)>,
    /// Bytes of `buffer.memory` it takes.
    pub(super) charged: usize,
    pub(super) last_error: Option<Arc<ClientError>>,
    /// Of each record, if someone is to be told of each.
    pub(super) sent: Vec<SentRecord>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Open(Box<RecordBatchBuilder>),
    Sealed(Bytes),
}

impl Batch {
    pub(super) fn new(
        outcome: Arc<Outcome>,
        queue: (usize, usize),
        order: Order,
        created: Monotonic,
        capacity: usize,
    ) -> Self {
        Self {
            outcome,
            queue,
            order,
            count: 0,
            created,
            full: false,
            attempts: 0,
            maybe_stored: false,
            stamp: None,
            charged: 0,
            last_error: None,
            sent: Vec::new(),
            content: Content::Open(Box::new(RecordBatchBuilder::with_capacity(capacity))),
        }
    }

    /// Bytes of the batch as it is now.
    pub(super) fn size(&self) -> usize {
        match &self.content {
            Content::Open(builder) => builder.size(),
            Content::Sealed(bytes) => bytes.len(),
        }
    }

    /// Appends a record, unless the batch takes none or would grow beyond `limit`; the first one
    /// always fits.
    pub(super) fn append(&mut self, record: &NewRecord<'_>, limit: usize) -> bool {
        let Content::Open(builder) = &mut self.content else { return false };
        if self.full || (self.count > 0 && builder.size_with(record) > limit) {
            self.full = true;
            return false;
        }
        builder.append(record);
        self.count += 1;
        self.full = builder.size() >= limit;
        true
    }

    /// The bytes to send, with the stamp.
    pub(super) fn seal(&mut self, compressor: &mut Compressor) -> Result<Bytes, ClientError> {
        if let Content::Open(builder) = &mut self.content {
            let mut builder = std::mem::take(&mut **builder);
            if let Some(((id, epoch), sequence)) = self.stamp {
                builder = builder.producer(id, epoch, sequence);
            }
            let bytes = if compressor.codec() == Compression::None {
                builder.build()
            } else {
                let built = builder.build_compressed(compressor);
                built.map_err(|error| ClientError::Nonsense(error.to_string()))?
            };
            self.content = Content::Sealed(bytes);
        }
        self.restamp();
        match &self.content {
            Content::Sealed(bytes) => Ok(bytes.clone()),
            Content::Open(_) => Err(ClientError::Nonsense("a batch is open".to_owned())),
        }
    }

    /// Writes the stamp into the bytes if they carry another.
    fn restamp(&mut self) {
        let (Content::Sealed(bytes), Some(((id, epoch), sequence))) = (&self.content, self.stamp)
        else {
            return;
        };
        let carried = RecordBatch::parse(bytes)
            .map(|batch| (batch.producer_id(), batch.producer_epoch(), batch.base_sequence()));
        if carried.is_ok_and(|carried| carried != (id, epoch, sequence)) {
            let mut copy = bytes.to_vec();
            if let Ok(mut batch) = RecordBatchMut::parse(&mut copy) {
                batch.set_producer(id, epoch, sequence);
            }
            self.content = Content::Sealed(Bytes::from(copy));
        }
    }

    /// Two batches of half as many records, because the broker takes no batch as large as this
    /// (KIP-126). `None` if there is but one record.
    pub(super) fn split(&mut self) -> Option<[Self; 2]> {
        let Content::Sealed(bytes) = &self.content else { return None };
        if self.count < 2 {
            return None;
        }
        let batch = RecordBatch::parse(bytes).ok()?;
        let half = self.count / 2;
        let mut builders = [RecordBatchBuilder::new(), RecordBatchBuilder::new()];
        let mut at = 0;
        let visited = batch.visit_records(&mut Decompressor::new(), usize::MAX, |record| {
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|header| (std::str::from_utf8(header.key).unwrap_or_default(), header.value))
                .collect();
            builders[usize::from(at >= half)].append(&NewRecord {
                timestamp: Timestamp(batch.timestamp_of(&record).0),
                key: record.key,
                value: record.value,
                headers: &headers,
            });
            at += 1;
            Ok::<(), RecordError>(())
        });
        visited.ok()?;
        let [first, second] = builders;
        let total = self.charged;
        let share = total / 2;
        let tail = self.sent.split_off(self.sent.len().min(half as usize));
        let sent = std::mem::take(&mut self.sent);
        Some([self.piece(first, 0, share, sent), self.piece(second, half, total - share, tail)])
    }

    fn piece(
        &self,
        builder: RecordBatchBuilder,
        skipped: u32,
        charged: usize,
        sent: Vec<SentRecord>,
    ) -> Self {
        let stamp = self.stamp.map(|(identity, sequence)| {
            (identity, increment_sequence(sequence, i32::try_from(skipped).unwrap_or(0)))
        });
        let (id, first) = self.order;
        Self {
            outcome: self.outcome.clone(),
            queue: self.queue,
            order: (id, first + skipped),
            count: u32::try_from(builder.len()).unwrap_or(0),
            created: self.created,
            full: true,
            attempts: self.attempts,
            maybe_stored: self.maybe_stored,
            stamp,
            charged,
            last_error: self.last_error.clone(),
            sent,
            content: Content::Open(Box::new(builder)),
        }
    }

    /// The indexes of its records in their outcome.
    pub(super) fn records(&self) -> std::ops::Range<u32> {
        self.order.1..self.order.1 + self.count
    }
}

/// Bytes that a record takes in a batch of its own.
pub(super) fn size_alone(record: &NewRecord<'_>) -> usize {
    let headers =
        record.headers.iter().map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len) + 10);
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    HEADER_LENGTH + 21 + length(record.key) + length(record.value) + headers.sum::<usize>()
}
