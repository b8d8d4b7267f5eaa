//! One segment: a `.log` file and its indexes. Kafka's `LogSegment`.

mod lost_index;

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use ottla_config::LogConfig;
use ottla_env::{File, OpenMode};
use ottla_protocol::{Offset, Timestamp};

use crate::batch_header::BatchHeader;
use crate::batch_scanner::{FoundBatch, HeaderScanner, corrupt};
use crate::file_name::{DELETED, INDEX, LOG, SNAPSHOT, TIME_INDEX, TXN_INDEX, segment_file};
use crate::log_dir::LogDir;
use crate::offset_index::{self, OffsetIndex, OffsetPosition};
use crate::open_files::{CachedFile, Wait};
use crate::recovery::skip_invalid;
use crate::time_index::{self, TimeIndex, TimestampOffset};
use crate::transaction_index::TransactionIndex;

/// A timestamp not yet read from disk.
const UNKNOWN: i64 = i64::MIN;

/// Batches from `base_offset` on. One writer appends to the last segment of a log; any number of
/// readers look at it without a lock: what `size` covers never changes.
pub(crate) struct LogSegment {
    base_offset: Offset,
    log: Arc<CachedFile>,
    size: AtomicU64,
    /// Bytes that were there already when this object was made.
    found_size: u64,
    offset_index: OffsetIndex,
    time_index: TimeIndex,
    /// What the index files were last given is on the disk.
    indexes_synced: AtomicBool,
    /// Somebody removed or cut the index files, or they do not fit: to be made anew.
    indexes_lost: AtomicBool,
    txn_index: TransactionIndex,
    /// Largest timestamp of the first batch: the age that `segment.ms` counts from.
    first_timestamp: AtomicI64,
    largest_timestamp: AtomicI64,
    offset_of_largest: AtomicI64,
    bytes_since_index_entry: AtomicU64,
    created: Timestamp,
}

impl LogSegment {
    /// Makes an empty segment in the partition's directory `path`.
    pub(crate) fn create(
        dir: &LogDir,
        path: &Path,
        base_offset: Offset,
        config: &LogConfig,
    ) -> io::Result<Arc<Self>> {
        let segment = Self::unwritten(dir, path, base_offset);
        let file = segment.log.create()?;
        if config.preallocate {
            file.allocate(u64::from(config.segment_bytes))?;
        }
        Ok(segment)
    }

    /// Gives back the space that was reserved (`preallocate`) and not written. Not while somebody
    /// appends.
    pub(crate) fn trim(&self) -> io::Result<()> {
        self.file()?.set_len(self.size())
    }

    /// An empty segment without a file yet.
    pub(crate) fn unwritten(dir: &LogDir, path: &Path, base_offset: Offset) -> Arc<Self> {
        Self::open(dir, path, base_offset, SegmentFileSizes::default())
    }

    /// A segment whose `.log` file exists. Nothing is read.
    pub(crate) fn open(
        dir: &LogDir,
        path: &Path,
        base_offset: Offset,
        sizes: SegmentFileSizes,
    ) -> Arc<Self> {
        let file = |extension| dir.cached_file(segment_file(path, base_offset, extension));
        let unknown = if sizes.log == 0 { Timestamp::NONE.0 } else { UNKNOWN };
        Arc::new(Self {
            base_offset,
            log: file(LOG),
            size: AtomicU64::new(sizes.log),
            found_size: sizes.log,
            offset_index: OffsetIndex::new(base_offset, file(INDEX), sizes.index),
            time_index: TimeIndex::new(base_offset, file(TIME_INDEX), sizes.time_index),
            indexes_synced: AtomicBool::new(true),
            indexes_lost: AtomicBool::new(false),
            txn_index: TransactionIndex::empty(base_offset, file(TXN_INDEX)),
            first_timestamp: AtomicI64::new(unknown),
            largest_timestamp: AtomicI64::new(unknown),
            offset_of_largest: AtomicI64::new(base_offset.0),
            bytes_since_index_entry: AtomicU64::new(0),
            created: dir.now(),
        })
    }

