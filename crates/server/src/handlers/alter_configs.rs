//! AlterConfigs: the whole configuration of some resources, decided by the controller (KIP-133).

use std::sync::Arc;

use ottla_metadata::ConfigResource;
use ottla_protocol::messages::alter_configs_request::AlterConfigsResource;
use ottla_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use ottla_protocol::{ErrorCode, StrBytes, message};

use super::{Answer, RequestContext};
use crate::broker::Broker;
use crate::controller_host::ControllerHost;

/// Answers what this broker can refuse by itself, and has the controller decide on the rest.
pub(super) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    mut request: AlterConfigsRequest,
) -> Answer {
    let resources = std::mem::take(&mut request.resources);
    let named = |it: &AlterConfigsResource| (it.resource_type, it.resource_name.clone());
    let (division, passed_on) = Division::of(broker, resources, named, refuse);
    request.resources = passed_on;
    let (broker, context) = (Arc::clone(broker), context.clone());
    Answer::held(async move {
        let decided = broker.ask_controller(&context, &request).await;
        let mut response = decided
            .unwrap_or_else(|error| refuse_all(&request, error.error_code(), &error.to_string()));
        response.responses = division.put_together(response.responses);
        response
    })
}

/// Decides.
pub(super) fn decide(host: &Arc<ControllerHost>, request: AlterConfigsRequest) -> Answer {
    let host = Arc::clone(host);
    Answer::held(async move {
        let decided = host.decide(|controller, _| controller.alter_configs(&request)).await;
        decided.unwrap_or_else(|error| refuse_all(&request, error.error_code(), &error.to_string()))
    })
}

fn refuse_all(
    request: &AlterConfigsRequest,
    error: ErrorCode,
    reason: &str,
) -> AlterConfigsResponse {
    let named = |it: &AlterConfigsResource| (it.resource_type, it.resource_name.clone());
    let refused = request.resources.iter().map(|it| refuse(named(it), error, reason));
    message!(AlterConfigsResponse { responses: refused.collect() })
}

fn refuse(
    (resource_type, name): (i8, StrBytes),
    error: ErrorCode,
    reason: &str,
) -> AlterConfigsResourceResponse {
    message!(AlterConfigsResourceResponse {
        error_code: error.code(),
        error_message: Some(StrBytes::from(reason)),
        resource_type: resource_type,
        resource_name: name,
    })
}

/// The answers to a request, some of which are known here already; `None` is the controller's. Kafka's
/// `ConfigAdminManager`.
pub(super) struct Division<A>(Vec<Option<A>>);

impl<A> Division<A> {
    /// Keeps what this broker refuses, and gives back what is passed on to the controller.
    pub(super) fn of<R>(
        broker: &Broker,
        resources: Vec<R>,
        named: impl Fn(&R) -> (i8, StrBytes),
        refuse: impl Fn((i8, StrBytes), ErrorCode, &str) -> A,
    ) -> (Self, Vec<R>) {
        let (mut answers, mut passed_on) = (Vec::with_capacity(resources.len()), Vec::new());
        for resource in resources {
            let name = named(&resource);
            match refusal(broker, name.0, &name.1) {
                Some(reason) => {
                    answers.push(Some(refuse(name, ErrorCode::InvalidRequest, &reason)));
                }
                None => {
                    answers.push(None);
                    passed_on.push(resource);
                }
            }
        }
        (Self(answers), passed_on)
    }

    /// All answers, in the order in which they were asked for.
    pub(super) fn put_together(self, decided: Vec<A>) -> Vec<A> {
        let mut decided = decided.into_iter();
        self.0.into_iter().filter_map(|own| own.or_else(|| decided.next())).collect()
    }
}

/// Only the broker itself can tell what it may be changed to: who wants to change another one is to ask that.
fn refusal(broker: &Broker, resource_type: i8, name: &str) -> Option<String> {
    match ConfigResource::from_wire(resource_type, name) {
        Some(ConfigResource::Broker(Some(id))) if id != broker.id() => {
            Some(format!("Unexpected broker id, expected {}, but received {name}", broker.id()))
        }
        Some(_) | None => None,
    }
}
