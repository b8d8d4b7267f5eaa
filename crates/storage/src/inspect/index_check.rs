//! Checks the two indexes of a segment while its batches go by.

use std::io;
use std::path::{Path, PathBuf};

use ottla_env::Disk;
use ottla_protocol::{Offset, Timestamp};

use super::BatchAt;
use super::entries::{Entries, EntryAt, IndexEntry, OffsetEntry, TimeEntry};
use super::finding::{Finding, Problem};

/// The entries that are still to be met. Whoever finds a wrong one stops: all of the file will be
/// made anew.
struct Pending<E> {
    path: PathBuf,
    problem: Problem,
    entries: Option<Entries<E>>,
    last: Option<E>,
}

impl<E: IndexEntry + Copy> Pending<E> {
    fn open(
        disk: &dyn Disk,
        path: Option<&Path>,
        base_offset: Offset,
        problem: Problem,
    ) -> io::Result<Self> {
        let entries = path.map(|path| Entries::open(disk, path, base_offset)).transpose()?;
        let path = path.unwrap_or(Path::new("")).to_owned();
        Ok(Self { path, problem, entries, last: None })
    }

    /// The next entry, if it may follow the last one; reserved space is no entry.
    fn peek(
        &mut self,
        follows: impl Fn(&E, &E) -> bool,
        findings: &mut Vec<Finding>,
    ) -> io::Result<Option<EntryAt<E>>> {
        let Some(entries) = &mut self.entries else { return Ok(None) };
        let Some(next) = entries.peek()? else { return Ok(None) };
        if self.last.is_none_or(|last| follows(&last, &next.entry)) {
            return Ok(Some(next));
        }
        match entries.only_zeroes_left()? {
            true => self.entries = None,
            false => self.wrong(next.position, "the entry does not ascend".to_owned(), findings),
        }
        Ok(None)
    }

    fn accept(&mut self, entry: E) {
        self.last = Some(entry);
        if let Some(entries) = &mut self.entries {
            entries.advance();
        }
    }

    fn wrong(&mut self, position: u64, reason: String, findings: &mut Vec<Finding>) {
        self.entries = None;
        let (path, problem) = (self.path.clone(), self.problem);
        findings.push(Finding { path, position: Some(position), problem, reason });
    }

    /// Nothing may be left when the segment ends.
    fn finish(&mut self, findings: &mut Vec<Finding>) -> io::Result<()> {
        let Some(entries) = &mut self.entries else { return Ok(()) };
        if entries.only_zeroes_left()? {
            return Ok(());
        }
        let (next, rest, len) = (entries.peek()?, entries.rest(), entries.file_length());
        if let Some(next) = next {
            let reason = "the entry is about what lies behind the segment's end".to_owned();
            self.wrong(next.position, reason, findings);
        } else if rest > 0 {
            let reason = format!("the file ends with {rest} bytes of an entry of {}", E::SIZE);
            self.wrong(len - rest, reason, findings);
        }
        Ok(())
    }
}

/// Of `.index`.
pub(super) struct OffsetIndexCheck {
    pending: Pending<OffsetEntry>,
    /// An entry about several batches, of which the last is still to come: Kafka's followers write
    /// such entries.
    open: Option<EntryAt<OffsetEntry>>,
}

impl OffsetIndexCheck {
    pub(super) fn open(
        disk: &dyn Disk,
        path: Option<&Path>,
        base_offset: Offset,
    ) -> io::Result<Self> {
        let pending = Pending::open(disk, path, base_offset, Problem::OffsetIndex)?;
        Ok(Self { pending, open: None })
    }

