//! The batches of a producer that its snapshot has no room for.
//!
//! A snapshot holds the last batch of each producer, a window five. After a restart a client may
//! send again all that it had in flight: it has to be told the offsets these batches have, and not
//! that they are out of order. So they are looked for in the log, once for each producer, when the
//! first of them comes.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use ottla_protocol::ProducerId;

use super::{Log, Writer};
use crate::append::AppendError;
use crate::batch_header::BatchHeader;
use crate::batch_scanner::HeaderScanner;
use crate::log_reader::floor_segment;
use crate::log_segment::LogSegment;
use crate::open_files::Wait;
use crate::producer_state::CutWindow;
use crate::recovery::skip_invalid;

/// How many bytes of the log are looked through. What was in flight at once lies closer together.
const LOOK_BACK: u64 = 16 << 20;

impl Log {
    /// Fills the window of `producer`; `false` if it was as large as it gets. Where batches are
    /// rotten nobody knows what it sent before: who takes a batch for a new one might have it twice.
    pub(super) fn recall_window(
        &self,
        writer: &mut Writer,
        producer: ProducerId,
    ) -> Result<bool, AppendError> {
        let Some(window) = writer.producers.cut_window(producer) else { return Ok(false) };
        let earlier = skip_invalid(self.earlier_batches(producer, window))
            .map_err(|error| self.dir.failed("looking for a producer's batches", &error))?
            .ok_or_else(|| self.lost_batches(producer))?;
        writer.producers.recall(producer, earlier.iter());
        Ok(!earlier.is_empty())
    }

    fn lost_batches(&self, producer: ProducerId) -> AppendError {
        let why = format!(
            "what producer {producer} has in {} is rotten in part: move the leader elsewhere, and \
             have this replica fetched anew",
            self.partition
        );
        tracing::error!("{why}");
        AppendError::CorruptMessage(why)
    }

    /// The batches that come before what is known, as many as there is room for, oldest first.
    fn earlier_batches(
        &self,
        producer: ProducerId,
        window: CutWindow,
    ) -> io::Result<VecDeque<BatchHeader>> {
        let segments = self.segments.load();
        let mut found = VecDeque::new();
        let mut left = LOOK_BACK;
        let last = floor_segment(&segments, window.known_from);
        for segment in segments.get(..=last).unwrap_or_default().iter().rev() {
            let end =
                segment.position_of_bound(window.known_from, segment.size(), Wait::ForDisk)?;
            let from = segment.batch_start(end.saturating_sub(left))?;
            let here = batches_of(segment, from..end, producer);
            for batch in here?.into_iter().rev() {
                if batch.producer_epoch != window.epoch || found.len() == window.missing {
                    return Ok(found);
                }
                found.push_front(batch);
            }
            left = left.saturating_sub(end - from);
            if left == 0 {
                break;
            }
        }
        Ok(found)
    }
}

/// The producer's batches of records in a part of a segment.
fn batches_of(
    segment: &LogSegment,
    part: Range<u64>,
    producer: ProducerId,
) -> io::Result<Vec<BatchHeader>> {
    let file = segment.file()?;
    let mut scanner = HeaderScanner::new(&*file, part.start, part.end);
    let mut found = Vec::new();
    while let Some(batch) = scanner.next_batch()? {
        if batch.header.producer_id == producer && !batch.header.is_control() {
            found.push(batch.header);
        }
    }
    Ok(found)
}
