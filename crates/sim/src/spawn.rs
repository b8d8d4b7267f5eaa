//! Tasks on the runtime of a simulated host.

use ottla_env::{BoxFuture, Spawn, TaskHandle};
use tokio::runtime::Handle;

/// One thread for everything, so that the order of tasks is the runtime's queue and nothing else.
pub(crate) struct SimSpawn {
    runtime: Handle,
}

impl SimSpawn {
    pub(crate) fn current() -> Self {
        Self { runtime: Handle::current() }
    }
}

impl Spawn for SimSpawn {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        TaskHandle::new(name, self.runtime.spawn(task))
    }

    /// The work runs as a task of its own: later than the call, as on a thread, and between the
    /// steps of others, though never beside them.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let task = self.runtime.spawn(async move { work() });
        Box::pin(async move {
            if let Err(error) = task.await
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        })
    }
}
