//! The end in good order.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{HIGH_WATERMARK_FILE, LogManager, open};
use crate::log::Log;
use crate::log_dir::LogDir;

/// Logs closed at once. They wait for the disk, which syncs many files nearly as fast as one.
const CLOSING_AT_ONCE: usize = 32;

impl LogManager {
    /// Closes all logs, writes all checkpoints and the mark of a clean shutdown.
    ///
    /// `broker_epoch` is the one the broker was registered with, -1 if it never was (KIP-966).
    pub async fn shutdown(&self, broker_epoch: i64) {
        self.moves().iter().for_each(|begun| self.cancel_move(begun));
        let mut unmarked = Vec::new();
        for dir in self.dirs() {
            if !self.close_logs(dir).await {
                unmarked.push(dir.clone());
            }
        }
        self.note_metadata();
        for unwritten in [
            self.checkpoint_recovery_points(),
            self.checkpoint_log_starts(),
            self.checkpoint(HIGH_WATERMARK_FILE, Log::high_watermark),
        ] {
            unmarked.extend(unwritten.into_iter().map(|(dir, _)| dir));
        }
        // A directory whose logs are not all as a start after a clean stop needs them gets no mark.
        for dir in self.dirs() {
            let unmarked = unmarked.iter().any(|unclosed| Arc::ptr_eq(unclosed, dir));
            if dir.failure().is_none() && !unmarked {
                open::write_clean_shutdown(dir, broker_epoch);
            }
        }
        tracing::info!(syncs = self.env.disk.syncs(), "closed all logs");
    }

    /// Closes the logs of a directory, and brings all they hold to the disk; whether that went well
    /// with each.
    async fn close_logs(&self, dir: &Arc<LogDir>) -> bool {
        let mut open = self.logs();
        open.retain(|log| Arc::ptr_eq(log.log_dir(), dir));
        let open = Arc::new(Mutex::new(open));
        let closing: Vec<_> = (0..CLOSING_AT_ONCE)
            .map(|_| {
                let (open, dir) = (open.clone(), dir.clone());
                self.env.run_blocking(move || {
                    let (mut closed, mut whole) = (Vec::new(), true);
                    while let Some(log) = { open.lock().pop() } {
                        // A directory that failed, or is full, said so.
                        let outcome = match dir.shared_sync().is_some() {
                            true => log.gather_and_close().map(|it| closed.push((log, it))),
                            false => log.close(),
                        };
                        whole &= outcome.is_ok();
                    }
                    (closed, whole)
                })
            })
            .collect();
        let (mut unsynced, mut all_whole) = (Vec::new(), true);
        for closed in closing {
            let (closed, whole) = closed.await;
            unsynced.extend(closed);
            all_whole &= whole;
        }
        let dir = dir.clone();
        let synced = self.env.run_blocking(move || {
            let synced = dir.sync_gathered(&unsynced, dir.shared_sync()).is_ok();
            if synced {
                unsynced.into_iter().for_each(|(log, gathered)| log.synced(gathered));
            }
            synced
        });
        synced.await && all_whole
    }
}
