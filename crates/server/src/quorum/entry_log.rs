//! The entries of the metadata log: one batch each, in a log like any other.
//!
//! Raft numbers entries, Kafka records: where each entry begins is kept in memory and found again
//! at open by walking the batches, which also tells a torn tail, which is cut, from damage to what
//! had been flushed, which refuses to open and is left as evidence.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_config::{CleanupPolicy, LogConfig};
use ottla_env::{Env, OpenMode};
use ottla_protocol::record_batch::RecordBatch;
use ottla_protocol::{Offset, Timestamp, TopicPartition};
use ottla_storage::{Log, LogDir, LogOpenOptions};

use super::batch::{corrupt, read_batch};
use super::entry_codec::{decode_entry, encode_entry};
use super::raft_config::{LogEntry, LogId, VoterId, epoch_of, log_id};

/// Segments and indexes kept open at once.
const MAX_OPEN_FILES: usize = 16;

/// Where an entry begins.
#[derive(Clone, Copy, Debug)]
struct Position {
    base_offset: i64,
    epoch: i32,
}

/// The metadata log. Entries are numbered by Raft's index, records by Kafka's offset.
pub(super) struct EntryLog {
    dir: Arc<LogDir>,
    log: Arc<Log>,
    entries: VecDeque<Position>,
    first_index: u64,
    purged: Option<LogId>,
}

/// From where on the log counts, and how much of it must be there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) purged: Option<LogId>,
    pub(super) log_start_offset: i64,
    pub(super) flushed_end_offset: i64,
}

impl EntryLog {
    /// Opens the log `partition` in `dir`, or makes it, and finds its entries.
    pub(super) fn open(
        env: &Env,
        dir: &Path,
        partition: TopicPartition,
        (segment_bytes, segment_ms): (u32, Duration),
        bounds: Bounds,
    ) -> io::Result<Self> {
        let found = FoundEntries::find(env, &dir.join(partition.to_string()), bounds)?;
        found.unsynced.iter().try_for_each(|part| part.write_again(env))?;
        let (log_start, log_end) = (Offset(bounds.log_start_offset), Offset(found.end_offset));
        // Nothing but a snapshot removes entries, and nothing waits before files are removed.
        let config = LogConfig {
            segment_bytes,
            segment_ms,
            cleanup_policy: CleanupPolicy { delete: true, compact: false },
            retention_bytes: None,
            retention_ms: None,
            file_delete_delay: Duration::ZERO,
            ..LogConfig::default()
        };
        let options = LogOpenOptions {
            recovery_point: Offset(bounds.flushed_end_offset),
            log_start_offset: log_start,
            high_watermark: log_end,
            ..LogOpenOptions::new(config, Duration::MAX)
        };
        let dir = LogDir::new(env, dir.to_owned(), MAX_OPEN_FILES);
        let log = Log::open(Arc::clone(&dir), partition, options)?;
        log.truncate_to(log_end).map_err(io::Error::other)?;
        log.flush(log_end).map_err(io::Error::other)?;
        let mut opened = Self {
            dir,
            log: Arc::new(log),
            entries: found.entries,
            first_index: bounds.purged.map_or(0, |purged| purged.index + 1),
            purged: bounds.purged,
        };
        if opened.end_offset() != found.end_offset {
            opened.restart_at(found.end_offset)?;
        }
        Ok(opened)
    }

    /// The log on the disk, for those who sync it or read from it.
    pub(super) fn log(&self) -> Arc<Log> {
        Arc::clone(&self.log)
    }

    /// The last entry that a snapshot has replaced.
    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// The last entry, or the last purged one if there is none.
    pub(super) fn last(&self) -> Option<LogId> {
        match self.entries.back() {
            // A batch has a non-negative epoch: it was checked when it was read.
            Some(last) => Some(log_id(u64::from(last.epoch.unsigned_abs()), self.next_index() - 1)),
            None => self.purged,
        }
    }

    fn next_index(&self) -> u64 {
        self.first_index + self.entries.len() as u64
    }

    /// Offset of the first record that is kept.
    pub(super) fn start_offset(&self) -> i64 {
        self.entries.front().map_or(self.end_offset(), |first| first.base_offset)
    }

    /// Offset of the next record.
    pub(super) fn end_offset(&self) -> i64 {
        self.log.log_end_offset().0
    }

    /// Epoch of the record before `offset`, which the log holds or begins with; 0 before the first.
    pub(super) fn epoch_before(&self, offset: i64) -> i32 {
        let before = self.entries.partition_point(|entry| entry.base_offset < offset);
        let purged = || self.purged.map_or(0, |purged| purged.leader_id.term as i32);
        before.checked_sub(1).map_or_else(purged, |last| self.entries[last].epoch)
    }

    /// The number of the last entry that begins before `offset`; `None` if none that is here does.
    pub(super) fn index_before(&self, offset: i64) -> Option<u64> {
        let before = self.entries.partition_point(|entry| entry.base_offset < offset) as u64;
        Some(self.first_index + before.checked_sub(1)?)
    }

