//! Replays the producers of a log while its batches go by, and holds the snapshots and the
//! transaction indexes against them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ottla_env::Disk;
use ottla_protocol::Offset;

use super::batch_stream::BatchAt;
use super::entries::{Entries, TransactionEntry};
use super::finding::{Finding, Problem};
use super::segment::Reached;
use crate::batch_header::BatchHeader;
use crate::log::note_producer;
use crate::producer_state::{ProducerStates, SnapshotEntry, snapshot_entries};
use crate::transaction_index::AbortedTxn;

/// The producers up to a batch, and what is still to be compared with them.
pub(super) struct ProducerCheck<'a> {
    disk: &'a dyn Disk,
    states: ProducerStates,
    /// Everything that happened before is known: the log begins at its beginning, or a snapshot
    /// tells.
    complete: bool,
    compacted: bool,
    snapshots: BTreeMap<Offset, PathBuf>,
    transactions: Option<TransactionIndexCheck>,
    pub(super) findings: Vec<Finding>,
}

/// The transaction index of the segment that is being read.
struct TransactionIndexCheck {
    path: PathBuf,
    /// `None` if there is no file.
    entries: Option<Entries<TransactionEntry>>,
    base_offset: Offset,
}

impl<'a> ProducerCheck<'a> {
    /// For a log from `first_offset` on, with the snapshots `snapshots`.
    pub(super) fn new(
        disk: &'a dyn Disk,
        first_offset: Offset,
        compacted: bool,
        snapshots: &BTreeMap<Offset, PathBuf>,
    ) -> io::Result<Self> {
        let mut check = Self {
            disk,
            states: ProducerStates::default(),
            complete: first_offset.0 == 0,
            compacted,
            snapshots: snapshots.clone(),
            transactions: None,
            findings: Vec::new(),
        };
        if let Some(path) = snapshots.get(&first_offset)
            && let Ok(states) = ProducerStates::from_snapshot(&disk.read(path)?)
        {
            (check.states, check.complete) = (states, true);
        }
        Ok(check)
    }

    /// A segment begins, whose transaction index would be at `path`.
    pub(super) fn begin_segment(&mut self, path: &Path, base_offset: Offset) -> io::Result<()> {
        let entries = match self.disk.exists(path) {
            true => Some(Entries::open(self.disk, path, base_offset)?),
            false => None,
        };
        self.transactions =
            Some(TransactionIndexCheck { path: path.to_owned(), entries, base_offset });
        Ok(())
    }

    /// A batch goes by. Behind damage nothing can be said any more.
    pub(super) fn batch(&mut self, at: &BatchAt<'_>, reached: &Reached) -> io::Result<()> {
        if let Some(cut) = &reached.cut {
            self.transactions = None;
            return self.compare_snapshots(cut.offset);
        }
        self.compacted = reached.compacted;
        let header = BatchHeader::of(&at.batch);
        self.compare_snapshots(header.base_offset)?;
        if !header.has_producer() {
            return Ok(());
        }
        match note_producer(&mut self.states, &header, at.batch.as_bytes()) {
            Some(aborted) => self.expect(aborted),
            None => Ok(()),
        }
    }

    /// The segment is at its end.
    pub(super) fn end_segment(&mut self, reached: &Reached) -> io::Result<()> {
        let (end, damaged) = (reached.due, reached.cut.is_some());
        let Some(mut check) = self.transactions.take().filter(|_| !damaged) else { return Ok(()) };
        let Some(entries) = &mut check.entries else { return Ok(()) };
        let rest = entries.rest();
        let mut last = check.base_offset;
        while let Some(next) = entries.next()? {
            let AbortedTxn { first_offset, last_offset, .. } = next.entry.aborted;
            let within = last_offset >= last && last_offset < end && first_offset <= last_offset;
            // What began before the log does, or was compacted away, the batches do not tell.
            if !within || (self.complete && !self.compacted) {
                let reason = format!("no marker aborts offsets {first_offset} to {last_offset}");
                self.found(&check.path, Some(next.position), Problem::TransactionIndex, reason);
                return Ok(());
            }
            last = last_offset;
        }
        if rest > 0 {
            let reason = format!("the file ends with {rest} bytes of an entry");
            self.found(&check.path, None, Problem::TransactionIndex, reason);
        }
        Ok(())
    }

