//! A machine that stands still, as under `SIGSTOP`: none of its tasks goes on, and its clock does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Whether one machine stands still. Clones are of the same machine.
#[derive(Clone, Default)]
pub(crate) struct Pause(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    paused: bool,
    /// Tasks that would have gone on.
    waiting: Vec<Waker>,
}

impl Pause {
    pub(crate) fn begin(&self) {
        self.0.lock().paused = true;
    }

    pub(crate) fn end(&self) {
        let mut state = self.0.lock();
        state.paused = false;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// `task` as a task of the machine: it stands still when the machine does.
    pub(crate) fn task<F: Future + Unpin>(&self, task: F) -> Task<F> {
        Task { pause: self.clone(), task }
    }
}

/// See [`Pause::task`].
pub(crate) struct Task<F> {
    pause: Pause,
    task: F,
}

impl<F: Future + Unpin> Future for Task<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut state = self.pause.0.lock();
        if state.paused {
            if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        drop(state);
        Pin::new(&mut self.task).poll(cx)
    }
}
