//! Indexes that somebody removed or cut while they were in use, or that do not fit. What they knew
//! is in the batches: those are scanned until the next sync has made the indexes anew.

use std::fmt::Display;
use std::io;
use std::sync::atomic::Ordering;

use ottla_protocol::Timestamp;

use super::LogSegment;
use crate::batch_header::BatchHeader;
use crate::batch_scanner::HeaderScanner;
use crate::offset_index::OffsetPosition;
use crate::recovery::skip_invalid;
use crate::time_index::TimestampOffset;

/// Bytes between the entries of an index that is made anew: Kafka's default of
/// `index.interval.bytes`.
const INDEX_INTERVAL: u64 = 4096;

/// What is wrong with an index whose entries lead nowhere.
pub(super) const MISFIT: &str = "the index does not fit the segment";

impl LogSegment {
    /// Whether a read of an index failed because somebody removed or cut its file.
    pub(super) fn is_index_lost(&self, error: &io::Error) -> bool {
        let lost = matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
        );
        // A segment that was deleted or replaced takes its indexes with it.
        let lost = lost && !self.log.is_retired();
        if lost {
            self.lose_indexes(error);
        }
        lost
    }

    pub(super) fn lose_indexes(&self, why: &dyn Display) {
        if !self.indexes_lost.swap(true, Ordering::AcqRel) {
            let segment = self.path().display();
            tracing::warn!(%segment, %why, "making the indexes anew from the batches");
        }
    }

    /// Makes the indexes anew. Not while somebody appends.
    pub(super) fn rebuild_indexes(&self) -> io::Result<()> {
        let (offset_index, time_index) = (self.offset_index.anew(), self.time_index.anew());
        let file = self.file()?;
        let mut scanner = HeaderScanner::new(&*file, 0, self.size()).not_before(self.base_offset);
        let (mut since, mut largest) = (0, None);
        // What follows damage is not indexed: no reader gets there.
        while let Some(Some(batch)) = skip_invalid(scanner.next_batch())? {
            largest = larger(largest, &batch.header);
            if since > INDEX_INTERVAL {
                let (offset, position) = (batch.header.last_offset(), batch.position);
                offset_index.append(OffsetPosition { offset, position });
                largest.into_iter().for_each(|largest| time_index.maybe_append(largest));
                since = 0;
            }
            since += batch.size;
        }
        largest.into_iter().for_each(|largest| time_index.maybe_append(largest));
        self.offset_index.entries().replace_by(offset_index.entries());
        self.time_index.entries().replace_by(time_index.entries());
        self.indexes_lost.store(false, Ordering::Release);
        Ok(())
    }

    /// The largest timestamp, and the end of its batch, by the batches.
    pub(super) fn find_largest(&self) -> io::Result<Option<TimestampOffset>> {
        let file = self.file()?;
        let mut scanner = HeaderScanner::new(&*file, 0, self.size()).not_before(self.base_offset);
        let mut largest = None;
        while let Some(batch) = scanner.next_batch()? {
            largest = larger(largest, &batch.header);
        }
        Ok(largest)
    }
}

/// The later of `largest` and a batch's largest timestamp, if it has one.
fn larger(largest: Option<TimestampOffset>, batch: &BatchHeader) -> Option<TimestampOffset> {
    let (timestamp, offset) = (batch.max_timestamp, batch.last_offset());
    let known = largest.map_or(Timestamp::NONE, |largest| largest.timestamp);
    if timestamp > known { Some(TimestampOffset { timestamp, offset }) } else { largest }
}
