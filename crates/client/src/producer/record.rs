//! What is sent, and what is known of it once it is stored.

use std::borrow::Cow;

use ottla_protocol::{Offset, Timestamp, TopicPartition};

/// A header: its key, and its value or `None` for null.
pub type RecordHeader<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

/// A record to send. Kafka's `ProducerRecord`.
///
/// ```
/// use ottla_client::ProducerRecord;
/// let record = ProducerRecord::to("orders").key("customer-7").value(&b"2 apples"[..]);
/// let counted = ProducerRecord::to("counts").key("apples").value(42_i64).header("unit", "piece");
/// assert_eq!(counted.value.as_deref(), Some(&42_i64.to_be_bytes()[..]));
/// # let _ = record;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerRecord<'a> {
    /// Where to.
    pub topic: Cow<'a, str>,
    /// Which partition; `None` lets the partitioner choose.
    pub partition: Option<i32>,
    /// When it happened, in milliseconds since 1970; `None` is now.
    pub timestamp: Option<Timestamp>,
    /// The key, or `None` for null.
    pub key: Option<Cow<'a, [u8]>>,
    /// The value, or `None` for null.
    pub value: Option<Cow<'a, [u8]>>,
    /// Headers in order: key, and value or `None` for null.
    pub headers: Vec<RecordHeader<'a>>,
}

impl<'a> ProducerRecord<'a> {
    /// A record for `topic` with neither key nor value.
    pub fn to(topic: impl Into<Cow<'a, str>>) -> Self {
        Self { topic: topic.into(), ..Self::default() }
    }

    /// With this key.
    pub fn key(mut self, key: impl RecordBytes<'a>) -> Self {
        self.key = Some(key.into_record_bytes());
        self
    }

    /// With this value.
    pub fn value(mut self, value: impl RecordBytes<'a>) -> Self {
        self.value = Some(value.into_record_bytes());
        self
    }

    /// With one more header.
    pub fn header(mut self, key: impl Into<Cow<'a, str>>, value: impl RecordBytes<'a>) -> Self {
        self.headers.push((key.into(), Some(value.into_record_bytes())));
        self
    }

    /// To this partition, whatever the partitioner would say.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// With this time instead of now.
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }
}

/// What becomes bytes the way Kafka's own serializers do it: text as UTF-8, numbers big-endian.
pub trait RecordBytes<'a> {
    /// The bytes; borrowed where they are there already.
    fn into_record_bytes(self) -> Cow<'a, [u8]>;
}

macro_rules! borrowed {
    ($($kind:ty),*) => {$(
        impl<'a> RecordBytes<'a> for &'a $kind {
            fn into_record_bytes(self) -> Cow<'a, [u8]> {
                Cow::Borrowed(self.as_ref())
            }
        }
    )*};
}
borrowed!(str, String, [u8], Vec<u8>);

impl<'a, const N: usize> RecordBytes<'a> for &'a [u8; N] {
    fn into_record_bytes(self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self)
    }
}

impl<'a> RecordBytes<'a> for Vec<u8> {
    fn into_record_bytes(self) -> Cow<'a, [u8]> {
        Cow::Owned(self)
    }
}

impl<'a> RecordBytes<'a> for String {
    fn into_record_bytes(self) -> Cow<'a, [u8]> {
        Cow::Owned(self.into_bytes())
    }
}

impl<'a> RecordBytes<'a> for Cow<'a, [u8]> {
    fn into_record_bytes(self) -> Self {
        self
    }
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl<'a> RecordBytes<'a> for $kind {
            fn into_record_bytes(self) -> Cow<'a, [u8]> {
                Cow::Owned(self.to_be_bytes().to_vec())
            }
        }
    )*};
}
numbers!(i16, i32, i64, f32, f64);

/// Where a record is. Kafka's `RecordMetadata`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition it went to.
    pub partition: TopicPartition,
    /// Its offset; -1 if the broker was not asked (`acks=0`), or no longer knows the offset of
    /// what it had stored at an earlier try.
    pub offset: Offset,
    /// The record's own time, or the broker's if the topic uses `LogAppendTime`.
    pub timestamp: Timestamp,
    /// Bytes of the key; `None` for null.
    pub key_size: Option<usize>,
    /// Bytes of the value; `None` for null.
    pub value_size: Option<usize>,
}
