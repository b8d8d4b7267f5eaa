use std::sync::Arc;

use kafka_wire_core::Uuid;
use ottla_protocol::BrokerId;

use super::PartitionRegistration;
use crate::BrokerEpoch;
use crate::record::{BrokerEndpoint, BrokerFeature, RegisterBrokerRecord};

/// What the cluster knows about one broker. Kafka's `BrokerRegistration`.
///
/// ```text
///               caught up                  asks to leave
/// registered ─────────────► unfenced ─────────────────────► in controlled shutdown
///  (fenced)  ◄───────────── (active)                                 │
///     ▲      silent for a session's length, or asks for it            │ leads nothing any more
///     └────────────── registers anew ── fenced, may stop ◄───────────┘
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// Its id.
    pub id: BrokerId,
    /// Which registration this is.
    pub epoch: BrokerEpoch,
    /// New with every start of the process.
    pub incarnation_id: Uuid,
    /// Where it listens.
    pub listeners: Vec<BrokerEndpoint>,
    /// Which levels of which features it can run with.
    pub features: Vec<BrokerFeature>,
    /// Its rack, if told.
    pub rack: Option<Arc<str>>,
    /// Whether it may not lead or serve clients now.
    pub fenced: bool,
    /// Whether it asked to leave in order (KIP-841).
    pub in_controlled_shutdown: bool,
    /// Ids of its log directories (KIP-858).
    pub log_dirs: Vec<Uuid>,
}

impl BrokerRegistration {
    /// Whether partitions may be led by it.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// Whether the disk under its replica of `partition` works, as far as is known (KIP-858).
    pub fn has_online_dir(&self, partition: &PartitionRegistration) -> bool {
        partition.directory(self.id).is_none_or(|dir| self.log_dirs.contains(&dir))
    }

    /// Its address for one listener.
    pub fn listener(&self, name: &str) -> Option<&BrokerEndpoint> {
        self.listeners.iter().find(|listener| &*listener.name == name)
    }

    pub(super) fn from_record(record: &RegisterBrokerRecord) -> Self {
        Self {
            id: record.broker_id,
            epoch: record.broker_epoch,
            incarnation_id: record.incarnation_id,
            listeners: record.end_points.clone(),
            features: record.features.clone(),
            rack: record.rack.clone(),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            log_dirs: record.log_dirs.clone(),
        }
    }

    pub(super) fn to_record(&self) -> RegisterBrokerRecord {
        RegisterBrokerRecord {
            broker_id: self.id,
            is_migrating_zk_broker: false,
            incarnation_id: self.incarnation_id,
            broker_epoch: self.epoch,
            end_points: self.listeners.clone(),
            features: self.features.clone(),
            rack: self.rack.clone(),
            fenced: self.fenced,
            in_controlled_shutdown: self.in_controlled_shutdown,
            log_dirs: self.log_dirs.clone(),
        }
    }
}