    pub(crate) fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// Bytes of batches.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Bytes that this object did not see being written.
    pub(crate) fn found_size(&self) -> u64 {
        self.found_size
    }

    pub(crate) fn path(&self) -> &Path {
        self.log.path()
    }

    pub(crate) fn file(&self) -> io::Result<Arc<dyn File>> {
        self.log.get()
    }

    /// The transactions that markers in this segment aborted. Made without entries; who opens a
    /// segment loads them.
    pub(crate) fn txn_index(&self) -> &TransactionIndex {
        &self.txn_index
    }

    /// When this object was made: since when an empty segment, or one without timestamps, waits.
    pub(crate) fn created(&self) -> Timestamp {
        self.created
    }

    // --- the writer's side: one thread at a time ---

    /// Takes note of a batch written at `position`, the segment's size so far. Readers see it
    /// after [`publish`](Self::publish).
    pub(crate) fn appended(&self, batch: &BatchHeader, position: u64, size: u64, interval: u32) {
        if position == 0 {
            self.first_timestamp.store(batch.max_timestamp.0, Ordering::Relaxed);
        }
        self.note_timestamp(batch);
        let mut since = self.bytes_since_index_entry.load(Ordering::Relaxed);
        if since > u64::from(interval) {
            let offset = batch.last_offset();
            self.offset_index.append(OffsetPosition { offset, position });
            self.time_index.maybe_append(self.largest_so_far());
            since = 0;
        }
        self.bytes_since_index_entry.store(since + size, Ordering::Relaxed);
    }

    fn note_timestamp(&self, batch: &BatchHeader) {
        if batch.max_timestamp.0 > self.largest_timestamp.load(Ordering::Relaxed) {
            self.largest_timestamp.store(batch.max_timestamp.0, Ordering::Relaxed);
            self.offset_of_largest.store(batch.last_offset().0, Ordering::Relaxed);
        }
    }

