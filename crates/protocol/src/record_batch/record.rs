//! One record, and those of an uncompressed batch. Kafka: `DefaultRecord`.

use super::RecordError;
use super::varint::{plain as plain_varint, read_i32, read_i64, zigzag};

/// A record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// No bit of it is in use.
    pub attributes: i8,
    /// Its timestamp, counted from the batch's base timestamp; see
    /// [`RecordBatch::timestamp_of`](super::RecordBatch::timestamp_of).
    pub timestamp_delta: i64,
    /// Its offset, counted from the batch's base offset; see
    /// [`RecordBatch::offset_of`](super::RecordBatch::offset_of).
    pub offset_delta: i32,
    /// The key, or `None` if null.
    pub key: Option<&'a [u8]>,
    /// The value, or `None` if null: on a compacted topic the key is deleted.
    pub value: Option<&'a [u8]>,
    /// The headers (KIP-82).
    pub headers: Headers<'a>,
}

/// The headers of a record, in order. Checked when the record was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key; meant to be UTF-8, which nobody checks.
    pub key: &'a [u8],
    /// The value, or `None` if null.
    pub value: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers one by one.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut bytes = self.bytes;
        (0..self.count).map_while(move |_| Header::read(&mut bytes).ok())
    }
}

impl<'a> Header<'a> {
    fn read(bytes: &mut &'a [u8]) -> Result<Self, &'static str> {
        let key = read_nullable(bytes)?.ok_or("the key of a header is null")?;
        let value = read_nullable(bytes)?;
        Ok(Self { key, value })
    }
}

impl<'a> Record<'a> {
    /// Reads a record from the front of `bytes` if it is as nearly all are: no headers, no number
    /// longer than three bytes, and [`HEAD`] bytes from its first one on. `None` says nothing about
    /// the record.
    ///
    /// A producer's batch holds thousands, and each append looks at all of them: this takes about
    /// half of the time of [`read`](Self::read), because it loads eight bytes at a time from where they
    /// are sure to be, and looks for the record's end once. Always inlined: a record that is handed
    /// back through memory takes three times as long.
    #[inline(always)]
    fn read_plain(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let head: &[u8; HEAD] = bytes.first_chunk()?;
        let (length, mut at) = plain_varint(word_at(head, 0))?;
        let (record, rest) = bytes.split_at_checked(at + plain_length(length)?)?;
        let attributes = head[at & 3] as i8;
        let (timestamp_delta, width) = plain_varint(word_at(head, at + 1))?;
        at += 1 + width;
        let word = word_at(head, at);
        let (offset_delta, width) = plain_varint(word)?;
        let (key, key_width) = plain_varint(word >> (8 * width))?;
        at += width + key_width;
        let mut word = word_at(head, at);
        let key = if key == NULL {
            None
        } else {
            let from = at;
            at += plain_length(key)?;
            word = u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
            Some(record.get(from..at)?)
        };
        let (value, width) = plain_varint(word)?;
        let from = at + width;
        let to = from + if value == NULL { 0 } else { plain_length(value)? };
        if to + 1 != record.len() || record[to] != 0 {
            return None;
        }
        let value = if value == NULL { None } else { Some(record.get(from..to)?) };
        let timestamp_delta = zigzag(u64::from(timestamp_delta));
        let offset_delta = zigzag(u64::from(offset_delta)) as i32;
        let headers = Headers::default();
        Some((Self { attributes, timestamp_delta, offset_delta, key, value, headers }, rest))
    }

    /// Reads the body of a record, without its length, all of it.
    pub(super) fn read(mut body: &'a [u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "it ends too early";
        let (&attributes, rest) = body.split_first().ok_or(SHORT)?;
        body = rest;
        let timestamp_delta = read_i64(&mut body).ok_or(SHORT)?;
        let offset_delta = read_i32(&mut body).ok_or(SHORT)?;
        let key = read_nullable(&mut body)?;
        let value = read_nullable(&mut body)?;
        let count = read_i32(&mut body).ok_or(SHORT)?;
        let headers = match count {
            0 => Headers::default(),
            _ => Self::read_headers(count, &mut body)?,
        };
        if !body.is_empty() {
            return Err("bytes follow its headers");
        }
        let attributes = attributes as i8;
        Ok(Self { attributes, timestamp_delta, offset_delta, key, value, headers })
    }

