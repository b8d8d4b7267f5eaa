//! Tasks and blocking work.

use std::fmt;

use tokio::task::JoinHandle;

use crate::BoxFuture;

/// Runs tasks.
pub trait Spawn: Send + Sync {
    /// Starts `task` beside the caller. `name` is for diagnostics.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle;
    /// Runs `work` where blocking hurts nobody; the future completes when it has run. The work
    /// runs even if the future is dropped. A panic of the work is passed on to who awaits.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// A spawned task. Dropping the handle leaves the task running.
pub struct TaskHandle {
    name: &'static str,
    task: JoinHandle<()>,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// It ran to its end.
    Finished,
    /// It was aborted, or its runtime went away.
    Aborted,
    /// It panicked.
    Panicked,
}

impl TaskHandle {
    /// For implementations of [`Spawn`]: every world runs its tasks on a tokio runtime.
    pub fn new(name: &'static str, task: JoinHandle<()>) -> Self {
        Self { name, task }
    }

    /// The name it was spawned with.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Ends the task at its next await.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Completes when the task has ended, however it ended.
    pub async fn wait(self) -> TaskEnd {
        match self.task.await {
            Ok(()) => TaskEnd::Finished,
            Err(error) if error.is_panic() => TaskEnd::Panicked,
            Err(_) => TaskEnd::Aborted,
        }
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskHandle({})", self.name)
    }
}
