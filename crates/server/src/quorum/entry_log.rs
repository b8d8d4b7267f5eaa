//! The entries of the metadata log on disk: segment files of record batches, one batch an entry.
//!
//! Where each entry lies is kept in memory and found again at open by walking the batch headers.
//! A damaged tail is cut off if it had never been flushed; damage before that refuses to open.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_env::{Env, File, OpenMode};
use ottla_protocol::record_batch::RecordBatch;

use super::batch::{corrupt, read_batch};
use super::entry_codec::{decode_entry, encode_entry};
use super::raft_config::{LogEntry, LogId, VoterId, log_id};

/// Where an entry lies.
#[derive(Clone, Copy, Debug)]
struct Position {
    base_offset: i64,
    epoch: i32,
    len: u32,
    /// Byte of its segment.
    byte: u64,
    /// Base offset of its segment.
    segment: i64,
}

struct Segment {
    base_offset: i64,
    file: Arc<dyn File>,
    len: u64,
}

/// The metadata log. Entries are numbered by Raft's index, records by Kafka's offset.
pub(super) struct EntryLog {
    env: Env,
    dir: PathBuf,
    /// Oldest first; never empty.
    segments: Vec<Segment>,
    segment_bytes: u64,
    entries: VecDeque<Position>,
    first_index: u64,
    purged: Option<LogId>,
    end_offset: i64,
}

/// From where on the log counts, and how much of it must be there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) purged: Option<LogId>,
    pub(super) log_start_offset: i64,
    pub(super) flushed_end_offset: i64,
}

/// A stretch of consecutive entries in one file, to be read without the log's lock.
pub(super) struct Run {
    file: Arc<dyn File>,
    byte: u64,
    len: usize,
    first_index: u64,
}

impl EntryLog {
    /// Opens the log in `dir`, an existing directory, and finds its entries.
    pub(super) fn open(
        env: &Env,
        dir: &Path,
        segment_bytes: u64,
        bounds: Bounds,
    ) -> io::Result<Self> {
        let mut log = Self {
            env: env.clone(),
            dir: dir.to_owned(),
            segments: Vec::new(),
            segment_bytes,
            entries: VecDeque::new(),
            first_index: bounds.purged.map_or(0, |purged| purged.index + 1),
            purged: bounds.purged,
            end_offset: bounds.log_start_offset,
        };
        log.open_segments(bounds.log_start_offset)?;
        log.find_entries(bounds)?;
        log.sync()?;
        if log.end_offset < bounds.flushed_end_offset {
            return Err(corrupt(format!(
                "the metadata log in {} ends at offset {}, although it had been written to disk up to {}",
                dir.display(),
                log.end_offset,
                bounds.flushed_end_offset
            )));
        }
        Ok(log)
    }

    /// Opens the segment files and removes those that a snapshot has replaced.
    fn open_segments(&mut self, log_start_offset: i64) -> io::Result<()> {
        for entry in self.env.disk.read_dir(&self.dir)? {
            let base = entry.name.strip_suffix(".log").and_then(|base| base.parse::<i64>().ok());
            if let (Some(base_offset), false) = (base, entry.is_dir) {
                let file = self.env.disk.open(&entry.path, OpenMode::ReadWrite)?;
                self.segments.push(Segment { base_offset, file, len: entry.len });
            }
        }
        self.segments.sort_by_key(|segment| segment.base_offset);
        self.remove_segments_before(log_start_offset)?;
        if self.segments.is_empty() {
            self.add_segment()?;
        }
        Ok(())
    }

    fn find_entries(&mut self, bounds: Bounds) -> io::Result<()> {
        for number in 0..self.segments.len() {
            let Some(segment) = self.segments.get(number) else { break };
            let (base_offset, file) = (segment.base_offset, Arc::clone(&segment.file));
            let bytes = read_exactly(&*file, 0, segment.len as usize)?;
            let mut byte = 0;
            let damage = loop {
                if byte == bytes.len() {
                    break None;
                }
                match self.find_entry(&bytes[byte..], bounds.log_start_offset) {
                    Ok((batch, is_live)) => {
                        if is_live {
                            self.entries.push_back(Position {
                                base_offset: batch.base_offset().0,
                                epoch: batch.leader_epoch().0,
                                len: batch.len() as u32,
                                byte: byte as u64,
                                segment: base_offset,
                            });
                            self.end_offset = batch.next_offset().0;
                        }
                        byte += batch.len();
                    }
                    Err(error) => break Some(error),
                }
            };
            if let Some(damage) = damage {
                return self.cut_damaged_tail(number, byte as u64, bounds, &damage);
            }
        }
        Ok(())
    }

