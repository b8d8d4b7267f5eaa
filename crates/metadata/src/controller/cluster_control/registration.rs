use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::messages::broker_registration_request::Feature;
use ottla_protocol::messages::{BrokerRegistrationRequest, BrokerRegistrationResponse};
use ottla_protocol::{BrokerId, ErrorCode, Monotonic, Uuid, message};

use super::super::{Controller, Outcome};
use crate::BrokerEpoch;
use crate::image::{BrokerRegistration, METADATA_VERSION, is_reserved_directory};
use crate::record::{BrokerEndpoint, BrokerFeature, MetadataRecord, RegisterBrokerRecord};

/// Why a broker may not join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// It belongs elsewhere.
    #[error("this is cluster {expected}, the broker belongs to cluster {given}")]
    OtherCluster {
        /// This cluster.
        expected: Arc<str>,
        /// The broker's.
        given: String,
    },
    /// A broker of this id is alive, with other log directories.
    #[error("broker {0} is registered and alive: another process uses the same node.id")]
    DuplicateId(BrokerId),
    /// Ids below zero mean other things.
    #[error("{0} is no broker id")]
    InvalidId(BrokerId),
    /// KIP-858 needs at least one.
    #[error("the broker names no log directory")]
    NoDirectories,
    /// The low ids are reserved.
    #[error("the broker names a log directory by a reserved id")]
    ReservedDirectory,
    /// Named twice.
    #[error("the broker names a log directory twice")]
    DuplicateDirectory,
    /// A directory was copied, or mounted by two nodes.
    #[error("a log directory of the broker belongs to broker {0}")]
    DirectoryOfAnother(BrokerId),
    /// It has nowhere to be reached.
    #[error("the broker names no listener")]
    NoListeners,
    /// There is no ZooKeeper here.
    #[error("brokers that migrate from ZooKeeper cannot register")]
    FromZooKeeper,
    /// It cannot run with what the cluster agreed on.
    #[error("the cluster runs with level {level} of {feature}, the broker supports {min} to {max}")]
    UnsupportedFeature {
        /// Name of the feature.
        feature: Arc<str>,
        /// What the cluster runs with.
        level: i16,
        /// Lowest the broker supports.
        min: i16,
        /// Highest the broker supports.
        max: i16,
    },
}

impl RegistrationError {
    /// The code to answer with.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::OtherCluster { .. } => ErrorCode::InconsistentClusterId,
            Self::DuplicateId(_) => ErrorCode::DuplicateBrokerRegistration,
            Self::InvalidId(_)
            | Self::NoDirectories
            | Self::ReservedDirectory
            | Self::DuplicateDirectory
            | Self::DirectoryOfAnother(_)
            | Self::NoListeners => ErrorCode::InvalidRegistration,
            Self::FromZooKeeper => ErrorCode::BrokerIdNotRegistered,
            Self::UnsupportedFeature { .. } => ErrorCode::UnsupportedVersion,
        }
    }
}

impl Controller {
    /// Lets a broker join, fenced; it is unfenced by a heartbeat once it has caught up with the
    /// metadata log.
    ///
    /// Its epoch is the offset that the registration will have. The response has no room for a
    /// message; the second value says why, for the log.
    pub fn register_broker(
        &self,
        request: &BrokerRegistrationRequest,
        now: Monotonic,
    ) -> (Outcome<BrokerRegistrationResponse>, Option<RegistrationError>) {
        match self.decide_registration(request, now) {
            Ok((records, epoch)) => {
                let answer = message!(BrokerRegistrationResponse { broker_epoch: epoch.0 });
                (Outcome { records, answer }, None)
            }
            Err(error) => {
                let answer = message!(BrokerRegistrationResponse {
                    error_code: error.error_code().code(),
                    broker_epoch: BrokerEpoch::NONE.0,
                });
                (Outcome::only(answer), Some(error))
            }
        }
    }

    fn decide_registration(
        &self,
        request: &BrokerRegistrationRequest,
        now: Monotonic,
    ) -> Result<(Vec<MetadataRecord>, BrokerEpoch), RegistrationError> {
        self.check_registration(request, now)?;
        let features = self.check_features(&request.features)?;
        let id = BrokerId(request.broker_id);
        let mut record = RegisterBrokerRecord {
            broker_id: id,
            is_migrating_zk_broker: false,
            incarnation_id: request.incarnation_id,
            broker_epoch: BrokerEpoch(self.image.position().offset.next().0),
            end_points: endpoints(request),
            features,
            rack: request.rack.as_ref().map(|rack| Arc::from(rack.as_str())),
            fenced: true,
            in_controlled_shutdown: false,
            log_dirs: request.log_dirs.clone(),
        };
        let mut records = Vec::new();
        match self.image.broker(id) {
            // The answer to its first try was lost: nothing about the broker has changed.
            Some(known) if known.incarnation_id == request.incarnation_id => {
                record.broker_epoch = known.epoch;
                record.fenced = known.fenced;
                record.in_controlled_shutdown = known.in_controlled_shutdown;
            }
            // It was shut down in order: what it led must have other leaders until it is back.
            Some(known) if request.previous_broker_epoch == known.epoch.0 => {
                records = self.leader_and_isr_updates(Some(id), None);
            }
            // A crash, or a disk that came from elsewhere: records may be missing (KIP-966).
            Some(_) | None => records = self.unclean_shutdown_updates(id),
        }
        let epoch = record.broker_epoch;
        records.push(record.into());
        Ok((records, epoch))
    }

