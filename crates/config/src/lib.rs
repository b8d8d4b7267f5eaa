//! One table of every configuration key: name, type, default, range, documentation and dynamic scope.

mod broker_config;
mod listener;
mod log_config;

pub use broker_config::{
    BrokerConfig, FetchSettings, GroupCoordinatorSettings, LogCleanerConfig, LogManagerConfig,
    NodeConfig, OffsetsSettings, QuorumConfig, QuorumVoter, ReplicaManagerConfig, Sendfile,
    SocketServerConfig, TopicDefaults,
};
pub use listener::{ListenerAddress, SecurityProtocol};
pub use log_config::{CleanupPolicy, LogConfig, MessageTimestampType, TopicCompression};
