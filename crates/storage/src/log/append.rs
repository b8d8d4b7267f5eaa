//! Appending: the only place where offsets are given out.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use ottla_config::{LogConfig, MessageTimestampType};
use ottla_env::{OpenMode, is_out_of_space};
use ottla_protocol::record_batch::{
    ControlRecordType, HEADER_LENGTH, PREFIX_LENGTH, RecordBatch, batches,
};
use ottla_protocol::{LeaderEpoch, Offset, Timestamp};

use super::{Log, Writer};
use crate::append::{AppendError, AppendOrigin, LeaderAppend, LogAppendInfo};
use crate::batch_header::BatchHeader;
use crate::file_name::{LOG, SNAPSHOT, segment_file};
use crate::log_dir::LogDirFailure;
use crate::log_segment::LogSegment;
use crate::log_validator::{ValidRecords, ValidationRules, check_crc, validate};
use crate::producer_state::{
    AppendedBatch, Checked, EndTransactionMarker, ProducerStateError, ProducerStates,
};
use crate::transaction_index::AbortedTxn;

/// What a leader writes into each batch.
#[derive(Clone, Copy)]
struct Stamp {
    next_offset: Offset,
    leader_epoch: LeaderEpoch,
    /// Replaces the records' timestamps.
    log_append_time: Option<Timestamp>,
}

/// A batch as it goes into the file: what the leader changed, and the rest as it came.
struct StampedBatch<'a> {
    header: BatchHeader,
    head: Head,
    batch: RecordBatch<'a>,
}

/// The bytes in front of what stays.
enum Head {
    /// Offset and epoch lie outside the checksum.
    Prefix([u8; PREFIX_LENGTH]),
    /// The broker's time lies inside it.
    Header([u8; HEADER_LENGTH]),
}

impl StampedBatch<'_> {
    fn slices(&self) -> [IoSlice<'_>; 2] {
        let bytes = self.batch.as_bytes();
        match &self.head {
            Head::Prefix(prefix) => [IoSlice::new(prefix), IoSlice::new(&bytes[PREFIX_LENGTH..])],
            Head::Header(header) => [IoSlice::new(header), IoSlice::new(self.batch.payload())],
        }
    }
}

/// What an append adds, for the decision to roll.
struct Addition {
    bytes: usize,
    first_offset: Offset,
    last_offset: Offset,
    max_timestamp: Timestamp,
}

impl Log {
    /// Appends what a producer or a coordinator sent: checks it, gives it offsets and the
    /// leader's epoch, and writes it with one system call. The records themselves are not copied.
    ///
    /// A batch that an idempotent producer sends again is not written again: the answer carries
    /// the offsets it has (KIP-98).
    pub fn append_as_leader(
        &self,
        records: &Bytes,
        append: LeaderAppend,
    ) -> Result<LogAppendInfo, AppendError> {
        self.dir.check_online()?;
        let config = self.config.load();
        let LeaderAppend { leader_epoch, origin, now } = append;
        let rules = ValidationRules { config: &config, origin, now };
        let valid = validate(records, &rules, &mut self.dir.decompressor())?;
        let log_append_time = match config.message_timestamp_type {
            MessageTimestampType::CreateTime => None,
            MessageTimestampType::LogAppendTime => Some(now),
        };

        let mut writer = self.writer.lock();
        writer.active()?;
        if let Some(duplicate) = self.check_producers(&mut writer, &valid, origin)? {
            return Ok(self.duplicate_info(&config, duplicate, log_append_time));
        }
        self.take_room(valid.bytes.len(), origin)?;
        let first_offset = self.log_end_offset();
        let stamp = Stamp { next_offset: first_offset, leader_epoch, log_append_time };
        let addition = Addition {
            bytes: valid.bytes.len(),
            first_offset,
            last_offset: Offset(first_offset.0 + valid.count - 1),
            max_timestamp: valid.max_timestamp,
        };
        self.roll_if_due(&mut writer, &config, &addition, now)?;
        self.write_stamped(&mut writer, &valid.bytes, stamp, config.index_interval_bytes)?;
        Ok(self.append_info(&config, first_offset, log_append_time))
    }

