//! Who a client is, as far as its connection and its requests tell. Kafka's `ClientMetricsInstanceMetadata`.

use std::borrow::Cow;
use std::net::IpAddr;

use ottla_config::ClientMetricsConfig;
use ottla_protocol::{Uuid, format_uuid};

/// A connection, by a number that no other one of the node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A client, as subscriptions select it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// What it calls itself, empty if nothing.
    pub client_id: String,
    /// The library it uses (KIP-511), `unknown` if it did not say.
    pub software_name: String,
    /// The version of that library, `unknown` if it did not say.
    pub software_version: String,
    /// Where it connects from.
    pub address: IpAddr,
    /// The port it connects from.
    pub port: u16,
}

impl Client {
    /// Whether the subscription applies to this client, whose instance has the given id.
    pub(crate) fn is_matched(&self, instance: Uuid, subscription: &ClientMetricsConfig) -> bool {
        subscription.patterns.iter().all(|(about, expression)| {
            self.about(instance, about).is_some_and(|value| expression.is_match(&value))
        })
    }

    fn about(&self, instance: Uuid, about: &str) -> Option<Cow<'_, str>> {
        Some(match about {
            "client_instance_id" => Cow::Owned(format_uuid(instance)),
            "client_id" => Cow::Borrowed(&self.client_id),
            "client_software_name" => Cow::Borrowed(&self.software_name),
            "client_software_version" => Cow::Borrowed(&self.software_version),
            "client_source_address" => Cow::Owned(self.address.to_canonical().to_string()),
            "client_source_port" => Cow::Owned(self.port.to_string()),
            _ => return None,
        })
    }
}
