//! Who waits for a partition, and what wakes them. Kafka parks requests in a purgatory; here a request simply awaits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use ottla_protocol::Offset;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The published high watermark of one partition, and who waits for it, or for the log to grow.
pub(crate) struct Watermarks {
    high_watermark: AtomicI64,
    /// Woken when the high watermark moves: consumers, and whoever wants an append committed.
    consumers: Waiters,
    /// Woken when the log's end moves: followers, who fetch what is not committed yet.
    followers: Waiters,
    /// Woken when a follower fetches, or a broker comes or goes: whoever wants records deleted everywhere.
    deleters: Waiters,
    /// Told of everything: the fetch sessions of followers.
    sessions: Sessions,
}

/// Which partitions of a follower's fetch session have news, so that its next fetch looks at no others: an idle partition
/// costs nothing, however many there are.
#[derive(Default)]
pub(crate) struct Changes {
    /// By the number that a partition has in the session.
    marked: Mutex<BTreeSet<usize>>,
    /// Rung when there is something to fetch; a high watermark that moved can wait for the next answer.
    notify: Notify,
}

impl Changes {
    pub(crate) fn mark(&self, number: usize) {
        self.marked.lock().insert(number);
    }

    pub(crate) fn take(&self) -> BTreeSet<usize> {
        std::mem::take(&mut self.marked.lock())
    }

    /// Completes when there was something to fetch since this was last awaited.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }
}

#[derive(Default)]
struct Sessions {
    watching: AtomicUsize,
    watches: Mutex<Vec<(Arc<Changes>, usize)>>,
}

impl Sessions {
    fn mark(&self, wake: bool) {
        if self.watching.load(Ordering::SeqCst) == 0 {
            return;
        }
        for (changes, number) in self.watches.lock().iter() {
            changes.mark(*number);
            if wake {
                changes.notify.notify_one();
            }
        }
    }
}

/// A session of a follower watches a partition until this is dropped.
pub(crate) struct Watch<P: Watched> {
    partition: Arc<P>,
    changes: Arc<Changes>,
    number: usize,
}

impl<P: Watched> Watch<P> {
    pub(crate) fn new(partition: Arc<P>, changes: &Arc<Changes>, number: usize) -> Self {
        let sessions = &partition.watermarks().sessions;
        sessions.watches.lock().push((Arc::clone(changes), number));
        sessions.watching.fetch_add(1, Ordering::SeqCst);
        Self { partition, changes: Arc::clone(changes), number }
    }

    /// Whether it is `partition` that is watched.
    pub(crate) fn is_of(&self, partition: &Arc<P>) -> bool {
        Arc::ptr_eq(&self.partition, partition)
    }
}

impl<P: Watched> Drop for Watch<P> {
    fn drop(&mut self) {
        let sessions = &self.partition.watermarks().sessions;
        let is_ours = |(changes, number): &(Arc<Changes>, usize)| {
            *number == self.number && Arc::ptr_eq(changes, &self.changes)
        };
        let mut watches = sessions.watches.lock();
        if let Some(at) = watches.iter().position(is_ours) {
            watches.swap_remove(at);
            sessions.watching.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// The high watermark moves.
    Commit,
    /// The log grows.
    Append,
    /// A follower says where its log begins.
    Deletion,
}

#[derive(Default)]
struct Waiters {
    /// How many there are: publishing to nobody takes no lock.
    waiting: AtomicUsize,
    waiters: Mutex<Vec<Arc<Notify>>>,
}

impl Waiters {
    fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            for waiter in self.waiters.lock().iter() {
                waiter.notify_one();
            }
        }
    }

    fn add(&self, waiter: &Arc<Notify>) {
        self.waiters.lock().push(Arc::clone(waiter));
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }

