//! The cleaners of a node: who cleans which log, when, and how fast. Kafka's `LogCleaner` and
//! `LogCleanerManager`.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ottla_config::LogCleanerConfig;
use ottla_env::Env;
use ottla_protocol::{Monotonic, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::cleanable::CleanableLog;
use super::pass::Pass;
use super::throttler::Throttler;
use super::{CleanError, CleanerLimits, CleanerStats, secure};
use crate::log::Log;
use crate::log_dir::LogDir;
use crate::log_manager::LogManager;

/// Bytes read and written before a cleaner looks up, if nothing slows it down.
const STEP_BYTES: u64 = 64 << 20;

/// What the cleaners of a node share.
///
/// All of them are one task; each has at most one blocking job at a time, and none, nor a byte of
/// memory for keys, while there is nothing to clean.
pub struct LogCleaner {
    env: Env,
    logs: Arc<LogManager>,
    config: watch::Sender<LogCleanerConfig>,
    throttler: Throttler,
    /// Directories that a pass found full, and when: passed over for `log.cleaner.backoff.ms`, or until
    /// there is nothing else to clean.
    full: Mutex<Vec<(Arc<LogDir>, Monotonic)>>,
}

impl LogCleaner {
    /// Cleaners for `logs`.
    pub fn new(env: &Env, logs: Arc<LogManager>, config: &LogCleanerConfig) -> Arc<Self> {
        Arc::new(Self {
            env: env.clone(),
            logs,
            config: watch::Sender::new(config.clone()),
            throttler: Throttler::new(),
            full: Mutex::default(),
        })
    }

    /// Goes on with another configuration: at once with the rate, the backoff and more cleaners; a
    /// pass under way ends with the memory it has, and what are too many cleaners with their pass.
    pub fn reconfigure(&self, config: &LogCleanerConfig) {
        self.config.send_if_modified(|current| {
            let is_other = current != config;
            current.clone_from(config);
            is_other
        });
    }

    /// As many cleaners as `log.cleaner.threads`. Ends when it is dropped; a step under way still
    /// ends by itself.
    pub async fn run(self: Arc<Self>) {
        let mut changed = self.config.subscribe();
        let mut cleaners = FuturesUnordered::new();
        loop {
            while cleaners.len() < self.config.borrow().threads {
                cleaners.push(self.clean_or_wait());
            }
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                Some(()) = cleaners.next() => {}
            }
        }
    }

    /// Cleans the dirtiest log; or waits `log.cleaner.backoff.ms`, or for another configuration, when
    /// none is dirty enough.
    async fn clean_or_wait(&self) {
        let mut changed = self.config.subscribe();
        if !self.clean_filthiest().await {
            let backoff = self.config.borrow().backoff;
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                () = self.env.clock.sleep(backoff) => {}
            }
        }
    }

    /// What one cleaner may use.
    fn limits(&self) -> CleanerLimits {
        let config = self.config.borrow();
        let cleaners = config.threads.max(1);
        CleanerLimits {
            dedupe_buffer_bytes: config.dedupe_buffer_bytes / cleaners as u64,
            io_buffer_load_factor: config.io_buffer_load_factor,
            // One for reading, one for writing.
            io_buffer_bytes: config.io_buffer_bytes / cleaners / 2,
        }
    }

    /// Cleans the log that needs it most, of those in directories that have room. `false` if none
    /// does, or it could not be done now.
    pub async fn clean_filthiest(&self) -> bool {
        let (now, backoff) = (self.env.clock.now(), self.config.borrow().backoff);
        self.full.lock().retain(|(_, since)| now.since(*since) < backoff);
        while let Some(Chosen { log, pass }) = self.begin_filthiest().await {
            let cleaned = match pass {
                Ok(pass) => self.finish(pass).await,
                Err(error) => Err(error),
            };
            let is_full = matches!(cleaned, Err(CleanError::DiskFull));
            let at_once = report(&log, cleaned);
            if !is_full {
                return at_once;
            }
            self.full.lock().push((log.log_dir().clone(), self.env.clock.now()));
        }
        // After the wait that follows there may be room again.
        self.full.lock().clear();
        false
    }

    async fn begin_filthiest(&self) -> Option<Chosen> {
        let now = self.env.clock.wall();
        let (logs, limits) = (self.logs.clone(), self.limits());
        let full: Vec<_> = self.full.lock().iter().map(|(dir, _)| dir.clone()).collect();
        self.env.run_blocking(move || begin_filthiest(&logs, &limits, now, &full)).await
    }

    /// Takes a pass to its end, no faster than allowed.
    async fn finish(&self, mut pass: Box<Pass>) -> Result<CleanerStats, CleanError> {
        loop {
            let started = self.env.clock.now();
            let rate = self.config.borrow().io_max_bytes_per_second;
            let (budget, logs) = (Throttler::burst(rate, STEP_BYTES), self.logs.clone());
            let step = self.env.run_blocking(move || {
                let progress = pass.advance(budget);
                if progress.as_ref().is_ok_and(|progress| progress.done.is_some()) {
                    let _told = logs.checkpoint_cleaner();
                }
                (pass, progress)
            });
            let (after, progress) = step.await;
            pass = after;
            let progress = progress?;
            let took = (started, self.env.clock.now());
            let wait = self.throttler.charge(progress.io_bytes, rate, took);
            if !wait.is_zero() {
                self.env.clock.sleep(wait).await;
            }
            if let Some(stats) = progress.done {
                return Ok(stats);
            }
        }
    }
}

