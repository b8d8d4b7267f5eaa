//! How a producer behaves, under Kafka's names. Kafka's `ProducerConfig`.

use std::time::Duration;

use ottla_config::{
    ClientSettings, ConfigError, ConfigProblem, ConfigWarning, PRODUCER_CHAPTERS, Values,
};
use ottla_protocol::compression::Compression;

use crate::CommonClientConfig;

/// `acks`: what a record must have reached before its send counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// The socket.
    None,
    /// The leader's log.
    Leader,
    /// The logs of all replicas in sync.
    All,
}

impl Acks {
    /// The number in the request.
    pub const fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// `partitioner.class`: what chooses partitions, if the program gives no partitioner of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltInPartitioner {
    /// Keys are hashed; records without one stick to a partition for `batch.size` bytes (KIP-794).
    Sticky,
    /// `RoundRobinPartitioner`: one record each, whatever its key.
    RoundRobin,
}

/// How a producer behaves.
///
/// ```
/// use ottla_client::{Acks, ProducerConfig};
/// let given = [("bootstrap.servers", "localhost:9092"), ("linger.ms", "20"), ("acks", "1")];
/// let (config, _warnings) = ProducerConfig::from_properties(given).unwrap();
/// assert_eq!(config.linger.as_millis(), 20);
/// // As in Kafka, acks=1 turns off what it cannot go with.
/// assert!(!config.idempotence);
///
/// let error = ProducerConfig::from_properties([("batch.sise", "1")]).unwrap_err();
/// assert_eq!(error.to_string(), "batch.sise is not a known key; did you mean batch.size?");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ProducerConfig {
    /// What every client has.
    pub common: CommonClientConfig,
    /// `key.serializer`, for keys given as text.
    pub key_serializer: String,
    /// `value.serializer`, for values given as text.
    pub value_serializer: String,
    /// `acks`.
    pub acks: Acks,
    /// `enable.idempotence` (KIP-98).
    pub idempotence: bool,
    /// `max.in.flight.requests.per.connection`.
    pub max_in_flight: usize,
    /// `retries`.
    pub retries: u32,
    /// `delivery.timeout.ms` (KIP-91).
    pub delivery_timeout: Duration,
    /// `batch.size`.
    pub batch_size: usize,
    /// `linger.ms`.
    pub linger: Duration,
    /// `buffer.memory`.
    pub buffer_memory: usize,
    /// `max.block.ms`.
    pub max_block: Duration,
    /// `max.request.size`.
    pub max_request_size: usize,
    /// `compression.type`.
    pub compression: Compression,
    /// `compression.gzip.level` or `compression.zstd.level`; `None` is the codec's default.
    pub compression_level: Option<i32>,
    /// `partitioner.class`.
    pub partitioner: BuiltInPartitioner,
    /// `partitioner.ignore.keys`.
    pub partitioner_ignore_keys: bool,
    /// `partitioner.adaptive.partitioning.enable` (KIP-794).
    pub partitioner_adaptive: bool,
    /// `partitioner.availability.timeout.ms`; zero is never (KIP-794).
    pub partitioner_availability_timeout: Duration,
}

impl ProducerConfig {
    /// Reads a producer's keys. The warnings are of keys that have no effect.
    pub fn from_properties(
        pairs: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) -> Result<(Self, Vec<ConfigWarning>), ConfigError> {
        let (settings, warnings) = ClientSettings::read(PRODUCER_CHAPTERS, pairs)?;
        let mut config = Self::read(&settings);
        config.settle_idempotence(&settings)?;
        config.settle_delivery_timeout(&settings)?;
        Ok((config, warnings))
    }

    fn read(settings: &ClientSettings) -> Self {
        let compression = settings.text("compression.type");
        let compression = compression.and_then(|name| Compression::from_name(&name));
        let compression = compression.unwrap_or_default();
        let class = |key| settings.text(key).unwrap_or_default();
        Self {
            common: CommonClientConfig::read(settings),
            key_serializer: class("key.serializer"),
            value_serializer: class("value.serializer"),
            acks: match class("acks").as_str() {
                "0" => Acks::None,
                "1" => Acks::Leader,
                _ => Acks::All,
            },
            idempotence: settings.boolean("enable.idempotence"),
            max_in_flight: settings.number("max.in.flight.requests.per.connection"),
            retries: settings.number("retries"),
            delivery_timeout: settings.millis("delivery.timeout.ms"),
            batch_size: settings.number("batch.size"),
            linger: settings.millis("linger.ms"),
            buffer_memory: settings.number("buffer.memory"),
            max_block: settings.millis("max.block.ms"),
            max_request_size: settings.number("max.request.size"),
            compression,
            compression_level: match compression {
                Compression::Gzip => Some(settings.number("compression.gzip.level")),
                Compression::Zstd => Some(settings.number("compression.zstd.level")),
                Compression::None | Compression::Snappy | Compression::Lz4 => None,
            },
            partitioner: match settings.text("partitioner.class") {
                Some(_) => BuiltInPartitioner::RoundRobin,
                None => BuiltInPartitioner::Sticky,
            },
            partitioner_ignore_keys: settings.boolean("partitioner.ignore.keys"),
            partitioner_adaptive: settings.boolean("partitioner.adaptive.partitioning.enable"),
            partitioner_availability_timeout: settings
                .millis("partitioner.availability.timeout.ms"),
        }
    }

    /// KIP-679: what contradicts idempotence turns it off, unless it was asked for.
    fn settle_idempotence(&mut self, settings: &ClientSettings) -> Result<(), ConfigError> {
        let contradiction = if self.acks != Acks::All {
            "acks=all"
        } else if self.retries == 0 {
            "retries of at least 1"
        } else if self.max_in_flight > 5 {
            "max.in.flight.requests.per.connection of at most 5"
        } else {
            return Ok(());
        };
        if settings.is_given("enable.idempotence") && self.idempotence {
            let text = format!("enable.idempotence=true needs {contradiction}");
            return Err(ConfigProblem::Conflict(text).into());
        }
        self.idempotence = false;
        Ok(())
    }

    /// KIP-91: a record must have time for one wait and one request.
    fn settle_delivery_timeout(&mut self, settings: &ClientSettings) -> Result<(), ConfigError> {
        let least = self.linger.saturating_add(self.common.request_timeout);
        if self.delivery_timeout < least {
            if settings.is_given("delivery.timeout.ms") {
                let text = format!(
                    "delivery.timeout.ms must be at least linger.ms + request.timeout.ms, {}",
                    least.as_millis()
                );
                return Err(ConfigProblem::Conflict(text).into());
            }
            self.delivery_timeout = least;
        }
        Ok(())
    }
}

impl Default for ProducerConfig {
    fn default() -> Self {
        let empty: [(&str, &str); 0] = [];
        Self::from_properties(empty).unwrap_or_else(|error| panic!("bug: {error}")).0
    }
}
