//! From bytes to what an application wants. Kafka: `Deserializer`.

use std::error::Error;

use ottla_protocol::{Offset, TopicPartition};

use super::records::RecordRef;

/// Makes a `T` of the bytes of a key or value; null is `None`.
pub trait Deserializer<T> {
    /// Reads `bytes`, which came from `topic`.
    fn deserialize(
        &self,
        topic: &str,
        bytes: Option<&[u8]>,
    ) -> Result<T, Box<dyn Error + Send + Sync>>;
}

/// Functions are deserializers.
impl<T, F> Deserializer<T> for F
where
    F: Fn(&str, Option<&[u8]>) -> Result<T, Box<dyn Error + Send + Sync>>,
{
    fn deserialize(
        &self,
        topic: &str,
        bytes: Option<&[u8]>,
    ) -> Result<T, Box<dyn Error + Send + Sync>> {
        self(topic, bytes)
    }
}

/// UTF-8. Kafka: `StringDeserializer`.
#[derive(Clone, Copy, Debug, Default)]
pub struct StringDeserializer;

impl Deserializer<Option<String>> for StringDeserializer {
    fn deserialize(
        &self,
        _topic: &str,
        bytes: Option<&[u8]>,
    ) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
        Ok(bytes.map(|bytes| std::str::from_utf8(bytes).map(str::to_owned)).transpose()?)
    }
}

/// The bytes as they are. Kafka: `ByteArrayDeserializer`.
#[derive(Clone, Copy, Debug, Default)]
pub struct BytesDeserializer;

impl Deserializer<Option<Vec<u8>>> for BytesDeserializer {
    fn deserialize(
        &self,
        _topic: &str,
        bytes: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, Box<dyn Error + Send + Sync>> {
        Ok(bytes.map(<[u8]>::to_vec))
    }
}

/// Numbers, big-endian. Kafka: `IntegerDeserializer`, `LongDeserializer` and so on.
#[derive(Clone, Copy, Debug, Default)]
pub struct NumberDeserializer;

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Deserializer<Option<$number>> for NumberDeserializer {
            fn deserialize(
                &self,
                _topic: &str,
                bytes: Option<&[u8]>,
            ) -> Result<Option<$number>, Box<dyn Error + Send + Sync>> {
                let number = |bytes: &[u8]| Ok(<$number>::from_be_bytes(bytes.try_into()?));
                bytes.map(number).transpose()
            }
        }
    )*};
}
numbers!(i16, i32, i64, f32, f64);

/// A record whose key and value were read.
#[derive(Clone, Copy, Debug)]
pub struct TypedRecord<'a, K, V> {
    /// What else is known of it.
    pub record: RecordRef<'a>,
    /// Its key.
    pub key: K,
    /// Its value.
    pub value: V,
}

impl<'a, K, V> TypedRecord<'a, K, V> {
    pub(super) fn read(
        record: RecordRef<'a>,
        key: &dyn Deserializer<K>,
        value: &dyn Deserializer<V>,
    ) -> Result<Self, DeserializeError> {
        let failed = |of, source| DeserializeError {
            of,
            partition: record.partition.clone(),
            offset: record.offset,
            source,
        };
        let topic = &*record.partition.topic;
        let key = key.deserialize(topic, record.key).map_err(|error| failed("key", error))?;
        let value =
            value.deserialize(topic, record.value).map_err(|error| failed("value", error))?;
        Ok(Self { record, key, value })
    }
}

/// The bytes are not what the deserializer reads. The records behind it can still be read.
#[derive(Debug, thiserror::Error)]
#[error("the {of} of the record at {offset} of {partition} cannot be read: {source}")]
pub struct DeserializeError {
    /// `key` or `value`.
    pub of: &'static str,
    /// Where.
    pub partition: TopicPartition,
    /// At which offset.
    pub offset: Offset,
    /// Why.
    pub source: Box<dyn Error + Send + Sync>,
}