    /// Appends batches that have their offsets and epochs: those of a leader, or of the metadata
    /// quorum. Offsets must not go back below the log's end; gaps are allowed, since the leader
    /// may have compacted them away. Bytes are kept as they are.
    pub fn append_as_follower(&self, records: &Bytes) -> Result<LogAppendInfo, AppendError> {
        self.dir.check_online()?;
        let config = self.config.load();
        let mut addition = None;
        for batch in batches(records) {
            let batch = batch?;
            check_crc(&batch)?;
            follow(&mut addition, &BatchHeader::of(&batch), records.len())?;
        }
        let addition = addition.ok_or_else(|| AppendError::invalid("no batch to append"))?;

        let mut writer = self.writer.lock();
        writer.active()?;
        let log_end = self.log_end_offset();
        let first = addition.first_offset;
        if first < log_end {
            return Err(AppendError::UnexpectedOffset { first, log_end });
        }
        self.dir.take_room(records.len())?;
        // A new segment begins where the one before ends, gap or not: a segment that ends early has
        // lost its end. Only a gap too large for one segment lies between two.
        let from = match addition.last_offset.0.saturating_sub(log_end.0) <= i64::from(i32::MAX) {
            true => log_end,
            false => first,
        };
        let addition = Addition { first_offset: from, ..addition };
        self.roll_if_due(&mut writer, &config, &addition, self.now())?;
        let active = writer.active()?.clone();
        let size = active.size();
        self.write(&active, &mut [IoSlice::new(records)], size)?;
        let mut position = size;
        for batch in batches(records) {
            let batch = batch?;
            let header = BatchHeader::of(&batch);
            active.appended(&header, position, batch.len() as u64, config.index_interval_bytes);
            self.appended(&mut writer, &active, &header, &batch)?;
            position += batch.len() as u64;
        }
        self.publish(&active, addition.last_offset.next(), position);
        Ok(self.append_info(&config, first, None))
    }

    /// Refuses what would take the room that is kept for deleting.
    fn take_room(&self, bytes: usize, origin: AppendOrigin) -> Result<(), LogDirFailure> {
        match origin {
            AppendOrigin::Client | AppendOrigin::Replication => self.dir.take_room(bytes),
            AppendOrigin::Coordinator => self.dir.take_coordinators_room(bytes),
            // The quorum looks for itself, before it proposes.
            AppendOrigin::RaftLeader => Ok(()),
        }
    }

    /// Notes that the leader of `epoch` begins at the log's end, before it has written anything
    /// (KIP-101).
    pub fn assign_epoch_start(&self, epoch: LeaderEpoch) {
        let log_end = self.log_end_offset();
        self.writer.lock().epochs.assign(epoch, log_end);
    }

    /// Whether the producers may append these batches; the batch that is there already, if it is
    /// sent again.
    fn check_producers(
        &self,
        writer: &mut Writer,
        valid: &ValidRecords,
        origin: AppendOrigin,
    ) -> Result<Option<AppendedBatch>, AppendError> {
        for batch in batches(&valid.bytes) {
            let batch = batch?;
            let header = BatchHeader::of(&batch);
            let marker = header.is_control().then(|| end_transaction_marker(batch.as_bytes()));
            let marker = marker.flatten();
            let checked = match writer.producers.check(&header, marker, origin) {
                Err(ProducerStateError::OutOfOrderSequence { .. })
                    if self.recall_window(writer, header.producer_id)? =>
                {
                    writer.producers.check(&header, marker, origin)
                }
                checked => checked,
            };
            match checked? {
                Checked::Next => {}
                Checked::Duplicate(batch) => return Ok(Some(batch)),
            }
        }
        Ok(None)
    }