    fn check_registration(
        &self,
        request: &BrokerRegistrationRequest,
        now: Monotonic,
    ) -> Result<(), RegistrationError> {
        let id = BrokerId(request.broker_id);
        if *request.cluster_id != *self.config.cluster_id {
            return Err(RegistrationError::OtherCluster {
                expected: self.config.cluster_id.clone(),
                given: request.cluster_id.to_string(),
            });
        }
        if id.0 < 0 {
            return Err(RegistrationError::InvalidId(id));
        }
        if request.is_migrating_zk_broker {
            return Err(RegistrationError::FromZooKeeper);
        }
        if request.listeners.is_empty() {
            return Err(RegistrationError::NoListeners);
        }
        self.check_directories(id, &request.log_dirs)?;
        match self.image.broker(id) {
            Some(known) if self.is_another_process(known, request, now) => {
                Err(RegistrationError::DuplicateId(id))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a live process holds this id already.
    ///
    /// Kafka lets a crashed broker wait until its old session ends. Here a broker with one of the
    /// same log directories comes back at once: their lock lets one process hold them, so the
    /// earlier one is dead. If the directories were copied, the earlier one is fenced by its epoch.
    /// One is enough, for others may have failed since.
    fn is_another_process(
        &self,
        known: &BrokerRegistration,
        request: &BrokerRegistrationRequest,
        now: Monotonic,
    ) -> bool {
        let alive = self
            .sessions
            .last_heard(known.id, known.epoch)
            .is_some_and(|last| now.since(last) < self.config.broker.node.session_timeout);
        let set = |dirs: &[Uuid]| dirs.iter().copied().collect::<BTreeSet<_>>();
        alive
            && known.incarnation_id != request.incarnation_id
            && set(&known.log_dirs).is_disjoint(&set(&request.log_dirs))
    }

    fn check_directories(&self, id: BrokerId, dirs: &[Uuid]) -> Result<(), RegistrationError> {
        if dirs.is_empty() {
            return Err(RegistrationError::NoDirectories);
        }
        if dirs.iter().any(is_reserved_directory) {
            return Err(RegistrationError::ReservedDirectory);
        }
        if dirs.iter().collect::<BTreeSet<_>>().len() != dirs.len() {
            return Err(RegistrationError::DuplicateDirectory);
        }
        let mut others = self.image.brokers().filter(|broker| broker.id != id);
        match others.find(|broker| broker.log_dirs.iter().any(|dir| dirs.contains(dir))) {
            Some(other) => Err(RegistrationError::DirectoryOfAnother(other.id)),
            None => Ok(()),
        }
    }

    /// Each feature that is on must be one that the broker can run with at its level (KIP-584).
    fn check_features(&self, offered: &[Feature]) -> Result<Vec<BrokerFeature>, RegistrationError> {
        let features: Vec<BrokerFeature> = offered
            .iter()
            .map(|feature| BrokerFeature {
                name: Arc::from(feature.name.as_str()),
                min_supported_version: feature.min_supported_version,
                max_supported_version: feature.max_supported_version,
            })
            .collect();
        for (name, level) in self.image.features() {
            // A broker that does not mention a feature knows none of its levels; all know the first
            // metadata.version.
            let unmentioned = if &**name == METADATA_VERSION { 1 } else { 0 };
            let (min, max) = features
                .iter()
                .find(|feature| feature.name == *name)
                .map_or((unmentioned, unmentioned), |feature| {
                    (feature.min_supported_version, feature.max_supported_version)
                });
            if !(min..=max).contains(&level) {
                let feature = name.clone();
                return Err(RegistrationError::UnsupportedFeature { feature, level, min, max });
            }
        }
        Ok(features)
    }
}

fn endpoints(request: &BrokerRegistrationRequest) -> Vec<BrokerEndpoint> {
    let listeners = request.listeners.iter();
    listeners
        .map(|listener| BrokerEndpoint {
            name: Arc::from(listener.name.as_str()),
            host: Arc::from(listener.host.as_str()),
            port: listener.port,
            security_protocol: listener.security_protocol,
        })
        .collect()
}
