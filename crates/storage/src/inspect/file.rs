//! Checks a single file, with what lies beside it of its segment.

use std::io;
use std::path::Path;

use ottla_env::Disk;
use ottla_protocol::Offset;

use super::checkpoint_file::{leader_epoch_lines, meta_properties, offset_lines, topic_id};
use super::entries::{Entries, TransactionEntry};
use super::file_kind::FileKind;
use super::finding::{Finding, Problem};
use super::segment::{Expected, Reached, SegmentCheck, SegmentFiles};
use super::{BatchAt, Progress};
use crate::producer_state::snapshot_entries;

/// Checks the file at `path` as far as it can be checked without its partition; an index is held
/// against the `.log` file beside it.
pub fn verify_file(
    disk: &dyn Disk,
    path: &Path,
    progress: Progress<'_>,
) -> io::Result<Vec<Finding>> {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let kind = FileKind::of(&name);
    let found = |problem, reason: String| {
        vec![Finding { path: path.to_owned(), position: None, problem, reason }]
    };
    let read = || disk.read(path);
    let unreadable =
        |problem, error: Option<String>| error.map_or(Vec::new(), |it| found(problem, it));
    Ok(match kind {
        FileKind::Log(base) | FileKind::OffsetIndex(base) | FileKind::TimeIndex(base) => {
            let mut findings = verify_segment(disk, path, base, progress)?;
            if kind != FileKind::Log(base) {
                findings.retain(|finding| finding.path == path);
            }
            findings
        }
        FileKind::MetadataSnapshot => verify_segment(disk, path, Offset(0), progress)?,
        FileKind::TransactionIndex(base) => {
            let rest = Entries::<TransactionEntry>::open(disk, path, base)?.rest();
            let reason = (rest > 0).then(|| format!("{rest} bytes at the end are no whole entry"));
            unreadable(Problem::TransactionIndex, reason)
        }
        FileKind::ProducerSnapshot(_) => {
            let error = snapshot_entries(&read()?).err();
            unreadable(Problem::ProducerSnapshot, error.map(|error| error.to_string()))
        }
        FileKind::LeaderEpochs => {
            let error = leader_epoch_lines(&read()?).1;
            unreadable(Problem::LeaderEpochs, error.map(|error| error.to_string()))
        }
        FileKind::PartitionMetadata => {
            let error = topic_id(&read()?).err();
            unreadable(Problem::PartitionMetadata, error.map(|error| error.to_string()))
        }
        FileKind::OffsetCheckpoint => {
            let error = offset_lines(&read()?).1;
            unreadable(Problem::UnreadableCheckpoint, error.map(|error| error.to_string()))
        }
        FileKind::MetaProperties => {
            let error = meta_properties(&read()?).err();
            unreadable(Problem::MetaProperties, error.map(|error| error.to_string()))
        }
        FileKind::Leftover(leftover) => found(Problem::Leftover, leftover.meaning().to_owned()),
        FileKind::CleanShutdown | FileKind::QuorumState | FileKind::Lock => Vec::new(),
        FileKind::Unknown => found(Problem::UnknownFile, "no file of a log".to_owned()),
    })
}

fn verify_segment(
    disk: &dyn Disk,
    path: &Path,
    base_offset: Offset,
    progress: Progress<'_>,
) -> io::Result<Vec<Finding>> {
    let sibling = |extension| Some(path.with_extension(extension)).filter(|it| disk.exists(it));
    let is_snapshot = path.extension().is_some_and(|extension| extension == "checkpoint");
    let files = SegmentFiles {
        base_offset,
        log: if is_snapshot { path.to_owned() } else { path.with_extension("log") },
        offset_index: sibling("index").filter(|_| !is_snapshot),
        time_index: sibling("timeindex").filter(|_| !is_snapshot),
    };
    let mut findings = Vec::new();
    let check = SegmentCheck {
        disk,
        files: &files,
        // Whether it was compacted, and whether others follow, the file alone does not tell.
        expected: Expected { is_last: true, time_index_complete: false },
        findings: &mut findings,
        visit: &mut |_: &BatchAt<'_>, _: &Reached| Ok(()),
        progress,
    };
    check.run(&mut Reached::start(base_offset, true))?;
    Ok(findings)
}