    /// Writes all batches with one system call, and takes note of each.
    fn write_stamped(
        &self,
        writer: &mut Writer,
        records: &Bytes,
        mut stamp: Stamp,
        interval: u32,
    ) -> Result<(), AppendError> {
        let active = writer.active()?.clone();
        let size = active.size();
        let first = stamp.next(RecordBatch::parse(records)?);
        // Usually there is one batch, and nothing goes to the heap.
        let mut more = Vec::new();
        for batch in batches(records).skip(1) {
            more.push(stamp.next(batch?));
        }
        if more.is_empty() {
            self.write(&active, &mut first.slices(), size)?;
        } else {
            let all = std::iter::once(&first).chain(&more);
            let mut slices: Vec<IoSlice<'_>> = all.flat_map(StampedBatch::slices).collect();
            self.write(&active, &mut slices, size)?;
        }
        let mut position = size;
        for StampedBatch { header, batch, .. } in std::iter::once(&first).chain(&more) {
            active.appended(header, position, batch.len() as u64, interval);
            self.appended(writer, &active, header, batch)?;
            position += batch.len() as u64;
        }
        self.publish(&active, stamp.next_offset, position);
        Ok(())
    }

    fn write(
        &self,
        active: &LogSegment,
        slices: &mut [IoSlice<'_>],
        position: u64,
    ) -> Result<(), LogDirFailure> {
        let file = active.file();
        file.and_then(|file| file.write_all_at(slices, position))
            .map_err(|error| self.append_failed(active, position, &error))
    }

    /// Where only room is missing, what was written of the append is cut off, and the log goes on
    /// when there is room again.
    #[cold]
    fn append_failed(
        &self,
        active: &LogSegment,
        position: u64,
        error: &io::Error,
    ) -> LogDirFailure {
        if is_out_of_space(error)
            && let Err(error) = active.file().and_then(|file| file.set_len(position))
        {
            return self.dir.take_offline("cutting off what was appended in part", &error);
        }
        self.dir.failed("appending to a log", error)
    }

    /// Takes note of a batch that was written to `active`.
    fn appended(
        &self,
        writer: &mut Writer,
        active: &LogSegment,
        header: &BatchHeader,
        batch: &RecordBatch<'_>,
    ) -> Result<(), LogDirFailure> {
        if header.leader_epoch > writer.epochs.latest().unwrap_or(LeaderEpoch::NONE) {
            writer.epochs.assign(header.leader_epoch, header.base_offset);
        }
        if header.has_producer() {
            if let Some(aborted) = note_producer(&mut writer.producers, header, batch.as_bytes()) {
                writer.unsynced_names = true;
                // Before readers see the marker: from then on they ask for what it aborted.
                self.note_aborted(active, &aborted)?;
            }
            self.publish_first_unstable(writer);
        }
        Ok(())
    }

    /// Where only room is missing, the entry is written by the next flush that finds some.
    fn note_aborted(&self, active: &LogSegment, aborted: &AbortedTxn) -> Result<(), LogDirFailure> {
        const DOING: &str = "writing a transaction index";
        match active.txn_index().append(aborted) {
            Err(error) if is_out_of_space(&error) => drop(self.dir.failed(DOING, &error)),
            // Whatever else: the marker is written, and the producers know of it.
            noted => noted.map_err(|error| self.dir.take_offline(DOING, &error))?,
        }
        Ok(())
    }

    /// Shows the appended batches to readers. The log's end goes first: who sees the new size
    /// sees an end that covers it.
    fn publish(&self, active: &LogSegment, log_end: Offset, size: u64) {
        self.log_end_offset.store(log_end.0, Ordering::Release);
        active.publish(size);
        self.unsettle();
    }

    fn append_info(
        &self,
        config: &LogConfig,
        first_offset: Offset,
        log_append_time: Option<Timestamp>,
    ) -> LogAppendInfo {
        let log_end_offset = self.log_end_offset();
        LogAppendInfo {
            first_offset,
            last_offset: Offset(log_end_offset.0 - 1),
            log_append_time: log_append_time.unwrap_or(Timestamp::NONE),
            log_start_offset: self.log_start_offset(),
            log_end_offset,
            duplicate: false,
            flush_due: self.is_flush_due(config),
        }
    }

    /// Whether `flush.messages` records are there that a power loss could take back.
    fn is_flush_due(&self, config: &LogConfig) -> bool {
        let unflushed = self.log_end_offset().0.saturating_sub(self.synced_end().0);
        u64::try_from(unflushed).unwrap_or(0) >= config.flush_messages
    }

    fn duplicate_info(
        &self,
        config: &LogConfig,
        batch: AppendedBatch,
        log_append_time: Option<Timestamp>,
    ) -> LogAppendInfo {
        LogAppendInfo {
            first_offset: batch.first_offset,
            last_offset: batch.last_offset,
            log_append_time: log_append_time.map_or(Timestamp::NONE, |_| batch.timestamp),
            log_start_offset: self.log_start_offset(),
            log_end_offset: self.log_end_offset(),
            duplicate: true,
            // The first of the two may still be on its way to the disk.
            flush_due: self.is_flush_due(config),
        }
    }

    fn roll_if_due(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        addition: &Addition,
        now: Timestamp,
    ) -> Result<(), LogDirFailure> {
        let active = writer.active()?;
        let due = is_roll_due(active, writer.roll_jitter, config, addition, now)
            .map_err(|error| self.dir.failed("reading the active segment", &error))?;
        if due {
            self.roll(writer, addition.first_offset, config)?;
        }
        Ok(())
    }

    /// Seals the active segment and begins a new one at `base_offset`.
    pub(super) fn roll(
        &self,
        writer: &mut Writer,
        base_offset: Offset,
        config: &LogConfig,
    ) -> Result<(), LogDirFailure> {
        let old = writer.active()?.clone();
        if old.base_offset() == base_offset {
            return Ok(());
        }
        self.roll_files(writer, &old, base_offset, config)
            .map_err(|error| self.dir.failed("rolling a segment", &error))
    }

    fn roll_files(
        &self,
        writer: &mut Writer,
        old: &Arc<LogSegment>,
        base_offset: Offset,
        config: &LogConfig,
    ) -> io::Result<()> {
        old.complete_time_index();
        // Even one that knows no producer: it says that nothing before it needs to be read again.
        let snapshot = writer.producers.to_snapshot();
        if config.preallocate {
            old.trim()?;
        }
        let [noted, begun] =
            [SNAPSHOT, LOG].map(|kind| segment_file(&self.path, base_offset, kind));
        // One that a checkpoint or a stop left here says the same, is on the disk, and is counted on.
        let is_noted = self.dir.disk().exists(&noted);
        let make = || {
            if !is_noted {
                let file = self.dir.open(&noted, OpenMode::Truncate)?;
                file.write_all_at(&mut [IoSlice::new(&snapshot)], 0)?;
            }
            LogSegment::create(&self.dir, &self.path, base_offset, config)
        };
        let made = if is_noted { &[&*begun][..] } else { &[&*noted, &*begun] };
        let active = make().map_err(|error| self.undo_roll(error, made))?;
        let mut segments = self.segments.load().to_vec();
        if old.size() == 0 {
            // Never written: its offsets begin further on now.
            segments.pop();
            old.delete(&self.dir, self.now())?;
        }
        segments.push(active.clone());
        self.segments.store(Arc::new(segments));
        self.unsettle();
        writer.active = Some(active);
        writer.roll_jitter = jitter(config.segment_jitter_ms, self.dir.random());
        writer.unsynced_names = true;
        Ok(())
    }

    /// The old segment goes on. A power loss must not bring back the new one, or the log would end
    /// where that began.
    #[cold]
    fn undo_roll(&self, error: io::Error, made: &[&Path]) -> io::Error {
        let error = self.dir.undo(error, made);
        match self.dir.disk().sync_dir(&self.path) {
            Ok(()) => error,
            Err(stuck) => io::Error::other(stuck),
        }
    }
}

impl Stamp {
    /// Gives the next offsets to a batch.
    fn next<'a>(&mut self, batch: RecordBatch<'a>) -> StampedBatch<'a> {
        let (offset, epoch) = (self.next_offset, self.leader_epoch);
        let mut header = BatchHeader::stamped(&batch, offset, epoch);
        self.next_offset = header.next_offset();
        let head = match self.log_append_time {
            None => Head::Prefix(batch.patched_prefix(offset, epoch)),
            Some(time) => {
                header.max_timestamp = time;
                Head::Header(batch.patched_header(offset, epoch, time))
            }
        };
        StampedBatch { header, head, batch }
    }
}

