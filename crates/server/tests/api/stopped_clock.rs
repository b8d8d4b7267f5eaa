//! A clock that stands still until a test sets it forward: what is done in time does not depend on the machine's speed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_env::{BoxFuture, Clock, Env};
use ottla_protocol::{Monotonic, Timestamp};
use tokio::sync::watch;

/// Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// It goes as any other at first, so that a node can start on it.
pub(crate) struct StoppedClock {
    real: Arc<dyn Clock>,
    hand: watch::Sender<Hand>,
    /// How many sleep until when.
    sleepers: Sleepers,
}

type Sleepers = Arc<watch::Sender<BTreeMap<Monotonic, usize>>>;

#[derive(Clone, Copy)]
enum Hand {
    /// Before the real time by that much.
    Goes(Duration),
    Stands(Monotonic),
}

impl Hand {
    fn shows(self, real: Monotonic) -> Monotonic {
        match self {
            Self::Goes(ahead) => real + ahead,
            Self::Stands(time) => time,
        }
    }
}

impl StoppedClock {
    pub(crate) fn going() -> Arc<Self> {
        let hand = watch::Sender::new(Hand::Goes(Duration::ZERO));
        Arc::new(Self { real: Env::os().clock, hand, sleepers: Sleepers::default() })
    }

    /// From now on it stands still.
    pub(crate) fn stop(&self) {
        let now = self.real.now();
        self.hand.send_modify(|hand| *hand = Hand::Stands(hand.shows(now)));
    }

    /// Sets it forward, whether it stands or goes.
    pub(crate) fn set_forward(&self, by: Duration) {
        self.hand.send_modify(|hand| match hand {
            Hand::Goes(ahead) => *ahead += by,
            Hand::Stands(time) => *time = *time + by,
        });
    }

    /// Waits until somebody has gone to sleep who has exactly so long to sleep still. It must stand.
    pub(crate) async fn wait_for_sleeper(&self, left: Duration) {
        let until = self.now() + left;
        let mut sleepers = self.sleepers.subscribe();
        let sleeps = sleepers.wait_for(|sleepers| sleepers.contains_key(&until));
        let slept = ottla_env::timeout(&*self.real, PATIENCE, sleeps).await;
        if slept.is_err() {
            let now = self.now();
            let others = self.sleepers.borrow();
            let others: Vec<_> = others.keys().map(|until| until.since(now)).collect();
            panic!("nobody sleeps for {left:?}; but for {others:?}");
        }
    }

    /// The world of a node or a client that lives by this clock.
    pub(crate) fn env(self: &Arc<Self>) -> Env {
        Env { clock: Arc::clone(self) as Arc<dyn Clock>, ..Env::os() }
    }
}

/// Somebody who sleeps.
struct Sleeper {
    until: Monotonic,
    sleepers: Sleepers,
}

impl Sleeper {
    fn new(until: Monotonic, sleepers: &Sleepers) -> Self {
        sleepers.send_modify(|sleepers| *sleepers.entry(until).or_default() += 1);
        Self { until, sleepers: Arc::clone(sleepers) }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.sleepers.send_modify(|sleepers| {
            let count = sleepers.get_mut(&self.until).unwrap();
            *count -= 1;
            if *count == 0 {
                sleepers.remove(&self.until);
            }
        });
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> Monotonic {
        self.hand.borrow().shows(self.real.now())
    }

    fn wall(&self) -> Timestamp {
        self.real.wall()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let sleeper = Sleeper::new(self.now() + duration, &self.sleepers);
        let (real, mut hand) = (Arc::clone(&self.real), self.hand.subscribe());
        Box::pin(async move {
            // All of it, not the time alone.
            let sleeper = sleeper;
            loop {
                let (seen, now) = (*hand.borrow_and_update(), real.now());
                let left = sleeper.until.since(seen.shows(now));
                if left.is_zero() {
                    return;
                }
                let goes_on = async {
                    match seen {
                        Hand::Goes(_) => real.sleep(left).await,
                        Hand::Stands(_) => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    moved = hand.changed() => if moved.is_err() { std::future::pending().await },
                    () = goes_on => {}
                }
            }
        })
    }
}