    /// Term of the entry number `index`, if it is here.
    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        let position = usize::try_from(index.checked_sub(self.first_index)?).ok()?;
        Some(u64::from(self.entries.get(position)?.epoch.unsigned_abs()))
    }

    /// Offset of the entry after `last`, if the log holds `last` or begins behind it.
    pub(super) fn offset_after(&self, last: Option<LogId>) -> Option<i64> {
        if last == self.purged {
            return Some(self.start_offset());
        }
        let last = last?;
        let is_same = self.term_at(last.index) == Some(last.leader_id.term);
        let position = is_same.then(|| (last.index - self.first_index) as usize)?;
        Some(self.entries.get(position + 1).map_or(self.end_offset(), |next| next.base_offset))
    }

    /// Writes entries behind the last one. They can be read at once, and survive a power loss
    /// once the log has been flushed. `leader` wrote them, those of the quorum's own at `now`.
    pub(super) fn append(
        &mut self,
        entries: impl IntoIterator<Item = LogEntry>,
        leader: VoterId,
        now: Timestamp,
    ) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        let mut positions = Vec::new();
        let mut end_offset = self.end_offset();
        for entry in entries {
            if self.entries.is_empty() && positions.is_empty() && self.purged.is_none() {
                self.first_index = entry.log_id.index;
            }
            let due = self.next_index() + positions.len() as u64;
            if entry.log_id.index != due {
                return Err(corrupt(format!("entry {} where {due} was due", entry.log_id)));
            }
            match &entry.batch {
                // As it came from the leader: all logs are the same, byte for byte.
                Some(batch) if batch.base_offset == end_offset => bytes.put_slice(&batch.bytes),
                Some(batch) => {
                    let at = batch.base_offset;
                    return Err(corrupt(format!("a batch at {at} where {end_offset} was due")));
                }
                None => bytes.put(encode_entry(&entry, end_offset, leader, now)?),
            }
            let epoch = epoch_of(entry.log_id.leader_id.term)?;
            positions.push(Position { base_offset: end_offset, epoch });
            end_offset += entry.record_count() as i64;
        }
        if !positions.is_empty() {
            self.log.append_as_follower(&bytes.freeze()).map_err(io::Error::other)?;
            self.entries.extend(positions);
        }
        Ok(())
    }

    /// The entry that goes first if all after the one numbered `last` go; all go without `last`.
    fn first_after(&self, last: Option<u64>) -> (usize, Option<Position>) {
        let keep = last.map_or(0, |last| (last + 1).saturating_sub(self.first_index)) as usize;
        (keep, self.entries.get(keep).copied())
    }

    /// The end offset that [`EntryLog::truncate_after`] will leave.
    pub(super) fn end_after_truncation(&self, last: Option<u64>) -> i64 {
        self.first_after(last).1.map_or(self.end_offset(), |position| position.base_offset)
    }

    /// Removes the entries after `last`, or all of them.
    pub(super) fn truncate_after(&mut self, last: Option<u64>) -> io::Result<()> {
        let (keep, Some(cut)) = self.first_after(last) else { return Ok(()) };
        self.log.truncate_to(Offset(cut.base_offset)).map_err(io::Error::other)?;
        // Entries before the cut are what others may count on; the log ends earlier where their batches are rotten.
        if self.end_offset() != cut.base_offset {
            let rotten = format!("the metadata log is rotten at offset {}", self.end_offset());
            return Err(io::Error::new(io::ErrorKind::InvalidData, rotten));
        }
        self.entries.truncate(keep);
        Ok(())
    }

    /// Where the log will start once entries up to `upto` are purged. `snapshot_end` is the end
    /// offset of the snapshot that replaces them, which counts if the log does not reach it.
    pub(super) fn start_after_purge(&self, upto: LogId, snapshot_end: i64) -> i64 {
        match self.first_after(Some(upto.index)).1 {
            Some(position) => position.base_offset,
            None => self.end_offset().max(snapshot_end),
        }
    }

    /// Forgets entries up to `upto`; the log starts at `start_offset`, which is on the disk already.
    pub(super) fn purge(
        &mut self,
        upto: LogId,
        start_offset: i64,
        now: Timestamp,
    ) -> io::Result<()> {
        let (purged, _) = self.first_after(Some(upto.index));
        self.entries.drain(..purged.min(self.entries.len()));
        self.first_index = upto.index + 1;
        self.purged = Some(upto);
        if start_offset > self.end_offset() {
            return self.restart_at(start_offset);
        }
        let start = Offset(start_offset);
        self.log.increment_log_start_offset(start).map_err(io::Error::other)?;
        self.log.housekeeping(now).map_err(io::Error::other)?;
        self.dir.remove_due(now);
        Ok(())
    }

    /// Leaves no entry; the next one begins at `offset`.
    fn restart_at(&mut self, offset: i64) -> io::Result<()> {
        self.log.truncate_fully_and_start_at(Offset(offset)).map_err(io::Error::other)
    }

    /// Where to read the entries `from..to`, as far as they exist.
    pub(super) fn stretch(&self, from: u64, to: u64) -> Option<Stretch> {
        let from = from.max(self.first_index);
        let position = |index: u64| self.entries.get((index - self.first_index) as usize);
        let first = position(from)?;
        let end = position(to.max(from)).map_or(self.end_offset(), |end| end.base_offset);
        let log = self.log();
        Some(Stretch { log, offset: first.base_offset, end, first_index: from })
    }
}

