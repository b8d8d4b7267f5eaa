use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ottla_protocol::BrokerId;

/// What was set for one resource, by key.
pub type ResourceConfig = BTreeMap<Arc<str>, Arc<str>>;

/// Something that has a configuration of its own in the metadata log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    /// The topic of that name.
    Topic(Arc<str>),
    /// One broker, or with no id the default of all brokers (KIP-226).
    Broker(Option<BrokerId>),
    /// The subscription to client metrics of that name (KIP-714).
    ClientMetrics(Arc<str>),
    /// The consumer, share or streams group of that name (KIP-848).
    Group(Arc<str>),
}

impl ConfigResource {
    /// What is answered to who asks for the levels of a broker's loggers, or for others (KIP-412).
    pub const LOG_LEVELS_ARE_FIXED: &str = "Log levels do not change while a node runs: start it with others in OTTLA_LOG, for example OTTLA_LOG=debug";
    /// Kafka's `ConfigResource.Type` number of a topic.
    pub const TOPIC: i8 = 2;
    /// Of a broker.
    pub const BROKER: i8 = 4;
    /// Of the log levels of a broker, which the metadata log does not keep (KIP-412).
    pub const BROKER_LOGGER: i8 = 8;
    /// Of a subscription to client metrics.
    pub const CLIENT_METRICS: i8 = 16;
    /// Of a group.
    pub const GROUP: i8 = 32;

    /// Kafka's `ConfigResource.Type` number.
    pub fn resource_type(&self) -> i8 {
        match self {
            Self::Topic(_) => Self::TOPIC,
            Self::Broker(_) => Self::BROKER,
            Self::ClientMetrics(_) => Self::CLIENT_METRICS,
            Self::Group(_) => Self::GROUP,
        }
    }

    /// Its name on the wire: the broker's id, or nothing for the default of all brokers; else its
    /// own name.
    pub fn resource_name(&self) -> Arc<str> {
        match self {
            Self::Topic(name) | Self::ClientMetrics(name) | Self::Group(name) => name.clone(),
            Self::Broker(Some(id)) => Arc::from(id.to_string()),
            Self::Broker(None) => Arc::from(""),
        }
    }

    /// The resource that these two name on the wire; None if the type is not one that Ottla keeps a
    /// configuration for, or the name is no broker id.
    pub fn from_wire(resource_type: i8, name: &str) -> Option<Self> {
        match resource_type {
            Self::TOPIC => Some(Self::Topic(Arc::from(name))),
            Self::BROKER if name.is_empty() => Some(Self::Broker(None)),
            Self::BROKER => {
                let id = name.parse().ok().filter(|id| *id >= 0)?;
                Some(Self::Broker(Some(BrokerId(id))))
            }
            Self::CLIENT_METRICS => Some(Self::ClientMetrics(Arc::from(name))),
            Self::GROUP => Some(Self::Group(Arc::from(name))),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Broker(Some(id)) => write!(f, "broker {id}"),
            Self::Broker(None) => f.write_str("all brokers"),
            Self::ClientMetrics(name) => write!(f, "client metrics {name}"),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}