    fn remove(&self, waiter: &Arc<Notify>) {
        self.waiters.lock().retain(|other| !Arc::ptr_eq(other, waiter));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Watermarks {
    pub(crate) fn new(high_watermark: Offset) -> Self {
        Self {
            high_watermark: AtomicI64::new(high_watermark.0),
            consumers: Waiters::default(),
            followers: Waiters::default(),
            deleters: Waiters::default(),
            sessions: Sessions::default(),
        }
    }

    /// Records below it are committed. Needs no lock.
    pub(crate) fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::SeqCst))
    }

    /// The high watermark moved.
    pub(crate) fn publish(&self, high_watermark: Offset) {
        self.high_watermark.store(high_watermark.0, Ordering::SeqCst);
        self.consumers.wake();
        self.sessions.mark(false);
    }

    /// Records were deleted: followers are told at once where the log begins.
    pub(crate) fn start_moved(&self) {
        self.followers.wake();
        self.sessions.mark(true);
    }

    /// A follower has told where its log begins, or brokers came or went.
    pub(crate) fn followers_changed(&self) {
        self.deleters.wake();
    }

    /// The log grew.
    pub(crate) fn log_grew(&self) {
        self.followers.wake();
        self.sessions.mark(true);
    }

    /// The partition changed hands, or is gone: whoever waits looks again.
    pub(crate) fn wake_all(&self) {
        self.consumers.wake();
        self.followers.wake();
        self.deleters.wake();
        self.sessions.mark(true);
    }

    fn waiters(&self, wait_for: WaitFor) -> &Waiters {
        match wait_for {
            WaitFor::Commit => &self.consumers,
            WaitFor::Append => &self.followers,
            WaitFor::Deletion => &self.deleters,
        }
    }
}

/// Something that has watermarks to wait for.
pub(crate) trait Watched: Send + Sync {
    /// Its watermarks.
    fn watermarks(&self) -> &Watermarks;
}

/// Waits for any of several partitions until dropped.
///
/// Subscribe, *then* look whether there is enough already, then [`changed`](Self::changed): nothing is missed between.
pub(crate) struct Subscription<P: Watched> {
    waiter: Arc<Notify>,
    wait_for: WaitFor,
    partitions: Vec<Arc<P>>,
}

impl<P: Watched> Subscription<P> {
    pub(crate) fn new(partitions: Vec<Arc<P>>, wait_for: WaitFor) -> Self {
        let waiter = Arc::new(Notify::new());
        for partition in &partitions {
            partition.watermarks().waiters(wait_for).add(&waiter);
        }
        Self { waiter, wait_for, partitions }
    }

    /// Completes when a partition published since this was last awaited.
    pub(crate) async fn changed(&self) {
        self.waiter.notified().await;
    }
}

impl<P: Watched> Drop for Subscription<P> {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.watermarks().waiters(self.wait_for).remove(&self.waiter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(Watermarks);

    impl Watched for Fake {
        fn watermarks(&self) -> &Watermarks {
            &self.0
        }
    }

    #[tokio::test]
    async fn a_publication_between_subscribing_and_waiting_is_not_missed() {
        let partition = Arc::new(Fake(Watermarks::new(Offset(0))));
        let subscription = Subscription::new(vec![Arc::clone(&partition)], WaitFor::Commit);
        partition.0.publish(Offset(1));
        subscription.changed().await;
        assert_eq!(partition.0.high_watermark(), Offset(1));
    }

    #[tokio::test]
    async fn whoever_stops_waiting_leaves_nothing_behind() {
        let partition = Arc::new(Fake(Watermarks::new(Offset(0))));
        drop(Subscription::new(vec![Arc::clone(&partition)], WaitFor::Commit));
        assert_eq!(partition.0.consumers.waiting.load(Ordering::SeqCst), 0);
        assert!(partition.0.consumers.waiters.lock().is_empty());
    }

    #[tokio::test]
    async fn a_session_is_told_which_of_its_partitions_have_news() {
        let [one, two] = [(); 2].map(|()| Arc::new(Fake(Watermarks::new(Offset(0)))));
        let changes = Arc::<Changes>::default();
        let watches =
            [Watch::new(Arc::clone(&one), &changes, 1), Watch::new(Arc::clone(&two), &changes, 2)];
        one.0.publish(Offset(1));
        assert_eq!(changes.take(), BTreeSet::from([1]));
        two.0.log_grew();
        two.0.log_grew();
        changes.wait().await;
        assert_eq!(changes.take(), BTreeSet::from([2]));
        drop(watches);
        one.0.wake_all();
        two.0.wake_all();
        assert!(changes.take().is_empty());
        assert_eq!(one.0.sessions.watching.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn followers_are_woken_by_the_log_and_consumers_by_what_is_committed() {
        let partition = Arc::new(Fake(Watermarks::new(Offset(0))));
        let follower = Subscription::new(vec![Arc::clone(&partition)], WaitFor::Append);
        let consumer = Subscription::new(vec![Arc::clone(&partition)], WaitFor::Commit);
        partition.0.log_grew();
        follower.changed().await;
        partition.0.publish(Offset(1));
        consumer.changed().await;
        partition.0.wake_all();
        tokio::join!(follower.changed(), consumer.changed());
    }
}
