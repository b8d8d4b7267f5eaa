//! The records of the metadata log, in the format of Kafka's own `__cluster_metadata` (KIP-631).
//!
//! One record is a frame version (always 1), an api key, a record version, each an unsigned varint,
//! and then the fields in the flexible encoding. Kafka's `kafka-dump-log
//! --cluster-metadata-decoder` reads them.

mod codec;
#[macro_use]
mod schema;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_wire_core::{DecodeError, DecodeLimits, Decoder, TagOutcome, Uuid};
use ottla_protocol::{BrokerId, LeaderEpoch, TopicId};

use crate::BrokerEpoch;
use codec::{Field, TagWriter, put_varint};

/// The only frame version there is.
const FRAME_VERSION: u32 = 1;

/// Kafka's number for "this partition has no leader".
pub const NO_LEADER: BrokerId = BrokerId(-1);
/// Kafka's number for "this change leaves the leader as it is".
pub const NO_LEADER_CHANGE: BrokerId = BrokerId(-2);

schema! {
    /// One address at which a broker listens.
    struct BrokerEndpoint {
        /// Name of the listener, for example `PLAINTEXT`.
        name: Arc<str>;
        /// Host that clients are told.
        host: Arc<str>;
        /// Port that clients are told.
        port: u16;
        /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
        security_protocol: i16;
    }
    tagged {}
}

schema! {
    /// The levels of one feature that a broker can run with.
    struct BrokerFeature {
        /// Name of the feature, for example `metadata.version`.
        name: Arc<str>;
        /// Lowest level, inclusive.
        min_supported_version: i16;
        /// Highest level, inclusive.
        max_supported_version: i16;
    }
    tagged {}
}

schema! {
    /// A broker joined, or joined again: it replaces any registration of the same id.
    struct RegisterBrokerRecord {
        /// Its id.
        broker_id: BrokerId;
        /// Always false here: there is no ZooKeeper to migrate from.
        is_migrating_zk_broker: bool, since 2;
        /// New with every start of the process.
        incarnation_id: Uuid;
        /// Grows with every incarnation; requests that carry an older one are refused.
        broker_epoch: BrokerEpoch;
        /// Where it listens.
        end_points: Vec<BrokerEndpoint>;
        /// What it can run with.
        features: Vec<BrokerFeature>;
        /// Its rack, if told.
        rack: Option<Arc<str>>;
        /// Whether it may not lead or serve clients yet.
        fenced: bool;
        /// Whether it asked to leave in order.
        in_controlled_shutdown: bool, since 1;
    }
    tagged {
        /// Ids of its log directories (KIP-858).
        0 => log_dirs: Vec<Uuid> = Vec::new();
    }
}

schema! {
    /// A broker was removed for good.
    struct UnregisterBrokerRecord {
        /// Its id.
        broker_id: BrokerId;
        /// The registration that is removed.
        broker_epoch: BrokerEpoch;
    }
    tagged {}
}

schema! {
    /// A topic was created. Its partitions and configuration follow in the same batch.
    struct TopicRecord {
        /// Its name.
        name: Arc<str>;
        /// Its id, which no other topic of any time has (KIP-516).
        topic_id: TopicId;
    }
    tagged {}
}

schema! {
    /// A partition, whole: created, or as it stands in a snapshot.
    struct PartitionRecord {
        /// Its number, from 0.
        partition_id: i32;
        /// Its topic.
        topic_id: TopicId;
        /// Its replicas, the preferred leader first.
        replicas: Vec<BrokerId>;
        /// Those in sync.
        isr: Vec<BrokerId>;
        /// Those that a reassignment takes away.
        removing_replicas: Vec<BrokerId>;
        /// Those that a reassignment brings.
        adding_replicas: Vec<BrokerId>;
        /// Its leader, or [`NO_LEADER`].
        leader: BrokerId;
        /// How many leaders it has had.
        leader_epoch: LeaderEpoch;
        /// How many changes of any kind it has had.
        partition_epoch: i32;
        /// The log directory of each replica, in the order of `replicas`.
        directories: Vec<Uuid>, since 1;
    }
    tagged {
        /// 1 while it recovers from an unclean election.
        0 => leader_recovery_state: i8 = 0;
        /// Replicas that left the ISR but have every committed record (KIP-966).
        1 => eligible_leader_replicas: Option<Vec<BrokerId>> = None;
        /// The members of the last ISR before it ran empty (KIP-966).
        2 => last_known_elr: Option<Vec<BrokerId>> = None;
    }
}

