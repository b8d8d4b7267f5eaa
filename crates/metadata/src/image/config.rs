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
}

impl ConfigResource {
    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;

    /// Whether Kafka's `ConfigResource.Type` number means a broker.
    pub(crate) fn is_broker_type(resource_type: i8) -> bool {
        resource_type == Self::BROKER
    }

    /// Kafka's `ConfigResource.Type` number: 2 topic, 4 broker.
    pub fn resource_type(&self) -> i8 {
        match self {
            Self::Topic(_) => Self::TOPIC,
            Self::Broker(_) => Self::BROKER,
        }
    }

    /// Its name on the wire: the topic's name, the broker's id, or nothing for the default of all
    /// brokers.
    pub fn resource_name(&self) -> Arc<str> {
        match self {
            Self::Topic(name) => name.clone(),
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
        }
    }
}
