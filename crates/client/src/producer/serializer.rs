//! How a program's values become bytes.

use std::sync::Arc;

use super::{Delivery, ProduceError, Producer, ProducerRecord};

/// Why a value has no bytes.
pub type SerializeError = Box<dyn std::error::Error + Send + Sync>;

/// Makes bytes of a program's own types, for example with a schema. Kafka's `Serializer`.
///
/// Text, bytes and numbers need none: [`ProducerRecord::key`] and [`ProducerRecord::value`] take
/// them as they are.
pub trait Serializer<T: ?Sized>: Send + Sync {
    /// Bytes of `value` for `topic`; `None` is null. May add to the record's headers.
    fn serialize(
        &self,
        value: &T,
        record: &mut ProducerRecord<'_>,
    ) -> Result<Option<Vec<u8>>, SerializeError>;
}

/// A [`Producer`] that is given keys and values of a program's own types.
#[derive(Clone)]
pub struct SerializingProducer<K: ?Sized, V: ?Sized> {
    producer: Producer,
    key: Arc<dyn Serializer<K>>,
    value: Arc<dyn Serializer<V>>,
}

impl<K: ?Sized, V: ?Sized> SerializingProducer<K, V> {
    /// Sends through `producer` what these serializers make.
    pub fn new(
        producer: Producer,
        key: Arc<dyn Serializer<K>>,
        value: Arc<dyn Serializer<V>>,
    ) -> Self {
        Self { producer, key, value }
    }

    /// The producer below.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// [`Producer::send`] with a key and a value in place of those of `record`.
    pub async fn send(
        &self,
        mut record: ProducerRecord<'_>,
        key: Option<&K>,
        value: Option<&V>,
    ) -> Result<Delivery, ProduceError> {
        let failed = |part, error| ProduceError::Invalid(format!("its {part}: {error}"));
        let key = key.map(|key| self.key.serialize(key, &mut record)).transpose();
        record.key = key.map_err(|error| failed("key", error))?.flatten().map(Into::into);
        let value = value.map(|value| self.value.serialize(value, &mut record)).transpose();
        record.value = value.map_err(|error| failed("value", error))?.flatten().map(Into::into);
        self.producer.send(record).await
    }
}

/// Kafka's own serializers by name, for values that are given as text: `key.serializer` and
/// `value.serializer` of a command line.
///
/// ```
/// use ottla_client::{ProducerRecord, Serializer, TextSerializer};
/// let integers = TextSerializer::named("org.apache.kafka.common.serialization.IntegerSerializer");
/// let bytes = integers.serialize("7", &mut ProducerRecord::to("t")).unwrap();
/// assert_eq!(bytes.unwrap(), [0, 0, 0, 7]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextSerializer {
    /// The text itself.
    Text,
    /// 16 bits.
    Short,
    /// 32 bits.
    Integer,
    /// 64 bits.
    Long,
    /// 32 bits.
    Float,
    /// 64 bits.
    Double,
    /// One byte, 0 or 1.
    Boolean,
    /// Always null.
    Void,
}

impl TextSerializer {
    /// That of a class name, with or without its package; any other is [`TextSerializer::Text`].
    pub fn named(class: &str) -> Self {
        match class.rsplit('.').next().unwrap_or_default() {
            "ShortSerializer" => Self::Short,
            "IntegerSerializer" => Self::Integer,
            "LongSerializer" => Self::Long,
            "FloatSerializer" => Self::Float,
            "DoubleSerializer" => Self::Double,
            "BooleanSerializer" => Self::Boolean,
            "VoidSerializer" => Self::Void,
            _ => Self::Text,
        }
    }
}

impl Serializer<str> for TextSerializer {
    fn serialize(
        &self,
        value: &str,
        _record: &mut ProducerRecord<'_>,
    ) -> Result<Option<Vec<u8>>, SerializeError> {
        let text = value.trim();
        Ok(Some(match self {
            Self::Text => value.as_bytes().to_vec(),
            Self::Short => text.parse::<i16>()?.to_be_bytes().to_vec(),
            Self::Integer => text.parse::<i32>()?.to_be_bytes().to_vec(),
            Self::Long => text.parse::<i64>()?.to_be_bytes().to_vec(),
            Self::Float => text.parse::<f32>()?.to_be_bytes().to_vec(),
            Self::Double => text.parse::<f64>()?.to_be_bytes().to_vec(),
            Self::Boolean => vec![u8::from(text.parse::<bool>()?)],
            Self::Void => return Ok(None),
        }))
    }
}
