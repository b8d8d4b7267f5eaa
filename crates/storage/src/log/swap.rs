//! How cleaned segments take the place of others, so that a crash at any point leaves the old ones
//! or the new ones. Kafka's `LocalLog.replaceSegments` and `LogLoader`.
//!
//! 1. `.cleaned` → `.swap`, `.log` last: as long as anything is `.cleaned`, nothing is decided
//! 2. the old files → `.deleted`
//! 3. `.swap` → the final name, `.log` first

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ottla_env::Disk;
use ottla_protocol::Offset;

use crate::batch_scanner::HeaderScanner;
use crate::file_name::{CLEANED, DELETED, LOG, SNAPSHOT, SWAP, parse_segment_file, segment_file};
use crate::log_dir::LogDir;
use crate::log_segment::CLEANABLE_FILES;

/// Decides that the cleaned files of the segment `log` are to be used; `log` is the path they will
/// have. It is decided once the directory is synced.
pub(super) fn commit(disk: &dyn Disk, log: &Path) -> io::Result<()> {
    for extension in CLEANABLE_FILES.iter().filter(|extension| **extension != LOG) {
        rename(disk, &named(log, extension, CLEANED), &named(log, extension, SWAP))?;
    }
    disk.rename(&named(log, LOG, CLEANED), &named(log, LOG, SWAP))
}

/// Gives the files of the segment `log` their final names.
pub(super) fn finish(disk: &dyn Disk, log: &Path) -> io::Result<()> {
    CLEANABLE_FILES.iter().try_for_each(|extension| {
        rename(disk, &named(log, extension, SWAP), &log.with_extension(extension))
    })
}

/// Completes what a crash interrupted in the partition's directory `path`, or undoes it.
pub(super) fn complete(dir: &LogDir, path: &Path) -> io::Result<()> {
    let entries = match dir.disk().read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut found = Leftovers::default();
    for entry in entries {
        let Some((base_offset, extension)) = parse_segment_file(&entry.name) else { continue };
        match extension.rsplit_once('.') {
            Some((_, CLEANED)) => found.cleaned.entry(base_offset).or_default().push(entry.path),
            Some((LOG, SWAP)) => {
                found.swaps.entry(base_offset).or_default().push(entry.path);
                found.swapped_logs.push((base_offset, entry.len));
            }
            Some((_, SWAP)) => found.swaps.entry(base_offset).or_default().push(entry.path),
            Some((_, DELETED)) | None => {
                found.named.entry(base_offset).or_default().push(entry.path);
            }
            // Set aside by a repair: nobody but a person removes it.
            Some((_, _)) => {}
        }
    }
    if found.cleaned.is_empty() && found.swaps.is_empty() {
        return Ok(());
    }
    found.resolve(dir, path)?;
    dir.disk().sync_dir(path)
}

/// Files by the offset in their names.
#[derive(Default)]
struct Leftovers {
    cleaned: BTreeMap<Offset, Vec<PathBuf>>,
    swaps: BTreeMap<Offset, Vec<PathBuf>>,
    /// Swap files of logs, and how long they are.
    swapped_logs: Vec<(Offset, u64)>,
    named: BTreeMap<Offset, Vec<PathBuf>>,
}

impl Leftovers {
    fn resolve(mut self, dir: &LogDir, path: &Path) -> io::Result<()> {
        let disk = dir.disk();
        if let Some((first_cleaned, _)) = self.cleaned.first_key_value() {
            // Not decided yet. Kafka splits a segment in the same way, into several.
            let undecided = self.swaps.split_off(first_cleaned);
            self.swapped_logs.retain(|(base_offset, _)| base_offset < first_cleaned);
            let files =
                undecided.into_values().chain(std::mem::take(&mut self.cleaned).into_values());
            for file in files.flatten() {
                tracing::info!(file = %file.display(), "removing what compaction had not finished");
                disk.remove_file(&file)?;
            }
        }
        for (base_offset, len) in std::mem::take(&mut self.swapped_logs) {
            let end =
                end_of(disk, &segment_file(path, base_offset, &format!("{LOG}.{SWAP}")), len)?;
            let end = end.unwrap_or(base_offset).max(base_offset.next());
            for (old, files) in self.named.range(base_offset..end) {
                let snapshot = |file: &&PathBuf| file.extension().is_some_and(|e| e == SNAPSHOT);
                // The producers up to the first offset are what they were.
                for file in files.iter().filter(|file| *old > base_offset || !snapshot(file)) {
                    tracing::info!(file = %file.display(), "removing what was compacted");
                    disk.remove_file(file)?;
                }
            }
        }
        for base_offset in self.swaps.keys() {
            let log = segment_file(path, *base_offset, LOG);
            tracing::info!(file = %log.display(), "completing a compaction");
            finish(disk, &log)?;
        }
        Ok(())
    }
}

/// The offset after the last batch; `None` if there is no batch.
fn end_of(disk: &dyn Disk, log: &Path, len: u64) -> io::Result<Option<Offset>> {
    let file = disk.open(log, ottla_env::OpenMode::Read)?;
    let mut scanner = HeaderScanner::new(&*file, 0, len);
    let mut end = None;
    while let Some(batch) = scanner.next_batch()? {
        end = Some(batch.header.next_offset());
    }
    Ok(end)
}

fn named(log: &Path, extension: &str, suffix: &str) -> PathBuf {
    log.with_extension(format!("{extension}.{suffix}"))
}

/// Renames a file, if it is there: not every segment has every file.
fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> io::Result<()> {
    match disk.rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}