    pub(super) fn batch(
        &mut self,
        at: &BatchAt<'_>,
        findings: &mut Vec<Finding>,
    ) -> io::Result<()> {
        let last_offset = at.batch.last_offset();
        if let Some(open) = self.open.filter(|open| open.entry.offset <= last_offset) {
            self.open = None;
            if open.entry.offset != last_offset {
                let reason = format!("no batch ends with offset {}", open.entry.offset);
                self.pending.wrong(open.position, reason, findings);
            }
        }
        let ascends = |last: &OffsetEntry, next: &OffsetEntry| {
            next.offset > last.offset && next.position > last.position
        };
        // An entry is at most about this batch: there is one at each position.
        while let Some(next) = self.pending.peek(ascends, findings)? {
            let OffsetEntry { offset, position } = next.entry;
            if position > at.position {
                break;
            }
            if position == 0 && self.reserved()? {
                break;
            }
            if position < at.position {
                let reason = format!("no batch begins at byte {position} of the segment");
                self.pending.wrong(next.position, reason, findings);
            } else if offset < last_offset {
                let reason = format!(
                    "offset {offset} for the batch at byte {position}, which ends with {last_offset}"
                );
                self.pending.wrong(next.position, reason, findings);
            } else {
                self.open = Some(next).filter(|_| offset > last_offset);
                self.pending.accept(next.entry);
            }
        }
        Ok(())
    }

    /// The first batch never has an entry, so one at byte 0 is space that was reserved.
    fn reserved(&mut self) -> io::Result<bool> {
        let zeroes = self.pending.entries.as_mut().map_or(Ok(false), Entries::only_zeroes_left)?;
        if zeroes {
            self.pending.entries = None;
        }
        Ok(zeroes)
    }

    pub(super) fn finish(mut self, findings: &mut Vec<Finding>) -> io::Result<()> {
        if let Some(open) = self.open {
            let reason = format!("no batch ends with offset {}", open.entry.offset);
            self.pending.wrong(open.position, reason, findings);
        }
        self.pending.finish(findings)
    }
}

/// Of `.timeindex`.
pub(super) struct TimeIndexCheck {
    pending: Pending<TimeEntry>,
    newest: Timestamp,
}

impl TimeIndexCheck {
    pub(super) fn open(
        disk: &dyn Disk,
        path: Option<&Path>,
        base_offset: Offset,
    ) -> io::Result<Self> {
        let pending = Pending::open(disk, path, base_offset, Problem::TimeIndex)?;
        Ok(Self { pending, newest: Timestamp::NONE })
    }

    pub(super) fn batch(
        &mut self,
        at: &BatchAt<'_>,
        findings: &mut Vec<Finding>,
    ) -> io::Result<()> {
        let batch = &at.batch;
        let max = batch.max_timestamp();
        self.newest = self.newest.max(max);
        let ascends = |last: &TimeEntry, next: &TimeEntry| {
            next.offset > last.offset && next.timestamp > last.timestamp
        };
        while let Some(next) = self.pending.peek(ascends, findings)? {
            let TimeEntry { timestamp, offset } = next.entry;
            if offset > batch.last_offset() {
                break;
            }
            let is_reserved = |entries: &mut Entries<TimeEntry>| entries.only_zeroes_left();
            if timestamp.0 == 0 && self.pending.entries.as_mut().map_or(Ok(false), is_reserved)? {
                self.pending.entries = None;
            } else if offset < batch.base_offset() {
                let reason = format!("offset {offset} lies in no batch");
                self.pending.wrong(next.position, reason, findings);
            } else if timestamp != max || timestamp != self.newest {
                let reason = format!(
                    "{} as the largest timestamp up to offset {offset}, and {} in the log",
                    timestamp.0, self.newest.0
                );
                self.pending.wrong(next.position, reason, findings);
            } else {
                self.pending.accept(next.entry);
            }
        }
        Ok(())
    }

    /// `complete`: the last entry is about the largest timestamp.
    pub(super) fn finish(mut self, complete: bool, findings: &mut Vec<Finding>) -> io::Result<()> {
        let unfinished = self.pending.entries.is_some();
        self.pending.finish(findings)?;
        let still_right = unfinished && self.pending.entries.is_some();
        let last = self.pending.last.map_or(Timestamp::NONE, |last| last.timestamp);
        if complete && still_right && last != self.newest {
            let position = self.pending.entries.as_ref().map_or(0, Entries::file_length);
            let newest = self.newest;
            let reason =
                format!("the last entry has timestamp {}, the segment {}", last.0, newest.0);
            self.pending.wrong(position, reason, findings);
        }
        Ok(())
    }
}