schema! {
    /// One key of one resource's configuration was set or removed.
    struct ConfigRecord {
        /// 2 topic, 4 broker, 16 client metrics, 32 group.
        resource_type: i8;
        /// Its name; of a broker the id, and empty for the default of all brokers.
        resource_name: Arc<str>;
        /// The key.
        name: Arc<str>;
        /// Its value; none removes it.
        value: Option<Arc<str>>;
    }
    tagged {}
}

schema! {
    /// Something about a partition changed. What is not named stayed.
    struct PartitionChangeRecord {
        /// Its number.
        partition_id: i32;
        /// Its topic.
        topic_id: TopicId;
    }
    tagged {
        /// The new ISR.
        0 => isr: Option<Vec<BrokerId>> = None;
        /// The new leader, [`NO_LEADER`], or [`NO_LEADER_CHANGE`].
        1 => leader: BrokerId = NO_LEADER_CHANGE;
        /// The new replicas.
        2 => replicas: Option<Vec<BrokerId>> = None;
        /// The new replicas to take away.
        3 => removing_replicas: Option<Vec<BrokerId>> = None;
        /// The new replicas to bring.
        4 => adding_replicas: Option<Vec<BrokerId>> = None;
        /// 0 recovered, 1 recovering, -1 as before.
        5 => leader_recovery_state: i8 = -1;
        /// The new eligible leader replicas.
        6 => eligible_leader_replicas: Option<Vec<BrokerId>> = None;
        /// The new last known ones.
        7 => last_known_elr: Option<Vec<BrokerId>> = None;
        /// The new log directories.
        8 => directories: Option<Vec<Uuid>> = None;
    }
}

impl PartitionChangeRecord {
    /// A change of nothing, to fill in.
    pub fn new(topic_id: TopicId, partition_id: i32) -> Self {
        Self {
            partition_id,
            topic_id,
            isr: None,
            leader: NO_LEADER_CHANGE,
            replicas: None,
            removing_replicas: None,
            adding_replicas: None,
            leader_recovery_state: -1,
            eligible_leader_replicas: None,
            last_known_elr: None,
            directories: None,
        }
    }
}

schema! {
    /// A topic was deleted with all its partitions and its configuration.
    struct RemoveTopicRecord {
        /// Its id.
        topic_id: TopicId;
    }
    tagged {}
}

schema! {
    /// The cluster runs with this level of a feature from here on (KIP-584).
    struct FeatureLevelRecord {
        /// Name of the feature.
        name: Arc<str>;
        /// Its level; 0 switches it off.
        feature_level: i16;
    }
    tagged {}
}

/// The value of a client quota: a number that is compared bit by bit, as Java compares its `Double`s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaValue(u64);

impl QuotaValue {
    /// The value of this number.
    pub fn new(value: f64) -> Self {
        Self(value.to_bits())
    }

