//! Who decides what the cluster knows. Kafka: `QuorumController` and its control managers.
//!
//! A decision takes `&self` and a request of the protocol, and gives the records that would bring
//! it about together with the answer to send once they are committed. It changes nothing: only
//! [`Controller::replay`] does.

mod client_quota_control;
mod cluster_control;
mod configuration_control;
mod feature_control;
mod periodic_task_control;
mod producer_ids_control;
mod replication_control;

use std::sync::Arc;

use ottla_config::BrokerConfig;
use ottla_protocol::{BrokerId, Monotonic};

use crate::image::{ConfigResource, MetadataImage, MetadataPosition, ReplayError};
use crate::record::MetadataRecord;

pub use cluster_control::{BrokerEpochError, RegistrationError, patience_with_brokers};
use cluster_control::{RegistrationChanges, Sessions};
pub use feature_control::{
    METADATA_VERSION_LEVEL, SUPPORTED_FEATURES, SupportedFeature, bootstrap_records,
};
use periodic_task_control::TaskTimes;
pub use periodic_task_control::{PeriodicTask, TaskReport};
pub use producer_ids_control::PRODUCER_ID_BLOCK_SIZE;

/// The most records that one request may bring about, so that no batch outgrows the metadata log.
/// Kafka's `MAX_RECORDS_PER_USER_OP`.
pub const MAX_RECORDS_PER_REQUEST: usize = 10_000;

/// What the controller decided: the records to append, and what to answer when they are committed.
///
/// Without records the answer can go out at once. The records of one outcome are one batch: all or
/// none.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<Answer> {
    /// To be appended to the metadata log as one batch.
    pub records: Vec<MetadataRecord>,
    /// For whoever asked.
    pub answer: Answer,
}

impl<Answer> Outcome<Answer> {
    fn only(answer: Answer) -> Self {
        Self { records: Vec::new(), answer }
    }
}

/// Asked before partitions are created or deleted whether so many may be now; each time they are (KIP-599).
pub type MutationQuota<'a> = dyn FnMut(usize) -> bool + 'a;

/// What the controller is told by its node.
#[derive(Clone, Debug, PartialEq)]
pub struct ControllerConfig {
    /// The cluster's id, from `meta.properties`: brokers of another cluster are refused.
    pub cluster_id: Arc<str>,
    /// The node's configuration: what topics are given that do not say, and for how long a broker
    /// may be silent.
    pub broker: Arc<BrokerConfig>,
}

/// The active controller: the image it decides on, and what it may forget (the sessions of
/// brokers).
#[derive(Clone, Debug)]
pub struct Controller {
    config: ControllerConfig,
    image: MetadataImage,
    sessions: Sessions,
    changes: RegistrationChanges,
    tasks: TaskTimes,
    /// The node's configuration with what the image sets for it and for all brokers (KIP-226).
    dynamic: Arc<BrokerConfig>,
    /// Whether records changed that since it was read.
    is_stale: bool,
}

impl Controller {
    /// A controller that takes over at `now`, with everything committed so far replayed into
    /// `image`.
    pub fn new(config: ControllerConfig, image: MetadataImage, now: Monotonic) -> Self {
        let dynamic = Arc::clone(&config.broker);
        let changes = RegistrationChanges::from(image.position().offset);
        let mut controller = Self {
            config,
            image,
            sessions: Sessions::default(),
            changes,
            tasks: TaskTimes::default(),
            dynamic,
            is_stale: true,
        };
        controller.read_dynamic_config();
        controller.activate(now);
        controller
    }

    /// Takes over at `now`, after having replayed as a standby: call it when this node becomes the
    /// leader of the metadata quorum.
    ///
    /// Every broker that is not fenced is given a whole session, as if it had just been heard: the
    /// new controller cannot know when the old one heard it last. Without a session a broker is
    /// never found silent.
    pub fn activate(&mut self, now: Monotonic) {
        self.sessions = Sessions::default();
        self.tasks = TaskTimes::starting(now);
        for broker in self.image.brokers().filter(|broker| !broker.fenced) {
            self.sessions.heard(broker.id, broker.epoch, now);
        }
    }

    /// Notes that a broker has been silent since `since`: the node that led the quorum before, whose silence was the reason for
    /// another election. Its session does not begin anew.
    pub fn silent_since(&mut self, id: BrokerId, since: Monotonic) {
        if let Some(broker) = self.image.broker(id).filter(|broker| !broker.fenced) {
            self.sessions.heard(id, broker.epoch, since);
        }
    }

    /// What the cluster knows.
    pub fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// What the controller was told.
    pub fn config(&self) -> &ControllerConfig {
        &self.config
    }

    /// Applies one committed record. The only way in which hard state changes.
    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        if let MetadataRecord::Config(config) = record {
            self.is_stale |= config.resource_type == ConfigResource::BROKER;
        }
        if let MetadataRecord::BrokerRegistrationChange(change) = record {
            self.changes.changed(change);
        }
        self.image.replay(record)
    }

    /// Replaces the image by that of a snapshot, which must have been [advanced](Self::advance_to)
    /// to the snapshot's position: broker epochs are counted from it.
    pub fn install(&mut self, image: MetadataImage) {
        self.changes = RegistrationChanges::from(image.position().offset);
        self.image = image;
        self.is_stale = true;
        self.read_dynamic_config();
    }

    /// Says that everything up to `position` has been replayed.
    pub fn advance_to(&mut self, position: MetadataPosition) {
        self.image.advance_to(position);
        self.changes.reached(position.offset);
        self.read_dynamic_config();
    }

    /// The configuration of this node as of now: what it was started with, and over it what is set
    /// for all brokers and for this one (KIP-226).
    fn broker_config(&self) -> &BrokerConfig {
        &self.dynamic
    }

    fn read_dynamic_config(&mut self) {
        if std::mem::take(&mut self.is_stale) {
            let started = &self.config.broker;
            self.dynamic = Arc::new(self.image.broker_config(started).0);
        }
    }

    /// Whether partitions may be led by this broker.
    fn is_active(&self, broker: BrokerId) -> bool {
        self.image.is_active(broker)
    }
}