    /// The next batch and whether it counts, or why it cannot be an entry.
    fn find_entry<'b>(
        &self,
        bytes: &'b [u8],
        log_start_offset: i64,
    ) -> io::Result<(RecordBatch<'b>, bool)> {
        let batch = read_batch(bytes)?;
        if batch.next_offset().0 <= log_start_offset {
            return Ok((batch, false));
        }
        if batch.base_offset().0 != self.end_offset {
            let (found, due) = (batch.base_offset().0, self.end_offset);
            return Err(corrupt(format!("a batch at offset {found} where {due} was due")));
        }
        Ok((batch, true))
    }

    /// Cuts what a crash tore; refuses if it had been flushed.
    fn cut_damaged_tail(
        &mut self,
        number: usize,
        byte: u64,
        bounds: Bounds,
        damage: &io::Error,
    ) -> io::Result<()> {
        let path = self.segments.get(number).map(|s| self.segment_path(s.base_offset));
        let path = path.unwrap_or_default();
        if self.end_offset < bounds.flushed_end_offset {
            return Err(corrupt(format!(
                "the metadata log is damaged at byte {byte} of {}: {damage}. Offsets {} to {} had been written to disk and cannot be read",
                path.display(),
                self.end_offset,
                bounds.flushed_end_offset - 1
            )));
        }
        tracing::warn!(
            file = %path.display(), byte, end_offset = self.end_offset, %damage,
            "cutting the tail of the metadata log, which was never flushed"
        );
        self.cut(number, byte)
    }

    fn segment_path(&self, base_offset: i64) -> PathBuf {
        self.dir.join(format!("{base_offset:020}.log"))
    }

    fn add_segment(&mut self) -> io::Result<()> {
        let base_offset = self.end_offset;
        let file = self.env.disk.open(&self.segment_path(base_offset), OpenMode::Truncate)?;
        self.env.disk.sync_dir(&self.dir)?;
        self.segments.push(Segment { base_offset, file, len: 0 });
        Ok(())
    }

    /// Removes the segments after `number` and what lies behind `byte` in it.
    fn cut(&mut self, number: usize, byte: u64) -> io::Result<()> {
        while self.segments.len() > number + 1 {
            if let Some(segment) = self.segments.pop() {
                self.env.disk.remove_file(&self.segment_path(segment.base_offset))?;
            }
        }
        if let Some(segment) = self.segments.get_mut(number) {
            segment.file.set_len(byte)?;
            segment.len = byte;
        }
        Ok(())
    }

    /// Removes the segments that end at or before `offset`, but not the one being written.
    fn remove_segments_before(&mut self, offset: i64) -> io::Result<()> {
        let replaced =
            self.segments.iter().skip(1).take_while(|next| next.base_offset <= offset).count();
        for segment in self.segments.drain(..replaced).collect::<Vec<_>>() {
            self.env.disk.remove_file(&self.segment_path(segment.base_offset))?;
        }
        Ok(())
    }

    /// The last entry that a snapshot has replaced.
    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// The last entry, or the last purged one if there is none.
    pub(super) fn last(&self) -> Option<LogId> {
        let next_index = self.next_index();
        match self.entries.back() {
            // A batch has a non-negative epoch: it was checked when it was parsed.
            Some(position) => {
                Some(log_id(u64::from(position.epoch.unsigned_abs()), next_index - 1))
            }
            None => self.purged,
        }
    }

    fn next_index(&self) -> u64 {
        self.first_index + self.entries.len() as u64
    }

    /// Offset of the first record that is kept.
    pub(super) fn start_offset(&self) -> i64 {
        self.entries.front().map_or(self.end_offset, |position| position.base_offset)
    }

    /// Offset of the next record.
    pub(super) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// Writes entries behind the last one. They can be read at once, and survive a power loss
    /// once [`EntryLog::flushable`] has been synced.
    pub(super) fn append(
        &mut self,
        entries: impl IntoIterator<Item = LogEntry>,
        leader: VoterId,
    ) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        let mut positions = Vec::new();
        let mut end_offset = self.end_offset;
        for entry in entries {
            if self.entries.is_empty() && positions.is_empty() && self.purged.is_none() {
                self.first_index = entry.log_id.index;
            }
            let expected = self.next_index() + positions.len() as u64;
            if entry.log_id.index != expected {
                return Err(corrupt(format!("entry {} where {expected} was due", entry.log_id)));
            }
            let byte = bytes.len();
            bytes.put(encode_entry(&entry, end_offset, leader)?);
            positions.push(Position {
                base_offset: end_offset,
                epoch: super::raft_config::epoch_of(entry.log_id.leader_id.term)?,
                len: (bytes.len() - byte) as u32,
                byte: byte as u64,
                segment: 0,
            });
            end_offset += entry.record_count() as i64;
        }
        self.roll_if_full(bytes.len() as u64)?;
        let Some(active) = self.segments.last_mut() else { return Ok(()) };
        active.file.write_all_at(&mut [IoSlice::new(&bytes)], active.len)?;
        self.entries.extend(positions.into_iter().map(|position| Position {
            byte: active.len + position.byte,
            segment: active.base_offset,
            ..position
        }));
        active.len += bytes.len() as u64;
        self.end_offset = end_offset;
        Ok(())
    }

    fn roll_if_full(&mut self, more: u64) -> io::Result<()> {
        match self.segments.last() {
            Some(active) if active.len > 0 && active.len + more > self.segment_bytes => {
                active.file.sync_data()?;
                self.add_segment()
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The file to sync, and the end offset that is safe once it is synced.
    pub(super) fn flushable(&self) -> (Option<Arc<dyn File>>, i64) {
        (self.segments.last().map(|active| Arc::clone(&active.file)), self.end_offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.flushable().0.map_or(Ok(()), |file| file.sync_data())
    }

    /// The entry that goes first if all after the one numbered `last` go; all go without `last`.
    fn first_after(&self, last: Option<u64>) -> (usize, Option<Position>) {
        let keep = last.map_or(0, |last| (last + 1).saturating_sub(self.first_index)) as usize;
        (keep, self.entries.get(keep).copied())
    }

    /// The end offset that [`EntryLog::truncate_after`] will leave.
    pub(super) fn end_after_truncation(&self, last: Option<u64>) -> i64 {
        self.first_after(last).1.map_or(self.end_offset, |position| position.base_offset)
    }

    /// Removes the entries after `last`, or all of them.
    pub(super) fn truncate_after(&mut self, last: Option<u64>) -> io::Result<()> {
        let (keep, Some(cut)) = self.first_after(last) else { return Ok(()) };
        let number = self.segments.iter().position(|s| s.base_offset == cut.segment);
        self.cut(number.unwrap_or_default(), cut.byte)?;
        self.entries.truncate(keep);
        self.end_offset = cut.base_offset;
        Ok(())
    }

    /// Where the log will start once entries up to `upto` are purged. `snapshot_end` is the end
    /// offset of the snapshot that replaces them, which counts if the log does not reach it.
    pub(super) fn start_after_purge(&self, upto: LogId, snapshot_end: i64) -> i64 {
        match self.first_after(Some(upto.index)).1 {
            Some(position) => position.base_offset,
            None => self.end_offset.max(snapshot_end),
        }
    }

    /// Forgets entries up to `upto`; the log starts at `start_offset`, which is on the disk already.
    pub(super) fn purge(&mut self, upto: LogId, start_offset: i64) -> io::Result<()> {
        let purged =
            ((upto.index + 1).saturating_sub(self.first_index) as usize).min(self.entries.len());
        self.entries.drain(..purged);
        self.first_index = upto.index + 1;
        self.purged = Some(upto);
        if self.entries.is_empty() && self.segments.last().is_some_and(|active| active.len > 0) {
            self.end_offset = start_offset;
            self.add_segment()?;
        }
        self.remove_segments_before(start_offset)
    }

    /// Where the entries `from..to` lie, as far as they exist.
    pub(super) fn runs(&self, from: u64, to: u64) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut segment = None;
        let from = from.max(self.first_index);
        for index in from..to.min(self.next_index()) {
            let Some(position) = self.entries.get((index - self.first_index) as usize) else {
                break;
            };
            match runs.last_mut() {
                Some(run) if segment == Some(position.segment) => run.len += position.len as usize,
                Some(_) | None => {
                    let file = self.segments.iter().find(|s| s.base_offset == position.segment);
                    let Some(file) = file.map(|segment| Arc::clone(&segment.file)) else { break };
                    let len = position.len as usize;
                    runs.push(Run { file, byte: position.byte, len, first_index: index });
                    segment = Some(position.segment);
                }
            }
        }
        runs
    }
}

impl Run {
    /// Reads the entries and appends them to `out`.
    pub(super) fn read(&self, out: &mut Vec<LogEntry>) -> io::Result<()> {
        let mut bytes = read_exactly(&*self.file, self.byte, self.len)?;
        let mut index = self.first_index;
        while bytes.has_remaining() {
            let (batch, entry) = decode_entry(&bytes, index)?;
            let next = batch.len();
            out.push(entry);
            bytes.advance(next);
            index += 1;
        }
        Ok(())
    }
}

/// `len` bytes from `byte` on, which the file is known to have.
fn read_exactly(file: &dyn File, byte: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; len];
    let mut filled = 0;
    while filled < len {
        let read = file.read_at(&mut buffer[filled..], byte + filled as u64)?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        filled += read;
    }
    Ok(Bytes::from(buffer))
}
