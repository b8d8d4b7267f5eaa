//! Everything beside the log: its indexes, and snapshots of its producers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ottla_env::Disk;
use ottla_protocol::Offset;
use ottla_protocol::compression::Decompressor;
use ottla_protocol::record_batch::{RecordBatch, RecordError};
use ottla_storage::inspect::{
    Entries, EntryAt, IndexEntry, MAX_DECOMPRESSED, OffsetEntry, TimeEntry, TransactionEntry,
    snapshot_entries,
};

use super::log_file::{LogFile, optional};
use crate::scripts::{Outcome, Stop, say, warn};

/// How indexes are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Their entries are shown, and held against the log.
    Show,
    /// Their entries are held against the log.
    Verify,
    /// Only what a start of a node looks at.
    Sanity,
}

/// What does not fit its log; said at the end.
#[derive(Default)]
pub(super) struct Mismatches {
    /// By file: offsets in the index, and in the log.
    offsets: BTreeMap<PathBuf, BTreeMap<i64, i64>>,
    /// By file: timestamps in the index, and in the log.
    timestamps: BTreeMap<PathBuf, Vec<(i64, i64)>>,
    /// By file: a timestamp, and the one in front of it.
    disorder: BTreeMap<PathBuf, Vec<(i64, i64)>>,
    /// By file: offsets in the index, and what is found in the log.
    not_found: BTreeMap<PathBuf, Vec<(i64, i64)>>,
}

impl Mismatches {
    /// Writes them to standard error.
    pub(super) fn say(&self) {
        for (file, pairs) in &self.offsets {
            warn(format!("Mismatches in :{}", file.display()));
            for (index, log) in pairs.iter().rev() {
                warn(format!("  Index offset: {index}, log offset: {log}"));
            }
        }
        for (file, pairs) in &self.timestamps {
            warn(format!("Found timestamp mismatch in :{}", file.display()));
            for (index, log) in pairs {
                warn(format!("  Index timestamp: {index}, log timestamp: {log}"));
            }
        }
        for (file, pairs) in &self.disorder {
            warn(format!("Found out of order timestamp in :{}", file.display()));
            for (index, before) in pairs {
                warn(format!("  Index timestamp: {index}, Previously indexed timestamp: {before}"));
            }
        }
        for pairs in self.not_found.values() {
            warn("The following indexed offsets are not found in the log.");
            for (index, log) in pairs {
                warn(format!("Indexed offset: {index}, found log offset: {log}"));
            }
        }
    }
}

/// The offset in the name of a file.
pub(super) fn base_offset(path: &Path) -> Outcome<Offset> {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let digits = name.split('.').next().unwrap_or_default();
    let offset = digits.parse().map(Offset);
    offset.map_err(|_no_number| {
        Stop::failed(format!(
            "For input string: \"{digits}\": {name} does not begin with the offset of a segment"
        ))
    })
}

fn corrupt(path: &Path, why: &str) -> Stop {
    Stop::failed(format!("Corrupt index found, index file ({}): {why}", path.display()))
}

/// All entries of an index, reserved space included, as Kafka counts them.
fn entries<E: IndexEntry>(disk: &dyn Disk, path: &Path) -> Outcome<(Vec<E>, u64)> {
    let mut file = Entries::<E>::open(disk, path, base_offset(path)?)?;
    let mut entries = Vec::new();
    while let Some(EntryAt { entry, .. }) = file.next()? {
        entries.push(entry);
    }
    Ok((entries, file.rest()))
}

pub(super) fn offset_index(
    disk: &dyn Disk,
    path: &Path,
    look: Look,
    max_message_size: i32,
    mismatches: &mut Mismatches,
) -> Outcome {
    let base = base_offset(path)?;
    let mut log = LogFile::open(disk, &path.with_extension("log"))?;
    let (entries, rest) = entries::<OffsetEntry>(disk, path)?;
    let Some(last) = entries.last() else {
        return say(format!("{} is empty.", path.display()));
    };
    if look == Look::Sanity {
        if last.offset < base {
            return Err(corrupt(path, "its last offset is below that of the segment"));
        }
        if rest > 0 {
            return Err(corrupt(path, "its size is no multiple of 8"));
        }
        return say(format!("{} passed sanity check.", path.display()));
    }
    for (at, entry) in entries.iter().enumerate() {
        // Space that is reserved: the file was not closed in good order.
        if at > 0 && entry.offset == base {
            return Ok(());
        }
        log.slice(entry.position, u64::from(max_message_size.unsigned_abs()))?;
        let found = log.next()?.map(|batch| batch.last_offset());
        let found = found.ok_or_else(|| {
            Stop::failed(format!(
                "No batch of at most {max_message_size} bytes (--max-message-size) begins at position {}",
                entry.position
            ))
        })?;
        if found != entry.offset {
            let file = std::path::absolute(path)?;
            mismatches.offsets.entry(file).or_default().insert(entry.offset.0, found.0);
        }
        if look == Look::Show {
            say(format!("offset: {} position: {}", entry.offset, entry.position))?;
        }
    }
    Ok(())
}

