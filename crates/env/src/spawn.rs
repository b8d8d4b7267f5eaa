//! Tasks and blocking work.

use crate::BoxFuture;

/// Runs tasks.
pub trait Spawn: Send + Sync {
    /// Starts `task` beside the caller. `name` is for diagnostics.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle;
    /// Runs `work` where blocking hurts nobody; the future completes when it has run.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// A spawned task. Dropping the handle leaves the task running.
pub struct TaskHandle {
    /// Ends the task at its next await.
    pub abort: Box<dyn Fn() + Send + Sync>,
    /// Completes when the task has ended, however it ended.
    pub finished: BoxFuture<'static, ()>,
}