/// Notes a batch of a producer: its records, or the end of its transaction; what belongs in the
/// transaction index if it was aborted.
pub(crate) fn note_producer(
    producers: &mut ProducerStates,
    header: &BatchHeader,
    batch: &[u8],
) -> Option<AbortedTxn> {
    if header.is_control() {
        producers.transaction_ended(header, end_transaction_marker(batch)?)
    } else {
        producers.appended(header);
        None
    }
}

/// The marker in a control batch, whose value is version and coordinator epoch (KIP-98).
fn end_transaction_marker(batch: &[u8]) -> Option<EndTransactionMarker> {
    let record = RecordBatch::parse(batch).ok()?.records().ok()?.next()?.ok()?;
    let key = ControlRecordType::from_key(record.key?)?;
    match key {
        ControlRecordType::Abort | ControlRecordType::Commit => {
            let epoch = record.value?.get(2..6)?.try_into().ok()?;
            let aborted = key == ControlRecordType::Abort;
            Some(EndTransactionMarker { coordinator_epoch: i32::from_be_bytes(epoch), aborted })
        }
        ControlRecordType::LeaderChange
        | ControlRecordType::SnapshotHeader
        | ControlRecordType::SnapshotFooter
        | ControlRecordType::KraftVersion
        | ControlRecordType::KraftVoters => None,
    }
}

