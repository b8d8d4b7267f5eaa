//! Levels of features that the whole cluster agreed on. Kafka: `FeatureControlManager` (KIP-584,
//! KIP-778).

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::messages::update_features_request::FeatureUpdateKey;
use ottla_protocol::messages::update_features_response::UpdatableFeatureResult;
use ottla_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use ottla_protocol::{BrokerId, ErrorCode, StrBytes, message};

use super::configuration_control::MIN_INSYNC_REPLICAS;
use super::{Controller, Outcome};
use crate::image::{ConfigResource, METADATA_VERSION};
use crate::record::{ConfigRecord, FeatureLevelRecord, MetadataRecord, PartitionChangeRecord};

/// A feature and the levels of it that this version of Ottla can run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedFeature {
    /// Kafka's name of it.
    pub name: &'static str,
    /// Lowest level, inclusive.
    pub min: i16,
    /// Highest level, inclusive.
    pub max: i16,
}

/// Kafka's number of the metadata version 4.0-IV3: the records here are written in the versions
/// that it has.
pub const METADATA_VERSION_LEVEL: i16 = 25;

/// What a broker registers with and tells clients in ApiVersions.
///
/// A feature is named here only when all of it works: a client that reads `transaction.version` 2,
/// for one, relies on it.
pub const SUPPORTED_FEATURES: &[SupportedFeature] = &[
    SupportedFeature { name: ELIGIBLE_LEADER_REPLICAS, min: 0, max: 1 },
    SupportedFeature {
        name: METADATA_VERSION,
        min: METADATA_VERSION_LEVEL,
        max: METADATA_VERSION_LEVEL,
    },
];

/// Name of the feature with which the controller knows who has every committed record without being
/// in sync (KIP-966).
pub(super) const ELIGIBLE_LEADER_REPLICAS: &str = "eligible.leader.replicas.version";

/// The first records of a new cluster's metadata log: every feature at the highest level known.
pub fn bootstrap_records() -> Vec<MetadataRecord> {
    let features = SUPPORTED_FEATURES.iter();
    features
        .map(|feature| {
            let (name, feature_level) = (Arc::from(feature.name), feature.max);
            FeatureLevelRecord { name, feature_level }.into()
        })
        .collect()
}

/// Why a feature is not set to a level. Kafka answers all of them with `INVALID_UPDATE_VERSION`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum UpdateError {
    #[error("The controller does not support the given upgrade type.")]
    UnknownUpgradeType,
    #[error("A feature version cannot be less than 0.")]
    Negative,
    #[error("{0} does not support this feature.")]
    UnknownFeature(String),
    #[error("{who} only supports versions {min}-{max}")]
    UnsupportedLevel { who: String, min: i16, max: i16 },
    #[error(
        "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade."
    )]
    Downgrade,
    #[error("Can't downgrade to a newer version.")]
    NotADowngrade,
}

/// Kafka's `FeatureUpdate.UpgradeType`: an upgrade, or a downgrade that loses nothing, or one that may.
const UPGRADE: i8 = 1;
const DOWNGRADES: [i8; 2] = [2, 3];

/// The newest version of UpdateFeatures that answers feature by feature.
const LAST_VERSION_WITH_RESULTS: i16 = 1;

impl Controller {
    /// Sets levels of features, all of them or none (KIP-584, KIP-778). `version` is that of the
    /// request.
    pub fn update_features(
        &self,
        request: &UpdateFeaturesRequest,
        version: i16,
    ) -> Outcome<UpdateFeaturesResponse> {
        // As in Kafka, the last word on a feature counts.
        let updates: BTreeMap<&str, &FeatureUpdateKey> =
            request.feature_updates.iter().map(|it| (it.feature.as_str(), it)).collect();
        let mut records = Vec::new();
        for (name, update) in updates {
            let level = update.max_version_level;
            if let Err(reason) = self.check_feature_update(name, update) {
                let refusal = format!(
                    "The update failed for all features since the following feature had an error: \
                     Invalid update version {level} for feature {name}. {reason}"
                );
                return Outcome::only(message!(UpdateFeaturesResponse {
                    error_code: ErrorCode::InvalidUpdateVersion.code(),
                    error_message: Some(StrBytes::from(refusal)),
                }));
            }
            if level != self.image.feature_level(name) {
                if name == ELIGIBLE_LEADER_REPLICAS {
                    records.extend(match level {
                        0 => self.eligible_replicas_to_isr(),
                        _ => self.one_min_isr_for_all(),
                    });
                }
                let (name, feature_level) = (Arc::from(name), level);
                records.push(FeatureLevelRecord { name, feature_level }.into());
            }
        }
        let results = match version <= LAST_VERSION_WITH_RESULTS {
            true => request.feature_updates.iter().map(updated).collect(),
            false => Vec::new(),
        };
        if request.validate_only {
            records.clear();
        }
        let answer = message!(UpdateFeaturesResponse { error_message: None, results: results });
        Outcome { records, answer }
    }

