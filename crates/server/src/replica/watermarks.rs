//! Who waits for a partition, and what wakes them. Kafka parks requests in a purgatory; here a request simply awaits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use ottla_protocol::Offset;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The published high watermark of one partition.
pub(crate) struct Watermarks {
    high_watermark: AtomicI64,
    /// How many `waiters` there are: publishing to nobody takes no lock.
    waiting: AtomicUsize,
    waiters: Mutex<Vec<Arc<Notify>>>,
}

impl Watermarks {
    pub(crate) fn new(high_watermark: Offset) -> Self {
        Self {
            high_watermark: AtomicI64::new(high_watermark.0),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::default(),
        }
    }

    /// Records below it are committed. Needs no lock.
    pub(crate) fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::SeqCst))
    }

    /// The high watermark moved, or the partition changed hands: whoever waits looks again.
    pub(crate) fn publish(&self, high_watermark: Offset) {
        self.high_watermark.store(high_watermark.0, Ordering::SeqCst);
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
    partitions: Vec<Arc<P>>,
}

impl<P: Watched> Subscription<P> {
    pub(crate) fn new(partitions: Vec<Arc<P>>) -> Self {
        let waiter = Arc::new(Notify::new());
        for partition in &partitions {
            partition.watermarks().add(&waiter);
        }
        Self { waiter, partitions }
    }

    /// Completes when a partition published since this was last awaited.
    pub(crate) async fn changed(&self) {
        self.waiter.notified().await;
    }
}

impl<P: Watched> Drop for Subscription<P> {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.watermarks().remove(&self.waiter);
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
        let subscription = Subscription::new(vec![Arc::clone(&partition)]);
        partition.0.publish(Offset(1));
        subscription.changed().await;
        assert_eq!(partition.0.high_watermark(), Offset(1));
    }

    #[tokio::test]
    async fn whoever_stops_waiting_leaves_nothing_behind() {
        let partition = Arc::new(Fake(Watermarks::new(Offset(0))));
        drop(Subscription::new(vec![Arc::clone(&partition)]));
        assert_eq!(partition.0.waiting.load(Ordering::SeqCst), 0);
        assert!(partition.0.waiters.lock().is_empty());
    }
}
