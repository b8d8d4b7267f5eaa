//! What lies in a partition's directory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_protocol::Offset;

use crate::file_name::{
    CLEANED, DELETED, INDEX, LOG, SNAPSHOT, SWAP, TEMPORARY, TIME_INDEX, TXN_INDEX,
    parse_segment_file, segment_file,
};
use crate::log_dir::LogDir;
use crate::log_segment::{LogSegment, SegmentFileSizes};

/// The files of a log, by the offset in their names.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) segments: BTreeMap<Offset, ListedFiles>,
    pub(super) snapshots: BTreeMap<Offset, PathBuf>,
    /// There are files of a compaction that did not come to its end, unless one is under way.
    pub(super) is_compaction_interrupted: bool,
}

/// Lengths of a segment's files; `None` where there is no file.
#[derive(Default)]
pub(super) struct ListedFiles {
    pub(super) log: Option<u64>,
    pub(super) index: Option<u64>,
    pub(super) time_index: Option<u64>,
    pub(super) txn_index: Option<u64>,
}

impl ListedFiles {
    pub(super) fn sizes(&self) -> SegmentFileSizes {
        SegmentFileSizes {
            log: self.log.unwrap_or(0),
            index: self.index,
            time_index: self.time_index,
        }
    }

    pub(super) fn has_indexes(&self) -> bool {
        self.index.is_some_and(|len| len % crate::offset_index::ENTRY_LEN == 0)
            && self.time_index.is_some_and(|len| len % crate::time_index::ENTRY_LEN == 0)
    }

    pub(super) fn remove(&self, dir: &LogDir, path: &Path, base_offset: Offset) -> io::Result<()> {
        for (len, extension) in [
            (self.log, LOG),
            (self.index, INDEX),
            (self.time_index, TIME_INDEX),
            (self.txn_index, TXN_INDEX),
        ] {
            if len.is_some() {
                dir.disk().remove_file(&segment_file(path, base_offset, extension))?;
            }
        }
        Ok(())
    }
}

impl Listing {
    /// Lists the directory `path`, or makes it. What an earlier run wanted removed is removed.
    pub(super) fn of(dir: &LogDir, path: &Path) -> io::Result<Self> {
        let entries = match dir.disk().read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                dir.disk().create_dir_all(path)?;
                return Ok(Self::default());
            }
            entries => entries?,
        };
        let mut listing = Self::default();
        for entry in entries {
            let Some((base_offset, extension)) = parse_segment_file(&entry.name) else { continue };
            let files = &mut listing.segments;
            match extension {
                LOG => files.entry(base_offset).or_default().log = Some(entry.len),
                INDEX => files.entry(base_offset).or_default().index = Some(entry.len),
                TIME_INDEX => files.entry(base_offset).or_default().time_index = Some(entry.len),
                TXN_INDEX => files.entry(base_offset).or_default().txn_index = Some(entry.len),
                SNAPSHOT => {
                    listing.snapshots.insert(base_offset, entry.path);
                }
                other if other.ends_with(DELETED) || other.ends_with(TEMPORARY) => {
                    dir.disk().remove_file(&entry.path)?;
                }
                other if other.ends_with(CLEANED) || other.ends_with(SWAP) => {
                    listing.is_compaction_interrupted = true;
                }
                _ => {}
            }
        }
        // An index whose segment is gone.
        for (base_offset, files) in &listing.segments {
            if files.log.is_none() {
                files.remove(dir, path, *base_offset)?;
            }
        }
        listing.segments.retain(|_, files| files.log.is_some());
        Ok(listing)
    }
}

/// Removes snapshots that no rebuild may use, or would: all but the newest one that is not beyond the end,
/// and those taken when a segment was rolled, to which a truncation may go back.
pub(super) fn keep_useful_snapshots(
    dir: &LogDir,
    mut snapshots: BTreeMap<Offset, PathBuf>,
    segments: &[Arc<LogSegment>],
    log_end: Offset,
) -> io::Result<BTreeMap<Offset, PathBuf>> {
    let newest = snapshots.keys().copied().rfind(|offset| *offset <= log_end);
    let useful = |offset| {
        Some(offset) == newest
            || offset < log_end && segments.iter().any(|segment| segment.base_offset() == offset)
    };
    for (offset, file) in &snapshots {
        if !useful(*offset) {
            dir.disk().remove_file(file)?;
        }
    }
    if snapshots.last_key_value().is_some_and(|(offset, _)| *offset > log_end) {
        // Once the log has grown past it, it would be taken for the truth.
        let path = segments.first().and_then(|segment| segment.path().parent());
        path.map_or(Ok(()), |path| dir.disk().sync_dir(path))?;
    }
    snapshots.retain(|offset, _| useful(*offset));
    Ok(snapshots)
}