/// Consecutive entries, to be read without a lock on the log.
pub(super) struct Stretch {
    log: Arc<Log>,
    offset: i64,
    end: i64,
    first_index: u64,
}

impl Stretch {
    /// Reads the entries.
    pub(super) fn read(&self) -> io::Result<Vec<LogEntry>> {
        self.read_some(usize::MAX)
    }

    /// Reads the first of the entries, up to `max_bytes` but at least one.
    pub(super) fn read_some(&self, max_bytes: usize) -> io::Result<Vec<LogEntry>> {
        let (from, end) = (Offset(self.offset), Offset(self.end));
        let data = self.log.read(from, max_bytes, true, end).map_err(io::Error::other)?;
        let mut bytes = data.read()?;
        let mut entries = Vec::new();
        let mut index = self.first_index;
        while bytes.has_remaining() {
            let (batch, entry) = decode_entry(&bytes, index)?;
            let next = batch.len();
            entries.push(entry);
            bytes.advance(next);
            index += 1;
        }
        Ok(entries)
    }
}

/// A part of a segment that no sync vouches for.
///
/// A sync that fails leaves the system with pages that it takes for written, and no later sync writes them: what a new process reads
/// of them need not be on the disk. Written again, with the same bytes, it is.
struct Unsynced {
    segment: PathBuf,
    at: u64,
    bytes: Bytes,
}

impl Unsynced {
    fn write_again(&self, env: &Env) -> io::Result<()> {
        let file = env.disk.open(&self.segment, OpenMode::ReadWrite)?;
        file.write_all_at(&mut [IoSlice::new(&self.bytes)], self.at)?;
        file.sync_data()
    }
}

/// The entries that can be read, whatever state a crash left the files in.
struct FoundEntries {
    entries: VecDeque<Position>,
    end_offset: i64,
    unsynced: Vec<Unsynced>,
}

/// How far a segment was walked, in bytes.
struct Walk {
    byte: usize,
    /// Up to here it had been synced.
    synced: usize,
}

impl FoundEntries {
    /// Walks the segments in `path` without changing them.
    fn find(env: &Env, path: &Path, bounds: Bounds) -> io::Result<Self> {
        let end_offset = bounds.log_start_offset;
        let mut found = Self { entries: VecDeque::new(), end_offset, unsynced: Vec::new() };
        let mut damage = "nothing follows".to_owned();
        // Sorted by name, which is sorted by offset.
        for file in env.disk.read_dir(path)? {
            if file.is_dir || !file.name.ends_with(".log") {
                continue;
            }
            let bytes = Bytes::from(env.disk.read(&file.path)?);
            let mut walk = Walk { byte: 0, synced: 0 };
            let walked = found.walk(&bytes, bounds, &mut walk);
            if walk.synced < walk.byte {
                let (segment, at) = (file.path.clone(), walk.synced as u64);
                let bytes = bytes.slice(walk.synced..walk.byte);
                found.unsynced.push(Unsynced { segment, at, bytes });
            }
            if let Err(error) = walked {
                damage = format!("byte {} of {}: {error}", walk.byte, file.path.display());
                break;
            }
        }
        if found.end_offset >= bounds.flushed_end_offset {
            return Ok(found);
        }
        Err(corrupt(format!(
            "the metadata log is damaged: offsets {} to {} had been written to disk and cannot be read ({damage})",
            found.end_offset,
            bounds.flushed_end_offset - 1
        )))
    }

    /// Notes the entries in a segment, as far as it can go on.
    fn walk(&mut self, bytes: &[u8], bounds: Bounds, walk: &mut Walk) -> io::Result<()> {
        while let Some(rest) = bytes.get(walk.byte..).filter(|rest| !rest.is_empty()) {
            let batch = read_batch(rest)?;
            if batch.next_offset().0 > bounds.log_start_offset {
                self.note(&batch)?;
            }
            walk.byte += batch.len();
            if batch.next_offset().0 <= bounds.flushed_end_offset {
                walk.synced = walk.byte;
            }
        }
        Ok(())
    }

    fn note(&mut self, batch: &RecordBatch<'_>) -> io::Result<()> {
        let base_offset = batch.base_offset().0;
        if base_offset != self.end_offset {
            let due = self.end_offset;
            return Err(corrupt(format!("a batch at offset {base_offset} where {due} was due")));
        }
        self.entries.push_back(Position { base_offset, epoch: batch.leader_epoch().0 });
        self.end_offset = batch.next_offset().0;
        Ok(())
    }
}
