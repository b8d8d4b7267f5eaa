//! Writes primitives, and gathers frames that contain records without copying them.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire_core::{ApiVersion, EncodeError, KafkaEncode, StrBytes, Uuid};

use crate::fetch::FetchRecords;

/// A whole frame, length prefix included, in the pieces in which it is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<R = Bytes> {
    /// The pieces in order. At least one; the first begins with the 4-byte length.
    pub parts: Vec<Part<R>>,
}

/// One piece of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<R = Bytes> {
    /// Bytes made by the encoder.
    Bytes(Bytes),
    /// Record batches, as the log or the producer keeps them.
    Records(R),
}

impl<R: FetchRecords> Frame<R> {
    /// Bytes of all parts together, the length prefix included.
    pub fn len(&self) -> usize {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Bytes(bytes) => bytes.len(),
                Part::Records(records) => records.len(),
            })
            .sum()
    }

    /// Never: every frame has a length prefix.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

impl<R> Frame<R> {
    /// A frame that is one piece already.
    pub fn contiguous(bytes: Bytes) -> Self {
        Self { parts: vec![Part::Bytes(bytes)] }
    }
}

impl Frame<Bytes> {
    /// The frame in one piece. Copies, unless it is one piece already.
    pub fn into_bytes(mut self) -> Bytes {
        if let [Part::Bytes(bytes)] = self.parts.as_mut_slice() {
            return std::mem::take(bytes);
        }
        let mut whole = BytesMut::with_capacity(self.len());
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) | Part::Records(bytes) => whole.put_slice(bytes),
            }
        }
        whole.freeze()
    }
}

/// Appends primitives to a buffer; `flexible` chooses compact lengths (KIP-482).
#[derive(Debug)]
pub(crate) struct Writer {
    buffer: BytesMut,
    flexible: bool,
}

impl Writer {
    pub(crate) fn new(capacity: usize, flexible: bool) -> Self {
        Self { buffer: BytesMut::with_capacity(capacity), flexible }
    }

    pub(crate) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// Bytes as they are, without a length.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.buffer.put_slice(value.as_bytes());
    }

    pub(crate) fn string(&mut self, value: &StrBytes) -> Result<(), EncodeError> {
        self.nullable_string(Some(value))
    }

    pub(crate) fn nullable_string(&mut self, value: Option<&StrBytes>) -> Result<(), EncodeError> {
        if !self.flexible {
            return self.legacy_nullable_string(value);
        }
        self.compact_length("string", value.map(StrBytes::len))?;
        self.buffer.put_slice(value.map(StrBytes::as_bytes).unwrap_or_default());
        Ok(())
    }

    /// A string with a 16-bit length whatever the version: the client id of a request header.
    pub(crate) fn legacy_nullable_string(
        &mut self,
        value: Option<&StrBytes>,
    ) -> Result<(), EncodeError> {
        let Some(value) = value else {
            self.i16(-1);
            return Ok(());
        };
        self.i16(i16::try_from(value.len()).map_err(|_| EncodeError::LengthOverflow {
            kind: "string",
            length: value.len(),
            maximum: i16::MAX as usize,
        })?);
        self.buffer.put_slice(value.as_bytes());
        Ok(())
    }

    /// The length in front of an array or of bytes; `None` is null.
    pub(crate) fn length(
        &mut self,
        kind: &'static str,
        length: Option<usize>,
    ) -> Result<(), EncodeError> {
        if self.flexible {
            return self.compact_length(kind, length);
        }
        match length {
            None => self.i32(-1),
            Some(length) => self.i32(i32::try_from(length).map_err(|_| {
                EncodeError::LengthOverflow { kind, length, maximum: i32::MAX as usize }
            })?),
        }
        Ok(())
    }

    pub(crate) fn array_length(&mut self, length: usize) -> Result<(), EncodeError> {
        self.length("array", Some(length))
    }

    /// Ends a structure that has no tagged field to send.
    pub(crate) fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.buffer.put_u8(0);
        }
    }

    /// Ends a structure with tagged fields, in ascending order of their tags.
    pub(crate) fn tagged_fields(&mut self, fields: &[(u32, Bytes)]) -> Result<(), EncodeError> {
        if !self.flexible {
            return Ok(());
        }
        self.unsigned_varint(fields.len() as u32);
        for (tag, value) in fields {
            self.unsigned_varint(*tag);
            let size = u32::try_from(value.len()).map_err(|_| EncodeError::LengthOverflow {
                kind: "tagged field",
                length: value.len(),
                maximum: u32::MAX as usize,
            })?;
            self.unsigned_varint(size);
            self.buffer.put_slice(value);
        }
        Ok(())
    }

    /// A message of the wire library.
    pub(crate) fn message<M: KafkaEncode>(
        &mut self,
        message: &M,
        version: i16,
    ) -> Result<(), EncodeError> {
        message.encode_into(&mut self.buffer, ApiVersion::new(version)).map(|_| ())
    }

    /// The bytes written.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.buffer.freeze()
    }

    fn compact_length(
        &mut self,
        kind: &'static str,
        length: Option<usize>,
    ) -> Result<(), EncodeError> {
        let encoded = match length {
            None => 0,
            Some(length) => {
                u32::try_from(length).ok().and_then(|length| length.checked_add(1)).ok_or(
                    EncodeError::LengthOverflow { kind, length, maximum: u32::MAX as usize - 1 },
                )?
            }
        };
        self.unsigned_varint(encoded);
        Ok(())
    }

    fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }
}

/// Writes a frame around records: only their lengths are written here, their places are kept.
#[derive(Debug)]
pub(crate) struct FrameWriter<R> {
    pub(crate) writer: Writer,
    records: Vec<(usize, R)>,
}

const LENGTH_PREFIX: usize = 4;

impl<R: FetchRecords> FrameWriter<R> {
    /// Starts a frame: leaves room for its length.
    pub(crate) fn new(capacity: usize) -> Self {
        let mut writer = Writer::new(capacity.saturating_add(LENGTH_PREFIX), false);
        writer.i32(0);
        Self { writer, records: Vec::new() }
    }

    /// The length of `records`, and a place for them.
    pub(crate) fn records(&mut self, records: R) -> Result<(), EncodeError> {
        self.writer.length("records", Some(records.len()))?;
        if !records.is_empty() {
            self.records.push((self.writer.buffer.len(), records));
        }
        Ok(())
    }

    /// The finished frame, its length filled in.
    pub(crate) fn finish(self) -> Result<Frame<R>, EncodeError> {
        let mut buffer = self.writer.buffer;
        let records: usize = self.records.iter().map(|(_, records)| records.len()).sum();
        let body = buffer.len() - LENGTH_PREFIX + records;
        let length = i32::try_from(body).map_err(|_| EncodeError::FrameTooLarge { bytes: body })?;
        if let Some(prefix) = buffer.first_chunk_mut() {
            *prefix = length.to_be_bytes();
        }
        let buffer = buffer.freeze();
        let mut parts = Vec::with_capacity(2 * self.records.len() + 1);
        let mut start = 0;
        for (end, records) in self.records {
            parts.push(Part::Bytes(buffer.slice(start..end)));
            parts.push(Part::Records(records));
            start = end;
        }
        if start < buffer.len() {
            parts.push(Part::Bytes(buffer.slice(start..)));
        }
        Ok(Frame { parts })
    }
}
