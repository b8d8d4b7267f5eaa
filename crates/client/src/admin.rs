//! Asks and changes a cluster. Kafka's `Admin`.
//!
//! Each call goes where it belongs (any broker, the controller, a coordinator, a leader, one
//! broker), and is tried again every `retry.backoff.ms` while the failure may pass, for
//! `default.api.timeout.ms` in all. A call fails if a broker cannot be asked; what a broker says of
//! one of several things stands beside that thing, in [`Answers`].

mod cluster;
mod configs;
mod groups;
mod offsets;
mod partitions;
mod quotas;
mod records;
mod routing;
mod topics;

use std::collections::BTreeMap;
use std::time::Duration;

pub use self::cluster::{
    ClusterDescription, FeatureLevels, FeatureUpdate, FeatureUpgrade, LogDirDescription, Node,
    QuorumDescription, QuorumReplica, ReplicaInDir,
};
pub use self::configs::{
    ConfigChange, ConfigEntry, ConfigResource, ConfigResourceType, ConfigSource, ConfigSynonym,
    ConfigType,
};
pub use self::groups::{GroupDescription, GroupListing, GroupMember, MemberToRemove};
pub use self::offsets::{CommittedOffset, ListedOffset, OffsetQuery};
pub use self::partitions::{ElectionType, ProducerState, Reassignment};
pub use self::quotas::{QuotaEntity, QuotaFilter, QuotaMatch};
pub use self::topics::{NewPartitions, NewTopic, TopicDescription, TopicListing};

use crate::{Client, ClientError, CommonClientConfig, Env};

/// What was answered of each of several things.
pub type Answers<K, V = ()> = BTreeMap<K, Result<V, ClientError>>;

/// `default.api.timeout.ms` of Kafka's clients.
pub const DEFAULT_API_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks and changes a cluster. Clones share the connections of their [`Client`]. Kafka's `Admin`.
///
/// Calls may be dropped at any time; what was sent is then carried out or not. The guide has
/// [a chapter](crate::guide::administration) on it.
#[derive(Clone)]
pub struct Admin {
    client: Client,
    timeout: Duration,
}

impl Admin {
    /// Connects to one of `bootstrap.servers`, and gives a call up after [`DEFAULT_API_TIMEOUT`].
    pub async fn connect(env: &Env, config: &CommonClientConfig) -> Result<Self, ClientError> {
        let servers = config.bootstrap_servers.clone();
        let client = Client::connect(env, servers, config.connection_options()).await?;
        Ok(Self::new(client, DEFAULT_API_TIMEOUT))
    }

    /// Works on the cluster of `client`, and gives a call up after `timeout`
    /// (`default.api.timeout.ms`; see [`DEFAULT_API_TIMEOUT`]).
    pub fn new(client: Client, timeout: Duration) -> Self {
        Self { client, timeout }
    }

    /// The cluster it works on.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }
}
