//! Record batches, format 2, as far as the metadata log needs them: uncompressed, no producer.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of a batch before its first record.
pub(super) const HEADER_LEN: usize = 61;
/// Bytes of a batch that its length field does not count.
const UNCOUNTED: usize = 12;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;
const MAGIC: i8 = 2;
const CONTROL: i16 = 0x20;

/// CRC32C, which guards batches and the quorum state.
pub(super) use crc_fast::crc32_iscsi as crc32c;

pub(super) fn corrupt(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

/// What the header of a batch says. Offsets, epoch and counts are checked to be in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) base_offset: i64,
    /// Offset of the last record.
    pub(super) last_offset: i64,
    pub(super) epoch: i32,
    /// Milliseconds since the Unix epoch, of every record.
    pub(super) timestamp: i64,
    pub(super) is_control: bool,
    /// Bytes of the whole batch.
    pub(super) len: usize,
}

/// One record. Metadata records have no key; the key of a control record is its version and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Option<Bytes>,
    pub(super) value: Bytes,
}

impl BatchHeader {
    /// Reads a header; what follows it is not looked at.
    pub(super) fn parse(mut bytes: &[u8]) -> io::Result<Self> {
        if bytes.len() < HEADER_LEN {
            return Err(corrupt("a batch header is cut short"));
        }
        let base_offset = bytes.get_i64();
        let counted = bytes.get_i32();
        let epoch = bytes.get_i32();
        let magic = bytes.get_i8();
        let _crc = bytes.get_u32();
        let attributes = bytes.get_i16();
        let last_offset_delta = bytes.get_i32();
        let timestamp = bytes.get_i64();
        let len = usize::try_from(counted).map_err(|_| corrupt("a batch has a negative length"))?
            + UNCOUNTED;
        if len < HEADER_LEN || magic != MAGIC || attributes & !CONTROL != 0 {
            return Err(corrupt(format!(
                "no batch of a metadata log: length {len}, magic {magic}, attributes {attributes}"
            )));
        }
        let last_offset = base_offset.checked_add(i64::from(last_offset_delta));
        match last_offset {
            Some(last_offset) if base_offset >= 0 && last_offset_delta >= 0 && epoch >= 0 => {
                let is_control = attributes & CONTROL != 0;
                Ok(Self { base_offset, last_offset, epoch, timestamp, is_control, len })
            }
            Some(_) | None => Err(corrupt(format!(
                "a batch at offset {base_offset} with last offset delta {last_offset_delta} and epoch {epoch}"
            ))),
        }
    }

    /// Reads the header of the batch that `bytes` begins with, and checks its CRC.
    pub(super) fn parse_whole(bytes: &[u8]) -> io::Result<Self> {
        let header = Self::parse(bytes)?;
        let batch = bytes.get(..header.len).ok_or_else(|| corrupt("a batch is cut short"))?;
        let (head, guarded) = batch.split_at(CRC_FROM);
        let crc = head.get(CRC_AT..).map(|mut stored| stored.get_u32());
        if crc != Some(crc32c(guarded)) {
            return Err(corrupt(format!("the crc of the batch at {} differs", header.base_offset)));
        }
        Ok(header)
    }
}

/// Writes a batch of `records`, of which there is at least one.
pub(super) fn encode_batch(
    out: &mut BytesMut,
    (base_offset, epoch): (i64, i32),
    timestamp: i64,
    is_control: bool,
    records: &[Record],
) -> io::Result<()> {
    let too_large = |_| io::Error::other("a batch cannot hold so much");
    let count = i32::try_from(records.len()).map_err(too_large)?;
    let start = out.len();
    out.put_i64(base_offset);
    out.put_i32(0);
    out.put_i32(epoch);
    out.put_i8(MAGIC);
    out.put_u32(0);
    out.put_i16(if is_control { CONTROL } else { 0 });
    out.put_i32(count - 1);
    out.put_i64(timestamp);
    out.put_i64(timestamp);
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(count);
    for (delta, record) in (0_i64..).zip(records) {
        let key_len = record.key.as_ref().map_or(-1, |key| key.len() as i64);
        let value_len = record.value.len() as i64;
        let len = 1
            + 1
            + varint_len(delta)
            + varint_len(key_len)
            + key_len.max(0)
            + varint_len(value_len)
            + value_len
            + 1;
        put_varint(out, len);
        out.put_i8(0);
        put_varint(out, 0);
        put_varint(out, delta);
        put_varint(out, key_len);
        if let Some(key) = &record.key {
            out.put_slice(key);
        }
        put_varint(out, value_len);
        out.put_slice(&record.value);
        put_varint(out, 0);
    }
    let batch = &mut out[start..];
    let counted = i32::try_from(batch.len() - UNCOUNTED).map_err(too_large)?;
    batch[8..12].copy_from_slice(&counted.to_be_bytes());
    let crc = crc32c(&batch[CRC_FROM..]);
    batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}

/// The records of the batch that `bytes` begins with; they share its memory.
pub(super) fn decode_batch(bytes: &Bytes) -> io::Result<(BatchHeader, Vec<Record>)> {
    let header = BatchHeader::parse_whole(bytes)?;
    let mut rest = bytes.slice(HEADER_LEN - 4..header.len);
    let count = rest.get_i32();
    if i64::from(count) != header.last_offset - header.base_offset + 1 {
        return Err(corrupt(format!("the batch at {} has gaps", header.base_offset)));
    }
    let mut records = Vec::new();
    for _ in 0..count {
        let len = get_len(&mut rest)?.ok_or_else(|| corrupt("a record without length"))?;
        let mut record = rest.split_to(len);
        if !record.has_remaining() {
            return Err(corrupt("an empty record"));
        }
        record.advance(1);
        let _timestamp_delta = get_varint(&mut record)?;
        let _offset_delta = get_varint(&mut record)?;
        let key = get_len(&mut record)?.map(|len| record.split_to(len));
        let value_len = get_len(&mut record)?.ok_or_else(|| corrupt("a record without value"))?;
        records.push(Record { key, value: record.split_to(value_len) });
    }
    Ok((header, records))
}

/// A length that the rest of `bytes` can hold; `None` is Kafka's null.
fn get_len(bytes: &mut Bytes) -> io::Result<Option<usize>> {
    let len = get_varint(bytes)?;
    if len == -1 {
        return Ok(None);
    }
    usize::try_from(len)
        .ok()
        .filter(|len| *len <= bytes.len())
        .map(Some)
        .ok_or_else(|| corrupt(format!("a length of {len} in a record")))
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn varint_len(value: i64) -> i64 {
    let bits = 64 - zigzag(value).leading_zeros().min(63);
    i64::from(bits.div_ceil(7))
}

fn put_varint(out: &mut BytesMut, value: i64) {
    put_unsigned_varint(out, zigzag(value));
}

fn get_varint(bytes: &mut Bytes) -> io::Result<i64> {
    let raw = get_unsigned_varint(bytes)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// Writes a varint as lengths and tags of flexible messages have it (KIP-482).
pub(super) fn put_unsigned_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Reads what [`put_unsigned_varint`] wrote.
pub(super) fn get_unsigned_varint(bytes: &mut Bytes) -> io::Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        if !bytes.has_remaining() {
            return Err(corrupt("a varint is cut short"));
        }
        let byte = bytes.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(corrupt("a varint is too long"))
}
