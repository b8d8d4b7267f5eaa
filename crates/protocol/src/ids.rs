//! Ids and offsets as newtypes, so that a broker id is never passed for an epoch.

use std::fmt;
use std::sync::Arc;

pub use kafka_wire_core::Uuid as TopicId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// The number of a node: `node.id`, or `broker.id` as older notes call it.
    BrokerId(i32)
);
id!(
    /// Which registration of a broker a request speaks for. It grows with every incarnation of any
    /// broker, because it is the offset in the metadata log at which the registration stands (KIP-631).
    /// -1 is "none".
    BrokerEpoch(i64)
);
id!(
    /// Position of a record in its partition. Counts from 0 and never goes back.
    Offset(i64)
);
id!(
    /// How many leaders a partition has had (KIP-101). -1 is "unknown".
    LeaderEpoch(i32)
);
id!(
    /// Number of an idempotent or transactional producer (KIP-98). -1 is "none".
    ProducerId(i64)
);
id!(
    /// Incarnation of a producer id; an older one is fenced. -1 is "none".
    ProducerEpoch(i16)
);

impl BrokerId {
    /// No broker: a client, or an unknown leader.
    pub const NONE: Self = Self(-1);
}

impl BrokerEpoch {
    /// No registration.
    pub const NONE: Self = Self(-1);
}

impl Offset {
    /// No offset: unknown, or not applicable.
    pub const NONE: Self = Self(-1);

    /// The offset after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LeaderEpoch {
    /// No epoch given.
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// No producer id: the batch is not idempotent.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// No producer epoch.
    pub const NONE: Self = Self(-1);
}

/// One partition of one topic, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition, counted from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
