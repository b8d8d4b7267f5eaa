//! ApiVersions: what this release serves (KIP-511, KIP-584).

use std::sync::Arc;

use ottla_metadata::controller::{SUPPORTED_FEATURES, SupportedFeature};
use ottla_protocol::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
use ottla_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::{ErrorCode, StrBytes, advertised_apis, message};

use super::{Answer, RequestContext};
use crate::broker::Broker;

/// The first version in which a client names itself, and is checked for it.
const FIRST_VERSION_WITH_SOFTWARE: i16 = 3;

/// The first version whose clients take a feature that may be off, level 0 (KIP-1022).
const FIRST_VERSION_WITH_LEVEL_ZERO: i16 = 4;

pub(super) fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: &ApiVersionsRequest,
) -> Answer {
    if context.version() >= FIRST_VERSION_WITH_SOFTWARE {
        let (name, version) = (&request.client_software_name, &request.client_software_version);
        if !is_software_name(name) || !is_software_name(version) {
            let error_code = ErrorCode::InvalidRequest.code();
            return Answer::now(message!(ApiVersionsResponse { error_code: error_code }));
        }
        context.connection.set_software(name, version);
    }
    let image = broker.image();
    Answer::now(message!(ApiVersionsResponse {
        api_keys: advertised_apis(),
        supported_features: SUPPORTED_FEATURES
            .iter()
            .filter(|it| it.min > 0 || context.version() >= FIRST_VERSION_WITH_LEVEL_ZERO)
            .map(supported)
            .collect(),
        finalized_features: image.features().map(finalized).collect(),
        finalized_features_epoch: image.position().offset.0,
    }))
}

fn supported(feature: &SupportedFeature) -> SupportedFeatureKey {
    message!(SupportedFeatureKey {
        name: StrBytes::from(feature.name),
        min_version: feature.min,
        max_version: feature.max,
    })
}

fn finalized((name, level): (&Arc<str>, i16)) -> FinalizedFeatureKey {
    message!(FinalizedFeatureKey {
        name: StrBytes::from(&**name),
        min_version_level: level,
        max_version_level: level,
    })
}

/// Letters, digits, `-` and `.`, not at either end the latter two.
fn is_software_name(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
    let edge = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    name.bytes().all(inner) && edge(name.as_bytes().first()) && edge(name.as_bytes().last())
}
