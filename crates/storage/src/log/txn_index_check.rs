//! Whether a transaction index is about what the log holds: its file has no checksum.

use std::io;
use std::sync::Arc;

use ottla_protocol::{Offset, ProducerId};

use crate::batch_header::BatchHeader;
use crate::log_reader::floor_segment;
use crate::log_segment::LogSegment;
use crate::open_files::Wait;
use crate::recovery::skip_invalid;
use crate::transaction_index::AbortedTxn;

/// Compares each entry of a segment's index with the batches that it names; those of transactions
/// that began earlier lie in the segments `before`. An entry that does not fit is
/// [`io::ErrorKind::InvalidData`]. Where batches are damaged nothing is known, and the entry stays.
pub(super) fn compare(
    segment: &Arc<LogSegment>,
    before: &[Arc<LogSegment>],
    is_compacted: bool,
) -> io::Result<()> {
    let log = Batches { segment, before, is_compacted };
    for entry in segment.txn_index().entries() {
        if !log.confirm(&entry?)? {
            let message = "transaction index: an entry does not fit the log";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    }
    Ok(())
}

struct Batches<'a> {
    segment: &'a Arc<LogSegment>,
    before: &'a [Arc<LogSegment>],
    /// Records may be gone that an entry is about.
    is_compacted: bool,
}

impl Batches<'_> {
    fn confirm(&self, entry: &AbortedTxn) -> io::Result<bool> {
        let (marker, stable) = (entry.last_offset, entry.last_stable_offset);
        let ended = self.has(marker, |batch| {
            batch.is_control()
                && batch.producer_id == entry.producer_id
                && batch.last_offset() == marker
        })?;
        // The last stable offset is where another transaction is still open, or after the marker.
        let stable_fits =
            stable == marker.next() || (stable < marker && self.begins(stable, None)?);
        Ok(ended && stable_fits && self.begins(entry.first_offset, Some(entry.producer_id))?)
    }

    /// Whether a transaction may have begun at `offset`.
    fn begins(&self, offset: Offset, producer: Option<ProducerId>) -> io::Result<bool> {
        self.has(offset, |batch| {
            batch.is_transactional()
                && !batch.is_control()
                && producer.is_none_or(|producer| batch.producer_id == producer)
        })
    }

    /// Whether a batch begins at `offset` that is as wanted, or nobody can tell.
    fn has(&self, offset: Offset, wanted: impl Fn(&BatchHeader) -> bool) -> io::Result<bool> {
        let segment = match self.before {
            _ if offset >= self.segment.base_offset() => self.segment,
            [first, ..] if offset >= first.base_offset() => {
                match self.before.get(floor_segment(self.before, offset)) {
                    Some(segment) => segment,
                    None => return Ok(true),
                }
            }
            // Deleted since.
            _ => return Ok(true),
        };
        let found = segment.find_offset(offset, segment.size(), Wait::ForDisk);
        Ok(match skip_invalid(found)? {
            None => true,
            Some(Some(batch)) if batch.header.base_offset <= offset => {
                batch.header.base_offset == offset && wanted(&batch.header)
            }
            Some(_) => self.is_compacted,
        })
    }
}