    /// The log is at its end.
    pub(super) fn finish(&mut self, reached: &Reached) -> io::Result<()> {
        let log_end = reached.cut.as_ref().map_or(reached.due, |cut| cut.offset);
        self.compare_snapshots(log_end)?;
        if reached.cut.is_some() {
            self.snapshots.clear();
        }
        for (offset, path) in std::mem::take(&mut self.snapshots) {
            let reason = format!("of offset {offset}, but the log ends at {log_end}");
            self.found(&path, None, Problem::ProducerSnapshot, reason);
        }
        Ok(())
    }

    /// The next entry of the index must be about `aborted`.
    fn expect(&mut self, aborted: AbortedTxn) -> io::Result<()> {
        let Some(check) = &mut self.transactions else { return Ok(()) };
        let path = check.path.clone();
        let what = format!(
            "producer {} aborted offsets {} to {}",
            aborted.producer_id, aborted.first_offset, aborted.last_offset
        );
        let Some(entries) = &mut check.entries else {
            self.transactions = None;
            let reason = format!("the file is missing: {what}");
            self.found(&path, None, Problem::TransactionIndex, reason);
            return Ok(());
        };
        while let Some(next) = entries.next()? {
            let TransactionEntry { version, aborted: written } = next.entry;
            if written.last_offset < aborted.last_offset && (self.compacted || !self.complete) {
                continue;
            }
            let known = self.complete && !self.compacted;
            let same = written == AbortedTxn { ..aborted }
                || !known
                    && (written.producer_id, written.last_offset)
                        == (aborted.producer_id, aborted.last_offset);
            if version < 0 || !same {
                self.transactions = None;
                let reason = format!("{written:?} where {what}");
                self.found(&path, Some(next.position), Problem::TransactionIndex, reason);
            }
            return Ok(());
        }
        self.transactions = None;
        self.found(&path, None, Problem::TransactionIndex, format!("it lacks that {what}"));
        Ok(())
    }

    /// Compares the snapshots that were taken at `offset` or before.
    fn compare_snapshots(&mut self, offset: Offset) -> io::Result<()> {
        while let Some(first) = self.snapshots.first_entry().filter(|it| *it.key() <= offset) {
            let path = first.remove();
            let wrong = match snapshot_entries(&self.disk.read(&path)?) {
                Ok(written) => self.misremembered(written),
                Err(error) => Some(error.to_string()),
            };
            if let Some(reason) = wrong {
                self.found(&path, None, Problem::ProducerSnapshot, reason);
            }
        }
        Ok(())
    }

    /// What a snapshot says that is not so. That it does not know a producer is no mistake: it may
    /// have expired.
    fn misremembered(&self, written: impl Iterator<Item = SnapshotEntry>) -> Option<String> {
        if self.compacted {
            return None;
        }
        let own = self.states.to_snapshot();
        let known: BTreeMap<_, _> =
            snapshot_entries(&own).ok()?.map(|entry| (entry.producer_id, entry)).collect();
        let mut written = written;
        written.find_map(|written| {
            let id = written.producer_id;
            let Some(known) = known.get(&id) else {
                return self.complete.then(|| format!("producer {id} wrote nothing before it"));
            };
            let of = |entry: &SnapshotEntry| {
                let open = entry.current_txn_first_offset.filter(|_| self.complete);
                (entry.epoch, entry.last_sequence, entry.last_offset, entry.offset_delta, open)
            };
            (of(&written) != of(known)).then(|| {
                format!(
                    "producer {id} stands at epoch {}, sequence {}, offset {}, and in the log at \
                     epoch {}, sequence {}, offset {}",
                    written.epoch,
                    written.last_sequence,
                    written.last_offset,
                    known.epoch,
                    known.last_sequence,
                    known.last_offset,
                )
            })
        })
    }

    fn found(&mut self, path: &Path, position: Option<u64>, problem: Problem, reason: String) {
        self.findings.push(Finding { path: path.to_owned(), position, problem, reason });
    }
}
