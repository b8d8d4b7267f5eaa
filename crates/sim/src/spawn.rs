//! Tasks on the runtime of a simulated host.

use std::sync::Arc;
use std::time::Duration;

use ottla_env::{BoxFuture, Spawn, TaskHandle};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::pause::Pause;
use crate::rng::SimRng;

/// The longest that blocking work of a machine is held up; its disk is slow. Clones are of the same machine.
#[derive(Clone, Default)]
pub(crate) struct Slowness(Arc<Mutex<Duration>>);

impl Slowness {
    pub(crate) fn set(&self, longest: Duration) {
        *self.0.lock() = longest;
    }
}

/// One thread for everything, so that the order of tasks is the runtime's queue and nothing else.
pub(crate) struct SimSpawn {
    runtime: Handle,
    pause: Pause,
    slowness: Slowness,
    rng: SimRng,
}

impl SimSpawn {
    /// On the runtime of the simulated host within which this is called.
    pub(crate) fn current(pause: Pause, slowness: Slowness, rng: SimRng) -> Self {
        Self { runtime: Handle::current(), pause, slowness, rng }
    }

    fn delay(&self) -> Duration {
        let longest = *self.slowness.0.lock();
        Duration::from_millis(match longest.as_millis() as u64 {
            // Draws nothing, so that a disk that is not slow is as it was.
            0 => 0,
            longest => self.rng.below(longest),
        })
    }
}

impl Spawn for SimSpawn {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        TaskHandle::new(name, self.runtime.spawn(self.pause.task(task)))
    }

    /// The work runs as a task of its own: later than the call, as on a thread, and between the
    /// steps of others, though never beside them.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let delay = self.delay();
        let work: BoxFuture<'static, ()> = Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            work();
        });
        let task = self.runtime.spawn(self.pause.task(work));
        Box::pin(async move {
            if let Err(error) = task.await
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        })
    }
}
