//! Levels of features that the whole cluster agreed on. Kafka: `FeatureControlManager` (KIP-584,
//! KIP-778).

use std::sync::Arc;

use crate::image::METADATA_VERSION;
use crate::record::{FeatureLevelRecord, MetadataRecord};

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
pub const SUPPORTED_FEATURES: &[SupportedFeature] = &[SupportedFeature {
    name: METADATA_VERSION,
    min: METADATA_VERSION_LEVEL,
    max: METADATA_VERSION_LEVEL,
}];

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
