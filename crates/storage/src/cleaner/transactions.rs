//! What a cleaner knows of transactions while it goes through a log. Kafka's
//! `CleanedTransactionMetadata`.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::record_batch::{ControlRecordType, RecordBatch};

use crate::transaction_index::AbortedTxn;

/// Open transactions, from the first batch a cleaner saw on.
#[derive(Default)]
pub(super) struct CleanedTransactions {
    /// Aborted transactions that begin further on, by first offset and producer.
    ahead: BTreeMap<(i64, i64), AbortedTxn>,
    /// Aborted transactions by producer, and whether batches of them are left.
    aborted: BTreeMap<i64, (AbortedTxn, bool)>,
    /// Producers whose transaction was not aborted, and has batches left.
    committed: BTreeSet<i64>,
    /// Aborted transactions whose markers have to stay, in order of their markers.
    still_aborted: Vec<AbortedTxn>,
}

impl CleanedTransactions {
    /// Takes note of what the transaction indexes say of the batches that come next.
    pub(super) fn add_aborted(&mut self, aborted: impl IntoIterator<Item = AbortedTxn>) {
        let by_start = |txn: AbortedTxn| ((txn.first_offset.0, txn.producer_id.0), txn);
        self.ahead.extend(aborted.into_iter().map(by_start));
    }

    /// Takes note of a batch; whether its records are of no use: those of an aborted transaction,
    /// or a marker of which all batches are gone.
    pub(super) fn read(&mut self, batch: &RecordBatch<'_>) -> bool {
        self.pass(batch.last_offset().0);
        let producer = batch.producer_id().0;
        if batch.is_control() {
            return self.read_marker(batch, producer);
        }
        if !batch.is_transactional() {
            return false;
        }
        if let Some((_, has_batches)) = self.aborted.get_mut(&producer) {
            *has_batches = true;
            return true;
        }
        self.committed.insert(producer);
        false
    }

    /// The entries for the transaction index of the cleaned segment, since this was last asked.
    pub(super) fn take_still_aborted(&mut self) -> Vec<AbortedTxn> {
        std::mem::take(&mut self.still_aborted)
    }

    /// Opens the aborted transactions that begin up to `offset`.
    fn pass(&mut self, offset: i64) {
        while let Some(entry) = self.ahead.first_entry() {
            if entry.key().0 > offset {
                break;
            }
            let txn = entry.remove();
            let known = self.aborted.get(&txn.producer_id.0);
            // One that spans segments is heard of more than once.
            if known.is_none_or(|(known, _)| known.first_offset != txn.first_offset) {
                self.aborted.insert(txn.producer_id.0, (txn, false));
            }
        }
    }

    fn read_marker(&mut self, batch: &RecordBatch<'_>, producer: i64) -> bool {
        match control_type(batch) {
            // A marker that was emptied before, and stayed only as its producer's last batch.
            None => batch.records_count() == 0,
            Some(ControlRecordType::Abort) => match self.aborted.remove(&producer) {
                Some((txn, true)) => {
                    self.still_aborted.push(txn);
                    false
                }
                Some((_, false)) | None => true,
            },
            Some(ControlRecordType::Commit) => !self.committed.remove(&producer),
            Some(
                ControlRecordType::LeaderChange
                | ControlRecordType::SnapshotHeader
                | ControlRecordType::SnapshotFooter
                | ControlRecordType::KraftVersion
                | ControlRecordType::KraftVoters,
            ) => false,
        }
    }
}

fn control_type(batch: &RecordBatch<'_>) -> Option<ControlRecordType> {
    let record = batch.records().ok()?.next()?.ok()?;
    ControlRecordType::from_key(record.key?)
}
