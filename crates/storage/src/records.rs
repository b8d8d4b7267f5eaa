//! Walks over batches in memory, and over the records of one batch.

use crate::batch_header::{BATCH_HEADER_LEN, BatchHeader};

/// The batches in `bytes`, one after the other.
#[derive(Clone)]
pub(crate) struct Batches<'a> {
    rest: &'a [u8],
}

/// Bytes that are no whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl<'a> Batches<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The header of the next batch, and the whole batch; `None` at the end.
    pub(crate) fn next_batch(&mut self) -> Result<Option<(BatchHeader, &'a [u8])>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let header = BatchHeader::parse(self.rest).ok_or(Malformed("the header is cut short"))?;
        let size = header.size().ok_or(Malformed("the length is below that of a header"))?;
        let (batch, rest) =
            self.rest.split_at_checked(size).ok_or(Malformed("the batch is cut short"))?;
        self.rest = rest;
        Ok(Some((header, batch)))
    }
}

/// The records of a batch, which may be compressed.
pub(crate) fn records_of(batch: &[u8]) -> &[u8] {
    batch.get(BATCH_HEADER_LEN..).unwrap_or_default()
}

/// One record of a batch, without its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
}

/// The records in the decompressed `bytes` of a batch.
pub(crate) struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next record, checked to its last byte; `None` at the end.
    pub(crate) fn next_record(&mut self) -> Result<Option<Record<'a>>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let length = varint(&mut self.rest)?;
        let length =
            usize::try_from(length).map_err(|_| Malformed("a record's length is negative"))?;
        let (mut body, rest) =
            self.rest.split_at_checked(length).ok_or(Malformed("a record is cut short"))?;
        self.rest = rest;
        let _attributes = take(&mut body, 1)?;
        let record = Record {
            timestamp_delta: varlong(&mut body)?,
            offset_delta: varint(&mut body)?,
            key: nullable(&mut body)?,
            value: nullable(&mut body)?,
        };
        skip_headers(&mut body)?;
        match body.is_empty() {
            true => Ok(Some(record)),
            false => Err(Malformed("a record is longer than its fields")),
        }
    }
}

fn skip_headers(body: &mut &[u8]) -> Result<(), Malformed> {
    let count = varint(body)?;
    if count < 0 {
        return Err(Malformed("a record's number of headers is negative"));
    }
    for _ in 0..count {
        if nullable(body)?.is_none() {
            return Err(Malformed("a header's key is null"));
        }
        nullable(body)?;
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or(Malformed("a record is cut short"))?;
    *bytes = rest;
    Ok(taken)
}

/// A byte string with its length before it; -1 is null.
fn nullable<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    match varint(bytes)? {
        -1 => Ok(None),
        len => {
            let len = usize::try_from(len).map_err(|_| Malformed("a length is negative"))?;
            take(bytes, len).map(Some)
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Result<i32, Malformed> {
    let zigzag = unsigned(bytes, 5)?;
    let zigzag = u32::try_from(zigzag).map_err(|_| Malformed("a varint is too large"))?;
    Ok((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32))
}

fn varlong(bytes: &mut &[u8]) -> Result<i64, Malformed> {
    let zigzag = unsigned(bytes, 10)?;
    Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

fn unsigned(bytes: &mut &[u8], max_len: u32) -> Result<u64, Malformed> {
    let mut value = 0;
    for index in 0..max_len {
        let Some((byte, rest)) = bytes.split_first() else {
            return Err(Malformed("a varint is cut short"));
        };
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed("a varint is too long"))
}
