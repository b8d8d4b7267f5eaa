//! The cleaners of a node: who cleans which log, when, and how fast. Kafka's `LogCleaner` and
//! `LogCleanerManager`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::LogCleanerConfig;
use ottla_env::Env;
use ottla_protocol::Timestamp;

use super::cleanable::CleanableLog;
use super::pass::Pass;
use super::throttler::Throttler;
use super::{CleanError, CleanerLimits, CleanerStats, begin};
use crate::log::Log;
use crate::log_manager::LogManager;

/// Bytes read and written before a cleaner looks up, if nothing slows it down.
const STEP_BYTES: u64 = 64 << 20;

/// What the cleaners of a node share.
///
/// Each cleaner is a task that has at most one blocking job at a time, and none, nor a byte of
/// memory for keys, while there is nothing to clean.
pub struct LogCleaner {
    env: Env,
    logs: Arc<LogManager>,
    limits: CleanerLimits,
    backoff: Duration,
    throttler: Throttler,
}

impl LogCleaner {
    /// Cleaners for `logs`, of which `config.threads` may [`run`](Self::run).
    pub fn new(env: &Env, logs: Arc<LogManager>, config: &LogCleanerConfig) -> Arc<Self> {
        let cleaners = config.threads.max(1);
        let limits = CleanerLimits {
            dedupe_buffer_bytes: config.dedupe_buffer_bytes / cleaners as u64,
            io_buffer_load_factor: config.io_buffer_load_factor,
            // One for reading, one for writing.
            io_buffer_bytes: config.io_buffer_bytes / cleaners / 2,
        };
        Arc::new(Self {
            env: env.clone(),
            logs,
            limits,
            backoff: config.backoff,
            throttler: Throttler::new(config.io_max_bytes_per_second),
        })
    }

    /// One cleaner: cleans the dirtiest log again and again, and waits `log.cleaner.backoff.ms`
    /// when none is dirty enough. Ends when it is dropped; a step under way still ends by itself.
    pub async fn run(self: Arc<Self>) {
        loop {
            if !self.clean_filthiest().await {
                self.env.clock.sleep(self.backoff).await;
            }
        }
    }

    /// Cleans the log that needs it most. `false` if none does, or it could not be done now.
    pub async fn clean_filthiest(&self) -> bool {
        let now = self.env.clock.wall();
        let (logs, limits) = (self.logs.clone(), self.limits);
        let begun = self.env.run_blocking(move || begin_filthiest(&logs, &limits, now));
        let Some(Chosen { log, pass }) = begun.await else { return false };
        let cleaned = match pass {
            Ok(pass) => self.finish(pass).await,
            Err(error) => Err(error),
        };
        report(&log, cleaned)
    }

    /// Takes a pass to its end, no faster than allowed.
    async fn finish(&self, mut pass: Box<Pass>) -> Result<CleanerStats, CleanError> {
        loop {
            let started = self.env.clock.now();
            let (budget, logs) = (self.throttler.burst(STEP_BYTES), self.logs.clone());
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
            let wait = self.throttler.charge(progress.io_bytes, started, self.env.clock.now());
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

/// Begins a pass over the log that needs it most.
fn begin_filthiest(logs: &LogManager, limits: &CleanerLimits, now: Timestamp) -> Option<Chosen> {
    let mut filthy: Vec<CleanableLog> = logs
        .claimed_logs()
        .iter()
        .filter(|log| log.config().cleanup_policy.compact && log.cleaning().is_free())
        .filter(|log| log.log_dir().failure().is_none())
        .filter_map(|log| look_at(log, now))
        .filter(CleanableLog::needs_cleaning)
        .collect();
    filthy.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    filthy.into_iter().find_map(|CleanableLog { log, .. }| {
        // A crash must not take a gap that compaction left for the end of a torn segment.
        let flushed = log.flush_sealed().map_err(CleanError::from);
        let _told = logs.checkpoint_recovery_points();
        let begun = flushed.and_then(|()| begin(&log, limits, now)).transpose()?;
        Some(Chosen { log, pass: begun.map(Box::new) })
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
