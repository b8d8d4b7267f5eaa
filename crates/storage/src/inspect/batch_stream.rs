//! The batches of a `.log` file, one after the other, and what is wrong where there is none.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crc_fast::{CrcAlgorithm, Digest};
use ottla_env::{Disk, File, OpenMode};
use ottla_protocol::Offset;
use ottla_protocol::record_batch::{HEADER_LENGTH, MAGIC, RecordBatch};
use thiserror::Error;

use super::length;
use crate::batch_header::BatchHeader;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// A larger batch has its checksum computed piece by piece before memory is taken for it.
const LARGE: u64 = 16 << 20;
/// Bytes in front of what the checksum covers.
const BEFORE_CRC: usize = 21;

/// Reads batches from the front of a file to its end.
pub struct BatchStream {
    file: Arc<dyn File>,
    len: u64,
    position: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
}

/// A whole batch whose checksum fits.
#[derive(Clone, Copy, Debug)]
pub struct BatchAt<'a> {
    /// Byte of the file where it begins.
    pub position: u64,
    /// The batch.
    pub batch: RecordBatch<'a>,
}

/// Bytes that are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamageAt {
    /// Byte of the file where a batch was to begin.
    pub position: u64,
    /// What is there instead.
    pub damage: BatchDamage,
}

/// Why bytes are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchDamage {
    /// The file ends too early, as after a crash in the middle of a write.
    #[error("the batch is cut off: it takes {needed} bytes, and {available} are there")]
    Torn {
        /// Bytes of the batch, or of a header.
        needed: u64,
        /// Bytes up to the end of the file.
        available: u64,
    },
    /// Nothing but zeroes up to the end: space that was reserved, or never reached the disk.
    #[error("{length} bytes of zeroes up to the end of the file")]
    Zeroes {
        /// How many.
        length: u64,
    },
    /// Not the format of the others.
    #[error("no batch of format 2: the magic byte is {0}")]
    UnsupportedMagic(i8),
    /// Too short for a batch.
    #[error("the length field is {0}, less than a batch takes")]
    InvalidLength(i32),
    /// Offsets that cannot be.
    #[error("impossible offsets: base {base}, last offset delta {delta}")]
    InvalidOffsets {
        /// Base offset.
        base: Offset,
        /// Last offset delta.
        delta: i32,
    },
    /// Changed since it was written.
    #[error("the checksum is {computed:#010x}, and {stored:#010x} is written in the batch")]
    WrongCrc {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
}

