//! Listeners: `NAME://host:port`, their protocols, and which of them is told to whom.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;

use crate::ConfigProblem;
use crate::settings::Settings;
use crate::values::Values;

/// One `NAME://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerAddress {
    /// The listener's name, in capitals.
    pub name: String,
    /// Host name or address; empty listens on every interface.
    pub host: String,
    /// TCP port; 0 asks the system for a free one.
    pub port: u16,
    /// How bytes travel on it.
    pub protocol: SecurityProtocol,
}

/// How bytes travel on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL in the clear.
    SaslPlaintext,
    /// SASL under TLS.
    SaslSsl,
}

impl ListenerAddress {
    /// What `env::Net::listen` takes: `host:port`, `:port` for every interface; IPv6 hosts in brackets.
    pub fn socket_address(&self) -> String {
        match self.host.as_str() {
            "" => format!(":{}", self.port),
            host if host.contains(':') => format!("[{host}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        }
    }
}

impl fmt::Display for ListenerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, host, port, .. } = self;
        match host.contains(':') {
            true => write!(f, "{name}://[{host}]:{port}"),
            false => write!(f, "{name}://{host}:{port}"),
        }
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        })
    }
}

/// What the listener keys of a node come to.
pub(crate) struct Listeners {
    pub(crate) listeners: Vec<ListenerAddress>,
    pub(crate) advertised: Vec<ListenerAddress>,
    pub(crate) controller_names: Vec<String>,
    pub(crate) inter_broker_name: String,
}

impl Listeners {
    /// Reads them and checks one against the other (KIP-103, KIP-801).
    pub(crate) fn of(
        values: &Settings,
        is_broker: bool,
        problems: &mut Vec<ConfigProblem>,
    ) -> Self {
        let controller_names: Vec<String> =
            values.list("controller.listener.names").iter().map(|s| s.to_uppercase()).collect();
        let protocols = ProtocolMap::of(values, &controller_names, problems);
        let listeners = protocols.read_addresses("listeners", values, problems);
        check_ports(&listeners, problems);
        let all_served = check_served(&listeners, problems);
        let serves_clients =
            |listener: &&ListenerAddress| !controller_names.contains(&listener.name);
        let advertised = match values.given("advertised.listeners") {
            Some(_) => protocols.read_addresses("advertised.listeners", values, problems),
            None => listeners.iter().filter(serves_clients).cloned().collect(),
        };
        let listeners = Self {
            inter_broker_name: values.text("inter.broker.listener.name").map_or_else(
                || values.text("security.inter.broker.protocol").unwrap_or_default(),
                |name| name.to_uppercase(),
            ),
            listeners,
            advertised,
            controller_names,
        };
        if is_broker && all_served && !listeners.listeners.is_empty() {
            listeners.check_advertised(problems);
        }
        listeners
    }

    fn check_advertised(&self, problems: &mut Vec<ConfigProblem>) {
        let mut conflict = |text: String| problems.push(ConfigProblem::Conflict(text));
        for address in &self.advertised {
            if address.host == "0.0.0.0" || address.host == "::" {
                conflict(format!(
                    "{address} cannot be advertised: no client can connect to that host; \
                     set advertised.listeners={}://<host name>:{}",
                    address.name, address.port
                ));
            }
            if !self.listeners.iter().any(|listener| listener.name == address.name) {
                conflict(format!(
                    "advertised.listeners names {}, listeners does not",
                    address.name
                ));
            }
        }
        let inter_broker = &self.inter_broker_name;
        if !self.advertised.iter().any(|address| address.name == *inter_broker) {
            let names: Vec<_> = self.advertised.iter().map(|it| it.name.as_str()).collect();
            conflict(format!(
                "brokers reach each other on the listener {inter_broker}, which is not advertised; \
                 set inter.broker.listener.name to one of: {}",
                names.join(", ")
            ));
        }
    }
}

/// Which protocol each listener name stands for.
struct ProtocolMap(BTreeMap<String, SecurityProtocol>);

