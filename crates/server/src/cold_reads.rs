//! Records that are not in memory: who waits for a disk does so on a thread where that hurts nobody, and a bounded
//! number of them at once (`fetch.cold.read.threads`), so that a flush finds a thread as well.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ottla_env::{Env, File};
use tokio::sync::Semaphore;

/// The threads that wait for disks.
pub(crate) struct ColdReads {
    env: Env,
    threads: ArcSwap<Semaphore>,
}

impl ColdReads {
    /// At most `threads` at once.
    pub(crate) fn new(env: &Env, threads: usize) -> Self {
        Self { env: env.clone(), threads: ArcSwap::new(bounded(threads)) }
    }

    /// Goes on with so many; those under way, and those that wait already, still count by themselves.
    pub(crate) fn resize(&self, threads: usize) {
        self.threads.store(bounded(threads));
    }

    /// Runs `read`, which may block, once there is a thread for it.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        read: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        // Nobody closes the semaphore.
        let permit = self.threads.load_full().acquire_owned().await;
        let work = move || {
            let _until_done = permit;
            read()
        };
        self.env.run_blocking(work).await
    }

    /// Asks the disk for what somebody will read soon, and does not wait; not if all threads are busy.
    pub(crate) fn read_ahead(&self, file: Arc<dyn File>, position: u64, len: u64) {
        if let Ok(permit) = self.threads.load_full().try_acquire_owned() {
            let work = move || {
                file.will_need(position, len);
                drop(permit);
            };
            drop(self.env.run_blocking(work));
        }
    }
}

fn bounded(threads: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(threads.min(Semaphore::MAX_PERMITS)))
}
