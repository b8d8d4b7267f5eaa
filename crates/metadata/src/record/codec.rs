//! The field types of metadata records and how each one lies in bytes, always in the flexible
//! encoding (KIP-482).

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use kafka_wire_core::{DecodeError, Decoder, Uuid};
use ottla_protocol::{BrokerId, LeaderEpoch};

use super::QuotaValue;
use crate::BrokerEpoch;

/// One field of a record.
pub(super) trait Field: Sized {
    fn write(&self, out: &mut BytesMut);
    fn read(from: &mut Decoder) -> Result<Self, DecodeError>;
}

/// Seven bits per byte, the low ones first.
pub(super) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A compact length: one more than the length, so that zero is free to mean null.
fn put_length(out: &mut BytesMut, length: usize) {
    put_varint(out, length as u64 + 1);
}

macro_rules! number {
    ($($type:ty, $put:ident, $read:ident);* $(;)?) => {$(
        impl Field for $type {
            fn write(&self, out: &mut BytesMut) {
                out.$put(*self);
            }
            fn read(from: &mut Decoder) -> Result<Self, DecodeError> {
                from.$read()
            }
        }
    )*};
}

number! {
    i8, put_i8, read_i8;
    i16, put_i16, read_i16;
    u16, put_u16, read_u16;
    i32, put_i32, read_i32;
    i64, put_i64, read_i64;
}

macro_rules! newtype {
    ($($name:ident),*) => {$(
        impl Field for $name {
            fn write(&self, out: &mut BytesMut) {
                self.0.write(out);
            }
            fn read(from: &mut Decoder) -> Result<Self, DecodeError> {
                Field::read(from).map($name)
            }
        }
    )*};
}

newtype!(BrokerId, LeaderEpoch, BrokerEpoch);

impl Field for QuotaValue {
    fn write(&self, out: &mut BytesMut) {
        out.put_f64(self.get());
    }
    fn read(from: &mut Decoder) -> Result<Self, DecodeError> {
        from.read_i64().map(|bits| Self::new(f64::from_bits(bits.cast_unsigned())))
    }
}

impl Field for bool {
    fn write(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }
    fn read(from: &mut Decoder) -> Result<Self, DecodeError> {
        from.read_bool()
    }
}

impl Field for Uuid {
    fn write(&self, out: &mut BytesMut) {
        out.put_slice(self.as_bytes());
    }
    fn read(from: &mut Decoder) -> Result<Self, DecodeError> {
        from.read_uuid()
    }
}

impl Field for Arc<str> {
    fn write(&self, out: &mut BytesMut) {
        put_length(out, self.len());
        out.put_slice(self.as_bytes());
    }
    fn read(from: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(Arc::from(from.read_compact_string()?.as_str()))
    }
}

impl Field for Option<Arc<str>> {
    fn write(&self, out: &mut BytesMut) {
        match self {
            Some(value) => value.write(out),
            None => put_varint(out, 0),
        }
    }
    fn read(from: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(from.read_compact_nullable_string()?.map(|value| Arc::from(value.as_str())))
    }
}

impl<T: Field> Field for Vec<T> {
    fn write(&self, out: &mut BytesMut) {
        put_length(out, self.len());
        for element in self {
            element.write(out);
        }
    }
    fn read(from: &mut Decoder) -> Result<Self, DecodeError> {
        let count = from.read_compact_array_len()?;
        from.read_vec(count, T::read)
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    fn write(&self, out: &mut BytesMut) {
        match self {
            Some(value) => value.write(out),
            None => put_varint(out, 0),
        }
    }
    fn read(from: &mut Decoder) -> Result<Self, DecodeError> {
        match from.read_compact_nullable_array_len()? {
            Some(count) => from.read_vec(count, T::read).map(Some),
            None => Ok(None),
        }
    }
}

/// The tagged fields of one structure: those that differ from their default, in the order of their
/// tags.
#[derive(Default)]
pub(super) struct TagWriter {
    count: u64,
    bytes: BytesMut,
}

impl TagWriter {
    pub(super) fn put<T: Field + PartialEq>(&mut self, tag: u32, value: &T, default: &T) {
        if value == default {
            return;
        }
        let mut payload = BytesMut::new();
        value.write(&mut payload);
        put_varint(&mut self.bytes, u64::from(tag));
        put_varint(&mut self.bytes, payload.len() as u64);
        self.bytes.put_slice(&payload);
        self.count += 1;
    }

    pub(super) fn finish(self, out: &mut BytesMut) {
        put_varint(out, self.count);
        out.put_slice(&self.bytes);
    }
}
