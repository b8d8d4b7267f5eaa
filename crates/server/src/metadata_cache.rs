//! What the metadata log adds up to on this node. Kafka: `MetadataLoader`, `KRaftMetadataCache`.
//!
//! Every node replays the log into a [`Controller`] of its own: on a voter it may one day be the active one, everywhere it
//! holds the image that handlers read.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use ottla_env::{Elapsed, Env};
use ottla_metadata::{Controller, MetadataDelta, MetadataImage, MetadataPosition, MetadataRecord};
use ottla_protocol::{LeaderEpoch, Monotonic, Offset};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::quorum::{CannotApply, CommittedBatch, MetadataApplier};

/// Told of every change of the image, in order, before readers see the new one.
pub(crate) type ImageListener = Box<dyn Fn(&MetadataDelta, &MetadataImage) + Send + Sync>;

/// The metadata as of now.
pub(crate) struct MetadataCache {
    controller: Mutex<Controller>,
    image: ArcSwap<MetadataImage>,
    listeners: Mutex<Vec<ImageListener>>,
    /// The last offset of the log that the image stands for.
    position: watch::Sender<Offset>,
    /// A committed record that this release cannot apply: the node is about to stop.
    fault: Mutex<Option<String>>,
}

impl MetadataCache {
    /// Nothing is known yet.
    pub(crate) fn new(controller: Controller) -> Arc<Self> {
        Arc::new(Self {
            controller: Mutex::new(controller),
            image: ArcSwap::default(),
            listeners: Mutex::default(),
            position: watch::Sender::new(Offset::NONE),
            fault: Mutex::default(),
        })
    }

    /// What is to be told of every committed batch; in the order of the log, by one task.
    pub(crate) fn applier(self: &Arc<Self>) -> impl MetadataApplier + use<> {
        Applier { cache: Arc::clone(self), replayed: None }
    }

    /// What the cluster knows.
    pub(crate) fn image(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    /// The machine that decides, if this node leads.
    pub(crate) fn controller(&self) -> MutexGuard<'_, Controller> {
        self.controller.lock()
    }

    /// A record that this release cannot apply, if there is one.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.lock().clone()
    }

    /// Calls `listener` with everything there is, then with every change.
    pub(crate) fn listen(&self, listener: ImageListener) {
        // Holding the lock keeps a commit from slipping between the first call and the next.
        let mut listeners = self.listeners.lock();
        let image = self.image();
        listener(&MetadataDelta::between(&MetadataImage::default(), &image), &image);
        listeners.push(listener);
    }

    /// Calls `act` while the image stands still, in turn with the listeners.
    pub(crate) fn between_changes(&self, act: impl FnOnce(&MetadataImage)) {
        let _no_change = self.listeners.lock();
        act(&self.image());
    }

    /// Waits until the image stands for everything up to `offset`, and its listeners have been told.
    pub(crate) async fn wait_for(&self, offset: Offset) {
        let mut position = self.position.subscribe();
        // The sender lives as long as this does.
        let _never_closed = position.wait_for(|position| *position >= offset).await;
    }

    /// Waits until the image is as `wanted`.
    pub(crate) async fn wait_image(&self, wanted: impl Fn(&MetadataImage) -> bool) {
        let mut position = self.position.subscribe();
        while !wanted(&self.image()) {
            if position.changed().await.is_err() {
                return;
            }
        }
    }

    /// [`wait_for`](Self::wait_for), at most until `deadline`; whether it came to it.
    pub(crate) async fn wait_until(&self, env: &Env, offset: Offset, deadline: Monotonic) -> bool {
        let limit = deadline.since(env.clock.now());
        !matches!(env.timeout(limit, self.wait_for(offset)).await, Err(Elapsed))
    }

    /// Replays a batch; answers the image that it leads to, which nobody sees before it is published.
    fn replay(&self, batch: CommittedBatch) -> Result<Arc<MetadataImage>, String> {
        let last = batch.base_offset + batch.records.len() as i64 - 1;
        let mut controller = self.controller.lock();
        for bytes in batch.records {
            let record = MetadataRecord::decode(bytes).map_err(|error| error.to_string())?;
            controller.replay(&record).map_err(|error| error.to_string())?;
        }
        let position = MetadataPosition { offset: Offset(last), epoch: LeaderEpoch(batch.epoch) };
        controller.advance_to(position);
        Ok(Arc::new(controller.image().clone()))
    }

    fn publish(&self, image: Arc<MetadataImage>) {
        let listeners = self.listeners.lock();
        if !listeners.is_empty() {
            let delta = MetadataDelta::between(&self.image.load(), &image);
            listeners.iter().for_each(|listener| listener(&delta, &image));
        }
        let position = image.position().offset;
        self.image.store(image);
        self.position.send_replace(position);
    }

    /// Notes a record that cannot be applied: nobody decides on what is there without it.
    fn fail(&self, reason: String) -> CannotApply {
        *self.fault.lock() = Some(reason.clone());
        CannotApply(reason)
    }

    fn install(&self, records: Vec<Bytes>, position: MetadataPosition) -> Result<(), String> {
        let mut image = MetadataImage::default();
        for bytes in records {
            let record = MetadataRecord::decode(bytes).map_err(|error| error.to_string())?;
            image.replay(&record).map_err(|error| error.to_string())?;
        }
        image.advance_to(position);
        self.controller.lock().install(image.clone());
        self.publish(Arc::new(image));
        Ok(())
    }
}

