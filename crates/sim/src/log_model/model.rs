//! What a log has to hold, as simple lists.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::observed::Seen;

/// A batch that was appended and not cut off.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) base: i64,
    pub(super) last: i64,
    /// Bytes in the log; of no meaning once it was compacted.
    pub(super) bytes: u64,
    pub(super) records: Vec<Seen>,
}

/// A batch that a producer knows to be in the log.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) bytes: Bytes,
    pub(super) first_sequence: i32,
    pub(super) records: i32,
    pub(super) first: i64,
    pub(super) last: i64,
}

/// A producer with an id.
#[derive(Clone, Debug, Default)]
pub(super) struct Producer {
    pub(super) epoch: i16,
    /// Batches of this epoch that were not cut off.
    pub(super) sent: Vec<Sent>,
    /// Batches of `sent` before this one may be forgotten: a snapshot keeps the last one only.
    pub(super) surely: usize,
}

impl Producer {
    pub(super) fn next_sequence(&self) -> i32 {
        self.sent.last().map_or(0, |last| last.first_sequence + last.records)
    }
}

/// A transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    pub(super) producer: i64,
    pub(super) first: i64,
    /// Offset of its marker, and whether it is a COMMIT; `None` while it is open.
    pub(super) end: Option<(i64, bool)>,
}

/// What was under way when the node died.
#[derive(Clone, Debug)]
pub(super) enum Doubt {
    Append(Vec<Batch>),
    /// Cut here or not.
    Truncate(i64),
    /// Emptied or not, or half.
    TruncateFully,
    /// Some of the segments up to here deleted or not; checkpoints old or new.
    Retention(i64),
    Clean,
    /// The topic is gone or not.
    Delete,
    /// The topic is gone; the new one there or not.
    Create,
}

/// The log as it has to be.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// All batches, also those before the start: a loss of power may bring them back.
    pub(super) batches: Vec<Batch>,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) high_watermark: i64,
    /// The high watermark follows the end.
    pub(super) follows: bool,
    /// The leader's epoch.
    pub(super) epoch: i32,
    /// Everything before it survives a loss of power.
    pub(super) flushed: i64,
    /// The start that a crash leaves, at least.
    pub(super) checkpointed_start: i64,
    /// Of what lies before it nobody knows what compaction left.
    pub(super) loose_below: i64,
    /// Whether compaction has changed anything.
    pub(super) compacted: bool,
    pub(super) producers: BTreeMap<i64, Producer>,
    pub(super) transactions: Vec<Transaction>,
    /// The first offset of an open transaction is gone, so nobody knows what a crash left of it.
    pub(super) last_stable_unknown: bool,
    /// It died while it was emptied: a loss of power may bring back what was there.
    pub(super) half_emptied: Option<Vec<Seen>>,
    pub(super) doubt: Option<Doubt>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            batches: Vec::new(),
            start: 0,
            end: 0,
            high_watermark: 0,
            follows: true,
            epoch: 0,
            flushed: 0,
            checkpointed_start: 0,
            loose_below: 0,
            compacted: false,
            producers: BTreeMap::new(),
            transactions: Vec::new(),
            last_stable_unknown: false,
            half_emptied: None,
            doubt: None,
        }
    }

    /// Whether a batch is surely in the log: compaction may have emptied what nobody sees.
    pub(super) fn surely_holds(&self, batch: &Batch) -> bool {
        let seen_from = if self.compacted { self.start.max(self.loose_below) } else { 0 };
        batch.records.iter().any(|record| record.offset >= seen_from)
    }

    /// The records that a reader finds.
    pub(super) fn visible(&self) -> impl Iterator<Item = &Seen> + Clone {
        let start = self.start;
        self.batches.iter().flat_map(|b| &b.records).filter(move |record| record.offset >= start)
    }

    /// Notes batches that were appended.
    pub(super) fn appended(&mut self, batches: Vec<Batch>) {
        for batch in batches {
            self.note_transaction(&batch);
            self.end = batch.last + 1;
            self.batches.push(batch);
        }
        self.follow();
    }

    pub(super) fn note_transaction(&mut self, batch: &Batch) {
        let Some(record) = batch.records.first() else { return };
        let open =
            self.transactions.iter_mut().find(|t| t.producer == record.producer && t.end.is_none());
        match (record.marker, open) {
            (Some(commit), Some(open)) => open.end = Some((batch.last, commit)),
            (None, None) if record.transactional => {
                let (producer, first) = (record.producer, batch.base);
                self.transactions.push(Transaction { producer, first, end: None });
            }
            (Some(_) | None, _) => {}
        }
    }

    pub(super) fn follow(&mut self) {
        if self.follows {
            self.high_watermark = self.end;
        }
        self.high_watermark = self.high_watermark.clamp(self.start, self.end);
    }

    /// The log ends at `end` now; what came after is forgotten.
    pub(super) fn cut(&mut self, end: i64) {
        // Of a batch without records nobody knows whether compaction left a header.
        self.batches
            .retain(|batch| batch.last < end || batch.base < end && !batch.records.is_empty());
        self.end = end;
        self.start = self.start.min(end);
        self.flushed = self.flushed.min(end);
        self.transactions.retain(|transaction| transaction.first < end);
        for transaction in &mut self.transactions {
            let lost = transaction.end.take_if(|(marker, _)| *marker >= end);
            // Compaction may have dropped what an ABORT marker aborted that is lost now. It will be
            // aborted again: its coordinator has decided so.
            self.last_stable_unknown |= lost.is_some() && self.compacted;
        }
        for producer in self.producers.values_mut() {
            producer.sent.retain(|sent| sent.last < end);
        }
        self.follow();
    }

    /// The log was opened, or cut: what was known of producers comes from snapshots and from the
    /// batches since. `first_base` is where the first segment begins; `surely` says that no snapshot
    /// was lost.
    ///
    /// Answers the producers of whom nobody can say whether they are known: they have to go.
    pub(super) fn producers_rebuilt(&mut self, first_base: i64, surely: bool) -> Vec<i64> {
        let doubtful = |producer: &Producer| {
            !surely && producer.sent.last().is_none_or(|last| last.first < first_base)
        };
        let gone = self.producers.iter().filter(|(_, producer)| doubtful(producer));
        let gone: Vec<i64> = gone.map(|(id, _)| *id).collect();
        gone.iter().for_each(|id| drop(self.producers.remove(id)));
        for producer in self.producers.values_mut() {
            producer.surely = producer.sent.len().saturating_sub(1);
        }
        let open = |t: &Transaction| t.end.is_none() && t.first < first_base;
        self.last_stable_unknown |= !surely && self.transactions.iter().any(open);
        gone
    }

    /// Where a `read_committed` consumer stops.
    pub(super) fn last_stable_offset(&self) -> i64 {
        let holds =
            |t: &&Transaction| t.end.is_none_or(|(marker, _)| marker >= self.high_watermark);
        let firsts = self.transactions.iter().filter(holds).map(|t| t.first);
        let first = firsts.min().unwrap_or(i64::MAX);
        first.clamp(self.start, self.high_watermark.max(self.start))
    }

    /// Whether a record belongs to an aborted transaction.
    pub(super) fn is_aborted(&self, record: &Seen) -> bool {
        record.transactional
            && self.transactions.iter().any(|t| {
                t.producer == record.producer
                    && t.first <= record.offset
                    && matches!(t.end, Some((marker, false)) if record.offset < marker)
            })
    }
}
