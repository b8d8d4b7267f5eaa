//! ListConfigResources: what has, or can have, a configuration (KIP-1142). Version 0 was ListClientMetricsResources
//! (KIP-714).

use std::sync::Arc;

use ottla_metadata::{ConfigResource, MetadataImage};
use ottla_protocol::messages::list_config_resources_response::ConfigResource as ListedResource;
use ottla_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::{Answer, RequestContext};
use crate::broker::Broker;

/// What version 0 lists.
const ONLY_CLIENT_METRICS: &[i8] = &[ConfigResource::CLIENT_METRICS];
/// What later ones do.
const ALL_TYPES: &[i8] = &[
    ConfigResource::TOPIC,
    ConfigResource::BROKER,
    ConfigResource::CLIENT_METRICS,
    ConfigResource::GROUP,
];

pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: &ListConfigResourcesRequest,
) -> Answer {
    let known = if context.version() == 0 { ONLY_CLIENT_METRICS } else { ALL_TYPES };
    if !request.resource_types.iter().all(|asked| known.contains(asked)) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return Answer::now(message!(ListConfigResourcesResponse { error_code: error_code }));
    }
    let image = broker.image();
    // None asked for is all of them.
    let is_asked =
        |kind: i8| request.resource_types.is_empty() || request.resource_types.contains(&kind);
    let asked = known.iter().copied().filter(|kind| is_asked(*kind));
    let listed = asked.flat_map(|kind| {
        names(&image, kind).into_iter().map(move |name| {
            message!(ListedResource { resource_name: StrBytes::from(&*name), resource_type: kind })
        })
    });
    Answer::now(message!(ListConfigResourcesResponse { config_resources: listed.collect() }))
}

/// All topics and all live brokers, and those groups and subscriptions for which something is set.
fn names(image: &MetadataImage, kind: i8) -> Vec<Arc<str>> {
    match kind {
        ConfigResource::TOPIC => image.topics().map(|topic| Arc::clone(&topic.name)).collect(),
        ConfigResource::BROKER => {
            let alive = image.brokers().filter(|broker| !broker.fenced);
            alive.map(|broker| Arc::from(broker.id.to_string())).collect()
        }
        _ => {
            let set = image.configs().map(|(resource, _)| resource);
            let of_kind = set.filter(|resource| resource.resource_type() == kind);
            of_kind.map(ConfigResource::resource_name).collect()
        }
    }
}