    /// The number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

schema! {
    /// One part of what a quota is for.
    struct QuotaEntityPart {
        /// `user`, `client-id` or `ip`.
        entity_type: Arc<str>;
        /// Its name; none is the default of all that have no quota of their own.
        entity_name: Option<Arc<str>>;
    }
    tagged {}
}

schema! {
    /// One quota of one entity was set or removed (KIP-546).
    struct ClientQuotaRecord {
        /// What it is for.
        entity: Vec<QuotaEntityPart>;
        /// The quota, for example `producer_byte_rate`.
        key: Arc<str>;
        /// Its value, of no meaning if it is removed.
        value: QuotaValue;
        /// Whether it is removed.
        remove: bool;
    }
    tagged {}
}

schema! {
    /// A block of producer ids was given to a broker (KIP-730).
    struct ProducerIdsRecord {
        /// Who received it.
        broker_id: BrokerId;
        /// Under which registration.
        broker_epoch: BrokerEpoch;
        /// First id of the block that comes next.
        next_producer_id: i64;
    }
    tagged {}
}

schema! {
    /// A broker's registration changed in part (KIP-841).
    struct BrokerRegistrationChangeRecord {
        /// Its id.
        broker_id: BrokerId;
        /// The registration it is about.
        broker_epoch: BrokerEpoch;
    }
    tagged {
        /// 1 it was fenced, -1 unfenced, 0 as before.
        0 => fenced: i8 = 0;
        /// 1 it entered controlled shutdown, 0 as before.
        1 => in_controlled_shutdown: i8 = 0;
        /// The new log directories; empty is as before.
        2 => log_dirs: Vec<Uuid> = Vec::new();
    }
}

schema! {
    /// What is known of replicas that could lead although they are out of the ISR is forgotten, because
    /// `min.insync.replicas` changed (KIP-966).
    struct ClearElrRecord {
        /// The topic; empty is every topic.
        topic_name: Arc<str>;
    }
    tagged {}
}

schema! {
    /// Nothing: moves the offset on, so that lag can be seen (KIP-835).
    struct NoOpRecord {}
    tagged {}
}

macro_rules! nested {
    ($($name:ident),*) => {$(
        impl Field for $name {
            fn write(&self, out: &mut BytesMut) {
                self.write_body(out);
            }
            fn read(from: &mut Decoder) -> Result<Self, DecodeError> {
                // No nested structure has a field that a later version added.
                Self::read_body(from, u32::MAX)
            }
        }
    )*};
}

nested!(QuotaEntityPart, BrokerEndpoint, BrokerFeature);

macro_rules! metadata_record {
    ($($variant:ident($record:ident) = $key:literal, version $version:literal;)*) => {
        /// One record of the metadata log. Numbers are Kafka's.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum MetadataRecord {
            $(#[allow(missing_docs)] $variant($record),)*
        }

        impl MetadataRecord {
            /// Kafka's number of this kind of record.
            pub fn api_key(&self) -> u32 {
                match self { $(Self::$variant(_) => $key,)* }
            }

            /// Appends the record to `out`.
            pub fn encode(&self, out: &mut BytesMut) {
                put_varint(out, u64::from(FRAME_VERSION));
                match self {$(
                    Self::$variant(record) => {
                        put_varint(out, $key);
                        put_varint(out, $version);
                        record.write_body(out);
                    }
                )*}
            }

            /// Reads one record that fills `bytes` exactly. Never allocates more than `bytes` can
            /// back.
            pub fn decode(bytes: Bytes) -> Result<Self, RecordError> {
                let mut from = Decoder::new(bytes, DecodeLimits::default())?;
                let frame = from.read_unsigned_varint()?;
                if frame != FRAME_VERSION {
                    return Err(RecordError::UnknownFrame(frame));
                }
                let api_key = from.read_unsigned_varint()?;
                let version = from.read_unsigned_varint()?;
                let record = match api_key {
                    $($key if version <= $version => Self::$variant($record::read_body(&mut from, version)?),)*
                    $($key => return Err(RecordError::UnknownVersion { api_key, version, newest: $version }),)*
                    _ => return Err(RecordError::UnknownType { api_key, version }),
                };
                from.finish()?;
                Ok(record)
            }
        }

        $(
            impl From<$record> for MetadataRecord {
                fn from(record: $record) -> Self {
                    Self::$variant(record)
                }
            }
        )*
    };
}

metadata_record! {
    RegisterBroker(RegisterBrokerRecord) = 0, version 3;
    UnregisterBroker(UnregisterBrokerRecord) = 1, version 0;
    Topic(TopicRecord) = 2, version 0;
    Partition(PartitionRecord) = 3, version 2;
    Config(ConfigRecord) = 4, version 0;
    PartitionChange(PartitionChangeRecord) = 5, version 2;
    RemoveTopic(RemoveTopicRecord) = 9, version 0;
    FeatureLevel(FeatureLevelRecord) = 12, version 0;
    ClientQuota(ClientQuotaRecord) = 14, version 0;
    ProducerIds(ProducerIdsRecord) = 15, version 0;
    BrokerRegistrationChange(BrokerRegistrationChangeRecord) = 17, version 2;
    NoOp(NoOpRecord) = 20, version 0;
    ClearElr(ClearElrRecord) = 28, version 0;
}

impl MetadataRecord {
    /// The record as bytes of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }
}

/// Why bytes are not a metadata record that this version of Ottla understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The frame is of a format that does not exist yet.
    #[error("metadata record has frame version {0}, only 1 is known")]
    UnknownFrame(u32),
    /// A kind of record that is not known: written by a newer version, or by Apache Kafka for a
    /// feature Ottla has not.
    #[error("metadata record type {api_key} (version {version}) is not known")]
    UnknownType {
        /// Its number.
        api_key: u32,
        /// Its version.
        version: u32,
    },
    /// A known kind in a version that is not.
    #[error("metadata record type {api_key} has version {version}, the newest known is {newest}")]
    UnknownVersion {
        /// Its number.
        api_key: u32,
        /// Its version.
        version: u32,
        /// The newest that can be read.
        newest: u32,
    },
    /// The fields are not what the type and version promise.
    #[error("metadata record is malformed: {0}")]
    Malformed(#[from] DecodeError),
}
