//! Finding offsets by time and by leader epoch.

use std::io;

use ottla_protocol::record_batch::{RecordBatch, RecordError};
use ottla_protocol::{LeaderEpoch, Offset, Timestamp};

use super::{Log, ReadError};
use crate::batch_scanner::{FoundBatch, HeaderScanner, corrupt, read_exact};
use crate::leader_epoch_cache::EpochEndOffset;
use crate::log_reader::LogReader;
use crate::log_segment::LogSegment;
use crate::open_files::Wait;

/// A record found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampAndOffset {
    /// The record's timestamp.
    pub timestamp: Timestamp,
    /// Its offset.
    pub offset: Offset,
    /// The epoch of the leader that wrote it.
    pub leader_epoch: LeaderEpoch,
}

impl Log {
    /// The first record, in order of offsets, with a timestamp at or after `target` (KIP-79).
    /// `None` if there is none. The caller compares with the high watermark.
    pub fn offset_for_timestamp(
        &self,
        target: Timestamp,
    ) -> Result<Option<TimestampAndOffset>, ReadError> {
        self.looking("searching a segment", |reader| self.find_timestamp(reader, target))
    }

    /// The first record that has the largest timestamp of all (KIP-734); `None` if the log is
    /// empty or none has a timestamp.
    pub fn max_timestamp(&self) -> Result<Option<TimestampAndOffset>, ReadError> {
        self.looking("searching a segment", |reader| {
            let mut largest = Timestamp::NONE;
            for (segment, size) in reader.segments() {
                let mut of_segment = segment.largest_timestamp()?;
                if segment.base_offset() < reader.log_start() && of_segment > largest {
                    // That may be the time of a record before the start of the log.
                    of_segment = self.largest_from(segment, reader.log_start(), size)?;
                }
                largest = largest.max(of_segment);
            }
            match largest {
                Timestamp::NONE => Ok(None),
                largest => self.find_timestamp(reader, largest),
            }
        })
    }

    /// The largest timestamp of the records of `segment` from `start` on.
    fn largest_from(
        &self,
        segment: &LogSegment,
        start: Offset,
        limit: u64,
    ) -> io::Result<Timestamp> {
        let Some(first) = segment.find_offset(start, limit, Wait::ForDisk)? else {
            return Ok(Timestamp::NONE);
        };
        let mut largest = Timestamp::NONE;
        self.visit_timestamps(segment, &first, |timestamp, offset| {
            if offset >= start {
                largest = largest.max(timestamp);
            }
        })?;
        let file = segment.file()?;
        let mut scanner = HeaderScanner::new(&*file, first.end(), limit);
        while let Some(batch) = scanner.next_batch()? {
            largest = largest.max(batch.header.max_timestamp);
        }
        Ok(largest)
    }

    /// Where `epoch` ended (KIP-101, KIP-279, KIP-320); `None` if it is newer than all known
    /// ones, or nothing is known.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<EpochEndOffset> {
        let writer = self.writer.lock();
        writer.epochs.end_offset_for(epoch, self.log_end_offset())
    }

    /// The newest leader epoch that has an entry here.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.writer.lock().epochs.latest()
    }

    /// The leader epoch of the record at `offset`.
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.writer.lock().epochs.epoch_for(offset)
    }

    fn find_timestamp(
        &self,
        reader: &LogReader,
        target: Timestamp,
    ) -> io::Result<Option<TimestampAndOffset>> {
        let start = reader.log_start();
        for (segment, size) in reader.segments() {
            if segment.largest_timestamp()? < target {
                continue;
            }
            let mut from = start;
            while let Some(batch) = segment.find_timestamp(target, from, size)? {
                if let Some(found) = self.find_in_batch(segment, &batch, target, start)? {
                    return Ok(Some(found));
                }
                // Its late record lies before the start of the log.
                from = batch.header.next_offset();
            }
        }
        Ok(None)
    }

    /// The first record of `batch` at or after `target` and `start`.
    fn find_in_batch(
        &self,
        segment: &LogSegment,
        found: &FoundBatch,
        target: Timestamp,
        start: Offset,
    ) -> io::Result<Option<TimestampAndOffset>> {
        // Also where all have the broker's time: compaction may have taken the first.
        let leader_epoch = found.header.leader_epoch;
        let mut first = None;
        self.visit_timestamps(segment, found, |timestamp, offset| {
            if first.is_none() && timestamp >= target && offset >= start {
                first = Some(TimestampAndOffset { timestamp, offset, leader_epoch });
            }
        })?;
        Ok(first)
    }

    /// Timestamp and offset of each record of a batch.
    fn visit_timestamps(
        &self,
        segment: &LogSegment,
        found: &FoundBatch,
        mut visit: impl FnMut(Timestamp, Offset),
    ) -> io::Result<()> {
        let size = usize::try_from(found.size).map_err(|_| corrupt())?;
        let bytes = read_exact(&*segment.file()?, found.position, size)?;
        let batch = RecordBatch::parse(&bytes).map_err(|_| corrupt())?;
        batch
            .visit_records(self.dir.decompressor().get(), usize::MAX, |record| {
                visit(batch.timestamp_of(&record), batch.offset_of(&record));
                Ok::<_, RecordError>(())
            })
            .map_err(|_| corrupt())
    }
}
