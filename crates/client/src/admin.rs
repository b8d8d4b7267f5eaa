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

use crate::{Client, ClientError};

/// What was answered of each of several things.
pub type Answers<K, V = ()> = BTreeMap<K, Result<V, ClientError>>;

/// `default.api.timeout.ms` of Kafka's clients.
pub const DEFAULT_API_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks and changes a cluster. Clones share the connections of their [`Client`].
///
/// Calls may be dropped at any time; what was sent is then carried out or not.
///
/// ```no_run
/// use std::time::Duration;
/// use ottla_client::{Admin, Client, ConnectionOptions, NewTopic};
/// use ottla_env::Env;
///
/// # async fn example() -> Result<(), ottla_client::ClientError> {
/// let servers = vec!["127.0.0.1:9092".to_owned()];
/// let client = Client::connect(&Env::os(), servers, ConnectionOptions::default()).await?;
/// let admin = Admin::new(client, Duration::from_secs(60));
/// admin.create_topic(NewTopic { partitions: Some(3), ..NewTopic::new("orders") }).await?;
/// for (name, topic) in admin.describe_topics(&["orders"]).await? {
///     println!("{name} has {} partitions", topic?.partitions.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Admin {
    client: Client,
    timeout: Duration,
}

impl Admin {
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