/// Applies committed batches; whoever follows the log calls it from one task.
struct Applier {
    cache: Arc<MetadataCache>,
    /// What the batches since the last publication add up to.
    replayed: Option<Arc<MetadataImage>>,
}

impl MetadataApplier for Applier {
    fn apply(&mut self, batch: CommittedBatch) -> Result<(), CannotApply> {
        let image = self.cache.replay(batch).map_err(|reason| self.cache.fail(reason))?;
        self.replayed = Some(image);
        Ok(())
    }

    fn publish(&mut self) {
        if let Some(image) = self.replayed.take() {
            self.cache.publish(image);
        }
    }

    fn snapshot(&self) -> Vec<Bytes> {
        self.cache.image.load().to_records().map(|record| record.to_bytes()).collect()
    }

    fn install(
        &mut self,
        records: Vec<Bytes>,
        end_offset: i64,
        epoch: i32,
    ) -> Result<(), CannotApply> {
        self.replayed = None;
        let position =
            MetadataPosition { offset: Offset(end_offset - 1), epoch: LeaderEpoch(epoch) };
        self.cache.install(records, position).map_err(|reason| self.cache.fail(reason))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ottla_metadata::ControllerConfig;
    use ottla_metadata::record::{RemoveTopicRecord, TopicRecord};
    use ottla_protocol::Uuid;

    use super::*;

    fn cache() -> Arc<MetadataCache> {
        let config = ControllerConfig { cluster_id: Arc::from("c"), broker: Arc::default() };
        let began = Monotonic(Duration::ZERO);
        MetadataCache::new(Controller::new(config, MetadataImage::default(), began))
    }

    #[test]
    fn a_record_that_cannot_be_applied_is_told_to_who_brought_it() {
        let cache = cache();
        let noise = vec![Bytes::from_static(b"\xff\xff\xff")];
        let batch =
            CommittedBatch { base_offset: 0, epoch: 1, timestamp: 0, records: noise.clone() };
        let CannotApply(reason) = cache.applier().apply(batch).unwrap_err();
        assert_eq!(cache.fault(), Some(reason.clone()));
        assert_eq!(cache.applier().install(noise, 1, 1), Err(CannotApply(reason)));
        assert_eq!(cache.image().position().offset, Offset::NONE);
    }

    #[test]
    fn what_came_and_went_before_it_was_published_never_was() {
        let cache = cache();
        let created = Arc::new(Mutex::new(Vec::new()));
        let telling = Arc::clone(&created);
        cache.listen(Box::new(move |delta, _| {
            telling.lock().extend(delta.created.iter().map(|topic| topic.name.to_string()));
        }));
        let mut applier = cache.applier();
        let id = |number| Uuid::from_bytes([number; 16]);
        let records = [
            MetadataRecord::Topic(TopicRecord { name: Arc::from("brief"), topic_id: id(1) }),
            MetadataRecord::Topic(TopicRecord { name: Arc::from("lasting"), topic_id: id(2) }),
            MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: id(1) }),
        ];
        for (base_offset, record) in (0..).zip(records) {
            let records = vec![record.to_bytes()];
            let batch = CommittedBatch { base_offset, epoch: 1, timestamp: 0, records };
            applier.apply(batch).unwrap();
        }
        assert_eq!(cache.image().position().offset, Offset::NONE);
        applier.publish();
        assert_eq!(cache.image().position().offset, Offset(2));
        assert_eq!(*created.lock(), ["lasting"]);
    }
}
