//! Which ways of the network are cut.
//!
//! TCP sends again what is lost, for minutes: what was on its way when a way was cut arrives when it is whole again, unless
//! one of the two has given up meanwhile. So a cut holds back, from one machine to another, everything that arrives, ends of
//! connections and new connections, too; the other way stays as it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// The ways between machines, by their names. Clones are the same ways.
#[derive(Clone, Default)]
pub(crate) struct Links(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// From, to.
    cut: BTreeSet<(String, String)>,
    /// Who looks again when a way is whole.
    waiting: Vec<Waker>,
}

impl Links {
    pub(crate) fn cut(&self, from: &str, to: &str) {
        self.0.lock().cut.insert((from.to_owned(), to.to_owned()));
    }

    pub(crate) fn heal(&self, from: &str, to: &str) {
        let mut state = self.0.lock();
        state.cut.remove(&(from.to_owned(), to.to_owned()));
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ready if what `from` sends reaches `to`; else whoever asks is woken when it may.
    pub(crate) fn poll_open(&self, from: &str, to: &str, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.cut.is_empty() || !state.cut.contains(&(from.to_owned(), to.to_owned())) {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until each of two reaches the other.
    pub(crate) async fn open_both(&self, one: &str, other: &str) {
        std::future::poll_fn(|cx| {
            std::task::ready!(self.poll_open(one, other, cx));
            self.poll_open(other, one, cx)
        })
        .await;
    }
}
