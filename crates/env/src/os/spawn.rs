//! Tasks on a tokio runtime.

use tokio::runtime::Handle;

use crate::{BoxFuture, Spawn, TaskHandle};

/// The runtime that was current when the environment was made. The handle is kept, so that
/// threads outside the runtime may spawn too.
pub(crate) struct OsSpawn {
    runtime: Handle,
}

impl OsSpawn {
    pub(crate) fn current() -> Self {
        Self { runtime: Handle::current() }
    }
}

impl Spawn for OsSpawn {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        TaskHandle::new(name, self.runtime.spawn(task))
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let task = self.runtime.spawn_blocking(work);
        Box::pin(async move {
            if let Err(error) = task.await
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{Env, TaskEnd};
    use std::future::pending;

    #[tokio::test]
    async fn a_task_tells_how_it_ended() {
        let env = Env::os();
        assert_eq!(env.spawn("ends", async {}).wait().await, TaskEnd::Finished);
        assert_eq!(
            env.spawn("panics", async { panic!("on purpose") }).wait().await,
            TaskEnd::Panicked
        );
        let endless = env.spawn("endless", pending());
        assert!(!endless.is_finished());
        endless.abort();
        assert_eq!(endless.wait().await, TaskEnd::Aborted);
    }

    #[tokio::test]
    async fn blocking_work_answers_and_passes_its_panic_on() {
        let env = Env::os();
        assert_eq!(env.run_blocking(|| 6 * 7).await, 42);
        let inner = env.clone();
        let panics = env.spawn("waits for a panic", async move {
            inner.run_blocking(|| panic!("on purpose")).await
        });
        assert_eq!(panics.wait().await, TaskEnd::Panicked);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn blocking_work_may_spawn_and_blocks_nobody() {
        let env = Env::os();
        let inner = env.clone();
        let (said, heard) = std::sync::mpsc::channel();
        // The work waits for a task that can only run if the work is not on the one worker.
        env.run_blocking(move || {
            inner.spawn("says", async move { said.send(()).unwrap() });
            heard.recv().unwrap();
        })
        .await;
    }
}