fn follow(
    addition: &mut Option<Addition>,
    header: &BatchHeader,
    bytes: usize,
) -> Result<(), AppendError> {
    let (first, last) = (header.base_offset, header.last_offset());
    if !header.is_plausible() {
        return Err(AppendError::CorruptMessage("the batch has no valid offsets".to_owned()));
    }
    match addition {
        None => {
            let max_timestamp = header.max_timestamp;
            *addition =
                Some(Addition { bytes, first_offset: first, last_offset: last, max_timestamp });
        }
        Some(before) if before.last_offset >= first => {
            let log_end = before.last_offset.next();
            return Err(AppendError::UnexpectedOffset { first, log_end });
        }
        Some(before) => {
            before.last_offset = last;
            before.max_timestamp = before.max_timestamp.max(header.max_timestamp);
        }
    }
    Ok(())
}

/// Whether the active segment is too full, too old or too far from the new offsets.
fn is_roll_due(
    active: &LogSegment,
    jitter: Duration,
    config: &LogConfig,
    addition: &Addition,
    now: Timestamp,
) -> io::Result<bool> {
    let relative = addition.last_offset.0.saturating_sub(active.base_offset().0);
    if relative > i64::from(i32::MAX) {
        return Ok(true);
    }
    let size = active.size();
    if size == 0 {
        return Ok(false);
    }
    if size + addition.bytes as u64 > u64::from(config.segment_bytes)
        || active.indexes_full(config.segment_index_bytes)
    {
        return Ok(true);
    }
    let first = active.first_timestamp()?;
    let age = match first == Timestamp::NONE {
        true => now.0.saturating_sub(active.created().0),
        false => addition.max_timestamp.0.saturating_sub(first.0),
    };
    let limit = config.max_segment_ms().saturating_sub(jitter).as_millis();
    Ok(i128::from(age) > i128::try_from(limit).unwrap_or(i128::MAX))
}

fn jitter(max: Duration, random: u64) -> Duration {
    let max = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random.checked_rem(max).unwrap_or(0))
}
