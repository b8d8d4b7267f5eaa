//! The producers of a log from its snapshots and batches, and on the way the transaction indexes
//! that have to be made anew.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_env::is_out_of_space;
use ottla_protocol::Offset;

use super::append::note_producer;
use crate::batch_scanner::{HeaderScanner, read_exact};
use crate::log_dir::LogDir;
use crate::log_segment::LogSegment;
use crate::open_files::Wait;
use crate::producer_state::ProducerStates;
use crate::recovery::skip_invalid;
use crate::transaction_index::AbortedTxn;

/// A log whose producers are wanted.
pub(super) struct ProducerRecovery<'a> {
    pub(super) dir: &'a LogDir,
    pub(super) segments: &'a [Arc<LogSegment>],
    pub(super) log_end: Offset,
    /// Base offsets of the segments whose transaction index cannot be trusted, and from which
    /// offset on.
    pub(super) outdated_txn_indexes: BTreeMap<Offset, Offset>,
}

impl ProducerRecovery<'_> {
    /// The producers at the log's end: a usable snapshot, and the batches after it. An index that
    /// is made anew has to know which transactions were open where its segment begins, so the
    /// snapshot is one that is as old as that.
    pub(super) fn run(&self, snapshots: BTreeMap<Offset, PathBuf>) -> io::Result<ProducerStates> {
        for (segment, from) in self.outdated() {
            segment.txn_index().keep_before(from)?;
        }
        let from = self.outdated_txn_indexes.values().min().map_or(self.log_end, |first| *first);
        let (mut producers, from) = self.newest_usable(snapshots, from.min(self.log_end))?;
        let mut aborted: BTreeMap<Offset, Vec<AbortedTxn>> = BTreeMap::new();
        for (index, segment) in self.segments.iter().enumerate() {
            let next = self.segments.get(index + 1);
            let ends_before = next.is_some_and(|next| next.base_offset() <= from);
            if ends_before || segment.size() == 0 || from >= self.log_end {
                continue;
            }
            let found = aborted.entry(segment.base_offset()).or_default();
            if skip_invalid(self.replay(segment, from, &mut producers, found))?.is_none() {
                // A reader of the damaged batch is told so; the rest of the log is still good.
                tracing::warn!(segment = %segment.path().display(), "a batch is damaged");
            }
        }
        // The recovery point may lie beyond them: no later flush would look at them.
        for (segment, _) in self.outdated() {
            let found = aborted.remove(&segment.base_offset()).unwrap_or_default();
            match segment.txn_index().make_anew(self.dir.disk(), &found) {
                Err(error) if is_out_of_space(&error) => {
                    self.dir.failed("making a transaction index anew", &error);
                }
                made => made?,
            }
        }
        Ok(producers)
    }

    fn outdated(&self) -> impl Iterator<Item = (&Arc<LogSegment>, Offset)> {
        self.segments.iter().filter_map(|segment| {
            let from = self.outdated_txn_indexes.get(&segment.base_offset())?;
            Some((segment, *from))
        })
    }

    /// The newest snapshot up to `limit` that can be read, and its offset. One that is damaged is
    /// removed, and an older one does.
    fn newest_usable(
        &self,
        mut snapshots: BTreeMap<Offset, PathBuf>,
        limit: Offset,
    ) -> io::Result<(ProducerStates, Offset)> {
        snapshots.retain(|offset, _| *offset <= limit);
        while let Some((offset, file)) = snapshots.pop_last() {
            match ProducerStates::from_snapshot(&self.dir.disk().read(&file)?) {
                Ok(producers) => return Ok((producers, offset)),
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "removing an unusable snapshot");
                    self.dir.disk().remove_file(&file)?;
                }
            }
        }
        Ok((ProducerStates::default(), Offset(0)))
    }

    /// Notes the batches of a segment from `from` on, and what its transaction index lacks.
    fn replay(
        &self,
        segment: &LogSegment,
        from: Offset,
        producers: &mut ProducerStates,
        found: &mut Vec<AbortedTxn>,
    ) -> io::Result<()> {
        let size = segment.size();
        let Some(first) = segment.find_offset(from, size, Wait::ForDisk)? else { return Ok(()) };
        let outdated_from = self.outdated_txn_indexes.get(&segment.base_offset());
        let file = segment.file()?;
        let mut scanner = HeaderScanner::new(&*file, first.position, size);
        while let Some(batch) = scanner.next_batch()? {
            if !batch.header.has_producer() {
                continue;
            }
            // Only what is in a marker is needed.
            let bytes = match batch.header.is_control() {
                true => {
                    let len = usize::try_from(batch.size).unwrap_or(usize::MAX);
                    read_exact(&*file, batch.position, len)?
                }
                false => Vec::new(),
            };
            let aborted = note_producer(producers, &batch.header, &bytes);
            let outdated = outdated_from.is_some_and(|from| batch.header.base_offset >= *from);
            found.extend(aborted.filter(|_| outdated));
        }
        Ok(())
    }
}