impl BatchStream {
    /// The batches of the file at `path` from byte `position` on, where a batch begins.
    pub fn open(disk: &dyn Disk, path: &Path, position: u64) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Read)?;
        let len = file.len()?;
        Ok(Self { file, len, position, buffer: Vec::new(), buffer_start: 0 })
    }

    /// Length of the file in bytes.
    pub fn file_length(&self) -> u64 {
        self.len
    }

    /// Where the next batch begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next batch; `None` at the end. After damage the same is answered again, until
    /// [`resume`](Self::resume) has found where batches go on.
    #[allow(clippy::should_implement_trait, reason = "it lends, which Iterator cannot")]
    pub fn next(&mut self) -> io::Result<Option<Result<BatchAt<'_>, DamageAt>>> {
        let position = self.position;
        if position >= self.len {
            return Ok(None);
        }
        let size = match self.check(position)? {
            Ok(size) => size,
            Err(damage) => return Ok(Some(Err(DamageAt { position, damage }))),
        };
        self.position = position + size;
        let bytes = self.bytes(position, length(size)?)?;
        match RecordBatch::parse(bytes) {
            Ok(batch) => Ok(Some(Ok(BatchAt { position, batch }))),
            // The file was cut while it was read.
            Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Looks for the next whole batch behind damage, whose offset is not below `due`. `false` if
    /// there is none: then everything is read.
    pub fn resume(&mut self, due: Offset) -> io::Result<bool> {
        let mut candidate = self.position + 1;
        while candidate + HEADER_LENGTH as u64 <= self.len {
            let window = self.bytes(candidate, CHUNK)?;
            let found = window.windows(HEADER_LENGTH).position(|header| {
                header.get(16) == Some(&(MAGIC as u8))
                    && BatchHeader::parse(header)
                        .is_some_and(|header| header.is_plausible() && header.base_offset >= due)
            });
            let Some(skipped) = found else {
                candidate += (window.len() + 1).saturating_sub(HEADER_LENGTH) as u64;
                continue;
            };
            candidate += skipped as u64;
            if self.check(candidate)?.is_ok() {
                self.position = candidate;
                return Ok(true);
            }
            candidate += 1;
        }
        self.position = self.len;
        Ok(false)
    }

    /// The size of the batch at `position`, if it is one.
    fn check(&mut self, position: u64) -> io::Result<Result<u64, BatchDamage>> {
        let available = self.len - position;
        let header = BatchHeader::parse(self.bytes(position, HEADER_LENGTH)?);
        let Some(header) = header else {
            let needed = HEADER_LENGTH as u64;
            return self.or_zeroes(position, BatchDamage::Torn { needed, available });
        };
        if header.magic != MAGIC {
            return self.or_zeroes(position, BatchDamage::UnsupportedMagic(header.magic));
        }
        let Some(size) = header.size().map(|size| size as u64) else {
            return Ok(Err(BatchDamage::InvalidLength(header.length)));
        };
        if !header.is_plausible() {
            let (base, delta) = (header.base_offset, header.last_offset_delta);
            return Ok(Err(BatchDamage::InvalidOffsets { base, delta }));
        }
        if size > available {
            return Ok(Err(BatchDamage::Torn { needed: size, available }));
        }
        let (stored, computed) = self.checksums(position, size)?;
        match stored == computed {
            true => Ok(Ok(size)),
            false => Ok(Err(BatchDamage::WrongCrc { stored, computed })),
        }
    }

    /// The checksum that a batch claims, and the one it has.
    fn checksums(&mut self, position: u64, size: u64) -> io::Result<(u32, u32)> {
        if size <= LARGE {
            let bytes = self.bytes(position, length(size)?)?;
            let batch = RecordBatch::parse(bytes);
            return batch
                .map(|batch| (batch.crc(), batch.computed_crc()))
                .map_err(|_| io::ErrorKind::UnexpectedEof.into());
        }
        let head = self.bytes(position, BEFORE_CRC)?;
        let stored = head.last_chunk().map_or(0, |crc| u32::from_be_bytes(*crc));
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        let (mut at, end) = (position + BEFORE_CRC as u64, position + size);
        while at < end {
            let wanted = length((end - at).min(CHUNK as u64))?;
            let bytes = self.bytes(at, wanted)?;
            let bytes = bytes.get(..wanted).ok_or(io::ErrorKind::UnexpectedEof)?;
            digest.update(bytes);
            at += wanted as u64;
        }
        Ok((stored, digest.finalize() as u32))
    }

    /// `damage`, unless nothing but zeroes follows.
    fn or_zeroes(
        &mut self,
        position: u64,
        damage: BatchDamage,
    ) -> io::Result<Result<u64, BatchDamage>> {
        let mut at = position;
        while at < self.len {
            let bytes = self.bytes(at, CHUNK)?;
            if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
                return Ok(Err(damage));
            }
            at += bytes.len() as u64;
        }
        Ok(Err(BatchDamage::Zeroes { length: self.len - position }))
    }

    /// At least `wanted` bytes at `position`, or what is left of the file.
    fn bytes(&mut self, position: u64, wanted: usize) -> io::Result<&[u8]> {
        let wanted = wanted.min(usize::try_from(self.len - position).unwrap_or(usize::MAX));
        let end = self.buffer_start + self.buffer.len() as u64;
        if position < self.buffer_start || position + wanted as u64 > end {
            let left = usize::try_from(self.len - position).unwrap_or(usize::MAX);
            self.buffer.resize(left.min(wanted.max(CHUNK)), 0);
            let read = self.file.read_at(&mut self.buffer, position)?;
            self.buffer.truncate(read);
            self.buffer_start = position;
        }
        let from = usize::try_from(position - self.buffer_start).unwrap_or(usize::MAX);
        Ok(self.buffer.get(from..).unwrap_or_default())
    }
}
