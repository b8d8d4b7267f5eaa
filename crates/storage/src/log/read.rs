//! Reading: no lock, and no copy. What is answered are pieces of files.

use std::io;

use ottla_protocol::{ErrorCode, Offset};
use thiserror::Error;

use super::Log;
use crate::log_dir::LogDirFailure;
use crate::log_reader::{FetchData, LogReader, Wanted};
use crate::open_files::Wait;

/// Why nothing was read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// `OFFSET_OUT_OF_RANGE`
    #[error("offset {offset} lies outside the log, {log_start} to {log_end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// First offset of the log.
        log_start: Offset,
        /// End of the log.
        log_end: Offset,
    },
    /// `CORRUPT_MESSAGE`: the segment holds something that is no batch.
    #[error("{0}")]
    Corrupt(io::Error),
    /// `KAFKA_STORAGE_ERROR`
    #[error(transparent)]
    Storage(#[from] LogDirFailure),
}

impl ReadError {
    /// The code a client is told.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Corrupt(_) => ErrorCode::CorruptMessage,
            Self::Storage(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl Log {
    /// Whole batches from the one that holds `from`, up to `max_bytes` and before `upper_bound`
    /// (the high watermark, the last stable offset, or the log's end). With `min_one_message` the
    /// first batch comes even if it alone is larger than `max_bytes` (KIP-74).
    ///
    /// Nothing is an answer too: at the end of the log, and at or after the upper bound.
    pub fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        min_one_message: bool,
        upper_bound: Offset,
    ) -> Result<FetchData, ReadError> {
        let aborted_txns = false;
        self.fetch(&Wanted { from, upper_bound, max_bytes, min_one_message, aborted_txns })
    }

    /// [`read`](Self::read) for a `read_committed` consumer, who passes over what was aborted
    /// (KIP-98). `upper_bound` is the last stable offset.
    pub fn read_committed(
        &self,
        from: Offset,
        max_bytes: usize,
        min_one_message: bool,
        upper_bound: Offset,
    ) -> Result<FetchData, ReadError> {
        let aborted_txns = true;
        self.fetch(&Wanted { from, upper_bound, max_bytes, min_one_message, aborted_txns })
    }

    /// Where the wanted batches lie. Blocks on the disk where indexes and headers are not in
    /// memory.
    pub fn fetch(&self, wanted: &Wanted) -> Result<FetchData, ReadError> {
        self.looking("reading a segment", |reader| read(reader, wanted, Wait::ForDisk))?
    }

    /// As [`fetch`](Self::fetch), but never waits for the disk: `None` if it would have to. Then
    /// `fetch`, where blocking hurts nobody.
    pub fn try_fetch(&self, wanted: &Wanted) -> Result<Option<FetchData>, ReadError> {
        self.looking("reading a segment", |reader| match read(reader, wanted, Wait::Never) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Ok(None)),
            read => read.map(|data| data.map(Some)),
        })?
    }

    /// The log as it is now. Takes no lock.
    pub(super) fn reader(&self) -> LogReader {
        LogReader::new(self.segments.load(), || (self.log_start_offset(), self.log_end_offset()))
    }

    /// Looks into segments without a lock. Retention, a truncation or compaction may take a file
    /// away in the meantime: then it looks again, as long as there are other segments by now.
    pub(super) fn looking<T>(
        &self,
        doing: &str,
        look: impl Fn(&LogReader) -> io::Result<T>,
    ) -> Result<T, ReadError> {
        self.dir.check_online()?;
        let error = loop {
            let reader = self.reader();
            let error = match look(&reader) {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            if !is_gone(&error) && !is_corrupt(&error) {
                break error;
            }
            // Files change under this lock; once it is free, the list says so.
            drop(self.writer.lock());
            if reader.is_of(&self.segments.load()) {
                break error;
            }
        };
        Err(if is_corrupt(&error) {
            ReadError::Corrupt(error)
        } else if is_gone(&error) && self.writer.lock().active.is_none() {
            LogDirFailure::Closed.into()
        } else {
            self.dir.failed(doing, &error).into()
        })
    }
}

fn read(
    reader: &LogReader,
    wanted: &Wanted,
    wait: Wait,
) -> io::Result<Result<FetchData, ReadError>> {
    if reader.is_deleted() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let (offset, log_start, log_end) = (wanted.from, reader.log_start(), reader.log_end());
    if offset < log_start || offset > log_end {
        return Ok(Err(ReadError::OffsetOutOfRange { offset, log_start, log_end }));
    }
    reader.read(wanted, wait).map(Ok)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn is_corrupt(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ottla_config::LogConfig;
    use ottla_env::Env;
    use ottla_protocol::record_batch::{NewRecord, RecordBatchBuilder};
    use ottla_protocol::{LeaderEpoch, Timestamp, TopicPartition};

    use super::*;
    use crate::log_dir::LogDir;
    use crate::{AppendOrigin, LeaderAppend, LogOpenOptions};

    fn append(log: &Log) {
        let mut batch = RecordBatchBuilder::new();
        batch.append(&NewRecord { value: Some(b"a record"), ..NewRecord::default() });
        let (leader_epoch, origin) = (LeaderEpoch(0), AppendOrigin::Client);
        let append = LeaderAppend { leader_epoch, origin, now: Timestamp(0) };
        log.append_as_leader(&batch.build(), append).unwrap();
    }

    /// Everything that `reader` has, and what it says of the log.
    fn seen(reader: &LogReader) -> (Vec<u8>, FetchData) {
        let (from, upper_bound) = (reader.log_start(), Offset(i64::MAX));
        let max_bytes = usize::MAX;
        let wanted =
            Wanted { from, upper_bound, max_bytes, min_one_message: true, aborted_txns: false };
        let data = reader.read(&wanted, Wait::ForDisk).unwrap();
        (data.read().unwrap().to_vec(), data)
    }

    #[tokio::test]
    async fn a_reader_sees_the_log_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let dir = LogDir::new(&Env::os(), root.path().to_owned(), 3);
        let config = LogConfig { segment_bytes: 200, ..LogConfig::default() };
        let options = LogOpenOptions::new(config, Duration::from_secs(60));
        let log = Log::open(dir, TopicPartition::new("topic", 0), options).unwrap();
        for _ in 0..3 {
            append(&log);
        }
        let reader = log.reader();
        let (before, _) = seen(&reader);
        assert!(log.segment_count() > 1, "not all in one segment");
        for _ in 0..20 {
            append(&log);
            let (now, data) = seen(&reader);
            assert_eq!(now, before);
            assert_eq!((data.log_end_offset, data.is_limited), (Offset(3), false));
        }
        // Indexes move from memory into files.
        log.flush(log.log_end_offset()).unwrap();
        assert_eq!(seen(&reader).0, before);
        assert_eq!(seen(&log.reader()).0.len(), before.len() / 3 * 23);
    }
}