    /// The first records of a new cluster's metadata log; none if it has any.
    pub fn bootstrap(&self) -> Outcome<()> {
        if self.image.feature_level(METADATA_VERSION) != 0 {
            return Outcome::only(());
        }
        let mut records = bootstrap_records();
        records.extend(self.one_min_isr_for_all());
        Outcome { records, answer: () }
    }

    /// Whether the cluster keeps eligible leader replicas (KIP-966).
    pub(super) fn keeps_eligible_replicas(&self) -> bool {
        self.image.feature_level(ELIGIBLE_LEADER_REPLICAS) > 0
    }

    /// Whichever node is the controller must find the same replicas eligible, and leaders must commit by
    /// the number that it goes by: `min.insync.replicas` is set for all brokers, and for none by itself
    /// (KIP-966).
    fn one_min_isr_for_all(&self) -> Vec<MetadataRecord> {
        let record = |id, value| {
            let resource = ConfigResource::Broker(id);
            MetadataRecord::Config(ConfigRecord {
                resource_type: resource.resource_type(),
                resource_name: resource.resource_name(),
                name: Arc::from(MIN_INSYNC_REPLICAS),
                value,
            })
        };
        let is_set = |resource: &ConfigResource| {
            let config = self.image.config(resource);
            config.is_some_and(|config| config.contains_key(MIN_INSYNC_REPLICAS))
        };
        let mut records = Vec::new();
        if !is_set(&ConfigResource::Broker(None)) {
            let own = self.config.broker.log_manager.defaults.min_insync_replicas;
            records.push(record(None, Some(Arc::from(own.to_string()))));
        }
        for (resource, _) in self.image.configs() {
            match resource {
                ConfigResource::Broker(Some(id)) if is_set(resource) => {
                    records.push(record(Some(*id), None));
                }
                ConfigResource::Broker(_)
                | ConfigResource::Topic(_)
                | ConfigResource::ClientMetrics(_)
                | ConfigResource::Group(_) => {}
            }
        }
        records
    }

    /// Without the feature an ISR is never empty: who is eligible is in it, and leads when it is back.
    fn eligible_replicas_to_isr(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        for topic in self.image.topics() {
            for (number, partition) in &topic.partitions {
                if partition.elr.is_empty() && partition.last_known_elr.is_empty() {
                    continue;
                }
                let mut change = PartitionChangeRecord::new(topic.id, *number);
                change.eligible_leader_replicas = Some(Vec::new());
                change.last_known_elr = Some(Vec::new());
                if partition.isr.is_empty() {
                    let members = match partition.elr.is_empty() {
                        true => &partition.last_known_elr,
                        false => &partition.elr,
                    };
                    change.isr = Some(members.clone());
                }
                records.push(MetadataRecord::PartitionChange(change));
            }
        }
        records
    }

    fn check_feature_update(
        &self,
        name: &str,
        update: &FeatureUpdateKey,
    ) -> Result<(), UpdateError> {
        let (level, current) = (update.max_version_level, self.image.feature_level(name));
        // Version 0 has a flag instead of a type.
        let may_downgrade = update.allow_downgrade || DOWNGRADES.contains(&update.upgrade_type);
        if update.upgrade_type != UPGRADE && !may_downgrade {
            return Err(UpdateError::UnknownUpgradeType);
        }
        if level < 0 {
            return Err(UpdateError::Negative);
        }
        self.check_supported(name, level)?;
        if level < current && !may_downgrade {
            return Err(UpdateError::Downgrade);
        }
        if level > current && may_downgrade {
            return Err(UpdateError::NotADowngrade);
        }
        Ok(())
    }

    /// Every node must be able to run with the level: this controller, and every registered broker.
    fn check_supported(&self, name: &str, level: i16) -> Result<(), UpdateError> {
        let supported = SUPPORTED_FEATURES.iter().find(|feature| feature.name == name);
        let range = supported.map(|feature| (feature.min, feature.max));
        let own: BrokerId = self.config.broker.node.node_id;
        check_range(range, level, || format!("Local controller {own}"))?;
        for broker in self.image.brokers() {
            let known = broker.features.iter().find(|feature| &*feature.name == name);
            let range = known.map(|it| (it.min_supported_version, it.max_supported_version));
            check_range(range, level, || format!("Broker {}", broker.id))?;
        }
        Ok(())
    }
}

fn check_range(
    range: Option<(i16, i16)>,
    level: i16,
    who: impl Fn() -> String,
) -> Result<(), UpdateError> {
    match range {
        None | Some((_, 0)) if level != 0 => Err(UpdateError::UnknownFeature(who())),
        Some((min, max)) if !(min..=max).contains(&level) => {
            Err(UpdateError::UnsupportedLevel { who: who(), min, max })
        }
        None | Some(_) => Ok(()),
    }
}

fn updated(update: &FeatureUpdateKey) -> UpdatableFeatureResult {
    message!(UpdatableFeatureResult { feature: update.feature.clone(), error_message: None })
}