impl ProtocolMap {
    fn of(values: &Settings, controllers: &[String], problems: &mut Vec<ConfigProblem>) -> Self {
        const KEY: &str = "listener.security.protocol.map";
        let mut protocols = BTreeMap::new();
        if values.given(KEY).is_none() {
            // KIP-801: controllers talk in the clear unless the map says something else.
            protocols
                .extend(controllers.iter().map(|name| (name.clone(), SecurityProtocol::Plaintext)));
        }
        for text in values.list(KEY) {
            let pair = text.split_once(':').and_then(|(name, protocol)| {
                Some((name.trim().to_uppercase(), SecurityProtocol::of_name(protocol.trim())?))
            });
            match pair {
                Some((name, protocol)) => drop(protocols.insert(name, protocol)),
                None => problems.push(ConfigProblem::InvalidValue {
                    key: KEY.to_owned(),
                    value: text,
                    accepted: "a list of NAME:PROTOCOL, where the protocol is PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL".to_owned(),
                }),
            }
        }
        Self(protocols)
    }

    fn read_addresses(
        &self,
        key: &str,
        values: &Settings,
        problems: &mut Vec<ConfigProblem>,
    ) -> Vec<ListenerAddress> {
        let mut addresses: Vec<ListenerAddress> = Vec::new();
        for text in values.list(key) {
            match self.read_address(&text) {
                Ok(address) if addresses.iter().any(|other| other.name == address.name) => {
                    let name = address.name;
                    problems.push(ConfigProblem::Conflict(format!("{key} names {name} twice")));
                }
                Ok(address) => addresses.push(address),
                Err(accepted) => problems.push(ConfigProblem::InvalidValue {
                    key: key.to_owned(),
                    value: text,
                    accepted,
                }),
            }
        }
        if values.list(key).is_empty() {
            problems.push(ConfigProblem::Conflict(format!("{key} must name a listener")));
        }
        addresses
    }

    fn read_address(&self, text: &str) -> Result<ListenerAddress, String> {
        let (name, address) =
            text.split_once("://").ok_or("a list of NAME://host:port".to_owned())?;
        let (host, port) =
            parse_host_port(address).ok_or("NAME://host:port with a port from 0 to 65535")?;
        let name = name.to_uppercase();
        let protocol = *self.0.get(&name).ok_or_else(|| {
            format!("a listener whose protocol is known; add {name}:PLAINTEXT to listener.security.protocol.map")
        })?;
        Ok(ListenerAddress { name, host, port, protocol })
    }
}

/// `host:port`, `[v6 address]:port` or `:port`.
pub(crate) fn parse_host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let port = port.parse().ok()?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(|_| v6)?,
        None if host.contains([':', '/', '[', ']', ' ']) => return None,
        None => host,
    };
    Some((host.to_owned(), port))
}

fn check_ports(listeners: &[ListenerAddress], problems: &mut Vec<ConfigProblem>) {
    for (i, listener) in listeners.iter().enumerate() {
        let same = |other: &&ListenerAddress| {
            other.port != 0 && other.port == listener.port && other.host == listener.host
        };
        if let Some(other) = listeners.iter().take(i).find(same) {
            problems.push(ConfigProblem::Conflict(format!(
                "listeners: {other} and {listener} have the same port"
            )));
        }
    }
}

/// Whether every listener speaks a protocol that is served.
fn check_served(listeners: &[ListenerAddress], problems: &mut Vec<ConfigProblem>) -> bool {
    let before = problems.len();
    for listener in listeners.iter().filter(|it| it.protocol != SecurityProtocol::Plaintext) {
        problems.push(ConfigProblem::Conflict(format!(
            "listeners: {listener} speaks {}, but Ottla serves only PLAINTEXT listeners so far",
            listener.protocol
        )));
    }
    problems.len() == before
}

impl SecurityProtocol {
    fn of_name(name: &str) -> Option<Self> {
        [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl]
            .into_iter()
            .find(|protocol| protocol.to_string().eq_ignore_ascii_case(name))
    }
}