    #[inline(never)]
    fn read_headers(count: i32, body: &mut &'a [u8]) -> Result<Headers<'a>, &'static str> {
        let count = usize::try_from(count).map_err(|_| "the number of its headers is negative")?;
        let whole = *body;
        for _ in 0..count {
            Header::read(body)?;
        }
        Ok(Headers { count, bytes: &whole[..whole.len() - body.len()] })
    }
}

#[inline]
fn read_nullable<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, &'static str> {
    let length = read_i32(bytes).ok_or("it ends within a length")?;
    let Ok(length) = usize::try_from(length) else {
        return if length == -1 { Ok(None) } else { Err("a length is negative") };
    };
    let (taken, rest) = bytes.split_at_checked(length).ok_or("a length points past its end")?;
    *bytes = rest;
    Ok(Some(taken))
}

/// Enough for the numbers in front of a key, three bytes each, the attributes, and eight bytes from
/// the length of the value on if there is no key.
const HEAD: usize = 24;

/// A null key or value, as the length is written.
const NULL: u32 = 1;

/// Eight bytes from `at` on, which is less than 16: that the mask says so saves looking.
#[inline(always)]
fn word_at(head: &[u8; HEAD], at: usize) -> u64 {
    let at = at & 15;
    u64::from_le_bytes(*head[at..].first_chunk().unwrap_or(&[0; 8]))
}

/// A length that is not negative. The next record begins where it says, so nothing may be in its
/// way: the shift undoes the zigzag of all of them.
#[inline(always)]
fn plain_length(raw: u32) -> Option<usize> {
    if raw & 1 == 0 { Some(raw as usize >> 1) } else { None }
}

/// The records of an uncompressed batch, or of one decompressed.
///
/// Checks as it goes; ends after the number of records the header claims, or after an error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    index: u32,
    count: u32,
    failed: bool,
}

impl<'a> Records<'a> {
    /// Reads `count` records, which must be all that `bytes` holds.
    pub fn new(bytes: &'a [u8], count: i32) -> Result<Self, RecordError> {
        let count = u32::try_from(count).map_err(|_| RecordError::NegativeCount(count))?;
        Ok(Self { bytes, index: 0, count, failed: false })
    }

    /// Calls `visit` with every record, and checks that there are exactly as many as claimed.
    ///
    /// What the iterator does, in half of the time: a record that is handed on right where it was
    /// read never takes the way through memory.
    #[inline]
    pub fn visit<E: From<RecordError>>(
        self,
        mut visit: impl FnMut(Record<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { mut bytes, mut index, count, failed } = self;
        while index < count {
            let Some((record, rest)) = Record::read_plain(bytes) else { break };
            visit(record)?;
            bytes = rest;
            index += 1;
        }
        Self { bytes, index, count, failed }.visit_others(visit)
    }

    /// As [`visit`](Self::visit), for records of every kind.
    #[inline(never)]
    fn visit_others<E: From<RecordError>>(
        mut self,
        mut visit: impl FnMut(Record<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.try_for_each(|record| visit(record?))
    }

    /// The bytes of the records that are still to come.
    #[inline]
    pub fn unread(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    fn read(&mut self) -> Result<Record<'a>, &'static str> {
        let length = read_i32(&mut self.bytes).ok_or("its length is not there")?;
        let length = usize::try_from(length).map_err(|_| "its length is negative")?;
        let (body, rest) =
            self.bytes.split_at_checked(length).ok_or("it is longer than the batch")?;
        self.bytes = rest;
        Record::read(body)
    }

    #[cold]
    fn fail(&mut self, error: RecordError) -> Option<Result<Record<'a>, RecordError>> {
        self.failed = true;
        Some(Err(error))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.index == self.count {
            if self.bytes.is_empty() {
                return None;
            }
            let error = RecordError::TrailingBytes { count: self.count };
            return self.fail(error);
        }
        match self.read() {
            Ok(record) => {
                self.index += 1;
                Some(Ok(record))
            }
            Err(reason) => {
                let error = RecordError::Malformed { index: self.index, reason };
                self.fail(error)
            }
        }
    }
}
