//! What the log knows of each idempotent producer (KIP-98, KIP-360). Kafka's
//! `ProducerStateManager`.

mod snapshot;

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_protocol::record_batch::increment_sequence;
use ottla_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp};
use thiserror::Error;

use crate::append::AppendOrigin;
use crate::batch_header::BatchHeader;
use crate::transaction_index::AbortedTxn;

pub use snapshot::{SnapshotEntry, SnapshotError, snapshot_entries};

/// Batches per producer that are remembered, which is how many a client may have in flight.
const WINDOW: usize = 5;

/// Why a producer's batch was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ProducerStateError {
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER`
    #[error("producer {producer} epoch {epoch} sent sequence {sequence} where {expected} was due")]
    OutOfOrderSequence {
        /// Who sent it.
        producer: ProducerId,
        /// Its epoch.
        epoch: ProducerEpoch,
        /// First sequence number of the batch.
        sequence: i32,
        /// The one that was due.
        expected: i32,
    },
    /// `INVALID_PRODUCER_EPOCH`
    #[error("producer {producer} sent epoch {epoch}, which epoch {current} has fenced")]
    InvalidProducerEpoch {
        /// Who sent it.
        producer: ProducerId,
        /// The epoch it sent.
        epoch: ProducerEpoch,
        /// The newest epoch.
        current: ProducerEpoch,
    },
    /// `INVALID_TXN_STATE`
    #[error("producer {producer} wrote outside its open transaction")]
    InvalidTxnState {
        /// Who sent it.
        producer: ProducerId,
    },
    /// `TRANSACTION_COORDINATOR_FENCED`
    #[error(
        "coordinator epoch {epoch} ends a transaction of producer {producer}, but {current} has \
         fenced it"
    )]
    TransactionCoordinatorFenced {
        /// Whose transaction it is.
        producer: ProducerId,
        /// The epoch in the marker.
        epoch: i32,
        /// The newest epoch.
        current: i32,
    },
}

/// A batch that was appended before, as it stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppendedBatch {
    pub(crate) first_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) timestamp: Timestamp,
}

/// What a check of a producer's batch found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It is new.
    Next,
    /// It is there already: a retry whose first answer was lost.
    Duplicate(AppendedBatch),
}

/// The end of a transaction, from its control batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndTransactionMarker {
    pub(crate) coordinator_epoch: i32,
    /// ABORT, not COMMIT.
    pub(crate) aborted: bool,
}

/// A remembered batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct BatchMetadata {
    last_sequence: i32,
    last_offset: i64,
    offset_delta: i32,
    timestamp: i64,
}

impl BatchMetadata {
    fn of(batch: &BatchHeader) -> Self {
        Self {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset().0,
            offset_delta: batch.last_offset_delta,
            timestamp: batch.max_timestamp.0,
        }
    }

    fn first_sequence(&self) -> i32 {
        match self.last_sequence.checked_sub(self.offset_delta) {
            Some(first) if first >= 0 => first,
            // The batch wrapped: count back over `i32::MAX`.
            _ => i32::MAX - (self.offset_delta - self.last_sequence) + 1,
        }
    }

    fn appended(&self) -> AppendedBatch {
        AppendedBatch {
            first_offset: Offset(self.last_offset - i64::from(self.offset_delta)),
            last_offset: Offset(self.last_offset),
            timestamp: Timestamp(self.timestamp),
        }
    }
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ProducerStateEntry {
    epoch: i16,
    /// The last batches, oldest first; `held` of them are real.
    window: [BatchMetadata; WINDOW],
    held: usize,
    /// Came from a snapshot, which has room for one batch: earlier ones may be in the log.
    cut: bool,
    last_timestamp: i64,
    coordinator_epoch: i32,
    current_txn_first_offset: Option<i64>,
}

impl ProducerStateEntry {
    fn new(epoch: i16) -> Self {
        Self {
            epoch,
            window: [BatchMetadata::default(); WINDOW],
            held: 0,
            cut: false,
            last_timestamp: Timestamp::NONE.0,
            coordinator_epoch: -1,
            current_txn_first_offset: None,
        }
    }

    fn batches(&self) -> &[BatchMetadata] {
        self.window.get(..self.held).unwrap_or_default()
    }

    fn push(&mut self, batch: BatchMetadata) {
        if self.held == WINDOW {
            self.cut = false;
            self.window.rotate_left(1);
        } else {
            self.held += 1;
        }
        if let Some(slot) = self.window.get_mut(self.held - 1) {
            *slot = batch;
        }
    }

    fn bump_epoch(&mut self, epoch: i16) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.held = 0;
            self.cut = false;
        }
    }
}

/// What compaction must leave of a producer, so that its state can be read from the log again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastRecord {
    /// Where its last batch of records ends; `None` if only a marker is known of it.
    pub(crate) last_data_offset: Option<Offset>,
    /// Where the last ends that the power cannot take back. Without it, a batch that is sent again
    /// after a loss of power would be new.
    pub(crate) last_synced_offset: Option<Offset>,
    pub(crate) epoch: ProducerEpoch,
}

/// What a snapshot has kept of a producer's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutWindow {
    pub(crate) epoch: ProducerEpoch,
    /// Where the oldest batch begins that is known.
    pub(crate) known_from: Offset,
    /// How many more there is room for.
    pub(crate) missing: usize,
}

/// All producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProducerStates {
    producers: BTreeMap<i64, ProducerStateEntry>,
    /// First offset of each open transaction, and whose it is.
    ongoing: BTreeMap<i64, i64>,
    /// First and last offset of transactions that ended above the high watermark.
    unreplicated: BTreeMap<i64, i64>,
}

impl ProducerStates {
    /// Whether nothing is known of any producer.
    pub(crate) fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Whether `batch`, which is `marker` if it ends a transaction, may be appended. Sequence
    /// numbers are checked for clients only.
    pub(crate) fn check(
        &self,
        batch: &BatchHeader,
        marker: Option<EndTransactionMarker>,
        origin: AppendOrigin,
    ) -> Result<Checked, ProducerStateError> {
        if !batch.has_producer() {
            return Ok(Checked::Next);
        }
        let Some(entry) = self.producers.get(&batch.producer_id.0) else {
            // KIP-360: nothing is known of it any more, so any sequence may follow.
            return check_transaction(None, batch, origin).map(|()| Checked::Next);
        };
        let from_client = origin == AppendOrigin::Client;
        if from_client
            && batch.producer_epoch.0 == entry.epoch
            && let Some(found) = find_duplicate(entry, batch)
        {
            return Ok(Checked::Duplicate(found));
        }
        if batch.producer_epoch.0 < entry.epoch {
            return Err(ProducerStateError::InvalidProducerEpoch {
                producer: batch.producer_id,
                epoch: batch.producer_epoch,
                current: ProducerEpoch(entry.epoch),
            });
        }
        if let Some(marker) = marker {
            return check_marker(entry, batch, marker).map(|()| Checked::Next);
        }
        if from_client && !batch.is_control() {
            check_sequence(entry, batch)?;
        }
        check_transaction(Some(entry), batch, origin).map(|()| Checked::Next)
    }

    /// Takes note of a batch of records that was appended.
    pub(crate) fn appended(&mut self, batch: &BatchHeader) {
        if !batch.has_producer() || batch.is_control() {
            return;
        }
        let entry = self
            .producers
            .entry(batch.producer_id.0)
            .or_insert_with(|| ProducerStateEntry::new(batch.producer_epoch.0));
        entry.bump_epoch(batch.producer_epoch.0);
        entry.push(BatchMetadata::of(batch));
        entry.last_timestamp = batch.max_timestamp.0;
        if batch.is_transactional() && entry.current_txn_first_offset.is_none() {
            entry.current_txn_first_offset = Some(batch.base_offset.0);
            self.ongoing.insert(batch.base_offset.0, batch.producer_id.0);
        }
    }

    /// Takes note of a control batch that ended a transaction; the entry for the transaction
    /// index if it aborted one.
    pub(crate) fn transaction_ended(
        &mut self,
        batch: &BatchHeader,
        marker: EndTransactionMarker,
    ) -> Option<AbortedTxn> {
        if !batch.has_producer() {
            return None;
        }
        let entry = self
            .producers
            .entry(batch.producer_id.0)
            .or_insert_with(|| ProducerStateEntry::new(batch.producer_epoch.0));
        entry.bump_epoch(batch.producer_epoch.0);
        entry.coordinator_epoch = marker.coordinator_epoch;
        entry.last_timestamp = batch.max_timestamp.0;
        // A marker that finds no open transaction ends none.
        let first = entry.current_txn_first_offset.take()?;
        self.ongoing.remove(&first);
        self.unreplicated.insert(first, batch.last_offset().0);
        marker.aborted.then(|| AbortedTxn {
            producer_id: batch.producer_id,
            first_offset: Offset(first),
            last_offset: batch.last_offset(),
            last_stable_offset: self.oldest_open_transaction().unwrap_or(batch.next_offset()),
        })
    }

    fn oldest_open_transaction(&self) -> Option<Offset> {
        self.ongoing.first_key_value().map(|(first, _)| Offset(*first))
    }

    /// The last batch of each producer, and the last of those that end before `synced_end`.
    pub(crate) fn last_records(&self, synced_end: Offset) -> BTreeMap<i64, LastRecord> {
        let last = |entry: &ProducerStateEntry| {
            let mut ends = entry.batches().iter().rev().map(|batch| Offset(batch.last_offset));
            LastRecord {
                last_data_offset: ends.clone().next(),
                last_synced_offset: ends.find(|end| *end < synced_end),
                epoch: ProducerEpoch(entry.epoch),
            }
        };
        self.producers.iter().map(|(id, entry)| (*id, last(entry))).collect()
    }

    /// Transactions that ended below `high_watermark` hold nobody back any more.
    pub(crate) fn high_watermark_moved(&mut self, high_watermark: Offset) {
        self.unreplicated.retain(|_, last| *last >= high_watermark.0);
    }

    /// The window of a producer, if it may be larger than what is known.
    pub(crate) fn cut_window(&self, producer: ProducerId) -> Option<CutWindow> {
        let entry = self.producers.get(&producer.0).filter(|entry| entry.cut)?;
        let known_from = entry.batches().first()?.appended().first_offset;
        let missing = WINDOW - entry.held;
        Some(CutWindow { epoch: ProducerEpoch(entry.epoch), known_from, missing })
    }

    /// Puts `earlier` batches, oldest first, in front of those known of a producer. There are no
    /// more.
    pub(crate) fn recall<'a>(
        &mut self,
        producer: ProducerId,
        earlier: impl Iterator<Item = &'a BatchHeader>,
    ) {
        let Some(entry) = self.producers.get_mut(&producer.0) else { return };
        let (known, held) = (entry.window, entry.held);
        entry.held = 0;
        for batch in earlier {
            entry.push(BatchMetadata::of(batch));
        }
        for batch in known.into_iter().take(held) {
            entry.push(batch);
        }
        entry.cut = false;
    }

    /// The first offset that a `read_committed` consumer must not pass.
    pub(crate) fn first_unstable_offset(&self) -> Option<Offset> {
        let unreplicated = self.unreplicated.first_key_value().map(|(first, _)| Offset(*first));
        self.oldest_open_transaction().into_iter().chain(unreplicated).min()
    }

    /// Forgets producers that were silent for `expiration`, unless a transaction is open.
    pub(crate) fn expire(&mut self, now: Timestamp, expiration: Duration) {
        let oldest =
            now.0.saturating_sub(i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX));
        self.producers.retain(|_, entry| {
            entry.current_txn_first_offset.is_some() || entry.last_timestamp > oldest
        });
    }
}

fn find_duplicate(entry: &ProducerStateEntry, batch: &BatchHeader) -> Option<AppendedBatch> {
    let same = |held: &&BatchMetadata| {
        held.first_sequence() == batch.base_sequence && held.last_sequence == batch.last_sequence()
    };
    entry.batches().iter().find(same).map(BatchMetadata::appended)
}

/// While a transaction is open only its batches may follow (KIP-98). A client cannot begin one by
/// writing: its coordinator has to vouch for it first (KIP-890), and none is served yet. Nobody
/// would ever end it, and `read_committed` consumers would wait forever.
fn check_transaction(
    entry: Option<&ProducerStateEntry>,
    batch: &BatchHeader,
    origin: AppendOrigin,
) -> Result<(), ProducerStateError> {
    let open = entry.filter(|entry| entry.current_txn_first_offset.is_some());
    // One that an earlier epoch left open has to be ended before the next begins.
    let takes = open.is_some_and(|entry| entry.epoch == batch.producer_epoch.0);
    let begins = !takes && batch.is_transactional() && origin == AppendOrigin::Client;
    match begins || (open.is_some() && !batch.is_transactional()) {
        true => Err(ProducerStateError::InvalidTxnState { producer: batch.producer_id }),
        false => Ok(()),
    }
}

/// A coordinator that was replaced must not end a transaction (KIP-98).
fn check_marker(
    entry: &ProducerStateEntry,
    batch: &BatchHeader,
    marker: EndTransactionMarker,
) -> Result<(), ProducerStateError> {
    let (epoch, current) = (marker.coordinator_epoch, entry.coordinator_epoch);
    if epoch >= current {
        return Ok(());
    }
    let producer = batch.producer_id;
    Err(ProducerStateError::TransactionCoordinatorFenced { producer, epoch, current })
}

fn check_sequence(
    entry: &ProducerStateEntry,
    batch: &BatchHeader,
) -> Result<(), ProducerStateError> {
    let expected = if batch.producer_epoch.0 != entry.epoch {
        0
    } else if let Some(last) = entry.batches().last() {
        increment_sequence(last.last_sequence, 1)
    } else {
        // Only a transaction marker is known of this epoch: a new session begins at 0.
        0
    };
    if batch.base_sequence == expected {
        return Ok(());
    }
    Err(ProducerStateError::OutOfOrderSequence {
        producer: batch.producer_id,
        epoch: batch.producer_epoch,
        sequence: batch.base_sequence,
        expected,
    })
}

#[cfg(test)]
mod tests;
