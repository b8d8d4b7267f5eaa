//! The configuration keys a group coordinator reads.

use std::time::Duration;

use ottla_config::{GroupCoordinatorSettings, OffsetsSettings};

/// Limits and delays of a group coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCoordinatorConfig {
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout: Duration,
    /// `group.max.size`: members of one group, and members pending in it (KIP-394).
    pub max_size: usize,
    /// `offset.metadata.max.bytes`: the longest metadata string of a commit, in UTF-16 units as in Kafka.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`: after this, offsets nobody consumes any more expire.
    pub offsets_retention: Duration,
}

impl GroupCoordinatorConfig {
    /// How long a member that joined for the first time may wait without a heartbeat. Not configurable in Kafka either.
    pub(crate) const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

    /// The part of a broker's configuration that is read here.
    pub fn new(group: &GroupCoordinatorSettings, offsets: &OffsetsSettings) -> Self {
        Self {
            initial_rebalance_delay: group.initial_rebalance_delay,
            min_session_timeout: group.min_session_timeout,
            max_session_timeout: group.max_session_timeout,
            max_size: group.max_size,
            offset_metadata_max_bytes: offsets.metadata_max_bytes,
            offsets_retention: offsets.retention,
        }
    }
}

impl Default for GroupCoordinatorConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::from_secs(3),
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_secs(30 * 60),
            max_size: i32::MAX as usize,
            offset_metadata_max_bytes: 4096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}
