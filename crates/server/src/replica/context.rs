//! What all partitions of a node share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use ottla_config::{BrokerConfig, LogConfig};
use ottla_env::Clock;
use ottla_metadata::MetadataImage;
use ottla_protocol::{BrokerEpoch, BrokerId, Monotonic};
use ottla_replication::{BrokerStatus, Brokers, Terms};

use super::alter_partition::IsrChanges;
use crate::quotas::ReplicationQuotas;

/// The node as its partitions see it: the time, the other brokers, and the way to the controller.
pub(crate) struct ReplicaContext {
    local: BrokerId,
    clock: Arc<dyn Clock>,
    lag_time_max: Duration,
    /// The registration of this broker; [`BrokerEpoch::NONE`] before the first.
    epoch: AtomicI64,
    brokers: ArcSwap<Brokers>,
    isr_changes: Arc<IsrChanges>,
    quotas: ReplicationQuotas,
}

impl ReplicaContext {
    pub(super) fn new(
        (local, epoch): (BrokerId, BrokerEpoch),
        clock: Arc<dyn Clock>,
        config: &BrokerConfig,
    ) -> Self {
        let quotas = ReplicationQuotas::new(config.quotas.replication_window);
        quotas.set(config.replica_manager.throttle);
        Self {
            local,
            clock,
            lag_time_max: config.replica_manager.lag_time_max,
            epoch: AtomicI64::new(epoch.0),
            brokers: ArcSwap::default(),
            isr_changes: Arc::default(),
            quotas,
        }
    }

    pub(super) fn local(&self) -> BrokerId {
        self.local
    }

    /// The registration of this broker.
    pub(super) fn epoch(&self) -> BrokerEpoch {
        BrokerEpoch(self.epoch.load(Ordering::Relaxed))
    }

    pub(super) fn set_epoch(&self, epoch: BrokerEpoch) {
        self.epoch.store(epoch.0, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Monotonic {
        self.clock.now()
    }

    /// The brokers as the newest image has them.
    pub(super) fn brokers(&self) -> Guard<Arc<Brokers>> {
        self.brokers.load()
    }

    pub(super) fn brokers_changed(&self, image: &MetadataImage) {
        let brokers = image.brokers().map(|broker| {
            (broker.id, BrokerStatus { epoch: broker.epoch, is_active: broker.is_active() })
        });
        self.brokers.store(Arc::new(brokers.collect()));
    }

    pub(super) fn terms(&self, config: &LogConfig) -> Terms {
        let min_insync_replicas = config.min_insync_replicas as usize;
        Terms { min_insync_replicas, lag_time_max: self.lag_time_max }
    }

    /// How fast replicas may be fetched that are not in sync.
    pub(super) fn quotas(&self) -> &ReplicationQuotas {
        &self.quotas
    }

    pub(super) fn isr_changes(&self) -> &Arc<IsrChanges> {
        &self.isr_changes
    }
}