/// A log that is to be cleaned.
struct Chosen {
    log: Arc<Log>,
    pass: Result<Box<Pass>, CleanError>,
}

/// Begins a pass over the log that needs it most, none of those in directories that are `full`.
fn begin_filthiest(
    logs: &LogManager,
    limits: &CleanerLimits,
    now: Timestamp,
    full: &[Arc<LogDir>],
) -> Option<Chosen> {
    let mut filthy: Vec<CleanableLog> = logs
        .claimed_logs()
        .iter()
        .filter(|log| log.config().cleanup_policy.compact && log.cleaning().is_free())
        .filter(|log| log.log_dir().failure().is_none())
        .filter(|log| !full.iter().any(|dir| Arc::ptr_eq(dir, log.log_dir())))
        .filter_map(|log| look_at(log, now))
        .filter(CleanableLog::needs_cleaning)
        .collect();
    filthy.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    filthy.into_iter().find_map(|cleanable| {
        let log = cleanable.log.clone();
        // A crash must not take a gap that compaction left for the end of a torn segment.
        let secured = secure(&log).and_then(|()| logs.checkpoint_recovery_point_of(&log));
        let pass = secured.map(|()| Pass::begin(cleanable, limits, now)).transpose()?;
        Some(Chosen { log, pass: pass.map(Box::new).map_err(CleanError::from) })
    })
}

/// How dirty a log is; `None` if that cannot be found out.
fn look_at(log: &Arc<Log>, now: Timestamp) -> Option<CleanableLog> {
    match CleanableLog::of(log, now) {
        Ok(cleanable) => Some(cleanable),
        // Retention took a segment away meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            let segment = log.path().to_owned();
            report(log, Err(CleanError::Corrupt { segment, reason: error.to_string() }));
            None
        }
        Err(error) => {
            log.log_dir().failed("looking for what to clean", &error);
            None
        }
    }
}

/// Says what came of a pass; whether to look for another log at once.
fn report(log: &Log, cleaned: Result<CleanerStats, CleanError>) -> bool {
    let partition = log.partition();
    match cleaned {
        Ok(stats) => {
            tracing::info!(
                %partition, from = %stats.first_dirty, to = %stats.cleaned_to, keys = stats.keys,
                read = stats.bytes_read, written = stats.bytes_written, "compacted"
            );
            true
        }
        Err(CleanError::Aborted) => {
            tracing::debug!(%partition, "the log changed while it was compacted");
            false
        }
        Err(error @ CleanError::DiskFull) => {
            tracing::warn!(%partition, %error, "not compacted");
            false
        }
        Err(error @ CleanError::Corrupt { .. }) => {
            if log.cleaning().mark_uncleanable() {
                tracing::error!(%partition, %error, "not compacted any more: the log is damaged");
            }
            true
        }
        // The directory said so when it failed, and its logs are passed over.
        Err(CleanError::Storage(_)) => true,
    }
}
