//! One log in a directory of its own.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ottla_config::LogConfig;
use ottla_env::Env;
use ottla_protocol::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use ottla_storage::{
    AppendError, AppendOrigin, LeaderAppend, Log, LogAppendInfo, LogDir, LogOpenOptions,
};

use crate::batches;

/// The wall clock of these tests, unless they say otherwise.
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A log that can be closed or crashed, and opened again.
pub(crate) struct SingleLog {
    pub(crate) root: tempfile::TempDir,
    pub(crate) config: LogConfig,
    pub(crate) log: Arc<Log>,
}

pub(crate) fn env() -> Env {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap());
    let _inside = runtime.enter();
    Env::os()
}

/// A directory, in memory where there is such a place: these tests sync a lot.
pub(crate) fn root() -> tempfile::TempDir {
    match std::path::Path::new("/dev/shm") {
        shm if shm.is_dir() => tempfile::tempdir_in(shm).unwrap(),
        _ => tempfile::tempdir().unwrap(),
    }
}

impl SingleLog {
    pub(crate) fn new(config: LogConfig) -> Self {
        let root = root();
        let options = LogOpenOptions { clean_shutdown: true, ..options(&config) };
        let log = open(&root, options).unwrap();
        Self { root, config, log }
    }

    /// A log with segments of `segment_bytes` and an index entry per batch.
    pub(crate) fn with_segments_of(segment_bytes: u32) -> Self {
        Self::new(LogConfig { segment_bytes, index_interval_bytes: 1, ..LogConfig::default() })
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("topic-0")
    }

    /// Names of the files with this extension, in order.
    pub(crate) fn files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
        files.sort();
        files
    }

    pub(crate) fn last_file(&self, extension: &str) -> PathBuf {
        self.files(extension).pop().unwrap()
    }

    pub(crate) fn append(&self, records: &Bytes) -> Result<LogAppendInfo, AppendError> {
        self.append_as(records, AppendOrigin::Client, 0)
    }

    pub(crate) fn append_as(
        &self,
        records: &Bytes,
        origin: AppendOrigin,
        epoch: i32,
    ) -> Result<LogAppendInfo, AppendError> {
        let leader_epoch = LeaderEpoch(epoch);
        self.log.append_as_leader(records, LeaderAppend { leader_epoch, origin, now: NOW })
    }

    pub(crate) fn append_values(&self, values: &[&str]) -> LogAppendInfo {
        self.append(&batches::builder(NOW.0, values).build()).unwrap()
    }

    /// Offset and value of every record from the start to the end.
    pub(crate) fn contents(&self) -> Vec<(i64, String)> {
        let (start, end) = (self.log.log_start_offset(), self.log.log_end_offset());
        let data = self.log.read(start, usize::MAX, true, end).unwrap();
        let mut records = batches::decode(&data.read().unwrap());
        records.retain(|(offset, _)| *offset >= start.0);
        records
    }

    pub(crate) fn values(&self) -> Vec<String> {
        self.contents().into_iter().map(|(_, value)| value).collect()
    }

    /// Closes the log and opens it again.
    pub(crate) fn restart(&mut self) {
        self.log.close().unwrap();
        self.reopen(self.log.recovery_point(), true);
    }

    /// Opens the log again without having closed it.
    pub(crate) fn crash(&mut self) {
        self.reopen(self.log.recovery_point(), false);
    }

    pub(crate) fn reopen(&mut self, recovery_point: Offset, clean: bool) {
        self.log = self.try_reopen(recovery_point, clean).unwrap();
    }

    pub(crate) fn try_reopen(&self, recovery_point: Offset, clean: bool) -> io::Result<Arc<Log>> {
        let mut options = options(&self.config);
        options.recovery_point = recovery_point;
        options.log_start_offset = self.log.log_start_offset();
        options.first_dirty_offset = self.log.first_dirty_offset();
        options.clean_shutdown = clean;
        open(&self.root, options)
    }

    /// Of which no checkpoint is known.
    pub(crate) fn options(&self) -> LogOpenOptions {
        options(&self.config)
    }

    pub(crate) fn open_with(&mut self, options: LogOpenOptions) {
        self.log = open(&self.root, options).unwrap();
    }
}

fn options(config: &LogConfig) -> LogOpenOptions {
    LogOpenOptions::new(config.clone(), Duration::from_secs(3600))
}

fn open(root: &tempfile::TempDir, options: LogOpenOptions) -> io::Result<Arc<Log>> {
    let dir = LogDir::new(&env(), root.path().to_owned(), 3);
    Log::open(dir, TopicPartition::new("topic", 0), options).map(Arc::new)
}