    /// Shows readers the batches up to byte `size`.
    pub(crate) fn publish(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// Ends the time index with the largest timestamp, as a segment that takes no more does.
    pub(crate) fn complete_time_index(&self) {
        self.time_index.maybe_append(self.largest_so_far());
    }

    /// Whether another entry might not fit into indexes of `limit` bytes each.
    pub(crate) fn indexes_full(&self, limit: u32) -> bool {
        let limit = u64::from(limit);
        (self.offset_index.entries().len() as u64 + 1) * offset_index::ENTRY_LEN > limit
            // One more for the entry that completes the index.
            || (self.time_index.entries().len() as u64 + 2) * time_index::ENTRY_LEN > limit
    }

    fn largest_so_far(&self) -> TimestampOffset {
        TimestampOffset {
            timestamp: Timestamp(self.largest_timestamp.load(Ordering::Relaxed)),
            offset: Offset(self.offset_of_largest.load(Ordering::Relaxed)),
        }
    }

    // --- any thread ---

    /// Largest timestamp of the first batch; [`Timestamp::NONE`] if there is no batch or time, or
    /// the batch is rotten.
    pub(crate) fn first_timestamp(&self) -> io::Result<Timestamp> {
        let known = self.first_timestamp.load(Ordering::Relaxed);
        if known != UNKNOWN {
            return Ok(Timestamp(known));
        }
        let file = self.file()?;
        let first = self.scanner(&*file, 0, self.size(), Wait::ForDisk).next_batch();
        let first = skip_invalid(first)?.flatten();
        let timestamp = first.map_or(Timestamp::NONE, |batch| batch.header.max_timestamp);
        self.first_timestamp.store(timestamp.0, Ordering::Relaxed);
        Ok(timestamp)
    }

    /// Largest timestamp of any batch; [`Timestamp::NONE`] if there is none.
    pub(crate) fn largest_timestamp(&self) -> io::Result<Timestamp> {
        let known = self.largest_timestamp.load(Ordering::Relaxed);
        if known != UNKNOWN {
            return Ok(Timestamp(known));
        }
        let largest = match self.time_index.last() {
            Err(error) if self.is_index_lost(&error) => self.find_largest()?,
            Ok(Some(last)) if !self.confirms(last)? => self.find_largest()?,
            last => last?,
        };
        self.note_largest(largest);
        Ok(largest.map_or(Timestamp::NONE, |entry| entry.timestamp))
    }

    fn note_largest(&self, largest: Option<TimestampOffset>) {
        let none = TimestampOffset { timestamp: Timestamp::NONE, offset: self.base_offset };
        let TimestampOffset { timestamp, offset } = largest.unwrap_or(none);
        self.offset_of_largest.store(offset.0, Ordering::Relaxed);
        self.largest_timestamp.store(timestamp.0, Ordering::Relaxed);
    }

    // --- opening ---

    /// Finds the end of the last segment of a log that was closed: what follows the last entry of
    /// its index is scanned. A segment that does not fit its indexes is
    /// [`io::ErrorKind::InvalidData`].
    pub(crate) fn find_end(&self) -> io::Result<Offset> {
        let (file, size) = (self.file()?, self.size());
        let last = self.offset_index.last()?;
        if last.position > 0 && last.position >= size {
            return Err(corrupt());
        }
        match self.time_index.last()? {
            Some(last) if !self.confirms(last)? => return Err(corrupt()),
            last => self.note_largest(last),
        }
        let mut next_offset = self.base_offset;
        let mut scanner = self.scanner(&*file, last.position, size, Wait::ForDisk);
        while let Some(batch) = scanner.next_batch()? {
            self.note_timestamp(&batch.header);
            next_offset = batch.header.next_offset();
        }
        self.bytes_since_index_entry.store(size - last.position, Ordering::Relaxed);
        Ok(next_offset)
    }

    /// Keeps of the indexes on disk what a checkpoint at `offset` vouches for, and goes on behind
    /// it: the batch that the last entry is about. `None` if there is no entry, or it is about
    /// another batch.
    pub(crate) fn resume_at(&self, offset: Offset) -> io::Result<Option<FoundBatch>> {
        let last = self.offset_index.keep_before(offset)?;
        self.time_index.keep_before(offset)?;
        if last.position == 0 || last.position >= self.size() {
            return Ok(None);
        }
        match self.time_index.last()? {
            Some(last) if !self.confirms(last)? => return Ok(None),
            last => self.note_largest(last),
        }
        let file = self.file()?;
        let batch = self.scanner(&*file, last.position, self.size(), Wait::ForDisk).next_batch()?;
        Ok(batch.filter(|batch| batch.header.last_offset() == last.offset))
    }

    /// The first batch before byte `limit` that ends at `offset` or later.
    pub(crate) fn find_offset(
        &self,
        offset: Offset,
        limit: u64,
        wait: Wait,
    ) -> io::Result<Option<FoundBatch>> {
        let hint = self.hint(self.offset_index.lookup(offset, wait))?;
        let found = self.find(hint, limit, wait, |batch| batch.last_offset() >= offset)?;
        if let Some(batch) = found.filter(|batch| batch.header.base_offset > offset) {
            // Compaction left a gap, or a bit flipped: then the next batch begins too early.
            let file = self.file()?;
            let mut scanner = self.scanner(&*file, batch.position, limit, wait);
            scanner.next_batch()?;
            if !scanner.is_followed()? {
                return Err(corrupt());
            }
        }
        Ok(found)
    }

    /// Where the batches before `bound` end: the position of the first one that begins at or
    /// after it, or `limit`.
    pub(crate) fn position_of_bound(
        &self,
        bound: Offset,
        limit: u64,
        wait: Wait,
    ) -> io::Result<u64> {
        let hint = self.hint(self.offset_index.lookup(bound, wait))?;
        let found = self.find(hint, limit, wait, |batch| batch.next_offset() > bound)?;
        Ok(found.map_or(limit, |batch| batch.position))
    }

    /// The end of the last whole batch at or before byte `target`; `from` is where a batch ends.
    pub(crate) fn batch_boundary(
        &self,
        from: u64,
        target: u64,
        limit: u64,
        wait: Wait,
    ) -> io::Result<u64> {
        let hint = self.hint(self.offset_index.lookup_position(target, wait))?;
        let file = self.file()?;
        if hint.position > from {
            match last_boundary(&*file, hint.position, target, limit, wait) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.lose_indexes(&lost_index::MISFIT)
                }
                boundary => return boundary,
            }
        }
        last_boundary(&*file, from, target, limit, wait)
    }

    /// The end of the batch that begins at byte `start`.
    pub(crate) fn batch_end(&self, start: u64, limit: u64, wait: Wait) -> io::Result<u64> {
        let file = self.file()?;
        let batch = self.scanner(&*file, start, limit, wait).next_batch()?;
        Ok(batch.map_or(start, |batch| batch.end()))
    }

    /// Where the batches before `bound` end, and the offset of the one that follows there, `bound` at
    /// most. `None` if a rotten batch is in the way: then where those before it end.
    pub(crate) fn find_cut(&self, bound: Offset) -> io::Result<(u64, Option<Offset>)> {
        let found = self.position_of_bound(bound, self.size(), Wait::ForDisk);
        let found = found.and_then(|at| Ok((at, self.begins_at(at, bound)?)));
        if let Some((position, offset)) = skip_invalid(found)? {
            return Ok((position, Some(offset)));
        }
        let file = self.file()?;
        let mut scanner = self.scanner(&*file, 0, self.size(), Wait::ForDisk);
        let mut end = 0;
        while let Some(Some(batch)) = skip_invalid(scanner.next_batch())?
            && batch.header.next_offset() <= bound
        {
            end = batch.end();
        }
        Ok((end, None))
    }

    /// Offset of the batch at byte `position`, or `end` if that is lower.
    fn begins_at(&self, position: u64, end: Offset) -> io::Result<Offset> {
        let file = self.file()?;
        let mut scanner = self.scanner(&*file, position, self.size(), Wait::ForDisk);
        let batch = scanner.next_batch()?;
        match scanner.is_followed()? {
            true => Ok(batch.map_or(end, |batch| batch.header.base_offset.min(end))),
            false => Err(corrupt()),
        }
    }

    /// The offset after the batch that ends at byte `end`.
    pub(crate) fn offset_at(&self, end: u64, wait: Wait) -> io::Result<Offset> {
        let before = end.saturating_sub(1);
        let hint = self.hint(self.offset_index.lookup_position(before, wait))?;
        let offset = Cell::new(self.base_offset);
        self.find(hint, end, wait, |batch| {
            offset.set(batch.next_offset());
            false
        })?;
        Ok(offset.get())
    }

    /// Where a batch begins at or before byte `position`: as far as the index knows.
    pub(crate) fn batch_start(&self, position: u64) -> io::Result<u64> {
        let hint = self.hint(self.offset_index.lookup_position(position, Wait::ForDisk))?;
        Ok(hint.position)
    }

    /// The first batch before byte `limit`, at or after `start`, with a timestamp at or after
    /// `target`.
    pub(crate) fn find_timestamp(
        &self,
        target: Timestamp,
        start: Offset,
        limit: u64,
    ) -> io::Result<Option<FoundBatch>> {
        let hint = match self.time_index.lookup(target) {
            Err(error) if self.is_index_lost(&error) => None,
            // An entry that is not true leads past what is wanted.
            Ok(Some(hint)) if !self.confirms(hint)? => None,
            hint => hint?,
        };
        let from = hint.map_or(start, |entry| entry.offset.max(start));
        let hint = self.hint(self.offset_index.lookup(from, Wait::ForDisk))?;
        self.find(hint, limit, Wait::ForDisk, |batch| {
            batch.max_timestamp >= target && batch.last_offset() >= start
        })
    }

    /// Where a scan begins: where the index leads, or at the start if the index is lost.
    fn hint(&self, found: io::Result<OffsetPosition>) -> io::Result<OffsetPosition> {
        match found {
            Err(error) if self.is_index_lost(&error) => {
                Ok(OffsetPosition { offset: self.base_offset, position: 0 })
            }
            found => found,
        }
    }

    /// Whether the batches say what an entry of the time index says.
    fn confirms(&self, entry: TimestampOffset) -> io::Result<bool> {
        let batch = self.find_offset(entry.offset, self.size(), Wait::ForDisk)?;
        let fits = batch.is_some_and(|batch| batch.header.max_timestamp == entry.timestamp);
        if !fits {
            self.lose_indexes(&lost_index::MISFIT);
        }
        Ok(fits)
    }

    /// Scans from the batch at `position`.
    fn scanner<'a>(
        &self,
        file: &'a dyn File,
        position: u64,
        limit: u64,
        wait: Wait,
    ) -> HeaderScanner<'a> {
        HeaderScanner::waiting(file, position, limit, wait).not_before(self.base_offset)
    }

    /// Scans from where an index pointed. An index is a hint: if it leads nowhere, the scan begins
    /// at the start of the segment.
    fn find(
        &self,
        hint: OffsetPosition,
        limit: u64,
        wait: Wait,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> io::Result<Option<FoundBatch>> {
        let file = self.file()?;
        if hint.position > 0 && hint.position < limit {
            let mut scanner = self.scanner(&*file, hint.position, limit, wait);
            match scanner.next_batch() {
                // Kafka's followers note the last offset of several batches with the position of
                // the first one.
                Ok(Some(batch)) if batch.header.last_offset() <= hint.offset => {
                    if !wanted(&batch.header) {
                        return scan(scanner, wanted);
                    }
                    return if scanner.seems_followed()? {
                        Ok(Some(batch))
                    } else {
                        Err(corrupt())
                    };
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(error) => return Err(error),
            }
            self.lose_indexes(&lost_index::MISFIT);
        }
        scan(self.scanner(&*file, 0, limit, wait), wanted)
    }

    // --- on disk ---

    /// Whether a power loss would leave less in the index files than there is.
    pub(crate) fn has_unsaved_indexes(&self) -> bool {
        let synced = self.indexes_synced.load(Ordering::Acquire) && self.are_indexes_saved();
        !synced || self.has_lost_indexes()
    }

    /// Whether the indexes have to be made anew.
    pub(crate) fn has_lost_indexes(&self) -> bool {
        self.indexes_lost.load(Ordering::Acquire)
    }

    fn are_indexes_saved(&self) -> bool {
        self.offset_index.entries().is_saved() && self.time_index.entries().is_saved()
    }

    /// Writes what the index files lack; the files, for the caller to sync and say so. On an error
    /// the files hold what they held before.
    pub(crate) fn save_indexes(&self) -> io::Result<[PathBuf; 2]> {
        if self.has_lost_indexes() {
            self.rebuild_indexes()?;
        }
        if !self.are_indexes_saved() {
            self.indexes_synced.store(false, Ordering::Release);
            match self.append_to_index_files() {
                Err(error) if self.is_index_lost(&error) => {
                    self.rebuild_indexes()?;
                    self.append_to_index_files()?;
                }
                saved => saved?,
            }
        }
        Ok([self.sibling(INDEX), self.sibling(TIME_INDEX)])
    }

    fn append_to_index_files(&self) -> io::Result<()> {
        self.time_index.entries().save()?;
        self.offset_index.entries().save()
    }

    /// Notes that what was last saved of the indexes survives a power loss.
    pub(crate) fn indexes_are_synced(&self) {
        self.indexes_synced.store(true, Ordering::Release);
    }

    /// Makes the index files survive a power loss, but for their names.
    pub(crate) fn sync_indexes(&self, dir: &LogDir) -> io::Result<()> {
        for path in self.save_indexes()? {
            dir.open(&path, OpenMode::ReadWrite)?.sync_data()?;
        }
        self.indexes_are_synced();
        Ok(())
    }

    /// Writes the indexes, of which nothing was saved yet, to files whose names end with
    /// `.suffix`; the files, for the caller to sync.
    pub(crate) fn write_indexes_as(&self, dir: &LogDir, suffix: &str) -> io::Result<[PathBuf; 2]> {
        let paths = [INDEX, TIME_INDEX].map(|index| self.sibling(&format!("{index}.{suffix}")));
        let contents = [self.offset_index.entries().unsaved(), self.time_index.entries().unsaved()];
        for (path, bytes) in paths.iter().zip(contents) {
            let file = dir.disk().open(path, OpenMode::Truncate)?;
            file.write_all_at(&mut [io::IoSlice::new(&bytes)], 0)?;
        }
        Ok(paths)
    }

    /// Removes the index files, for the indexes to be made anew.
    pub(crate) fn remove_index_files(&self, dir: &LogDir) -> io::Result<()> {
        self.offset_index.entries().retire();
        self.time_index.entries().retire();
        for extension in [INDEX, TIME_INDEX] {
            match dir.disk().remove_file(&self.sibling(extension)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sibling(&self, extension: &str) -> PathBuf {
        self.path().with_extension(extension)
    }

    /// Renames the segment's files to `*.deleted` and has them removed at `due`. Readers that
    /// hold the file go on reading.
    pub(crate) fn delete(&self, dir: &LogDir, due: Timestamp) -> io::Result<()> {
        self.delete_replaced(dir, due)?;
        self.delete_file(dir, due, SNAPSHOT)
    }

    /// Like [`delete`](Self::delete) where a cleaned segment begins with the same offset: the
    /// producers up to there stay as they were.
    pub(crate) fn delete_replaced(&self, dir: &LogDir, due: Timestamp) -> io::Result<()> {
        self.log.retire();
        self.txn_index.retire();
        self.offset_index.entries().retire();
        self.time_index.entries().retire();
        CLEANABLE_FILES.into_iter().try_for_each(|extension| self.delete_file(dir, due, extension))
    }

    fn delete_file(&self, dir: &LogDir, due: Timestamp, extension: &str) -> io::Result<()> {
        let path = self.sibling(extension);
        let deleted = self.sibling(&format!("{extension}.{DELETED}"));
        match dir.disk().rename(&path, &deleted) {
            Ok(()) => dir.remove_at(due, deleted, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    // --- compaction ---

    /// Whether the two are the same file, however it is indexed.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.log, &other.log)
    }

    /// Lengths of its files.
    pub(crate) fn file_sizes(&self) -> SegmentFileSizes {
        SegmentFileSizes {
            log: self.size(),
            index: Some(self.offset_index.entries().len() as u64 * offset_index::ENTRY_LEN),
            time_index: Some(self.time_index.entries().len() as u64 * time_index::ENTRY_LEN),
        }
    }

    /// Bytes of the larger index.
    pub(crate) fn index_size(&self) -> u64 {
        let sizes = self.file_sizes();
        sizes.index.max(sizes.time_index).unwrap_or(0)
    }

    /// The offset after the last batch.
    pub(crate) fn end_offset(&self) -> io::Result<Offset> {
        self.offset_at(self.size(), Wait::ForDisk)
    }

    /// Where a scan for `offset` begins: the position of a batch at or before it.
    pub(crate) fn position_before(&self, offset: Offset) -> u64 {
        self.offset_index.lookup(offset, Wait::ForDisk).map_or(0, |entry| entry.position)
    }
}

/// The files of a segment that compaction writes anew.
pub(crate) const CLEANABLE_FILES: [&str; 4] = [LOG, INDEX, TIME_INDEX, TXN_INDEX];

/// Lengths of a segment's files in bytes; `None` of an index that has no file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SegmentFileSizes {
    pub(crate) log: u64,
    pub(crate) index: Option<u64>,
    pub(crate) time_index: Option<u64>,
}

/// The end of the last whole batch at or before byte `target`, from the batch at `from` on.
fn last_boundary(
    file: &dyn File,
    from: u64,
    target: u64,
    limit: u64,
    wait: Wait,
) -> io::Result<u64> {
    let mut scanner = HeaderScanner::waiting(file, from, limit, wait);
    let mut boundary = from;
    while let Some(batch) = scanner.next_batch()? {
        if batch.end() > target {
            break;
        }
        boundary = batch.end();
    }
    Ok(boundary)
}

fn scan(
    mut scanner: HeaderScanner<'_>,
    wanted: impl Fn(&BatchHeader) -> bool,
) -> io::Result<Option<FoundBatch>> {
    while let Some(batch) = scanner.next_batch()? {
        if wanted(&batch.header) {
            return if scanner.seems_followed()? { Ok(Some(batch)) } else { Err(corrupt()) };
        }
    }
    Ok(None)
}
