//! Record batches for tests, made by the letter of the format.
#![allow(dead_code, reason = "each test file uses some of it")]

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, checksum};

/// A batch to encode.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) base_offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) attributes: i16,
    pub(crate) producer: (i64, i16, i32),
    /// Timestamp, key and value.
    pub(crate) records: Vec<(i64, Option<Vec<u8>>, Vec<u8>)>,
}

impl Batch {
    pub(crate) fn of(values: &[&str]) -> Self {
        let records =
            values.iter().map(|v| (1_000, Some(b"key".to_vec()), v.as_bytes().to_vec())).collect();
        Self { base_offset: 0, leader_epoch: -1, attributes: 0, producer: (-1, -1, -1), records }
    }

    pub(crate) fn at(mut self, timestamp: i64) -> Self {
        for record in &mut self.records {
            record.0 = timestamp;
        }
        self
    }

    pub(crate) fn producer(mut self, id: i64, epoch: i16, sequence: i32) -> Self {
        self.producer = (id, epoch, sequence);
        self
    }

    pub(crate) fn placed(mut self, base_offset: i64, leader_epoch: i32) -> Self {
        (self.base_offset, self.leader_epoch) = (base_offset, leader_epoch);
        self
    }

    pub(crate) fn attributes(mut self, attributes: i16) -> Self {
        self.attributes = attributes;
        self
    }

    pub(crate) fn encode(&self) -> Bytes {
        let base = self.records.first().map_or(-1, |r| r.0);
        let max = self.records.iter().map(|r| r.0).max().unwrap_or(-1);
        let count = self.records.len() as i32;
        let mut covered = BytesMut::new();
        covered.put_i16(self.attributes);
        covered.put_i32(count - 1);
        covered.put_i64(base);
        covered.put_i64(max);
        covered.put_i64(self.producer.0);
        covered.put_i16(self.producer.1);
        covered.put_i32(self.producer.2);
        covered.put_i32(count);
        for (delta, (timestamp, key, value)) in self.records.iter().enumerate() {
            let mut record = BytesMut::new();
            record.put_i8(0);
            varint(&mut record, timestamp - base);
            varint(&mut record, delta as i64);
            match key {
                Some(key) => string(&mut record, key),
                None => varint(&mut record, -1),
            }
            string(&mut record, value);
            varint(&mut record, 0);
            varint(&mut covered, record.len() as i64);
            covered.extend_from_slice(&record);
        }
        let mut batch = BytesMut::new();
        batch.put_i64(self.base_offset);
        batch.put_i32((covered.len() + 9) as i32);
        batch.put_i32(self.leader_epoch);
        batch.put_i8(2);
        batch.put_u32(checksum(CrcAlgorithm::Crc32Iscsi, &covered) as u32);
        batch.extend_from_slice(&covered);
        batch.freeze()
    }
}

fn string(to: &mut BytesMut, bytes: &[u8]) {
    varint(to, bytes.len() as i64);
    to.extend_from_slice(bytes);
}

fn varint(to: &mut BytesMut, value: i64) {
    let mut zigzag = (value << 1 ^ value >> 63) as u64;
    while zigzag >= 0x80 {
        to.put_u8(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.put_u8(zigzag as u8);
}

/// Offset and value of every record in uncompressed batches.
pub(crate) fn decode(mut bytes: &[u8]) -> Vec<(i64, String)> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let base = i64::from_be_bytes(bytes[..8].try_into().unwrap());
        let len = i32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize + 12;
        let mut rest = &bytes[61..len];
        while !rest.is_empty() {
            let size = read_varint(&mut rest) as usize;
            let mut record = &rest[1..size];
            rest = &rest[size..];
            let _timestamp = read_varint(&mut record);
            let offset = base + read_varint(&mut record);
            let key = read_varint(&mut record).max(0) as usize;
            record = &record[key..];
            let value = read_varint(&mut record) as usize;
            records.push((offset, String::from_utf8(record[..value].to_vec()).unwrap()));
        }
        bytes = &bytes[len..];
    }
    records
}

fn read_varint(bytes: &mut &[u8]) -> i64 {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return (value >> 1) as i64 ^ -((value & 1) as i64);
        }
    }
}