pub(super) fn time_index(
    disk: &dyn Disk,
    path: &Path,
    look: Look,
    mismatches: &mut Mismatches,
) -> Outcome {
    let base = base_offset(path)?;
    let mut log = LogFile::open(disk, &path.with_extension("log"))?;
    let (offsets, _) = entries::<OffsetEntry>(disk, &path.with_extension("index"))?;
    // What is reserved says nothing.
    let used = offsets.iter().enumerate().take_while(|(at, it)| *at == 0 || it.offset != base);
    let offsets: Vec<&OffsetEntry> = used.map(|(_, entry)| entry).collect();
    let (entries, rest) = entries::<TimeEntry>(disk, path)?;
    if look == Look::Sanity {
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            if last.timestamp < first.timestamp {
                return Err(corrupt(path, "its last timestamp is below its first"));
            }
            if last.offset < base {
                return Err(corrupt(path, "its last offset is below that of the segment"));
            }
        }
        if rest > 0 {
            return Err(corrupt(path, "its size is no multiple of 12"));
        }
        return say(format!("{} passed sanity check.", path.display()));
    }
    let mut before = -1;
    let mut decompressor = Decompressor::new();
    let file = std::path::absolute(path)?;
    for (at, entry) in entries.iter().enumerate() {
        if at > 0 && entry.offset == base {
            return Ok(());
        }
        let nearest = offsets.partition_point(|it| it.offset <= entry.offset).checked_sub(1);
        let nearest = nearest.and_then(|at| offsets.get(at));
        log.slice(nearest.map_or(0, |it| it.position), i32::MAX as u64)?;
        let time = entry.timestamp.0;
        match newest_of(&mut log, entry.offset, &mut decompressor)? {
            Ok(newest) => {
                if newest != time {
                    mismatches.timestamps.entry(file.clone()).or_default().push((time, newest));
                }
                if before >= time {
                    mismatches.disorder.entry(file.clone()).or_default().push((time, before));
                }
            }
            Err(found) => {
                let pair = (entry.offset.0, found);
                mismatches.not_found.entry(file.clone()).or_default().push(pair);
            }
        }
        if look == Look::Show {
            say(format!("timestamp: {time} offset: {}", entry.offset))?;
        }
        before = time;
    }
    Ok(())
}

/// The newest timestamp in the batch that ends with `offset`; where there is none, the last offset
/// of the batch that has it, or -1.
fn newest_of(
    log: &mut LogFile,
    offset: Offset,
    decompressor: &mut Decompressor,
) -> Outcome<Result<i64, i64>> {
    while let Some(batch) = log.next()? {
        if batch.last_offset() < offset {
            continue;
        }
        if batch.last_offset() != offset {
            return Ok(Err(batch.last_offset().0));
        }
        return newest(&batch, decompressor)
            .map(Ok)
            .map_err(|error| Stop::failed(error.to_string()));
    }
    Ok(Err(-1))
}

fn newest(batch: &RecordBatch<'_>, decompressor: &mut Decompressor) -> Result<i64, RecordError> {
    let mut newest = -1;
    batch.visit_records(decompressor, MAX_DECOMPRESSED, |record| {
        newest = newest.max(batch.timestamp_of(&record).0);
        Ok::<(), RecordError>(())
    })?;
    Ok(newest)
}

pub(super) fn transaction_index(disk: &dyn Disk, path: &Path) -> Outcome {
    let base = base_offset(path)?;
    if !disk.exists(path) {
        return Ok(());
    }
    let mut entries = Entries::<TransactionEntry>::open(disk, path, base)?;
    while let Some(EntryAt { entry: TransactionEntry { version, aborted }, .. }) = entries.next()? {
        if version > 0 {
            return Err(Stop::failed(format!(
                "Unexpected aborted transaction version {version} in transaction index {}, current version is 0",
                path.display()
            )));
        }
        say(format!(
            "version: {version} producerId: {} firstOffset: {} lastOffset: {} lastStableOffset: {}",
            aborted.producer_id,
            aborted.first_offset,
            aborted.last_offset,
            aborted.last_stable_offset
        ))?;
    }
    Ok(())
}

pub(super) fn producer_snapshot(disk: &dyn Disk, path: &Path) -> Outcome {
    let bytes = disk.read(path)?;
    let entries = match snapshot_entries(&bytes) {
        Ok(entries) => entries,
        Err(error) => {
            warn(format!("Snapshot {} is corrupt: {error}", path.display()));
            return Ok(());
        }
    };
    for entry in entries {
        let mut line = format!(
            "producerId: {} producerEpoch: {} coordinatorEpoch: {} currentTxnFirstOffset: {} lastTimestamp: {}",
            entry.producer_id,
            entry.epoch,
            entry.coordinator_epoch,
            optional(entry.current_txn_first_offset.map(|offset| offset.0)),
            entry.last_timestamp.0
        );
        if entry.last_offset.0 >= 0 {
            line.push_str(&format!(
                " firstSequence: {} lastSequence: {} lastOffset: {} offsetDelta: {} timestamp: {}",
                first_sequence(entry.last_sequence, entry.offset_delta),
                entry.last_sequence,
                entry.last_offset,
                entry.offset_delta,
                entry.last_timestamp.0
            ));
        }
        say(line)?;
    }
    Ok(())
}

/// Sequences wrap to 0 behind `i32::MAX`.
fn first_sequence(last: i32, delta: i32) -> i32 {
    if last >= delta { last - delta } else { i32::MAX - (delta - last) + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_counted_back_over_their_wrap() {
        assert_eq!(first_sequence(9, 4), 5);
        assert_eq!(first_sequence(0, 0), 0);
        assert_eq!(first_sequence(1, 3), i32::MAX - 1);
    }

    #[test]
    fn the_name_of_a_file_says_where_its_segment_begins() {
        let base = |name: &str| base_offset(Path::new(name)).ok();
        assert_eq!(base("/d/t-0/00000000000000000042.timeindex"), Some(Offset(42)));
        assert_eq!(base("/d/t-0/notes.log"), None);
    }
}
