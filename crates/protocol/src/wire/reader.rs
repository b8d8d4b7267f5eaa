//! Reads primitives from one frame. Never past its end, never allocating what a length claims.

use bytes::Bytes;
use kafka_wire_core::{DecodeError, StrBytes, Uuid};

/// For how many elements of an array room is made before the first has been read.
const MAX_RESERVED: usize = 256;

/// A cursor over a frame. Numbers are read in place; strings and bytes come out as slices of the
/// frame, which cost one reference count and no copy.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
    end: usize,
    flexible: bool,
}

macro_rules! fixed_width {
    ($($name:ident -> $type:ty;)*) => {
        $(
            pub(crate) fn $name(&mut self) -> Result<$type, DecodeError> {
                self.fixed().map(<$type>::from_be_bytes)
            }
        )*
    };
}

impl<'a> Reader<'a> {
    /// Reads `frame` from its start; `flexible` chooses compact lengths (KIP-482).
    pub(crate) fn new(frame: &'a Bytes, flexible: bool) -> Self {
        Self { frame, at: 0, end: frame.len(), flexible }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// The bytes not yet read.
    pub(crate) fn rest(&self) -> Bytes {
        self.frame.slice(self.at..self.end)
    }

    /// Fails unless everything has been read.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            remaining => Err(DecodeError::TrailingBytes { remaining }),
        }
    }

    fixed_width! {
        i8 -> i8;
        i16 -> i16;
        i32 -> i32;
        i64 -> i64;
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.fixed().map(Uuid::from_bytes)
    }

    pub(crate) fn string(&mut self) -> Result<StrBytes, DecodeError> {
        let offset = self.at;
        self.nullable_string()?.ok_or(DecodeError::NullNotAllowed { kind: "string", offset })
    }

    pub(crate) fn nullable_string(&mut self) -> Result<Option<StrBytes>, DecodeError> {
        let length = if self.flexible { self.compact_length()? } else { self.short_length()? };
        length.map(|length| self.utf8(length)).transpose()
    }

    /// A string with a 16-bit length whatever the version: the client id of a request header.
    pub(crate) fn legacy_nullable_string(&mut self) -> Result<Option<StrBytes>, DecodeError> {
        self.short_length()?.map(|length| self.utf8(length)).transpose()
    }

    pub(crate) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, DecodeError> {
        match self.length("bytes")? {
            None => Ok(None),
            Some(length) => self.take(length).map(Some),
        }
    }

    /// An array whose elements take at least `min_element_size` bytes each.
    pub(crate) fn array<T>(
        &mut self,
        min_element_size: usize,
        read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let offset = self.at;
        self.nullable_array(min_element_size, read)?
            .ok_or(DecodeError::NullNotAllowed { kind: "array", offset })
    }

    /// As [`Reader::array`], with `None` for a null array.
    pub(crate) fn nullable_array<T>(
        &mut self,
        min_element_size: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let offset = self.at;
        let Some(count) = self.length("array")? else { return Ok(None) };
        let remaining = self.remaining();
        if count > remaining / min_element_size {
            return Err(DecodeError::CountExceedsFrame { kind: "array", count, remaining, offset });
        }
        // Elements are larger in memory than on the wire: room for many comes with the many.
        let mut elements = Vec::with_capacity(count.min(MAX_RESERVED));
        for _ in 0..count {
            elements.push(read(self)?);
        }
        Ok(Some(elements))
    }

    /// Reads the tagged fields that end a structure of a flexible version; nothing otherwise.
    ///
    /// `known` gets each field's tag and a reader confined to its value, and answers whether it
    /// knows the tag. A known field must be read whole; an unknown one is skipped.
    pub(crate) fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        let offset = self.at;
        let count = self.unsigned_varint()? as usize;
        // A tag and a size take a byte each.
        let remaining = self.remaining();
        if count > remaining / 2 {
            let kind = "tagged field";
            return Err(DecodeError::CountExceedsFrame { kind, count, remaining, offset });
        }
        let mut previous = None;
        for _ in 0..count {
            let offset = self.at;
            let tag = self.unsigned_varint()?;
            if let Some(previous) = previous.filter(|&previous| tag <= previous) {
                return Err(DecodeError::TaggedFieldOrder { previous, current: tag, offset });
            }
            previous = Some(tag);
            let offset = self.at;
            let size = self.unsigned_varint()? as usize;
            let start = self.at;
            self.skip(size)?;
            let mut field = Self { at: start, end: self.at, ..self.clone() };
            if known(tag, &mut field)? && field.remaining() > 0 {
                let consumed = size - field.remaining();
                return Err(DecodeError::TaggedFieldSize { tag, size, consumed, offset });
            }
        }
        Ok(())
    }

    /// Skips tagged fields, of which none is known.
    pub(crate) fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(false))
    }

    fn length(&mut self, kind: &'static str) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            return self.compact_length();
        }
        let offset = self.at;
        match self.i32()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| DecodeError::NegativeLength {
                kind,
                length: i64::from(length),
                offset,
            }),
        }
    }

    fn short_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let offset = self.at;
        match self.i16()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| DecodeError::NegativeLength {
                kind: "string",
                length: i64::from(length),
                offset,
            }),
        }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok((self.unsigned_varint()? as usize).checked_sub(1))
    }

    fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let offset = self.at;
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::MalformedVarint { offset })
    }

    fn utf8(&mut self, length: usize) -> Result<StrBytes, DecodeError> {
        let offset = self.at;
        StrBytes::try_from(self.take(length)?)
            .map_err(|error| DecodeError::InvalidUtf8 { offset, valid_up_to: error.valid_up_to() })
    }

    fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let start = self.at;
        self.skip(length)?;
        Ok(self.frame.slice(start..self.at))
    }

    fn skip(&mut self, length: usize) -> Result<(), DecodeError> {
        if length > self.remaining() {
            return Err(self.unexpected_end(length));
        }
        self.at += length;
        Ok(())
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let unread = self.frame.get(self.at..self.end).unwrap_or_default();
        let Some(&bytes) = unread.first_chunk() else { return Err(self.unexpected_end(N)) };
        self.at += N;
        Ok(bytes)
    }

    fn unexpected_end(&self, needed: usize) -> DecodeError {
        DecodeError::UnexpectedEnd { offset: self.at, needed, remaining: self.remaining() }
    }
}
