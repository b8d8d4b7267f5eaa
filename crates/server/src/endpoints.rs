//! Where a node listens, where it says that it does, and where the voters of its quorum are.

use std::net::SocketAddr;
use std::sync::Arc;

use ottla_config::{BrokerConfig, ListenerAddress, SecurityProtocol};
use ottla_protocol::messages::broker_registration_request::Listener;
use ottla_protocol::{StrBytes, message};

use crate::quorum::Voter;

/// Names and addresses of listeners.
pub(crate) type Listeners = Vec<(Arc<str>, String)>;

/// The listeners of other nodes, and those of clients.
pub(crate) fn listeners_of(config: &BrokerConfig) -> (Listeners, Listeners) {
    let named =
        |listener: &ListenerAddress| (Arc::from(listener.name.as_str()), listener.socket_address());
    let is_controllers =
        |it: &&ListenerAddress| config.node.controller_listener_names.contains(&it.name);
    let (nodes, clients): (Vec<_>, Vec<_>) = config.node.listeners.iter().partition(is_controllers);
    (nodes.into_iter().map(named).collect(), clients.into_iter().map(named).collect())
}

/// Where others reach the controller of this node, if it has one and can tell.
pub(crate) fn controller_endpoint(
    config: &BrokerConfig,
    bound: &[(Arc<str>, SocketAddr)],
) -> Option<Voter> {
    let listener = config.node.controller_listener().filter(|_| config.node.is_controller)?;
    let port = bound_port(listener, bound);
    Some(Voter { node_id: config.node.node_id.0, host: listener.host.clone(), port })
}

/// Where clients are told to connect: as configured, with the port that the system chose where the configured one is 0.
pub(crate) fn advertised(config: &BrokerConfig, bound: &[(Arc<str>, SocketAddr)]) -> Vec<Listener> {
    let is_for_clients =
        |it: &&ListenerAddress| !config.node.controller_listener_names.contains(&it.name);
    let advertised = config.node.advertised_listeners.iter().filter(is_for_clients);
    advertised
        .map(|listener| {
            message!(Listener {
                name: StrBytes::from(listener.name.as_str()),
                host: StrBytes::from(listener.host.as_str()),
                port: bound_port(listener, bound),
                security_protocol: match listener.protocol {
                    SecurityProtocol::Plaintext => 0,
                    SecurityProtocol::Ssl => 1,
                    SecurityProtocol::SaslPlaintext => 2,
                    SecurityProtocol::SaslSsl => 3,
                },
            })
        })
        .collect()
}

/// The port of a listener; the one that the system chose where it is configured as 0.
fn bound_port(listener: &ListenerAddress, bound: &[(Arc<str>, SocketAddr)]) -> u16 {
    match listener.port {
        0 => bound.iter().find(|(name, _)| **name == *listener.name).map_or(0, |it| it.1.port()),
        port => port,
    }
}

/// `controller.quorum.voters`.
pub(crate) fn voters_of(config: &BrokerConfig) -> Vec<Voter> {
    let voters = config.quorum.voters.iter();
    voters.map(|it| Voter { node_id: it.node_id.0, host: it.host.clone(), port: it.port }).collect()
}

/// `controller.quorum.bootstrap.servers`, whose ids are not known.
pub(crate) fn servers_of(config: &BrokerConfig) -> Vec<Voter> {
    let servers = config.quorum.bootstrap_servers.iter();
    servers.map(|it| Voter { node_id: -1, host: it.host.clone(), port: it.port }).collect()
}
